//! Why an address or a port could not be had: each EADDRNOTAVAIL and each EADDRINUSE of bind(2), by its cause.

use crate::account::destination;
use crate::budgets::KEPT_NS;
use crate::connection::Outcome;
use crate::engine::{Ended, Engine};
use crate::input::{BindFailed, ConnectFailed, Life, ProcessKey, Role};
use crate::ledger::{Map, RowRef};
use crate::live::{Live, LiveSet};
use crate::model::{DestKey, DestRow, Model, Summary};
use crate::ports::Usable;
use foldhash::fast::FixedState;
use hashbrown::HashSet;

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// connect found no free port towards its destination.
    DestinationExhausted,
    /// The same, within the socket's own IP_LOCAL_PORT_RANGE.
    SocketRangeExhausted,
    /// bind with port 0 found none: they are bound.
    BoundPoolExhausted,
    /// connect with a port that was bound before: a connection with the same addresses and ports is there.
    BoundTupleTaken,
    /// bind: the address is not one of this host's.
    ForeignSource,
    /// connect: no route has a source address that would do.
    NoSource,
    /// bind to a port that somebody listens on or has bound.
    PortInUse,
    /// bind without SO_REUSEADDR to a port that only timewait sockets have.
    TimewaitHoldsPort,
    /// Nothing that was seen decides.
    Unknown,
}

impl Cause {
    /// Stable name for JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Which call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// connect(2).
    Connect,
    /// bind(2).
    Bind,
}

/// Failures of one kind of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureRow {
    /// Who; `None` for those that found no room, together.
    pub process: Option<ProcessKey>,
    /// Id of its row in the ledger of processes.
    pub process_row: u32,
    /// Towards where; of bind, the local side that was asked for, as [`Role::Passive`].
    pub destination: Option<DestKey>,
    /// Which call.
    pub call: Call,
    /// Positive errno.
    pub errno: u16,
    /// Why.
    pub cause: Cause,
    /// How many.
    pub count: u64,
    /// Of bind with port 0: whether timewait sockets had the ports, as of a failure at which it was counted. `None` when
    /// that decides nothing, and of other calls.
    pub time_wait: Option<bool>,
    /// A failure from then on is reason to count again.
    pub(crate) due_ns: u64,
    /// The first, monotonic nanoseconds.
    pub first_ns: u64,
    /// The last.
    pub last_ns: u64,
}

/// Kinds of failures kept apart. Full: further ones are counted together, without a process.
const ROWS: usize = 4096;

/// What makes two failures the same kind: row of the process, destination, call, errno, cause.
type Key = (u32, Option<DestKey>, Call, u16, Cause);

/// All failures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures {
    rows: Map<Key, FailureRow>,
}

impl Failures {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &FailureRow> {
        self.rows.values()
    }

    /// Counts one.
    pub(crate) fn add(
        &mut self,
        process: (u32, ProcessKey),
        destination: DestKey,
        call: Call,
        errno: u16,
        cause: Cause,
        at_ns: u64,
    ) {
        let mut key = (process.0, Some(destination), call, errno, cause);
        let mut of = Some(process.1);
        if self.rows.len() >= ROWS && !self.rows.contains_key(&key) {
            key = (RowRef::OTHER.id(), None, call, errno, cause);
            of = None;
        }
        let row = self.rows.entry(key).or_insert(FailureRow {
            process: of,
            process_row: key.0,
            destination: key.1,
            call,
            errno,
            cause,
            count: 0,
            time_wait: None,
            due_ns: 0,
            first_ns: at_ns,
            last_ns: at_ns,
        });
        row.count += 1;
        row.first_ns = row.first_ns.min(at_ns);
        row.last_ns = row.last_ns.max(at_ns);
    }

    /// Forgets what was counted.
    pub(crate) fn restart(&mut self) {
        self.rows.clear();
    }
}

/// Why a connect failed with EADDRNOTAVAIL.
fn of_connect(outcome: Outcome, life: &Life) -> Option<Cause> {
    match outcome {
        Outcome::NoPort if life.binding.range.is_some() => Some(Cause::SocketRangeExhausted),
        Outcome::NoPort => Some(Cause::DestinationExhausted),
        // A port of its own, and still no address: the tuple is taken (`__inet_check_established`).
        Outcome::ConnectFailed(EADDRNOTAVAIL) => Some(Cause::BoundTupleTaken),
        _ => None,
    }
}

