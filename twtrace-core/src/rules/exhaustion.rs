//! No local port is left for a destination, or soon none will be.

use super::advice;
use super::close_wait;
use super::context::{Pair, RuleContext, is_to, name, pid};
use super::habit::{self, Habit};
use super::not_time_wait::subject;
use crate::event::{ProcessKey, SocketOwner};
use crate::evidence::Evidence;
use crate::failure::{Cause, FailureRow};
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};
use crate::ports::{Budget, TIME_WAIT_SECONDS};
use crate::snapshot::{DestKey, DestinationRow};
use crate::table::Map;

mod port_use;
mod slow;
mod titles;

use port_use::{PortUse, port_use};

/// Name of the effect on connects that fail.
const FAILURES: &str = "connect_failures_per_s";

/// Exhaustion further ahead than this is not reported, in seconds.
const NEAR_S: f64 = 600.0;

/// Exhaustion within this time is critical, in seconds.
const IMMINENT_S: f64 = 60.0;

/// Number of TIME_WAIT sockets or open connections from which a rate is more than a guess.
const ENOUGH: u32 = 20;

/// Share of ports in use from which they are nearly gone, whatever the forecast says.
const NEARLY_ALL: f64 = 0.8;

/// Failed connects to one destination.
#[derive(Default)]
struct Reached<'a> {
    count: u64,
    first_ns: u64,
    last_ns: u64,
    /// Of these, failures within the socket's own port range.
    own_range: u64,
    worst: Option<&'a FailureRow>,
}

/// A finding, and what identifies its cause.
pub(super) struct Consequence {
    pub(super) finding: Finding,
    /// Ports are still taken, or calls still fail: only a habit that goes on is the cause.
    goes_on: bool,
    port_use: PortUse,
    /// The process that created most of the TIME_WAIT sockets.
    creator: Option<Subject>,
    /// How many were created for the destination.
    created: u64,
    /// The process with most of the failures.
    victim: Option<Subject>,
}

impl Consequence {
    /// Whether a habit is the cause. A habit that has stopped is not the cause of a problem that goes on, and neither
    /// is one that created only a few of the TIME_WAIT sockets.
    pub(super) fn is_led_to_by(&self, habit: &Habit) -> bool {
        let cause = &habit.finding;
        let same_party = match (self.finding.process, cause.process) {
            (Some(ours), Some(theirs)) if theirs.process.is_some() => ours.process == theirs.process,
            (Some(ours), Some(theirs)) => ours.ppid == theirs.ppid && ours.command == theirs.command,
            _ => true,
        };
        let leads = match self.port_use {
            PortUse::TimeWait => {
                // A restarted process has created few of the sockets in a long trace, but all of those that still
                // exist.
                let process = |subject: Option<Subject>| subject.and_then(|subject| subject.process);
                let is_creator = process(self.creator).is_some() && process(self.creator) == process(cause.process);
                let created_most = same_party && 2 * habit.created >= self.created;
                cause.rule != Rule::BindBeforeConnect && (is_creator || created_most)
            }
            PortUse::Bound => cause.rule == Rule::BindBeforeConnect,
            PortUse::Open | PortUse::CloseWait | PortUse::SynSent | PortUse::Unknown => false,
        };
        let netns = |finding: &Finding| finding.destination.map(|key| key.netns);
        let same_place = match self.port_use {
            // Bound ports are taken for all destinations.
            PortUse::Bound => netns(cause) == netns(&self.finding),
            _ => cause.destination == self.finding.destination,
        };
        leads && same_place && (cause.active || !self.goes_on)
    }

