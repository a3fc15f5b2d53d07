//! When a source must end.

use crate::host::clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A time after which a source neither begins nor continues anything long. Another thread can set it while the source
/// works. While it is unset, the source takes its time.
#[derive(Clone, Debug, Default)]
pub struct Deadline {
    /// `CLOCK_MONOTONIC`, nanoseconds; 0 if unset.
    at_ns: Arc<AtomicU64>,
}

impl Deadline {
    /// Sets it to this long from now.
    pub fn set(&self, from_now: Duration) {
        let now_ns = clock::monotonic_ns().unwrap_or(1);
        let from_now_ns = u64::try_from(from_now.as_nanos()).unwrap_or(u64::MAX);
        self.at_ns.store(now_ns.saturating_add(from_now_ns), Ordering::Relaxed);
    }

    /// The time left; the maximum duration if there is no deadline.
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
