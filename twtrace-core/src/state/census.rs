//! What the kernel's own socket lists have shown, kept from one census to the next.

use super::closed::ClosedConnection;
use super::space::Space;
use super::time_wait::TimeWaitTable;
use super::timers::Timers;
use crate::classify::Outcome;
use crate::event::{CensusRow, Tuple};
use crate::recent::Rate;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;
use std::net::IpAddr;

/// How long after a census the record of a socket that it saw may arrive: the TIME_WAIT socket is in the kernel's table
/// some microseconds before its record is in the ring buffer.
const SETTLE_NS: u64 = 10_000_000;

/// Remembered connections that ended, as far as could be seen, without a TIME_WAIT socket, but may have left one.
const PENDING: usize = 1024;

/// A census older than this no longer decides whether a socket that it never contained is alive.
const FRESH_NS: u64 = 10_000_000_000;

/// A census older than this no longer decides whether a socket that it contained is alive.
const STALE_NS: u64 = 60_000_000_000;

/// Network namespaces whose last census is remembered. When full, further ones are ignored.
const SPACES: usize = 2048;

/// A census in progress, or one that waits for the last records.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) netns: u32,
    /// Marks the sockets that it contains.
    pub(super) number: u32,
    pub(super) begin_ns: u64,
    pub(super) end_ns: u64,
    /// Absence from it is proof.
    pub(super) complete: bool,
    /// It lists all sockets, not only what has changed.
    pub(super) whole: bool,
    /// TIME_WAIT sockets that the trace does not know.
    pub(super) unattributed: Vec<CensusRow>,
    /// Their indices in `unattributed`, by cookie.
    pub(super) places: HashMap<u64, usize, FixedState>,
    /// Cookies that were in earlier censuses and are not in this one.
    pub(super) gone: Vec<u64>,
    pub(super) timers: Timers,
}

/// A TIME_WAIT socket that the next census must show. While sockets come and go, the kernel skips one now and then: a
/// socket whose timer is running has ended when two censuses in a row lack it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed {
    pub(super) cookie: u64,
    /// The census that lacked it.
    pub(super) number: u32,
}

/// What is kept from one census to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    pub(super) number: u32,
    pub(super) running: Option<Run>,
    pub(super) settling: VecDeque<Run>,
    pub(super) spaces: HashMap<u32, Space, FixedState>,
    pub(super) pending: VecDeque<ClosedConnection>,
    /// TIME_WAIT sockets whose end was reported while a census was in progress or waiting.
    pub(super) ended: HashSet<u64, FixedState>,
    /// Tracked sockets that no census has shown yet; some may have ended.
    pub(super) unconfirmed: Vec<u64>,
    /// Those that the last complete census of their namespace lacked.
    pub(super) missed: Vec<Missed>,
    /// TIME_WAIT sockets created by all processes.
    pub(crate) rate: Rate,
}

impl Census {
    pub(crate) fn begin(&mut self, netns: u32, at_ns: u64, whole: bool) {
        let has_room = self.spaces.len() < SPACES || self.spaces.contains_key(&netns);
        if has_room {
            let space = self.spaces.entry(netns).or_default();
            if whole {
                space.begin_whole();
            }
        }
        self.number = self.number.wrapping_add(1).max(1);
        self.running = has_room.then(|| Run { netns, number: self.number, begin_ns: at_ns, whole, ..Run::default() });
    }

    /// What is known of each namespace.
    pub(crate) fn spaces(&self) -> &HashMap<u32, Space, FixedState> {
        &self.spaces
    }

    pub(crate) fn gone(&mut self, cookies: &[u64]) {
        if let Some(run) = &mut self.running {
            run.gone.extend(cookies);
        }
    }

    pub(crate) fn end(&mut self, at_ns: u64, complete: bool) {
        if let Some(mut run) = self.running.take() {
            run.end_ns = at_ns;
            // Differences from a census that was never seen prove nothing.
            run.complete = complete && self.spaces.get(&run.netns).is_some_and(|space| space.based);
            self.settling.push_back(run);
        }
    }

