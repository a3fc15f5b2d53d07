//! The report as CSV by RFC 4180: one row for each row of the grouping, with the time in the first column.
//!
//! Spreadsheets run text that looks like a formula, so a cell that begins like one gets an apostrophe in front.

use crate::order::{self, Sort};
use crate::{label, text};
use std::borrow::Cow;
use std::io::{self, Write};
use twtrace_core::counts::{FIELDS, Field, Figure};
use twtrace_core::event::{ContainerFacts, Owner, ProcessFacts};
use twtrace_core::plain::guarded;
use twtrace_core::ports::Budget;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::snapshot::{Counts, DestRow, DestinationRow, GroupBy, GroupKey, Row, Summary};

const PROCESS: [&str; 15] = [
    "processes",
    "pid",
    "start_ns",
    "command",
    "program",
    "ppid",
    "parent_command",
    "uid",
    "user",
    "cgroup",
    "container",
    "unit",
    "ancestor",
    "exe",
    "cmdline",
];
const GROUP: [&str; 2] = ["name", "processes"];
const DESTINATION: [&str; 12] = [
    "netns",
    "netns_name",
    "role",
    "local_addr",
    "remote_addr",
    "port",
    "open",
    "ports_total",
    "ports_used",
    "utilization",
    "max_rate_per_s",
    "seconds_to_exhaustion",
];
/// Quantiles with a column for each length of time.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// Columns of processes that were added later: always the last ones, so that no other column moves.
const PLACE: [&str; 6] = ["container_name", "image", "pod", "pod_namespace", "pod_uid", "workload"];

/// The same of destinations.
const SPLIT: [&str; 6] =
    ["ports_bound", "ports_established", "ports_other", "ports_time_wait", "ports_reusable", "ports_available"];

/// Writes the line of column names.
///
/// # Errors
/// The output cannot be written to.
pub fn write_header(by: GroupBy, out: &mut dyn Write) -> io::Result<()> {
    let last = last_names(by).map(Cow::Borrowed);
    write_record([Cow::Borrowed("time")].into_iter().chain(names(by).map(Cow::Owned)).chain(last), out)
}

/// Names of the last columns.
pub(super) fn last_names(by: GroupBy) -> impl Iterator<Item = &'static str> {
    let last: &[&str] = match by {
        GroupBy::Destination => &SPLIT,
        by if by.is_of_processes() => &PLACE,
        _ => &[],
    };
    last.iter().copied()
}

/// Names of the columns of a row.
pub(super) fn names(by: GroupBy) -> impl Iterator<Item = String> {
    let own: &[&str] = match by {
        GroupBy::Destination => &DESTINATION,
        by if by.is_of_processes() => &PROCESS,
        _ => &GROUP,
    };
    let own = own.iter().map(|name| (*name).to_owned());
    own.chain(["folded".to_owned()]).chain(FIELDS.iter().flat_map(figure_names))
}

/// Names of the columns of a figure. Most have one.
fn figure_names(field: &Field) -> Vec<String> {
    let name = field.name;
    match (field.get)(&Counts::default()) {
        Figure::Count(_) | Figure::Live(_) | Figure::Rate(_) => vec![name.to_owned()],
        Figure::Times(_) => QUANTILES.iter().map(|(quantile, _)| format!("{name}_{quantile}")).collect(),
        Figure::Errors(_) => vec![name.to_owned(), format!("{name}_by_errno")],
    }
}

/// Writes the rows of one report.
///
/// # Errors
/// The output cannot be written to.
pub fn write_rows(
    model: &Snapshot,
    by: GroupBy,
    sort: Sort,
    limit: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let limit = limit.unwrap_or(usize::MAX);
    let time = time(model.summary());
    let write = |cells: Vec<Cow<'_, str>>| write_record([Cow::Borrowed(time.as_str())].into_iter().chain(cells), out);
    let Some(group) = by.group() else {
        let rows = order::destinations(model.destinations().iter(), sort, model).into_iter().take(limit);
        let cells = |row| of_destination(row, model).into_iter().chain(split(row)).collect();
        return rows.map(cells).try_for_each(write);
    };
    order::of_snapshot(model, group, sort)
        .into_iter()
        .take(limit)
        .map(|row| of_row(row, group, model).into_iter().chain(last_of_row(row, group, model)).collect())
        .try_for_each(write)
}

/// Cells of a row of a grouping.
pub(super) fn of_row<'a>(row: &'a Row, by: GroupBy, model: &'a Snapshot) -> Vec<Cow<'a, str>> {
    let own = if by.is_of_processes() { process(row, model) } else { of_group(row, model) };
    record(own, row.folded, &row.counts)
}

/// Cells of a destination.
pub(super) fn of_destination<'a>(row: &'a DestinationRow, model: &'a Snapshot) -> Vec<Cow<'a, str>> {
    record(destination(row, model.summary()), row.folded, &row.counts)
}

