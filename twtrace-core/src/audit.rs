//! Compares the trace with the kernel's own counters, over a period of time in one network namespace.

use crate::classify::{Classified, Outcome, classify};
use crate::event::{Connection, Event, KernelCounters, Tier, TimewaitCause};
use crate::summary::Provenance;
use std::collections::VecDeque;

/// How far an event's timestamp may be from the kernel's counter, before or after: both are taken in one call.
const CLOSE_BY_NS: u64 = 1_000_000;

/// Timestamps kept per kind, for events that may be on either side of a reading. When full, the oldest are dropped:
/// more events than this in one millisecond would be reported as a disagreement.
const REMEMBERED: usize = 65_536;

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;

/// What `twtrace doctor --audit --json` writes.
#[derive(Clone, Debug, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// Version of this form.
    #[cfg_attr(feature = "schema", schemars(extend("const" = SCHEMA)))]
    pub schema: u32,
    /// Tier in force.
    pub tier: Tier,
    /// Network namespace of this process.
    pub netns: u32,
    /// Time between the two readings.
    pub seconds: f64,
    /// Result there.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The other namespaces of the host.
    pub namespaces: Vec<Other>,
}

impl Report {
    /// Whether trace and kernel agree everywhere.
    pub fn agrees(&self) -> bool {
        self.verdict.agrees && self.namespaces.iter().all(|other| other.verdict.agrees)
    }
}

/// Another network namespace.
#[derive(Clone, Debug, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Other {
    /// Inode number.
    pub netns: u32,
    /// What it is called.
    pub name: String,
    /// Result there.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// The kernel's figures for one namespace at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Monotonic time before they were read.
    pub before_ns: u64,
    /// And after.
    pub after_ns: u64,
    /// `TW` plus `TWKilled`: timewait timers, counted when they start (`__inet_twsk_schedule`) or, on older kernels,
    /// when they run out (`tw_timer_handler`).
    pub timers: u64,
    /// `TWRecycled`.
    pub recycled: u64,
    /// `TCPTimeWaitOverflow`.
    pub overflow: u64,
    /// `tw` of `/proc/net/sockstat`.
    pub time_wait: u64,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Line {
    /// What is compared.
    pub name: &'static str,
    /// The kernel's counter, as `nstat` and `/proc/net/sockstat` name it.
    pub counter: &'static str,
    /// Change of the kernel's figure.
    pub kernel: i64,
    /// The same by the trace; `None` when this tier does not see it.
    pub traced: Option<i64>,
    /// Events so close to a reading that they may be on either side of it.
    pub slack: u64,
    /// Connections of which it is not sure whether a TIME_WAIT socket was created, overflowed, or neither: no program saw
    /// the end, or there were almost `net.ipv4.tcp_max_tw_buckets` of them.
    pub inferred: u64,
    /// Whether the difference is at most `slack` plus `inferred`.
    pub agrees: bool,
}

/// Result.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verdict {
    /// Comparisons.
    pub lines: Vec<Line>,
    /// Events that the tracer lost and counted.
    pub lost: u64,
    /// Whether all agree.
    pub agrees: bool,
}

/// Events of one kind.
#[derive(Debug, Default)]
struct Kind {
    /// Between the readings, as far as known so far.
    count: u64,
    /// The last few timestamps.
    times: VecDeque<u64>,
}

/// The comparison. Pass it the events of a source in order.
#[derive(Debug)]
pub struct Audit {
    netns: u32,
    tier: Tier,
    first: Reading,
    last: Option<Reading>,
    created: Kind,
    overflowed: Kind,
    expired: Kind,
    reused: Kind,
    ended_early: Kind,
    counters: KernelCounters,
    /// Events so close to the first or the last reading that they may be on either side of it.
    slack: u64,
    /// Connections that may have ended in another way than the one they are counted for.
    inferred: u64,
}

impl Audit {
    /// Starts from the kernel's figures after the hooks were attached.
    pub fn new(netns: u32, tier: Tier, first: Reading) -> Self {
        Self {
            netns,
            tier,
            first,
            last: None,
            created: Kind::default(),
            overflowed: Kind::default(),
            expired: Kind::default(),
            reused: Kind::default(),
            ended_early: Kind::default(),
            counters: KernelCounters::default(),
            slack: 0,
            inferred: 0,
        }
    }

