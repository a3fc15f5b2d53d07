//! A process that opens a connection for each one that it accepts, and passes on what it reads: a TCP or TLS proxy, a
//! sidecar, docker-proxy. It has nothing to pool: how many connections there are is up to its clients.

use super::advice::{self, effect};
use super::context::{MANY, MOST, Pair, RuleContext};
use super::habit::Habit;
use super::leads_to;
use super::no_reuse::Churn;
use crate::event::{Owner, ProcessKey, Role};
use crate::evidence::Evidence;
use crate::finding::{Advice, Finding, Rule, Severity};
use crate::pattern::Pattern;
use crate::snapshot::DestKey;
use crate::table::Map;
use std::ops::RangeInclusive;

/// The numbers of accepted and opened connections differ by at most this share.
const ALIKE: f64 = 0.1;

/// Mean payloads that differ by at most this many bytes are the same.
const SAME_BYTES: f64 = 16.0;

/// What TLS adds to the payload of a connection of the front, in bytes: to a request, and to an answer (a resumed session
/// without a certificate, or a chain of several).
const TLS: (RangeInclusive<f64>, RangeInclusive<f64>) = (150.0..=3_000.0, 200.0..=8_000.0);

/// A relay.
pub(super) struct Relay {
    owner: Owner,
    /// The ports on which it accepts.
    pub(super) fronts: Vec<DestKey>,
    accepted: u64,
}

/// All of them.
pub(super) fn relays(context: &RuleContext<'_>) -> Vec<Relay> {
    let mut processes: Map<ProcessKey, (Pattern, Pattern, Vec<DestKey>)> = Map::default();
    for Pair { pair, owner, key, .. } in &context.pairs {
        if key.role == Role::Passive && pair.pattern.accepted > 0 {
            let (front, _, fronts) = processes.entry(owner.key).or_default();
            front.absorb(&pair.pattern);
            fronts.push(*key);
        }
    }
    for Pair { pair, owner, key, .. } in context.pairs.iter().filter(|pair| pair.key.role == Role::Active) {
        // A process that connects to itself passes nothing on: both ends are of one connection.
        if let Some((_, back, fronts)) = processes.get_mut(&owner.key)
            && !fronts.iter().any(|front| leads_to(*key, *front))
        {
            back.absorb(&pair.pattern);
        }
    }
    let are = processes.into_iter().filter(|(_, (front, back, _))| passes_on(front, back));
    let relay = |(process, (front, _, fronts))| {
        let owner = *context.pairs.iter().find(|pair| pair.owner.key == process)?.owner;
        Some(Relay { owner, fronts, accepted: Pattern::connections(&front) })
    };
    let mut relays: Vec<Relay> = are.filter_map(relay).collect();
    relays.sort_unstable_by_key(|relay| relay.owner.key);
    relays
}

/// Whether what one side sends is what the other side gets.
fn passes_on(front: &Pattern, back: &Pattern) -> bool {
    let (accepted, opened) = (front.accepted as f64, back.opened as f64);
    let is_short = |pattern: &Pattern| pattern.one_shots as f64 >= MOST * pattern.connections() as f64;
    if back.opened < MANY || (accepted - opened).abs() > ALIKE * accepted || !is_short(front) || !is_short(back) {
        return false;
    }
    let mean = |pattern: &Pattern, bytes: u64| bytes as f64 / pattern.one_shots.max(1) as f64;
    let more_asked = mean(front, front.request_bytes) - mean(back, back.request_bytes);
    let more_answered = mean(front, front.response_bytes) - mean(back, back.response_bytes);
    let has_payload = back.request_bytes + back.response_bytes > 0;
    let is_same = more_asked.abs() <= SAME_BYTES && more_answered.abs() <= SAME_BYTES;
    has_payload && (is_same || TLS.0.contains(&more_asked) && TLS.1.contains(&more_answered))
}

impl Relay {
    /// Whether a habit is that of this relay at its back.
    pub(super) fn is(&self, churn: &Churn<'_>) -> bool {
        churn.subject.process == Some(self.owner.key)
    }
}

