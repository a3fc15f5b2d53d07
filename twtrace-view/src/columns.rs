//! The columns of live tables, one definition for the batch table and for the screen.

use crate::label;
use crate::order::Sort;
use crate::text;
use twtrace_core::counts::{FIELDS, Field, Figure};
use twtrace_core::event::Role;
use twtrace_core::snapshot::{Counts, DestRow, DestinationRow, GroupBy, GroupKey, Row, Share, Snapshot};

/// What cells need in addition to their row.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Names of processes, users and network namespaces.
    pub snapshot: &'a Snapshot,
    /// Sign before inferred numbers of live sockets.
    pub live_mark: &'a str,
}

/// One column.
pub struct Column<T> {
    /// Head.
    pub title: &'static str,
    /// Width in cells; the minimum for a column that stretches.
    pub width: u16,
    /// Numbers are right-aligned.
    pub right: bool,
    /// Takes the remaining width.
    pub stretch: bool,
    /// Which columns are dropped first when there is no room: those with the highest number.
    pub rank: u8,
    /// Which order it shows, to mark its head.
    pub sort: Option<Sort>,
    /// Text of its cell, clean.
    pub cell: Cell<T>,
}

/// The text of a row's cell.
type Cell<T> = Box<dyn Fn(&Context<'_>, &T) -> String>;

impl<T> Column<T> {
    fn left(title: &'static str, width: u16, rank: u8, cell: impl Fn(&Context<'_>, &T) -> String + 'static) -> Self {
        Self { title, width, right: false, stretch: false, rank, sort: None, cell: Box::new(cell) }
    }
    fn right(title: &'static str, width: u16, rank: u8, cell: impl Fn(&Context<'_>, &T) -> String + 'static) -> Self {
        Self { right: true, ..Self::left(title, width, rank, cell) }
    }
    /// A figure of the row's counts.
    fn figure(field: &'static Field, of: for<'a> fn(&'a T) -> &'a Counts) -> Self
    where
        T: 'static,
    {
        Self::right(field.heading, field.width, field.rank, move |context, row| figure(field, context, of(row)))
    }
    fn sorts(self, sort: Sort) -> Self {
        Self { sort: Some(sort), ..self }
    }
    fn stretches(self) -> Self {
        Self { stretch: true, ..self }
    }
}

/// The columns that fit into this many cells, one cell between them, with the width of each: the stretching ones share
/// the remaining width.
pub fn fit<T>(mut columns: Vec<Column<T>>, cells: u16) -> Vec<(Column<T>, u16)> {
    let needed = |columns: &[Column<T>]| -> u16 {
        columns.iter().map(|column| column.width).sum::<u16>() + columns.len().saturating_sub(1) as u16
    };
    while columns.len() > 1 && needed(&columns) > cells {
        let last = (0..columns.len()).max_by_key(|index| columns[*index].rank).unwrap_or(0);
        columns.remove(last);
    }
    // Without a column that stretches, the last one does if it is text.
    if !columns.iter().any(|column| column.stretch)
        && let Some(last) = columns.last_mut()
    {
        last.stretch = !last.right;
    }
    let mut left = cells.saturating_sub(needed(&columns));
    let mut stretching = columns.iter().filter(|column| column.stretch).count() as u16;
    columns
        .into_iter()
        .map(|column| {
            let mut width = column.width.min(cells);
            if column.stretch {
                let share = left / stretching;
                width += share;
                left -= share;
                stretching -= 1;
            }
            (column, width)
        })
        .collect()
}

/// Figures of this rank are before the port budget.
const FIRST: u8 = 2;

fn number(number: u64) -> String {
    if number == 0 { "0".to_owned() } else { text::count(number) }
}

fn pid(row: &Row) -> String {
    match row.key {
        GroupKey::Process(key) => key.tgid.to_string(),
        _ => "-".to_owned(),
    }
}

/// A property of the row's owner; a dash if there is no owner.
fn of_owner(row: &Row, of: impl FnOnce(&twtrace_core::event::Owner) -> String) -> String {
    row.owner.as_ref().map_or_else(|| "-".to_owned(), of)
}

fn cmdline(context: &Context<'_>, row: &Row) -> String {
    label::command_line(row, context.snapshot)
}

