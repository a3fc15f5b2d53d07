//! What leads to consequences: a finding about how a program uses connections.

use crate::finding::Finding;

/// A habit.
#[derive(Debug)]
pub(super) struct Habit {
    pub(super) finding: Finding,
    /// TIME_WAIT sockets that it has created; 0 of a habit that takes ports otherwise.
    pub(super) created: u64,
}
