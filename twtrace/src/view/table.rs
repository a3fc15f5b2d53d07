//! The report as plain text: a head with the host's figures, then a table. No colour, no more than one line a row.

use crate::view::columns::{self, Column, Context};
use crate::view::order::{self, By, Sort};
use crate::view::{text, words};
use std::io::{self, Write};
use twtrace_core::engine::Model;
use twtrace_core::model::Summary;

/// Longest cell. Command lines and names of cgroups are cut there.
const MAX_CELL: usize = 80;

/// What to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Grouping.
    pub by: By,
    /// Order.
    pub sort: Sort,
    /// Most rows.
    pub limit: Option<usize>,
}

/// Writes one report.
///
/// # Errors
/// The output cannot be written to.
pub fn write(model: &Model, options: Options, out: &mut dyn Write) -> io::Result<()> {
    let summary = model.summary();
    head(model, out)?;
    writeln!(out)?;
    let context = Context { names: model, live_mark: words::live_mark(summary), summary };
    let limit = options.limit.unwrap_or(usize::MAX);
    let (shown, total) = if let Some(by) = options.by.group() {
        let rows = order::of_model(model, by, options.sort);
        let shown = &rows[..rows.len().min(limit)];
        table(&columns::groups(by), shown, &context, out)?;
        (shown.len(), rows.len())
    } else {
        let rows = order::destinations(model.destinations(), options.sort);
        let shown = &rows[..rows.len().min(limit)];
        table(&columns::destinations(), shown, &context, out)?;
        (shown.len(), rows.len())
    };
    if total == 0 {
        writeln!(out, "nothing to show: no connection ended yet that the filters let through")?;
    } else if shown < total {
        let shown = text::count(shown as u64);
        writeln!(out, "first {shown} of {} rows by {}", text::count(total as u64), options.sort.name())?;
    }
    Ok(())
}

/// The lines above the table.
fn head(model: &Model, out: &mut dyn Write) -> io::Result<()> {
    let summary = model.summary();
    let kernel = &summary.kernel;
    writeln!(out, "{}", identity(summary))?;
    writeln!(
        out,
        "TIME_WAIT now {}   made {} ({}/s)   overflows since boot {}",
        words::time_wait(summary),
        text::count(summary.totals.counts.time_wait_made),
        text::rate(summary.totals.counts.rate_per_s),
        text::count(kernel.time_wait_overflow),
    )?;
    writeln!(out, "{}   {}", words::coverage(summary), words::losses(&summary.counters))?;
    let ends = words::ends(&summary.totals.counts);
    if !ends.is_empty() {
        writeln!(out, "of those: {ends}")?;
    }
    write!(out, "ports {}", words::port_range(kernel))?;
    match words::tightest(model.destinations()) {
        Some(row) => writeln!(out, "   tightest: {}", words::tightness(row))?,
        None => writeln!(out)?,
    }
    for warning in words::warnings(summary) {
        writeln!(out, "WARNING: {warning}")?;
    }
    Ok(())
}

/// Who was traced, how, and for how long.
fn identity(summary: &Summary) -> String {
    format!(
        "twtrace   host {}   kernel {}   tier {}   traced {}",
        text::clean(&summary.host.hostname),
        text::clean(&summary.host.kernel),
        words::tier(summary.tracing.tier),
        text::seconds(summary.window.seconds()),
    )
}

/// A column with its cells.
struct Filled<'a, T> {
    column: &'a Column<T>,
    cells: Vec<String>,
    width: usize,
}

/// Columns as wide as their widest cell; those in which every cell says nothing are left out.
fn table<T>(columns: &[Column<T>], rows: &[&T], context: &Context<'_>, out: &mut dyn Write) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut filled: Vec<Filled<'_, T>> = Vec::new();
    for column in columns {
        let cell = |row: &&T| text::fit(&(column.cell)(context, row), MAX_CELL).into_owned();
        let cells: Vec<String> = rows.iter().map(cell).collect();
        if cells.iter().all(|cell| cell.is_empty() || cell == "-") {
            continue;
        }
        let width = cells.iter().map(|cell| text::width(cell)).max().unwrap_or(0).max(column.title.len());
        filled.push(Filled { column, cells, width });
    }
    let titles: Vec<String> = filled.iter().map(|at| text::pad(at.column.title, at.width, at.column.right)).collect();
    writeln!(out, "{}", titles.join("  ").trim_end())?;
    for row in 0..rows.len() {
        let cells: Vec<String> = filled.iter().map(|at| text::pad(&at.cells[row], at.width, at.column.right)).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
