//! Counters of a bounded number of series. What has no series of its own is in `other`, so that all series together grow by
//! what the total grows by, and no counter ever falls.
//!
//! Rows come and go: one that found no room is merged with others, and may come back with less than it had. So what is
//! exported is the sum of what was added from one snapshot to the next, and never a row's own figure.

use std::collections::{BTreeMap, HashMap};

/// The labels of a series, in the order of their names.
pub(super) type Labels = Vec<String>;

/// What a series counts. Figures that do not exist are 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values {
    /// By the order of the counters.
    pub(super) counts: Vec<u64>,
    /// Failed calls by errno.
    pub(super) errors: BTreeMap<u16, u64>,
}

impl Values {
    pub(super) fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (own, more) in self.counts.iter_mut().zip(&other.counts) {
            *own = own.saturating_add(*more);
        }
        for (errno, more) in &other.errors {
            let own = self.errors.entry(*errno).or_default();
            *own = own.saturating_add(*more);
        }
    }

    /// The smaller of both, figure by figure.
    fn at_most(&self, other: &Self) -> Self {
        let more = self.beyond(other);
        self.beyond(&more)
    }

    fn total(&self) -> u64 {
        let all = self.counts.iter().chain(self.errors.values());
        all.fold(0, |sum, value| sum.saturating_add(*value))
    }

    /// What is more than the other has, figure by figure.
    fn beyond(&self, other: &Self) -> Self {
        let counts = self.counts.iter().zip(other.counts.iter().chain(std::iter::repeat(&0)));
        let errors = self.errors.iter().map(|(errno, own)| {
            let other = other.errors.get(errno).copied().unwrap_or(0);
            (*errno, own.saturating_sub(other))
        });
        Self { counts: counts.map(|(own, other)| own.saturating_sub(*other)).collect(), errors: errors.collect() }
    }

    /// The larger of both, figure by figure.
    fn at_least(&mut self, other: &Self) {
        let more = other.beyond(self);
        self.add(&more);
    }
}

/// A series of its own.
#[derive(Clone, Debug, Default)]
struct Held {
    values: Values,
    /// When it had a row last, nanoseconds.
    seen_ns: u64,
}

/// Time without a row after which a series may be given up for another one, nanoseconds.
const ABSENT_NS: u64 = 600_000_000_000;

/// All series of one kind.
#[derive(Clone, Debug)]
pub(super) struct Series {
    held: BTreeMap<Labels, Held>,
    /// The rows of the last snapshot.
    before: HashMap<Labels, Values>,
    /// The largest total so far.
    total: Values,
    /// What has no series.
    other: Values,
    limit: usize,
    /// Rows of the last snapshot without a series of their own.
    left_out: usize,
}

