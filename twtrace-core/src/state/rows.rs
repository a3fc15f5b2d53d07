//! The rows that a state counts in: processes, destinations, and the cells where the two meet.

use super::trend::Trend;
use crate::asked::Refusals;
use crate::counts::Counts;
use crate::event::Owner;
use crate::history::{Scale, Series};
use crate::keys::{DestRow, GroupKey};
use crate::pattern::Pattern;
use crate::ports::Budget;
use crate::sketch::Sketch;
use crate::strangers::Strangers;
use crate::table::{Gauge, TableRow};

/// Figures of a process or a destination that are not sums over its cells.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Meter {
    /// Connections ended that it took part in, and calls that failed.
    pub(crate) connections: u64,
    /// TIME_WAIT sockets created.
    pub(crate) created: u64,
    pub(crate) rate_per_s: f64,
    /// Most created within a second of the monotonic clock.
    pub(crate) peak_per_s: u64,
    pub(crate) live: u64,
    pub(crate) live_peak: u64,
    /// Created over time; empty unless the state keeps a history.
    pub(crate) series: Series,
}

impl Meter {
    /// How much the row matters: what was counted in all, plus the next minute at the present rate.
    pub(crate) fn weight(&self) -> u64 {
        const MINUTE: f64 = 60.0;
        self.created.saturating_add(self.connections).saturating_add((self.rate_per_s * MINUTE) as u64)
    }

    fn is_empty(&self) -> bool {
        self.connections == 0 && self.created == 0 && self.live == 0
    }

    pub(crate) fn count_live(&mut self, by: i64) {
        self.live = self.live.saturating_add_signed(by);
        self.live_peak = self.live_peak.max(self.live);
    }

    fn absorb(&mut self, other: &Self) {
        self.connections = self.connections.saturating_add(other.connections);
        self.created = self.created.saturating_add(other.created);
        self.peak_per_s = self.peak_per_s.max(other.peak_per_s);
        self.live = self.live.saturating_add(other.live);
        self.live_peak = self.live_peak.max(other.live_peak).max(self.live);
        self.series.merge(&other.series);
    }

    fn restart(&mut self) {
        *self = Self { live: self.live, live_peak: self.live, ..Self::default() };
    }
}

impl Gauge for Meter {
    fn set_rate(&mut self, per_second: f64) {
        self.rate_per_s = per_second;
    }

    fn happened(&mut self, at_ns: u64, in_second: u32, scale: Option<&mut Scale>) {
        self.peak_per_s = self.peak_per_s.max(in_second.into());
        if let Some(scale) = scale {
            self.series.add(scale, at_ns);
        }
    }
}

/// A process, or processes whose rows were merged.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProcessRow {
    pub(crate) id: u32,
    /// [`GroupKey::Process`], [`GroupKey::OneShots`], [`GroupKey::Program`], the unknown or the other.
    pub(crate) key: GroupKey,
    /// As last seen: for one-shots, one of them; for a whole program, `None`.
    pub(crate) owner: Option<Owner>,
    /// Rows that have moved here.
    pub(crate) folded: u64,
    /// Distinct processes.
    pub(crate) processes: u64,
    /// When the first and the last of them started, nanoseconds since boot.
    pub(crate) started_ns: (u64, u64),
    pub(crate) meter: Meter,
    /// Of the TIME_WAIT sockets that it created, those that others opened.
    pub(crate) strangers: Option<Box<Strangers>>,
}

impl TableRow for ProcessRow {
    type Key = GroupKey;
    type Gauge = Meter;

