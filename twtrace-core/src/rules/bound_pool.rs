//! bind(2) with port 0 fails: each port of the range is bound.

use super::advice;
use super::case::Case;
use super::not_time_wait::{Failed, failed};
use crate::failure::Cause;
use crate::finding::{Confidence, Finding, Rule, Severity, Value};
use crate::ports::Usable;

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    failed(case, |cause| cause == Cause::BoundPoolExhausted)
        .into_iter()
        .map(|Failed { party, count, last_ns, place, .. }| {
            let holds = case.goes_on(last_ns, 0.0);
            let kernel = place.and_then(|key| case.kernel(key));
            let total = kernel.and_then(Usable::of).map(|usable| usable.total());
            let mut evidence = vec![("failures", Value::Count(count)), ("errno", Value::Text("EADDRINUSE".to_owned()))];
            evidence.extend(total.map(|total| ("ports_total", Value::Count(total.into()))));
            Finding {
                rule: Rule::BoundPoolExhausted,
                severity: if holds { Severity::Critical } else { Severity::Warning },
                holds,
                process: party,
                destination: None,
                cause: None,
                title: "finds no port to bind: all of the range are bound".to_owned(),
                evidence,
                advice: vec![advice::bind_address_no_port(total.unwrap_or(0).into())],
                confidence: Confidence::High,
                recheck: "After the change bind(2) fails no more.".to_owned(),
            }
        })
        .collect()
}
