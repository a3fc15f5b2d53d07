//! Connections at regular intervals: a health check, a poller.

use super::advice;
use super::context::{DESTINATIONS, MOST, RuleContext};
use super::habit::Habit;
use crate::event::{Comm, Role};
use crate::evidence::Evidence;
use crate::finding::{Confidence, Finding, Rule, Severity, Subject};
use crate::pattern::Pattern;
use crate::snapshot::{DestKey, DestinationRow};
use std::collections::{BTreeMap, BTreeSet};

/// Number of intervals that counts as a rhythm.
const INTERVALS: u64 = 5;

/// Shorter intervals are load, not a rhythm, in seconds.
const SHORTEST_S: f64 = 0.3;

/// Maximum ratio of the intervals' standard deviation to their mean.
const SPREAD: f64 = 0.2;

/// Whether connections come at regular intervals.
fn is_rhythm(pattern: &Pattern) -> bool {
    let (intervals, mean_s, spread) = pattern.gaps();
    intervals >= INTERVALS && mean_s >= SHORTEST_S && spread <= SPREAD
}

/// Whether connections at this rate are the regular ones of a destination, and not another process's in addition.
pub(super) fn is_of_rhythm(pattern: &Pattern, rate_per_s: f64) -> bool {
    let (_, mean_s, _) = pattern.gaps();
    is_rhythm(pattern) && rate_per_s * mean_s <= 2.0
}

/// Regular connections to one destination.
struct Regular<'a> {
    key: DestKey,
    row: &'a DestinationRow,
    subject: Option<Subject>,
}

/// Those of all programs, except what is reported already.
pub(super) fn check(context: &RuleContext<'_>, reported: &[Habit]) -> Vec<Finding> {
    let mut programs: BTreeMap<Option<(u32, u32, Comm)>, Vec<Regular<'_>>> = BTreeMap::new();
    for (key, row) in context.destinations.iter().filter(|(key, _)| key.role == Role::Active) {
        let pattern = &row.pattern;
        let is_reported = || context.pairs_of(*key).any(|pair| reported.iter().any(|habit| habit.is_about(pair)));
        if !is_rhythm(pattern) || (pattern.one_shots as f64) < MOST * pattern.opened as f64 || is_reported() {
            continue;
        }
        let most = context.pairs_of(*key).max_by_key(|pair| (pair.pair.pattern.opened, pair.owner.key));
        let processes = context.pairs_of(*key).count() as u64;
        let subject = most.map(|pair| {
            let process = Some(pair.owner.key).filter(|_| processes == 1);
            Subject { process, processes, ..Subject::of(pair.owner) }
        });
        let program = subject.map(|subject| (key.netns, subject.ppid, subject.command));
        programs.entry(program).or_default().push(Regular { key: *key, row, subject });
    }
    let mut found = Vec::new();
    for (program, all) in programs {
        // Checks of many destinations are one finding.
        if program.is_some() && all.len() >= DESTINATIONS {
            found.push(finding(context, &all, None));
        } else {
            found.extend(all.iter().map(|one| finding(context, std::slice::from_ref(one), Some(one.key))));
        }
    }
    found
}

/// `destination`: if there is only one.
fn finding(context: &RuleContext<'_>, all: &[Regular<'_>], destination: Option<DestKey>) -> Finding {
    let mean_s = |row: &DestinationRow| row.pattern.gaps().1;
    let sum = |of: fn(&DestinationRow) -> u64| all.iter().map(|one| of(one.row)).sum::<u64>();
    let mut evidence = vec![Evidence::Connections(sum(|row| row.pattern.opened))];
    if let [one] = all {
        let (_, mean_s, spread) = one.row.pattern.gaps();
        evidence.extend([Evidence::IntervalS(mean_s), Evidence::IntervalSpread(spread)]);
    } else {
        evidence.insert(0, Evidence::Destinations(all.len() as u64));
        evidence.push(Evidence::RatePerS(all.iter().map(|one| 1.0 / mean_s(one.row)).sum()));
    }
    evidence.push(Evidence::TimeWaitLive(sum(|row| row.counts.time_wait_live)));
    let processes: BTreeSet<_> = all.iter().map(|one| one.subject.and_then(|subject| subject.process)).collect();
    let process = all.first().and_then(|one| one.subject).map(|subject| match processes.len() {
        1 => subject,
        several => Subject { process: None, processes: subject.processes.max(several as u64), ..subject },
    });
    Finding {
        rule: Rule::PeriodicChecks,
        severity: Severity::Info,
        active: all.iter().any(|one| context.goes_on(one.row.pattern.ended_ns, 1.0 / mean_s(one.row))),
        process,
        destination,
        cause: None,
        title: match destination {
            Some(_) => "connects at regular intervals, as a health check does",
            None => "connects to many destinations at regular intervals, as health checks do",
        }
        .to_owned(),
        evidence,
        advice: vec![advice::plain(
            "slow-down",
            "No change is needed unless there are very many such checks: at this rate they use hardly any ports.",
            "None.",
        )],
        confidence: Confidence::Medium,
        recheck: "Nothing to check.".to_owned(),
    }
}
