//! Each rule: what it finds in a list of Events, what it says of it, and what it leaves alone.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../common/mod.rs"]
mod common;
mod habits;
mod ports;
mod sockets;

use common::*;
use twtrace_core::event::{
    BindFailed, CensusState, Connection, Event, KernelFacts, Owner, Role, SocketOwner, TcpState, Tuple,
};
use twtrace_core::evidence::Value;
use twtrace_core::finding::{Finding, Rule};
use twtrace_core::state::State;

/// Milliseconds.
const MS: u64 = 1_000_000;

/// A range of so few ports that hundreds of connections matter.
fn small_range(ports: u16, tw_reuse: u8) -> Event {
    let facts = KernelFacts {
        port_range: (40_000, 39_999 + ports),
        max_tw_buckets: 1000,
        tw_reuse,
        timestamps: Some(1),
        ..KernelFacts::default()
    };
    Event::Kernel { netns: NETNS, facts }
}

/// Connections of one process, one each so many milliseconds, from a moment on.
fn many(
    who: Owner,
    number: u64,
    every_ms: u64,
    from_ns: u64,
    one: impl Fn(u64, Owner, u64) -> Connection,
) -> Vec<Event> {
    (0..number).map(|n| ended(one(n, who, from_ns + (n + 1) * every_ms * MS))).collect()
}

/// A connection that asks once, of 5 us, closed first by its opener.
fn one_shot(n: u64, who: Owner, end_ns: u64) -> Connection {
    let cookie = u64::from(who.key.tgid) * 1_000_000 + n;
    connection(cookie, who, tuple(40_000 + n as u16, 1, 80), end_ns)
}

/// The same in which the peer closes first.
fn closed_by_peer(n: u64, who: Owner, end_ns: u64) -> Connection {
    use TcpState::{Close, CloseWait, Established, LastAck, SynSent};
    let transitions = path(&[Close, SynSent, Established, CloseWait, LastAck, Close], end_ns);
    Connection { transitions, ..one_shot(n, who, end_ns) }
}

/// The other end of [`closed_by_peer`]: a server that closes first.
fn served(n: u64, who: Owner, end_ns: u64) -> Connection {
    use TcpState::{Close, Established, FinWait1, FinWait2, Listen, SynRecv};
    let client = one_shot(n, who, end_ns).tuple;
    let tuple = Tuple {
        local_addr: client.remote_addr,
        local_port: client.remote_port,
        remote_addr: client.local_addr,
        remote_port: client.local_port,
        ..client
    };
    Connection {
        cookie: 500_000_000 + n,
        tuple,
        role: Role::Passive,
        transitions: path(&[Listen, SynRecv, Established, FinWait1, FinWait2, Close], end_ns),
        sock_done: true,
        ..one_shot(n, who, end_ns)
    }
}

fn holder(who: &Owner, state: CensusState, local_port: u16, remote: (u8, u16), sockets: u64) -> SocketOwner {
    let to = tuple(0, remote.0, remote.1);
    SocketOwner {
        tgid: who.key.tgid,
        // As /proc tells it.
        start_ns: who.key.start_ns / 10_000_000 * 10_000_000,
        command: String::from_utf8_lossy(who.comm.bytes()).into_owned(),
        uid: who.uid,
        netns: NETNS,
        state,
        local_addr: to.local_addr,
        local_port,
        remote_addr: if local_port == 0 { to.remote_addr } else { "0.0.0.0".parse().unwrap() },
        remote_port: remote.1,
        sockets,
    }
}

fn holders(at_ns: u64, rows: Vec<SocketOwner>) -> Event {
    Event::SocketOwners { at_ns, complete: true, rows }
}

fn told(events: impl IntoIterator<Item = Event>) -> State {
    engine([start(), kernel()].into_iter().chain(events))
}

fn rules(engine: &mut State) -> Vec<Rule> {
    engine.snapshot().findings().iter().map(|finding| finding.rule).collect()
}

/// The one finding that there is.
fn only(engine: &mut State) -> Finding {
    let shown = engine.snapshot();
    let found = shown.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

fn evidence(finding: &Finding, name: &str) -> Value {
    let found = finding.evidence.iter().find(|evidence| evidence.kind().name == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", finding.evidence)).value()
}

fn pid(finding: &Finding) -> Option<u32> {
    finding.process.unwrap().process.map(|process| process.tgid)
}

fn effect(finding: &Finding, advice: &str, figure: &str) -> (f64, f64) {
    let advice = finding.advice.iter().find(|given| given.id == advice);
    let advice = advice.unwrap_or_else(|| panic!("not advised: {:?}", finding.advice));
    let effect = advice.effect.iter().find(|effect| effect.figure == figure).unwrap();
    (effect.from, effect.to)
}

/// Censuses, one a second, that show a connection again and again.
fn stays(seconds: std::ops::Range<u64>, state: CensusState, ports: std::ops::Range<u16>) -> Vec<Event> {
    let at = |second: u64| {
        let rows = ports.clone().map(|port| row(9_000_000 + u64::from(port), tuple(port, 1, 80), state, 0));
        census(START + second * SECOND, rows.collect())
    };
    seconds.flat_map(at).collect()
}

/// connect(2) that found no port.
fn no_port(n: u64, who: Owner, end_ns: u64) -> Connection {
    use TcpState::{Close, SynSent};
    Connection {
        cookie: 800_000_000 + n,
        tuple: tuple(0, 1, 80),
        transitions: path(&[Close, SynSent, Close], end_ns),
        connect_errno: 99,
        connect_exit: true,
        established: false,
        closer: None,
        ..one_shot(n, who, end_ns)
    }
}

fn bind_failed(who: Owner, port: u16, errno: u16, at_ns: u64) -> Event {
    let tuple = Tuple { remote_addr: "0.0.0.0".parse().unwrap(), ..tuple(port, 0, 0) };
    Event::BindFailed(Box::new(BindFailed { owner: who, tuple, errno, reuse: false, at_ns }))
}
