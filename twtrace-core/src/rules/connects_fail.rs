//! Connects that time out or are refused although there are ports: what is wrong is on the way, or at the other end.

use super::advice;
use super::context::{RuleContext, is_to};
use crate::event::{CensusState, NetFigures, Role, SocketOwner};
use crate::evidence::Evidence;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};
use crate::pattern::Unanswered;
use crate::snapshot::DestKey;
use std::collections::BTreeMap;

/// Fewer may be single ones that were sent again.
const OFTEN: u64 = 5;

/// A process that gets no answer from so many destinations has one problem, not many.
const SEVERAL: usize = 4;

/// Share of the conntrack table from which it is as good as full: it drops at random from there on (`early_drop`).
const NEARLY_FULL: f64 = 0.95;

/// What one process met at one destination.
struct Met {
    key: DestKey,
    subject: Option<Subject>,
    unanswered: Unanswered,
    /// Connects that wait for an answer now, for three seconds at least.
    waiting: u64,
}

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    let met = context.destinations.iter().filter_map(|(key, row)| {
        let is_short = row.exhausted.is_some() || row.budget.is_some_and(|budget| budget.available == 0);
        if key.role != Role::Active || is_short {
            return None;
        }
        let kinds = context.snapshot.waiting().iter();
        let waiting = kinds.filter(|kind| kind.destination == *key && kind.state == CensusState::SynSent);
        let waiting: u64 = waiting.map(|kind| kind.aged).sum();
        let unanswered = row.pattern.unanswered;
        let goes_on = context.goes_on(unanswered.last_ns(), 0.0);
        let is_often = unanswered.all() >= OFTEN && goes_on || waiting >= OFTEN;
        is_often.then(|| Met { key: *key, subject: subject(context, *key), unanswered, waiting })
    });
    let mut by_process: BTreeMap<_, Vec<Met>> = BTreeMap::new();
    for one in met {
        by_process.entry(one.subject.and_then(|subject| subject.process)).or_default().push(one);
    }
    let tracking = tracking(context);
    let mut found = Vec::new();
    for all in by_process.into_values() {
        if all.len() < SEVERAL {
            found.extend(all.iter().map(|one| finding(context, std::slice::from_ref(one), tracking)));
        } else {
            found.push(finding(context, &all, tracking));
        }
    }
    found
}

/// The process whose connects they are.
fn subject(context: &RuleContext<'_>, key: DestKey) -> Option<Subject> {
    let most = context.pairs_of(key).max_by_key(|pair| (pair.pair.pattern.unanswered.all(), pair.owner.key));
    let most = most.filter(|pair| pair.pair.pattern.unanswered.all() > 0);
    let waits = |owner: &SocketOwner| owner.state == CensusState::SynSent && is_to(owner, key);
    most.map(|pair| Subject::of(pair.owner))
        .or_else(|| context.socket_owners(waits).max_by_key(|owner| owner.sockets).map(Subject::of_socket_owner))
}

/// What the connection tracking of this host says.
#[derive(Clone, Copy)]
enum Tracking {
    /// It tracks as many as it can.
    Full { count: u64, max: u64 },
    /// Connections could not be entered: source NAT finds no port of its own for them.
    NoPort(u64),
    /// Nothing is wrong with it, or there is none.
    Fine,
}

fn tracking(context: &RuleContext<'_>) -> Tracking {
    let summary = context.snapshot.summary();
    // A container's packets pass the tables of its own namespace, of the host's, and of gateways between them.
    let figures: Vec<NetFigures> = summary.present().map(|namespace| summary.figures_of(namespace.netns)).collect();
    for NetFigures { conntrack_count, conntrack_max, conntrack_drop, .. } in &figures {
        let (Some(count), Some(max)) = (*conntrack_count, *conntrack_max) else { continue };
        let drops = conntrack_drop.is_some_and(|drops| drops > 0);
        if max > 0 && (count as f64 >= NEARLY_FULL * max as f64 || drops && 2 * count >= max) {
            return Tracking::Full { count, max };
        }
    }
    let failed = figures.iter().filter_map(|figures| figures.conntrack_insert_failed).max().unwrap_or(0);
    if failed >= OFTEN { Tracking::NoPort(failed) } else { Tracking::Fine }
}

