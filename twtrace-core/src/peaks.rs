//! Finds where a series of figures is far above its usual level.

/// Minimum distance between two peaks, in buckets: of closer ones, only the highest counts.
const APART: usize = 5;

/// Indices of the peaks: local maxima above the mean by more than two standard deviations, in time order.
pub fn peaks(figures: &[u64]) -> Vec<usize> {
    let number = figures.len().max(1) as f64;
    let mean = figures.iter().map(|figure| *figure as f64).sum::<f64>() / number;
    let variance = figures.iter().map(|figure| (*figure as f64 - mean).powi(2)).sum::<f64>() / number;
    let threshold = mean + 2.0 * variance.sqrt();
    let at = |index: usize| figures.get(index).copied().unwrap_or(0);
    // The start of a plateau.
    let is_high = |&index: &usize| {
        at(index) as f64 > threshold
            && at(index) >= at(index + 1)
            && index.checked_sub(1).is_none_or(|before| at(before) < at(index))
    };
    let mut highest_first: Vec<usize> = (0..figures.len()).filter(is_high).collect();
    // A stable sort: of two equal ones, the earlier one is the peak.
    highest_first.sort_by_key(|index| std::cmp::Reverse(at(*index)));
    let mut peaks: Vec<usize> = Vec::new();
    for index in highest_first {
        if peaks.iter().all(|peak| peak.abs_diff(index) >= APART) {
            peaks.push(index);
        }
    }
    peaks.sort_unstable();
    peaks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat_with(length: usize, exceptions: &[(usize, u64)]) -> Vec<u64> {
        let mut figures = vec![10; length];
        exceptions.iter().for_each(|(index, figure)| figures[*index] = *figure);
        figures
    }

    #[test]
    fn what_sticks_out_is_a_peak() {
        assert_eq!(peaks(&flat_with(60, &[(20, 900), (40, 800)])), [20, 40]);
        assert_eq!(peaks(&flat_with(60, &[(0, 900), (59, 800)])), [0, 59]);
    }

    #[test]
    fn what_does_not_is_none() {
        assert_eq!(peaks(&[]), [0; 0]);
        assert_eq!(peaks(&[7]), [0; 0]);
        assert_eq!(peaks(&[0; 100]), [0; 0]);
        assert_eq!(peaks(&flat_with(100, &[])), [0; 0]);
        let waves: Vec<u64> = (0..100).map(|index| 10 + index % 2).collect();
        assert_eq!(peaks(&waves), [0; 0]);
    }

    #[test]
    fn of_near_ones_the_highest_counts() {
        assert_eq!(peaks(&flat_with(60, &[(20, 800), (24, 900), (29, 800)])), [24, 29]);
        // A plateau is one peak, at its beginning.
        assert_eq!(peaks(&flat_with(60, &[(20, 900), (21, 900), (22, 900)])), [20]);
        assert_eq!(peaks(&flat_with(60, &[(20, 900), (24, 900)])), [20]);
        assert_eq!(peaks(&flat_with(60, &[(20, 900), (25, 900)])), [20, 25]);
    }

    #[test]
    fn figures_may_be_of_any_size() {
        assert_eq!(peaks(&flat_with(60, &[(30, u64::MAX)])), [30]);
    }
}
