//! Lost events and unknown owners, which make the other findings less certain.

use super::advice;
use super::context::{MANY, RuleContext};
use crate::evidence::Evidence;
use crate::finding::{Confidence, Finding, Rule, Severity};

/// One lost event in this many is not worth reporting.
const IN: u64 = 1000;

/// Share of the census that should have a known owner.
const COVERAGE: f64 = 0.95;

/// `left_out`: number of findings that are not reported because there are too many.
pub(super) fn check(context: &RuleContext<'_>, left_out: usize) -> Vec<Finding> {
    let summary = context.snapshot.summary();
    let counters = &summary.counters;
    let lost = [counters.ring_full, counters.parts_refused, counters.recursion, counters.stale, counters.undecodable];
    let lost: u64 = lost.iter().sum();
    let coverage = &summary.coverage;
    let mut evidence: Vec<Evidence> = Vec::new();
    let has_losses = lost > 0 && lost.saturating_mul(IN) > counters.records;
    if has_losses {
        evidence.push(Evidence::Lost(lost));
        evidence.push(Evidence::Records(counters.records));
    }
    let has_unattributed = coverage.unattributed >= MANY && coverage.ratio() < COVERAGE;
    if has_unattributed {
        evidence.push(Evidence::Unattributed(coverage.unattributed));
        evidence.push(Evidence::Coverage(coverage.ratio()));
    }
    if summary.tracing.no_btf {
        evidence.push(Evidence::NoBtf("how connections end is inferred".to_owned()));
    }
    if summary.tracing.by_tuple {
        let text = "who accepted, who aborted and some failures of connect are not seen";
        evidence.push(Evidence::NoCookies(text.to_owned()));
    }
    let refused = summary.namespaces.iter().filter(|namespace| namespace.refused.is_some() && !namespace.gone).count();
    let unseen = summary.namespaces_left_out.saturating_add(refused as u64);
    if unseen > 0 {
        evidence.push(Evidence::NamespacesWithoutCensus(unseen));
    }
    if left_out > 0 {
        evidence.push(Evidence::FindingsLeftOut(left_out as u64));
    }
    if evidence.is_empty() {
        return Vec::new();
    }
    let is_limited = summary.tracing.no_btf || summary.tracing.by_tuple || unseen > 0;
    let (text, risk, recheck) = if has_losses || has_unattributed {
        (
            "Raise the limit with --ring-bytes 64M; `twtrace doctor` says what this kernel lacks.",
            "Memory.",
            "The header of `twtrace top` says `lost 0`.",
        )
    } else if is_limited {
        (
            "Run `twtrace doctor`: it lists what is missing on this host and what each missing part costs.",
            "None.",
            "`twtrace doctor` names the tier `cookie` or `exact`, and no namespace that cannot be entered.",
        )
    } else {
        (
            "Use filters (`--comm`, `--dest`, `--port`) to look at less at a time.",
            "None.",
            "The list is shorter than 64.",
        )
    };
    vec![Finding {
        rule: Rule::IncompleteTrace,
        severity: Severity::Info,
        active: true,
        process: None,
        destination: None,
        cause: None,
        title: if has_losses || has_unattributed || is_limited {
            "the tracer has not seen everything: figures are lower bounds, and a finding may be missing"
        } else {
            "there are more findings than can be shown"
        }
        .to_owned(),
        evidence,
        advice: vec![advice::plain("trace-more", text, risk)],
        confidence: Confidence::High,
        recheck: recheck.to_owned(),
    }]
}
