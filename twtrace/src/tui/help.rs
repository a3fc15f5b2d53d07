//! The help, and everything that the trace could not see.

use crate::tui::header;
use crate::tui::state::State;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};
use twtrace_core::snapshot::Snapshot;

const TOP: [(&str, &str); 4] = [
    ("1 2 3 4, Tab, arrows", "processes, destinations, sockets, findings"),
    ("Up Down PgUp PgDn Home End", "choose a row; Home stays with the first"),
    ("g", "group by process, PID, program, command, parent, user, ..."),
    ("Space", "freeze the figures, and continue"),
];

const REPLAY: [(&str, &str); 8] = [
    ("Space", "play, and pause"),
    ("Left Right, [ ]", "a second back or forward; a minute"),
    ("Home End, g", "the start, the end, a time"),
    ("n N", "the next peak of churn, the previous one"),
    ("+ -", "twice as fast, half as fast"),
    ("1 2 3 4, Tab", "processes, destinations, sockets, findings"),
    ("Up Down PgUp PgDn", "choose a row"),
    ("b", "group by process, PID, program, command, parent, user, ..."),
];

const BOTH: [(&str, &str); 11] = [
    ("Enter, Esc", "into the row (what is behind it), and back"),
    ("s S r", "next order, previous order, reverse it"),
    ("/ words", "rows that fit all: text, program: pid: user: parent: cgroup:"),
    ("", "dest: netns:, created>100, errors>0; Esc clears it"),
    ("y e", "of the chosen finding: copy its command; export it as Markdown"),
    ("mouse", "click a row, a tab, a heading; wheel (Shift selects text)"),
    ("? q", "this help; quit"),
    ("CREATED, LIVE", "TIME_WAIT sockets created since the start, and existing now"),
    ("1ST FIN, 2ND FIN", "connections closed before, after the peer did"),
    ("B E O T R . of ports", "bound established other TIME_WAIT reusable free"),
    ("~", "inferred: no recent census confirms it"),
];

/// Draws the overlay in the middle of the screen.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, state: &State) {
    let look = state.look;
    let own: &[_] = if state.playback.is_some() { &REPLAY } else { &TOP };
    let mut lines: Vec<Line<'_>> = own
        .iter()
        .chain(&BOTH)
        .map(|(keys, meaning)| {
            Line::from(vec![Span::styled(format!("{keys:<27}"), look.accent()), Span::raw(*meaning)])
        })
        .collect();
    let warnings = header::warnings(snapshot, state);
    if !warnings.is_empty() {
        lines.push(Line::raw(""));
    }
    lines.extend(warnings.into_iter().map(|warning| Line::from(Span::styled(format!("! {warning}"), look.warning()))));
    let width = area.width.min(88);
    let height = area.height.min(lines.len() as u16 + 4);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered().title(" help ").title_bottom(" any key closes ");
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), place);
}
