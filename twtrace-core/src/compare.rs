//! Compares two traces: the figures of each key, before and after. The figures are those of [`counts`](crate::counts).

use crate::counts::{Counts, FIELDS, Field, field};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A change smaller than this share of the larger figure is ignored.
const NOTABLE: f64 = 0.1;

/// A change of fewer standard deviations than this is ignored: connections do not arrive evenly.
const SIGMAS: f64 = 3.0;

/// A column that text tables show for both traces.
#[derive(Debug)]
pub struct Shown {
    /// Its heading.
    pub heading: &'static str,
    /// Its name in a line of text.
    pub words: &'static str,
    /// The figures that it sums: either all are totals, which are shown per second, or none is.
    pub fields: &'static [Field],
}

/// What text tables show next to created sockets. Rows with the same change in created sockets are sorted by the
/// largest change in the first total here, then in the next. JSON has all figures.
pub const SHOWN: &[Shown] = &[
    Shown { heading: "CONNECTIONS/S", words: "connections", fields: &[field::opened, field::accepted] },
    Shown { heading: "ERRORS/S", words: "errors", fields: &[field::errors] },
    Shown { heading: "LIVE PEAK", words: "most alive at a time", fields: &[field::time_wait_live_peak] },
];

impl Shown {
    /// Whether it is shown per second.
    pub fn is_rate(&self) -> bool {
        self.fields.iter().all(|field| field.is_total)
    }

    /// Its value, per second if it is a rate.
    pub fn of(&self, side: &Counted) -> f64 {
        self.fields.iter().map(|field| side.measure(field)).sum()
    }

    fn rates() -> impl Iterator<Item = &'static Self> {
        SHOWN.iter().filter(|shown| shown.is_rate())
    }
}

/// What was counted for one key over a trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// Its figures.
    pub counts: Counts,
    /// Length of the trace, seconds.
    pub seconds: f64,
}

impl Counted {
    /// A value that can be compared between traces of different lengths: for a total, its rate per second (0 in a trace
    /// of zero length); for durations, the median in microseconds; for other figures, the value.
    pub fn measure(&self, field: &Field) -> f64 {
        let size = (field.get)(&self.counts).size();
        match field.is_total {
            false => size,
            true if self.seconds > 0.0 => size / self.seconds,
            true => 0.0,
        }
    }

    /// TIME_WAIT sockets created per second.
    pub fn created_per_s(&self) -> f64 {
        self.measure(&field::time_wait_created)
    }

    /// Whether anything was counted in it.
    fn happened(&self) -> bool {
        FIELDS.iter().any(|field| field.is_total && self.measure(field) > 0.0)
    }
}

/// One key before and after. A missing figure is 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change<K> {
    /// The key.
    pub key: K,
    /// In the first trace.
    pub before: Counted,
    /// In the second trace.
    pub after: Counted,
}

impl<K> Change<K> {
    /// Difference of a figure, per second if it is a total.
    pub fn of(&self, field: &Field) -> f64 {
        self.after.measure(field) - self.before.measure(field)
    }

    /// Difference in TIME_WAIT sockets created per second.
    pub fn created_per_s(&self) -> f64 {
        self.of(&field::time_wait_created)
    }

    /// The same as a share of the rate before; `None` when that was 0.
    pub fn created_share(&self) -> Option<f64> {
        let before = self.before.created_per_s();
        (before > 0.0).then(|| self.created_per_s() / before)
    }

    /// Sorts the largest difference first: in created sockets, then in the figures shown next to them.
    fn largest_first(&self, other: &Self) -> Ordering {
        let by = |measure: &dyn Fn(&Counted) -> f64| {
            let size = |change: &Self| (measure(&change.after) - measure(&change.before)).abs();
            size(other).total_cmp(&size(self))
        };
        let created = by(&Counted::created_per_s);
        Shown::rates().fold(created, |order, shown| order.then_with(|| by(&|side| shown.of(side))))
    }
}

/// Length of both traces, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lengths {
    /// The first.
    pub before: f64,
    /// The second.
    pub after: f64,
}

impl Lengths {
    /// One key's change.
    pub fn change<K>(&self, key: K, before: Counts, after: Counts) -> Change<K> {
        let before = Counted { counts: before, seconds: self.before };
        Change { key, before, after: Counted { counts: after, seconds: self.after } }
    }

