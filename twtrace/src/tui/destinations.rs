//! Destinations.

use crate::tui::list::{self, List};
use crate::tui::state::State;
use crate::tui::{ports, processes};
use ratatui::Frame;
use ratatui::layout::Rect;
use twtrace_core::snapshot::{DestRow, DestinationRow, GroupBy, GroupKey, Snapshot};
use twtrace_view::columns::{self, Context, Paired};
use twtrace_view::{label, order, text};

/// Whether the row contains the text, which is in lower case.
fn matches(row: &DestinationRow, needle: &str) -> bool {
    let addresses = match &row.key {
        DestRow::Dest(key) => format!("{} {}", key.local_addr, label::role(key.role)),
        DestRow::Other => String::new(),
    };
    needle.is_empty() || label::destination(&row.key, row.folded).contains(needle) || addresses.contains(needle)
}

/// Draws all destinations, and returns the title.
pub(super) fn all(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    snapshot: &Snapshot,
    state: &mut State,
) -> String {
    let needle = state.filter.to_lowercase();
    let mut rows = order::destinations(snapshot.destinations().iter().filter(|row| matches(row, &needle)), state.sort);
    if state.reverse {
        rows.reverse();
    }
    let ids: Vec<u64> = rows.iter().map(|row| u64::from(row.id)).collect();
    let sort = Some(state.sort);
    // The previous selection decides whose ports to show; the list settles on it below.
    let chosen = state.place_in(&ids);
    let area = ports::below(frame, area, snapshot, rows.get(chosen).copied(), state.look);
    let list = List { columns: columns::destinations(snapshot), rows: &rows, ids, order: sort, styles: Vec::new() };
    list::draw(frame, area, list, context, state);
    text::counted(rows.len(), "destination", "destinations")
}

/// Draws the destinations of one process, and returns the title.
pub(super) fn of_process(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    snapshot: &Snapshot,
    state: &mut State,
    (by, key): (GroupBy, &GroupKey),
) -> String {
    let needle = state.filter.to_lowercase();
    let row = snapshot.rows(by).iter().find(|row| row.key == *key);
    let shares = row.map(|row| snapshot.destinations_of(by, row)).unwrap_or_default().into_iter();
    let found = shares.map(|(row, pair)| Paired { row, pair });
    let mut found: Vec<Paired<'_, DestinationRow>> = found.filter(|paired| matches(paired.row, &needle)).collect();
    processes::sort_pairs(&mut found, state, |row| row.id.into());
    let ids = found.iter().map(|paired| u64::from(paired.row.id)).collect();
    let sort = Some(processes::pair_sort(state.sort));
    let list = List { columns: columns::destinations_of(), rows: &found, ids, order: sort, styles: Vec::new() };
    list::draw(frame, area, list, context, state);
    let opened = row.and_then(label::opened_by_others).map_or_else(String::new, |opened| format!(", {opened}"));
    format!("{}{opened}", text::counted(found.len(), "destination", "destinations"))
}
