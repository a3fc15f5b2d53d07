//! A finding about how a program uses connections, which may be the cause of other findings.

use crate::finding::Finding;

/// A habit.
#[derive(Debug)]
pub(super) struct Habit {
    pub(super) finding: Finding,
    /// TIME_WAIT sockets that it has created; 0 for a habit that takes ports in another way.
    pub(super) created: u64,
}
