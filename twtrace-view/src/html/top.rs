//! The head of a page: one sentence that says what happens or has happened, where it was seen, and what is missing.

use crate::focus::Focus;
use maud::{Markup, html};
use twtrace_core::finding::Severity;
use twtrace_core::snapshot::Snapshot;

/// The class of what is as severe as this.
pub(crate) fn class(severity: Option<Severity>) -> &'static str {
    match severity {
        Some(Severity::Critical) => "critical",
        Some(Severity::Warning) => "warning",
        Some(Severity::Info) => "info",
        None => "calm",
    }
}

/// The sentence.
pub(crate) fn sentence(focus: &Focus<'_>, snapshot: &Snapshot) -> Markup {
    let severity = focus.finding.map(|finding| finding.severity);
    // Nearly all TIME_WAIT sockets that the kernel allows are no finding, but nothing to be calm about.
    let severity = severity.or_else(|| focus.bucket.is_nearly_full().then_some(Severity::Warning));
    html! { p class={ "sentence " (class(severity)) } { (focus.sentence(snapshot)) } }
}

/// Every reason why the figures are incomplete.
pub(crate) fn warnings(all: &[String]) -> Markup {
    html! {
        @if !all.is_empty() {
            div class="warnings" role="note" {
                b { "These figures are incomplete" }
                ul { @for warning in all { li { (warning) } } }
            }
        }
    }
}