impl Series {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            held: BTreeMap::new(),
            before: HashMap::new(),
            total: Values::default(),
            other: Values::default(),
            limit,
            left_out: 0,
        }
    }

    /// Takes the rows of a snapshot of this time, and the total of all of them and of those that found no room.
    ///
    /// A row's figures may fall: a correction takes something back, or rows with these labels were merged with others or got
    /// other names. Then the same events appear elsewhere, in labels that are new or that grow by more than has happened. So all
    /// series together get at most what the total has grown by, those first that are certain to have grown: the known ones.
    pub(super) fn update(&mut self, at_ns: u64, now: HashMap<Labels, Values>, total: &Values) {
        let mut left = total.beyond(&self.total);
        self.total.at_least(total);
        let nothing = Values::default();
        let mut added: Vec<(&Labels, Values, bool)> = now
            .iter()
            .map(|(labels, values)| {
                let before = self.before.get(labels);
                (labels, values.beyond(before.unwrap_or(&nothing)), before.is_some())
            })
            .collect();
        // Among those that are alike, the ones that did most come first.
        added.sort_unstable_by(|(one, own, is_known), (other, others, known)| {
            known.cmp(is_known).then(others.total().cmp(&own.total())).then(one.cmp(other))
        });
        self.left_out = 0;
        for (labels, grown, _) in added {
            let grown = grown.at_most(&left);
            if let Some(held) = self.held.get_mut(labels) {
                held.seen_ns = at_ns;
                held.values.add(&grown);
            } else if self.held.len() < self.limit || self.give_up(at_ns) {
                self.held.insert(labels.clone(), Held { values: grown.clone(), seen_ns: at_ns });
            } else {
                // What it grew by is among the rest.
                self.left_out += 1;
                continue;
            }
            left = left.beyond(&grown);
        }
        self.other.add(&left);
        self.before = now;
    }

    /// Gives up a series whose row has been gone for long. Returns whether there was one. What it had is in no series any more.
    fn give_up(&mut self, at_ns: u64) -> bool {
        let gone = self.held.iter().filter(|(_, held)| at_ns.saturating_sub(held.seen_ns) >= ABSENT_NS);
        let Some(labels) = gone.min_by_key(|(_, held)| held.seen_ns).map(|(labels, _)| labels.clone()) else {
            return false;
        };
        self.held.remove(&labels);
        true
    }

    /// The labels of all series.
    pub(super) fn labels(&self) -> impl Iterator<Item = &Labels> {
        self.held.keys()
    }

    /// What each of them counts.
    pub(super) fn values(&self) -> impl Iterator<Item = (&Labels, &Values)> {
        self.held.iter().map(|(labels, held)| (labels, &held.values))
    }

    /// What has no series of its own.
    pub(super) fn other(&self) -> &Values {
        &self.other
    }

    /// How many rows have none.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(count: u64) -> Values {
        Values { counts: vec![count], errors: [(99, count)].into() }
    }

    fn labels(name: u8) -> Labels {
        vec![name.to_string()]
    }

    fn sum(series: &Series) -> u64 {
        let first = |values: &Values| values.counts.first().copied().unwrap_or(0);
        series.values().map(|(_, values)| first(values)).sum::<u64>() + first(series.other())
    }

    #[test]
    fn row_that_is_merged_and_comes_back_is_counted_once() {
        let mut series = Series::new(2);
        series.update(0, [(labels(1), values(10)), (labels(2), values(4))].into(), &values(14));
        // The first one is merged into the others, which have no row here, and then comes back.
        series.update(0, [(labels(2), values(5))].into(), &values(15));
        series.update(0, [(labels(1), values(3)), (labels(2), values(5))].into(), &values(18));
        let found: Vec<u64> = series.values().map(|(_, values)| values.counts[0]).collect();
        assert_eq!((found, series.other().counts[0]), (vec![13, 5], 0));
    }

    #[test]
    fn series_that_is_gone_for_long_gives_its_place_to_another() {
        let mut series = Series::new(1);
        series.update(0, [(labels(1), values(10))].into(), &values(10));
        series.update(0, [(labels(2), values(5))].into(), &values(15));
        assert_eq!((sum(&series), series.left_out()), (15, 1));
        series.update(ABSENT_NS - 1, [(labels(2), values(6))].into(), &values(16));
        assert_eq!(series.left_out(), 1);
        series.update(ABSENT_NS, [(labels(2), values(8))].into(), &values(18));
        let found: Vec<_> = series.values().map(|(labels, values)| (labels[0].clone(), values.counts[0])).collect();
        assert_eq!((found, series.other().counts[0]), (vec![("2".to_owned(), 2)], 6));
        series.update(ABSENT_NS, HashMap::new(), &values(18));
        assert_eq!(series.left_out(), 0);
    }

    #[test]
    fn row_that_gets_another_name_or_loses_something_adds_nothing() {
        let mut series = Series::new(5);
        series.update(0, [(labels(1), values(1000))].into(), &values(1000));
        // A correction.
        series.update(0, [(labels(1), values(999))].into(), &values(999));
        // Its script is known now, and it goes on.
        series.update(0, [(labels(2), values(1004))].into(), &values(1004));
        let found: Vec<u64> = series.values().map(|(_, values)| values.counts[0]).collect();
        assert_eq!((found, series.other().counts[0]), (vec![1000, 4], 0));
    }

    /// Rows grow, are merged, come back, get other labels and lose something.
    #[derive(Clone, Debug)]
    enum Step {
        Grow(u8, u64),
        Merge(u8),
        Rename(u8, u8),
        Correct(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..8_u8, 1..50_u64).prop_map(|(name, by)| Step::Grow(name, by)),
            1 => (0..8_u8).prop_map(Step::Merge),
            1 => (0..8_u8, 0..8_u8).prop_map(|(from, to)| Step::Rename(from, to)),
            1 => (0..8_u8).prop_map(Step::Correct),
        ]
    }

    proptest! {
        #[test]
        fn series_grow_as_the_total_does_and_never_fall(limit in 1..6_usize, steps in prop::collection::vec(step(), 1..60)) {
            let mut series = Series::new(limit);
            let (mut rows, mut total, mut most) = (HashMap::<Labels, Values>::new(), 0, 0);
            let mut before: BTreeMap<Labels, u64> = BTreeMap::new();
            let mut other = 0;
            for step in steps {
                match step {
                    Step::Grow(name, by) => {
                        rows.entry(labels(name)).or_default().add(&values(by));
                        total += by;
                    }
                    Step::Merge(name) => {
                        rows.remove(&labels(name));
                    }
                    Step::Rename(from, to) => {
                        if let Some(moved) = rows.remove(&labels(from)) {
                            rows.entry(labels(to)).or_default().add(&moved);
                        }
                    }
                    Step::Correct(name) => {
                        if let Some(row) = rows.get_mut(&labels(name)).filter(|row| row.counts[0] > 0) {
                            *row = values(row.counts[0] - 1);
                            total -= 1;
                        }
                    }
                }
                most = most.max(total);
                series.update(0, rows.clone(), &values(total));
                prop_assert!(series.values().count() <= limit);
                prop_assert_eq!(sum(&series), most);
                prop_assert!(series.other().counts.first().copied().unwrap_or(0) >= other);
                other = series.other().counts.first().copied().unwrap_or(0);
                for (labels, values) in series.values() {
                    let count = values.counts.first().copied().unwrap_or(0);
                    let before = before.insert(labels.clone(), count).unwrap_or(0);
                    prop_assert!(count >= before);
                }
            }
        }
    }
}
