//! Rows of a report with their recording, and the columns that people read.

use super::{Part, Report};
use crate::grid::{Grid, Head};
use crate::label;
use crate::order::{self, Sort};
use crate::text;
use twtrace_core::counts::{FIELDS, Field, Figure};
use twtrace_core::event::{Role, Tier};
use twtrace_core::snapshot::{Counts, DestRow, DestinationRow, GroupBy, GroupKey, Row};

/// Subject of a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// A process, or several.
    Group(&'a Row),
    /// A destination.
    Destination(&'a DestinationRow),
}

/// A row of a report.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    pub(super) part: &'a Part<'a>,
    pub(super) subject: Subject<'a>,
    /// For a process: the destination of most of its TIME_WAIT sockets. Clean.
    mostly_to: Option<String>,
}

/// A part as a share of a whole; of zero it is 0.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// TIME_WAIT sockets created per second on average.
pub(super) fn mean_per_s(counts: &Counts, part: &Part<'_>) -> f64 {
    let seconds = part.model.summary().window.seconds();
    if seconds > 0.0 { counts.time_wait_created as f64 / seconds } else { 0.0 }
}

/// Average payload of a connection, both ways, bytes; `None` when none was established since the trace began.
pub(super) fn bytes_per_connection(counts: &Counts) -> Option<f64> {
    let connections = counts.lifetimes.count();
    let bytes = counts.bytes_sent.saturating_add(counts.bytes_received);
    (connections > 0).then(|| bytes as f64 / connections as f64)
}

/// Failed calls with the names of their errnos: `EADDRNOTAVAIL 3, ECONNREFUSED 2`.
pub(super) fn errors(counts: &Counts) -> String {
    let named = counts.errors.iter().map(|(errno, n)| format!("{} {}", text::errno(*errno), text::count(*n)));
    named.collect::<Vec<_>>().join(", ")
}

impl<'a> Line<'a> {
    pub(super) fn counts(&self) -> &'a Counts {
        match self.subject {
            Subject::Group(row) => &row.counts,
            Subject::Destination(row) => &row.counts,
        }
    }

    /// Its name, clean.
    pub(super) fn name(&self) -> String {
        match self.subject {
            Subject::Group(row) => label::group(row, self.part.model),
            Subject::Destination(row) => label::destination(&row.key, row.folded),
        }
    }

    /// The word between figures and a destination: the direction of its connections.
    pub(super) fn preposition(&self) -> &'static str {
        match self.destination().map(|row| row.key) {
            Some(DestRow::Dest(key)) if key.role == Role::Active => "to",
            Some(DestRow::Dest(key)) if key.role == Role::Passive => "accepted on",
            _ => "of",
        }
    }

    pub(super) fn share(&self) -> f64 {
        share(self.counts().time_wait_created, self.part.model.summary().totals.counts.time_wait_created)
    }

    pub(super) fn mean_per_s(&self) -> f64 {
        mean_per_s(self.counts(), self.part)
    }

    fn row(&self) -> Option<&'a Row> {
        match self.subject {
            Subject::Group(row) => Some(row),
            Subject::Destination(_) => None,
        }
    }

    fn destination(&self) -> Option<&'a DestinationRow> {
        match self.subject {
            Subject::Group(_) => None,
            Subject::Destination(row) => Some(row),
        }
    }

    /// The row is of several processes, and its peaks are inferred.
    fn is_of_several(&self) -> bool {
        match self.subject {
            Subject::Group(row) => row.is_of_several(),
            Subject::Destination(row) => row.folded > 0,
        }
    }
}

