//! The columns of live tables, one definition for the batch table and for the screen.

use crate::grid::{Grid, Head};
use crate::label;
use crate::order::{Key, Sort};
use crate::text;
use twtrace_core::counts::{FIELDS, Field, Figure};
use twtrace_core::event::Role;
use twtrace_core::snapshot::{Counts, DestRow, DestinationRow, GroupBy, GroupKey, Row, Snapshot};

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
    /// The figure that it shows, if it shows one.
    pub field: Option<&'static Field>,
    /// Visible unless the user chooses otherwise.
    pub is_default: bool,
    /// It names the row, and is always visible.
    pub is_name: bool,
    /// What it means.
    pub doc: &'static str,
    /// Text of its cell, clean.
    pub cell: Cell<T>,
}

/// The text of a row's cell.
type Cell<T> = Box<dyn Fn(&Context<'_>, &T) -> String>;

impl<T> Column<T> {
    /// A column of text.
    pub fn left(
        title: &'static str,
        width: u16,
        rank: u8,
        cell: impl Fn(&Context<'_>, &T) -> String + 'static,
    ) -> Self {
        Self {
            title,
            width,
            right: false,
            stretch: false,
            rank,
            sort: None,
            field: None,
            is_default: true,
            is_name: false,
            doc: "",
            cell: Box::new(cell),
        }
    }
    /// A column of numbers.
    pub fn right(
        title: &'static str,
        width: u16,
        rank: u8,
        cell: impl Fn(&Context<'_>, &T) -> String + 'static,
    ) -> Self {
        Self { right: true, ..Self::left(title, width, rank, cell) }
    }
    /// The same column for rows of another kind.
    pub fn map<U>(self, cell: impl Fn(&Self, &Context<'_>, &U) -> String + 'static) -> Column<U>
    where
        T: 'static,
    {
        let Self { title, width, right, stretch, rank, sort, field, is_default, is_name, doc, .. } = self;
        let cell = Box::new(move |context: &Context<'_>, row: &U| cell(&self, context, row));
        Column { title, width, right, stretch, rank, sort, field, is_default, is_name, doc, cell }
    }
    /// A figure of the row's counts.
    fn figure(field: &'static Field, of: for<'a> fn(&'a T) -> &'a Counts) -> Self
    where
        T: 'static,
    {
        let is_default = field.width > 0;
        // The head must fit, with the mark of the order.
        let width = if is_default { field.width } else { (field.heading.len() as u16 + 1).max(8) };
        let cell = move |context: &Context<'_>, row: &T| figure(field, context, of(row));
        let column = Self::right(field.heading, width, field.rank, cell);
        Self { field: Some(field), is_default, doc: field.doc, ..column }
    }
    fn sorts(self, sort: Sort) -> Self {
        // The head has room for the mark of the order.
        Self { sort: Some(sort), width: self.width.max(self.title.len() as u16 + 1), ..self }
    }
    fn by(self, key: Key) -> Self {
        Self { doc: key.doc(), ..self.sorts(Sort::Column(key)) }
    }
    fn stretches(self) -> Self {
        Self { stretch: true, ..self }
    }
    /// The name of the row.
    fn names(self) -> Self {
        Self { is_name: true, doc: "Name of the row", ..self.sorts(Sort::Name) }
    }
    /// With its meaning.
    pub fn explained(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }
    /// Whether it is the column with this heading, as a user writes it.
    pub fn is_called(&self, name: &str) -> bool {
        self.title.eq_ignore_ascii_case(name.trim())
    }
}

/// Rank of the columns that a user chose: dropped last.
const CHOSEN: u8 = 1;

/// The visible columns: those with these headings in their order, after the one that names the row; without a choice, the
/// default ones.
pub fn visible<T>(mut columns: Vec<Column<T>>, chosen: Option<&[String]>) -> Vec<Column<T>> {
    let Some(chosen) = chosen else {
        columns.retain(|column| column.is_default);
        return columns;
    };
    let mut visible = Vec::new();
    visible.extend(columns.iter().position(|column| column.is_name).map(|at| columns.remove(at)));
    for name in chosen {
        let Some(at) = columns.iter().position(|column| column.is_called(name)) else { continue };
        let column = columns.remove(at);
        let rank = CHOSEN.saturating_add(visible.len().min(100) as u8);
        visible.push(Column { rank, ..column });
    }
    visible
}

/// The table of these rows.
pub fn grid<T>(columns: &[Column<T>], rows: &[&T], context: &Context<'_>) -> Grid {
    let columns = columns.iter().map(|column| {
        let head = Head { title: column.title, right: column.right };
        (head, |row: &&T| (column.cell)(context, row))
    });
    Grid::of(columns, rows)
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

/// The figures of rows whose counts `of` returns.
fn figures<T>(of: for<'a> fn(&'a T) -> &'a Counts, is_wanted: impl Fn(&Field) -> bool) -> Vec<Column<T>>
where
    T: 'static,
{
    let fields = FIELDS.iter().enumerate().filter(|(_, field)| is_wanted(field));
    fields.map(|(at, field)| Column::figure(field, of).sorts(Sort::Figure(at))).collect()
}

/// A figure as text.
pub fn figure(field: &Field, context: &Context<'_>, counts: &Counts) -> String {
    match (field.get)(counts) {
        Figure::Count(count) => number(count),
        Figure::Live(count) => format!("{}{}", context.live_mark, number(count)),
        Figure::Rate(per_s) => text::rate(per_s),
        Figure::Times(times) => times.quantile(0.5).map_or_else(|| "-".to_owned(), |us| text::seconds(us as f64 / 1e6)),
        Figure::Errors(errors) => number(errors.values().sum()),
    }
}

/// All columns of a grouping, see [`visible`].
pub fn groups(by: GroupBy) -> Vec<Column<Row>> {
    let process = by.is_of_processes();
    let heading = by.grouping().heading;
    let mut columns = Vec::new();
    let several = Column::right("PROCS", 7, 3, |_, row: &Row| number(row.processes)).by(Key::Processes);
    if process {
        columns.push(Column::right("PID", 7, 0, |_, row| pid(row)).by(Key::Pid));
        columns.push(Column::left(heading, 16, 0, |at, row| label::group(row, at.snapshot)).names());
        let user = |at: &Context<'_>, row: &Row| of_owner(row, |owner| label::user(owner.uid, at.snapshot));
        columns.push(Column::left("USER", 9, 3, user).by(Key::User));
    } else {
        columns.push(Column::left(heading, 24, 0, |at, row| label::group(row, at.snapshot)).names().stretches());
    }
    if by != GroupBy::Pid {
        columns.push(several);
    }
    columns.extend(figures(|row: &Row| &row.counts, |_| true));
    if process {
        let parent = |_: &Context<'_>, row: &Row| of_owner(row, label::parent);
        columns.push(Column::left("PARENT", 16, 4, parent).by(Key::Parent));
        let cgroup = |at: &Context<'_>, row: &Row| label::cgroup_of(row, at.snapshot).unwrap_or_default();
        columns.push(Column::left("CGROUP", 22, 13, cgroup).by(Key::Cgroup));
        columns.push(Column::left("COMMAND LINE", 20, 5, cmdline).by(Key::CommandLine).stretches());
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

/// Headings of the columns that a user can choose for groups and processes.
pub fn headings_of_groups() -> Vec<&'static str> {
    let columns = groups(GroupBy::Process);
    let titles = columns.iter().filter(|column| !column.is_name).map(|column| column.title);
    // Those that only a screen has.
    titles.chain(["SHARE", "NETNS"]).collect()
}

/// The same for destinations.
pub fn headings_of_destinations() -> Vec<&'static str> {
    all_of_destinations(true).iter().filter(|column| !column.is_name).map(|column| column.title).collect()
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
    .explained("Network namespace of its connections")
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

/// All columns of destinations, see [`visible`].
pub fn destinations(snapshot: &Snapshot) -> Vec<Column<DestinationRow>> {
    all_of_destinations(!are_in_one_place(snapshot))
}

fn all_of_destinations(has_netns: bool) -> Vec<Column<DestinationRow>> {
    fn counts(row: &DestinationRow) -> &Counts {
        &row.counts
    }
    let is_first = |field: &Field| field.rank <= FIRST;
    let name = |_: &Context<'_>, row: &DestinationRow| label::destination(&row.key, row.folded);
    let mut columns = vec![
        Column::left("DESTINATION", 22, 0, name).names().stretches(),
        Column::left("ROLE", 7, 1, |_, row: &DestinationRow| arrow(row).to_owned()).by(Key::Role),
    ];
    if has_netns {
        columns.push(Column::left("NETNS", 12, 4, namespace).by(Key::Netns));
    }
    columns.extend(figures(counts, is_first));
    let full_in = |row: &DestinationRow| {
        budget(row, |budget| match budget.seconds_to_exhaustion {
            _ if budget.available == 0 => "FULL".to_owned(),
            Some(seconds) => format!("~{}", text::seconds(seconds)),
            None => "never".to_owned(),
        })
    };
    let of_total = |row: &DestinationRow| {
        budget(row, |budget| format!("{}/{}", text::count(budget.used.into()), text::count(budget.total.into())))
    };
    columns.extend([
        Column::right("OPEN", 7, 5, |_, row: &DestinationRow| number(row.open)).by(Key::Open),
        Column::right("PORTS", 6, 1, |_, row| budget(row, |budget| text::percent(budget.utilization))).by(Key::Ports),
        Column::right("FULL IN", 7, 3, move |_, row| full_in(row)).by(Key::FullIn),
        Column::right("MAX/S", 7, 6, |_, row| budget(row, |budget| text::rate(budget.max_rate_per_s))).by(Key::MaxRate),
        Column::right("USED/TOTAL", 15, 9, move |_, row| of_total(row)).by(Key::Used),
    ]);
    columns.extend(figures(counts, |field| !is_first(field)));
    columns.push(Column::left("FROM", 15, 7, |_, row: &DestinationRow| from(row)).by(Key::From));
    columns
}
