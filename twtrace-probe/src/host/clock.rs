//! The traced host's clocks. Only sources read them; the engine takes the time from its events.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use std::io;

/// One moment on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_MONOTONIC`, nanoseconds: what `bpf_ktime_get_ns` returns.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME`, nanoseconds since the Unix epoch.
    pub unix_ns: i128,
}

/// `CLOCK_MONOTONIC` now, in nanoseconds.
pub fn monotonic_ns() -> io::Result<u64> {
    Ok(nanoseconds(clock_gettime(ClockId::CLOCK_MONOTONIC)?).try_into().unwrap_or(0))
}

/// Processor time of this process so far, in nanoseconds. Budgets that are a share of the time use this clock: on a
/// busy host the other clock includes the waiting.
pub fn process_ns() -> io::Result<u64> {
    Ok(nanoseconds(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?).try_into().unwrap_or(0))
}

/// The same for the calling thread.
pub fn thread_ns() -> io::Result<u64> {
    Ok(nanoseconds(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?).try_into().unwrap_or(0))
}

/// Both clocks now. The wall clock is read between two readings of the monotonic clock, and the middle of those is
/// used, so that being scheduled out in between causes half the error.
pub fn now() -> io::Result<Moment> {
    let before = monotonic_ns()?;
    let unix_ns = nanoseconds(clock_gettime(ClockId::CLOCK_REALTIME)?);
    let after = monotonic_ns()?;
    Ok(Moment { monotonic_ns: before.midpoint(after), unix_ns })
}

fn nanoseconds(time: TimeSpec) -> i128 {
    i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use std::time::SystemTime;

    #[test]
    fn both_clocks_give_the_time() {
        let (first, second) = (now().unwrap(), now().unwrap());
        assert!(second.monotonic_ns >= first.monotonic_ns);
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as i128;
        assert!((wall - first.unix_ns).abs() < 10_000_000_000);
    }
}
