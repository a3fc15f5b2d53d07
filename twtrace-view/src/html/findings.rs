//! Findings as stories: what happens, what shows it, what to change, and how to see that it helped.

use super::{Span, bar, budgets, top};
use crate::explain::FINDINGS;
use crate::findings as words;
use crate::text;
use maud::{Markup, html};
use twtrace_core::evidence::{Evidence, Unit, Value};
use twtrace_core::finding::{Advice, Finding, Severity};
use twtrace_core::ports::Budget;
use twtrace_core::snapshot::Snapshot;

/// Evidence that is a part of other evidence, by their names: the one has a bar as a share of the other.
pub(super) const LIMITS: [(&str, &str); 26] = [
    ("failures_in_own_range", "failures"),
    ("unanswered", "failures"),
    ("refused", "failures"),
    ("conntrack_count", "conntrack_max"),
    ("ports_time_wait", "ports_total"),
    ("ports_established", "ports_total"),
    ("ports_other", "ports_total"),
    ("ports_bound", "ports_total"),
    ("ports_available", "ports_total"),
    ("ports_not_seen", "ports_total"),
    ("ports_without_timestamps", "ports_time_wait"),
    ("ports_close_wait", "ports_other"),
    ("ports_syn_sent", "ports_other"),
    ("port_rate_per_s", "max_rate_per_s"),
    ("opened_by_others", "time_wait_created"),
    ("time_wait", "max_tw_buckets"),
    ("time_wait_live", "max_tw_buckets"),
    ("one_request_connections", "connections"),
    ("closed_first", "connections"),
    ("by_so_linger", "aborts"),
    ("with_unread_data", "aborts"),
    ("queued", "backlog"),
    ("queued_hung_up", "queued"),
    ("close_wait_for_3_s", "close_wait"),
    ("fin_wait1_for_3_s", "fin_wait1"),
    ("fin_wait2_for_3_s", "fin_wait2"),
];

/// All findings, the most severe first.
pub(crate) fn section(snapshot: &Snapshot, span: Span) -> Markup {
    let sorted = span.findings(snapshot);
    html! {
        @if sorted.is_empty() { p { (words::NOTHING) } }
        @for finding in sorted { (story(finding, snapshot)) }
    }
}

/// The story of a finding. One that costs something and breaks nothing is folded: a host may have many of them.
fn story(finding: &Finding, snapshot: &Snapshot) -> Markup {
    let class = format!("panel finding {}", top::class(Some(finding.severity)));
    html! {
        @if finding.severity > Severity::Info {
            article class=(class) { (head(finding, snapshot)) (body(finding)) }
        } @else {
            details class=(class) { summary { (head(finding, snapshot)) } (body(finding)) }
        }
    }
}

/// What happens, and to whom.
fn head(finding: &Finding, snapshot: &Snapshot) -> Markup {
    html! {
        h3 {
            span class="severity" { (words::state(finding)) } " "
            span class="subject" { (words::subject(finding, Some(snapshot))) }
        }
        p class="what" { (prose(&words::title(finding))) }
        p class="about" {
            (finding.rule.name())
            @for (title, text) in words::about(finding, snapshot) { ", " (title) " " (text) }
        }
    }
}

fn body(finding: &Finding) -> Markup {
    html! {
        div class="story" {
            section { (evidence(finding)) (meaning(finding.rule.name())) }
            @if !finding.advice.is_empty() {
                section {
                    h4 { "What to change, the best first" }
                    ol { @for advice in &finding.advice { li { (self::advice(advice)) } } }
                }
            }
        }
        p class="check" {
            b { "How to check: " } (prose(&text::clean(&finding.recheck)))
            " " span class="about" { "Confidence " (words::confidence(finding.confidence)) "." }
        }
    }
}

