//! A program that needs a port below 1024 for each connection and finds none: NFS, RPC, rsh (`bindresvport`).

use super::advice;
use super::context::RuleContext;
use super::habit::{self, Habit};
use super::not_time_wait::Failed;
use crate::event::{Comm, ProcessKey};
use crate::evidence::Evidence;
use crate::failure::Cause;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};
use std::collections::{BTreeMap, BTreeSet};

/// Those from which `bindresvport` and the kernel's RPC choose; lower ones are those of services.
const PORTS: std::ops::Range<u16> = 512..crate::pattern::PRIVILEGED;

/// A program that tries so many of them one after the other has no particular one in mind.
const SEVERAL: usize = 3;

/// Binds that failed of one program under one parent: `rpcinfo` in a loop is as much a pool as a mount of many exports.
#[derive(Default)]
pub(super) struct Tried {
    subject: Option<Subject>,
    processes: BTreeSet<ProcessKey>,
    ports: BTreeSet<u16>,
    failures: u64,
    last_ns: u64,
    in_time_wait: usize,
}

/// Command and parent of a program; for children of init, each process separately.
type Program = (Comm, u32, Option<ProcessKey>);

fn program(subject: &Subject) -> Program {
    (subject.command, subject.ppid, subject.process.filter(|_| subject.ppid <= 1))
}

fn is_waiting(cause: Cause) -> bool {
    matches!(cause, Cause::TimewaitHoldsPort | Cause::ClientTimewaitHoldsPort)
}

/// Whether bind(2) failed because something has the port.
fn is_taken(cause: Cause) -> bool {
    is_waiting(cause) || matches!(cause, Cause::PortInUse | Cause::ConnectionHoldsPort)
}

/// Programs that look for any privileged port.
pub(super) fn tried(context: &RuleContext<'_>) -> BTreeMap<Program, Tried> {
    let mut all: BTreeMap<Program, Tried> = BTreeMap::default();
    let mut not_kept_apart = 0;
    for row in context.snapshot.failures() {
        if !is_taken(row.cause) {
            continue;
        }
        let (Some(owner), Some(place)) = (row.owner, row.destination) else {
            not_kept_apart += row.count;
            continue;
        };
        if !PORTS.contains(&place.port) {
            continue;
        }
        let subject = Subject::of(&owner);
        let one = all.entry(program(&subject)).or_default();
        one.subject = Some(subject);
        one.processes.insert(owner.key);
        one.in_time_wait += usize::from(one.ports.insert(place.port) && is_waiting(row.cause));
        one.failures += row.count;
        one.last_ns = one.last_ns.max(row.last_ns);
    }
    all.retain(|_, one| one.ports.len() >= SEVERAL);
    // So many failures, of so many ports, are those of such a search.
    if let Some(most) = all.values_mut().max_by_key(|one| one.failures) {
        most.failures += not_kept_apart;
    }
    all
}

/// Whether failures are those of one of them.
pub(super) fn is_of(tried: &BTreeMap<Program, Tried>, failed: &Failed) -> bool {
    if !is_taken(failed.cause) {
        return false;
    }
    match (failed.place, failed.subject) {
        (Some(place), Some(subject)) => PORTS.contains(&place.port) && tried.contains_key(&program(&subject)),
        _ => !tried.is_empty(),
    }
}

/// All of them. A habit of the same processes is the cause, and is said with it.
pub(super) fn check(context: &RuleContext<'_>, habits: &mut Vec<Habit>) -> Vec<Finding> {
    let with_cause = |(program, tried): (&Program, &Tried)| {
        let mut finding = finding(context, tried);
        let is_its = |habit: &Habit| {
            let opens = matches!(habit.finding.rule, Rule::NoConnectionReuse | Rule::ForkPerRequest);
            opens
                && habit.finding.process.is_some_and(|subject| match subject.process {
                    Some(process) => tried.processes.contains(&process),
                    None => (subject.command, subject.ppid) == (program.0, program.1),
                })
        };
        if let Some(at) = habits.iter().position(is_its) {
            let cause = habits.remove(at).finding;
            finding.destination = cause.destination;
            habit::merge(&mut finding, cause);
        }
        finding
    };
    tried(context).iter().map(with_cause).collect()
}

fn finding(context: &RuleContext<'_>, tried: &Tried) -> Finding {
    let active = context.goes_on(tried.last_ns, 0.0);
    Finding {
        rule: Rule::PortHeldByTimeWait,
        severity: Severity::Warning,
        active,
        process: tried.subject.map(|subject| match tried.processes.len() {
            1 => subject,
            many => Subject { process: None, processes: many as u64, ..subject },
        }),
        destination: None,
        cause: None,
        title: "looks for a port below 1024 for each connection, and finds those that it tries taken; a program that needs \
                one, as an NFS mount, may find none"
            .to_owned(),
        evidence: vec![
            Evidence::Failures(tried.failures),
            Evidence::Errno("EADDRINUSE".to_owned()),
            Evidence::PortsTried(tried.ports.len() as u64),
            Evidence::PortsTimeWait(tried.in_time_wait as u64),
        ],
        advice: vec![other_ports(tried.subject.as_ref())],
        confidence: Confidence::Medium,
        recheck: "After the change bind(2) no longer fails.".to_owned(),
    }
}

fn other_ports(subject: Option<&Subject>) -> Advice {
    let mounts = subject.is_some_and(|subject| {
        let command = subject.command.bytes();
        [&b"mount"[..], b"kernel"].iter().any(|name| command.starts_with(name))
    });
    if mounts {
        return Advice {
            command: Some("mount -o noresvport,mountproto=udp ...".to_owned()),
            ..advice::plain(
                "other-ports",
                "Let the client use any port (NFS: noresvport; the export needs `insecure`), mount over UDP (mountproto=udp), and \
                 mount fewer file systems at once: each closed connection keeps its port for a minute.",
                "A server that takes a privileged port for a proof of identity refuses others.",
            )
        };
    }
    advice::plain(
        "other-ports",
        "Run it as a user without the right to ports below 1024 (CAP_NET_BIND_SERVICE): it then takes any other port. Each \
         closed connection keeps its port for a minute.",
        "A server that takes such a port for a proof of identity refuses others.",
    )
}
