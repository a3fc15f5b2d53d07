//! The columns of ledgers, one definition for the batch table and for the screen.

use crate::label::{self, Names};
use crate::order::{self, Sort};
use crate::text;
use twtrace_core::input::Role;
use twtrace_core::model::{Counts, DestRow, DestinationRow, GroupBy, GroupKey, PairRow, Row, Summary};

/// What cells need besides their row.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Names of processes and users.
    pub names: &'a dyn Names,
    /// Sign before inferred numbers of live sockets.
    pub live_mark: &'a str,
    /// What is known of network namespaces.
    pub summary: &'a Summary,
}

/// One column.
pub struct Column<T: ?Sized> {
    /// Head.
    pub title: &'static str,
    /// Cells it takes; the least for a column that stretches.
    pub width: u16,
    /// Numbers stand right.
    pub right: bool,
    /// Takes what room is left.
    pub stretch: bool,
    /// Which columns go first when there is no room: those with the highest number.
    pub rank: u8,
    /// Which order it shows, to mark its head.
    pub sort: Option<Sort>,
    /// Text of its cell, clean.
    pub cell: fn(&Context<'_>, &T) -> String,
}

impl<T: ?Sized> Column<T> {
    fn left(title: &'static str, width: u16, rank: u8, cell: fn(&Context<'_>, &T) -> String) -> Self {
        Self { title, width, right: false, stretch: false, rank, sort: None, cell }
    }
    fn right(title: &'static str, width: u16, rank: u8, cell: fn(&Context<'_>, &T) -> String) -> Self {
        Self { right: true, ..Self::left(title, width, rank, cell) }
    }
    fn sorts(self, sort: Sort) -> Self {
        Self { sort: Some(sort), ..self }
    }
    fn stretches(self) -> Self {
        Self { stretch: true, ..self }
    }
}

/// The columns that fit into so many cells, one cell between them, with the width of each: the stretching ones share
/// what is left.
pub fn fit<T: ?Sized>(mut columns: Vec<Column<T>>, cells: u16) -> Vec<(Column<T>, u16)> {
    let needed = |columns: &[Column<T>]| -> u16 {
        columns.iter().map(|column| column.width).sum::<u16>() + columns.len().saturating_sub(1) as u16
    };
    while columns.len() > 1 && needed(&columns) > cells {
        let last = (0..columns.len()).max_by_key(|index| columns[*index].rank).unwrap_or(0);
        columns.remove(last);
    }
    // Without a column that stretches, the last one does when it is text.
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

fn number(number: u64) -> String {
    if number == 0 { "0".to_owned() } else { text::count(number) }
}

fn live(context: &Context<'_>, counts: &Counts) -> String {
    format!("{}{}", context.live_mark, number(counts.time_wait_live))
}

/// Half of the lifetimes are below it.
fn median(counts: &Counts) -> String {
    counts.lifetimes.quantile(0.5).map_or_else(|| "-".to_owned(), |us| text::seconds(us as f64 / 1e6))
}

fn pid(row: &Row) -> String {
    match row.key {
        GroupKey::Process(key) => key.tgid.to_string(),
        _ => "-".to_owned(),
    }
}

/// What is true of the row's owner; a dash where there is none.
fn of_owner(row: &Row, tell: impl FnOnce(&twtrace_core::input::Owner) -> String) -> String {
    row.owner.as_ref().map_or_else(|| "-".to_owned(), tell)
}

fn cmdline(context: &Context<'_>, row: &Row) -> String {
    let facts = row.owner.and_then(|owner| context.names.facts(owner.key));
    facts.and_then(|facts| facts.cmdline.as_deref()).map_or_else(String::new, |line| text::clean(line).into_owned())
}

/// Columns of a grouping.
pub fn groups(by: GroupBy) -> Vec<Column<Row>> {
    let process = by == GroupBy::Process;
    let mut columns = Vec::new();
    if process {
        columns.push(Column::right("PID", 7, 0, |_, row| pid(row)));
        columns.push(Column::left("PROGRAM", 16, 0, |at, row| label::group(row, at.names)).sorts(Sort::Name));
        columns.push(Column::left("USER", 9, 3, |at, row| of_owner(row, |owner| label::user(owner.uid, at.names))));
    } else {
        let title = match by {
            GroupBy::Command => "COMMAND",
            GroupBy::Parent => "PARENT",
            GroupBy::User => "USER",
            GroupBy::Cgroup => "CGROUP",
            GroupBy::Process => "PROCESS",
        };
        columns.push(Column::left(title, 24, 0, |at, row| label::group(row, at.names)).sorts(Sort::Name).stretches());
        columns.push(Column::right("PROCS", 7, 3, |_, row| number(row.processes)));
    }
    columns.extend([
        Column::right("MADE", 9, 0, |_, row: &Row| number(row.counts.time_wait_made)).sorts(Sort::Made),
        Column::right("LIVE", 8, 1, |at, row: &Row| live(at, &row.counts)).sorts(Sort::Live),
        Column::right("MADE/S", 7, 2, |_, row: &Row| text::rate(row.counts.rate_per_s)).sorts(Sort::Rate),
        Column::right("OPENED", 9, 7, |_, row: &Row| number(row.counts.opened)).sorts(Sort::Opened),
        Column::right("ACCEPTED", 9, 8, |_, row: &Row| number(row.counts.accepted)).sorts(Sort::Accepted),
        Column::right("RESET", 7, 9, |_, row: &Row| number(row.counts.reset)).sorts(Sort::Reset),
        Column::right("ERRORS", 7, 6, |_, row: &Row| number(order::errors(&row.counts))).sorts(Sort::Errors),
        Column::right("1ST FIN", 9, 11, |_, row: &Row| number(row.counts.closed_first)),
        Column::right("2ND FIN", 9, 12, |_, row: &Row| number(row.counts.closed_last)),
        Column::right("LIFE", 7, 10, |_, row: &Row| median(&row.counts)),
    ]);
    if process {
        columns.push(Column::left("PARENT", 16, 4, |_, row| {
            of_owner(row, |owner| label::process(&owner.parent_comm, owner.ppid))
        }));
        columns.push(Column::left("CGROUP", 22, 13, |at, row| {
            label::cgroup(row.owner.and_then(|owner| at.names.facts(owner.key))).unwrap_or_default()
        }));
        columns.push(Column::left("COMMAND LINE", 20, 5, cmdline).stretches());
    }
    columns
}

/// Which way connections go.
fn arrow(row: &DestinationRow) -> &'static str {
    match &row.key {
        DestRow::Dest(key) => label::role(key.role),
        DestRow::Other => "-",
    }
}