    /// Adds the pattern and the advice of the habit that is the cause.
    pub(super) fn because_of(self, Habit { finding: mut cause, .. }: Habit) -> Finding {
        let mut finding = self.finding;
        if cause.process.is_some() {
            if let Some(victim) = pid(self.victim).filter(|victim| Some(*victim) != pid(cause.process))
                && !finding.evidence.iter().any(|evidence| matches!(evidence, Evidence::FailingPid(_)))
            {
                finding.evidence.push(Evidence::FailingPid(victim.into()));
            }
            finding.process = cause.process;
        }
        // The ports are those of connections to somewhere else.
        if let Some((remote, port)) = cause
            .destination
            .filter(|key| Some(*key) != finding.destination)
            .and_then(|key| Some((key.remote_addr?, key.port)))
        {
            finding.evidence.push(Evidence::HolderPeer(std::net::SocketAddr::new(remote, port).to_string()));
        }
        let per_s = |evidence: &Evidence| match evidence {
            Evidence::FailuresPerS(per_s) => Some(*per_s),
            _ => None,
        };
        let failures_per_s = finding.evidence.iter().find_map(per_s).unwrap_or(0.0);
        cause.advice.iter_mut().for_each(|advice| without_failures(advice, failures_per_s));
        habit::merge(&mut finding, cause);
        finding
    }
}

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Consequence> {
    let mut reached: Map<DestKey, Reached<'_>> = Map::default();
    let exhausted = |cause| matches!(cause, Cause::DestinationExhausted | Cause::SocketRangeExhausted);
    for row in context.snapshot.failures().iter().filter(|row| exhausted(row.cause)) {
        let Some(key) = row.destination else { continue };
        let none = Reached { first_ns: row.first_ns, ..Reached::default() };
        let failed = reached.entry(key).or_insert(none);
        failed.count += row.count;
        failed.first_ns = failed.first_ns.min(row.first_ns);
        failed.last_ns = failed.last_ns.max(row.last_ns);
        failed.own_range += if row.cause == Cause::SocketRangeExhausted { row.count } else { 0 };
        let rank = |row: &FailureRow| (row.count, row.owner.map(|owner| owner.key));
        if failed.worst.is_none_or(|worst| rank(row) > rank(worst)) {
            failed.worst = Some(row);
        }
    }
    let mut found = Vec::new();
    for (key, row) in &context.destinations {
        let near = || row.budget.and_then(|budget| near(context, *key, row, &budget));
        let near = || near().or_else(|| was_near(context, *key, row));
        found.extend(match reached.get(key).map(|failed| fails(context, *key, row, failed)) {
            Some(mut fails) => {
                let is_short = |near: Consequence| near.finding.active && near.port_use == fails.port_use;
                // Nothing may connect at the moment: what does next finds no port.
                fails.finding.active = fails.finding.active || near().is_some_and(is_short);
                Some(fails)
            }
            None => near().filter(|near| near.finding.active).or_else(|| slow::check(context, *key, row)).or_else(near),
        });
    }
    found
}

/// Where connects fail, what matters of an advice is that they no longer do. While no port is free, hardly any TIME_WAIT
/// socket is created.
fn without_failures(advice: &mut Advice, per_s: f64) {
    if per_s <= 0.0 {
        return;
    }
    advice.effect.retain(|effect| effect.figure != "time_wait_created_per_s");
    let ends_them = ["pool-connections", "limit-connects", "keep-alive", "keep-alive-clients", "unix-socket"];
    match advice.effect.iter_mut().find(|effect| effect.figure == FAILURES) {
        Some(effect) if effect.to < per_s => effect.from = per_s,
        None if ends_them.contains(&advice.id) => advice.effect.insert(0, advice::effect(FAILURES, per_s, 0.0)),
        _ => {}
    }
}

/// The process that created most of the TIME_WAIT sockets, or the one that opened them where others closed them. `None` if
/// most are from several processes or from before the trace.
fn creator(context: &RuleContext<'_>, key: DestKey, row: &DestinationRow) -> Option<Subject> {
    let rank = |pair: &&Pair<'_>| (pair.pair.counts.time_wait_live, pair.pair.counts.time_wait_created, pair.owner.key);
    let closer = context.pairs_of(key).max_by_key(rank)?;
    let (its, all) = match row.counts.time_wait_live {
        0 => (closer.pair.counts.time_wait_created, row.counts.time_wait_created),
        live => (closer.pair.counts.time_wait_live, live),
    };
    let closed_most = its > 0 && 2 * its >= all;
    let opened = |pair: &Pair<'_>| pair.pair.pattern.time_wait;
    if closed_most && 2 * opened(closer) >= closer.pair.counts.time_wait_created {
        return Some(Subject::of(closer.owner));
    }
    let opener = context.pairs_of(key).max_by_key(|pair| (opened(pair), pair.owner.key))?;
    let opened_most = opened(opener) > 0 && 2 * opened(opener) >= row.pattern.time_wait.max(all);
    if opened_most { Some(Subject::of(opener.owner)) } else { closed_most.then(|| Subject::of(closer.owner)) }
}

/// The process that takes the ports, where none has failed yet.
fn taker(context: &RuleContext<'_>, key: DestKey, row: &DestinationRow, port_use: PortUse) -> Option<Subject> {
    match port_use {
        PortUse::TimeWait | PortUse::Bound => creator(context, key, row),
        _ => holder(context, key, port_use),
    }
}

