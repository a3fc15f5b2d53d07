//! Connects that fail, non-blocking connects, and TIME_WAIT sockets for which there is no room.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};

use super::{ALL, Case, Ends, PLAIN, Pair, TestBed, bound, close_first, closed_port};
use crate::workload::actor::Worker;
use crate::workload::command::{Command, How};
use crate::workload::diag::TupleState;
use crate::workload::sys::{Event, Family, SockOption, loopback};
use crate::workload::truth::Side;

const FIN_WAIT2: u8 = 5;

pub(super) const CASES: &[Case] = &[
    Case { name: "refused", families: ALL, play: refused },
    Case { name: "refused-32-bit-caller", families: PLAIN, play: refused_32_bit_caller },
    Case { name: "refused-non-blocking", families: ALL, play: refused_non_blocking },
    Case { name: "refused-then-connected", families: ALL, play: refused_then_connected },
    Case { name: "reset-in-syn-sent", families: ALL, play: reset_in_syn_sent },
    Case { name: "non-blocking", families: ALL, play: non_blocking },
    Case { name: "network-unreachable", families: PLAIN, play: network_unreachable },
    Case { name: "unreachable-route", families: PLAIN, play: unreachable_route },
    Case { name: "no-port", families: ALL, play: no_port },
    Case { name: "bound-tuple-taken", families: ALL, play: bound_tuple_taken },
    Case { name: "overflow-on-close", families: ALL, play: overflow_on_close },
    Case { name: "overflow-on-shutdown", families: ALL, play: overflow_on_shutdown },
    Case { name: "fast-open", families: PLAIN, play: fast_open },
    Case { name: "self-connect", families: ALL, play: self_connect },
];

/// A socket that connects to its own port opens simultaneously with itself, and closes so: it has one connection, which
/// nobody accepts.
fn self_connect(bed: &mut TestBed) -> Result<()> {
    let client = Worker::new("tw-client")?;
    let (c, own) = bound(&client, bed.family, loopback(bed.family))?;
    ensure!(client.connect(c, own, &How::Plain)? == 0);
    client.close(c)?;
    client.wait_tuple(own, own, TupleState::TimeWait)?;
    let pair = Pair { c, s: c, from: own, to: own };
    bed.active(&client, pair, [Some(&client.who); 2], "time_wait")
}

/// The peer still has a connection with the same addresses and answers the SYN with its acknowledgement: the connecting
/// socket sends a reset, which ends the peer's, and repeats its SYN after a second. Its own connection goes on.
fn reset_in_syn_sent(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    // A port that bind(2) took is no other socket's.
    let first = client.open(bed.family)?;
    client.set(first, SockOption::ReuseAddress)?;
    client.bind(first, ends.service.ip(), 0)?;
    let forgotten = ends.join(first, &How::Plain, &How::Plain)?;
    client.set(forgotten.c, SockOption::Repair)?;
    client.close(forgotten.c)?;
    let c = client.open(bed.family)?;
    client.set(c, SockOption::ReuseAddress)?;
    client.bind(c, forgotten.from.ip(), forgotten.from.port())?;
    let pair = ends.join(c, &How::Plain, &How::Plain)?;
    ensure!(pair.from == forgotten.from, "{} and {}", pair.from, forgotten.from);
    // In repair mode, close is a disconnect: nothing is sent.
    bed.active(client, forgotten, [Some(&client.who); 2], "unread_abort")?;
    bed.passive(server, forgotten, [Some(&server.who), None], "reset_received")?;
    close_first(bed, &ends, pair)
}

fn refused(bed: &mut TestBed) -> Result<()> {
    let client = Worker::new("tw-client")?;
    let service = closed_port(&client, bed.family)?;
    let (c, local) = bound(&client, bed.family, loopback(bed.family))?;
    ensure!(client.connect(c, service, &How::Plain)? == libc::ECONNREFUSED);
    let owners = [Some(&client.who), None];
    bed.connection(&client, Side::Active, (local, service), owners, "connect_failed", libc::ECONNREFUSED)
}

/// By a call as 32-bit programs make it: the errno is known from the socket alone.
fn refused_32_bit_caller(bed: &mut TestBed) -> Result<()> {
    let client = Worker::new("tw-client")?;
    if !super::owners::has_compat(&client)? {
        return Ok(());
    }
    let service = closed_port(&client, bed.family)?;
    let (c, local) = bound(&client, bed.family, loopback(bed.family))?;
    ensure!(client.connect(c, service, &How::Compat)? == libc::ECONNREFUSED);
    let owners = [Some(&client.who), None];
    bed.connection(&client, Side::Active, (local, service), owners, "connect_failed", libc::ECONNREFUSED)
}

fn refused_non_blocking(bed: &mut TestBed) -> Result<()> {
    let client = Worker::new("tw-client")?;
    let service = closed_port(&client, bed.family)?;
    let (c, local) = bound(&client, bed.family, loopback(bed.family))?;
    client.set(c, SockOption::NonBlocking)?;
    // On the loopback interface the reset arrives before connect returns.
    let errno = client.connect(c, service, &How::Plain)?;
    ensure!([libc::ECONNREFUSED, libc::EINPROGRESS].contains(&errno), "errno {errno}");
    super::ended(&client, local, service)?;
    let owners = [Some(&client.who), None];
    bed.connection(&client, Side::Active, (local, service), owners, "connect_failed", libc::ECONNREFUSED)
}

