//! EADDRNOTAVAIL and EADDRINUSE that have nothing to do with TIME_WAIT.

use super::context::RuleContext;
use super::{advice, port_held, privileged_ports};
use crate::event::{ProcessKey, SocketOwner};
use crate::evidence::Evidence;
use crate::failure::{Call, Cause, FailureRow, Holder};
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};
use crate::snapshot::DestKey;
use crate::table::Map;
use std::net::SocketAddr;

/// Fewer failures may be single ones that the caller has handled.
const OFTEN: u64 = 5;

/// Failures of one process, of one cause.
pub(super) struct Failed {
    pub(super) subject: Option<Subject>,
    pub(super) cause: Cause,
    pub(super) count: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    /// The destination or port with most of them.
    pub(super) place: Option<DestKey>,
    /// What has the port there.
    pub(super) holder: Option<Holder>,
    most: u64,
    /// It was bind(2) that failed.
    is_bind: bool,
    /// See [`FailureRow::no_process_has_it`].
    no_process_has_it: bool,
}

impl Failed {
    /// The advice, with its effect on the failures.
    pub(super) fn without_them(&self, advice: Advice) -> Advice {
        // A few failures within less than a second are no higher rate than as many in a second.
        let seconds = (self.last_ns.saturating_sub(self.first_ns) as f64 / 1e9).max(1.0);
        let per_s = self.count.saturating_sub(1) as f64 / seconds;
        let figure = if self.is_bind { "bind_failures_per_s" } else { "connect_failures_per_s" };
        let effect = if per_s > 0.0 { vec![advice::effect(figure, per_s, 0.0)] } else { Vec::new() };
        Advice { effect, ..advice }
    }
}

/// Failures by process and cause.
pub(super) fn failed(context: &RuleContext<'_>, wanted: impl Fn(Cause) -> bool) -> Vec<Failed> {
    let mut all: Map<(Option<ProcessKey>, Cause), Failed> = Map::default();
    let mut rows: Vec<&FailureRow> = context.snapshot.failures().iter().filter(|row| wanted(row.cause)).collect();
    rows.sort_unstable_by_key(|row| (process_of(row), row.cause, row.destination));
    for row in rows {
        let none = Failed {
            subject: subject(row),
            cause: row.cause,
            count: 0,
            first_ns: row.first_ns,
            last_ns: 0,
            place: row.destination,
            holder: row.holder,
            most: 0,
            is_bind: row.call == Call::Bind,
            no_process_has_it: row.no_process_has_it,
        };
        let failed = all.entry((process_of(row), row.cause)).or_insert(none);
        failed.count += row.count;
        failed.first_ns = failed.first_ns.min(row.first_ns);
        failed.last_ns = failed.last_ns.max(row.last_ns);
        if row.count > failed.most {
            (failed.most, failed.place, failed.holder) = (row.count, row.destination, row.holder);
            failed.no_process_has_it = row.no_process_has_it;
        }
    }
    let mut all: Vec<Failed> = all.into_values().collect();
    all.sort_unstable_by_key(|failed| (std::cmp::Reverse(failed.count), failed.cause, failed.place));
    all
}

fn process_of(row: &FailureRow) -> Option<ProcessKey> {
    row.owner.map(|owner| owner.key)
}

/// The process whose calls failed.
pub(super) fn subject(row: &FailureRow) -> Option<Subject> {
    row.owner.as_ref().map(Subject::of)
}

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    let is_it =
        |cause| matches!(cause, Cause::ForeignSource | Cause::NoSource | Cause::PortInUse | Cause::ConnectionHoldsPort);
    let tried = privileged_ports::tried(context);
    let all = failed(context, is_it);
    all.iter()
        .filter(|failed| !privileged_ports::is_of(&tried, failed))
        .map(|failed| finding(context, failed))
        .collect()
}

/// A service that repeatedly fails to bind its port or address does not run. A client that has no source address for
/// one destination, as on a host without IPv6, tries the next address that the name resolved to.
fn severity(failed: &Failed, active: bool) -> Severity {
    match failed.cause {
        // A program that tries one port after another does not need any particular one.
        Cause::PortInUse | Cause::ConnectionHoldsPort if failed.most < OFTEN => Severity::Warning,
        Cause::NoSource if active && failed.count >= OFTEN => Severity::Warning,
        Cause::NoSource => Severity::Info,
        _ if active && failed.count >= OFTEN => Severity::Critical,
        _ => Severity::Warning,
    }
}

