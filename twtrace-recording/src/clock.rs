//! Converts times of the traced host's clock to wall-clock times, and back.

use anyhow::Context as _;

/// Largest distance of the clock's zero from the Unix epoch, so that no time overflows: longer than any clock runs.
const FAR_US: i128 = 1 << 61;

/// Converts monotonic nanoseconds to microseconds since the Unix epoch, without loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// Wall-clock time of the monotonic clock's zero, microseconds since the Unix epoch.
    zero_us: i64,
}

impl Clock {
    /// From the wall-clock time of one moment of the monotonic clock.
    pub(super) fn new(at_ns: u64, unix_ns: i128) -> Self {
        let unix_us = unix_ns.div_euclid(1000).clamp(-FAR_US, FAR_US);
        Self { zero_us: (unix_us - i128::from(at_ns / 1000)) as i64 }
    }

    /// The microsecond of a moment, and its remaining nanoseconds, if any.
    pub(super) fn split(self, at_ns: u64) -> (i64, Option<u16>) {
        // A u64 of nanoseconds is less than 2^55 microseconds.
        let time = self.zero_us + (at_ns / 1000) as i64;
        let rest = (at_ns % 1000) as u16;
        (time, (rest != 0).then_some(rest))
    }

    /// The inverse: the moment.
    ///
    /// # Errors
    /// It is not a time of this clock.
    pub(super) fn moment(self, time: i64, rest: Option<u16>) -> anyhow::Result<u64> {
        self.join(time, rest).context("a time of another clock")
    }

    fn join(self, time: i64, rest: Option<u16>) -> Option<u64> {
        let since = u64::try_from(time.checked_sub(self.zero_us)?).ok()?;
        since.checked_mul(1000)?.checked_add(u64::from(rest.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_comes_back() {
        for unix_ns in [0, 1_790_000_000_123_456_789, -1, i128::MAX, i128::MIN] {
            for start in [0, 999, 5_000_000_001, u64::MAX] {
                let clock = Clock::new(start, unix_ns);
                for at in [0, 1, 999, 1000, 123_456_789_000, u64::MAX - 1, u64::MAX] {
                    let (time, rest) = clock.split(at);
                    assert_eq!(clock.join(time, rest), Some(at));
                }
                assert_eq!(clock.join(i64::MIN, None), None);
                assert_eq!(clock.join(i64::MAX, Some(u16::MAX)), None);
            }
        }
    }

    #[test]
    fn times_are_of_the_wall_clock() {
        let clock = Clock::new(5_000_000_000, 1_790_000_000_123_456_789);
        assert_eq!(clock.split(7_000_001_002), (1_790_000_002_123_457, Some(2)));
        assert_eq!(clock.split(4_000_000_000), (1_789_999_999_123_456, None));
    }
}
