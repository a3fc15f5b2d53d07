//! Generates a recording: a host with many clients and servers, a census each second, and a given number of
//! connections. The same arguments give the same recording. It is for benchmarks; `twtrace record` records a real host.

use std::collections::VecDeque;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use twtrace_core::event::{
    CensusRow, CensusState, Connection, Event, KernelCounters, KernelFacts, Owner, ProcessFacts, Role, Tuple,
};
use twtrace_recording::writer::{Recorder, WriteOptions};
use twtrace_testkit::chance::Chance;
use twtrace_testkit::{
    BuildConnection as _, BuildOwner as _, BuildTuple as _, MILLISECOND_NS, NETNS, SECOND_NS, census_row, connection,
    kernel, kernel_facts, namespace, owner, process, process_facts, start, states, tick, tuple,
};

/// 2026-01-01, and a host that has been up for a day.
const UNIX_NS: i128 = 1_767_225_600_000_000_000;
const START_NS: u64 = 86_400 * SECOND_NS;
const TIME_WAIT_S: usize = 60;

/// Generates a recording
#[derive(Parser)]
struct Args {
    /// Where to write it
    output: PathBuf,
    /// Number of connections
    #[arg(long, default_value_t = 1_000_000)]
    connections: u64,
    /// Connections that end in a second
    #[arg(long, default_value_t = 4000)]
    rate: u64,
    /// Client processes; there is one server for every four
    #[arg(long, default_value_t = 64)]
    clients: u64,
    /// Both ends are on this host: each connection is two sockets
    #[arg(long)]
    loopback: bool,
}

struct Host {
    args: Args,
    chance: Chance,
    cookie: u64,
    port: u16,
    now_ns: u64,
    clients: Vec<Owner>,
    servers: Vec<Owner>,
    /// Cookies of the TIME_WAIT sockets of the last seconds.
    alive: VecDeque<Vec<u64>>,
    /// Sockets for the next census.
    created: Vec<CensusRow>,
    /// The counters for the next census.
    census: KernelCounters,
}

/// A process that started before the trace, the earlier the higher its PID.
fn process_of(tgid: u32, command: &str) -> Owner {
    owner(tgid, command)
        .started(START_NS - u64::from(tgid) * 1_000_003)
        .user(1000 + tgid % 5)
        .in_cgroup(u64::from(tgid % 9) + 100)
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut recorder = Recorder::create(&args.output, WriteOptions { overwrite: true, ..WriteOptions::default() })?;
    let commands = ["checkout", "payments", "search", "api-gateway", "worker", "cron", "curl", "prometheus"];
    let clients = (0..args.clients)
        .map(|index| process_of(2000 + index as u32, commands[index as usize % commands.len()]))
        .collect();
    let servers = (0..args.clients.div_ceil(4)).map(|index| process_of(1000 + index as u32, "nginx")).collect();
    let mut host = Host {
        args,
        chance: Chance::default(),
        cookie: 4096,
        port: 32_768,
        now_ns: START_NS,
        clients,
        servers,
        alive: VecDeque::new(),
        created: Vec::new(),
        census: KernelCounters::default(),
    };
    host.begin(&mut |event| recorder.record(&event))?;
    let mut left = host.args.connections;
    while left > 0 {
        let now = left.min(host.args.rate);
        host.second(now, &mut |event| recorder.record(&event))?;
        left -= now;
    }
    recorder.finish()?;
    Ok(())
}

type Sink<'a> = dyn FnMut(Event) -> Result<()> + 'a;

impl Host {
    fn begin(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        let boot_id = "00000000-0000-4000-8000-000000000000";
        sink(start(START_NS).unix(UNIX_NS).host("generated", "6.18.0", boot_id).event())?;
        sink(namespace(NETNS, "host"))?;
        for owner in self.clients.iter().chain(&self.servers) {
            let command = String::from_utf8_lossy(owner.comm.bytes());
            let facts = ProcessFacts {
                exe: Some(format!("/usr/bin/{command}")),
                ..process_facts(&format!("{command} --instance {}", owner.key.tgid))
            };
            sink(process(owner, facts))?;
        }
        Ok(())
    }

