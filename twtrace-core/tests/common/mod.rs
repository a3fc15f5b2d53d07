//! Events by hand.

#![allow(dead_code, reason = "each test uses some of these")]

use std::net::{IpAddr, Ipv4Addr};
use twtrace_core::event::{
    CensusRow, CensusState, Comm, Connection, Event, HostFacts, KernelCounters, KernelFacts, Owner, ProcessKey, Role,
    TcpState, TracingFacts, Transition, Tuple,
};
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, State};

/// The tracer's namespace.
pub(crate) const NETNS: u32 = 4_026_531_840;
pub(crate) const SECOND: u64 = 1_000_000_000;
/// When the trace begins.
pub(crate) const START: u64 = 1_000 * SECOND;

pub(crate) fn comm(name: &str) -> Comm {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Comm(bytes)
}

pub(crate) fn owner(tgid: u32, name: &str) -> Owner {
    Owner {
        key: ProcessKey { tgid, start_ns: u64::from(tgid) * 1_000 },
        uid: tgid % 7,
        ppid: tgid % 5 + 1,
        cgroup: u64::from(tgid % 3),
        comm: comm(name),
        parent_comm: comm("sh"),
        kthread: false,
        exiting: false,
    }
}

pub(crate) fn tuple(local_port: u16, remote_last: u8, remote_port: u16) -> Tuple {
    Tuple {
        netns: NETNS,
        local_addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        local_port,
        remote_addr: IpAddr::V4(Ipv4Addr::new(10, 0, 1, remote_last)),
        remote_port,
        v4_mapped: false,
    }
}

/// The states that a connection passes through.
pub(crate) fn path(states: &[TcpState], end_ns: u64) -> Vec<Transition> {
    let last = states.len() as u64;
    states
        .windows(2)
        .zip(2..)
        .map(|(pair, step)| Transition {
            from: pair[0],
            to: pair[1],
            at_ns: end_ns.saturating_sub((last - step) * 1_000),
        })
        .collect()
}

/// A connection that its owner opened and closed first: a FIN_WAIT2 timewait socket.
pub(crate) fn connection(cookie: u64, who: Owner, tuple: Tuple, end_ns: u64) -> Connection {
    use TcpState::{Close, Established, FinWait1, FinWait2, SynSent};
    Connection {
        cookie,
        role: Role::Active,
        opener: Some(who),
        closer: Some(who),
        transitions: path(&[Close, SynSent, Established, FinWait1, FinWait2, Close], end_ns),
        sock_dead: true,
        established: true,
        bytes_sent: 10,
        bytes_received: 20,
        retransmits: 1,
        ..Connection::bare(tuple, end_ns)
    }
}

/// An accepted connection that the peer closed first.
pub(crate) fn passive(cookie: u64, who: Owner, tuple: Tuple, end_ns: u64) -> Connection {
    use TcpState::{Close, CloseWait, Established, LastAck, Listen, SynRecv};
    Connection {
        role: Role::Passive,
        transitions: path(&[Listen, SynRecv, Established, CloseWait, LastAck, Close], end_ns),
        ..connection(cookie, who, tuple, end_ns)
    }
}

pub(crate) fn start() -> Event {
    let host = HostFacts { hostname: "host".to_owned(), netns: NETNS, ..HostFacts::default() };
    Event::Start { at_ns: START, unix_ns: 0, host, tracing: TracingFacts::default() }
}

pub(crate) fn kernel() -> Event {
    let facts = KernelFacts { port_range: (32_768, 60_999), max_tw_buckets: 131_072, ..KernelFacts::default() };
    Event::Kernel { netns: NETNS, facts }
}

pub(crate) fn ended(connection: Connection) -> Event {
    Event::Connection(Box::new(connection))
}

pub(crate) fn tick(at_ns: u64) -> Event {
    Event::Tick { at_ns }
}

pub(crate) fn row(cookie: u64, tuple: Tuple, state: CensusState, expires_ms: u32) -> CensusRow {
    CensusRow { cookie, tuple, state, expires_ms }
}

/// A complete census and the tick after which it counts.
pub(crate) fn census(at_ns: u64, rows: Vec<CensusRow>) -> Vec<Event> {
    census_of(NETNS, at_ns, rows)
}

/// The same of some namespace.
pub(crate) fn census_of(netns: u32, at_ns: u64, rows: Vec<CensusRow>) -> Vec<Event> {
    vec![
        Event::CensusBegin { netns, at_ns, whole: true },
        Event::CensusRows(rows),
        Event::CensusEnd { at_ns: at_ns + 1_000_000, complete: true },
        tick(at_ns + 100_000_000),
    ]
}

pub(crate) fn lost(ring_full: u64) -> Event {
    Event::Counters(KernelCounters { ring_full, ..KernelCounters::default() })
}

/// An engine that has been told these.
pub(crate) fn engine(events: impl IntoIterator<Item = Event>) -> State {
    engine_with(Config::default(), events)
}

pub(crate) fn engine_with(config: Config, events: impl IntoIterator<Item = Event>) -> State {
    let mut engine = State::new(config);
    for event in events {
        engine.apply(event);
    }
    engine
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
