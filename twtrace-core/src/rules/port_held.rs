//! A server cannot bind its port again because TIME_WAIT sockets still use it.

use super::advice;
use super::context::RuleContext;
use super::not_time_wait::failed;
use crate::evidence::Evidence;
use crate::failure::Cause;
use crate::finding::{Confidence, Finding, Rule, Severity};

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    failed(context, |cause| cause == Cause::TimewaitHoldsPort)
        .into_iter()
        .map(|failed| Finding {
            rule: Rule::PortHeldByTimeWait,
            severity: Severity::Warning,
            active: context.goes_on(failed.last_ns, 0.0),
            process: failed.subject,
            destination: failed.place,
            cause: None,
            title: "binds a port that only TIME_WAIT sockets use, without SO_REUSEADDR".to_owned(),
            evidence: vec![Evidence::Failures(failed.count), Evidence::Errno("EADDRINUSE".to_owned())],
            advice: vec![failed.without_them(advice::plain(
                "so-reuseaddr",
                "Set SO_REUSEADDR on the listening socket before bind(2), as servers do: TIME_WAIT sockets then no \
                 longer prevent the bind. Without it, bind(2) succeeds 60 s after the last of them was created.",
                "None for a listener: on Linux, SO_REUSEADDR does not let a second socket listen on a port.",
            ))],
            confidence: Confidence::Medium,
            recheck: "After the change the server starts at once.".to_owned(),
        })
        .collect()
}
