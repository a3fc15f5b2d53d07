//! What was lost, and when: the changes of the counters from one snapshot to the next.

use crate::tui::header;
use crate::tui::kept::{Change, Losses};
use crate::tui::state::State;
use ratatui::text::{Line, Span};
use twtrace_core::snapshot::Snapshot;
use twtrace_view::{text, words};

/// The log, newest first, below what is lost in all and what else the trace could not see.
pub(super) fn lines(snapshot: &Snapshot, state: &State, width: usize) -> Vec<Line<'static>> {
    let look = state.look;
    let mut lines = vec![Line::from(Span::styled(words::losses(&snapshot.summary().counters), look.accent()))];
    for warning in header::warnings(snapshot, state) {
        let wrapped = text::wrap(&format!("! {warning}"), width).into_iter();
        lines.extend(wrapped.map(|line| Line::from(Span::styled(line, look.warning()))));
    }
    let Losses { changes, dropped, .. } = &state.losses;
    lines.push(Line::raw(""));
    if changes.is_empty() {
        lines.push(Line::raw("Nothing was lost while this screen was open."));
    }
    for Change { unix_ns, reason, lost } in changes.iter().rev() {
        let time = text::time_of_day(*unix_ns);
        lines.push(Line::raw(text::fit(&format!("{time} UTC  {}  {reason}", text::count(*lost)), width).into_owned()));
    }
    if *dropped > 0 {
        lines.push(Line::raw(format!("and {} earlier ones", text::count(*dropped))));
    }
    lines
}
