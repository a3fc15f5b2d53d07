//! Connections opened and closed in every way that the kernel distinguishes, one case after the other.

mod closing;
mod connecting;
mod owners;
mod wired;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, bail, ensure};

use super::actor::{Raced, Worker};
use super::command::{Command, How, Who};
use super::sys::{Family, loopback};
use super::truth::{Side, Truth};

/// A case: what happens, and the result.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// The families that it is played with.
    families: &'static [Family],
    play: fn(&mut TestBed) -> Result<()>,
}

const ALL: &[Family] = &[Family::V4, Family::V6, Family::Mapped];
const PLAIN: &[Family] = &[Family::V4, Family::V6];

/// Every case.
pub fn all() -> Vec<Case> {
    [closing::CASES, connecting::CASES, owners::CASES, wired::CASES].into_iter().flatten().map(Case::copy).collect()
}

/// How often a case is played again after a race in the kernel.
const RETRIES: usize = 3;

/// Plays the cases with these names, or all, and writes one line of JSON for each connection.
pub fn run(only: &[String], out: &mut dyn Write) -> Result<()> {
    let cases = all();
    if let Some(unknown) = only.iter().find(|name| !cases.iter().any(|case| case.name == **name)) {
        bail!("there is no case {unknown}: see --list");
    }
    let mut kept = BTreeMap::new();
    for case in cases.iter().filter(|case| only.is_empty() || only.iter().any(|name| name == case.name)) {
        for &family in case.families {
            let name = format!("{} {family:?}", case.name);
            let mut bed = TestBed { name, family, truths: Vec::new(), kept };
            let mut played = (case.play)(&mut bed);
            for _ in 0..RETRIES {
                let Some(raced) = played.as_ref().err().and_then(|error| error.downcast_ref::<Raced>()).copied() else {
                    break;
                };
                bed.leave_out(&raced)?;
                played = (case.play)(&mut bed);
            }
            played.with_context(|| bed.name.clone())?;
            kept = bed.kept;
            for truth in &bed.truths {
                serde_json::to_writer(&mut *out, truth)?;
                writeln!(out)?;
            }
            out.flush()?;
        }
    }
    Ok(())
}

impl Case {
    fn copy(&self) -> Self {
        Self { ..*self }
    }
}

/// Where a case is played.
pub struct TestBed {
    name: String,
    /// Address family of the connections.
    pub family: Family,
    truths: Vec<Truth>,
    /// Namespaces, kept open so that their inode numbers are not reused while the generator runs.
    kept: BTreeMap<u64, File>,
}

/// A client, and a server that listens.
pub struct Ends {
    /// Who connects.
    pub client: Worker,
    /// Who accepts.
    pub server: Worker,
    /// The server's listening socket.
    pub listener: RawFd,
    /// Where it listens.
    pub service: SocketAddr,
}

/// Both ends of one connection.
#[derive(Clone, Copy)]
pub struct Pair {
    /// The client's descriptor.
    pub c: RawFd,
    /// The server's.
    pub s: RawFd,
    /// The client's address.
    pub from: SocketAddr,
    /// The server's address.
    pub to: SocketAddr,
}

impl Ends {
    /// Two new processes on the loopback interface.
    pub fn new(family: Family) -> Result<Self> {
        Self::with(Worker::new("tw-client")?, Worker::new("tw-server")?, family, loopback(family))
    }

    /// Two new processes in a namespace of their own, with nothing but the loopback interface.
    pub fn apart(family: Family) -> Result<Self> {
        let client = Worker::new("tw-client")?;
        client.execute(&Command::EnterNewNamespace)?;
        let server = client.fork("tw-server")?;
        Self::with(client, server, family, loopback(family))
    }

    /// Two given processes, the server at that address.
    pub fn with(client: Worker, server: Worker, family: Family, address: IpAddr) -> Result<Self> {
        let listener = server.open(family)?;
        server.bind(listener, address, 0)?;
        server.execute(&Command::Listen { fd: listener })?;
        let service = server.names(listener)?.local;
        Ok(Self { client, server, listener, service })
    }

    /// Connects and accepts.
    pub fn pair(&self, family: Family) -> Result<Pair> {
        let c = self.client.open(family)?;
        self.join(c, &How::Plain, &How::Plain)
    }

