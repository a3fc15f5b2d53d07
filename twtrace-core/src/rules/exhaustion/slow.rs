//! connect(2) takes long because it has to search for a free port, although none fails yet.
//!
//! `__inet_hash_connect` looks at every port of one parity before it looks at one of the other. From half of the ports on it
//! passes the whole first half each time: 2 ms for the default range on Linux 6.18, and 13 us before.

use super::super::advice::effect;
use super::super::context::{LEAST_PER_S, RuleContext};
use super::{Consequence, advice, cause, port_use, split, taker};
use crate::event::Role;
use crate::evidence::Evidence;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity};
use crate::snapshot::{DestKey, DestinationRow};

/// Connects that take as long as this for their search matter, in microseconds.
const SLOW_US: u64 = 1_000;

/// A range with fewer ports is searched in less than that.
const PORTS: u32 = 4_000;

/// To another host, the way there and back takes time as well: a slow connect takes so many times as long as a fast one.
const TIMES: u64 = 10;

pub(super) fn check(context: &RuleContext<'_>, key: DestKey, row: &DestinationRow) -> Option<Consequence> {
    let budget = row.budget.filter(|budget| budget.total >= PORTS && 2 * budget.available <= budget.total)?;
    let [fast, half, slow] = [0.1, 0.5, 0.9].map(|share| row.connect_us.quantile(share));
    let (fast, slow) = (fast?, slow?);
    let is_searching = context.is_local(key) || slow >= TIMES * fast.max(1);
    if key.role != Role::Active || budget.rate_per_s < LEAST_PER_S || slow < SLOW_US || !is_searching {
        return None;
    }
    let port_use = port_use(&budget, false);
    let process = taker(context, key, row, port_use);
    let mut evidence: Vec<Evidence> = half.map(|us| Evidence::ConnectP50Ms(us as f64 / 1e3)).into_iter().collect();
    evidence.extend(split(row, &budget));
    let mut advice = advice(context, (key, row), &budget, port_use, process.as_ref());
    advice.iter_mut().for_each(|advice| without_search(advice, budget.used, slow, fast));
    let finding = Finding {
        rule: Rule::SlowConnect,
        severity: Severity::Warning,
        active: true,
        process,
        destination: Some(key),
        cause: cause(port_use),
        title: "waits in connect(2): more than half of the local ports are in use, and each connect searches them"
            .to_owned(),
        evidence,
        advice,
        confidence: if context.is_local(key) { Confidence::High } else { Confidence::Medium },
        recheck: "After the change fewer than half of the ports are in use at the peak of the load.".to_owned(),
    };
    let created = row.counts.time_wait_created;
    Some(Consequence { finding, goes_on: true, port_use, creator: process, created, victim: None })
}

/// With fewer ports in use, or more of them, a connect takes as long as the fast ones.
fn without_search(advice: &mut Advice, used: u32, slow_us: u64, fast_us: u64) {
    // More ports help if fewer than half of them are in use.
    let total = advice.effect.iter().find(|effect| effect.figure == "ports_total").map(|effect| effect.to);
    if total.is_some_and(|total| 2.0 * f64::from(used) >= total) {
        return;
    }
    let ms = |us: u64| us as f64 / 1e3;
    // A trace that starts late has seen no fast ones.
    if slow_us < TIMES * fast_us.max(1) {
        return;
    }
    advice.effect.insert(0, effect("connect_ms", ms(slow_us), ms(fast_us)));
}
