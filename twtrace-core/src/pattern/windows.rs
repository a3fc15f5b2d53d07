//! How many connections began in each of the last windows of time.

use super::{WINDOW_NS, forget};

/// Number of windows whose connections are remembered.
const WINDOWS: usize = 3;

/// Connections by the time window in which they began.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Windows {
    /// Number of the newest window that had any, counted from boot.
    newest: u32,
    /// Counts of that window, the one before it, and so on.
    counts: [u32; WINDOWS],
    /// The highest count of a window.
    pub(super) most: u32,
}

impl Windows {
    fn number(at_ns: u64) -> u32 {
        u32::try_from(at_ns / WINDOW_NS).unwrap_or(u32::MAX)
    }

    fn advance(&mut self, number: u32) {
        forget(&mut self.counts, number.saturating_sub(self.newest).into());
        self.newest = self.newest.max(number);
    }

    pub(super) fn add(&mut self, at_ns: u64) {
        let number = Self::number(at_ns);
        self.advance(number);
        // A connection older than the remembered windows counts only in the sums.
        if let Some(count) = self.counts.get_mut((self.newest - number) as usize) {
            *count = count.saturating_add(1);
            self.most = self.most.max(*count);
        }
    }

    /// Adds another's. For windows that are not remembered, the higher maximum is kept, which is a lower bound.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.advance(other.newest);
        self.most = self.most.max(other.most);
        for (back, theirs) in other.counts.iter().enumerate() {
            if let Some(ours) = self.counts.get_mut((self.newest - other.newest) as usize + back) {
                *ours = ours.saturating_add(*theirs);
                self.most = self.most.max(*ours);
            }
        }
    }

    /// How many began within the remembered windows as of `now_ns`, and when the first of these windows begins.
    pub(super) fn recent(&self, now_ns: u64) -> (u32, u64) {
        let now = Self::number(now_ns);
        let passed = now.saturating_sub(self.newest) as usize;
        let count = self.counts.iter().take(WINDOWS.saturating_sub(passed)).sum();
        (count, u64::from(now).saturating_sub(WINDOWS as u64 - 1) * WINDOW_NS)
    }
}
