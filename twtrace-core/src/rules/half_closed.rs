//! Connections that pass through a process, and of which only one end has closed. The process got the FIN on one side
//! (CLOSE_WAIT) and passed it on with a FIN of its own on the other (FIN_WAIT2). It waits for the end there: that one does
//! not close.

use super::advice::effect;
use super::context::{MANY, RuleContext, is_of};
use super::leads_to;
use crate::event::{CensusState, ProcessKey, Role, SocketOwner};
use crate::evidence::Evidence;
use crate::finding::{Advice, Finding, Rule};
use crate::snapshot::DestKey;

/// The numbers of sockets on the two sides differ by at most this share.
const ALIKE: f64 = 0.1;

/// The leaks, where those of a relay are about the end that it waits for: if that is on this host and does not close
/// either, there is one finding, about that end.
pub(super) fn check(context: &RuleContext<'_>, leaks: Vec<Finding>) -> Vec<Finding> {
    let (mut found, mut relayed): (Vec<Finding>, Vec<(Finding, ProcessKey, DestKey)>) = Default::default();
    for leak in leaks {
        let process = leak.process.and_then(|subject| subject.process);
        match process.and_then(|process| Some((process, waits_for(context, process)?))) {
            // Both ends of its own connections.
            Some((_, to)) if leak.destination.is_some_and(|place| leads_to(to, place) || leads_to(place, to)) => {
                found.push(leak);
            }
            // The same connections, of another front.
            Some((process, to)) if relayed.iter().any(|(_, other, place)| (*other, *place) == (process, to)) => {}
            Some((process, to)) => relayed.push((leak, process, to)),
            None => found.push(leak),
        }
    }
    for (leak, process, to) in relayed {
        let name = leak.process.map_or_else(String::new, |subject| {
            format!("{}[{}]", String::from_utf8_lossy(subject.command.bytes()), process.tgid)
        });
        let is_there = |other: &&mut Finding| {
            other.destination.is_some_and(|place| leads_to(to, place) || leads_to(place, to) || place == to)
        };
        match found.iter_mut().find(is_there) {
            Some(other) => other.evidence.push(Evidence::RelayedBy(name)),
            None => found.push(at_the_relay(leak, to)),
        }
    }
    found
}

/// The destination, or the own port, at which a process has sent a FIN for as many connections as it has in CLOSE_WAIT.
fn waits_for(context: &RuleContext<'_>, process: ProcessKey) -> Option<DestKey> {
    let in_state = |state| context.socket_owners(move |owner| owner.state == state && is_of(owner, process));
    let sockets = |owner: &SocketOwner| owner.sockets;
    let got: u64 = in_state(CensusState::CloseWait).map(sockets).sum();
    let sent: u64 = in_state(CensusState::FinWait2).map(sockets).sum();
    let is_alike = got.abs_diff(sent) as f64 <= ALIKE * got as f64;
    let most = in_state(CensusState::FinWait2).max_by_key(|owner| (owner.sockets, owner.remote_addr))?;
    (sent >= MANY && is_alike).then(|| place_of(most))
}

fn place_of(owner: &SocketOwner) -> DestKey {
    let accepted = owner.local_port != 0;
    DestKey {
        netns: owner.netns,
        role: if accepted { Role::Passive } else { Role::Active },
        local_addr: owner.local_addr,
        remote_addr: (!accepted).then_some(owner.remote_addr),
        port: if accepted { owner.local_port } else { owner.remote_port },
    }
}

/// Where the end that does not close is on another host, the relay is all there is to name.
fn at_the_relay(leak: Finding, to: DestKey) -> Finding {
    let sockets = leak.evidence.iter().find_map(|evidence| match evidence {
        Evidence::CloseWait(sockets) => Some(*sockets),
        _ => None,
    });
    let behind = if to.role == Role::Active { "its backend does not close" } else { "its clients do not close" };
    Finding {
        rule: Rule::FinWait2PileUp,
        destination: Some(to),
        title: format!("has passed on the FIN of the other side, and {behind}: connections stay half-closed"),
        advice: vec![Advice {
            id: "let-peer-close",
            text: "Fix the end that does not close: it has read the end of the data and keeps its socket open. Meanwhile a \
                   time-out of the relay for half-closed connections ends them."
                .to_owned(),
            command: Some("HAProxy: timeout client-fin, timeout server-fin; nginx stream: proxy_timeout".to_owned()),
            effect: vec![effect("fin_wait2", sockets.unwrap_or_default() as f64, 0.0)],
            risk: "Protocols in which one side sends on after the other has closed are cut off by the time-out.".to_owned(),
        }],
        recheck: "After the change `ss -tan state fin-wait-2` and `ss -tan state close-wait` stay near empty.".to_owned(),
        ..leak
    }
}
