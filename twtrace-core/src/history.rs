//! Figures over time, for reports: as many buckets as a plot can show, wider the longer the trace is.

use crate::bounded;
use crate::failure::{FAILURE_KINDS, FailureKind};

/// Maximum number of buckets. When a trace outgrows it, neighbours are merged and each bucket is twice as wide.
pub const BUCKETS: usize = 512;

/// Width of a bucket at first, nanoseconds.
const FIRST_NS: u64 = 1_000_000_000;

/// After this many doublings, the buckets cover every 64-bit time.
const DOUBLINGS: u8 = 26;

/// Which bucket a time belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Scale {
    start_ns: u64,
    /// Buckets are `FIRST_NS << doublings` wide.
    #[serde(deserialize_with = "bounded::number::<DOUBLINGS, _>")]
    doublings: u8,
}

impl Scale {
    pub(crate) fn new(start_ns: u64) -> Self {
        Self { start_ns, doublings: 0 }
    }

    fn width_ns(self) -> u64 {
        FIRST_NS << self.doublings
    }

    /// The bucket of a time, after as many doublings as it takes. A time before the start counts as the start.
    fn reach(&mut self, at_ns: u64) -> usize {
        let since = at_ns.saturating_sub(self.start_ns);
        // Ends for every 64-bit time.
        while since / self.width_ns() >= BUCKETS as u64 {
            self.doublings += 1;
        }
        (since / self.width_ns()) as usize
    }
}

/// TIME_WAIT sockets created per bucket, for one row.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Series {
    #[serde(deserialize_with = "bounded::number::<DOUBLINGS, _>")]
    doublings: u8,
    #[serde(deserialize_with = "bounded::list::<BUCKETS, _, _>")]
    values: Vec<u32>,
}

impl Series {
    /// Counts one event.
    pub(crate) fn add(&mut self, scale: &mut Scale, at_ns: u64) {
        let at = scale.reach(at_ns);
        self.widen(scale.doublings);
        if self.values.len() <= at {
            self.values.resize(at + 1, 0);
        }
        self.values[at] = self.values[at].saturating_add(1);
    }

    /// Adds another one's values.
    pub(crate) fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        other.widen(self.doublings);
        self.widen(other.doublings);
        if self.values.len() < other.values.len() {
            self.values.resize(other.values.len(), 0);
        }
        for (own, more) in self.values.iter_mut().zip(other.values) {
            *own = own.saturating_add(more);
        }
    }

    fn widen(&mut self, doublings: u8) {
        while self.doublings < doublings {
            self.doublings += 1;
            self.values =
                self.values.chunks(2).map(|pair| pair.iter().fold(0, |a: u32, b| a.saturating_add(*b))).collect();
        }
    }

    /// Value of each bucket of the model's history, in its order.
    pub fn values(&self, history: &History) -> Vec<u32> {
        let mut widened = self.clone();
        widened.widen(history.scale.doublings);
        widened.values.resize(history.moments.len(), 0);
        widened.values
    }
}

/// The figures of one bucket, for everything that passes the filter unless stated otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Moment {
    /// TIME_WAIT sockets created.
    pub created: u64,
    /// TIME_WAIT sockets that were due and not created.
    pub overflowed: u64,
    /// Connections ended, both roles.
    pub connections: u64,
    /// Calls of connect and bind that failed, by [`FailureKind`] in its order.
    pub failed: [u64; FAILURE_KINDS],
    /// Most TIME_WAIT sockets alive by the kernel's count, in all namespaces and unfiltered; `None` when it was not
    /// read in this bucket.
    pub kernel_time_wait: Option<u64>,
    /// Most TIME_WAIT sockets alive among those that are tracked.
    pub live: u64,
}

impl Moment {
    /// Counts a call that failed.
    pub(crate) fn fail(&mut self, kind: FailureKind) {
        self.failed[kind as usize] += 1;
    }

    /// Calls that failed, of all kinds.
    pub fn errors(&self) -> u64 {
        self.failed.iter().sum()
    }
}

/// Figures over time.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct History {
    /// Shared with the rows' series: any of them may be the first to outgrow it.
    pub(crate) scale: Scale,
    /// Doublings already applied to `moments`.
    #[serde(deserialize_with = "bounded::number::<DOUBLINGS, _>")]
    doublings: u8,
    #[serde(deserialize_with = "bounded::list::<BUCKETS, _, _>")]
    moments: Vec<Moment>,
    /// See [`History::is_before_names`].
    before_names: bool,
}

impl History {
    pub(crate) fn new(start_ns: u64) -> Self {
        Self { scale: Scale::new(start_ns), doublings: 0, moments: Vec::new(), before_names: false }
    }

    /// Whether the buckets count more than the rows do: what a filter by names leaves out is only known when a snapshot is
    /// taken, and then no longer by time.
    pub fn is_before_names(&self) -> bool {
        self.before_names
    }

    /// A filter by names was applied to the rows.
    pub(crate) fn set_before_names(&mut self) {
        self.before_names = true;
    }

    /// Monotonic time at which the first bucket begins, nanoseconds.
    pub fn start_ns(&self) -> u64 {
        self.scale.start_ns
    }

    /// Width of a bucket, nanoseconds.
    pub fn bucket_ns(&self) -> u64 {
        self.scale.width_ns()
    }

    /// The buckets from the start on, without gaps; at most [`BUCKETS`].
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// The bucket of a time.
    pub(crate) fn at(&mut self, at_ns: u64) -> &mut Moment {
        let at = self.scale.reach(at_ns);
        self.widen();
        if self.moments.len() <= at {
            self.moments.resize(at + 1, Moment::default());
        }
        &mut self.moments[at]
    }

    /// Merges moments after the scale has doubled.
    fn widen(&mut self) {
        while self.doublings < self.scale.doublings {
            self.doublings += 1;
            self.moments = self.moments.chunks(2).map(|pair| pair.iter().fold(Moment::default(), together)).collect();
        }
    }
}

fn together(a: Moment, b: &Moment) -> Moment {
    Moment {
        created: a.created + b.created,
        overflowed: a.overflowed + b.overflowed,
        connections: a.connections + b.connections,
        failed: std::array::from_fn(|kind| a.failed[kind] + b.failed[kind]),
        kernel_time_wait: a.kernel_time_wait.max(b.kernel_time_wait),
        live: a.live.max(b.live),
    }
}
