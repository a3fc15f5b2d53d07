//! Sockets that were closed here, and of which the peer acknowledges nothing: orphans with data or a FIN to send.

use super::advice::{self, effect};
use super::context::{MANY, RuleContext};
use crate::event::{CensusState, Role};
use crate::evidence::Evidence;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};
use crate::snapshot::DestKey;
use std::collections::BTreeMap;

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    // FIN_WAIT1 and LAST_ACK are the same fault: which side closed first makes no difference.
    let mut kinds: BTreeMap<DestKey, (u64, u64)> = BTreeMap::new();
    let waiting = context.snapshot.waiting().iter();
    for kind in waiting.filter(|kind| matches!(kind.state, CensusState::FinWait1 | CensusState::LastAck)) {
        let (sockets, aged) = kinds.entry(kind.destination).or_default();
        *sockets += kind.sockets;
        *aged += kind.aged;
    }
    let many = kinds.into_iter().filter(|(_, (_, aged))| *aged >= MANY);
    many.map(|(key, (sockets, aged))| finding(context, key, sockets, aged)).collect()
}

fn finding(context: &RuleContext<'_>, key: DestKey, sockets: u64, aged: u64) -> Finding {
    let figures = context.snapshot.summary().figures_of(key.netns);
    let aborted = figures.aborts_on_memory.unwrap_or(0);
    // Nobody has an orphan: who serves or uses that port had them.
    let owner = if key.role == Role::Passive {
        context.most_accepting(key)
    } else {
        context.pairs_of(key).max_by_key(|pair| (pair.pair.pattern.opened, pair.owner.key))
    };
    let mut evidence = vec![Evidence::FinWait1(sockets), Evidence::FinWait1For3S(aged)];
    evidence.extend(figures.orphans.map(Evidence::Orphans));
    if aborted > 0 {
        evidence.push(Evidence::AbortsOnMemory(aborted));
    }
    evidence.push(Evidence::Verdict("this is not TIME_WAIT".to_owned()));
    let (severity, title) = if aborted > 0 {
        (
            Severity::Critical,
            "has closed connections whose peers do not read or are gone, and the kernel resets further ones",
        )
    } else {
        (Severity::Warning, "has closed connections whose peers do not read or are gone: they stay in FIN_WAIT1")
    };
    Finding {
        rule: Rule::FinWait1PileUp,
        severity,
        active: true,
        process: owner.map(|pair| Subject::of(pair.owner)).or_else(|| context.listener(key).map(Subject::of_socket_owner)),
        destination: Some(key),
        cause: None,
        title: title.to_owned(),
        evidence,
        advice: vec![Advice {
            id: "fix-peers",
            text: "Find out whether the peers read: with `timer:(persist` they are alive and their window is zero, with \
                   `timer:(on` they do not answer. Fix what does not read. Let the program send the end (shutdown(2)), read \
                   to the peer's end, and only then close; after a time limit, close with a reset (SO_LINGER 0), or set \
                   TCP_USER_TIMEOUT."
                .to_owned(),
            command: Some(advice::there(
                context,
                key.netns,
                owner.map(|pair| Subject::of(pair.owner)).as_ref(),
                "ss -tano state fin-wait-1",
            )),
            effect: vec![effect("fin_wait1", sockets as f64, 0.0)],
            risk: "A reset discards what the peer has not read. Each close that waits keeps a descriptor.".to_owned(),
        }],
        confidence: Confidence::High,
        recheck: "After the change `ss -tan state fin-wait-1` stays near empty.".to_owned(),
    }
}