    /// Changes of all keys in either list, the largest first, equal ones by key. Rows with the same key are merged.
    pub fn changes<K: Ord, C: Borrow<Counts>>(
        &self,
        before: impl IntoIterator<Item = (K, C)>,
        after: impl IntoIterator<Item = (K, C)>,
    ) -> Vec<Change<K>> {
        let mut sums: BTreeMap<K, [Counts; 2]> = BTreeMap::new();
        for (key, counts) in before {
            sums.entry(key).or_default()[0].absorb(counts.borrow());
        }
        for (key, counts) in after {
            sums.entry(key).or_default()[1].absorb(counts.borrow());
        }
        let mut changes: Vec<_> = sums
            .into_iter()
            .map(|(key, [before, after])| self.change(key, before, after))
            // Rows that only have live sockets have no rate.
            .filter(|change| change.before.happened() || change.after.happened())
            .collect();
        // Stable: those that are equal stay in the order of their keys.
        changes.sort_by(Change::largest_first);
        changes
    }

    /// Which way a rate went, as far as the counts show it.
    pub fn direction(&self, before: f64, after: f64) -> Direction {
        let variance = |rate: f64, seconds: f64| if seconds > 0.0 { rate.max(0.0) / seconds } else { 0.0 };
        let sigma = (variance(before, self.before) + variance(after, self.after)).sqrt();
        let change = after - before;
        if change.abs() <= (SIGMAS * sigma).max(NOTABLE * before.max(after)) {
            Direction::Same
        } else if change > 0.0 {
            Direction::Rose
        } else {
            Direction::Fell
        }
    }

    /// The result for one sentence. `parts` add up to `total` and are sorted as [`Self::changes`] does.
    pub fn verdict<'a, K, T>(&self, total: &Change<T>, parts: &'a [Change<K>]) -> Verdict<'a, K> {
        let direction = self.direction(total.before.created_per_s(), total.after.created_per_s());
        let is_notable = |change: &&Change<K>| {
            let its = self.direction(change.before.created_per_s(), change.after.created_per_s());
            if direction == Direction::Same { its != Direction::Same } else { its == direction }
        };
        let main = parts.iter().find(is_notable);
        let all = total.created_per_s();
        let others = |rate: fn(&Change<K>) -> f64, all: f64| all - main.map_or(0.0, rate);
        let rest_before = others(|change| change.before.created_per_s(), total.before.created_per_s()).max(0.0);
        let rest_after = others(|change| change.after.created_per_s(), total.after.created_per_s()).max(0.0);
        Verdict {
            direction,
            main,
            main_share: main.filter(|_| all != 0.0).map_or(0.0, |main| main.created_per_s() / all),
            rest: self.direction(rest_before, rest_after),
            rest_per_s: rest_after - rest_before,
        }
    }
}

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// More than before.
    Rose,
    /// Less than before.
    Fell,
    /// No difference that means anything.
    Same,
}

/// The result of a comparison.
#[derive(Debug, PartialEq)]
pub struct Verdict<'a, K> {
    /// Of TIME_WAIT sockets created per second by all processes.
    pub direction: Direction,
    /// The part that changed most in the same direction; when the total did not change, the part that changed most.
    pub main: Option<&'a Change<K>>,
    /// Its share of the total change: more than 1 when others changed the other way, 0 when the total did not change.
    pub main_share: f64,
    /// Which way all other parts went together.
    pub rest: Direction,
    /// By how much, per second.
    pub rest_per_s: f64,
}