/// What a relay opens and closes is up to its clients on this host: they are at fault, and what it leaves behind would be gone
/// with theirs.
pub(super) fn blame_clients(
    context: &RuleContext<'_>,
    relays: &[Relay],
    relayed: &[(Churn<'_>, bool)],
    churns: &mut [(Churn<'_>, bool)],
) {
    for (churn, at_fault) in churns {
        let opened = churn.pattern.opened as f64;
        let has_front = |relay: &&Relay| relay.fronts.iter().any(|front| leads_to(churn.key, *front));
        // Those that share the front.
        let accepted: u64 = relays.iter().filter(has_front).map(|relay| relay.accepted).sum();
        for relay in relays.iter().filter(has_front) {
            let backs = relayed.iter().filter(|(back, _)| relay.is(back));
            *at_fault |= backs.clone().any(|(back, _)| !context.is_servers_doing(back.key, &back.pattern));
            let share = (opened / accepted.max(1) as f64).min(1.0);
            let opens_more = share * backs.map(|(back, _)| back.created_per_s).sum::<f64>();
            churn.created_per_s += opens_more;
            if opens_more > 0.0 {
                churn.relay = Some(relay.owner);
            }
        }
    }
}

/// Whether most connections to a port come through relays.
pub(super) fn is_behind(context: &RuleContext<'_>, relayed: &[(Churn<'_>, bool)], port: DestKey) -> bool {
    let through = || relayed.iter().map(|(churn, _)| churn).filter(|churn| leads_to(churn.key, port));
    let accepted = context.row(port).map_or(0, |row| row.pattern.accepted);
    let opened: u64 = through().map(|churn| churn.pattern.opened).sum();
    opened as f64 >= MOST * accepted as f64
        && !through().any(|churn| context.is_servers_doing(churn.key, &churn.pattern))
}

/// Their churn. Clients on this host are among the habits of `others`: they are the cause, and unless a relay takes many of
/// its ports, there is no more to say.
pub(super) fn check(
    context: &RuleContext<'_>,
    relays: &[Relay],
    churns: &[(Churn<'_>, bool)],
    others: &[Habit],
) -> Vec<Habit> {
    let mut found = Vec::new();
    for (churn, _) in churns {
        let Some(relay) = relays.iter().find(|relay| relay.is(churn)) else { continue };
        let mut finding = churn.finding(context);
        let mut destinations = others.iter().flat_map(|habit| &habit.destinations);
        let has_clients = destinations.any(|to| relay.fronts.iter().any(|front| leads_to(*to, *front)));
        if has_clients && finding.severity == Severity::Info {
            continue;
        }
        finding.evidence.insert(0, Evidence::Accepted(relay.accepted));
        let finding = Finding {
            rule: Rule::Relay,
            title: "opens a connection for each one that it accepts: its clients open a new one for each request"
                .to_owned(),
            advice: advice(context, churn),
            recheck: "After the change the relay accepts and opens hardly any new connections.".to_owned(),
            ..finding
        };
        found.push(Habit::of(finding, churn.pattern.time_wait));
    }
    found
}

fn advice(context: &RuleContext<'_>, churn: &Churn<'_>) -> Vec<Advice> {
    let fewer = vec![effect("time_wait_created_per_s", churn.created_per_s, 0.0)];
    let mut all = vec![Advice {
        id: "keep-alive-clients",
        text: "Let the clients keep their connections open and use them again: the relay then does the same. A pool in the \
               relay is not possible, unless it understands the protocol (for HTTP: a proxy in HTTP mode)."
            .to_owned(),
        command: None,
        effect: fewer.clone(),
        risk: "Each idle connection of a client keeps one of the relay open.".to_owned(),
    }];
    // The kernel's NAT does the same, without a connection of its own.
    if churn.subject.command.bytes() == b"docker-proxy" {
        all.push(Advice {
            id: "no-userland-proxy",
            text: "Let Docker publish ports with NAT alone: then nothing on this host opens a second connection."
                .to_owned(),
            command: Some("\"userland-proxy\": false in /etc/docker/daemon.json, then restart Docker".to_owned()),
            effect: fewer.clone(),
            risk: "Containers are restarted. Published ports no longer answer on ::1; for 127.0.0.1 Docker sets \
                   net.ipv4.conf.*.route_localnet."
                .to_owned(),
        });
    }
    if context.is_local(churn.key) {
        all.push(Advice {
            id: "unix-socket",
            text: "Connect the relay to its backend over a Unix socket: that takes no ports and leaves no TIME_WAIT sockets."
                .to_owned(),
            command: None,
            effect: fewer,
            risk: "The backend has to listen there, and sees no addresses of clients.".to_owned(),
        });
    }
    all.extend(churn.row.budget.and_then(|budget| advice::tw_reuse(context, churn.key, &budget, Some(&churn.subject))));
    all
}