impl Report<'_> {
    /// Rows of a grouping of all recordings, those with the most TIME_WAIT sockets created first, and the number of
    /// rows.
    pub(super) fn lines(&self, by: GroupBy, limit: usize) -> (Vec<Line<'_>>, usize) {
        let mut lines: Vec<Line<'_>> = self.parts.iter().flat_map(|part| lines_of(part, by)).collect();
        let total = lines.len();
        // Stable: rows of one recording keep their order.
        lines.sort_by_key(|line| std::cmp::Reverse(line.counts().time_wait_created));
        lines.truncate(limit);
        if by.is_of_processes() {
            for line in &mut lines {
                line.mostly_to = line.row().and_then(|row| most_of(row, by, line.part));
            }
        }
        (lines, total)
    }
}

/// Rows of one recording in order.
pub(super) fn lines_of<'a>(part: &'a Part<'a>, by: GroupBy) -> Vec<Line<'a>> {
    let line = |subject| Line { part, subject, mostly_to: None };
    match by.group() {
        Some(group) => {
            let rows = order::of_snapshot(part.model, group, Sort::DEFAULT).into_iter();
            rows.map(|row| line(Subject::Group(row))).collect()
        }
        None => {
            let rows = order::destinations(part.model.destinations().iter(), Sort::DEFAULT, part.model).into_iter();
            rows.map(|row| line(Subject::Destination(row))).collect()
        }
    }
}

/// Destination of most of the TIME_WAIT sockets that a row created. Among equal ones, the first seen.
fn most_of(row: &Row, by: GroupBy, part: &Part<'_>) -> Option<String> {
    let shares = part.model.destinations_of(by, row);
    let some = shares.iter().filter(|(_, share)| share.time_wait_created > 0);
    let (destination, most) = some.min_by_key(|(row, share)| (std::cmp::Reverse(share.time_wait_created), row.id))?;
    let share = text::percent(share(most.time_wait_created, row.counts.time_wait_created));
    Some(format!("{} ({share})", label::destination(&destination.key, destination.folded)))
}

type Cell = Box<dyn for<'a, 'b> Fn(&'a Line<'b>) -> String>;
type Column = (Head, Cell);

fn left(title: &'static str, cell: impl for<'a, 'b> Fn(&'a Line<'b>) -> String + 'static) -> Column {
    (Head::left(title), Box::new(cell))
}

fn right(title: &'static str, cell: impl for<'a, 'b> Fn(&'a Line<'b>) -> String + 'static) -> Column {
    (Head::right(title), Box::new(cell))
}

/// A count, or failures by name, with its heading in the table of figures.
fn figure(name: &str) -> Column {
    let field = Field::of(name).unwrap_or(&FIELDS[0]);
    let text = |line: &Line<'_>, field: &Field| match (field.get)(line.counts()) {
        Figure::Count(number) | Figure::Live(number) => text::count(number),
        Figure::Rate(per_s) => text::rate(per_s),
        Figure::Times(_) => quantile(line, 0.5),
        Figure::Errors(_) => errors(line.counts()),
    };
    match (field.get)(&Counts::default()) {
        Figure::Errors(_) => left(field.heading, move |line| text(line, field)),
        _ => right(field.heading, move |line| text(line, field)),
    }
}

fn name(line: &Line<'_>) -> String {
    line.name()
}

/// A peak: for several processes it is inferred.
fn peak(line: &Line<'_>, number: u64) -> String {
    format!("{}{}", if line.is_of_several() { "~" } else { "" }, text::count(number))
}

/// Maximum live at a time: below the exact tier, ends are inferred.
fn live_peak(line: &Line<'_>) -> String {
    let inferred = line.is_of_several() || line.part.model.summary().tracing.tier != Tier::Exact;
    format!("{}{}", if inferred { "~" } else { "" }, text::count(line.counts().time_wait_live_peak))
}

fn quantile(line: &Line<'_>, share: f64) -> String {
    line.counts().lifetimes.quantile(share).map_or_else(|| "-".to_owned(), |us| text::lifetime(us as f64))
}

fn of_owner(line: &Line<'_>, of: impl Fn(&twtrace_core::event::Owner) -> String) -> String {
    let owner = line.row().and_then(|row| row.owner.as_ref());
    owner.map_or_else(|| "-".to_owned(), of)
}