// Derived impls would require the same of the keys, which are only referenced.
impl<K> Clone for Verdict<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Verdict<'_, K> {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use proptest::prelude::*;

    const MINUTE: Lengths = Lengths { before: 60.0, after: 60.0 };

    fn created(created: u64) -> Counts {
        Counts { time_wait_created: created, opened: created, ..Counts::default() }
    }

    fn verdict_of(
        before: &[(&'static str, u64)],
        after: &[(&'static str, u64)],
    ) -> (Direction, Option<&'static str>, Direction) {
        let counts = |list: &[(&'static str, u64)]| list.iter().map(|(key, n)| (*key, created(*n))).collect::<Vec<_>>();
        let sum = |list: &[(&'static str, u64)]| created(list.iter().map(|(_, n)| n).sum());
        let changes = MINUTE.changes(counts(before), counts(after));
        let verdict = MINUTE.verdict(&MINUTE.change((), sum(before), sum(after)), &changes);
        (verdict.direction, verdict.main.map(|main| main.key), verdict.rest)
    }

    #[test]
    fn verdict_names_what_changed_and_not_what_stayed() {
        use Direction::{Fell, Rose, Same};
        assert_eq!(verdict_of(&[("pg", 48_000), ("api", 600)], &[("pg", 60), ("api", 610)]), (Fell, Some("pg"), Same));
        assert_eq!(verdict_of(&[("pg", 60)], &[("pg", 48_000), ("new", 6000)]), (Rose, Some("pg"), Rose));
        assert_eq!(verdict_of(&[("a", 6000), ("b", 60)], &[("a", 60), ("b", 6000)]), (Same, Some("a"), Rose));
        assert_eq!(verdict_of(&[("a", 6000)], &[("a", 6100)]), (Same, None, Same));
        assert_eq!(verdict_of(&[], &[]), (Same, None, Same));
        assert_eq!(verdict_of(&[], &[("a", 1)]), (Same, None, Same));
        assert_eq!(verdict_of(&[], &[("a", 600)]), (Rose, Some("a"), Same));
    }

    #[test]
    fn a_few_events_prove_nothing() {
        let seconds = Lengths { before: 2.0, after: 2.0 };
        assert_eq!(seconds.direction(2.0, 4.0), Direction::Same);
        let hours = Lengths { before: 7200.0, after: 7200.0 };
        assert_eq!(hours.direction(2.0, 4.0), Direction::Rose);
        assert_eq!(hours.direction(4.0, 2.0), Direction::Fell);
        assert_eq!(hours.direction(100.0, 109.0), Direction::Same);
    }

    #[test]
    fn rates_are_by_each_ones_own_time() {
        let lengths = Lengths { before: 10.0, after: 100.0 };
        let change = lengths.change("a", created(1000), created(1000));
        assert_eq!((change.before.created_per_s(), change.after.created_per_s()), (100.0, 10.0));
        assert_eq!((change.created_per_s(), change.created_share()), (-90.0, Some(-0.9)));
        assert_eq!(lengths.change("a", created(0), created(1)).created_share(), None);
        assert_eq!(Counted { counts: created(5), seconds: 0.0 }.created_per_s(), 0.0);
    }

    #[test]
    fn the_largest_change_comes_first_and_equal_keys_are_one() {
        let live = |peak| Counts { time_wait_live_peak: peak, ..created(60) };
        let before = [("a", live(3)), ("a", live(2)), ("same", created(60)), ("b", created(600))];
        let after = [
            ("c", created(60)),
            ("same", created(60)),
            ("errors", Counts { errors: [(99, 1)].into(), ..Counts::default() }),
        ];
        let changes = MINUTE.changes(before, after);
        let keys: Vec<_> = changes.iter().map(|change| change.key).collect();
        assert_eq!(keys, ["b", "a", "c", "errors", "same"]);
        let a = changes.iter().find(|change| change.key == "a").unwrap();
        assert_eq!((a.before.created_per_s(), a.before.counts.time_wait_live_peak), (2.0, 3));
        assert_eq!(a.after.counts, Counts::default());
        assert_eq!((a.of(&field::opened), a.of(&field::time_wait_live_peak)), (-2.0, -3.0));
    }

    proptest! {
        #[test]
        fn changes_add_up(
            before in prop::collection::vec((0_u8..9, 0_u64..1 << 40), 0..20),
            after in prop::collection::vec((0_u8..9, 0_u64..1 << 40), 0..20),
            seconds in (0.1..1e6_f64, 0.1..1e6_f64),
        ) {
            let lengths = Lengths { before: seconds.0, after: seconds.1 };
            let counts = |list: &[(u8, u64)]| list.iter().map(|(key, n)| (*key, created(*n))).collect::<Vec<_>>();
            let sum = |list: &[(u8, u64)]| created(list.iter().map(|(_, n)| n).sum());
            let changes = lengths.changes(counts(&before), counts(&after));
            let total = lengths.change((), sum(&before), sum(&after));
            let of_parts: f64 = changes.iter().map(Change::created_per_s).sum();
            let scale = 1.0 + total.before.created_per_s() + total.after.created_per_s();
            prop_assert!((of_parts - total.created_per_s()).abs() <= 1e-9 * scale);
            prop_assert!(changes.windows(2).all(|pair| pair[0].created_per_s().abs() >= pair[1].created_per_s().abs()));
            let verdict = lengths.verdict(&total, &changes);
            let main = verdict.main.map_or(0.0, Change::created_per_s);
            prop_assert!(!verdict.rest_per_s.is_nan() && !verdict.main_share.is_nan());
            prop_assert!((main + verdict.rest_per_s - total.created_per_s()).abs() <= 1e-6 * scale);
        }
    }
}
