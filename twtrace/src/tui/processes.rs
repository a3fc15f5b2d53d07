//! Groups and processes.

use crate::tui::filter::{self, Filter, Name, Test};
use crate::tui::state::State;
use crate::tui::tree::{self, Kind, Tree};
use crate::tui::{ports, side};
use ratatui::Frame;
use ratatui::layout::Rect;
use std::net::IpAddr;
use twtrace_core::counts::{Counts, Field};
use twtrace_core::snapshot::{DestRow, DestinationRow, GroupBy, GroupKey, Row, Snapshot};
use twtrace_view::columns::{self, Column, Context};
use twtrace_view::{label, order, text};

/// A row of processes, as a filter asks it.
pub(super) struct Asked<'a> {
    pub(super) row: &'a Row,
    pub(super) snapshot: &'a Snapshot,
    pub(super) by: GroupBy,
    /// Its figures, or those that it has in common with the line above.
    pub(super) counts: &'a Counts,
}

impl Asked<'_> {
    /// Whether any of the processes of one-shots fits.
    fn any_one(&self, fits: impl Fn(&Asked<'_>) -> bool) -> bool {
        let Self { row, snapshot, .. } = *self;
        let by = GroupBy::Pid;
        matches!(row.key, GroupKey::OneShots(_))
            && snapshot
                .members_of(GroupBy::Process, row)
                .any(|row| fits(&Asked { row, snapshot, by, counts: &row.counts }))
    }

    fn destinations(&self, fits: impl Fn(&DestinationRow) -> bool) -> bool {
        self.snapshot.destinations_of(self.by, self.row).iter().any(|(row, _)| fits(row))
    }
}

impl filter::Row for Asked<'_> {
    fn any(&self, passes: Test<'_>) -> bool {
        let row = self.row;
        let names = [Name::Program, Name::User, Name::Parent, Name::Cgroup, Name::Image, Name::Workload];
        let line = match row.key {
            GroupKey::Process(key) => {
                let facts = self.snapshot.facts(key);
                let line = facts.and_then(|facts| facts.cmdline.as_deref());
                passes(&key.tgid.to_string()) || line.is_some_and(|line| passes(&text::clean(line)))
            }
            _ => self.any_one(|one| one.any(passes)),
        };
        line || label::opened_by_others(row).is_some_and(|opened| passes(&opened))
            || names.iter().any(|name| self.is(*name, passes))
    }

    fn is(&self, name: Name, passes: Test<'_>) -> bool {
        let Self { row, snapshot, .. } = *self;
        let has = |text: String| passes(&text);
        match name {
            Name::Program => has(label::group(row, snapshot)),
            Name::Pid => match row.key {
                GroupKey::Process(key) => has(key.tgid.to_string()),
                _ => self.any_one(|one| one.is(name, passes)),
            },
            Name::User => row.owner.is_some_and(|owner| has(label::user(owner.uid, snapshot))),
            Name::Parent => row.owner.is_some_and(|owner| has(label::parent(&owner))),
            Name::Cgroup | Name::Container | Name::Image | Name::Pod | Name::Workload => match row.key {
                GroupKey::Process(key) => filter::runs_in(name, snapshot.runs_in(snapshot.facts(key)), passes),
                _ => self.any_one(|one| one.is(name, passes)),
            },
            Name::Dest => self.destinations(|row| has(label::destination(&row.key, row.folded))),
            Name::Netns => self.destinations(|row| label::netns(row, snapshot).is_some_and(has)),
            Name::State => filter::states(self.counts, passes),
        }
    }

    fn reaches(&self, passes: &dyn Fn(IpAddr, u16) -> bool) -> bool {
        self.destinations(|row| match row.key {
            DestRow::Dest(key) => key.remote_addr.is_some_and(|addr| passes(addr, key.port)),
            DestRow::Other => false,
        })
    }

    fn figure(&self, field: &Field) -> Option<f64> {
        Some((field.get)(self.counts).size())
    }
}

/// Rows whose values complete a filter, at most: it is done for each frame while one is typed.
pub(super) const VALUES: usize = 1000;