/// Two connections of one socket.
fn refused_then_connected(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let client = &ends.client;
    let service = closed_port(client, bed.family)?;
    let (c, local) = bound(client, bed.family, loopback(bed.family))?;
    ensure!(client.connect(c, service, &How::Plain)? == libc::ECONNREFUSED);
    let owners = [Some(&client.who), None];
    bed.connection(client, Side::Active, (local, service), owners, "connect_failed", libc::ECONNREFUSED)?;
    let pair = ends.join(c, &How::Plain, &How::Plain)?;
    close_first(bed, &ends, pair)
}

fn non_blocking(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let client = &ends.client;
    let c = client.open(bed.family)?;
    client.set(c, SockOption::NonBlocking)?;
    ensure!(client.connect(c, ends.service, &How::Plain)? == libc::EINPROGRESS);
    client.wait(c, Event::Writable)?;
    let s = ends.server.accept(ends.listener, &How::Plain)?;
    let pair = Pair { c, s, from: client.names(c)?.local, to: ends.service };
    close_first(bed, &ends, pair)
}

/// An address of the ranges for documentation.
fn elsewhere(family: Family) -> IpAddr {
    match family {
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).into(),
        Family::V4 | Family::Mapped => Ipv4Addr::new(192, 0, 2, 9).into(),
    }
}

fn nowhere(family: Family) -> SocketAddr {
    match family {
        Family::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        Family::V4 | Family::Mapped => (Ipv4Addr::UNSPECIFIED, 0).into(),
    }
}

/// No route at all: connect fails before the socket leaves CLOSE.
fn network_unreachable(bed: &mut TestBed) -> Result<()> {
    fails_early(bed, false, libc::ENETUNREACH)
}

fn unreachable_route(bed: &mut TestBed) -> Result<()> {
    fails_early(bed, true, libc::EHOSTUNREACH)
}

fn fails_early(bed: &mut TestBed, route: bool, expected: i32) -> Result<()> {
    let client = Worker::new("tw-client")?;
    client.execute(&Command::EnterNewNamespace)?;
    let address = elsewhere(bed.family);
    if route {
        client.execute(&Command::Unreachable { address })?;
    }
    let service = (address, 80).into();
    let c = client.open(bed.family)?;
    let errno = client.connect(c, service, &How::Plain)?;
    ensure!(errno == expected, "errno {errno}");
    let owners = [Some(&client.who), None];
    bed.connection(&client, Side::Active, (nowhere(bed.family), service), owners, "connect_failed", errno)?;
    bed.last()?.early = true;
    Ok(())
}

/// One port in the range, and it is in use to this destination.
fn no_port(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::apart(bed.family)?;
    let client = &ends.client;
    client.sysctl("ipv4/ip_local_port_range", "40000 40000")?;
    let pair = ends.pair(bed.family)?;
    let c = client.open(bed.family)?;
    ensure!(client.connect(c, ends.service, &How::Plain)? == libc::EADDRNOTAVAIL);
    let local = (loopback(bed.family), 0).into();
    let owners = [Some(&client.who), None];
    bed.connection(client, Side::Active, (local, ends.service), owners, "no_port", libc::EADDRNOTAVAIL)?;
    close_first(bed, &ends, pair)
}

/// The same errno for another reason: the ports are free, but this exact tuple is not.
fn bound_tuple_taken(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let client = &ends.client;
    let first = client.open(bed.family)?;
    let second = client.open(bed.family)?;
    for fd in [first, second] {
        client.set(fd, SockOption::ReuseAddress)?;
    }
    client.bind(first, loopback(bed.family), 0)?;
    let local = client.names(first)?.local;
    client.bind(second, local.ip(), local.port())?;
    let pair = ends.join(first, &How::Plain, &How::Plain)?;
    ensure!(client.connect(second, ends.service, &How::Plain)? == libc::EADDRNOTAVAIL);
    let owners = [Some(&client.who), None];
    bed.connection(client, Side::Active, (local, ends.service), owners, "connect_failed", libc::EADDRNOTAVAIL)?;
    close_first(bed, &ends, pair)
}

/// No TIME_WAIT socket, so the peer's FIN finds no socket and is answered with an RST.
fn overflow_on_close(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::apart(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.sysctl("ipv4/tcp_max_tw_buckets", "0")?;
    let pair = ends.pair(bed.family)?;
    client.close(pair.c)?;
    server.wait_tuple(pair.from, pair.to, TupleState::NoSocket)?;
    server.wait(pair.s, Event::PeerClosed)?;
    server.close(pair.s)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "overflow")?;
    bed.passive(server, pair, [Some(&server.who); 2], "reset_received")
}

fn overflow_on_shutdown(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::apart(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.sysctl("ipv4/tcp_max_tw_buckets", "0")?;
    let pair = ends.pair(bed.family)?;
    client.shutdown(pair.c)?;
    client.wait_state(pair.c, FIN_WAIT2)?;
    server.close(pair.s)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "overflow")?;
    bed.passive(server, pair, [Some(&server.who); 2], "passive_close")
}

/// No connect at all: the first sendto requests a cookie, the second sends its data with the SYN.
fn fast_open(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::apart(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.sysctl("ipv4/tcp_fastopen", "3")?;
    server.set(ends.listener, SockOption::FastOpen(5))?;
    for _ in 0..2 {
        let c = client.open(bed.family)?;
        client.execute(&Command::SendFastOpen { fd: c, address: ends.service })?;
        let s = server.accept(ends.listener, &How::Plain)?;
        server.wait(s, Event::Readable)?;
        ensure!(server.number(&Command::Receive { fd: s })? == 1);
        client.wait_state(c, 1)?;
        let pair = Pair { c, s, from: client.names(c)?.local, to: ends.service };
        close_first(bed, &ends, pair)?;
    }
    Ok(())
}