fn finding(context: &RuleContext<'_>, failed: &Failed) -> Finding {
    let mut holder = Vec::new();
    let (title, errno, advice) = match failed.cause {
        Cause::ConnectionHoldsPort => {
            let is_own = failed.holder.zip(failed.place).is_some_and(|(holder, place)| {
                let this_host = context.snapshot.destinations().iter().any(
                    |row| matches!(row.key, crate::snapshot::DestRow::Dest(key) if key.local_addr == holder.remote.0),
                );
                holder.remote.1 == place.port && (holder.remote.0.is_loopback() || this_host)
            });
            if let Some(held) = failed.holder {
                let has = |owner: &SocketOwner| (owner.remote_addr, owner.remote_port) == held.remote;
                if let Some(owner) = context.socket_owners(has).max_by_key(|owner| (owner.sockets, owner.tgid)) {
                    holder.push(Evidence::HolderPid(owner.tgid.into()));
                    holder.push(Evidence::HolderCommand(owner.command.clone()));
                }
                holder.push(Evidence::HolderPeer(SocketAddr::new(held.remote.0, held.remote.1).to_string()));
            }
            let title = if is_own {
                "cannot bind its port: a client that connected to itself has it: this is not TIME_WAIT"
            } else {
                "cannot bind its port: an open connection has it: this is not TIME_WAIT"
            };
            (title, "EADDRINUSE", port_held::another_port(context, failed, Some(is_own)))
        }
        // A process may have taken it over since.
        Cause::PortInUse if failed.no_process_has_it && failed.place.and_then(|at| context.listener(at)).is_none() => {
            ("binds a port that the kernel itself has: this is not TIME_WAIT", "EADDRINUSE", not_the_kernels())
        }
        Cause::PortInUse => {
            let listener = failed.place.and_then(|place| context.listener(place));
            if let Some(owner) = listener {
                holder.push(Evidence::HolderPid(owner.tgid.into()));
                holder.push(Evidence::HolderCommand(owner.command.clone()));
            }
            let port = failed.place.map_or(0, |place| place.port);
            let title = match listener {
                Some(_) => "binds a port that another process listens on: this is not TIME_WAIT",
                None => "binds a port that another socket uses: this is not TIME_WAIT",
            };
            let advice = advice::plain(
                "fix-address",
                "Stop the process that has the port, or choose another port.",
                "The other process may serve clients.",
            );
            let netns = failed.place.map_or(0, |place| place.netns);
            let command = format!("ss -ltnp 'sport = :{port}'");
            let command = advice::there(context, netns, failed.subject.as_ref(), &command);
            (title, "EADDRINUSE", Advice { command: Some(command), ..advice })
        }
        Cause::NoSource => (
            "finds no source address for its destination: this is not TIME_WAIT",
            "EADDRNOTAVAIL",
            advice::plain(
                "fix-address",
                "Give this host an address and a route of that family and scope, or do not let the name resolve to it; \
                 `ip -6 route get ADDRESS` shows what is missing.",
                "None.",
            ),
        ),
        _ => (
            "binds an address that this host does not have: this is not TIME_WAIT",
            "EADDRNOTAVAIL",
            advice::plain(
                "fix-address",
                "Correct the configured address, or add it to an interface; `ip address` lists the existing ones.",
                "None.",
            ),
        ),
    };
    let active = context.goes_on(failed.last_ns, 0.0);
    Finding {
        rule: Rule::NotTimeWait,
        severity: severity(failed, active),
        active,
        process: failed.subject,
        destination: failed.place,
        cause: None,
        title: title.to_owned(),
        evidence: [Evidence::Failures(failed.count), Evidence::Errno(errno.to_owned())]
            .into_iter()
            .chain(holder)
            .chain([
                Evidence::Reason(failed.cause.name().to_owned()),
                Evidence::Verdict("this is not TIME_WAIT".to_owned()),
            ])
            .collect(),
        advice: vec![failed.without_them(advice)],
        // A descriptor that waits in a Unix socket, that io_uring registered, or that a thread with a table of its own has is
        // in no process's folder.
        confidence: if failed.no_process_has_it { Confidence::Medium } else { Confidence::High },
        recheck: "After the change the call succeeds.".to_owned(),
    }
}

/// No process can be stopped.
fn not_the_kernels() -> Advice {
    advice::plain(
        "fix-address",
        "Choose another port, or give the kernel's service another one: no process has this socket open, so most likely a \
         service inside the kernel has it. Candidates are NFS (nlm_tcpport of the module lockd, callback_tcpport of the module nfs), MPTCP \
         (`ip mptcp endpoint`), SMB, iSCSI and NVMe targets.",
        "That service may have clients that know its port.",
    )
}