fn time(summary: &Summary) -> String {
    let window = &summary.window;
    text::rfc3339(window.start_unix_ns + i128::from(window.now_ns.saturating_sub(window.start_ns)))
}

fn record<'a>(mut own: Vec<Cow<'a, str>>, folded: u64, counts: &Counts) -> Vec<Cow<'a, str>> {
    own.push(folded.to_string().into());
    own.extend(figures(counts));
    own
}

/// Writes one line, with escaped cells.
pub(super) fn write_record<'a>(cells: impl Iterator<Item = Cow<'a, str>>, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let written = writer.write_record(cells.map(|cell| guarded(&cell).into_owned()));
    // The kind of csv's error is that of the output, and this output is memory.
    written.map_err(io::Error::other)?;
    out.write_all(&writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?)
}

/// A value, or an empty cell.
pub(super) fn optional(value: Option<impl ToString>) -> Cow<'static, str> {
    value.map_or_else(String::new, |value| value.to_string()).into()
}

fn process<'a>(row: &'a Row, model: &'a Snapshot) -> Vec<Cow<'a, str>> {
    let name = match row.key {
        GroupKey::Unknown => Some("(unknown)"),
        GroupKey::Other => Some("(other)"),
        _ => None,
    };
    let owner = row.owner.as_ref().filter(|_| name.is_none());
    // One-shot processes in one row have everything in common except what identifies each of them.
    let one = owner.filter(|_| matches!(row.key, GroupKey::Process(_)));
    let facts = owner.and_then(|owner| model.facts(owner.key));
    let fact = |of: fn(&ProcessFacts) -> Option<&String>| Cow::Borrowed(facts.and_then(of).map_or("", String::as_str));
    let comm = |of: fn(&Owner) -> &[u8]| owner.map_or(Cow::Borrowed(""), |owner| text::lossless(of(owner)));
    vec![
        row.processes.to_string().into(),
        optional(one.map(|owner| owner.key.tgid)),
        optional(one.map(|owner| owner.key.start_ns)),
        name.map_or_else(|| comm(|owner| owner.comm.bytes()), Cow::Borrowed),
        Cow::Owned(label::program_of(row, model)),
        optional(owner.map(|owner| owner.ppid)),
        comm(|owner| owner.parent_comm.bytes()),
        optional(owner.map(|owner| owner.uid)),
        Cow::Borrowed(owner.and_then(|owner| model.user_name(owner.uid)).unwrap_or("")),
        fact(|facts| facts.cgroup.as_ref()),
        fact(|facts| facts.container.as_ref()),
        fact(|facts| facts.unit.as_ref()),
        fact(|facts| facts.ancestor.as_ref()),
        fact(|facts| facts.exe.as_ref()),
        fact(|facts| facts.cmdline.as_ref()),
    ]
}

/// Cells of the last columns of a row of a grouping.
pub(super) fn last_of_row<'a>(row: &'a Row, by: GroupBy, model: &'a Snapshot) -> Vec<Cow<'a, str>> {
    if !by.is_of_processes() {
        return Vec::new();
    }
    let runs_in = row.owner.as_ref().map(|owner| label::runs_in(owner, model)).unwrap_or_default();
    let said = |of: fn(&ContainerFacts) -> &Option<String>| runs_in.container.and_then(|said| of(said).as_deref());
    let pod_uid = runs_in.facts.and_then(|facts| facts.pod_uid.as_deref());
    let cells: [Option<&str>; PLACE.len()] = [
        said(|said| &said.name),
        said(|said| &said.image),
        said(|said| &said.pod),
        said(|said| &said.pod_namespace),
        pod_uid,
        said(|said| &said.workload),
    ];
    cells.map(|cell| Cow::Borrowed(cell.unwrap_or_default())).into()
}

fn of_group<'a>(row: &Row, model: &Snapshot) -> Vec<Cow<'a, str>> {
    vec![label::group(row, model).into(), row.processes.to_string().into()]
}

fn destination<'a>(row: &'a DestinationRow, summary: &'a Summary) -> Vec<Cow<'a, str>> {
    let key = match &row.key {
        DestRow::Dest(key) => Some(key),
        DestRow::Other => None,
    };
    let budget = row.budget.as_ref();
    vec![
        optional(key.map(|key| summary.inode(key.netns)).filter(|inode| *inode != 0)),
        Cow::Borrowed(key.and_then(|key| summary.namespace(key.netns)).map_or("", |of| of.name.as_str())),
        Cow::Borrowed(key.map_or("(other)", |key| label::role(key.role))),
        optional(key.map(|key| key.local_addr)),
        optional(key.and_then(|key| key.remote_addr)),
        optional(key.map(|key| key.port)),
        row.open.to_string().into(),
        optional(budget.map(|budget| budget.total)),
        optional(budget.map(|budget| budget.used)),
        optional(budget.map(|budget| format!("{:.6}", budget.utilization))),
        optional(budget.map(|budget| format!("{:.3}", budget.max_rate_per_s))),
        optional(budget.and_then(|budget| budget.seconds_to_exhaustion).map(|seconds| format!("{seconds:.3}"))),
    ]
}