fn evidence(finding: &Finding) -> Markup {
    html! {
        @if !finding.evidence.is_empty() {
            h4 { "Evidence" }
            @if let Some(budget) = budget(&finding.evidence) { (budgets::by_state(&budget, &[])) }
            @let shares: Vec<Option<(f64, String)>> =
                finding.evidence.iter().map(|one| share(one, &finding.evidence)).collect();
            table class="evidence" {
                tbody {
                    @for (one, share) in finding.evidence.iter().zip(&shares) {
                        @let (name, value) = words::evidence(one);
                        @let is_text = matches!(one.value(), Value::Text(_));
                        @let has_shares = shares.iter().any(Option::is_some);
                        tr {
                            th scope="row" { (name) }
                            td class=(if is_text { "text" } else { "number" })
                                colspan=[(is_text && has_shares).then_some("2")] { (value) }
                            @if has_shares && !is_text {
                                td class="share" {
                                    @if let Some((share, of)) = share {
                                        (bar::meter(*share, "filled")) (text::percent(*share)) (of)
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn number(evidence: &Evidence) -> Option<f64> {
    match evidence.value() {
        Value::Count(count) => Some(count as f64),
        Value::Number(number) => Some(number),
        Value::Text(_) => None,
    }
}

/// The number of the evidence of this name.
fn named(name: &str, all: &[Evidence]) -> Option<f64> {
    all.iter().find(|one| one.kind().name == name).and_then(number)
}

/// What share of its limit a piece of evidence is, and what that is called.
fn share(one: &Evidence, all: &[Evidence]) -> Option<(f64, String)> {
    let kind = one.kind();
    if kind.unit == Unit::Share {
        return Some((number(one)?, String::new()));
    }
    let (_, limit) = LIMITS.iter().find(|(name, _)| *name == kind.name)?;
    let of = all.iter().find(|other| other.kind().name == *limit)?;
    let whole = number(of).filter(|whole| *whole > 0.0)?;
    // Of nothing, a bar says nothing.
    let part = number(one).filter(|part| *part > 0.0)?;
    Some((part / whole, format!(" of {}", of.kind().label)))
}

/// The ports that the evidence counts; `None` where it does not.
fn budget(all: &[Evidence]) -> Option<Budget> {
    // The casts saturate: there are at most 2^16 ports.
    let ports = |name| named(name, all).map_or(0, |ports| ports as u32);
    let total = ports("ports_total");
    let (bound, established, time_wait) = (ports("ports_bound"), ports("ports_established"), ports("ports_time_wait"));
    let other = ports("ports_other").saturating_add(ports("ports_not_seen"));
    let used = [bound, established, other, time_wait].into_iter().fold(0, u32::saturating_add);
    (total > 0 && used > 0).then(|| Budget { total, bound, established, other, time_wait, used, ..Budget::default() })
}

/// What a rule is about, as `twtrace explain` says it; closed until it is asked for.
fn meaning(rule: &str) -> Markup {
    let topic = FINDINGS.iter().find(|topic| topic.names.contains(&rule));
    html! {
        @if let Some(topic) = topic {
            details {
                summary { "What this means: " (topic.summary) }
                // The first paragraph is the title.
                @for paragraph in topic.text.split("\n\n").skip(1) {
                    p { (prose(&paragraph.split_whitespace().collect::<Vec<_>>().join(" "))) }
                }
            }
        }
    }
}

fn advice(advice: &Advice) -> Markup {
    html! {
        p { (prose(&words::advice(advice))) " " span class="about" { "(" (advice.id) ")" } }
        @if let Some(command) = words::command(advice) {
            @let is_shell = words::is_shell(&command);
            p class="about" { (if is_shell { "Command, check it before you run it:" } else { "Setting:" }) }
            pre { code { (command) } }
        }
        @for effect in words::compared(advice) {
            p class="effect" { span { b { "Effect: " } (words::effect(effect)) } " " (bar::change(effect.from, effect.to)) }
        }
        p class="about" { b { "Risk: " } (text::clean(&advice.risk)) }
    }
}

/// Clean text from the core, in which code is between marks. A text with unbalanced marks is shown as it is.
fn prose(text: &str) -> Markup {
    let parts: Vec<&str> = text.split('`').collect();
    html! {
        @if parts.len().is_multiple_of(2) {
            (text)
        } @else {
            @for (index, part) in parts.iter().enumerate() {
                @if index % 2 == 1 { code { (part) } } @else { (part) }
            }
        }
    }
}
