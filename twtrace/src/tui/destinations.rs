//! Destinations.

use crate::tui::filter::{self, Filter, Name};
use crate::tui::list::{self, List};
use crate::tui::state::State;
use crate::tui::{ports, processes};
use ratatui::Frame;
use ratatui::layout::Rect;
use twtrace_core::counts::Field;
use twtrace_core::snapshot::{DestRow, DestinationRow, GroupBy, GroupKey, Snapshot};
use twtrace_view::columns::{self, Context, Paired};
use twtrace_view::{label, order, text};

/// A destination, as a filter asks it.
struct Asked<'a> {
    row: &'a DestinationRow,
    snapshot: &'a Snapshot,
}

impl filter::Row for Asked<'_> {
    fn has(&self, text: &str) -> bool {
        let addresses = match &self.row.key {
            DestRow::Dest(key) => format!("{} {}", key.local_addr, label::role(key.role)),
            DestRow::Other => String::new(),
        };
        addresses.contains(text) || self.is(Name::Dest, text) || self.is(Name::Netns, text)
    }

    fn is(&self, name: Name, wanted: &str) -> bool {
        let Self { row, snapshot } = *self;
        match name {
            Name::Dest => label::destination(&row.key, row.folded).contains(wanted),
            Name::Netns => label::netns(row, snapshot).is_some_and(|name| name.to_lowercase().contains(wanted)),
            // By any process that uses it.
            _ => snapshot
                .processes_of(row.id)
                .into_iter()
                .any(|(row, _)| processes::Asked { row, snapshot, by: GroupBy::Process }.is(name, wanted)),
        }
    }

    fn figure(&self, field: &Field) -> Option<f64> {
        Some((field.get)(&self.row.counts).size())
    }
}

/// Draws all destinations, and returns the title.
pub(super) fn all(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    snapshot: &Snapshot,
    state: &mut State,
) -> String {
    let filter = Filter::of(&state.filter);
    let fits = |row: &&DestinationRow| filter.fits(&Asked { row, snapshot });
    let mut rows = order::destinations(snapshot.destinations().iter().filter(fits), state.sort);
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
    let filter = Filter::of(&state.filter);
    let row = snapshot.rows(by).iter().find(|row| row.key == *key);
    let shares = row.map(|row| snapshot.destinations_of(by, row)).unwrap_or_default().into_iter();
    let found = shares.map(|(row, pair)| Paired { row, pair });
    let mut found: Vec<Paired<'_, DestinationRow>> =
        found.filter(|paired| filter.fits(&Asked { row: paired.row, snapshot })).collect();
    processes::sort_pairs(&mut found, state, |row| row.id.into());
    let ids = found.iter().map(|paired| u64::from(paired.row.id)).collect();
    let sort = Some(processes::pair_sort(state.sort));
    let list = List { columns: columns::destinations_of(), rows: &found, ids, order: sort, styles: Vec::new() };
    list::draw(frame, area, list, context, state);
    let opened = row.and_then(label::opened_by_others).map_or_else(String::new, |opened| format!(", {opened}"));
    format!("{}{opened}", text::counted(found.len(), "destination", "destinations"))
}
