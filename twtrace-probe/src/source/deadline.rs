//! When a source has to come to its end.

use crate::host::clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A time after which a source begins nothing long and goes on with nothing long. It can be set from another thread
/// while the source works. Unset, the source takes its time.
#[derive(Clone, Debug, Default)]
pub struct Deadline {
    /// `CLOCK_MONOTONIC`, nanoseconds; 0 while there is none.
    at_ns: Arc<AtomicU64>,
}

impl Deadline {
    /// Sets it to so long from now.
    pub fn set(&self, from_now: Duration) {
        let now_ns = clock::monotonic_ns().unwrap_or(1);
        let from_now_ns = u64::try_from(from_now.as_nanos()).unwrap_or(u64::MAX);
        self.at_ns.store(now_ns.saturating_add(from_now_ns), Ordering::Relaxed);
    }

    /// How much time is left; without a deadline as much as there can be.
    pub fn left(&self) -> Duration {
        match self.at_ns.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            at_ns => Duration::from_nanos(at_ns.saturating_sub(clock::monotonic_ns().unwrap_or(u64::MAX))),
        }
    }

    /// Whether it has passed.
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_counts_from_when_it_is_set() {
        let deadline = Deadline::default();
        assert_eq!((deadline.left(), deadline.is_over()), (Duration::MAX, false));
        let other = deadline.clone();
        other.set(Duration::from_secs(60));
        assert!(!deadline.is_over() && deadline.left() <= Duration::from_secs(60));
        other.set(Duration::ZERO);
        assert!(deadline.is_over());
    }
}