    fn new(id: u32, key: GroupKey) -> Self {
        let meter = Meter::default();
        Self { id, key, owner: None, folded: 0, processes: 0, started_ns: (u64::MAX, 0), meter, strangers: None }
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn key(&self) -> GroupKey {
        self.key.clone()
    }

    fn is_empty(&self) -> bool {
        self.meter.is_empty()
    }

    fn absorb(&mut self, other: &Self) {
        self.folded += 1 + other.folded;
        self.processes += other.processes;
        self.started_ns = (self.started_ns.0.min(other.started_ns.0), self.started_ns.1.max(other.started_ns.1));
        if matches!(self.key, GroupKey::OneShots(_)) {
            self.owner = other.owner.or(self.owner);
        }
        self.meter.absorb(&other.meter);
        Strangers::absorb(&mut self.strangers, other.strangers.as_deref());
    }

    fn restart(&mut self) {
        self.folded = 0;
        self.strangers = None;
        self.meter.restart();
    }

    fn gauge(&mut self) -> &mut Meter {
        &mut self.meter
    }
}

/// A destination, or destinations whose rows were merged.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) id: u32,
    pub(crate) key: DestRow,
    pub(crate) folded: u64,
    pub(crate) meter: Meter,
    /// Full sockets that use a port to it, by the last census of its namespace.
    pub(crate) established: u64,
    pub(crate) pattern: Pattern,
    pub(crate) connect_us: Sketch,
    /// `established` over the last censuses.
    pub(crate) trend: Trend,
    /// Its port budget at a moment when connects found no port.
    pub(crate) exhausted: Option<Budget>,
    /// That moment, nanoseconds.
    pub(crate) exhausted_ns: u64,
    /// The latest connect that found none, nanoseconds; 0 for none.
    pub(crate) no_port_ns: u64,
    /// All that found none lately; there is nothing to count for most destinations.
    pub(crate) refusals: Option<Box<Refusals>>,
    /// Whether the peer of the last connection sent timestamps, where that is known.
    pub(crate) peer_timestamps: Option<bool>,
}

impl Destination {
    /// How much the row matters. Open connections count as well.
    pub(crate) fn weight(&self) -> u64 {
        self.meter.weight().saturating_add(self.established)
    }
}

impl TableRow for Destination {
    type Key = DestRow;
    type Gauge = Meter;

    fn new(id: u32, key: DestRow) -> Self {
        Self {
            id,
            key,
            folded: 0,
            meter: Meter::default(),
            established: 0,
            pattern: Pattern::default(),
            connect_us: Sketch::default(),
            trend: Trend::default(),
            exhausted: None,
            exhausted_ns: 0,
            no_port_ns: 0,
            refusals: None,
            peer_timestamps: None,
        }
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn key(&self) -> DestRow {
        self.key
    }

    fn is_empty(&self) -> bool {
        self.meter.is_empty()
    }

    fn absorb(&mut self, other: &Self) {
        self.folded += 1 + other.folded;
        self.meter.absorb(&other.meter);
        self.pattern.absorb(&other.pattern);
        self.connect_us.merge(&other.connect_us);
    }

    fn restart(&mut self) {
        self.folded = 0;
        (self.pattern, self.connect_us) = (Pattern::default(), Sketch::default());
        (self.exhausted, self.exhausted_ns, self.no_port_ns, self.refusals) = (None, 0, 0, None);
        self.meter.restart();
    }

    fn gauge(&mut self) -> &mut Meter {
        &mut self.meter
    }
}

/// Figures of a process row with a destination row. Everything that can be summed is counted only here.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Cell {
    pub(crate) id: u32,
    /// Id of the process row.
    pub(crate) process: u32,
    /// Id of the destination row.
    pub(crate) destination: u32,
    /// Figures.
    pub counts: Counts,
    /// Ended connections. One whose opener and closer differ counts for the closer.
    pub connections: u64,
    /// How the connections are used.
    pub pattern: Pattern,
}

impl TableRow for Cell {
    type Key = (u32, u32);
    type Gauge = Counts;

    fn new(id: u32, (process, destination): (u32, u32)) -> Self {
        let (counts, pattern) = (Counts::default(), Pattern::default());
        Self { id, process, destination, counts, connections: 0, pattern }
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn key(&self) -> (u32, u32) {
        (self.process, self.destination)
    }

    fn is_empty(&self) -> bool {
        self.connections == 0 && self.counts.is_empty()
    }

    fn absorb(&mut self, other: &Self) {
        self.counts.absorb(&other.counts);
        self.connections = self.connections.saturating_add(other.connections);
        self.pattern.absorb(&other.pattern);
    }

    fn restart(&mut self) {
        (self.connections, self.pattern) = (0, Pattern::default());
        self.counts.restart();
    }

    fn gauge(&mut self) -> &mut Counts {
        &mut self.counts
    }
}

impl Gauge for Counts {
    fn set_rate(&mut self, per_second: f64) {
        self.created_per_s = per_second;
    }

    fn happened(&mut self, _at_ns: u64, in_second: u32, _scale: Option<&mut Scale>) {
        self.created_peak_per_s = self.created_peak_per_s.max(in_second.into());
    }
}
