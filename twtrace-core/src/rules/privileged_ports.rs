//! A program that needs a port below 1024 for each connection and finds none: NFS, RPC, rsh (`bindresvport`).

use super::advice;
use super::context::RuleContext;
use super::not_time_wait::{Failed, subject};
use crate::event::ProcessKey;
use crate::evidence::Evidence;
use crate::failure::Cause;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};
use crate::snapshot::DestKey;
use crate::table::Map;

/// Unprivileged programs cannot bind lower ones (`net.ipv4.ip_unprivileged_port_start`).
const LIMIT: u16 = 1024;

/// A program that tries so many of them one after the other has no particular one in mind.
const SEVERAL: usize = 8;

/// Binds that failed of one process.
#[derive(Default)]
pub(super) struct Tried {
    subject: Option<Subject>,
    place: Option<DestKey>,
    ports: Vec<u16>,
    failures: u64,
    last_ns: u64,
    in_time_wait: usize,
}

/// Programs that look for any privileged port.
pub(super) fn tried(context: &RuleContext<'_>) -> Map<ProcessKey, Tried> {
    let mut all: Map<ProcessKey, Tried> = Map::default();
    for row in context.snapshot.failures() {
        let waits = matches!(row.cause, Cause::TimewaitHoldsPort | Cause::ClientTimewaitHoldsPort);
        let is_it = waits || matches!(row.cause, Cause::PortInUse | Cause::ConnectionHoldsPort);
        let (Some(owner), Some(place)) = (row.owner, row.destination) else { continue };
        if !is_it || !(1..LIMIT).contains(&place.port) {
            continue;
        }
        let one = all.entry(owner.key).or_default();
        one.subject = subject(row);
        one.place = Some(place);
        if !one.ports.contains(&place.port) {
            one.ports.push(place.port);
            one.in_time_wait += usize::from(waits);
        }
        one.failures += row.count;
        one.last_ns = one.last_ns.max(row.last_ns);
    }
    all.retain(|_, one| one.ports.len() >= SEVERAL);
    all
}

/// Whether failures are those of one of them.
pub(super) fn is_of(tried: &Map<ProcessKey, Tried>, failed: &Failed) -> bool {
    let process = failed.subject.and_then(|subject| subject.process);
    failed.place.is_some_and(|place| place.port < LIMIT) && process.is_some_and(|process| tried.contains_key(&process))
}

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    let mut all: Vec<(ProcessKey, Tried)> = tried(context).into_iter().collect();
    all.sort_unstable_by_key(|(process, _)| *process);
    all.into_iter().map(|(_, one)| finding(context, &one)).collect()
}

fn finding(context: &RuleContext<'_>, tried: &Tried) -> Finding {
    let active = context.goes_on(tried.last_ns, 0.0);
    Finding {
        rule: Rule::PortHeldByTimeWait,
        severity: Severity::Warning,
        active,
        process: tried.subject,
        destination: None,
        cause: None,
        title: "looks for a privileged port, and finds those it tries taken: there are at most 1,023".to_owned(),
        evidence: vec![
            Evidence::Failures(tried.failures),
            Evidence::Errno("EADDRINUSE".to_owned()),
            Evidence::PortsTried(tried.ports.len() as u64),
            Evidence::PortsTimeWait(tried.in_time_wait as u64),
        ],
        advice: vec![Advice {
            command: Some("mount -o noresvport,mountproto=udp ...".to_owned()),
            ..advice::plain(
                "other-ports",
                "Let the client use any port (NFS: noresvport; the export needs `insecure`), mount over UDP (mountproto=udp), and \
                 mount fewer file systems at once: each closed connection keeps its port for a minute.",
                "A server that takes a privileged port for a proof of identity refuses others.",
            )
        }],
        confidence: Confidence::Medium,
        recheck: "After the change bind(2) no longer fails.".to_owned(),
    }
}