/// The figures that live tables show, for rows whose counts `of` returns.
fn figures<T>(of: for<'a> fn(&'a T) -> &'a Counts, shown: impl Fn(&Field) -> bool) -> Vec<Column<T>>
where
    T: 'static,
{
    let fields = FIELDS.iter().enumerate().filter(|(_, field)| field.width > 0 && shown(field));
    fields.map(|(at, field)| Column::figure(field, of).sorts(Sort::Figure(at))).collect()
}

/// A figure as text.
fn figure(field: &Field, context: &Context<'_>, counts: &Counts) -> String {
    match (field.get)(counts) {
        Figure::Count(count) => number(count),
        Figure::Live(count) => format!("{}{}", context.live_mark, number(count)),
        Figure::Rate(per_s) => text::rate(per_s),
        Figure::Times(times) => times.quantile(0.5).map_or_else(|| "-".to_owned(), |us| text::seconds(us as f64 / 1e6)),
        Figure::Errors(errors) => number(errors.values().sum()),
    }
}

/// Columns of a grouping.
pub fn groups(by: GroupBy) -> Vec<Column<Row>> {
    let process = by.is_of_processes();
    let heading = by.grouping().heading;
    let mut columns = Vec::new();
    let several = Column::right("PROCS", 7, 3, |_, row: &Row| number(row.processes));
    if process {
        columns.push(Column::right("PID", 7, 0, |_, row| pid(row)));
        columns.push(Column::left(heading, 16, 0, |at, row| label::group(row, at.snapshot)).sorts(Sort::Name));
        columns.push(Column::left("USER", 9, 3, |at, row| of_owner(row, |owner| label::user(owner.uid, at.snapshot))));
    } else {
        columns
            .push(Column::left(heading, 24, 0, |at, row| label::group(row, at.snapshot)).sorts(Sort::Name).stretches());
    }
    if by != GroupBy::Pid {
        columns.push(several);
    }
    columns.extend(figures(|row: &Row| &row.counts, |_| true));
    if process {
        columns.push(Column::left("PARENT", 16, 4, |_, row| {
            of_owner(row, |owner| label::process(&owner.parent_comm, owner.ppid))
        }));
        columns.push(Column::left("CGROUP", 22, 13, |at, row: &Row| {
            let facts = row
                .owner
                .and_then(|owner| at.snapshot.facts(owner.key).or_else(|| at.snapshot.facts_of_cgroup(owner.cgroup)));
            label::cgroup(facts).unwrap_or_default()
        }));
        columns.push(Column::left("COMMAND LINE", 20, 5, cmdline).stretches());
    }
    columns
}

/// Direction of the connections.
fn arrow(row: &DestinationRow) -> &'static str {
    match &row.key {
        DestRow::Dest(key) => label::role(key.role),
        DestRow::Other => "-",
    }
}

/// Local side of the connections, for those that this host opens.
fn from(row: &DestinationRow) -> String {
    match &row.key {
        DestRow::Dest(key) if key.role != Role::Passive => key.local_addr.to_string(),
        _ => "-".to_owned(),
    }
}

/// The network namespace.
fn namespace(context: &Context<'_>, row: &DestinationRow) -> String {
    label::netns(row, context.snapshot).unwrap_or_else(|| "-".to_owned())
}

/// The network namespaces of a row's connections, as long as there is a row for one.
pub fn netns_of_row(by: GroupBy) -> Column<Row> {
    Column::left("NETNS", 12, 4, move |at, row: &Row| {
        let mut found = None;
        for (destination, _) in at.snapshot.destinations_of(by, row) {
            let DestRow::Dest(key) = destination.key else { continue };
            match found.replace(key.netns) {
                Some(other) if other != key.netns => return "several".to_owned(),
                _ => {}
            }
        }
        let found = found.filter(|netns| *netns != 0);
        found.map_or_else(|| "-".to_owned(), |netns| label::namespace(at.snapshot.summary(), netns))
    })
}

/// Whether all destinations are in the tracer's own network namespace, as far as is known.
pub fn are_in_one_place(snapshot: &Snapshot) -> bool {
    let own = snapshot.summary().host.netns;
    let is_elsewhere = |row: &DestinationRow| matches!(row.key, DestRow::Dest(key) if ![0, own].contains(&key.netns));
    !snapshot.destinations().iter().any(is_elsewhere)
}

fn budget(row: &DestinationRow, of: fn(&twtrace_core::ports::Budget) -> String) -> String {
    row.budget.as_ref().map_or_else(|| "-".to_owned(), of)
}

