//! Events of the last seconds, from which rates are computed.

/// Seconds over which a rate is taken.
pub(crate) const RATE_SECONDS: usize = 5;

/// Number of events in each of the last complete seconds, the newest first.
pub(crate) type Seconds = [u32; RATE_SECONDS];

const SECOND_NS: u64 = 1_000_000_000;

/// Events of the last seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recent<const N: usize = { RATE_SECONDS + 1 }> {
    /// The newest second; its count is `counts[second % N]`.
    second: u64,
    counts: [u32; N],
}

impl<const N: usize> Default for Recent<N> {
    fn default() -> Self {
        Self { second: 0, counts: [0; N] }
    }
}

impl<const N: usize> Recent<N> {
    fn index(&self, second: u64) -> usize {
        (second % self.counts.len() as u64) as usize
    }

    fn advance(&mut self, second: u64) {
        if second <= self.second {
            return;
        }
        for passed in (self.second + 1..=second).take(self.counts.len()) {
            let index = self.index(passed);
            self.counts[index] = 0;
        }
        self.second = second;
    }

    /// Number of events in a second, if it is remembered.
    fn of(&self, second: u64) -> u32 {
        let known = second <= self.second && self.second - second < self.counts.len() as u64;
        if known { self.counts[self.index(second)] } else { 0 }
    }
}

impl<const N: usize> Recent<N> {
    /// Counts an event; returns how many there were in its second.
    pub(crate) fn add(&mut self, at_ns: u64) -> u32 {
        // Events can arrive a little late: they count for the newest second.
        self.advance(at_ns / SECOND_NS);
        let index = self.index(self.second);
        self.counts[index] += 1;
        self.counts[index]
    }

    /// Adds another one's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.advance(other.second);
        for age in 0..self.counts.len() as u64 {
            let Some(second) = other.second.checked_sub(age) else { break };
            if second + self.counts.len() as u64 > self.second {
                let index = self.index(second);
                self.counts[index] += other.of(second);
            }
        }
    }

    /// By age in seconds: the present second first.
    pub(crate) fn by_age(&self, now_ns: u64) -> [u32; N] {
        std::array::from_fn(|age| (now_ns / SECOND_NS).checked_sub(age as u64).map_or(0, |second| self.of(second)))
    }
}

impl Recent {
    /// See [`Seconds`].
    pub(crate) fn seconds(&self, now_ns: u64) -> Seconds {
        std::array::from_fn(|age| (now_ns / SECOND_NS).checked_sub(age as u64 + 1).map_or(0, |second| self.of(second)))
    }

    /// Rate per second over the last five complete seconds and the current partial one, or since the trace began.
    pub(crate) fn rate(&mut self, moment: Moment) -> f64 {
        if self.second < moment.second {
            self.advance(moment.second);
        }
        let sum: u32 = self.counts.iter().sum();
        if sum == 0 { 0.0 } else { f64::from(sum) / moment.window_s }
    }
}

/// The moment at which rates are computed, which is the same for all rows.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    second: u64,
    /// How long a rate looks back.
    window_s: f64,
}

impl Moment {
    /// A moment of a trace that began at `start_ns`.
    pub(crate) fn of(now_ns: u64, start_ns: u64) -> Self {
        let window_ns = RATE_SECONDS as u64 * SECOND_NS + now_ns % SECOND_NS;
        // At the start of a trace, the window is at least one second, or the first event would look like a flood.
        let window_ns = window_ns.min(now_ns.saturating_sub(start_ns)).max(SECOND_NS);
        Self { second: now_ns / SECOND_NS, window_s: window_ns as f64 / 1e9 }
    }
}

/// The rate of something that has no row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rate {
    recent: Recent,
    /// As of the last [`Self::refresh`].
    pub(crate) per_s: f64,
    /// Most within a second.
    pub(crate) created_peak_per_s: u64,
}

impl Rate {
    pub(crate) fn count(&mut self, at_ns: u64) {
        self.created_peak_per_s = self.created_peak_per_s.max(self.recent.add(at_ns).into());
    }

    pub(crate) fn refresh(&mut self, now_ns: u64, start_ns: u64) {
        self.per_s = self.recent.rate(Moment::of(now_ns, start_ns));
    }
}
