//! A listener whose queue is not emptied: the process is stuck, stopped, or at its own limit. Its connections are ESTABLISHED
//! or in CLOSE_WAIT, and no process has them, so it is no leak.

use super::advice::effect;
use super::context::RuleContext;
use crate::event::{CensusState, Role};
use crate::evidence::Evidence;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};
use crate::snapshot::DestKey;
use std::collections::BTreeMap;

/// So many that wait for a while are not just between two calls of accept(2).
const SEVERAL: u64 = 5;

/// Connections in one queue.
#[derive(Default)]
struct Queue {
    sockets: u64,
    aged: u64,
    hung_up: u64,
    backlog: Option<u32>,
}

impl Queue {
    /// The kernel takes one more than the backlog (`sk_acceptq_is_full`).
    fn is_full(&self) -> bool {
        self.backlog.is_some_and(|backlog| self.sockets > u64::from(backlog))
    }
}

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    let mut queues: BTreeMap<DestKey, Queue> = BTreeMap::new();
    let waiting = context.snapshot.waiting().iter();
    for kind in waiting.filter(|kind| kind.state.is_queued() && kind.destination.role == Role::Passive) {
        let queue = queues.entry(kind.destination).or_default();
        queue.sockets += kind.sockets;
        queue.aged += kind.aged;
        queue.hung_up += if kind.state == CensusState::QueuedCloseWait { kind.sockets } else { 0 };
        queue.backlog = kind.backlog.or(queue.backlog);
    }
    let stuck = queues.iter().filter(|(_, queue)| queue.aged >= SEVERAL || queue.aged > 0 && queue.is_full());
    stuck.map(|(key, queue)| finding(context, *key, queue)).collect()
}

fn finding(context: &RuleContext<'_>, key: DestKey, queue: &Queue) -> Finding {
    let owner = context.listener(key);
    let mut evidence = vec![Evidence::Queued(queue.sockets), Evidence::QueuedFor3S(queue.aged)];
    evidence.extend(queue.backlog.map(|backlog| Evidence::Backlog(backlog.into())));
    evidence.push(Evidence::QueuedHungUp(queue.hung_up));
    let figures = context.snapshot.summary().figures_of(key.netns);
    if let (Some(overflows @ 1..), Some(drops)) = (figures.listen_overflows, figures.listen_drops) {
        evidence.extend([Evidence::ListenOverflows(overflows), Evidence::ListenDrops(drops)]);
    }
    evidence.push(Evidence::Verdict("this is not TIME_WAIT".to_owned()));
    Finding {
        rule: Rule::NotAccepting,
        severity: if queue.is_full() { Severity::Critical } else { Severity::Warning },
        active: true,
        process: owner.map(Subject::of_socket_owner),
        destination: Some(key),
        cause: None,
        title: match queue.backlog {
            _ if queue.is_full() => {
                "does not accept connections: its queue is full, and further ones wait or fail".to_owned()
            }
            Some(backlog) => format!("does not accept connections: {} of {backlog} wait in its queue", queue.sockets),
            None => "does not accept connections: they wait in its queue".to_owned(),
        },
        evidence,
        advice: vec![Advice {
            id: "accept-connections",
            text: "Find out what the process waits for: it is stopped (State T: kill -CONT lets it go on), stuck, or at a limit \
                   of its own (descriptors, threads, connections). A longer queue only makes its clients wait longer."
                .to_owned(),
            command: owner.map(|owner| format!("grep -E 'State|SigQ|Threads' /proc/{0}/status; cat /proc/{0}/wchan; grep files /proc/{0}/limits; ls /proc/{0}/fd | wc -l", owner.tgid)),
            effect: vec![effect("accept_queue", queue.sockets as f64, 0.0)],
            risk: "None: the commands only read.".to_owned(),
        }],
        confidence: Confidence::High,
        recheck: "After the change `ss -ltn` shows 0 in Recv-Q for the port.".to_owned(),
    }
}