/// Passes each value of a kind in the rows to a function.
pub(super) fn values(snapshot: &Snapshot, by: GroupBy, name: Name, see: Test<'_>) {
    snapshot
        .rows(by)
        .iter()
        .take(VALUES)
        .for_each(|row| _ = filter::Row::is(&Asked { row, snapshot, by, counts: &row.counts }, name, see));
}

/// Which rows of a grouping pass a filter. A group passes a word that it fits, or that one of its processes fits; figures are
/// its own.
fn fitting(snapshot: &Snapshot, by: GroupBy, filter: &Filter) -> Vec<bool> {
    let rows = snapshot.rows(by);
    let mut all = vec![true; rows.len()];
    for (word, is_figure) in filter.words() {
        let mut fits: Vec<bool> =
            rows.iter().map(|row| word.fits(&Asked { row, snapshot, by, counts: &row.counts })).collect();
        if !by.is_of_processes() && !is_figure {
            let one = GroupBy::Process;
            let processes = snapshot.rows(one).iter();
            let passing = |row: &&Row| word.fits(&Asked { row, snapshot, by: one, counts: &row.counts });
            let passing: Vec<&Row> = processes.filter(passing).collect();
            let by_member = snapshot.have_any_of(by, &passing);
            fits.iter_mut().zip(by_member).for_each(|(fits, by_member)| *fits |= by_member);
        }
        all.iter_mut().zip(fits).for_each(|(all, fits)| *all &= fits);
    }
    all
}

/// All columns of a grouping.
pub(super) fn columns(snapshot: &Snapshot, by: GroupBy) -> Vec<Column<Row>> {
    let mut columns = columns::groups(by);
    let created = snapshot.summary().totals.counts.time_wait_created;
    let at = columns.iter().position(|column| column.title == "CREATED").unwrap_or(columns.len());
    columns.insert(at, share(created));
    if by != GroupBy::Netns && !columns::are_in_one_place(snapshot) {
        columns.insert(at, columns::netns_of_row(by));
    }
    columns
}

/// Draws the rows of the grouping and what they open into, and returns the title and the path to the selected line.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    snapshot: &Snapshot,
    state: &mut State,
) -> (String, Vec<String>) {
    let by = state.by;
    let filter = Filter::of(&state.filter);
    let fits = fitting(snapshot, by, &filter);
    let rows = snapshot.rows(by).iter().zip(fits).filter(|(_, fits)| *fits).map(|(row, _)| row);
    let mut rows = order::rows(rows, state.sort, snapshot);
    if state.reverse {
        rows.reverse();
    }
    let title = format!("{} by {}", text::counted(rows.len(), "row", "rows"), by.name());
    let mut tree = Tree::new(snapshot, filter, state);
    tree.add(rows.into_iter().map(|row| (row.id, Kind::Row(by, row))).collect(), state);
    // The previous selection decides what is shown beside the list; the list settles on it below.
    let chosen = state.place_in(&tree.ids());
    let (mut area, panel) = side::split(area);
    let node = tree.subject(chosen).map(|node| &node.kind);
    let row = match node {
        Some(Kind::Row(by, row) | Kind::DestinationOf(by, row, ..)) => Some((*by, *row)),
        Some(Kind::Within(row, ..)) => Some((GroupBy::Process, *row)),
        _ => None,
    };
    if let (Some(panel), Some((by, row))) = (panel, row) {
        side::draw(frame, panel, snapshot, by, row, state.look);
    }
    if let Some(Kind::DestinationOf(_, _, to, _)) = node {
        area = ports::below(frame, area, snapshot, Some(to), state.look);
    }
    let columns = columns::visible(columns(snapshot, by), state.columns.of(&state.level().what));
    let crumbs = tree.draw(frame, area, tree::of_rows(columns), context, chosen, state);
    (title, crumbs)
}

/// Cells of the bar for a share.
const SHARE: u16 = 6;

/// The share of all TIME_WAIT sockets created, as a bar.
fn share(all: u64) -> Column<Row> {
    let bar = move |_: &Context<'_>, row: &Row| {
        text::bar(row.counts.time_wait_created as f64 / all.max(1) as f64, SHARE.into())
    };
    Column::left("SHARE", SHARE, 2, bar).explained("Share of all TIME_WAIT sockets created")
}
