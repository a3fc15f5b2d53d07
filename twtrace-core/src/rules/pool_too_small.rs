//! A process keeps a pool of connections, and needs more of them at a time: those beyond its size are closed after use.

use super::advice::{self, effect};
use super::context::RuleContext;
use super::habit::Habit;
use super::no_reuse::Churn;
use super::settings;
use crate::evidence::Evidence;
use crate::finding::{Advice, Finding, Rule};

/// A pool is too small if so many others are open at a time, as a share of it. A code path with a connection of its own
/// usually has one at a time.
const SHARE: f64 = 0.25;

/// Fewer at a time are a code path of its own.
const LEAST: u64 = 2;

/// Whether a pool is too small, rather than bypassed.
pub(super) fn is_too_small(churn: &Churn<'_>) -> bool {
    let beside = churn.pattern.at_a_time();
    churn.pool > 0 && beside >= LEAST && beside as f64 >= SHARE * churn.pool as f64
}

pub(super) fn check(context: &RuleContext<'_>, churns: &[(Churn<'_>, bool)]) -> Vec<Habit> {
    let found = churns.iter().map(|(churn, _)| churn).filter(|churn| is_too_small(churn));
    found.map(|churn| Habit::of(finding(context, churn), churn.pattern.time_wait)).collect()
}

fn finding(context: &RuleContext<'_>, churn: &Churn<'_>) -> Finding {
    let (kept, beside) = (churn.pool, churn.pattern.at_a_time());
    let size = kept + beside;
    let advice = Advice {
        text: format!(
            "Let the pool keep at least {size} idle connections: it keeps {kept}, up to {beside} more are open at a time, and \
             these are closed after use. If its limit is that high already, other code opens connections outside the pool."
        ),
        command: Some(settings::pool(&churn.subject.command, churn.habit().port, size as f64)),
        effect: vec![effect("time_wait_created_per_s", churn.created_per_s, 0.0)],
        ..advice::pool(&churn.habit())
    };
    let mut finding = Finding {
        rule: Rule::PoolTooSmall,
        title: "has a connection pool that is too small: it closes the connections that do not fit".to_owned(),
        advice: vec![advice],
        ..churn.finding(context)
    };
    finding.evidence.insert(0, Evidence::PoolConnections(kept));
    finding
}
