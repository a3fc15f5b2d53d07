//! What makes the other findings less sure: losses, and owners that are not known.

use super::advice;
use super::context::{MANY, RuleContext};
use crate::finding::{Confidence, Evidence, Finding, Rule, Severity, Value};

/// One event lost in so many is not worth a word.
const IN: u64 = 1000;

/// Share of the census whose owner should be known.
const COVERAGE: f64 = 0.95;

/// `left_out`: findings that are not told, for there are too many.
pub(super) fn check(context: &RuleContext<'_>, left_out: usize) -> Vec<Finding> {
    let summary = context.snapshot.summary();
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
    if summary.tracing.by_tuple {
        let text = "who accepted, who aborted and some failures of connect are not seen";
        evidence.push(("no_cookies", Value::Text(text.to_owned())));
    }
    let refused = summary.namespaces.iter().filter(|namespace| namespace.refused.is_some() && !namespace.gone).count();
    let unseen = summary.namespaces_left_out.saturating_add(refused as u64);
    if unseen > 0 {
        evidence.push(("namespaces_without_census", Value::Count(unseen)));
    }
    if left_out > 0 {
        evidence.push(("findings_left_out", Value::Count(left_out as u64)));
    }
    if evidence.is_empty() {
        return Vec::new();
    }
    let has = |names: &[&str]| evidence.iter().any(|(name, _)| names.contains(name));
    let (text, risk, recheck) = if has(&["lost", "unattributed"]) {
        (
            "Give it more room: --ring-bytes 64M and --max-sockets; `twtrace doctor` says what this kernel lacks.",
            "Memory.",
            "The header of `twtrace top` says `lost 0`.",
        )
    } else if has(&["no_btf", "no_cookies", "namespaces_without_census"]) {
        (
            "See what is missing: `twtrace doctor` says it line by line, and what each line costs.",
            "None.",
            "`twtrace doctor` names the tier `cookie` or `exact`, and no namespace that cannot be entered.",
        )
    } else {
        (
            "Look at less at a time: filters (`--comm`, `--dest`, `--port`) leave out what is not asked for.",
            "None.",
            "The list is shorter than 64.",
        )
    };
    vec![Finding {
        rule: Rule::IncompleteTrace,
        severity: Severity::Info,
        holds: true,
        process: None,
        destination: None,
        cause: None,
        title: if evidence.iter().all(|(name, _)| *name == "findings_left_out") {
            "there are more findings than can be told"
        } else {
            "the tracer has not seen everything: figures are lower bounds, and a finding may be missing"
        }
        .to_owned(),
        evidence,
        advice: vec![advice::plain("trace-more", text, risk)],
        confidence: Confidence::High,
        recheck: recheck.to_owned(),
    }]
}
