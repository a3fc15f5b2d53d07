//! Two moments side by side: what was created between them, what is alive, whose ports filled up, and which findings began
//! or ended.

use crate::tui::state::State;
use ratatui::text::{Line, Span};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;
use twtrace_core::finding::Finding;
use twtrace_core::snapshot::{Counts, DestRow, GroupBy, Snapshot};
use twtrace_view::{failures, findings, label, order, text};

/// Programs, destinations and findings that are listed at most, each.
const ROWS: usize = 30;

/// Cells of a name.
const NAME: usize = 30;

/// The comparison of the marked moment with the one on the screen, the earlier one first.
pub(super) fn lines(snapshot: &Snapshot, state: &State, width: usize) -> Vec<Line<'static>> {
    let look = state.look;
    let Some(marked) = &state.mark else { return Vec::new() };
    let marked: &Snapshot = marked;
    let (before, after) = if now_ns(marked) <= now_ns(snapshot) { (marked, snapshot) } else { (snapshot, marked) };
    let time = |snapshot: &Snapshot| text::time_of_day(unix_ns(snapshot));
    let between = text::duration(Duration::from_nanos(now_ns(after) - now_ns(before)));
    let mut lines =
        vec![Line::from(Span::styled(format!("{} to {} UTC, {between}", time(before), time(after)), look.accent()))];
    let head = |lines: &mut Vec<Line<'static>>, title: &str| {
        lines.push(Line::raw(""));
        lines.push(Line::from(Span::styled(text::fit(title, width).into_owned(), look.head())));
    };
    let figures = |name: &str, one: &Counts, other: &Counts| {
        let created = text::count(other.time_wait_created.saturating_sub(one.time_wait_created));
        let live = format!("{} -> {}", text::count(one.time_wait_live), text::count(other.time_wait_live));
        let rate = format!("{} -> {}", text::rate(one.created_per_s), text::rate(other.created_per_s));
        let failed = text::count(order::errors(other).saturating_sub(order::errors(one)));
        let name = text::pad(text::fit(name, NAME).as_ref(), NAME, false).to_string();
        let cells = [(created, 10), (live, 20), (rate, 20), (failed, 8)];
        let cells: Vec<String> = cells.iter().map(|(cell, width)| text::pad(cell, *width, true).to_string()).collect();
        Line::raw(text::fit(&format!("{name} {}", cells.join(" ")), width).into_owned())
    };
    head(&mut lines, "PROGRAM                           CREATED                 LIVE            CREATED/S   ERRORS");
    lines.push(figures("all", &before.summary().totals.counts, &after.summary().totals.counts));
    let nothing = Counts::default();
    let mut programs: BTreeMap<u64, (String, &Counts, &Counts)> = BTreeMap::new();
    for row in before.rows(GroupBy::Program) {
        programs.insert(row.id, (label::group(row, before), &row.counts, &nothing));
    }
    for row in after.rows(GroupBy::Program) {
        let name = || (label::group(row, after), &nothing, &nothing);
        programs.entry(row.id).or_insert_with(name).2 = &row.counts;
    }
    let mut programs: Vec<_> = programs.into_values().filter(|(_, one, other)| one != other).collect();
    programs.sort_by_key(|(name, one, other)| {
        let live = other.time_wait_live.abs_diff(one.time_wait_live);
        (Reverse(other.time_wait_created.saturating_sub(one.time_wait_created)), Reverse(live), name.clone())
    });
    lines.extend(programs.iter().take(ROWS).map(|(name, one, other)| figures(name, one, other)));

    let ports = ports(before, after);
    if !ports.is_empty() {
        head(&mut lines, "PORTS IN USE");
    }
    let line = |(name, one, other): &(String, f64, f64)| {
        let name = text::pad(text::fit(name, NAME).as_ref(), NAME, false).to_string();
        Line::raw(format!("{name} {} -> {}", text::percent(*one), text::percent(*other)))
    };
    lines.extend(ports.iter().take(ROWS).map(line));

    let name = |finding: &Finding, of: &Snapshot| {
        format!(
            "{} {} {}",
            findings::severity(finding.severity),
            finding.rule.name(),
            findings::subject(finding, Some(of))
        )
    };
    for (title, of, other) in [("FINDINGS THAT BEGAN", after, before), ("FINDINGS THAT ENDED", before, after)] {
        let is_there = |finding: &&Finding| {
            let key = |one: &Finding| (findings::id(one), one.rule, one.severity);
            other.findings().iter().any(|one| one.active && key(one) == key(finding))
        };
        let found = findings::sorted(of.findings()).into_iter().filter(|finding| finding.active && !is_there(finding));
        let found: Vec<&Finding> = found.take(ROWS).collect();
        if !found.is_empty() {
            head(&mut lines, title);
        }
        lines.extend(found.iter().map(|finding| Line::raw(text::fit(&name(finding, of), width).into_owned())));
    }
    lines
}

fn now_ns(snapshot: &Snapshot) -> u64 {
    snapshot.summary().window.now_ns
}

/// Wall clock of its moment, nanoseconds since the Unix epoch.
fn unix_ns(snapshot: &Snapshot) -> i128 {
    failures::unix_ns(&snapshot.summary().window, now_ns(snapshot))
}

/// Destinations whose ports are used more or less by a hundredth at least, the largest changes first.
fn ports(before: &Snapshot, after: &Snapshot) -> Vec<(String, f64, f64)> {
    let mut shares: BTreeMap<DestRow, (String, f64, f64)> = BTreeMap::new();
    for (snapshot, is_after) in [(before, false), (after, true)] {
        for row in snapshot.destinations() {
            let Some(budget) = &row.budget else { continue };
            let name = || (label::destination(&row.key, row.folded), 0.0, 0.0);
            let (_, one, other) = shares.entry(row.key).or_insert_with(name);
            *(if is_after { other } else { one }) = budget.utilization;
        }
    }
    let mut all: Vec<(String, f64, f64)> = shares.into_values().collect();
    all.retain(|(_, one, other)| (one - other).abs() >= 0.01);
    all.sort_by(|(_, a, b), (_, c, d)| (c - d).abs().total_cmp(&(a - b).abs()));
    all
}
