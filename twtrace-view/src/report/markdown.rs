//! The report as a document in GitHub's Markdown, for a postmortem.
//!
//! Text that a process chose itself is written so that nothing in it is Markdown or HTML: see `verbatim`.

use super::findings::RenderedFinding;
use super::{NOTHING, Part, Report};
use crate::findings as words;
use crate::findings::NOTHING as NONE;
use crate::grid::{Grid, Head};
use crate::timeline::{Point, Timeline, length};
use crate::{failures, text};
use std::borrow::Cow;
use std::io::{self, Write};
use twtrace_core::finding::Finding;
use twtrace_core::snapshot::Snapshot;

/// Rows of the timeline.
const INTERVALS: usize = 20;

/// Writes the report.
///
/// # Errors
/// The output cannot be written to.
pub fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# {}", verbatim(&report.title()))?;
    if report.is_of_several() {
        together(report, out)?;
    }
    for part in &report.parts {
        if report.is_of_several() {
            writeln!(out, "\n## {}", verbatim(&part.host))?;
        }
        for warning in part.warnings() {
            writeln!(out, "\n> **Warning:** {}", verbatim(&warning))?;
        }
        writeln!(out, "\n{}\n", verbatim(&part.headline()))?;
        list(part.about().into_iter().chain(part.totals()), out)?;
        timeline(&Timeline::of(part.model), out)?;
        findings(part, report.is_of_several(), out)?;
    }
    if report.is_of_several() {
        writeln!(out, "\n## Recordings\n")?;
        table(&report.recordings(), out)?;
    }
    for by in report.tables() {
        let (grid, left_out) = report.grid(by);
        writeln!(out, "\n## By {}\n", by.name())?;
        if grid.rows.is_empty() {
            writeln!(out, "{NOTHING}")?;
        }
        table(&grid, out)?;
        if let Some(left_out) = left_out {
            writeln!(out, "\n{left_out}")?;
        }
    }
    writeln!(out, "\n## How the numbers are known")?;
    for part in &report.parts {
        writeln!(out)?;
        if report.is_of_several() {
            writeln!(out, "{}\n", verbatim(&part.host))?;
        }
        list(part.known(), out)?;
    }
    Ok(())
}

/// All hosts.
fn together(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n## All hosts")?;
    report.headline_together().iter().try_for_each(|line| writeln!(out, "\n{}", verbatim(line)))?;
    for by in report.tables_together() {
        let (grid, left_out) = report.grid_together(by);
        writeln!(out, "\n### All hosts by {}\n", by.name())?;
        table(&grid, out)?;
        if let Some(left_out) = left_out {
            writeln!(out, "\n{left_out}")?;
        }
    }
    Ok(())
}

/// Findings and failures, one heading level deeper if each recording has its own heading.
fn findings(part: &Part<'_>, of_several: bool, out: &mut dyn Write) -> io::Result<()> {
    let level = if of_several { "###" } else { "##" };
    writeln!(out, "\n{level} Findings\n")?;
    let rendered = part.findings();
    if rendered.is_empty() {
        writeln!(out, "{NONE}")?;
    }
    for finding in rendered {
        finding_of(&finding, &format!("{level}#"), out)?;
    }
    writeln!(out, "\n_{}_", part.orientation())?;
    let failures = part.failures();
    if !failures.rows.is_empty() {
        writeln!(out, "\n{level} Failures\n")?;
        table(&failures, out)?;
    }
    Ok(())
}

fn finding_of(finding: &RenderedFinding, level: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{level} {}: {}\n", finding.state, finding.id)?;
    writeln!(out, "{}: {}\n", verbatim(&finding.subject), prose(&finding.title))?;
    list(finding.about.iter().cloned(), out)?;
    let heads = vec![Head::left("EVIDENCE"), Head::right("VALUE")];
    let rows = finding.evidence.iter().cloned().map(|(name, value)| vec![name, value]).collect();
    writeln!(out)?;
    table(&Grid { heads, rows }, out)?;
    writeln!(out)?;
    for (index, advice) in finding.advice.iter().enumerate() {
        writeln!(out, "{}. {} ({})", index + 1, prose(&advice.text), advice.id)?;
        if let Some(command) = &advice.command {
            let what = if words::is_shell(command) { "command, check it before you run it" } else { "setting" };
            writeln!(out, "   - {what}: {}", code(command))?;
        }
        if !advice.effects.is_empty() {
            writeln!(out, "   - effect: {}", prose(&advice.effects))?;
        }
        writeln!(out, "   - risk: {}", prose(&advice.risk))?;
    }
    writeln!(out, "\n- confidence {}\n- recheck: {}\n", prose(finding.confidence), prose(&finding.recheck))
}

/// One finding by itself, for a message to others: where and when, and all of its evidence and advice.
///
/// # Errors
/// The output cannot be written to.
pub fn write_finding(finding: &Finding, snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    finding_of(&RenderedFinding::of(finding, snapshot), "###", out)?;
    let summary = snapshot.summary();
    let time = text::rfc3339(failures::unix_ns(&summary.window, summary.window.now_ns));
    let traced = text::seconds(summary.window.seconds());
    let host = match text::clean(&summary.host.hostname) {
        name if name.is_empty() => "(unnamed)".to_owned(),
        name => verbatim(&name).into_owned(),
    };
    writeln!(out, "Host {host}, {time}, traced for {traced} by twtrace.")
}

