//! The port budget of a destination.
//!
//! A port is taken for one (source address, destination address, destination port), so each destination has the
//! whole range of `net.ipv4.ip_local_port_range` for itself (`__inet_hash_connect`).

use crate::input::KernelFacts;

/// How long a timewait socket holds its port: `TCP_TIMEWAIT_LEN`, which no sysctl changes.
pub const TIME_WAIT_SECONDS: f64 = 60.0;

/// Ports towards one (source address, destination address, destination port) and how long they last.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Budget {
    /// Ports of the range, reserved ones taken off.
    pub total: u32,
    /// Ports in use by live timewait sockets and, by the last census, by full sockets.
    pub used: u32,
    /// `used / total`.
    pub utilization: f64,
    /// Connections per second that the range sustains for ever: `total / 60 s`.
    pub max_rate_per_s: f64,
    /// Seconds until no port is left at the present rate; `None` when it never comes to that. *Inferred.*
    pub seconds_to_exhaustion: Option<f64>,
}

impl Budget {
    /// The budget with `used` ports taken and `rate_per_s` timewait sockets made per second. `None` while the range is
    /// not known.
    pub fn new(kernel: &KernelFacts, used: u64, rate_per_s: f64) -> Option<Self> {
        let (low, high) = kernel.port_range;
        if low == 0 || high < low {
            return None;
        }
        let total = (u32::from(high - low) + 1).saturating_sub(kernel.reserved_in_range);
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        let max_rate_per_s = f64::from(total) / TIME_WAIT_SECONDS;
        let left = f64::from(total.saturating_sub(used));
        let seconds_to_exhaustion = if total == 0 || left == 0.0 {
            Some(0.0)
        } else {
            // At or below the sustained rate, as many ports come back as are taken.
            (rate_per_s > max_rate_per_s).then(|| left / rate_per_s)
        };
        let utilization = if total == 0 { 1.0 } else { f64::from(used) / f64::from(total) };
        Some(Self { total, used, utilization, max_rate_per_s, seconds_to_exhaustion })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use proptest::prelude::*;

    fn kernel(low: u16, high: u16, reserved: u32) -> KernelFacts {
        KernelFacts { port_range: (low, high), reserved_in_range: reserved, ..KernelFacts::default() }
    }

    #[test]
    fn the_default_range_sustains_470_a_second() {
        let budget = Budget::new(&kernel(32_768, 60_999, 0), 14_116, 100.0).unwrap();
        assert_eq!((budget.total, budget.used), (28_232, 14_116));
        assert_eq!(budget.max_rate_per_s.floor(), 470.0);
        assert_eq!(budget.utilization, 0.5);
        assert_eq!(budget.seconds_to_exhaustion, None);
        let fast = Budget::new(&kernel(32_768, 60_999, 0), 14_116, 1411.6).unwrap();
        assert_eq!(fast.seconds_to_exhaustion, Some(10.0));
    }

    #[test]
    fn an_unknown_range_has_no_budget() {
        assert_eq!(Budget::new(&KernelFacts::default(), 1, 1.0), None);
        assert_eq!(Budget::new(&kernel(9, 8, 0), 1, 1.0), None);
    }

    proptest! {
        #[test]
        fn never_negative_and_never_nan(low: u16, high: u16, reserved: u32, used: u64, rate in 0.0..1e9_f64) {
            if let Some(budget) = Budget::new(&kernel(low, high, reserved), used, rate) {
                prop_assert!(budget.utilization >= 0.0 && budget.max_rate_per_s >= 0.0);
                prop_assert!(budget.seconds_to_exhaustion.is_none_or(|seconds| seconds >= 0.0));
            }
        }
    }
}