    /// Connects a socket of the client's and accepts, each in a given way.
    pub fn join(&self, c: RawFd, connect: &How, accept: &How) -> Result<Pair> {
        let errno = self.client.connect(c, self.service, connect)?;
        if errno != 0 {
            bail!("connect: errno {errno}");
        }
        let s = self.server.accept(self.listener, accept)?;
        Ok(Pair { c, s, from: self.client.names(c)?.local, to: self.service })
    }

    /// Waits until neither end of a connection is a full socket.
    pub fn settle(&self, pair: Pair) -> Result<()> {
        ended(&self.server, pair.from, pair.to)?;
        ended(&self.server, pair.to, pair.from)
    }
}

/// Waits, in the namespace of `witness`, until no full socket has the tuple.
pub fn ended(witness: &Worker, local: SocketAddr, remote: SocketAddr) -> Result<()> {
    witness.execute(&Command::WaitEnded { local, remote })
}

impl TestBed {
    /// Records the outcome of the active side.
    pub fn active(&mut self, at: &Worker, pair: Pair, owners: [Option<&Who>; 2], outcome: &str) -> Result<()> {
        self.connection(at, Side::Active, (pair.from, pair.to), owners, outcome, 0)
    }

    /// Records the outcome of the passive side.
    pub fn passive(&mut self, at: &Worker, pair: Pair, owners: [Option<&Who>; 2], outcome: &str) -> Result<()> {
        self.connection(at, Side::Passive, (pair.to, pair.from), owners, outcome, 0)
    }

    /// Records the outcome of one connection. The owners are opener and closer; `at` is a process in its namespace that
    /// still exists.
    pub fn connection(
        &mut self,
        at: &Worker,
        side: Side,
        (local, remote): (SocketAddr, SocketAddr),
        [opener, closer]: [Option<&Who>; 2],
        outcome: &str,
        errno: i32,
    ) -> Result<()> {
        let netns = at.namespace()?;
        if let Entry::Vacant(place) = self.kept.entry(netns.inode) {
            let file = File::open(format!("/proc/{}/ns/net", at.who.pid))?;
            ensure!(file.metadata()?.ino() == netns.inode, "{} is elsewhere", at.who.comm);
            place.insert(file);
        }
        self.truths.push(Truth {
            left_out: false,
            case: self.name.clone(),
            netns,
            side,
            local,
            remote,
            v4_mapped: self.family == Family::Mapped,
            opener: opener.cloned(),
            closer: closer.cloned(),
            outcome: outcome.to_owned(),
            errno,
            early: false,
            accepted_out_of_sight: false,
            timewait_cut_short: false,
        });
        Ok(())
    }

    /// Records that a connection existed, without its outcome.
    fn leave_out(&mut self, raced: &Raced) -> Result<()> {
        self.truths.push(Truth {
            left_out: true,
            case: self.name.clone(),
            netns: raced.netns,
            side: Side::Active,
            local: raced.local,
            remote: raced.remote,
            v4_mapped: false,
            opener: None,
            closer: None,
            outcome: String::new(),
            errno: 0,
            early: false,
            accepted_out_of_sight: false,
            timewait_cut_short: false,
        });
        Ok(())
    }

    /// The last record, to add to it.
    pub fn last(&mut self) -> Result<&mut Truth> {
        self.truths.last_mut().context("nothing was recorded yet")
    }
}

/// A socket bound to a local port, so that a connect that fails can be identified by it.
pub fn bound(actor: &Worker, family: Family, address: IpAddr) -> Result<(RawFd, SocketAddr)> {
    let fd = actor.open(family)?;
    actor.bind(fd, address, 0)?;
    let local = actor.names(fd)?.local;
    Ok((fd, local))
}

/// Closes a connection from the client's side, and records the outcome.
fn close_first(bed: &mut TestBed, ends: &Ends, pair: Pair) -> Result<()> {
    let (client, server) = (&ends.client, &ends.server);
    client.close(pair.c)?;
    server.wait_tuple(pair.from, pair.to, super::diag::TupleState::TimewaitFinWait2)?;
    server.close(pair.s)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "fin_wait2_timewait")?;
    bed.passive(server, pair, [Some(&server.who); 2], "passive_close")
}

/// An address on which no process listens. A socket that stays open is bound to it, so that no other socket gets it.
pub fn closed_port(actor: &Worker, family: Family) -> Result<SocketAddr> {
    Ok(bound(actor, family, loopback(family))?.1)
}