/// The process that has most of the open connections that use the ports.
fn holder(context: &RuleContext<'_>, key: DestKey, port_use: PortUse) -> Option<Subject> {
    let mut processes: Map<ProcessKey, (u64, Subject)> = Map::default();
    // Bound ports are taken for all destinations, whatever they are used for.
    let is_it = |owner: &SocketOwner| match port_use {
        PortUse::Bound => owner.netns == key.netns && owner.local_port == 0,
        _ => is_to(owner, key),
    };
    for owner in context.socket_owners(|owner| port_use.is_of(owner.state) && is_it(owner)) {
        let process = ProcessKey { tgid: owner.tgid, start_ns: owner.start_ns };
        processes.entry(process).or_insert((0, Subject::of_socket_owner(owner))).0 += owner.sockets;
    }
    let all: u64 = processes.values().map(|(sockets, _)| sockets).sum();
    let (_, (most, subject)) = processes.into_iter().max_by_key(|(process, (sockets, _))| (*sockets, *process))?;
    (2 * most >= all).then_some(subject)
}

fn split(row: &DestinationRow, budget: &Budget) -> Vec<Evidence> {
    let mut evidence = vec![
        Evidence::PortsTotal(budget.total.into()),
        Evidence::PortsTimeWait(budget.time_wait.into()),
        Evidence::PortsEstablished(budget.established.into()),
        Evidence::PortsOther(budget.other.into()),
        Evidence::PortsCloseWait(budget.close_wait.into()),
        Evidence::PortsSynSent(budget.syn_sent.into()),
        Evidence::PortsBound(budget.bound.into()),
        Evidence::PortsAvailable(budget.available.into()),
        Evidence::PortRatePerS(budget.rate_per_s),
        Evidence::OpenGrowthPerS(budget.growth_per_s),
        Evidence::MaxRatePerS(budget.max_rate_per_s),
        Evidence::HoldSeconds(budget.hold_seconds),
    ];
    if budget.lacks_timestamps() {
        evidence.push(Evidence::PortsWithoutTimestamps(budget.without_timestamps.into()));
    }
    let latency = row.connect_us.quantile(0.99).map(|us| Evidence::ConnectP99Ms(us as f64 / 1e3));
    evidence.extend(latency);
    evidence
}

/// The rule about what uses the ports, where that is a fault of its own.
fn cause(port_use: PortUse) -> Option<Rule> {
    match port_use {
        PortUse::CloseWait => Some(Rule::CloseWaitLeak),
        PortUse::Bound => Some(Rule::BindBeforeConnect),
        PortUse::TimeWait | PortUse::Open | PortUse::SynSent | PortUse::Unknown => None,
    }
}

/// Advice by what uses the ports.
fn advice(
    context: &RuleContext<'_>,
    (key, row): (DestKey, &DestinationRow),
    budget: &Budget,
    port_use: PortUse,
    subject: Option<&Subject>,
) -> Vec<Advice> {
    // TIME_WAIT sockets of bound connections keep the port that bind(2) took, and connect(2) never reuses them.
    let bound = 2 * u64::from(row.pattern.bound) > row.pattern.opened;
    let no_port = |ports: u32| advice::bind_address_no_port(ports.into(), subject.map(|subject| subject.command));
    let mut first = match port_use {
        PortUse::TimeWait if bound => vec![no_port(budget.bound + budget.time_wait)],
        PortUse::TimeWait => Vec::new(),
        PortUse::Open => vec![advice::plain(
            "close-sockets",
            "Limit the number of open connections, and close idle ones: they use the ports, TIME_WAIT sockets do not.",
            "A connection that this host closes first keeps its port for another minute.",
        )],
        // More ports would be used up in the same way.
        PortUse::CloseWait => return vec![close_wait::advice(budget.close_wait.into())],
        PortUse::Unknown => {
            return vec![advice::plain(
                "trace-more",
                "Look again in some seconds: the next census of sockets shows what has the ports.",
                "None.",
            )];
        }
        PortUse::SynSent => {
            let watch = key.remote_addr.map(|remote| format!("tcpdump -ni any host {remote} and port {}", key.port));
            return vec![Advice {
                command: watch.map(|watch| advice::there(context, key.netns, subject, &watch)),
                ..advice::plain(
                    "limit-connects",
                    "The destination does not answer: find out who drops the SYN. Let a connect give up after some seconds, \
                     limit how many wait at a time, and wait longer after each failure. If the program sets no timeout, \
                     the kernel gives up after two minutes (net.ipv4.tcp_syn_retries).",
                    "A destination that is slow for a while is given up sooner.",
                )
            }];
        }
        PortUse::Bound => {
            let mut first = vec![no_port(budget.bound)];
            first.extend(advice::wider_range(context, key, budget, subject));
            return first;
        }
    };
    first.extend(advice::room(context, key, budget, subject, bound));
    first
}

