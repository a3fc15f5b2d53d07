//! A finding about how a program uses connections, which may be the cause of other findings.

use super::context::Pair;
use crate::finding::Finding;
use crate::keys::DestKey;
use std::mem::discriminant;

/// A habit.
#[derive(Debug)]
pub(super) struct Habit {
    pub(super) finding: Finding,
    /// TIME_WAIT sockets that it has created; 0 for a habit that takes ports in another way.
    pub(super) created: u64,
    /// All its destinations, if they are many; else only the finding's. In order: there may be thousands.
    pub(super) destinations: Vec<DestKey>,
}

/// Adds the evidence and the advice of the cause to a finding that is its consequence. What both have is said once, and
/// removing the cause is better than making room for it.
pub(super) fn merge(finding: &mut Finding, cause: Finding) {
    finding.cause = Some(cause.rule);
    let known: Vec<_> = finding.evidence.iter().map(discriminant).collect();
    finding.evidence.extend(cause.evidence.into_iter().filter(|evidence| !known.contains(&discriminant(evidence))));
    let known: Vec<&str> = finding.advice.iter().map(|advice| advice.id).collect();
    let more: Vec<_> = cause.advice.into_iter().filter(|advice| !known.contains(&advice.id)).collect();
    finding.advice.splice(0..0, more);
}

impl Habit {
    /// Of the finding's destination alone.
    pub(super) fn of(finding: Finding, created: u64) -> Self {
        let destinations = finding.destination.into_iter().collect();
        Self { finding, created, destinations }
    }

    /// Whether it is about a program's connections to that destination.
    pub(super) fn is_about(&self, pair: &Pair<'_>) -> bool {
        let is_its = |subject: crate::finding::Subject| match subject.process {
            Some(process) => process == pair.owner.key,
            None => (subject.ppid, subject.command) == (pair.owner.ppid, pair.owner.comm),
        };
        self.destinations.binary_search(&pair.key).is_ok() && self.finding.process.is_some_and(is_its)
    }
}