    /// A namespace is gone, and with it everything that waits for its censuses.
    pub(crate) fn forget(&mut self, netns: u32) {
        self.spaces.remove(&netns);
        self.settling.retain(|run| run.netns != netns);
        if self.running.as_ref().is_some_and(|run| run.netns == netns) {
            self.running = None;
        }
    }

    /// Whether a socket listens on the local side of a connection, by the last census of its namespace.
    pub(crate) fn listens(&self, tuple: &Tuple) -> bool {
        let Some(space) = self.spaces.get(&tuple.netns) else { return false };
        let on = |address: IpAddr| space.listens(address, tuple.local_port);
        on(tuple.local_addr)
            || on(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
            || on(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED))
    }

    /// Whether the censuses of a namespace decide which sockets are alive: those that they have contained, and others.
    pub(crate) fn decides(&self, netns: u32, now_ns: u64) -> (bool, bool) {
        let complete_ns = self.spaces.get(&netns).and_then(|space| space.complete_ns);
        let within = |limit: u64| complete_ns.is_some_and(|at| now_ns.saturating_sub(at) < limit);
        (within(STALE_NS), within(FRESH_NS))
    }

    /// Whether a census is in progress, or waits for the last records.
    pub(crate) fn is_unsettled(&self, number: u32) -> bool {
        self.running.iter().chain(&self.settling).any(|run| run.number == number)
    }

    /// Adds a tracked socket that no census has shown. At most as many ended ones are kept as may be alive.
    pub(crate) fn unconfirmed(&mut self, cookie: u64, live: &TimeWaitTable) {
        if self.unconfirmed.len() >= 2 * live.limit() {
            self.unconfirmed.retain(|cookie| live.get(*cookie).is_some_and(|live| live.census == 0));
        }
        self.unconfirmed.push(cookie);
    }

    pub(super) fn is_first(&self, netns: u32) -> bool {
        self.spaces.get(&netns).is_none_or(|space| space.complete_ns.is_none())
    }

    /// A census to draw conclusions from: one that is old enough, or of this namespace.
    pub(super) fn next_settled(&mut self, now_ns: u64, netns: Option<u32>) -> Option<Run> {
        let is_due = |run: &Run| Some(run.netns) == netns || now_ns >= run.end_ns.saturating_add(SETTLE_NS);
        let at = self.settling.iter().position(is_due)?;
        self.settling.remove(at)
    }

    /// Remembers a connection that may have left a TIME_WAIT socket. When full, the oldest is forgotten and returned.
    pub(crate) fn confirm_later(&mut self, ended: ClosedConnection) -> Option<ClosedConnection> {
        let forgotten = if self.pending.len() == PENDING { self.pending.pop_front() } else { None };
        self.pending.push_back(ended);
        forgotten
    }

    /// Takes the connection of a socket that is pending confirmation, if there is one.
    pub(crate) fn take_pending(&mut self, cookie: u64) -> Option<ClosedConnection> {
        let at = self.pending.iter().position(|ended| ended.cookie == cookie)?;
        self.pending.remove(at)
    }

    /// The end of a TIME_WAIT socket was reported; a census in progress may still show the socket.
    pub(crate) fn ended(&mut self, cookie: u64, limit: usize) {
        if (self.running.is_some() || !self.settling.is_empty()) && self.ended.len() < limit {
            self.ended.insert(cookie);
        }
    }

    /// A connection that may have left a TIME_WAIT socket turned out to have ended by a reset.
    pub(crate) fn reset(&mut self, ended: &ClosedConnection) {
        let is_it = |pending: &&mut ClosedConnection| {
            pending.cookie == ended.cookie
                && pending.end_ns == ended.end_ns
                && (pending.role, pending.tuple) == (ended.role, ended.tuple)
        };
        for pending in self.pending.iter_mut().filter(is_it) {
            pending.outcome = Outcome::ResetSent;
        }
    }
}
