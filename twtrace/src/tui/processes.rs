//! Groups and processes.

use crate::tui::filter::{self, Filter, Name};
use crate::tui::list::{self, List};
use crate::tui::side;
use crate::tui::state::State;
use ratatui::Frame;
use ratatui::layout::Rect;
use std::cmp::Reverse;
use twtrace_core::counts::Field;
use twtrace_core::snapshot::{DestinationRow, GroupBy, GroupKey, Row, Share, Snapshot};
use twtrace_view::columns::{self, Column, Context, Paired};
use twtrace_view::label;
use twtrace_view::order::{self, Sort};
use twtrace_view::text;

/// A row of processes, as a filter asks it.
pub(super) struct Asked<'a> {
    pub(super) row: &'a Row,
    pub(super) snapshot: &'a Snapshot,
    pub(super) by: GroupBy,
}

impl Asked<'_> {
    /// Whether any of the processes of one-shots fits.
    fn any(&self, fits: impl Fn(&Asked<'_>) -> bool) -> bool {
        let Self { row, snapshot, .. } = *self;
        let by = GroupBy::Pid;
        matches!(row.key, GroupKey::OneShots(_))
            && snapshot.members_of(GroupBy::Process, row).any(|row| fits(&Asked { row, snapshot, by }))
    }

    fn destinations(&self, fits: impl Fn(&DestinationRow) -> bool) -> bool {
        self.snapshot.destinations_of(self.by, self.row).iter().any(|(row, _)| fits(row))
    }
}

impl filter::Row for Asked<'_> {
    fn has(&self, text: &str) -> bool {
        let row = self.row;
        let opened = label::opened_by_others(row).is_some_and(|opened| opened.to_lowercase().contains(text));
        let names = [Name::Program, Name::User, Name::Parent, Name::Cgroup];
        let line = match row.key {
            GroupKey::Process(key) => {
                let facts = self.snapshot.facts(key);
                let line = facts.and_then(|facts| facts.cmdline.as_deref());
                key.tgid.to_string().contains(text)
                    || line.is_some_and(|line| text::clean(line).to_lowercase().contains(text))
            }
            _ => self.any(|one| one.has(text)),
        };
        opened || line || names.iter().any(|name| self.is(*name, text))
    }

    fn is(&self, name: Name, wanted: &str) -> bool {
        let Self { row, snapshot, .. } = *self;
        let has = |text: String| text.to_lowercase().contains(wanted);
        match name {
            Name::Program => has(label::group(row, snapshot)),
            Name::Pid => match row.key {
                GroupKey::Process(key) => key.tgid.to_string() == wanted,
                _ => self.any(|one| one.is(name, wanted)),
            },
            Name::User => row.owner.is_some_and(|owner| has(label::user(owner.uid, snapshot))),
            Name::Parent => row.owner.is_some_and(|owner| has(label::process(&owner.parent_comm, owner.ppid))),
            Name::Cgroup => match row.key {
                GroupKey::Process(key) => label::cgroup(snapshot.facts(key)).is_some_and(has),
                _ => self.any(|one| one.is(name, wanted)),
            },
            Name::Dest => self.destinations(|row| has(label::destination(&row.key, row.folded))),
            Name::Netns => self.destinations(|row| label::netns(row, snapshot).is_some_and(has)),
        }
    }

    fn figure(&self, field: &Field) -> Option<f64> {
        Some((field.get)(&self.row.counts).size())
    }
}

/// Draws rows of one grouping, all or those of one group, and returns the title.
pub(super) fn groups(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    snapshot: &Snapshot,
    state: &mut State,
    of: Option<(GroupBy, &GroupKey)>,
) -> String {
    let by = of.map_or(state.by, |(by, _)| by.members());
    let filter = Filter::of(&state.filter);
    let rows: Vec<&Row> = match of {
        None => snapshot.rows(by).iter().collect(),
        Some((by, key)) => {
            let group = snapshot.rows(by).iter().find(|row| row.key == *key);
            group.map(|group| snapshot.members_of(by, group).collect()).unwrap_or_default()
        }
    };
    let rows = rows.into_iter().filter(|row| filter.fits(&Asked { row, snapshot, by }));
    let mut rows = order::rows(rows, state.sort, snapshot);
    if state.reverse {
        rows.reverse();
    }
    let ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
    let sort = Some(state.sort);
    let (area, panel) = side::split(area);
    if let Some(panel) = panel {
        // The previous selection decides what the panel shows; the list settles on it below.
        let chosen = state.place_in(&ids);
        if let Some(row) = rows.get(chosen) {
            side::draw(frame, panel, snapshot, by, row, state.look);
        }
    }
    let mut columns = columns::groups(by);
    let created = snapshot.summary().totals.counts.time_wait_created;
    let at = columns.iter().position(|column| column.title == "CREATED").unwrap_or(columns.len());
    columns.insert(at, share(created));
    if by != GroupBy::Netns && !columns::are_in_one_place(snapshot) {
        columns.insert(at, columns::netns_of_row(by));
    }
    let list = List { columns, rows: &rows, ids, order: sort, styles: Vec::new() };
    list::draw(frame, area, list, context, state);
    format!("{} by {}", text::counted(rows.len(), "row", "rows"), by.name())
}

/// Left parts of a cell, in eighths.
const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// Cells of the bar for a share.
const SHARE: u16 = 6;

/// The share of all TIME_WAIT sockets created, as a bar.
fn share(all: u64) -> Column<Row> {
    let bar = move |_: &Context<'_>, row: &Row| {
        let eighths = u128::from(row.counts.time_wait_created) * u128::from(SHARE) * 8 / u128::from(all.max(1));
        // At most the width of the column.
        let eighths = (eighths as usize).min(usize::from(SHARE) * 8);
        let mut bar = "█".repeat(eighths / 8);
        if !eighths.is_multiple_of(8) {
            bar.push(EIGHTHS[eighths % 8]);
        }
        bar
    };
    Column { title: "SHARE", width: SHARE, right: false, stretch: false, rank: 2, sort: None, cell: Box::new(bar) }
}

/// Draws the processes of one destination, and returns the title.
pub(super) fn of_destination(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    snapshot: &Snapshot,
    state: &mut State,
    destination: u32,
) -> String {
    let filter = Filter::of(&state.filter);
    let by = GroupBy::Process;
    let found = snapshot.processes_of(destination).into_iter().map(|(row, pair)| Paired { row, pair });
    let mut found: Vec<Paired<'_, Row>> =
        found.filter(|paired| filter.fits(&Asked { row: paired.row, snapshot, by })).collect();
    sort_pairs(&mut found, state, |row| row.id);
    let ids = found.iter().map(|paired| paired.row.id).collect();
    let sort = Some(pair_sort(state.sort));
    let list = List { columns: columns::processes_of(), rows: &found, ids, order: sort, styles: Vec::new() };
    list::draw(frame, area, list, context, state);
    text::counted(found.len(), "process", "processes")
}

/// Pairs can only be sorted by two figures.
pub(super) fn pair_sort(sort: Sort) -> Sort {
    if sort.name() == "live" { sort } else { Sort::DEFAULT }
}

/// Sorts the list of a drill-down.
pub(super) fn sort_pairs<T>(rows: &mut [Paired<'_, T>], state: &State, id: fn(&T) -> u64) {
    let by_live = pair_sort(state.sort) != Sort::DEFAULT;
    let figure = |pair: &Share| if by_live { pair.time_wait_live } else { pair.time_wait_created };
    rows.sort_unstable_by_key(|paired| (Reverse(figure(&paired.pair)), id(paired.row)));
    if state.reverse {
        rows.reverse();
    }
}
