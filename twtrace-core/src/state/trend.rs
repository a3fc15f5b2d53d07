//! Whether the number of open connections to a destination grows.

/// Number of censuses from which the growth of open connections is computed.
const TREND: usize = 6;

/// Steps from one census to the next that are needed for that.
const LEAST_STEPS: usize = 3;

/// Numbers of open connections in the last censuses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Trend {
    points: [(u64, u64); TREND],
    filled: usize,
}

impl Trend {
    /// Adds the number from a census.
    pub(crate) fn add(&mut self, at_ns: u64, open: u64) {
        if self.filled == TREND {
            self.points.copy_within(1.., 0);
            self.filled -= 1;
        }
        self.points[self.filled] = (at_ns, open);
        self.filled += 1;
    }

    /// Growth per second, and its standard error; 0 when the number does not grow. It is the median of the steps
    /// between censuses: connections that come all at once, as after a restart, are not growth.
    pub(crate) fn growth_per_s(&self) -> (f64, f64) {
        let steps = self.points[..self.filled].windows(2).filter_map(|pair| {
            let [(from_ns, from), (to_ns, to)] = *pair else { return None };
            let seconds = to_ns.saturating_sub(from_ns) as f64 / 1e9;
            (seconds > 0.0).then(|| (to as f64 - from as f64) / seconds)
        });
        let mut steps: Vec<f64> = steps.collect();
        // Over fewer steps, any number may seem to grow.
        if steps.len() < LEAST_STEPS {
            return (0.0, 0.0);
        }
        steps.sort_unstable_by(f64::total_cmp);
        let median = steps[(steps.len() - 1) / 2];
        if median <= 0.0 {
            return (0.0, 0.0);
        }
        let squares: f64 = steps.iter().map(|step| (step - median).powi(2)).sum();
        let number = steps.len() as f64;
        (median, (squares / (number - 1.0) / number).sqrt())
    }
}
