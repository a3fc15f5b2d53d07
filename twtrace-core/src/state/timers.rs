//! How long TIME_WAIT lasts, by the timers that a census shows. It is a minute on nearly every kernel, but some vendors have a
//! sysctl for it, which may not be known here.

use super::time_wait::TimeWait;
use crate::event::{CensusRow, CensusState};

const SECOND_NS: u64 = 1_000_000_000;

/// A minute, and what censuses and clocks may be wrong by.
const MINUTE_NS: u64 = 60 * SECOND_NS;
const ERROR_NS: u64 = 2 * SECOND_NS;

/// The longest timers of a census, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    /// What was left of one.
    left_ns: u64,
    /// From the creation of a socket to the end of its timer. Late segments restart a timer, so it may be longer than
    /// TIME_WAIT, but not shorter.
    whole_ns: u64,
}

impl Timers {
    pub(super) fn see(&mut self, row: &CensusRow, live: Option<&TimeWait>, begin_ns: u64) {
        if row.state != CensusState::TimeWait {
            return;
        }
        let left_ns = u64::from(row.expires_ms) * 1_000_000;
        self.left_ns = self.left_ns.max(left_ns);
        if let Some(live) = live.filter(|live| live.created_ns > 0 && live.created_ns < begin_ns) {
            let whole_ns = begin_ns.saturating_add(left_ns) - live.created_ns;
            self.whole_ns = self.whole_ns.max(whole_ns);
        }
    }

    /// Whether there is anything to tell from.
    pub(super) fn is_empty(&self) -> bool {
        self.whole_ns == 0 && self.left_ns < MINUTE_NS
    }

    /// The length of TIME_WAIT in seconds, if it is not a minute.
    pub(super) fn contradict(&self) -> Option<u32> {
        let seconds = |ns: u64| u32::try_from(ns.saturating_add(SECOND_NS / 2) / SECOND_NS).ok();
        if self.left_ns > MINUTE_NS + ERROR_NS {
            seconds(self.left_ns)
        } else if self.whole_ns > 0 && self.whole_ns < MINUTE_NS - ERROR_NS {
            seconds(self.whole_ns)
        } else {
            None
        }
    }
}
