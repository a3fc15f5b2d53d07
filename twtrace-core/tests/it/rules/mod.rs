//! Each rule: what it finds in a list of Events, what it reports, and what it ignores.

mod alike;
mod habits;
mod holders;
mod ports;
mod quiet;
mod shapes;
mod sockets;
mod unanswered;

use crate::common::*;
use twtrace_core::event::{CensusState, Connection, Event, KernelFacts, Owner, Role, SocketOwner, TcpState};
use twtrace_core::evidence::Value;
use twtrace_core::finding::{Finding, Rule};
use twtrace_core::state::State;
use twtrace_testkit::{MICROSECOND_NS, MILLISECOND_NS as MS};

/// A port range so small that hundreds of connections matter.
fn small_range(ports: u16, tw_reuse: u8) -> Event {
    let facts = KernelFacts {
        port_range: (40_000, 39_999 + ports),
        max_tw_buckets: 1000,
        tw_reuse,
        timestamps: Some(1),
        ..KernelFacts::default()
    };
    twtrace_testkit::kernel(facts)
}

/// Connections of one process, one every `every_ms` milliseconds, from `from_ns` on.
fn many(
    who: Owner,
    number: u64,
    every_ms: u64,
    from_ns: u64,
    one: impl Fn(u64, Owner, u64) -> Connection,
) -> Vec<Event> {
    (0..number).map(|n| ended(one(n, who, from_ns + (n + 1) * every_ms * MS))).collect()
}

/// A connection of 5 us with one request, closed first by its opener.
fn one_shot(n: u64, who: Owner, end_ns: u64) -> Connection {
    let cookie = u64::from(who.key.tgid) * 1_000_000 + n;
    connection(cookie, who, tuple(40_000 + n as u16, 1, 80), end_ns)
}

/// The same, but the peer closes first.
fn closed_by_peer(n: u64, who: Owner, end_ns: u64) -> Connection {
    use TcpState::{Close, CloseWait, Established, LastAck, SynSent};
    one_shot(n, who, end_ns).through(&[Close, SynSent, Established, CloseWait, LastAck, Close], MICROSECOND_NS)
}

/// The other end of [`closed_by_peer`]: a server that closes first.
fn served(n: u64, who: Owner, end_ns: u64) -> Connection {
    let client = one_shot(n, who, end_ns).tuple;
    connection(500_000_000 + n, who, client.mirrored(), end_ns)
        .usual(Role::Passive, true, MICROSECOND_NS)
        .peer_done(true)
}

fn owner_row(who: &Owner, state: CensusState, local_port: u16, remote: (u8, u16), sockets: u64) -> SocketOwner {
    let to = tuple(local_port, remote.0, remote.1);
    let remote_addr = if local_port == 0 { to.remote_addr } else { "0.0.0.0".parse().unwrap() };
    SocketOwner { remote_addr, ..socket_owner(who, state, to, sockets) }
}

fn state_after(events: impl IntoIterator<Item = Event>) -> State {
    engine([start(), kernel()].into_iter().chain(events))
}

fn rules(engine: &mut State) -> Vec<Rule> {
    engine.snapshot().findings().iter().map(|finding| finding.rule).collect()
}

/// The only finding.
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

/// One census per second, each with the same connections.
fn stays(seconds: std::ops::Range<u64>, state: CensusState, ports: std::ops::Range<u16>) -> Vec<Event> {
    let at = |second: u64| {
        let rows = ports.clone().map(|port| row(9_000_000 + u64::from(port), tuple(port, 1, 80), state, 0));
        census(START + second * SECOND, rows.collect())
    };
    seconds.flat_map(at).collect()
}

/// A connect(2) that found no port.
fn no_port(n: u64, who: Owner, end_ns: u64) -> Connection {
    use TcpState::{Close, SynSent};
    Connection {
        cookie: 800_000_000 + n,
        tuple: tuple(0, 1, 80),
        connect_errno: 99,
        connect_exit: true,
        established: false,
        closer: None,
        ..one_shot(n, who, end_ns).through(&[Close, SynSent, Close], MICROSECOND_NS)
    }
}

fn bind_failed(who: Owner, port: u16, errno: u16, at_ns: u64) -> Event {
    twtrace_testkit::bind_failed(who, tuple(port, 0, 0).without_remote(), errno, false, at_ns)
}
