//! Sockets whose peer has closed but whose own process has not: a descriptor leak, not TIME_WAIT.

use super::advice::effect;
use super::context::{MANY, RuleContext, is_to};
use crate::event::CensusState;
use crate::evidence::Evidence;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};

/// This many sockets are not just a pool whose idle connections the server has closed.
const TOO_MANY: u64 = 1000;

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    let leaks =
        context.snapshot.waiting().iter().filter(|kind| kind.state == CensusState::CloseWait && kind.aged >= MANY);
    leaks
        .map(|kind| {
            let key = kind.destination;
            let socket_owners =
                context.socket_owners(|owner| owner.state == CensusState::CloseWait && is_to(owner, key));
            let owner = socket_owners.max_by_key(|owner| (owner.sockets, owner.tgid));
            // A pool that checks its connections only when it needs them leaves some in CLOSE_WAIT for a while.
            let leaks = kind.old >= MANY || kind.sockets >= TOO_MANY;
            Finding {
                rule: Rule::CloseWaitLeak,
                severity: if leaks { Severity::Warning } else { Severity::Info },
                active: true,
                process: owner.map(Subject::of_socket_owner),
                destination: Some(key),
                cause: None,
                title: "does not close sockets whose peer has closed: this is not TIME_WAIT".to_owned(),
                evidence: vec![
                    Evidence::CloseWait(kind.sockets),
                    Evidence::CloseWaitFor3S(kind.aged),
                    Evidence::CloseWaitFor60S(kind.old),
                ],
                advice: vec![advice(kind.sockets)],
                confidence: match owner {
                    _ if !leaks => Confidence::Low,
                    Some(_) => Confidence::High,
                    None => Confidence::Medium,
                },
                recheck: "After the change `ss -tan state close-wait` stays near empty.".to_owned(),
            }
        })
        .collect()
}

/// What ends `sockets` of them.
pub(super) fn advice(sockets: u64) -> Advice {
    Advice {
        id: "close-sockets",
        text: "Close the socket when read(2) returns 0, also on error paths. No time-out of the kernel ends CLOSE_WAIT: only \
               the process does. Until it is mended, a restart frees them."
            .to_owned(),
        command: None,
        effect: vec![effect("close_wait", sockets as f64, 0.0)],
        risk: "A restart ends the other connections of the process as well.".to_owned(),
    }
}
