//! Findings with their evidence and advice; failures with their causes.

use super::table;
use crate::findings::NOTHING;
use crate::report::Part;
use crate::report::findings::{RenderedAdvice, RenderedFinding};
use maud::{Markup, html};

pub(super) fn section(part: &Part<'_>) -> Markup {
    let rendered = part.findings();
    let failures = part.failures();
    html! {
        div class="findings" {
            h2 { "Findings" }
            @if rendered.is_empty() { p { (NOTHING) } }
            @for finding in &rendered { (self::finding(finding)) }
            p class="aside" { (part.orientation()) }
            @if !failures.rows.is_empty() {
                h2 { "Failures" }
                (table(&failures, "Failures"))
            }
        }
    }
}

fn finding(finding: &RenderedFinding) -> Markup {
    let class = format!("finding {}", finding.severity.to_lowercase());
    html! {
        article class=(class) {
            h3 { span class="severity" { (finding.state) } " " (finding.subject) ": " (finding.title) }
            p class="about" {
                (finding.id)
                @for (title, text) in &finding.about { ", " (title) " " (text) }
            }
            @if !finding.evidence.is_empty() {
                table class="evidence" {
                    thead { tr { th scope="col" { "Evidence" } th scope="col" class="number" { "Value" } } }
                    tbody {
                        @for (name, value) in &finding.evidence {
                            tr { th scope="row" { (name) } td class="number" { (value) } }
                        }
                    }
                }
            }
            @if !finding.advice.is_empty() {
                ol { @for advice in &finding.advice { li { (self::advice(advice)) } } }
            }
            p class="about" { "Confidence " (finding.confidence) ". Recheck: " (finding.recheck) }
        }
    }
}

fn advice(advice: &RenderedAdvice) -> Markup {
    html! {
        p { (advice.text) " " span class="about" { "(" (advice.id) ")" } }
        @if let Some(command) = &advice.command { pre { code { (command) } } }
        @if !advice.effects.is_empty() { p { b { "Effect: " } (advice.effects) } }
        p class="about" { b { "Risk: " } (advice.risk) }
    }
}