/// A socket's own range is not the namespace's: widening the namespace's does not help, and its budget does not apply.
fn own_range_advice() -> Advice {
    advice::plain(
        "wider-port-range",
        "Give the sockets a wider IP_LOCAL_PORT_RANGE within net.ipv4.ip_local_port_range, or none: they then use the \
         whole range of the namespace.",
        "Programs that split the ports with such ranges need a new split.",
    )
}

fn fails(context: &RuleContext<'_>, key: DestKey, row: &DestinationRow, failed: &Reached<'_>) -> Consequence {
    let seconds = failed.last_ns.saturating_sub(failed.first_ns) as f64 / 1e9;
    let per_s = if seconds > 0.0 { failed.count.saturating_sub(1) as f64 / seconds } else { 0.0 };
    let active = context.goes_on(failed.last_ns, 0.0);
    // What used the ports at that time: they may have come free since.
    let budget = row.exhausted.or(row.budget);
    let port_use = budget.as_ref().map_or(PortUse::TimeWait, |budget| port_use(budget, row.exhausted.is_some()));
    let victim = failed.worst.and_then(subject);
    let creator = creator(context, key, row);
    let process = match port_use {
        PortUse::TimeWait => creator.or(victim),
        // The start of a process is known better from its calls than from /proc.
        _ => holder(context, key, port_use).filter(|holder| pid(Some(*holder)) != pid(victim)).or(victim),
    };
    let in_own_range = 2 * failed.own_range > failed.count;
    // If some of the ports are in TIME_WAIT, the finding reports them and does not deny TIME_WAIT.
    let is_known = port_use != PortUse::Unknown;
    let plain = is_known && budget.is_some_and(|budget| !in_own_range && budget.is_time_wait() == Some(false));
    let is_another = pid(process).is_some() && pid(victim).is_some() && pid(process) != pid(victim);
    let kernel = context.kernel(key);
    let no_reuse =
        budget.is_some_and(|budget| budget.lacks_timestamps()) && kernel.is_some_and(|kernel| kernel.tw_reuse == 1);
    let title = match port_use {
        _ if in_own_range => "finds no port within the socket's own IP_LOCAL_PORT_RANGE: connect(2) fails",
        PortUse::TimeWait if no_reuse && !is_another => {
            if kernel.is_some_and(advice::has_no_timestamps) {
                "finds no local port: TIME_WAIT sockets use them, and tcp_tw_reuse does nothing: TCP timestamps are off here"
            } else {
                "finds no local port: TIME_WAIT sockets use them, and tcp_tw_reuse cannot help: the peer sends no timestamps"
            }
        }
        _ if is_another => titles::of_another(port_use, plain),
        _ => titles::of_its_own(port_use, plain),
    };
    let mut evidence = vec![
        Evidence::Failures(failed.count),
        Evidence::FailuresPerS(per_s),
        Evidence::Errno("EADDRNOTAVAIL".to_owned()),
    ];
    if let Some(victim) = victim.and_then(|victim| victim.process)
        && process.and_then(|subject| subject.process) != Some(victim)
    {
        evidence.push(Evidence::FailingPid(victim.tgid.into()));
        let command = failed.worst.and_then(|worst| worst.owner).map(|owner| name(&owner));
        evidence.extend(command.map(Evidence::FailingCommand));
    }
    if failed.own_range > 0 {
        evidence.push(Evidence::FailuresInOwnRange(failed.own_range));
    }
    if let Some(budget) = budget.filter(|_| !in_own_range) {
        let full = Budget { available: 0, ..budget };
        // What does not end by itself sustains no rate.
        let lasts = !matches!(port_use, PortUse::CloseWait | PortUse::SynSent);
        let is_rate = |one: &Evidence| matches!(one, Evidence::MaxRatePerS(_) | Evidence::HoldSeconds(_));
        evidence.extend(split(row, &full).into_iter().filter(|one| lasts || !is_rate(one)));
        // Sockets that are newer than the last census.
        if row.exhausted.is_some() && budget.not_seen() > 0 {
            evidence.push(Evidence::PortsNotSeen(budget.not_seen().into()));
        }
    }
    if plain {
        evidence.push(Evidence::Verdict("this is not TIME_WAIT".to_owned()));
    }
    let mut advice = match budget {
        _ if in_own_range => vec![own_range_advice()],
        Some(budget) => advice(context, (key, row), &budget, port_use, process.as_ref()),
        None => Vec::new(),
    };
    if !in_own_range {
        advice.iter_mut().for_each(|advice| without_failures(advice, per_s));
    }
    let finding = Finding {
        rule: Rule::ExhaustionReached,
        severity: if active { Severity::Critical } else { Severity::Warning },
        active,
        process,
        destination: Some(key),
        cause: cause(port_use),
        title: title.to_owned(),
        evidence,
        advice,
        confidence: if is_known { Confidence::High } else { Confidence::Low },
        recheck: "After the change connect(2) no longer fails, and ports are left at the peak of the load.".to_owned(),
    };
    Consequence { finding, goes_on: active, port_use, creator, created: row.counts.time_wait_created, victim }
}

