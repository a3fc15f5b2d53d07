//! Which columns are visible, and the list to choose them from.

use crate::tui::model::What;
use crate::tui::processes;
use crate::tui::state::State;
use ratatui::text::{Line, Span};
use twtrace_core::snapshot::{GroupBy, Snapshot};
use twtrace_view::columns::{self, Column};
use twtrace_view::text;

/// A column to choose.
struct Choice {
    title: &'static str,
    doc: &'static str,
    is_default: bool,
}

/// The columns of the list on the screen, without its name.
fn choices(snapshot: &Snapshot, what: &What, by: GroupBy) -> Vec<Choice> {
    fn of<T>(columns: Vec<Column<T>>) -> Vec<Choice> {
        let columns = columns.into_iter().filter(|column| !column.is_name);
        columns.map(|Column { title, doc, is_default, .. }| Choice { title, doc, is_default }).collect()
    }
    match what {
        What::Groups => of(processes::columns(snapshot, by)),
        What::Destinations => of(columns::destinations(snapshot)),
        What::Sockets | What::Findings | What::Finding(_) => Vec::new(),
    }
}

/// Headings of the visible ones. The choice is one for all groupings: processes have the most columns.
fn visible(snapshot: &Snapshot, state: &State) -> Vec<String> {
    let default = || {
        let by = GroupBy::Process;
        let all = choices(snapshot, &state.level().what, by).into_iter();
        all.filter(|choice| choice.is_default).map(|choice| choice.title.to_owned()).collect()
    };
    state.columns.of(&state.level().what).map_or_else(default, <[String]>::to_vec)
}

fn is_called(title: &'static str) -> impl Fn(&String) -> bool {
    move |name| name.trim().eq_ignore_ascii_case(title)
}

/// Shows the column with this number, or hides it.
pub(super) fn toggle(snapshot: &Snapshot, state: &mut State, at: usize) {
    let choices = choices(snapshot, &state.level().what, state.by);
    let Some(choice) = choices.get(at) else { return };
    let mut visible = visible(snapshot, state);
    if visible.iter().any(is_called(choice.title)) {
        visible.retain(|name| !is_called(choice.title)(name));
    } else {
        // Before the first one that comes later by default.
        let later = &choices[at + 1..];
        let place = visible.iter().position(|name| later.iter().any(|one| is_called(one.title)(name)));
        visible.insert(place.unwrap_or(visible.len()), choice.title.to_owned());
    }
    let what = state.level().what.clone();
    state.columns.set(&what, Some(visible));
}

/// The line for the configuration file.
pub(super) fn setting(snapshot: &Snapshot, state: &mut State) -> String {
    let quoted: Vec<String> = visible(snapshot, state).iter().map(|name| format!("{name:?}")).collect();
    let list = if state.level().what == What::Destinations { "destinations" } else { "processes" };
    state.notice = Some("copied: put it below [columns] in the file that `twtrace config` names".to_owned());
    format!("{list} = [{}]", quoted.join(", "))
}

/// Cells of the headings.
const HEADING: usize = 14;

/// One line for each column.
pub(super) fn lines(snapshot: &Snapshot, state: &State, chosen: usize, width: usize) -> Vec<Line<'static>> {
    let choices = choices(snapshot, &state.level().what, state.by);
    let visible = visible(snapshot, state);
    let last = choices.len().saturating_sub(1);
    let line = |(at, choice): (usize, &Choice)| {
        let mark = if visible.iter().any(is_called(choice.title)) { 'x' } else { ' ' };
        let doc = choice.doc.split_once('.').map_or(choice.doc, |(first, _)| first).trim();
        let line = text::pad(&format!("[{mark}] {}  {doc}", text::pad(choice.title, HEADING, false)), width, false);
        let style = if at == chosen.min(last) { state.look.chosen() } else { ratatui::style::Style::new() };
        Line::from(Span::styled(line.to_string(), style))
    };
    choices.iter().enumerate().map(line).collect()
}
