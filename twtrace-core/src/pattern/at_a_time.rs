//! How many connections were open at a time. They are known in the order of their ends, so what was open at an instant is
//! known only once the longest of them have ended.

use super::forget;
use crate::bounded;

/// Instants that are remembered.
const INSTANTS: usize = 16;

/// The least time from one instant to the next, as a power of two in nanoseconds: about a millisecond.
const LEAST: u8 = 20;

/// A connection covers at most this many instants: the time between them grows with the longest one.
const COVERED: u64 = 8;

/// Open connections at regular instants, whose distance grows with the longest connection. The most is a lower bound: between
/// two instants there may have been more.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct AtATime {
    /// Time from one instant to the next, as a power of two in nanoseconds.
    #[serde(deserialize_with = "bounded::number::<63, _>")]
    step: u8,
    /// Number of the newest instant, counted from boot.
    newest: u64,
    /// Open connections at that instant, at the one before it, and so on.
    counts: [u16; INSTANTS],
    most: u32,
}

impl Default for AtATime {
    fn default() -> Self {
        Self { step: LEAST, newest: 0, counts: [0; INSTANTS], most: 0 }
    }
}

impl AtATime {
    /// A connection was open from one time to the other, monotonic nanoseconds.
    pub(super) fn add(&mut self, begun_ns: u64, end_ns: u64) {
        while end_ns.saturating_sub(begun_ns) >> self.step > COVERED {
            self.coarsen();
        }
        self.most = self.most.max(1);
        let (first, last) = ((begun_ns >> self.step) + 1, end_ns >> self.step);
        self.advance(last);
        for instant in first..=last {
            if let Some(count) = self.counts.get_mut((self.newest - instant) as usize) {
                *count = count.saturating_add(1);
                self.most = self.most.max((*count).into());
            }
        }
    }

    fn advance(&mut self, number: u64) {
        forget(&mut self.counts, number.saturating_sub(self.newest));
        self.newest = self.newest.max(number);
    }

    /// Keeps every second instant.
    fn coarsen(&mut self) {
        let newest = self.newest / 2;
        let count = |back: usize| {
            let before = newest.checked_sub(back as u64).map(|instant| (self.newest - 2 * instant) as usize);
            before.and_then(|before| self.counts.get(before)).copied().unwrap_or(0)
        };
        self.counts = std::array::from_fn(count);
        (self.step, self.newest) = (self.step + 1, newest);
    }

    /// Adds another's. Of instants that are not remembered, the higher maximum is kept.
    pub(super) fn absorb(&mut self, other: &Self) {
        let mut other = *other;
        while self.step < other.step {
            self.coarsen();
        }
        while other.step < self.step {
            other.coarsen();
        }
        self.advance(other.newest);
        other.advance(self.newest);
        self.most = self.most.max(other.most);
        for (ours, theirs) in self.counts.iter_mut().zip(other.counts) {
            *ours = ours.saturating_add(theirs);
            self.most = self.most.max((*ours).into());
        }
    }

    /// The most at a time that is known.
    pub(super) fn most(&self) -> u64 {
        self.most.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn of(connections: impl IntoIterator<Item = (u64, u64)>) -> AtATime {
        let mut all = AtATime::default();
        connections.into_iter().for_each(|(begun, end)| all.add(begun * MS, end * MS));
        all
    }

    #[test]
    fn one_after_the_other_is_one_at_a_time() {
        assert_eq!(of((0..1000).map(|n| (10 * n, 10 * n + 9))).most(), 1);
        assert_eq!(of([]).most(), 0);
        assert_eq!(of([(5, 5)]).most(), 1, "shorter than the time between two instants");
    }

    #[test]
    fn a_burst_is_counted_in_whatever_order_it_ends() {
        // 300 begin within 40 ms, and end within 40 ms from 300 ms on.
        assert_eq!(of((0..300).map(|n| (n * 40 / 300, 300 + n * 40 / 300))).most(), 300);
        // The first to begin is the last to end.
        assert_eq!(of((0..100).map(|n| (1000 - n, 2000 + n))).most(), 100);
    }

    #[test]
    fn a_longer_connection_coarsens_what_is_remembered() {
        let mut all = of((0..50).map(|n| (1000 + n % 3, 1020 + n / 10)));
        assert_eq!(all.most(), 50);
        all.add(1000 * MS, 6000 * MS);
        assert_eq!(all.most(), 50);
        // Those that overlap from now on are counted on the coarser instants.
        (0..80).for_each(|n| all.add((6000 + n) * MS, (9000 + n) * MS));
        assert_eq!(all.most(), 80);
    }

    #[test]
    fn workers_count_together() {
        let mut all = AtATime::default();
        for worker in 0..4 {
            all.absorb(&of((0..10).map(|n| (100 * n + worker, 100 * n + 50 + worker))));
        }
        assert_eq!(all.most(), 4);
        let before = all;
        all.absorb(&AtATime::default());
        assert_eq!(all, before);
    }
}