/// The ports of a destination, by state.
pub(super) fn split<'a>(row: &DestinationRow) -> [Cow<'a, str>; SPLIT.len()] {
    let part = |part: fn(&Budget) -> u32| optional(row.budget.as_ref().map(part));
    [
        part(|budget| budget.bound),
        part(|budget| budget.established),
        part(|budget| budget.other),
        part(|budget| budget.time_wait),
        part(|budget| budget.reusable),
        part(|budget| budget.available),
    ]
}

fn figures<'a>(counts: &Counts) -> Vec<Cow<'a, str>> {
    FIELDS.iter().flat_map(|field| figure((field.get)(counts))).collect()
}

/// Cells of a figure, one for each of [`figure_names`].
fn figure<'a>(figure: Figure<'_>) -> Vec<Cow<'a, str>> {
    match figure {
        Figure::Count(number) | Figure::Live(number) => vec![number.to_string().into()],
        Figure::Rate(per_second) => vec![format!("{per_second:.3}").into()],
        Figure::Times(times) => {
            let milliseconds = |share| optional(times.quantile(share).map(|us| us as f64 / 1e3));
            QUANTILES.iter().map(|(_, share)| milliseconds(*share)).collect()
        }
        Figure::Errors(errors) => {
            let named = errors.iter().map(|(errno, number)| format!("{} {number}", text::errno(*errno)));
            let named = named.collect::<Vec<_>>().join("; ");
            vec![errors.values().sum::<u64>().to_string().into(), named.into()]
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use twtrace_testkit::web;

    fn line(cells: &[&str]) -> String {
        let mut out = Vec::new();
        write_record(cells.iter().map(|cell| Cow::Borrowed(*cell)), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn formulas_are_disarmed() {
        assert_eq!(line(&["=1+1", "+a", "-b", "@c", "d=e"]), "'=1+1,'+a,'-b,'@c,d=e\r\n");
        assert_eq!(line(&["\t=1", "\r=1"]), "'\\t=1,'\\r=1\r\n");
    }

    #[test]
    fn quotes_commas_and_controls_stay_in_their_cell() {
        assert_eq!(
            line(&["a,b", "c\"d", "e\nf", "\u{1b}[2J", "\u{202e}x"]),
            "\"a,b\",\"c\"\"d\",e\\nf,\\x1b[2J,\\u{202e}x\r\n"
        );
        assert_eq!(line(&["", ""]), ",\r\n");
    }

    #[test]
    fn every_row_has_as_many_cells_as_the_header() {
        let counts = figures(&Counts::default()).len();
        let destination = DESTINATION.len() + SPLIT.len();
        let process = PROCESS.len() + PLACE.len();
        for (by, own) in
            [(GroupBy::Process, process), (GroupBy::Command, GROUP.len()), (GroupBy::Destination, destination)]
        {
            let mut out = Vec::new();
            write_header(by, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap().split(',').count(), 1 + own + 1 + counts, "{by:?}");
        }
    }

    fn report(by: GroupBy) -> String {
        let mut out = Vec::new();
        write_header(by, &mut out).unwrap();
        write_rows(&web::snapshot(), by, Sort::DEFAULT, Some(6), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn reports_read_back_as_they_were() {
        for by in [GroupBy::Process, GroupBy::Command, GroupBy::Destination] {
            let report = report(by);
            assert!(report.lines().all(|line| line.chars().all(text::is_plain)), "{report}");
            let mut reader = csv::Reader::from_reader(report.as_bytes());
            let width = reader.headers().unwrap().len();
            for record in reader.records() {
                let record = record.unwrap();
                assert_eq!(record.len(), width);
                assert!(record.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@'])), "{record:?}");
            }
        }
    }

    #[test]
    fn the_split_of_ports_comes_last_and_moves_nothing() {
        let report = report(GroupBy::Destination);
        let mut lines = report.lines();
        let header = lines.next().unwrap();
        assert!(header.ends_with(
            ",ports_bound,ports_established,ports_other,ports_time_wait,ports_reusable,\
             ports_available"
        ));
        assert!(header.contains(",open,ports_total,ports_used,utilization,max_rate_per_s,"));
        let first = lines.next().unwrap();
        assert!(first.contains(",5432,") && first.ends_with(",0,0,0,120,0,130"), "{first}");
        // No budget, no port numbers.
        let passive = lines.find(|line| line.contains(",passive,")).unwrap();
        assert!(passive.ends_with(",,,,,,"), "{passive}");
    }

    #[test]
    fn processes_are_written() {
        insta::assert_snapshot!(report(GroupBy::Process).replace("\r\n", "\n"));
    }

    #[test]
    fn destinations_are_written() {
        insta::assert_snapshot!(report(GroupBy::Destination).replace("\r\n", "\n"));
    }
}
