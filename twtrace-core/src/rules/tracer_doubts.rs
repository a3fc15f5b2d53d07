//! What makes the other findings less sure: losses, and owners that are not known.

use super::advice;
use super::case::{Case, MANY};
use crate::finding::{Confidence, Evidence, Finding, Rule, Severity, Value};

/// One event lost in so many is not worth a word.
const IN: u64 = 1000;

/// Share of the census whose owner should be known.
const COVERAGE: f64 = 0.95;

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let summary = case.model.summary();
    let counters = &summary.counters;
    let lost = [counters.ring_full, counters.map_full, counters.recursion, counters.stale, counters.undecodable];
    let lost: u64 = lost.iter().sum();
    let coverage = &summary.coverage;
    let mut evidence: Vec<Evidence> = Vec::new();
    if lost > 0 && lost.saturating_mul(IN) > counters.records {
        evidence.push(("lost", Value::Count(lost)));
        evidence.push(("records", Value::Count(counters.records)));
    }
    if coverage.unattributed >= MANY && coverage.ratio() < COVERAGE {
        evidence.push(("unattributed", Value::Count(coverage.unattributed)));
        evidence.push(("coverage", Value::Number(coverage.ratio())));
    }
    if summary.tracing.no_btf {
        evidence.push(("no_btf", Value::Text("how connections end is inferred".to_owned())));
    }
    if evidence.is_empty() {
        return Vec::new();
    }
    vec![Finding {
        rule: Rule::TracerDoubts,
        severity: Severity::Info,
        holds: true,
        process: None,
        destination: None,
        cause: None,
        title: "the tracer has not seen everything: figures are lower bounds, and a finding may be missing".to_owned(),
        evidence,
        advice: vec![advice::plain(
            "trace-more",
            "Give it more room: --ring-bytes 64M and --max-sockets; `twtrace doctor` says what this kernel lacks.",
            "Memory.",
        )],
        confidence: Confidence::High,
        recheck: "The header of `twtrace top` says `lost 0`.".to_owned(),
    }]
}
