//! Two hosts with a wire between them, for cases that need more time than the loopback interface takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};

use super::{ALL, Case, Ends, PLAIN, Pair, TestBed, bound, ended};
use crate::require::skip;
use crate::workload::actor::Worker;
use crate::workload::command::{Answer, Command, How};
use crate::workload::diag::TupleState;
use crate::workload::net::Layer;
use crate::workload::sys::{Event, Family, SockOption};
use crate::workload::truth::Side;
use crate::workload::wire::{FIN, Gate, SYN, Way};

const SYN_SENT: u8 = 2;

pub(super) const CASES: &[Case] = &[
    Case { name: "simultaneous-open", families: ALL, play: simultaneous_open },
    Case { name: "simultaneous-close", families: ALL, play: simultaneous_close },
    Case { name: "data-after-close", families: ALL, play: data_after_close },
    Case { name: "retransmission-timeout", families: PLAIN, play: retransmission_timeout },
    Case { name: "connect-timeout", families: PLAIN, play: connect_timeout },
    Case { name: "host-unreachable", families: PLAIN, play: host_unreachable },
    Case { name: "abandoned", families: ALL, play: abandoned },
    Case { name: "killed-while-connecting", families: PLAIN, play: killed_while_connecting },
];

fn address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V6 => Ipv6Addr::new(0xfd00, 0x7477, 0, 0, 0, 0, 0, host.into()).into(),
        Family::V4 | Family::Mapped => Ipv4Addr::new(10, 99, 0, host).into(),
    }
}

/// Client and server on either end of a wire.
struct Wired {
    ends: Ends,
    wire: Worker,
}

/// A process in a namespace of its own with one end of a tunnel; `None` where the kernel has no tunnels.
fn host(comm: &str, layer: Layer, address: IpAddr) -> Result<Option<(Worker, i32)>> {
    let actor = Worker::new(comm)?;
    actor.execute(&Command::EnterNewNamespace)?;
    match actor.tunnel(layer, &[address])? {
        Ok(tunnel) => Ok(Some((actor, tunnel))),
        Err(errno) => {
            skip("tunnels", &errno.to_string());
            Ok(None)
        }
    }
}

impl Wired {
    fn new(family: Family) -> Result<Option<Self>> {
        let Some((client, left)) = host("tw-client", Layer::Ip, address(family, 1))? else { return Ok(None) };
        let Some((server, right)) = host("tw-server", Layer::Ip, address(family, 2))? else { return Ok(None) };
        let wire = Worker::new("tw-wire")?;
        let (left, right) = (client.hand(left, &wire)?, server.hand(right, &wire)?);
        wire.execute(&Command::Wire { left, right })?;
        let ends = Ends::with(client, server, family, address(family, 2))?;
        Ok(Some(Self { ends, wire }))
    }

    /// Sets the gates of both ways.
    fn gates(&self, gate: Gate) -> Result<()> {
        self.wire.gate(Way::Right, gate)?;
        self.wire.gate(Way::Left, gate)
    }

    /// Waits until a packet with these TCP flags is held back on either way, and opens the gates.
    fn release(&self, flags: u8) -> Result<()> {
        for way in [Way::Right, Way::Left] {
            self.wire.execute(&Command::WaitHeld { way, flags })?;
        }
        self.gates(Gate::Pass)
    }

    fn settle(&self, pair: Pair) -> Result<()> {
        ended(&self.ends.client, pair.from, pair.to)?;
        ended(&self.ends.server, pair.to, pair.from)
    }
}

/// Both SYNs are on their way before either arrives (RFC 9293 figure 7): both sides connect, and none accepts.
fn simultaneous_open(bed: &mut TestBed) -> Result<()> {
    let Some(wired) = Wired::new(bed.family)? else { return Ok(()) };
    let Ends { client, server, .. } = &wired.ends;
    let (c, from) = bound(client, bed.family, address(bed.family, 1))?;
    let (s, to) = bound(server, bed.family, address(bed.family, 2))?;
    let pair = Pair { c, s, from, to };
    wired.gates(Gate::Hold)?;
    client.begin(&Command::Connect { fd: c, address: to, how: How::Plain })?;
    server.begin(&Command::Connect { fd: s, address: from, how: How::Plain })?;
    wired.release(SYN)?;
    for worker in [client, server] {
        let (answer, _) = worker.end()?;
        ensure!(answer == Answer::Done, "connect: {answer:?}");
    }
    client.close(c)?;
    client.wait_tuple(from, to, TupleState::TimewaitFinWait2)?;
    server.wait(s, Event::PeerClosed)?;
    server.close(s)?;
    wired.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "fin_wait2_timewait")?;
    bed.connection(server, Side::Active, (to, from), [Some(&server.who); 2], "passive_close", 0)
}

