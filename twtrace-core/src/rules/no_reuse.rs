//! One request per connection: a process opens connections at a rate, each short and with one request's bytes.

use super::advice;
use super::case::{Case, LEAST_PER_S, MANY, MOST, Pair};
use crate::finding::{Confidence, Evidence, Finding, Party, Rule, Severity, Value};
use crate::input::Role;

/// A process that opens one-shots.
pub(super) struct Churn<'c, 'a> {
    pub(super) pair: &'c Pair<'a>,
    pub(super) rate_per_s: f64,
    pub(super) made_per_s: f64,
    pub(super) lifetime_s: f64,
    /// Connections of the process towards the same destination that are there, or were, for a while.
    pub(super) pool: u64,
}

/// All of them, whatever may explain them.
pub(super) fn churns<'c, 'a>(case: &'c Case<'a>) -> impl Iterator<Item = Churn<'c, 'a>> {
    case.pairs.iter().filter_map(|pair| {
        let pattern = &pair.pair.pattern;
        let rate_per_s = pattern.rate_per_s();
        let lifetime_s = pattern.lifetime_s();
        let habit = pair.key.role == Role::Active
            && replaced(pattern.opened, rate_per_s, lifetime_s)
            && pattern.opened >= MANY
            && rate_per_s >= LEAST_PER_S
            && pattern.one_shots as f64 >= MOST * pattern.opened as f64;
        if !habit {
            return None;
        }
        // Wherever on this host they are made.
        let made = pair.pair.time_wait_made as f64 + case.made_by_local_peer(pair.key, pattern.opened);
        let made_share = made / pattern.opened as f64;
        Some(Churn {
            pair,
            rate_per_s,
            made_per_s: rate_per_s * made_share.min(1.0),
            lifetime_s,
            // The pool may have ended with the process.
            pool: case.holds(pair.owner.key, pair.key).min(pair.row.stable).max(pattern.kept.into()),
        })
    })
}

/// Whether connections took each other's place, and were not mostly there at the same time, as those of a pool are that
/// is closed at last.
pub(super) fn replaced(connections: u64, rate_per_s: f64, lifetime_s: f64) -> bool {
    connections as f64 >= 3.0 * rate_per_s * lifetime_s
}

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    // A client that is given no choice by its server is not at fault; a service is, for it has its own configuration.
    let at_fault = |churn: &Churn<'_, '_>| {
        let Pair { pair, owner, key, .. } = churn.pair;
        !case.is_closed_by_local_peer(*key, &pair.pattern) || case.listens(owner.key)
    };
    churns(case).filter(|churn| churn.pool == 0 && at_fault(churn)).map(|churn| finding(case, &churn)).collect()
}

fn finding(case: &Case<'_>, churn: &Churn<'_, '_>) -> Finding {
    let Pair { pair, owner, key, .. } = churn.pair;
    let pattern = &pair.pattern;
    Finding {
        rule: Rule::NoConnectionReuse,
        severity: severity(case, churn),
        holds: case.goes_on(pattern.ended_ns, churn.rate_per_s),
        process: Some(Party::of(owner)),
        destination: Some(*key),
        cause: None,
        title: "opens a new connection for each request".to_owned(),
        evidence: evidence(churn),
        advice: vec![advice::pool(churn.rate_per_s, churn.made_per_s, churn.lifetime_s)],
        confidence: Confidence::Medium,
        recheck: "After the change the process makes hardly any connection towards this destination, and ESTABLISHED \
                  stays at the size of its pool."
            .to_owned(),
    }
}

/// By what it does to the ports: none is in danger while the range sustains the rate with room to spare.
pub(super) fn severity(case: &Case<'_>, churn: &Churn<'_, '_>) -> Severity {
    let hold = case.hold_seconds(churn.pair.key);
    let total = churn.pair.row.budget.map_or(f64::INFINITY, |budget| f64::from(budget.total.max(1)));
    if churn.made_per_s * hold > 0.5 * total { Severity::Warning } else { Severity::Info }
}

/// What a habit is told by.
pub(super) fn evidence(churn: &Churn<'_, '_>) -> Vec<Evidence> {
    let pattern = &churn.pair.pair.pattern;
    let one_shots = pattern.one_shots.max(1);
    vec![
        ("connections", Value::Count(pattern.opened)),
        ("one_request_connections", Value::Count(pattern.one_shots)),
        ("rate_per_s", Value::Number(churn.rate_per_s)),
        ("lifetime_ms", Value::Number(churn.lifetime_s * 1e3)),
        ("request_bytes", Value::Count(pattern.request_bytes / one_shots)),
        ("response_bytes", Value::Count(pattern.response_bytes / one_shots)),
        ("closed_first", Value::Count(pattern.closed_first)),
        ("time_wait_made", Value::Count(churn.pair.pair.time_wait_made)),
    ]
}
