//! Connections at regular intervals: a health check, a poller.

use super::advice;
use super::context::{MOST, RuleContext};
use crate::event::Role;
use crate::evidence::Evidence;
use crate::finding::{Confidence, Finding, Rule, Severity, Subject};
use crate::pattern::Pattern;

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

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (key, row) in context.destinations.iter().filter(|(key, _)| key.role == Role::Active) {
        let pattern = &row.pattern;
        let (_, mean_s, spread) = pattern.gaps();
        if !is_rhythm(pattern) || (pattern.one_shots as f64) < MOST * pattern.opened as f64 {
            continue;
        }
        let most = context.pairs_of(*key).max_by_key(|pair| (pair.pair.pattern.opened, pair.owner.key));
        let processes = context.pairs_of(*key).count() as u64;
        let subject = most.map(|pair| {
            let process = Some(pair.owner.key).filter(|_| processes == 1);
            Subject { process, processes, ..Subject::of(pair.owner) }
        });
        let rate_per_s = 1.0 / mean_s;
        found.push(Finding {
            rule: Rule::PeriodicChecks,
            severity: Severity::Info,
            active: context.goes_on(pattern.ended_ns, rate_per_s),
            process: subject,
            destination: Some(*key),
            cause: None,
            title: "connects at regular intervals, as a health check does".to_owned(),
            evidence: vec![
                Evidence::Connections(pattern.opened),
                Evidence::IntervalS(mean_s),
                Evidence::IntervalSpread(spread),
                Evidence::TimeWaitLive(row.counts.time_wait_live),
            ],
            advice: vec![advice::plain(
                "slow-down",
                "No change is needed unless there are very many such checks: at this rate they use hardly any ports.",
                "None.",
            )],
            confidence: Confidence::Medium,
            recheck: "Nothing to check.".to_owned(),
        });
    }
    found
}