/// Columns of destinations.
pub fn destinations(snapshot: &Snapshot) -> Vec<Column<DestinationRow>> {
    fn counts(row: &DestinationRow) -> &Counts {
        &row.counts
    }
    let is_first = |field: &Field| field.rank <= FIRST;
    let mut columns = vec![
        Column::left("DESTINATION", 22, 0, |_, row: &DestinationRow| label::destination(&row.key, row.folded))
            .sorts(Sort::Name)
            .stretches(),
        Column::left("ROLE", 7, 1, |_, row: &DestinationRow| arrow(row).to_owned()),
    ];
    if !are_in_one_place(snapshot) {
        columns.push(Column::left("NETNS", 12, 4, |at, row: &DestinationRow| namespace(at, row)));
    }
    columns.extend(figures(counts, is_first));
    columns.extend([
        Column::right("OPEN", 7, 5, |_, row: &DestinationRow| number(row.open)),
        Column::right("PORTS", 6, 1, |_, row: &DestinationRow| budget(row, |budget| text::percent(budget.utilization))),
        Column::right("FULL IN", 7, 3, |_, row: &DestinationRow| {
            budget(row, |budget| match budget.seconds_to_exhaustion {
                _ if budget.available == 0 => "FULL".to_owned(),
                Some(seconds) => format!("~{}", text::seconds(seconds)),
                None => "never".to_owned(),
            })
        }),
        Column::right("MAX/S", 7, 6, |_, row: &DestinationRow| budget(row, |budget| text::rate(budget.max_rate_per_s))),
        Column::right("USED/TOTAL", 15, 9, |_, row: &DestinationRow| {
            budget(row, |budget| format!("{}/{}", text::count(budget.used.into()), text::count(budget.total.into())))
        }),
    ]);
    columns.extend(figures(counts, |field| !is_first(field)));
    columns.push(Column::left("FROM", 15, 7, |_, row: &DestinationRow| from(row)));
    columns
}

/// A row of a drill-down, with the figures of the pair.
pub struct Paired<'a, T> {
    /// The row.
    pub row: &'a T,
    /// Its share of the row above.
    pub pair: Share,
}

/// Columns of a process's destinations.
pub fn destinations_of<'a>() -> Vec<Column<Paired<'a, DestinationRow>>> {
    let mut columns: Vec<Column<Paired<'a, DestinationRow>>> = vec![
        Column::left("DESTINATION", 22, 0, |_, at: &Paired<'_, DestinationRow>| {
            label::destination(&at.row.key, at.row.folded)
        })
        .stretches(),
        Column::left("ROLE", 7, 0, |_, at: &Paired<'_, DestinationRow>| arrow(at.row).to_owned()),
    ];
    columns.extend(shares());
    columns.push(Column::right("PORTS", 6, 2, |_, at: &Paired<'_, DestinationRow>| {
        budget(at.row, |budget| text::percent(budget.utilization))
    }));
    columns.push(Column::left("FROM", 15, 3, |_, at: &Paired<'_, DestinationRow>| from(at.row)));
    columns
}

/// Columns of a destination's processes.
pub fn processes_of<'a>() -> Vec<Column<Paired<'a, Row>>> {
    let mut columns: Vec<Column<Paired<'a, Row>>> = vec![
        Column::right("PID", 7, 0, |_, at: &Paired<'_, Row>| pid(at.row)),
        Column::left("PROGRAM", 16, 0, |context, at: &Paired<'_, Row>| label::group(at.row, context.snapshot)),
    ];
    columns.extend(shares());
    columns.push(Column::left("PARENT", 16, 2, |_, at: &Paired<'_, Row>| {
        of_owner(at.row, |owner| label::process(&owner.parent_comm, owner.ppid))
    }));
    columns.push(
        Column::left("COMMAND LINE", 16, 3, |context, at: &Paired<'_, Row>| cmdline(context, at.row)).stretches(),
    );
    columns
}

fn shares<'a, T: 'a>() -> [Column<Paired<'a, T>>; 3] {
    [
        Column::right("CREATED", 9, 0, |_, at: &Paired<'_, T>| number(at.pair.time_wait_created)),
        Column::right("LIVE", 8, 0, |context, at: &Paired<'_, T>| {
            format!("{}{}", context.live_mark, number(at.pair.time_wait_live))
        }),
        Column::right("ENDED", 9, 1, |_, at: &Paired<'_, T>| number(at.pair.connections)),
    ]
}
