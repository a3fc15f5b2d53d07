//! Destinations.

use crate::tui::filter::{self, Filter, Name, Row as _, Test};
use crate::tui::processes::VALUES;
use crate::tui::state::State;
use crate::tui::tree::{self, Kind, Tree};
use crate::tui::{ports, processes};
use ratatui::Frame;
use ratatui::layout::Rect;
use std::net::IpAddr;
use twtrace_core::counts::{Counts, Field};
use twtrace_core::snapshot::{DestRow, DestinationRow, GroupBy, Snapshot};
use twtrace_view::columns::{self, Context};
use twtrace_view::{label, order, text};

/// A destination, as a filter asks it.
pub(super) struct Asked<'a> {
    pub(super) row: &'a DestinationRow,
    pub(super) snapshot: &'a Snapshot,
    /// Its figures, or those that it has in common with the line above.
    pub(super) counts: &'a Counts,
}

impl filter::Row for Asked<'_> {
    fn any(&self, passes: Test<'_>) -> bool {
        let addresses = match &self.row.key {
            DestRow::Dest(key) => format!("{} {}", key.local_addr, label::role(key.role)),
            DestRow::Other => String::new(),
        };
        passes(&addresses) || self.is(Name::Dest, passes) || self.is(Name::Netns, passes)
    }

    fn is(&self, name: Name, passes: Test<'_>) -> bool {
        let Self { row, snapshot, .. } = *self;
        match name {
            Name::Dest => passes(&label::destination(&row.key, row.folded)),
            Name::Netns => label::netns(row, snapshot).is_some_and(|name| passes(&name)),
            Name::State => filter::states(self.counts, passes),
            // By any process that uses it.
            _ => snapshot.processes_of(row.id).into_iter().any(|(row, _)| {
                processes::Asked { row, snapshot, by: GroupBy::Process, counts: &row.counts }.is(name, passes)
            }),
        }
    }

    fn reaches(&self, passes: &dyn Fn(IpAddr, u16) -> bool) -> bool {
        match self.row.key {
            DestRow::Dest(key) => key.remote_addr.is_some_and(|addr| passes(addr, key.port)),
            DestRow::Other => false,
        }
    }

    fn figure(&self, field: &Field) -> Option<f64> {
        Some((field.get)(self.counts).size())
    }
}

/// Passes each value of a kind in the rows to a function.
pub(super) fn values(snapshot: &Snapshot, name: Name, see: Test<'_>) {
    snapshot
        .destinations()
        .iter()
        .take(VALUES)
        .for_each(|row| _ = Asked { row, snapshot, counts: &row.counts }.is(name, see));
}

/// Draws all destinations and what they open into, and returns the title and the path to the selected line.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    snapshot: &Snapshot,
    state: &mut State,
) -> (String, Vec<String>) {
    let filter = Filter::of(&state.filter);
    let rows = snapshot.destinations().iter().filter(|row| filter.fits(&Asked { row, snapshot, counts: &row.counts }));
    let mut rows = order::destinations(rows, state.sort, snapshot);
    if state.reverse {
        rows.reverse();
    }
    let title = text::counted(rows.len(), "destination", "destinations");
    let mut tree = Tree::new(snapshot, filter, state);
    tree.add(rows.into_iter().map(|row| (u64::from(row.id), Kind::Destination(row))).collect(), state);
    // The previous selection decides whose ports to show; the list settles on it below.
    let chosen = state.place_in(&tree.ids());
    let to = tree.subject(chosen).and_then(tree::Node::destination);
    let area = ports::below(frame, area, snapshot, to, state.look);
    let columns = columns::visible(columns::destinations(snapshot), state.columns.of(&state.level().what));
    let crumbs = tree.draw(frame, area, tree::of_destinations(columns), context, chosen, state);
    (title, crumbs)
}