fn near(context: &RuleContext<'_>, key: DestKey, row: &DestinationRow, budget: &Budget) -> Option<Consequence> {
    let seconds = budget.seconds_to_exhaustion?;
    let enough = budget.time_wait >= ENOUGH || budget.established >= ENOUGH || budget.other >= ENOUGH;
    // It is a forecast only if even the slowest rate within the error exhausts the ports, or if they are nearly gone.
    let sure = budget.latest_seconds.is_some();
    if seconds > NEAR_S || budget.rate_per_s <= 0.0 || !enough || !(sure || budget.utilization >= NEARLY_ALL) {
        return None;
    }
    let port_use = port_use(budget, false);
    let process = taker(context, key, row, port_use);
    let mut evidence =
        vec![Evidence::SecondsToExhaustion(seconds), Evidence::SoonestSeconds(budget.soonest_seconds.unwrap_or(0.0))];
    evidence.extend(budget.latest_seconds.map(Evidence::LatestSeconds));
    evidence.extend(budget.seconds_to_slow.map(Evidence::SecondsToSlow));
    evidence.extend(split(row, budget));
    let title = match port_use {
        PortUse::TimeWait => "takes local ports faster than they come back",
        PortUse::Open => "opens connections and does not close them: local ports run out, and this is not TIME_WAIT",
        PortUse::CloseWait => {
            "does not close connections whose peer has closed: local ports run out, and this is not TIME_WAIT"
        }
        PortUse::SynSent => "connects, and nothing answers: local ports run out, and this is not TIME_WAIT",
        PortUse::Bound => "binds ports faster than they come back: this is not TIME_WAIT",
        PortUse::Unknown => "takes local ports faster than they come back",
    };
    let finding = Finding {
        rule: Rule::ExhaustionNear,
        severity: if seconds <= IMMINENT_S { Severity::Critical } else { Severity::Warning },
        active: true,
        process,
        destination: Some(key),
        cause: cause(port_use),
        title: title.to_owned(),
        evidence,
        advice: advice(context, (key, row), budget, port_use, process.as_ref()),
        confidence: if sure { Confidence::High } else { Confidence::Medium },
        recheck: "After the change the forecast says never, at the peak of the load.".to_owned(),
    };
    let created = row.counts.time_wait_created;
    Some(Consequence { finding, goes_on: true, port_use, creator: process, created, victim: None })
}

/// TIME_WAIT sockets use nearly all ports, or did at some time.
fn was_near(context: &RuleContext<'_>, key: DestKey, row: &DestinationRow) -> Option<Consequence> {
    let budget = row.budget?;
    let peak = row.counts.time_wait_live_peak;
    // Where connect(2) reuses them, there may be as many as there are ports.
    if budget.hold_seconds < TIME_WAIT_SECONDS || (peak as f64) < NEARLY_ALL * f64::from(budget.total.max(1)) {
        return None;
    }
    let active = budget.utilization >= NEARLY_ALL;
    let process = creator(context, key, row);
    let mut evidence = vec![Evidence::TimeWaitLivePeak(peak)];
    evidence.extend(split(row, &budget));
    let finding = Finding {
        rule: Rule::ExhaustionNear,
        severity: Severity::Warning,
        active,
        process,
        destination: Some(key),
        cause: None,
        title: if active && budget.available == 0 {
            "has all local ports in TIME_WAIT sockets"
        } else if active {
            "has nearly all local ports in TIME_WAIT sockets"
        } else {
            "had nearly all local ports in TIME_WAIT sockets"
        }
        .to_owned(),
        evidence,
        advice: advice(
            context,
            (key, row),
            &Budget { time_wait: budget.total, ..budget },
            PortUse::TimeWait,
            process.as_ref(),
        ),
        confidence: Confidence::Medium,
        recheck: "After the change most ports are left at the peak of the load.".to_owned(),
    };
    let created = row.counts.time_wait_created;
    Some(Consequence { finding, goes_on: active, port_use: PortUse::TimeWait, creator: process, created, victim: None })
}