impl Engine {
    /// Counts a life that failed for want of a port.
    pub(crate) fn failed_life(&mut self, life: &Life, ended: &Ended) {
        let (Some(cause), Some(opener)) = (of_connect(ended.outcome, life), &life.opener) else { return };
        let process = (self.model.attribution.process_row(ended.opener), opener.key);
        if let DestRow::Dest(key) = destination(&life.tuple, Role::Active) {
            self.model.failures.add(process, key, Call::Connect, EADDRNOTAVAIL, cause, life.end_ns);
            if cause == Cause::DestinationExhausted {
                self.model.destinations.row_mut(ended.destination).no_port_ns = life.end_ns.max(1);
                self.failing = true;
            }
        }
    }

    /// Counts a connect that failed before it looked for a port.
    pub(crate) fn failed_early(&mut self, failed: &ConnectFailed, process_row: u32) {
        if failed.errno != EADDRNOTAVAIL {
            return;
        }
        // Where an address is bound, none has to be found (`ip6_dst_lookup_tail`), and one that is not this host's is
        // EINVAL to the routing.
        let cause = if failed.tuple.local_addr.is_unspecified() { Cause::NoSource } else { Cause::Unknown };
        if let DestRow::Dest(key) = destination(&failed.tuple, Role::Active) {
            let process = (process_row, failed.opener.key);
            self.model.failures.add(process, key, Call::Connect, failed.errno, cause, failed.at_ns);
        }
    }

    /// Counts a bind that failed.
    pub(crate) fn bind_failed(&mut self, failed: &BindFailed) {
        self.passed(failed.at_ns);
        if !self.filter.passes(&failed.tuple, [Some(&failed.owner), None]) {
            return;
        }
        let cause = self.of_bind(failed);
        let number = self.model.attribution.number(Some(&failed.owner));
        let process = (self.model.attribution.process_row(number), failed.owner.key);
        if let DestRow::Dest(key) = destination(&failed.tuple, Role::Passive) {
            self.model.failures.add(process, key, Call::Bind, failed.errno, cause, failed.at_ns);
            self.failing |= cause == Cause::BoundPoolExhausted;
        }
    }

    /// Keeps what was in the way of calls that have failed since the last time: it may be gone when somebody looks.
    pub(crate) fn keep_failing(&mut self) {
        if !std::mem::take(&mut self.failing) {
            return;
        }
        self.keep_exhausted();
        let now_ns = self.model.summary.window.now_ns;
        let Model { failures, live, summary, .. } = &mut self.model;
        let mut pools: Map<u32, Option<bool>> = Map::default();
        let is_due = |row: &&mut FailureRow| row.cause == Cause::BoundPoolExhausted && row.last_ns >= row.due_ns;
        for row in failures.rows.values_mut().filter(is_due) {
            let Some(key) = row.destination else { continue };
            row.time_wait = *pools.entry(key.netns).or_insert_with(|| time_wait_in_the_pool(live, summary, key.netns));
            row.due_ns = now_ns.saturating_add(KEPT_NS);
        }
    }

    fn of_bind(&self, failed: &BindFailed) -> Cause {
        let BindFailed { tuple, errno, reuse, .. } = failed;
        match (*errno, tuple.local_port) {
            (EADDRNOTAVAIL, _) => Cause::ForeignSource,
            (EADDRINUSE, 0) => Cause::BoundPoolExhausted,
            (EADDRINUSE, port) => {
                let space = self.census.spaces().get(&tuple.netns);
                let held = space.is_some_and(|space| {
                    space.bound_ports().any(|bound| bound == port)
                        || space.connections().any(|connection| connection.port == port)
                });
                let timewait = || {
                    let mut live = self.model.live.iter();
                    live.any(|live| live.tuple.netns == tuple.netns && live.tuple.local_port == port)
                };
                match held {
                    true => Cause::PortInUse,
                    false if !reuse && timewait() => Cause::TimewaitHoldsPort,
                    false => Cause::Unknown,
                }
            }
            _ => Cause::Unknown,
        }
    }
}

/// Whether timewait sockets are what bind with port 0 finds no port for: they keep what bind(2) took.
fn time_wait_in_the_pool(live: &LiveSet, summary: &Summary, netns: u32) -> Option<bool> {
    let usable = Usable::of(summary.kernel_of(netns)?)?;
    let here = |at: &&Live| summary.place_of(at.tuple.netns) == summary.place_of(netns);
    let ports = |only_bound: bool| {
        let those = live.iter().filter(here).filter(|at| at.bound || !only_bound);
        let ports: HashSet<u16, FixedState> = those.map(|at| at.tuple.local_port).collect();
        ports.into_iter().filter(|port| usable.has(*port)).count()
    };
    let total = usable.total() as usize;
    if 2 * ports(true) >= total {
        return Some(true);
    }
    // Which were bound is not seen of those that are older than the trace.
    (2 * ports(false) < total).then_some(false)
}

/// `EADDRINUSE`.
const EADDRINUSE: u16 = 98;
/// `EADDRNOTAVAIL`.
const EADDRNOTAVAIL: u16 = 99;
