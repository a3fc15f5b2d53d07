//! Quantiles in little memory.

use std::ops::Range;

/// Sub-buckets of each power of two: a value is known to within one part in 32.
const SUB: u64 = 16;
/// `log2(SUB)`.
const SUB_BITS: u32 = 4;

/// A histogram with buckets that grow with their values. Quantiles are within 3.2% of a value that was added.
///
/// It takes 4 bytes for each bucket between the smallest and the largest value, 4 KiB at most, and none while it is
/// empty.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Stored")]
pub struct Sketch {
    /// Bucket of the smallest value.
    first: u16,
    /// Number of values in that bucket and those that follow; neither end is empty.
    counts: Vec<u32>,
    count: u64,
}

/// A histogram as it is stored, by anyone.
#[derive(serde::Deserialize)]
struct Stored {
    first: u16,
    counts: Vec<u32>,
    count: u64,
}

impl TryFrom<Stored> for Sketch {
    type Error = &'static str;

    fn try_from(Stored { first, counts, count }: Stored) -> Result<Self, Self::Error> {
        let fits = usize::from(first) + counts.len() <= usize::from(bucket(u64::MAX)) + 1;
        if fits { Ok(Self { first, counts, count }) } else { Err("a bucket beyond the last one") }
    }
}

impl Sketch {
    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        self.add_to(bucket(value), 1);
        self.count += 1;
    }

    /// Adds another one's values.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.filled() {
            self.add_to(bucket, count);
        }
        self.count += other.count;
    }

    fn add_to(&mut self, bucket: u16, count: u32) {
        if self.counts.is_empty() {
            self.first = bucket;
        } else if bucket < self.first {
            let more = usize::from(self.first - bucket);
            self.counts.splice(..0, std::iter::repeat_n(0, more));
            self.first = bucket;
        }
        let at = usize::from(bucket - self.first);
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] = self.counts[at].saturating_add(count);
    }

    /// Buckets that have values, with their number.
    fn filled(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        (self.first..).zip(self.counts.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Ranges of values, ascending, with the number of values in each; those without any are left out.
    pub fn buckets(&self) -> impl Iterator<Item = (Range<u64>, u64)> + '_ {
        self.filled().map(|(bucket, count)| (range(bucket), count.into()))
    }

    /// The value below which the share `q` (0 to 1) of all values lies; `None` when there are none.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let rank = (q.clamp(0.0, 1.0) * self.count.saturating_sub(1) as f64).round() as u64;
        let mut seen = 0;
        let mut last = None;
        for (bucket, count) in self.filled() {
            seen += u64::from(count);
            last = Some(middle(bucket));
            if seen > rank {
                break;
            }
        }
        // The rank can be beyond the last bucket only when the count of a bucket has saturated.
        last
    }
}

fn bucket(value: u64) -> u16 {
    if value < SUB {
        return value as u16;
    }
    let exponent = value.ilog2();
    let sub = (value >> (exponent - SUB_BITS)) - SUB;
    (u64::from(exponent - SUB_BITS + 1) * SUB + sub) as u16
}

/// The values of a bucket. The end of the last bucket does not fit a `u64` and saturates.
fn range(bucket: u16) -> Range<u64> {
    let bucket = u64::from(bucket);
    if bucket < SUB {
        return bucket..bucket + 1;
    }
    let shift = (bucket / SUB - 1) as u32;
    let low = (SUB + bucket % SUB) << shift;
    low..low.saturating_add(1 << shift)
}

/// The middle of a bucket.
fn middle(bucket: u16) -> u64 {
    let Range { start, end } = range(bucket);
    start + (end - start) / 2
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_one_has_no_quantiles() {
        assert_eq!(Sketch::default().quantile(0.5), None);
        assert_eq!(Sketch::default().count(), 0);
    }

    #[test]
    fn the_ends_of_the_range_fit() {
        let mut sketch = Sketch::default();
        for value in [0, 1, 15, 16, 17, u64::MAX] {
            sketch.add(value);
        }
        assert_eq!(sketch.quantile(0.0), Some(0));
        let top = sketch.quantile(1.0).unwrap();
        assert!(top > u64::MAX / 16 * 15, "{top}");
    }

    proptest! {
        #[test]
        fn quantiles_are_near_a_value(mut values in prop::collection::vec(0_u64..1 << 50, 1..200), q in 0.0..=1.0_f64) {
            let mut whole = Sketch::default();
            let mut halves = [Sketch::default(), Sketch::default()];
            for (index, &value) in values.iter().enumerate() {
                whole.add(value);
                halves[index % 2].add(value);
            }
            let [mut merged, other] = halves;
            merged.merge(&other);
            prop_assert_eq!(&merged, &whole);
            let buckets: Vec<_> = whole.buckets().collect();
            prop_assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), values.len() as u64);
            prop_assert!(buckets.windows(2).all(|pair| pair[0].0.end <= pair[1].0.start));
            prop_assert!(values.iter().all(|value| buckets.iter().any(|(range, _)| range.contains(value))));
            values.sort_unstable();
            let exact = values[(q * (values.len() - 1) as f64).round() as usize];
            let estimate = whole.quantile(q).unwrap();
            prop_assert!(estimate.abs_diff(exact) as f64 <= 0.032 * exact as f64 + 0.5, "{estimate} for {exact}");
        }
    }
}
