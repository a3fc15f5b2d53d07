//! Many short-lived processes under one parent, with a connection or two each.

use super::advice;
use super::case::{Case, LEAST_PER_S, MANY, MOST, Pair};
use super::no_reuse::replaced;
use crate::finding::{Confidence, Finding, Party, Rule, Severity, Value};
use crate::input::{Comm, Role};
use crate::ledger::Map;
use crate::model::DestKey;
use crate::pattern::Pattern;

/// Connections of a process that is run for one request.
const FEW: u64 = 3;

/// Processes that make a habit.
const PROCESSES: u64 = 10;

#[derive(Default)]
struct Group {
    pattern: Pattern,
    processes: u64,
    made: u64,
    party: Option<Party>,
}

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut groups: Map<(u32, Comm, DestKey), Group> = Map::default();
    for Pair { pair, owner, key, .. } in &case.pairs {
        if key.role != Role::Active || !(1..=FEW).contains(&pair.pattern.opened) {
            continue;
        }
        let group = groups.entry((owner.ppid, owner.parent_comm, *key)).or_default();
        group.pattern.absorb(&pair.pattern);
        group.processes += 1;
        group.made += pair.time_wait_made;
        group.party.get_or_insert(Party::of(owner));
    }
    let mut all: Vec<_> = groups.into_iter().collect();
    all.sort_unstable_by_key(|((ppid, comm, key), _)| (*key, *ppid, *comm));
    all.into_iter().filter_map(|((_, _, key), group)| finding(case, key, &group)).collect()
}

fn finding(case: &Case<'_>, key: DestKey, group: &Group) -> Option<Finding> {
    let pattern = &group.pattern;
    let rate_per_s = pattern.rate_per_s();
    let habit = replaced(pattern.opened, rate_per_s, pattern.lifetime_s())
        && group.processes >= PROCESSES
        && pattern.opened >= MANY
        && rate_per_s >= LEAST_PER_S
        && pattern.one_shots as f64 >= MOST * pattern.opened as f64;
    if !habit {
        return None;
    }
    let party = Party { process: None, processes: group.processes, ..group.party? };
    // Wherever on this host they are made.
    let made = group.made as f64 + case.made_by_local_peer(key, pattern.opened);
    let made_per_s = rate_per_s * (made / pattern.opened as f64).min(1.0);
    let lifetime_s = pattern.lifetime_s();
    Some(Finding {
        rule: Rule::ForkPerRequest,
        severity: Severity::Info,
        holds: case.goes_on(pattern.ended_ns, rate_per_s),
        process: Some(party),
        destination: Some(key),
        cause: None,
        title: "runs a process with a connection of its own for each request".to_owned(),
        evidence: vec![
            ("processes", Value::Count(group.processes)),
            ("connections", Value::Count(pattern.opened)),
            ("rate_per_s", Value::Number(rate_per_s)),
            ("lifetime_ms", Value::Number(lifetime_s * 1e3)),
            ("request_bytes", Value::Count(pattern.request_bytes / pattern.one_shots.max(1))),
            ("time_wait_made", Value::Count(group.made)),
        ],
        advice: vec![advice::one_process(rate_per_s, made_per_s, lifetime_s)],
        // Whose parent is gone belongs to init, and to everybody else like that.
        confidence: if party.ppid > 1 { Confidence::Medium } else { Confidence::Low },
        recheck: "After the change there is one process with one connection that stays.".to_owned(),
    })
}
