//! The pieces of a page, for a report and for a live view alike: the head, the sentence, gauges, cards, findings, charts,
//! port budgets and tables. Each takes a snapshot or plain values, and knows nothing of the page that it is on.
//!
//! Every text goes through the templates, which escape it, after the views' own cleaning. No text becomes part of a style
//! or of a script.

pub(crate) mod bar;
pub(crate) mod budgets;
pub(crate) mod cards;
pub(crate) mod chart;
pub(crate) mod document;
pub(crate) mod findings;
pub(crate) mod gauges;
pub(crate) mod section;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod top;

use crate::findings as words;
use crate::focus::Focus;
use twtrace_core::finding::Finding;
use twtrace_core::snapshot::Snapshot;

/// What a page is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// The present moment: what is over is history.
    Now,
    /// A whole trace, which has ended: the worst of it matters.
    Whole,
}

impl Span {
    /// What deserves attention first.
    pub(crate) fn focus(self, snapshot: &Snapshot) -> Focus<'_> {
        match self {
            Self::Now => Focus::of(snapshot),
            Self::Whole => Focus::of_whole(snapshot),
        }
    }

    /// Findings in order.
    pub(crate) fn findings(self, snapshot: &Snapshot) -> Vec<&Finding> {
        match self {
            Self::Now => words::sorted(snapshot.findings()),
            Self::Whole => words::by_gravity(snapshot.findings()),
        }
    }
}
