//! A server closes each connection after one request, and so keeps the TIME_WAIT sockets, on its own port.

use super::advice;
use super::context::{LEAST_PER_S, MANY, MOST, RuleContext, keeps_others};
use super::habit::Habit;
use super::no_reuse::{NEARLY_ALL, replaced};
use super::settings;
use crate::event::{Comm, Role};
use crate::evidence::Evidence;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};
use crate::pattern::Pattern;

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
        let most = context.most_accepting(*key);
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
        let comm = most.map_or(Comm::default(), |pair| pair.owner.comm);
        let why = Why::of(pattern, &comm);
        let finding = Finding {
            rule: Rule::ServerClosesFirst,
            severity: Severity::Info,
            active: context.habit_goes_on(pattern),
            process: subject,
            destination: Some(*key),
            cause: None,
            title: why.title(),
            evidence: vec![
                Evidence::Connections(pattern.accepted),
                Evidence::ClosedFirst(pattern.closed_first),
                Evidence::RatePerS(rate_per_s),
                Evidence::LifetimeMs(pattern.lifetime_s() * 1e3),
                Evidence::RequestBytes(pattern.request_bytes / pattern.one_shots.max(1)),
                Evidence::Processes(servers),
                Evidence::TimeWaitCreated(row.counts.time_wait_created),
            ],
            advice: why.advice(&comm, created_per_s),
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

/// Why a server closes first.
#[derive(Clone, Copy)]
enum Why {
    /// It keeps other connections on this port open: the clients of these ask it to close.
    IsAsked,
    /// It keeps connections open unless it is asked to close them, or configured otherwise.
    IsAskedOrConfigured,
    /// That is not known.
    Unknown,
}

impl Why {
    fn of(port: &Pattern, server: &Comm) -> Self {
        if keeps_others(port) {
            Self::IsAsked
        } else if settings::keeps_alive(server) {
            Self::IsAskedOrConfigured
        } else {
            Self::Unknown
        }
    }

    fn title(self) -> String {
        let how = match self {
            Self::IsAsked => "closes first at the request of its clients",
            Self::IsAskedOrConfigured => "closes first, at the request of its clients or by its settings",
            Self::Unknown => "closes first after one request",
        };
        format!("{how}: it keeps the TIME_WAIT sockets, which cost memory and no ports")
    }

    fn advice(self, server: &Comm, created_per_s: f64) -> Vec<Advice> {
        let of_clients = || advice::keep_alive_clients(created_per_s);
        let of_server = || advice::keep_alive(server, created_per_s);
        match self {
            Self::IsAsked => vec![of_clients()],
            Self::IsAskedOrConfigured => vec![of_clients(), of_server()],
            Self::Unknown => vec![of_server()],
        }
    }
}