/// Clean text from the core, in which code marks are intended: code between them, outside of them plain text. A text
/// with unbalanced marks becomes code as a whole.
fn prose(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return code(text);
    }
    let part = |(index, part): (usize, &&str)| {
        if index % 2 == 1 {
            return code(part);
        }
        let mut escaped = String::with_capacity(part.len());
        for letter in part.chars() {
            if letter.is_ascii_punctuation() && !" .,:;/%+-()'\"=?".contains(letter) {
                escaped.push('\\');
            }
            escaped.push(letter);
        }
        escaped
    };
    parts.iter().enumerate().map(part).collect()
}

fn list(all: impl IntoIterator<Item = (&'static str, String)>, out: &mut dyn Write) -> io::Result<()> {
    all.into_iter().try_for_each(|(title, text)| writeln!(out, "- {title}: {}", verbatim(&text)))
}

fn timeline(timeline: &Timeline<'_>, out: &mut dyn Write) -> io::Result<()> {
    let pieces = timeline.pieces(INTERVALS);
    if pieces.is_empty() {
        return Ok(());
    }
    let sum = |piece: &[Point<'_>], of: fn(&Point<'_>) -> u64| piece.iter().map(of).sum::<u64>();
    let per_s = |piece: &[Point<'_>], of: fn(&Point<'_>) -> u64| text::rate(sum(piece, of) as f64 / length(piece));
    let rows = pieces.iter().map(|piece| {
        let alive = piece.iter().filter_map(|point| point.moment.kernel_time_wait).max();
        vec![
            piece.first().map_or_else(String::new, |point| text::time_of_day(point.unix_ns)),
            per_s(piece, |point| point.moment.created),
            per_s(piece, |point| point.moment.connections),
            text::count(sum(piece, |point| point.moment.errors())),
            text::count(sum(piece, |point| point.moment.overflowed)),
            alive.map_or_else(|| "-".to_owned(), text::count),
        ]
    });
    let grid = Grid {
        heads: vec![
            Head::left("FROM (UTC)"),
            Head::right("CREATED/S"),
            Head::right("CONNECTIONS/S"),
            Head::right("ERRORS"),
            Head::right("OVERFLOWED"),
            Head::right("ALIVE (KERNEL)"),
        ],
        rows: rows.collect(),
    };
    writeln!(out)?;
    table(&grid, out)
}

/// Writes a table; nothing when it has no rows.
pub(crate) fn table(grid: &Grid, out: &mut dyn Write) -> io::Result<()> {
    if grid.rows.is_empty() {
        return Ok(());
    }
    let line = |cells: Vec<Cow<'_, str>>| format!("| {} |", cells.join(" | "));
    writeln!(out, "{}", line(grid.heads.iter().map(|head| Cow::Borrowed(head.title)).collect()))?;
    let rules = grid.heads.iter().map(|head| Cow::Borrowed(if head.right { "---:" } else { "---" }));
    writeln!(out, "{}", line(rules.collect()))?;
    for row in &grid.rows {
        // A bar ends the cell even in code, unless it is escaped by a backslash.
        let cells = row.iter().map(|cell| verbatim(cell).replace('|', "\\|").into());
        writeln!(out, "{}", line(cells.collect()))?;
    }
    Ok(())
}

/// Clean text without any markup: unchanged if it has only letters, digits and harmless signs, else as code. Code has
/// no links, no mentions, no HTML. Underscores are too common for that, and escaped.
pub(crate) fn verbatim(text: &str) -> Cow<'_, str> {
    let harmless = |letter: char| letter.is_alphanumeric() || " .,:;/%+-()≥→~'_".contains(letter);
    let links = ["://", "www.", "~~"].iter().any(|part| text.to_ascii_lowercase().contains(part));
    if text.chars().all(harmless) && !links {
        return if text.contains('_') { text.replace('_', "\\_").into() } else { Cow::Borrowed(text) };
    }
    Cow::Owned(code(text))
}

/// Text as code, whatever is in it.
fn code(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // Backticks at an end would be read as part of the fence.
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn nothing_hostile_is_markdown() {
        for (text, expected) in [
            ("10.0.0.1:443 (34.0%)", "10.0.0.1:443 (34.0%)"),
            ("_a_b", "\\_a\\_b"),
            ("a_b*c", "`a_b*c`"),
            ("<img src=x>", "`<img src=x>`"),
            ("[x](javascript:1)", "`[x](javascript:1)`"),
            ("@team #1", "`@team #1`"),
            ("https://evil", "`https://evil`"),
            ("WWW.evil.com", "`WWW.evil.com`"),
            ("a`b``c", "```a`b``c```"),
            ("`", "`` ` ``"),
            ("~~a~~", "`~~a~~`"),
        ] {
            assert_eq!(verbatim(text), expected);
        }
        for (text, expected) in [
            ("Use `ip address`, or <b>", "Use `ip address`, or \\<b\\>"),
            ("tcp_tw_reuse = 1 -> [x](y) @z *", "tcp\\_tw\\_reuse = 1 -\\> \\[x\\](y) \\@z \\*"),
            ("a`b", "``a`b``"),
        ] {
            assert_eq!(prose(text), expected);
        }
        let grid =
            Grid { heads: vec![Head::right("A"), Head::left("B")], rows: vec![vec!["a|b".to_owned(), "1".to_owned()]] };
        let mut out = Vec::new();
        table(&grid, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "| A | B |\n| ---: | --- |\n| `a\\|b` | 1 |\n");
    }
}
