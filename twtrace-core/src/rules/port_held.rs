//! A server cannot bind its port because TIME_WAIT sockets still use it: its own, or one of an outgoing connection that was
//! given that port.

use super::advice;
use super::context::{RuleContext, name};
use super::not_time_wait::{Failed, failed};
use super::{lasting, privileged_ports};
use crate::evidence::Evidence;
use crate::failure::Cause;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity};
use crate::ports::Usable;

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    let is_it =
        |cause| matches!(cause, Cause::TimewaitHoldsPort | Cause::ClientTimewaitHoldsPort | Cause::BoundTupleTaken);
    let tried = privileged_ports::tried(context);
    let all = failed(context, is_it);
    // Where nothing shows that the last connection is in TIME_WAIT, it may be open.
    let is_held = |failed: &&Failed| failed.cause != Cause::BoundTupleTaken || failed.holder.is_some();
    let all = all.iter().filter(is_held).filter(|failed| !privileged_ports::is_of(&tried, failed));
    all.map(|failed| finding(context, failed)).collect()
}

fn finding(context: &RuleContext<'_>, failed: &Failed) -> Finding {
    let is_client = failed.cause == Cause::ClientTimewaitHoldsPort;
    let errno = if failed.cause == Cause::BoundTupleTaken { "EADDRNOTAVAIL" } else { "EADDRINUSE" };
    let mut evidence = vec![Evidence::Failures(failed.count), Evidence::Errno(errno.to_owned())];
    if let Some(holder) = failed.holder {
        if let Some(owner) = holder.owner {
            evidence.push(Evidence::HolderPid(owner.key.tgid.into()));
            evidence.push(Evidence::HolderCommand(name(&owner)));
        }
        let (address, port) = holder.remote;
        evidence.push(Evidence::HolderPeer(std::net::SocketAddr::new(address, port).to_string()));
        evidence.push(Evidence::HeldSeconds(holder.expires_ns.saturating_sub(context.now_ns) as f64 / 1e9));
    }
    let is_fixed = failed.cause == Cause::BoundTupleTaken;
    let advice = match failed.cause {
        Cause::BoundTupleTaken => {
            no_fixed_port(failed.place.and_then(|place| context.kernel(place)).is_some_and(advice::has_no_timestamps))
        }
        Cause::ClientTimewaitHoldsPort => another_port(context, failed, None),
        _ => reuse(),
    };
    Finding {
        rule: Rule::PortHeldByTimeWait,
        severity: Severity::Warning,
        active: context.goes_on(failed.last_ns, 0.0),
        process: failed.subject,
        destination: failed.place,
        cause: None,
        title: if is_fixed {
            "connects from a fixed source port again while the last connection with it is in TIME_WAIT"
        } else if is_client {
            "cannot bind its port: the TIME_WAIT socket of an outgoing connection has it"
        } else {
            "cannot bind its port: TIME_WAIT sockets of earlier connections have it"
        }
        .to_owned(),
        evidence,
        advice: vec![failed.without_them(advice)],
        confidence: Confidence::Medium,
        recheck: if is_fixed {
            "After the change connect(2) succeeds at once."
        } else {
            "After the change the server starts at once."
        }
        .to_owned(),
    }
}

fn reuse() -> Advice {
    advice::plain(
        "so-reuseaddr",
        "Set SO_REUSEADDR on the listening socket before bind(2), as servers do: the TIME_WAIT sockets of connections that \
         it accepts then do not prevent the next bind. Until the last of the present ones has ended, bind(2) fails.",
        "None for a listener: on Linux, SO_REUSEADDR does not let a second socket listen on a port.",
    )
}

/// The same addresses and ports cannot be used again for a minute.
fn no_fixed_port(are_off: bool) -> Advice {
    let off = if are_off { " (net.ipv4.tcp_timestamps is 0 here)" } else { "" };
    advice::plain(
        "any-source-port",
        &format!(
            "Let the kernel choose the source port (no bind(2), or port 0), or keep the connection and use it again. With a \
             fixed source port, and without TCP timestamps on both ends{off}, there is one connection a minute to each \
             destination."
        ),
        "A firewall or the peer may expect that port.",
    )
}

/// No outgoing connection gets the port any more. `open`: an open connection has it, and whether its two ends are one.
pub(super) fn another_port(context: &RuleContext<'_>, failed: &Failed, open: Option<bool>) -> Advice {
    let now = match open {
        None => "That is for the next time: now the server has to wait until the port is free.",
        Some(true) => {
            "That is for the next time: now restart the holder, or let it close its connection to itself, which does not end \
             otherwise; its port may then wait for another minute. A client has to close such a connection."
        }
        Some(false) => {
            "That is for the next time: now the holder has to close its connection; its port may then wait for another \
             minute."
        }
    };
    let kernel = failed.place.and_then(|place| context.kernel(place));
    let is_chosen = |port: u16| kernel.and_then(Usable::of).is_some_and(|usable| usable.has(port));
    match (failed.place, kernel) {
        (Some(place), Some(kernel)) if is_chosen(place.port) => {
            let before = kernel.reserved_ports.trim();
            let comma = if before.is_empty() { "" } else { "," };
            let ports = format!("{before}{comma}{}", place.port);
            let command = format!("sysctl -w net.ipv4.ip_local_reserved_ports={ports}");
            let name = "net.ipv4.ip_local_reserved_ports";
            let note = lasting::note(context, place.netns, failed.subject.as_ref(), name, &ports);
            Advice {
                id: "reserve-port",
                text: format!(
                    "Reserve the port: it lies in net.ipv4.ip_local_port_range, from which outgoing connections get their \
                     ports. Or give the server a port outside of that range. SO_REUSEADDR \
                     helps only if the client set it too. {now}"
                ),
                command: Some(advice::there(context, place.netns, failed.subject.as_ref(), &command)),
                effect: Vec::new(),
                risk: format!("Connections that have the port keep it until they end. {note}"),
            }
        }
        _ => advice::plain(
            "fix-address",
            "Let the program that connects from this port choose another one, or none: it binds a port that the kernel \
             gives to no outgoing connection.",
            "A firewall may expect that port.",
        ),
    }
}
