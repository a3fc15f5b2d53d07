//! A process keeps a pool of connections open, and opens others outside it to the same destination.

use super::advice;
use super::context::RuleContext;
use super::habit::Habit;
use super::no_reuse::{Churn, evidence, severity};
use super::pool_too_small::is_too_small;
use crate::evidence::Evidence;
use crate::finding::{Confidence, Finding, Rule};

pub(super) fn check(context: &RuleContext<'_>, churns: &[(Churn<'_>, bool)]) -> Vec<Habit> {
    let found = churns.iter().map(|(churn, _)| churn).filter(|churn| churn.pool > 0 && !is_too_small(churn));
    found
        .map(|churn| {
            let mut evidence = evidence(churn);
            evidence.insert(0, Evidence::PoolConnections(churn.pool));
            let mut advice = advice::pool(&churn.habit());
            advice.text = format!(
                "Send these requests through the existing pool of {} connections: some code path opens its own.",
                churn.pool
            );
            let finding = Finding {
                rule: Rule::PoolBypassed,
                severity: severity(context, churn),
                active: context.habit_goes_on(&churn.pattern),
                process: Some(churn.subject),
                destination: Some(churn.key),
                cause: None,
                title: "has a connection pool, and opens other connections that bypass it".to_owned(),
                evidence,
                advice: vec![advice],
                confidence: Confidence::Medium,
                recheck:
                    "After the change the process opens hardly any new connection to this destination, and ESTABLISHED \
                  stays as it is."
                        .to_owned(),
            };
            Habit::of(finding, churn.created)
        })
        .collect()
}