fn command_line(line: &Line<'_>) -> String {
    line.row().map_or_else(String::new, |row| label::command_line(row, line.part.model))
}

fn group_columns(by: GroupBy) -> Vec<Column> {
    let heading = by.grouping().heading;
    let processes = || right("PROCS", |line| line.row().map_or_else(String::new, |row| text::count(row.processes)));
    if !by.is_of_processes() {
        return vec![left(heading, name), processes()];
    }
    let mut columns = vec![
        right("PID", |line| match line.row().map(|row| &row.key) {
            Some(GroupKey::Process(key)) => key.tgid.to_string(),
            _ => "-".to_owned(),
        }),
        left(heading, name),
        left("USER", |line| of_owner(line, |owner| label::user(owner.uid, line.part.model))),
    ];
    columns.extend((by == GroupBy::Process).then(processes));
    columns
}

fn destination_columns() -> Vec<Column> {
    vec![
        left("DESTINATION", name),
        left("ROLE", |line| match line.destination().map(|row| row.key) {
            Some(DestRow::Dest(key)) => label::role(key.role).to_owned(),
            _ => "-".to_owned(),
        }),
        left("NETNS", |line| {
            let summary = line.part.model.summary();
            match line.destination().map(|row| row.key) {
                Some(DestRow::Dest(key)) if ![0, summary.host.netns].contains(&key.netns) => {
                    label::namespace(summary, key.netns)
                }
                _ => "-".to_owned(),
            }
        }),
    ]
}

/// Columns of rows of a grouping.
fn columns(by: GroupBy, of_several: bool) -> Vec<Column> {
    let mut columns = Vec::new();
    if of_several {
        columns.push(left("HOST", |line| line.part.host.clone()));
    }
    columns.extend(by.group().map_or_else(destination_columns, group_columns));
    columns.extend([
        figure("created"),
        right("SHARE", |line| text::percent(line.share())),
        right("MEAN/S", |line| text::rate(line.mean_per_s())),
        right("PEAK/S", |line| peak(line, line.counts().created_peak_per_s)),
        right("LIVE PEAK", live_peak),
        left("MOSTLY TO", |line| line.mostly_to.clone().unwrap_or_default()),
        figure("opened"),
        figure("accepted"),
        figure("first"),
        figure("last"),
        right("LIFE P50", |line| quantile(line, 0.5)),
        right("P90", |line| quantile(line, 0.9)),
        right("P99", |line| quantile(line, 0.99)),
        right("BYTES/CONN", |line| {
            // The cast saturates.
            bytes_per_connection(line.counts())
                .map_or_else(|| "-".to_owned(), |bytes| text::bytes(bytes.round() as u64))
        }),
        figure("reset"),
        figure("errors"),
    ]);
    match by {
        GroupBy::Process | GroupBy::Pid => {
            columns.extend([left("PARENT", |line| of_owner(line, label::parent)), left("COMMAND LINE", command_line)]);
        }
        GroupBy::Destination => columns.push(right("MAX/S", |line| {
            let budget = line.destination().and_then(|row| row.budget);
            budget.map_or_else(|| "-".to_owned(), |budget| text::rate(budget.max_rate_per_s))
        })),
        _ => {}
    }
    columns
}

impl Report<'_> {
    /// The table of a grouping for people, and a note on the rows that it leaves out.
    pub(super) fn grid(&self, by: GroupBy) -> (Grid, Option<String>) {
        let (lines, total) = self.lines(by, self.options.top.unwrap_or(super::ROWS));
        let left_out = (lines.len() < total).then(|| {
            format!("first {} of {} rows by created", text::count(lines.len() as u64), text::count(total as u64))
        });
        (Grid::of(columns(by, self.is_of_several()), &lines), left_out)
    }
}
