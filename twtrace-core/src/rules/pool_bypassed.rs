//! A process keeps a pool of connections open, and opens others outside it to the same destination.

use super::advice;
use super::context::RuleContext;
use super::habit::Habit;
use super::no_reuse::Churn;
use super::pool_too_small::is_too_small;
use crate::evidence::Evidence;
use crate::finding::{Advice, Finding, Rule};

pub(super) fn check(context: &RuleContext<'_>, churns: &[(Churn<'_>, bool)]) -> Vec<Habit> {
    let found = churns.iter().map(|(churn, _)| churn).filter(|churn| churn.pool > 0 && !is_too_small(churn));
    found.map(|churn| Habit::of(finding(context, churn), churn.pattern.time_wait)).collect()
}

fn finding(context: &RuleContext<'_>, churn: &Churn<'_>) -> Finding {
    let advice = Advice {
        text: format!(
            "Send these requests through the existing pool of {} connections: some code path opens its own.",
            churn.pool
        ),
        // It has the setting already, elsewhere.
        command: None,
        ..advice::pool(&churn.habit())
    };
    let mut finding = Finding {
        rule: Rule::PoolBypassed,
        title: "has a connection pool, and opens other connections that bypass it".to_owned(),
        advice: vec![advice],
        recheck: "After the change the process opens hardly any new connection to this destination, and ESTABLISHED \
                  stays as it is."
            .to_owned(),
        ..churn.finding(context)
    };
    finding.evidence.insert(0, Evidence::PoolConnections(churn.pool));
    finding
}
