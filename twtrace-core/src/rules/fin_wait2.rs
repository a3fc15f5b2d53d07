//! Sockets that have sent their FIN and wait for the peer's FIN, which does not arrive.

use super::advice::effect;
use super::context::{MANY, RuleContext};
use crate::event::CensusState;
use crate::evidence::Evidence;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (key, row) in &context.destinations {
        let waiting = context.snapshot.waiting().iter();
        let full = waiting.filter(|kind| kind.state == CensusState::FinWait2 && kind.destination == *key);
        let (full, full_aged) = full.fold((0, 0), |(sockets, aged), kind| (sockets + kind.sockets, aged + kind.aged));
        let aged = full_aged + row.fin_wait2_aged;
        if aged < MANY {
            continue;
        }
        let most = context.pairs_of(*key).max_by_key(|pair| (pair.pair.counts.time_wait_live, pair.owner.key));
        let sockets = full + row.counts.fin_wait2_live;
        let timeout = context.kernel(*key).and_then(|kernel| kernel.fin_timeout_s).unwrap_or(60);
        found.push(Finding {
            rule: Rule::FinWait2PileUp,
            severity: Severity::Warning,
            active: true,
            process: most.map(|pair| Subject::of(pair.owner)),
            destination: Some(*key),
            cause: None,
            title: "has closed, and its peers have not: sockets stay in FIN_WAIT2".to_owned(),
            evidence: vec![
                Evidence::FinWait2(sockets),
                Evidence::FinWait2For3S(aged),
                Evidence::FinWait2OfOpenSockets(full),
                Evidence::FinTimeoutS(timeout.into()),
            ],
            advice: vec![Advice {
                id: "let-peer-close",
                text: format!(
                    "Fix the peer: it does not close after this host's FIN. A common reason is a pool that never \
                     checks idle connections. Orphaned sockets end after {timeout} s (net.ipv4.tcp_fin_timeout). \
                     Sockets that a process still has open do not."
                ),
                command: None,
                effect: vec![effect("fin_wait2", sockets as f64, 0.0)],
                risk:
                    "None. A shorter tcp_fin_timeout ends orphans in FIN_WAIT2 sooner, and does nothing for TIME_WAIT."
                        .to_owned(),
            }],
            confidence: Confidence::High,
            recheck: "After the change `ss -tan state fin-wait-2` stays near empty.".to_owned(),
        });
    }
    found
}
