//! What the programs cost: the kernel times them for a second of each minute.

use super::load::Loaded;
use aya::sys::{Stats, enable_stats};
use std::os::fd::OwnedFd;
use std::time::Duration;
use twtrace_core::cost::KernelSample;

/// From one sample to the next, nanoseconds.
const EVERY_NS: u64 = 60_000_000_000;

/// Length of a sample, at least, nanoseconds.
const LENGTH_NS: u64 = 1_000_000_000;

/// Samples the run time of the programs. Timing costs each run some 30 ns, and switching it on and off patches kernel code: it
/// is on for a second a minute, unless another program keeps it on.
pub struct CostSampler {
    next_ns: u64,
    sample: Option<Begun>,
    refused: bool,
}

/// A sample that has begun.
struct Begun {
    /// Timing is on while this is open.
    _timed: OwnedFd,
    at_ns: u64,
    used: Used,
    connections: u64,
}

/// Sums over all programs.
#[derive(Clone, Copy, Default)]
struct Used {
    time: Duration,
    runs: u64,
}

impl CostSampler {
    /// The first sample begins at `now_ns`, monotonic nanoseconds.
    pub fn new(now_ns: u64) -> Self {
        Self { next_ns: now_ns, sample: None, refused: false }
    }

    /// Whether the kernel refuses to time programs.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Begins a sample or ends it when it is time, and returns the one that has ended. `connections` is how many have ended so
    /// far.
    pub fn go_on(&mut self, loaded: &Loaded, now_ns: u64, connections: u64) -> Option<KernelSample> {
        if let Some(begun) = self.sample.take_if(|begun| now_ns.saturating_sub(begun.at_ns) >= LENGTH_NS) {
            let used = used(loaded);
            return Some(KernelSample {
                over_ns: now_ns - begun.at_ns,
                run_ns: used.time.saturating_sub(begun.used.time).as_nanos().try_into().unwrap_or(u64::MAX),
                runs: used.runs.saturating_sub(begun.used.runs),
                connections: connections.saturating_sub(begun.connections),
            });
        }
        if now_ns >= self.next_ns && !self.refused {
            self.next_ns = now_ns + EVERY_NS;
            match enable_stats(Stats::RunTime) {
                Ok(timed) => {
                    self.sample = Some(Begun { _timed: timed, at_ns: now_ns, used: used(loaded), connections });
                }
                Err(_) => self.refused = true,
            }
        }
        None
    }
}

/// What all programs have used so far.
fn used(loaded: &Loaded) -> Used {
    let infos = loaded.attached().filter_map(|program| program.info().ok());
    infos.fold(Used::default(), |sum, info| Used {
        time: sum.time.saturating_add(info.run_time()),
        runs: sum.runs.saturating_add(info.run_count()),
    })
}