/// Both FINs are on their way before either arrives.
fn simultaneous_close(bed: &mut TestBed) -> Result<()> {
    let Some(wired) = Wired::new(bed.family)? else { return Ok(()) };
    let ends = &wired.ends;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    wired.gates(Gate::Hold)?;
    client.close(pair.c)?;
    server.close(pair.s)?;
    wired.release(FIN)?;
    client.wait_tuple(pair.from, pair.to, TupleState::TimeWait)?;
    server.wait_tuple(pair.to, pair.from, TupleState::TimeWait)?;
    bed.active(client, pair, [Some(&client.who); 2], "time_wait")?;
    bed.passive(server, pair, [Some(&server.who); 2], "time_wait")
}

/// Data arrives for a closed socket whose FIN is not yet acknowledged: the kernel answers with an RST.
fn data_after_close(bed: &mut TestBed) -> Result<()> {
    let Some(wired) = Wired::new(bed.family)? else { return Ok(()) };
    let Wired { ends, wire } = &wired;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    wire.gate(Way::Right, Gate::Hold)?;
    client.close(pair.c)?;
    wire.execute(&Command::WaitHeld { way: Way::Right, flags: FIN })?;
    server.send_byte(pair.s)?;
    ended(client, pair.from, pair.to)?;
    wire.gate(Way::Right, Gate::Pass)?;
    wired.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "reset_sent")?;
    bed.passive(server, pair, [Some(&server.who), None], "reset_received")
}

/// The network drops everything until the kernel gives up. When it is back, the server's FIN finds no socket.
fn retransmission_timeout(bed: &mut TestBed) -> Result<()> {
    let Some(wired) = Wired::new(bed.family)? else { return Ok(()) };
    let Wired { ends, wire } = &wired;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    wire.gate(Way::Right, Gate::Drop)?;
    client.set(pair.c, SockOption::UserTimeout(300))?;
    client.send_byte(pair.c)?;
    client.wait(pair.c, Event::HungUp)?;
    ensure!(client.take_error(pair.c)? == libc::ETIMEDOUT);
    wire.gate(Way::Right, Gate::Pass)?;
    server.close(pair.s)?;
    wired.settle(pair)?;
    let owners = [Some(&client.who), None];
    bed.connection(client, Side::Active, (pair.from, pair.to), owners, "broken", libc::ETIMEDOUT)?;
    bed.passive(server, pair, [Some(&server.who); 2], "reset_received")
}

/// A client on a tunnel that no process reads.
fn alone(bed: &TestBed, layer: Layer) -> Result<Option<(Worker, i32, SocketAddr, SocketAddr)>> {
    let local = address(bed.family, 1);
    let Some((client, _)) = host("tw-client", layer, local)? else { return Ok(None) };
    let (c, local) = bound(&client, bed.family, local)?;
    Ok(Some((client, c, local, (address(bed.family, 2), 80).into())))
}

fn connect_timeout(bed: &mut TestBed) -> Result<()> {
    let Some((client, c, local, service)) = alone(bed, Layer::Ip)? else { return Ok(()) };
    client.set(c, SockOption::SynCount(1))?;
    let errno = client.connect(c, service, &How::Plain)?;
    ensure!(errno == libc::ETIMEDOUT, "errno {errno}");
    let owners = [Some(&client.who), None];
    bed.connection(&client, Side::Active, (local, service), owners, "connect_failed", errno)
}

/// No host on the link answers for the address.
fn host_unreachable(bed: &mut TestBed) -> Result<()> {
    let Some((client, c, local, service)) = alone(bed, Layer::Ethernet)? else { return Ok(()) };
    let errno = client.connect(c, service, &How::Plain)?;
    ensure!(errno == libc::EHOSTUNREACH, "errno {errno}");
    let owners = [Some(&client.who), None];
    bed.connection(&client, Side::Active, (local, service), owners, "connect_failed", errno)
}

/// The owner gives up before the kernel does.
fn abandoned(bed: &mut TestBed) -> Result<()> {
    let Some((client, c, local, service)) = alone(bed, Layer::Ip)? else { return Ok(()) };
    client.set(c, SockOption::NonBlocking)?;
    ensure!(client.connect(c, service, &How::Plain)? == libc::EINPROGRESS);
    client.close(c)?;
    ended(&client, local, service)?;
    bed.connection(&client, Side::Active, (local, service), [Some(&client.who); 2], "abandoned", 0)
}

/// A signal ends a blocking connect, and the exit closes the socket.
fn killed_while_connecting(bed: &mut TestBed) -> Result<()> {
    let Some((witness, _, _, service)) = alone(bed, Layer::Ip)? else { return Ok(()) };
    let victim = witness.fork("tw-victim")?;
    let (c, local) = bound(&victim, bed.family, address(bed.family, 1))?;
    victim.begin(&Command::Connect { fd: c, address: service, how: How::Plain })?;
    witness.wait_tuple(local, service, TupleState::Socket(SYN_SENT))?;
    let who = victim.who.clone();
    let mut victim = victim;
    victim.kill()?;
    ended(&witness, local, service)?;
    bed.connection(&witness, Side::Active, (local, service), [Some(&who); 2], "abandoned", 0)
}