    /// One second: `connections` connections end, ten ticks pass, the figures are read and a census is taken.
    fn second(&mut self, connections: u64, sink: &mut Sink<'_>) -> Result<()> {
        let begin_ns = self.now_ns;
        self.alive.push_back(Vec::new());
        for index in 0..connections {
            let is_tick = index * 10 / connections != (index + 1) * 10 / connections;
            let end_ns = begin_ns + (index + 1) * SECOND_NS / connections;
            self.pair(end_ns, sink)?;
            if is_tick {
                sink(tick(end_ns))?;
            }
        }
        self.now_ns = begin_ns + SECOND_NS;
        let sockets = if self.args.loopback { 2 } else { 1 };
        self.census.connections_ended += connections * sockets;
        self.census.connections_begun += connections * sockets;
        self.census.records += connections * sockets;
        self.census.transitions += connections * sockets * 5;
        sink(Event::Counters(self.census))?;
        let facts = KernelFacts {
            time_wait: self.alive.iter().map(|second| second.len() as u64).sum(),
            max_tw_buckets: 262_144,
            tw_reuse: 2,
            ..kernel_facts()
        };
        sink(kernel(facts))?;
        sink(Event::SocketDumpBegin { netns: NETNS, at_ns: self.now_ns, whole: self.alive.len() == 1 })?;
        sink(Event::SocketDump(std::mem::take(&mut self.created)))?;
        if self.alive.len() > TIME_WAIT_S {
            sink(Event::SocketsRemoved(self.alive.pop_front().unwrap_or_default()))?;
        }
        sink(Event::SocketDumpEnd { at_ns: self.now_ns + 20 * MILLISECOND_NS, complete: true })?;
        sink(tick(self.now_ns + 40 * MILLISECOND_NS))
    }

    fn pair(&mut self, end_ns: u64, sink: &mut Sink<'_>) -> Result<()> {
        // Some processes are busier than others.
        let of = |chance: &mut Chance, many: usize| (chance.below(many as u64).min(chance.below(many as u64))) as usize;
        let client = self.clients[of(&mut self.chance, self.clients.len())];
        let server = self.servers[of(&mut self.chance, self.servers.len())];
        let service = self.chance.below(64) as u8;
        self.port = if self.port >= 60_998 { 32_768 } else { self.port + 2 };
        let (local, remote) =
            if self.args.loopback { ([127, 0, 0, 1], [127, 0, 0, 1]) } else { ([10, 0, 0, 5], [10, 1, 0, service]) };
        let near = tuple(self.port, remote, 8000 + u16::from(service)).local_addr(local);
        let (out, back) = (200 + self.chance.exponential(300.0), 1000 + self.chance.exponential(4000.0));
        let busy_ns = 200_000 + self.chance.exponential(2_000_000.0);
        // Without `loopback`, a third of the connections are accepted ones, which the client closes first.
        let accepted = !self.args.loopback && self.chance.below(3) == 0;
        if !accepted {
            let cookie = self.cookie();
            let connection = self.connection(cookie, near, Role::Active, busy_ns, end_ns, client);
            sink(connection.bytes(out, back).event())?;
            let expires_ms = 60_000 - ((self.now_ns + SECOND_NS - end_ns) / 1_000_000) as u32;
            self.created.push(census_row(cookie, near, CensusState::TimeWait, expires_ms));
            if let Some(alive) = self.alive.back_mut() {
                alive.push(cookie);
            }
        }
        if accepted || self.args.loopback {
            let cookie = self.cookie();
            let connection = self.connection(cookie, near.mirrored(), Role::Passive, busy_ns, end_ns + 3000, server);
            sink(connection.bytes(back, out).peer_done(true).event())?;
        }
        Ok(())
    }

    fn cookie(&mut self) -> u64 {
        self.cookie += 1;
        self.cookie
    }

    /// A connection that its client closes first, with times in whole microseconds.
    fn connection(
        &mut self,
        cookie: u64,
        tuple: Tuple,
        role: Role,
        busy_ns: u64,
        end_ns: u64,
        who: Owner,
    ) -> Connection {
        let is_active = role == Role::Active;
        let end_ns = end_ns / 1000 * 1000;
        let before = |step| {
            // The third step is the request and its answer.
            let time_ns = if step == 2 { busy_ns } else { 8_000 + self.chance.exponential(20_000.0) };
            time_ns.next_multiple_of(1000)
        };
        connection(cookie, who, tuple, end_ns).role(role).timed(&states(role, is_active), before).peer_done(is_active)
    }
}
