//! Connections that begin in bursts: many at once, then none.

/// For so long, nanoseconds, none begins between two bursts.
const QUIET_NS: u64 = 1_000_000_000;

/// Fewer at once are no burst.
const MANY: u32 = 20;

/// The quiet time from one burst to the next is at least this many times as long as a burst.
const QUIETER: f64 = 2.0;

/// A load that lasts longer is no burst, in seconds.
const LONGEST_S: f64 = 5.0;

/// The largest of several bursts.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Burst {
    /// Connections that began in it.
    pub connections: u64,
    /// From the first start to the last, seconds.
    pub seconds: f64,
    /// From the end of one burst to the beginning of the next, on average, seconds.
    pub quiet_s: f64,
    /// From the beginning of one burst to that of the next, on average, seconds.
    pub period_s: f64,
}

/// Bursts of connections, by the times at which these began. Small: there is one for each process and destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Bursts {
    /// First start of the latest burst, monotonic nanoseconds.
    first_ns: u64,
    /// From there to its last start, microseconds.
    us: u32,
    /// Its connections.
    count: u32,
    /// How many were there before it, and how many of these had many connections.
    before: u32,
    large: u32,
    /// How long these were in all, milliseconds.
    busy_ms: u32,
    /// Connections of the largest of these, and how long it was in microseconds.
    most: u32,
    most_us: u32,
}

impl Bursts {
    /// A connection began. They come in about that order.
    pub(super) fn add(&mut self, at_ns: u64) {
        let last_ns = self.first_ns.saturating_add(u64::from(self.us) * 1000);
        if self.count > 0 && at_ns > last_ns.saturating_add(QUIET_NS) {
            (self.most, self.most_us) = self.largest_of();
            self.busy_ms = self.busy_ms.saturating_add(self.us / 1000);
            self.large = self.large.saturating_add(u32::from(self.count >= MANY));
            self.before = self.before.saturating_add(1);
            self.count = 0;
        }
        if self.count == 0 {
            (self.first_ns, self.us, self.count) = (at_ns, 0, 1);
        } else if at_ns.saturating_add(QUIET_NS) >= self.first_ns {
            self.first_ns = self.first_ns.min(at_ns);
            self.us = u32::try_from((last_ns.max(at_ns) - self.first_ns) / 1000).unwrap_or(u32::MAX);
            self.count = self.count.saturating_add(1);
        }
    }

    fn largest_of(&self) -> (u32, u32) {
        if self.count > self.most { (self.count, self.us) } else { (self.most, self.most_us) }
    }

    /// Those of both, as far as they are known: the larger ones, if both are bursts.
    pub(super) fn or(&self, other: &Self) -> Self {
        match (self.count, other.count) {
            (_, 0) => *self,
            (0, _) => *other,
            _ if self.before == 0 || other.before == 0 => Self::default(),
            _ if self.largest_of() >= other.largest_of() => *self,
            _ => *other,
        }
    }

    /// The largest, if connections begin in several bursts. `first_ns`: when the first connection of all began.
    pub(super) fn largest(&self, first_ns: u64) -> Option<Burst> {
        let (connections, us) = self.largest_of();
        if self.large + u32::from(self.count >= MANY) < 2 {
            return None;
        }
        let before = f64::from(self.before);
        let span_s = self.first_ns.saturating_sub(first_ns) as f64 / 1e9;
        let busy_s = f64::from(self.busy_ms) / 1e3;
        let quiet_s = (span_s - busy_s) / before;
        let mean_s = (busy_s + f64::from(self.us) / 1e6) / (before + 1.0);
        (mean_s <= LONGEST_S && quiet_s >= QUIETER * mean_s).then(|| Burst {
            connections: connections.into(),
            seconds: f64::from(us) / 1e6,
            quiet_s,
            period_s: span_s / before,
        })
    }

    /// Connections per second from one burst to the next. `all`: all of them, which began from `first_ns` on.
    pub(super) fn rate_per_s(&self, all: u64, first_ns: u64) -> Option<f64> {
        self.largest(first_ns)?;
        let seconds = self.first_ns.saturating_sub(first_ns) as f64 / 1e9;
        (seconds > 0.0).then(|| all.saturating_sub(self.count.into()) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn of(starts: impl IntoIterator<Item = u64>) -> Bursts {
        let mut all = Bursts::default();
        starts.into_iter().for_each(|at| all.add(at * MS));
        all
    }

    #[test]
    fn many_at_once_and_then_none() {
        let starts = (0..3).flat_map(|burst| (0..400).map(move |n| 1000 + 10_000 * burst + n));
        let burst = of(starts.clone()).largest(1000 * MS).expect("there are three");
        assert_eq!((burst.connections, burst.seconds, burst.period_s), (400, 0.399, 10.0));
        assert!((burst.quiet_s - 9.601).abs() < 1e-3, "{burst:?}");
        assert_eq!(of(starts).rate_per_s(1200, 1000 * MS), Some(40.0));
    }

    #[test]
    fn a_steady_load_and_single_connections_are_no_bursts() {
        assert_eq!(of((0..10_000).map(|n| 1000 + 3 * n)).largest(1000 * MS), None);
        assert_eq!(of((0..100).map(|n| 1000 + 5000 * n)).largest(1000 * MS), None, "one each 5 s");
        assert_eq!(of(1000..1500).largest(1000 * MS), None, "there was only one so far");
        let with_pauses = (0..5).flat_map(|load| (0..5000).map(move |n| 1000 + 7000 * load + n));
        assert_eq!(of(with_pauses).largest(1000 * MS), None, "busy for most of the time");
        let at_noon = std::iter::once(1000).chain((0..500).map(|n| 9_000_000 + n));
        assert_eq!(of(at_noon).largest(1000 * MS), None, "only one of them is a burst");
    }

    #[test]
    fn a_late_one_does_not_make_another_burst() {
        let mut all = of((0..2).flat_map(|burst| (0..50).map(move |n| 1000 + 8000 * burst + n)));
        let before = all.largest(1000 * MS);
        all.add(1000 * MS);
        assert_eq!(all.largest(1000 * MS), before);
    }
}
