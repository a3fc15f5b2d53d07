//! The report as CSV, in the form of `top --csv`: one line for each row of the grouping, its host first. Columns that
//! were added later are last.

use super::Report;
use super::lines::{self, Line, Subject};
use crate::csv::{last_names, last_of_row, names, of_destination, of_row, optional, split, write_record};
use crate::text;
use std::borrow::Cow;
use std::io::{self, Write};
use twtrace_core::snapshot::GroupBy;

/// Columns before those of `top`.
const FRONT: [&str; 4] = ["host", "recording", "start", "seconds"];

/// Columns after them.
const BACK: [&str; 3] = ["mean_per_s", "share", "bytes_per_connection"];

/// Writes the line of column names and all rows.
///
/// # Errors
/// The output cannot be written to.
pub fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let by = report.options.by;
    let front = FRONT.into_iter().map(Cow::Borrowed).chain(names(by).map(Cow::Owned));
    write_record(front.chain(BACK.into_iter().chain(last_names(by)).map(Cow::Borrowed)), out)?;
    let (lines, _) = report.lines(by, report.options.top.unwrap_or(usize::MAX));
    lines.iter().try_for_each(|line| write_record(cells(line, by).into_iter(), out))
}

fn cells<'a>(line: &'a Line<'_>, by: GroupBy) -> Vec<Cow<'a, str>> {
    let model = line.part.model;
    let summary = model.summary();
    let counts = line.counts();
    let mut cells: Vec<Cow<'_, str>> = vec![
        Cow::Borrowed(&summary.host.hostname),
        line.part.info.path.to_string_lossy(),
        text::rfc3339(summary.window.start_unix_ns).into(),
        format!("{:.3}", summary.window.seconds()).into(),
    ];
    cells.extend(match (line.subject, by.group()) {
        (Subject::Group(row), Some(by)) => of_row(row, by, model),
        (Subject::Destination(row), _) => of_destination(row, model),
        (Subject::Group(_), None) => Vec::new(),
    });
    cells.extend([
        format!("{:.3}", line.mean_per_s()).into(),
        format!("{:.6}", line.share()).into(),
        optional(lines::bytes_per_connection(counts).map(|bytes| format!("{bytes:.1}"))),
    ]);
    match (line.subject, by.group()) {
        (Subject::Group(row), Some(by)) => cells.extend(last_of_row(row, by, model)),
        (Subject::Destination(row), _) => cells.extend(split(row)),
        (Subject::Group(_), None) => {}
    }
    cells
}
