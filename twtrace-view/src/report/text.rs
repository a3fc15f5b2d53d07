//! The report for a terminal.

use super::{NOTHING, Part, Report};
use crate::findings as words;
use crate::findings::NOTHING as NONE;
use crate::text;
use crate::timeline::{Point, Timeline};
use std::io::{self, Write};

/// Columns of the timeline.
const SPARKS: usize = 80;

/// Width of a title.
const TITLE: usize = 24;

/// Writes the report.
///
/// # Errors
/// The output cannot be written to.
pub fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", report.title())?;
    if report.is_of_several() {
        together(report, out)?;
    }
    for part in &report.parts {
        writeln!(out)?;
        head(part, report.is_of_several(), out)?;
    }
    for part in &report.parts {
        findings(part, report.is_of_several(), out)?;
    }
    if report.is_of_several() {
        writeln!(out, "\nRECORDINGS")?;
        report.recordings().write_text(out)?;
    }
    for by in report.tables() {
        let (grid, left_out) = report.grid(by);
        writeln!(out, "\nBY {}", by.name().to_uppercase())?;
        grid.write_text(out)?;
        if grid.rows.is_empty() {
            writeln!(out, "{NOTHING}")?;
        }
        if let Some(left_out) = left_out {
            writeln!(out, "{left_out}")?;
        }
    }
    for part in &report.parts {
        writeln!(out, "\nHOW THE NUMBERS{} ARE KNOWN", if report.is_of_several() { of(part) } else { String::new() })?;
        titled(part.known(), out)?;
    }
    Ok(())
}

/// All hosts.
fn together(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nALL HOSTS")?;
    report.headline_together().iter().try_for_each(|line| writeln!(out, "{line}"))?;
    for by in report.tables_together() {
        let (grid, left_out) = report.grid_together(by);
        writeln!(out, "\nALL HOSTS BY {}", by.name().to_uppercase())?;
        grid.write_text(out)?;
        if let Some(left_out) = left_out {
            writeln!(out, "{left_out}")?;
        }
    }
    Ok(())
}

fn of(part: &Part<'_>) -> String {
    format!(" OF {}", part.host)
}

fn titled(all: impl IntoIterator<Item = (&'static str, String)>, out: &mut dyn Write) -> io::Result<()> {
    all.into_iter().try_for_each(|(title, text)| writeln!(out, "{} {text}", text::pad(title, TITLE, false)))
}

fn head(part: &Part<'_>, of_several: bool, out: &mut dyn Write) -> io::Result<()> {
    if of_several {
        writeln!(out, "{}", part.host)?;
    }
    for warning in part.warnings() {
        writeln!(out, "WARNING: {warning}")?;
    }
    writeln!(out, "{}\n", part.headline())?;
    titled(part.about(), out)?;
    titled(part.totals(), out)?;
    timeline(part, out)
}

/// Findings and failures.
fn findings(part: &Part<'_>, of_several: bool, out: &mut dyn Write) -> io::Result<()> {
    let of = if of_several { of(part) } else { String::new() };
    writeln!(out, "\nFINDINGS{of}")?;
    let rendered = part.findings();
    if rendered.is_empty() {
        writeln!(out, "{NONE}")?;
    }
    for finding in rendered {
        writeln!(out, "{}  {}  {}: {}", finding.state, finding.id, finding.subject, finding.title)?;
        let mut line = |title: &str, text: &str| writeln!(out, "  {} {text}", text::pad(title, TITLE - 2, false));
        for (title, text) in &finding.about {
            line(title, text)?;
        }
        for (index, (name, value)) in finding.evidence.iter().enumerate() {
            line(if index == 0 { "evidence" } else { "" }, &format!("{name} {value}"))?;
        }
        for (index, advice) in finding.advice.iter().enumerate() {
            line(&format!("advice {}", index + 1), &format!("{} ({})", advice.text, advice.id))?;
            if let Some(command) = &advice.command {
                line("", &words::prefixed(command))?;
            }
            if !advice.effects.is_empty() {
                line("", &format!("effect: {}", advice.effects))?;
            }
            line("", &format!("risk: {}", advice.risk))?;
        }
        line("confidence", finding.confidence)?;
        line("recheck", &finding.recheck)?;
        writeln!(out)?;
    }
    writeln!(out, "{}", part.orientation())?;
    let failures = part.failures();
    if !failures.rows.is_empty() {
        writeln!(out, "\nFAILURES{of}")?;
        failures.write_text(out)?;
    }
    Ok(())
}

fn timeline(part: &Part<'_>, out: &mut dyn Write) -> io::Result<()> {
    let timeline = Timeline::of(part.model);
    let pieces = timeline.pieces(SPARKS);
    let Some(first) = pieces.first() else { return Ok(()) };
    let most = |of: fn(&Point<'_>) -> f64| -> Vec<f64> {
        pieces.iter().map(|piece| piece.iter().map(of).fold(0.0, f64::max)).collect()
    };
    let mut line = |title: &str, values: Vec<f64>| {
        let highest = values.iter().copied().fold(0.0, f64::max);
        let title = text::pad(title, TITLE, false);
        writeln!(out, "{title} {} at most {}", text::sparkline(&values), text::rate(highest))
    };
    line("created/s", most(|point| point.moment.created as f64 / point.seconds.max(1.0)))?;
    // It is not read in every bucket; until the next reading, the last value stays.
    let mut alive = 0;
    let kernel = pieces.iter().map(|piece| {
        alive = piece.iter().filter_map(|point| point.moment.kernel_time_wait).max().unwrap_or(alive);
        alive as f64
    });
    line("alive, kernel's count", kernel.collect())?;
    let seconds = first.len() as f64 * timeline.bucket_seconds();
    writeln!(
        out,
        "{} {} to {} UTC, {} a column",
        text::pad("", TITLE, false),
        text::time_of_day(part.model.summary().window.start_unix_ns),
        text::time_of_day(timeline.end_unix_ns()),
        text::seconds(seconds),
    )
}
