//! What the trace itself costs: processor time of the tracer's process, and of its programs in the kernel.

use std::collections::VecDeque;

/// How long processor time is averaged over, nanoseconds.
const OVER_NS: u64 = 60_000_000_000;

/// A reading of what the tracer has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostReading {
    /// When, monotonic nanoseconds.
    pub at_ns: u64,
    /// Processor time of the process since its start, user and system, nanoseconds (`CLOCK_PROCESS_CPUTIME_ID`).
    pub process_ns: u64,
    /// What its programs cost in a stretch of time that was sampled just before, if there was one.
    pub kernel: Option<KernelSample>,
    /// The kernel refuses to time programs: that needs Linux 5.8 and CAP_SYS_ADMIN.
    pub kernel_refused: bool,
}

/// What programs in the kernel used in a stretch of time (`BPF_ENABLE_STATS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KernelSample {
    /// Its length, nanoseconds.
    pub over_ns: u64,
    /// Run time of all programs together, nanoseconds.
    pub run_ns: u64,
    /// How often any of them ran.
    pub runs: u64,
    /// Connections that ended meanwhile; both ends of one on this host count.
    pub connections: u64,
}

/// What the trace costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cost {
    /// Processor time of the process in percent of one core, over the last minute or since the trace began.
    pub process_percent: f64,
    /// Processor time of the programs in the kernel in percent of one core, in the last sample: a second of each minute. `null`
    /// before the first one, and where the kernel refuses to time programs: that needs Linux 5.8 and CAP_SYS_ADMIN.
    pub kernel_percent: Option<f64>,
    /// The same for each connection that ended in that second, nanoseconds; both ends of one on this host count. `null` if there
    /// was none.
    pub kernel_ns_per_connection: Option<f64>,
    /// How many connections that was.
    pub kernel_connections: u64,
    /// The kernel refuses to time programs.
    pub kernel_refused: bool,
}

impl Cost {
    /// Both together, in percent of one core; a lower bound where the programs are not timed.
    pub fn percent(&self) -> f64 {
        self.process_percent + self.kernel_percent.unwrap_or_default()
    }
}

/// Readings of the last minute.
#[derive(Clone, Debug, Default)]
pub(crate) struct CostMeter {
    readings: VecDeque<CostReading>,
    sample: Option<KernelSample>,
}

impl CostMeter {
    /// Takes a reading, and returns what the trace costs as of now; `None` for the first one.
    pub(crate) fn add(&mut self, reading: CostReading) -> Option<Cost> {
        self.sample = reading.kernel.or(self.sample);
        // One that is old enough stays, as the beginning of the minute.
        while self.readings.get(1).is_some_and(|second| reading.at_ns.saturating_sub(second.at_ns) >= OVER_NS) {
            self.readings.pop_front();
        }
        // A source that reads all the time cannot fill the memory.
        if self.readings.back().is_none_or(|last| reading.at_ns.saturating_sub(last.at_ns) >= OVER_NS / 120) {
            self.readings.push_back(reading);
        }
        let first = self.readings.front()?;
        let passed_ns = reading.at_ns.checked_sub(first.at_ns).filter(|passed| *passed > 0)?;
        let used_ns = reading.process_ns.saturating_sub(first.process_ns);
        let sample = self.sample.filter(|sample| sample.over_ns > 0);
        Some(Cost {
            process_percent: 100.0 * used_ns as f64 / passed_ns as f64,
            kernel_percent: sample.map(|sample| 100.0 * sample.run_ns as f64 / sample.over_ns as f64),
            kernel_ns_per_connection: sample
                .filter(|sample| sample.connections > 0)
                .map(|sample| sample.run_ns as f64 / sample.connections as f64),
            kernel_connections: sample.map_or(0, |sample| sample.connections),
            kernel_refused: reading.kernel_refused,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn reading(second: u64, process_ms: u64) -> CostReading {
        CostReading { at_ns: second * SECOND, process_ns: process_ms * 1_000_000, ..CostReading::default() }
    }

    #[test]
    fn process_time_is_that_of_the_last_minute() {
        let mut meter = CostMeter::default();
        assert_eq!(meter.add(reading(100, 500)), None);
        let first = meter.add(reading(101, 510)).unwrap();
        assert!((first.process_percent - 1.0).abs() < 1e-9 && first.kernel_percent.is_none(), "{first:?}");
        // Two minutes later it used 5 ms a second.
        let last =
            (102..=221).map(|second| meter.add(reading(second, 510 + 5 * (second - 101))).unwrap()).last().unwrap();
        assert!((last.process_percent - 0.5).abs() < 1e-9, "{last:?}");
        assert!(meter.readings.len() <= 62);
    }

    #[test]
    fn kernel_time_is_that_of_the_last_sample() {
        let mut meter = CostMeter::default();
        meter.add(reading(1, 0));
        let kernel = KernelSample { over_ns: 2 * SECOND, run_ns: 6_400_000, runs: 30_000, connections: 10_000 };
        let cost = meter.add(CostReading { kernel: Some(kernel), ..reading(2, 1) }).unwrap();
        assert_eq!((cost.kernel_percent, cost.kernel_ns_per_connection), (Some(0.32), Some(640.0)));
        let later = meter.add(reading(3, 1)).unwrap();
        assert_eq!((later.kernel_percent, later.kernel_connections), (Some(0.32), 10_000));
        let idle = KernelSample { over_ns: SECOND, run_ns: 1000, runs: 3, connections: 0 };
        let idle = meter.add(CostReading { kernel: Some(idle), ..reading(4, 1) }).unwrap();
        assert_eq!(idle.kernel_ns_per_connection, None);
        assert!((idle.percent() - idle.process_percent) > 0.0);
    }

    #[test]
    fn odd_readings_are_no_figures() {
        let mut meter = CostMeter::default();
        meter.add(reading(5, 10));
        assert_eq!(meter.add(reading(5, 20)), None);
        assert_eq!(meter.add(reading(4, 30)), None);
        assert_eq!(meter.add(reading(6, 5)).unwrap().process_percent, 0.0);
    }
}
