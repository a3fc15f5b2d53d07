//! The report as plain text: a head with the host's figures, then a table. No colour, and one line per row.

use crate::columns::{self, Context};
use crate::order::{self, Sort};
use crate::{findings, text, words};
use std::io::{self, Write};
use twtrace_core::snapshot::GroupBy;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::snapshot::Summary;

/// What to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Grouping.
    pub by: GroupBy,
    /// Order.
    pub sort: Sort,
    /// Maximum number of rows.
    pub limit: Option<usize>,
}

/// Writes one report.
///
/// # Errors
/// The output cannot be written to.
pub fn write(model: &Snapshot, options: Options, out: &mut dyn Write) -> io::Result<()> {
    let summary = model.summary();
    head(model, out)?;
    writeln!(out)?;
    let context = Context { snapshot: model, live_mark: words::live_mark(summary) };
    let limit = options.limit.unwrap_or(usize::MAX);
    let (shown, total) = if let Some(by) = options.by.group() {
        let rows = order::of_snapshot(model, by, options.sort);
        let shown = &rows[..rows.len().min(limit)];
        columns::grid(&columns::visible(columns::groups(by), None), shown, &context).write_text(out)?;
        (shown.len(), rows.len())
    } else {
        let rows = order::destinations(model.destinations().iter(), options.sort, model);
        let shown = &rows[..rows.len().min(limit)];
        columns::grid(&columns::visible(columns::destinations(model), None), shown, &context).write_text(out)?;
        (shown.len(), rows.len())
    };
    if total == 0 {
        writeln!(out, "nothing to show: no connection that passes the filters has ended yet")?;
    } else if shown < total {
        let shown = text::count(shown as u64);
        writeln!(out, "first {shown} of {} rows by {}", text::count(total as u64), options.sort.name())?;
    }
    findings::write_text(model, out)
}

/// The lines above the table.
fn head(model: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let summary = model.summary();
    let kernel = &summary.kernel;
    writeln!(out, "{}", identity(summary))?;
    writeln!(
        out,
        "TIME_WAIT now {}   created {} ({}/s)   overflows since boot {}",
        words::time_wait(summary),
        text::count(summary.totals.counts.time_wait_created),
        text::rate(summary.totals.counts.created_per_s),
        text::count(kernel.time_wait_overflow),
    )?;
    let (coverage, lost) = (words::coverage(summary), words::losses(&summary.counters));
    writeln!(out, "{coverage}   {lost}{}", words::and_cost("   ", summary))?;
    if let Some(unseen) = words::unseen(model) {
        writeln!(out, "{unseen}")?;
    }
    let ends = words::ends(&summary.totals.counts);
    if !ends.is_empty() {
        writeln!(out, "of those: {ends}")?;
    }
    writeln!(out, "ports {}", words::ports(model))?;
    for warning in words::warnings(summary) {
        writeln!(out, "WARNING: {warning}")?;
    }
    Ok(())
}

/// Host, tier and duration of the trace.
fn identity(summary: &Summary) -> String {
    format!(
        "twtrace   host {}   kernel {}   tier {}   traced {}",
        text::clean(&summary.host.hostname),
        text::clean(&summary.host.kernel),
        words::tier(summary.tracing.tier),
        text::seconds(summary.window.seconds()),
    )
}

#[cfg(test)]
mod tests;
