//! bind(2) before connect(2) takes a port for every destination; connect(2) alone takes it for one.

use super::advice;
use super::context::{MANY, RuleContext, is_to};
use super::habit::Habit;
use crate::event::CensusState;
use crate::evidence::Evidence;
use crate::failure::{Call, Cause, FailureRow};
use crate::finding::{Confidence, Finding, Rule, Severity, Subject};
use crate::snapshot::{DestKey, DestinationRow};
use crate::table::Map;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The bound connections of one process.
struct Binder {
    subject: Subject,
    /// The destination with most of them.
    key: DestKey,
    most: u64,
    destinations: BTreeSet<(Option<IpAddr>, u16)>,
    /// Sockets that still use their port, by source address: each has all ports of the range for itself.
    in_use: BTreeMap<IpAddr, u64>,
    /// Open ones, and those that have ended.
    connections: u64,
    last_ns: u64,
    total: u32,
}

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Habit> {
    let mut binders: Map<u32, Binder> = Map::default();
    for (key, row) in &context.destinations {
        let ended = u64::from(row.pattern.bound);
        let bound = row.bound + ended;
        // Only where most connections are bound: an occasional bound one is no habit.
        if bound == 0 || 2 * bound < row.open + row.pattern.opened {
            continue;
        }
        let Some(subject) = subject(context, *key) else { continue };
        let process = subject.process.map_or(0, |process| process.tgid);
        let in_use = row.bound + timewaits(row);
        let total = row.budget.map_or(0, |budget| budget.total);
        let last_ns = if row.bound > 0 { context.now_ns } else { row.pattern.ended_ns };
        let in_use_by = BTreeMap::new();
        let none = Binder {
            subject,
            key: *key,
            most: 0,
            destinations: BTreeSet::new(),
            in_use: in_use_by,
            connections: 0,
            last_ns: 0,
            total,
        };
        let binder = binders.entry(process).or_insert(none);
        if bound > binder.most {
            (binder.key, binder.most) = (*key, bound);
        }
        binder.destinations.insert((key.remote_addr, key.port));
        *binder.in_use.entry(key.local_addr).or_default() += in_use;
        binder.connections += bound;
        binder.last_ns = binder.last_ns.max(last_ns);
        binder.total = binder.total.max(total);
    }
    let mut all: Vec<Binder> = binders.into_values().filter(|binder| binder.is_habit(context)).collect();
    all.sort_unstable_by_key(|binder| binder.key);
    all.iter().map(|binder| Habit::of(finding(context, binder), 0)).collect()
}

impl Binder {
    /// Whether it takes ports. With a fixed one it takes that alone, and finds its last connection in TIME_WAIT.
    fn is_habit(&self, context: &RuleContext<'_>) -> bool {
        let taken = self.failures(context).filter(|row| row.cause == Cause::BoundTupleTaken);
        self.connections >= MANY && 2 * taken.map(|row| row.count).sum::<u64>() <= self.connections
    }

    /// Calls of its process that failed because of bound ports.
    fn failures<'a>(&self, context: &RuleContext<'a>) -> impl Iterator<Item = &'a FailureRow> {
        let process = self.subject.process.map(|process| process.tgid);
        context.snapshot.failures().iter().filter(move |row| {
            row.owner.map(|owner| owner.key.tgid) == process
                && (row.cause == Cause::BoundTupleTaken
                    || row.call == Call::Bind && row.cause == Cause::BoundPoolExhausted)
        })
    }

    /// Ports in use of the source address with the most.
    fn fullest(&self) -> u64 {
        self.in_use.values().copied().max().unwrap_or(0)
    }
}

/// TIME_WAIT sockets of bound connections: they keep the port as well.
fn timewaits(row: &DestinationRow) -> u64 {
    let share = f64::from(row.pattern.bound) / (row.pattern.opened.max(1) as f64);
    (row.counts.time_wait_live as f64 * share.min(1.0)).round() as u64
}

/// The process that binds: the owner of the bound connections that ended, or else of the open connections.
fn subject(context: &RuleContext<'_>, key: DestKey) -> Option<Subject> {
    let ended = context.pairs_of(key).filter(|pair| pair.pair.pattern.bound > 0);
    if let Some(most) = ended.max_by_key(|pair| (pair.pair.pattern.bound, pair.owner.key)) {
        return Some(Subject::of(most.owner));
    }
    let socket_owners = context.socket_owners(|owner| owner.state == CensusState::Established && is_to(owner, key));
    socket_owners.max_by_key(|owner| (owner.sockets, owner.tgid)).map(Subject::of_socket_owner)
}

fn finding(context: &RuleContext<'_>, binder: &Binder) -> Finding {
    let failed: u64 = binder.failures(context).map(|row| row.count).sum();
    let crowded = binder.total > 0 && 2 * binder.fullest() >= u64::from(binder.total);
    let mut evidence = vec![
        Evidence::BoundConnections(binder.connections),
        Evidence::PortsBound(binder.fullest()),
        Evidence::PortsTotal(binder.total.into()),
        Evidence::Destinations(binder.destinations.len() as u64),
        Evidence::SourceAddresses(binder.in_use.len() as u64),
    ];
    if failed > 0 {
        evidence.insert(0, Evidence::Failures(failed));
    }
    Finding {
        rule: Rule::BindBeforeConnect,
        severity: if failed > 0 || crowded { Severity::Warning } else { Severity::Info },
        active: context.goes_on(binder.last_ns, 0.0),
        process: Some(binder.subject),
        destination: Some(binder.key),
        cause: None,
        title: "binds a port before it connects: the port is then taken for every destination".to_owned(),
        evidence,
        advice: vec![advice::bind_address_no_port(binder.fullest(), Some(binder.subject.command))],
        confidence: Confidence::High,
        recheck:
            "After the change none of its ports counts as bound, and two connections to different destinations can \
                  have the same port."
                .to_owned(),
    }
}
