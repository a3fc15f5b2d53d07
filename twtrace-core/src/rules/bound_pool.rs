//! bind(2) with port 0 fails: every port of the range is bound.

use super::advice;
use super::context::RuleContext;
use super::not_time_wait::{Failed, failed};
use crate::evidence::Evidence;
use crate::failure::Cause;
use crate::finding::{Confidence, Finding, Rule, Severity};
use crate::ports::Usable;

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    failed(context, |cause| cause == Cause::BoundPoolExhausted)
        .into_iter()
        .map(|Failed { subject, count, last_ns, place, .. }| {
            let active = context.goes_on(last_ns, 0.0);
            let kernel = place.and_then(|key| context.kernel(key));
            let total = kernel.and_then(Usable::of).map(|usable| usable.total());
            let mut evidence = vec![Evidence::Failures(count), Evidence::Errno("EADDRINUSE".to_owned())];
            evidence.extend(total.map(|total| Evidence::PortsTotal(total.into())));
            Finding {
                rule: Rule::BoundPoolExhausted,
                severity: if active { Severity::Critical } else { Severity::Warning },
                active,
                process: subject,
                destination: None,
                cause: None,
                title: "finds no port to bind: every port of the range is bound".to_owned(),
                evidence,
                advice: vec![advice::bind_address_no_port(
                    total.unwrap_or(0).into(),
                    subject.map(|subject| subject.command),
                )],
                confidence: Confidence::High,
                recheck: "After the change bind(2) no longer fails.".to_owned(),
            }
        })
        .collect()
}
