//! Events that these tests share, and a state that has applied them.

#![allow(dead_code, unused_imports, reason = "each test uses some of these")]

use twtrace_core::event::{CensusRow, Connection, Event, KernelCounters, Owner, Role, TcpState, Transition, Tuple};
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, State};
pub(crate) use twtrace_testkit::{
    BuildConnection as _, BuildOwner as _, BuildTuple as _, NETNS, SECOND_NS as SECOND, START_NS as START,
    census_row as row, comm, connect_failed, kernel_facts, socket_owner, socket_owners, state_of as engine_with,
    states, tick,
};

/// There are few users, parents and cgroups, so that groups have several processes.
pub(crate) fn owner(tgid: u32, name: &str) -> Owner {
    twtrace_testkit::owner(tgid, name).user(tgid % 7).parent(tgid % 5 + 1, "sh").in_cgroup(u64::from(tgid % 3))
}

pub(crate) fn tuple(local_port: u16, remote_last: u8, remote_port: u16) -> Tuple {
    twtrace_testkit::tuple(local_port, [10, 0, 1, remote_last], remote_port)
}

/// The states that a connection passes through, one microsecond apart.
pub(crate) fn path(states: &[TcpState], end_ns: u64) -> Vec<Transition> {
    twtrace_testkit::path(states, end_ns, 1_000)
}

/// A connection that its owner opened and closed first: a TIME_WAIT socket in FIN_WAIT2.
pub(crate) fn connection(cookie: u64, who: Owner, tuple: Tuple, end_ns: u64) -> Connection {
    twtrace_testkit::connection(cookie, who, tuple, end_ns).bytes(10, 20).retransmitted(1)
}

/// An accepted connection that the peer closed first.
pub(crate) fn passive(cookie: u64, who: Owner, tuple: Tuple, end_ns: u64) -> Connection {
    connection(cookie, who, tuple, end_ns).usual(Role::Passive, false, 1_000)
}

pub(crate) fn start() -> Event {
    twtrace_testkit::start(START).unix(0).event()
}

pub(crate) fn kernel() -> Event {
    twtrace_testkit::kernel(kernel_facts())
}

pub(crate) fn ended(connection: Connection) -> Event {
    connection.event()
}

/// A complete census and the tick after which it takes effect.
pub(crate) fn census(at_ns: u64, rows: Vec<CensusRow>) -> Vec<Event> {
    census_of(NETNS, at_ns, rows)
}

/// The same for a given namespace.
pub(crate) fn census_of(netns: u32, at_ns: u64, rows: Vec<CensusRow>) -> Vec<Event> {
    twtrace_testkit::census(netns, at_ns, rows).into_iter().chain([tick(at_ns + SECOND / 10)]).collect()
}

pub(crate) fn lost(ring_full: u64) -> Event {
    Event::Counters(KernelCounters { ring_full, ..KernelCounters::default() })
}

/// An engine that has applied these events.
pub(crate) fn engine(events: impl IntoIterator<Item = Event>) -> State {
    engine_with(Config::default(), events)
}

/// Looks at a state without changing it.
pub(crate) trait Look {
    fn snapshot(&self) -> Snapshot;
}

impl Look for State {
    fn snapshot(&self) -> Snapshot {
        Snapshot::with_sockets(&mut self.clone())
    }
}