    /// Takes one event.
    pub fn apply(&mut self, event: &Event) {
        let (kind, at_ns) = match event {
            Event::Connection(connection) if connection.tuple.netns == self.netns => {
                let classified = classify(connection);
                if is_unsure(connection, classified) {
                    self.inferred += 1;
                }
                match classified.outcome {
                    Outcome::TimeWait(_) => (&mut self.created, connection.end_ns),
                    Outcome::Overflow => (&mut self.overflowed, connection.end_ns),
                    _ => return,
                }
            }
            Event::TimewaitEnd(end) if end.tuple.netns == self.netns => {
                let kind = match end.cause {
                    TimewaitCause::Expired => &mut self.expired,
                    TimewaitCause::Reused => &mut self.reused,
                    TimewaitCause::EndedEarly => &mut self.ended_early,
                };
                (kind, end.at_ns)
            }
            Event::Counters(counters) => {
                self.counters = *counters;
                return;
            }
            _ => return,
        };
        if at_ns < self.first.before_ns.saturating_sub(CLOSE_BY_NS) {
            return;
        }
        if at_ns < self.first.after_ns.saturating_add(CLOSE_BY_NS) {
            self.slack += 1;
            return;
        }
        if let Some(last) = self.last {
            if at_ns > last.after_ns.saturating_add(CLOSE_BY_NS) {
                return;
            }
            if at_ns > last.before_ns.saturating_sub(CLOSE_BY_NS) {
                self.slack += 1;
                return;
            }
        }
        kind.count += 1;
        if kind.times.len() == REMEMBERED {
            kind.times.pop_front();
        }
        kind.times.push_back(at_ns);
    }

    /// The second reading. Events that happened before it may still arrive.
    pub fn end(&mut self, last: Reading) {
        self.last = Some(last);
        let near = last.before_ns.saturating_sub(CLOSE_BY_NS);
        for kind in
            [&mut self.created, &mut self.overflowed, &mut self.expired, &mut self.reused, &mut self.ended_early]
        {
            let close_by = kind.times.iter().filter(|at| **at > near).count() as u64;
            kind.count -= close_by;
            self.slack += close_by;
            kind.times = VecDeque::new();
        }
    }

    /// The result.
    pub fn verdict(&self) -> Verdict {
        let last = self.last.unwrap_or(self.first);
        let change = |figure: fn(&Reading) -> u64| figure(&last) as i64 - figure(&self.first) as i64;
        let exact = self.tier == Tier::Exact;
        let (created, expired) = (self.created.count as i64, self.expired.count as i64);
        let ended = expired + self.reused.count as i64 + self.ended_early.count as i64;
        let line = |name, counter, kernel: i64, traced: Option<i64>| Line {
            name,
            counter,
            kernel,
            traced,
            slack: self.slack,
            inferred: self.inferred,
            agrees: traced.is_none_or(|traced| kernel.abs_diff(traced) <= self.slack + self.inferred),
        };
        let timers = change(|reading| reading.timers);
        let at_start = line("created", "TW + TWKilled", timers, Some(created));
        let at_end = line("expired", "TW + TWKilled", timers, exact.then_some(expired));
        // Where the kernel counts timers as they run out, the sockets created are those in the table and those that
        // left it.
        let left = change(|reading| reading.time_wait + reading.timers + reading.recycled);
        let in_table = line("created", "sockstat tw + TW + TWKilled + TWRecycled", left, Some(created));
        // The figures show which of the two a kernel counts: only one of them fits, unless both do.
        let of_timers = if at_start.agrees {
            at_start
        } else {
            // Where ends are reported, they are the better proof.
            Some(if exact { at_end } else { in_table }).filter(|line| line.agrees).unwrap_or(at_start)
        };
        let lines = vec![
            of_timers,
            line(
                "overflowed",
                "TCPTimeWaitOverflow",
                change(|reading| reading.overflow),
                Some(self.overflowed.count as i64),
            ),
            line("reused", "TWRecycled", change(|reading| reading.recycled), exact.then_some(self.reused.count as i64)),
            line("alive", "sockstat tw", change(|reading| reading.time_wait), exact.then_some(created - ended)),
        ];
        let KernelCounters { ring_full, recursion, stale, undecodable, exact_missed, evicted, .. } = self.counters;
        let agrees = lines.iter().all(|line| line.agrees);
        let lost = ring_full + recursion + stale + undecodable + exact_missed + evicted;
        Verdict { lines, lost, agrees }
    }
}

/// Whether it may have ended in another way. Without the socket's fields, every end is inferred; a difference shows what
/// that is worth there.
fn is_unsure(connection: &Connection, Classified { outcome, known }: Classified) -> bool {
    match outcome {
        // The peer closed first, which creates none.
        Outcome::PassiveClose => false,
        Outcome::TimeWait(_) => known == Provenance::Inferred && !connection.no_fields,
        _ => connection.end_unseen,
    }
}