fn finding(context: &RuleContext<'_>, met: &[Met], tracking: Tracking) -> Finding {
    let (first, several) = (&met[0], met.len() > 1);
    let sum = |figure: fn(&Met) -> u64| met.iter().map(figure).sum::<u64>();
    let (silent, refused) = (sum(|one| one.unanswered.silent.into()), sum(|one| one.unanswered.refused.into()));
    let waiting = sum(|one| one.waiting);
    let is_refused = refused > silent + waiting;
    let is_local = context.is_local(first.key) || first.key.remote_addr.is_some_and(|address| address.is_loopback());
    let example = first
        .key
        .remote_addr
        .map_or_else(String::new, |remote| format!(", such as {}", std::net::SocketAddr::new(remote, first.key.port)));
    let whose = if several { format!("{} destinations{example}", met.len()) } else { "its destination".to_owned() };
    let title = match tracking {
        _ if is_refused => format!("is refused by {whose}: local ports are free"),
        Tracking::Full { .. } => {
            "gets no answer: the connection tracking of this host is full, not its ports".to_owned()
        }
        Tracking::NoPort(_) => "gets no answer: source NAT on this host has no port for its connections".to_owned(),
        Tracking::Fine => format!("gets no answer from {whose}: local ports are free"),
    };
    let mut evidence = Vec::new();
    if silent > 0 {
        evidence.push(Evidence::Unanswered(silent));
    }
    if refused > 0 {
        evidence.push(Evidence::Refused(refused));
    }
    if waiting > 0 {
        evidence.push(Evidence::SynSentFor3S(waiting));
    }
    if several {
        evidence.push(Evidence::Destinations(met.len() as u64));
    } else if let Some(budget) = context.row(first.key).and_then(|row| row.budget) {
        evidence.push(Evidence::PortsAvailable(budget.available.into()));
    }
    match tracking {
        _ if is_refused => {}
        Tracking::Full { count, max } => {
            evidence.extend([Evidence::ConntrackCount(count), Evidence::ConntrackMax(max)]);
        }
        Tracking::NoPort(failed) => evidence.push(Evidence::ConntrackInsertFailed(failed)),
        Tracking::Fine => {}
    }
    evidence.push(Evidence::Verdict("this is not TIME_WAIT".to_owned()));
    let per_s: f64 = met.iter().map(|one| one.unanswered.per_s()).sum();
    let mut advice = match tracking {
        _ if is_refused => listen(context, first, is_local),
        Tracking::Full { count, max } => larger_table(count, max),
        Tracking::NoPort(_) => more_ports_for_nat(),
        Tracking::Fine => find_out(context, first, several, is_local),
    };
    if per_s > 0.0 {
        advice.effect.push(advice::effect("connect_failures_per_s", per_s, 0.0));
    }
    Finding {
        rule: Rule::ConnectsFail,
        severity: if matches!(tracking, Tracking::Fine) || is_refused { Severity::Warning } else { Severity::Critical },
        active: true,
        process: first.subject,
        destination: Some(first.key).filter(|_| !several),
        cause: None,
        title,
        evidence,
        advice: vec![advice],
        // Entries also fail to be inserted for other reasons, as when two DNS queries meet.
        confidence: if matches!(tracking, Tracking::NoPort(_)) { Confidence::Medium } else { Confidence::High },
        recheck: if is_refused {
            "After the change connects succeed."
        } else {
            "After the change connects succeed, and `ss -tan state syn-sent` is near empty."
        }
        .to_owned(),
    }
}

fn listen(context: &RuleContext<'_>, met: &Met, is_local: bool) -> Advice {
    let here = || advice::there(context, met.key.netns, met.subject.as_ref(), "ss -ltnp");
    let (which, command) = if is_local { ("", Some(here())) } else { (" there", None) };
    Advice {
        command,
        ..advice::plain(
            "start-listener",
            &format!(
                "Start the service{which}, or correct the address and port: the SYN arrives, and nothing listens, or a \
                 firewall rejects it. More ports change nothing."
            ),
            "None.",
        )
    }
}

fn find_out(context: &RuleContext<'_>, met: &Met, several: bool, is_local: bool) -> Advice {
    let which = match met.key.remote_addr {
        Some(remote) if !several => format!("host {remote} and port {}", met.key.port),
        _ => format!("tcp port {}", met.key.port),
    };
    let watch = format!("tcpdump -ni any {which}");
    let text = if is_local {
        "Find out why the server does not answer: its accept queue is full, a firewall drops the SYN, or the host is out \
         of memory. More ports change nothing."
    } else {
        "Find out who drops the SYN: the host is down, a firewall or a NAT on the way drops, or its accept queue is full. \
         Wait longer after each failure. More ports change nothing."
    };
    Advice {
        command: Some(advice::there(context, met.key.netns, met.subject.as_ref(), &watch)),
        ..advice::plain("find-who-drops", text, "None: the command only reads.")
    }
}

fn larger_table(count: u64, max: u64) -> Advice {
    Advice {
        command: Some(format!("sysctl -w net.netfilter.nf_conntrack_max={}", (2 * max.max(count)).max(1))),
        ..advice::plain(
            "conntrack-limit",
            "Open fewer connections (keep-alive, pools): conntrack keeps each for another 120 s after its end. Until then, a \
             larger table helps.",
            "About 320 bytes of kernel memory for each entry. A sysctl set like this is gone at the next boot.",
        )
    }
}

fn more_ports_for_nat() -> Advice {
    advice::plain(
        "nat-ports",
        "Open fewer connections (keep-alive, pools), or give the NAT more ports or addresses (MASQUERADE: a wider --to-ports; \
         SNAT: --to-source FIRST-LAST). Its entry keeps the port of each connection for up to 120 s after its end.",
        "More addresses have to be routed back to this host. `iptables -t nat -S` or `nft list ruleset` shows the rules.",
    )
}
