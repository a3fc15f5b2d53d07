//! TIME_WAIT sockets overflow: `tcp_max_tw_buckets` is reached.

use super::advice::{effect, there};
use super::context::RuleContext;
use crate::evidence::Evidence;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};
use crate::plan::{PORT_ADDRESS_BYTES, PORT_BYTES, TIMEWAIT_BYTES};
use crate::ports::TIME_WAIT_SECONDS;
use crate::snapshot::{GroupBy, GroupKey};

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    let summary = context.snapshot.summary();
    let overflowed = summary.totals.counts.time_wait_overflow;
    if overflowed == 0 {
        return Vec::new();
    }
    let rows = context.snapshot.rows(GroupBy::Pid).iter();
    let processes = rows.filter(|row| matches!(row.key, GroupKey::Process(_)) && row.counts.time_wait_overflow > 0);
    let most = processes.max_by_key(|row| (row.counts.time_wait_overflow, row.key.clone()));
    let place = context.destinations.iter().filter(|(_, row)| row.counts.time_wait_overflow > 0);
    let place = place.max_by_key(|(key, row)| (row.counts.time_wait_overflow, *key));
    let kernel = place.and_then(|(key, _)| context.kernel(*key)).unwrap_or(&summary.kernel);
    let counts = &summary.totals.counts;
    // What overflowed would have been created.
    let seconds = summary.window.seconds().max(1.0);
    let due_per_s = (counts.time_wait_created + overflowed) as f64 / seconds;
    let wanted = (1.5 * due_per_s * TIME_WAIT_SECONDS).max(2.0 * kernel.max_tw_buckets as f64).min(4_194_304.0);
    let wanted = (wanted.round() as u64).next_power_of_two();
    let mebibytes = wanted as f64 * f64::from(TIMEWAIT_BYTES + PORT_BYTES + PORT_ADDRESS_BYTES) / 1_048_576.0;
    let last_ns = place.map_or(0, |(_, row)| row.pattern.ended_ns);
    let subject = most.and_then(|row| row.owner.as_ref()).map(Subject::of);
    vec![Finding {
        rule: Rule::BucketOverflow,
        severity: Severity::Warning,
        active: context.goes_on(last_ns, 0.0) && kernel.time_wait as f64 >= 0.95 * kernel.max_tw_buckets as f64,
        process: subject,
        destination: place.map(|(key, _)| *key),
        cause: None,
        title: "overflows the TIME_WAIT bucket limit: its connections end without a TIME_WAIT socket".to_owned(),
        evidence: vec![
            Evidence::Overflowed(overflowed),
            Evidence::TimeWait(kernel.time_wait),
            Evidence::MaxTwBuckets(kernel.max_tw_buckets),
        ],
        advice: vec![Advice {
            id: "bucket-limit",
            text: format!(
                "Raise the limit to {wanted}, which takes at most {mebibytes:.0} MiB of kernel memory when full."
            ),
            command: Some(there(
                context,
                place.map_or(0, |(key, _)| key.netns),
                subject.as_ref(),
                &format!("sysctl -w net.ipv4.tcp_max_tw_buckets={wanted}"),
            )),
            effect: vec![effect("max_tw_buckets", kernel.max_tw_buckets as f64, wanted as f64)],
            risk: "Memory, and more ports that stay in use for a minute. Reuse of connections removes the cause."
                .to_owned(),
        }],
        confidence: Confidence::High,
        recheck: "After the change `nstat -az TcpExtTCPTimeWaitOverflow` stops rising.".to_owned(),
    }]
}