/// Where connections start, for those that this host opens.
fn from(row: &DestinationRow) -> String {
    match &row.key {
        DestRow::Dest(key) if key.role != Role::Passive => key.local_addr.to_string(),
        _ => "-".to_owned(),
    }
}

/// The network namespace, unless it is the tracer's own.
fn namespace(context: &Context<'_>, row: &DestinationRow) -> String {
    match &row.key {
        DestRow::Dest(key) if ![0, context.summary.host.netns].contains(&key.netns) => {
            label::namespace(context.summary, key.netns)
        }
        _ => "-".to_owned(),
    }
}

fn budget(row: &DestinationRow, tell: fn(&twtrace_core::ports::Budget) -> String) -> String {
    row.budget.as_ref().map_or_else(|| "-".to_owned(), tell)
}

/// Columns of destinations.
pub fn destinations() -> Vec<Column<DestinationRow>> {
    vec![
        Column::left("DESTINATION", 22, 0, |_, row: &DestinationRow| label::destination(&row.key, row.folded))
            .sorts(Sort::Name)
            .stretches(),
        Column::left("ROLE", 7, 1, |_, row: &DestinationRow| arrow(row).to_owned()),
        Column::right("MADE", 9, 0, |_, row: &DestinationRow| number(row.counts.time_wait_made)).sorts(Sort::Made),
        Column::right("LIVE", 8, 0, |at, row: &DestinationRow| live(at, &row.counts)).sorts(Sort::Live),
        Column::right("MADE/S", 7, 2, |_, row: &DestinationRow| text::rate(row.counts.rate_per_s)).sorts(Sort::Rate),
        Column::right("OPEN", 7, 5, |_, row: &DestinationRow| number(row.established)),
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
        Column::right("ERRORS", 7, 4, |_, row: &DestinationRow| number(order::errors(&row.counts))).sorts(Sort::Errors),
        Column::right("RESET", 7, 8, |_, row: &DestinationRow| number(row.counts.reset)).sorts(Sort::Reset),
        Column::right("OPENED", 9, 10, |_, row: &DestinationRow| number(row.counts.opened)).sorts(Sort::Opened),
        Column::right("ACCEPTED", 9, 11, |_, row: &DestinationRow| number(row.counts.accepted)).sorts(Sort::Accepted),
        Column::left("FROM", 15, 7, |_, row: &DestinationRow| from(row)),
        Column::left("NETNS", 12, 12, |at, row: &DestinationRow| namespace(at, row)),
    ]
}

/// A row that was drilled down to, with the figures of the pair.
pub struct Paired<'a, T> {
    /// The row.
    pub row: &'a T,
    /// Its share in what was drilled into.
    pub pair: &'a PairRow,
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
        Column::left("PROGRAM", 16, 0, |context, at: &Paired<'_, Row>| label::group(at.row, context.names)),
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

fn shares<'a, T>() -> [Column<Paired<'a, T>>; 3] {
    [
        Column::right("MADE", 9, 0, |_, at| number(at.pair.time_wait_made)),
        Column::right("LIVE", 8, 0, |context, at| format!("{}{}", context.live_mark, number(at.pair.time_wait_live))),
        Column::right("ENDED", 9, 1, |_, at| number(at.pair.connections)),
    ]
}
