//! A server closes each connection after one request, and so keeps the TIME_WAIT sockets, on its own port.

use super::advice;
use super::context::{LEAST_PER_S, MANY, MOST, RuleContext};
use super::habit::Habit;
use super::no_reuse::{NEARLY_ALL, replaced};
use crate::event::{Comm, Role};
use crate::evidence::Evidence;
use crate::finding::{Confidence, Finding, Rule, Severity, Subject};

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Habit> {
    let mut found = Vec::new();
    for (key, row) in &context.destinations {
        let pattern = &row.pattern;
        let rate_per_s = pattern.rate_per_s();
        let share = |count: u64| count as f64 >= MOST * pattern.accepted as f64;
        let habit = key.role == Role::Passive
            && replaced(pattern.accepted, rate_per_s, pattern.lifetime_s())
            && pattern.accepted >= MANY
            && rate_per_s >= LEAST_PER_S
            && share(pattern.closed_first)
            && share(pattern.one_shots);
        if !habit {
            continue;
        }
        let most = context.pairs_of(*key).max_by_key(|pair| (pair.pair.pattern.accepted, pair.owner.key));
        let servers = context.pairs_of(*key).count() as u64;
        // A worker is named only if it accepted nearly all connections.
        let subject = most.map(|pair| {
            let all = pair.pair.pattern.accepted as f64 >= NEARLY_ALL * pattern.accepted as f64;
            if all {
                Subject::of(pair.owner)
            } else {
                Subject { process: None, processes: servers, ..Subject::of(pair.owner) }
            }
        });
        let created_per_s = rate_per_s * (row.counts.time_wait_created as f64 / pattern.accepted as f64).min(1.0);
        let finding = Finding {
            rule: Rule::ServerClosesFirst,
            severity: Severity::Info,
            active: context.habit_goes_on(pattern),
            process: subject,
            destination: Some(*key),
            cause: None,
            title: "closes first after one request: it keeps the TIME_WAIT sockets, which cost memory and no ports"
                .to_owned(),
            evidence: vec![
                Evidence::Connections(pattern.accepted),
                Evidence::ClosedFirst(pattern.closed_first),
                Evidence::RatePerS(rate_per_s),
                Evidence::LifetimeMs(pattern.lifetime_s() * 1e3),
                Evidence::RequestBytes(pattern.request_bytes / pattern.one_shots.max(1)),
                Evidence::Processes(servers),
                Evidence::TimeWaitCreated(row.counts.time_wait_created),
            ],
            advice: vec![advice::keep_alive(&most.map_or(Comm::default(), |pair| pair.owner.comm), created_per_s)],
            // A client that asks the server to close leaves the same pattern.
            confidence: Confidence::Medium,
            recheck:
                "After the change, connections on this port stay open, and hardly any TIME_WAIT sockets are created."
                    .to_owned(),
        };
        found.push(Habit::of(finding, row.counts.time_wait_created));
    }
    found
}
