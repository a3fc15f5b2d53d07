//! Makes up a recording: a host with many clients and servers, a census each second, and as many connections as asked
//! for. The same arguments give the same recording. For benchmarks; what a real host does is recorded by
//! `twtrace record`.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use twtrace_core::event::{
    CensusRow, CensusState, Comm, Connection, Event, HostFacts, KernelCounters, KernelFacts, Owner, ProcessFacts,
    ProcessKey, Role, TcpState, TracingFacts, Transition, Tuple,
};
use twtrace_recording::writer::{Recorder, WriteOptions};

const SECOND_NS: u64 = 1_000_000_000;
const NETNS: u32 = 4_026_531_840;
/// 2026-01-01, and a host that has been up for a day.
const UNIX_NS: i128 = 1_767_225_600_000_000_000;
const START_NS: u64 = 86_400 * SECOND_NS;
const TIME_WAIT_S: usize = 60;

/// Makes up a recording.
#[derive(Parser)]
struct Args {
    /// Where to
    output: PathBuf,
    /// Connections
    #[arg(long, default_value_t = 1_000_000)]
    connections: u64,
    /// Connections that end in a second
    #[arg(long, default_value_t = 4000)]
    rate: u64,
    /// Client processes; there is a server for each four of them
    #[arg(long, default_value_t = 64)]
    clients: u64,
    /// Both ends are on this host: each connection is two sockets
    #[arg(long)]
    loopback: bool,
}

/// Numbers that look like chance and are not (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    /// As the time to the next of many independent events, of this mean.
    fn exponential(&mut self, mean: f64) -> u64 {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (-(1.0 - unit).ln() * mean) as u64
    }
}

struct Host {
    args: Args,
    chance: Chance,
    cookie: u64,
    port: u16,
    now_ns: u64,
    clients: Vec<Owner>,
    servers: Vec<Owner>,
    /// Cookies of the timewait sockets of the last seconds.
    alive: VecDeque<Vec<u64>>,
    made: Vec<CensusRow>,
    /// Of the census that is due.
    census: KernelCounters,
}

fn owner(tgid: u32, command: &str) -> Owner {
    let mut comm = Comm::default();
    comm.0[..command.len().min(15)].copy_from_slice(&command.as_bytes()[..command.len().min(15)]);
    Owner {
        key: ProcessKey { tgid, start_ns: START_NS - u64::from(tgid) * 1_000_003 },
        uid: 1000 + tgid % 5,
        ppid: 1,
        cgroup: u64::from(tgid % 9) + 100,
        comm,
        parent_comm: Comm(*b"systemd\0\0\0\0\0\0\0\0\0"),
        kthread: false,
        exiting: false,
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut recorder = Recorder::create(&args.output, WriteOptions { overwrite: true, ..WriteOptions::default() })?;
    let commands = ["checkout", "payments", "search", "api-gateway", "worker", "cron", "curl", "prometheus"];
    let clients =
        (0..args.clients).map(|index| owner(2000 + index as u32, commands[index as usize % commands.len()])).collect();
    let servers = (0..args.clients.div_ceil(4)).map(|index| owner(1000 + index as u32, "nginx")).collect();
    let mut host = Host {
        args,
        chance: Chance(0x9e37_79b9_7f4a_7c15),
        cookie: 4096,
        port: 32_768,
        now_ns: START_NS,
        clients,
        servers,
        alive: VecDeque::new(),
        made: Vec::new(),
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
        let host = HostFacts {
            hostname: "made-up".to_owned(),
            kernel: "6.18.0".to_owned(),
            boot_id: "00000000-0000-4000-8000-000000000000".to_owned(),
            netns: NETNS,
        };
        sink(Event::Start { at_ns: START_NS, unix_ns: UNIX_NS, host, tracing: TracingFacts::default() })?;
        sink(Event::Namespace { netns: NETNS, name: "host".to_owned(), refused: None })?;
        for owner in self.clients.iter().chain(&self.servers) {
            let command = String::from_utf8_lossy(owner.comm.bytes());
            let facts = ProcessFacts {
                exe: Some(format!("/usr/bin/{command}")),
                cmdline: Some(format!("{command} --instance {}", owner.key.tgid)),
                ..ProcessFacts::default()
            };
            sink(Event::Process { key: owner.key, facts })?;
        }
        Ok(())
    }

    /// One second: so many connections end, ten ticks pass, the figures are read and a census is taken.
    fn second(&mut self, connections: u64, sink: &mut Sink<'_>) -> Result<()> {
        let begin_ns = self.now_ns;
        self.alive.push_back(Vec::new());
        for index in 0..connections {
            let tick = index * 10 / connections != (index + 1) * 10 / connections;
            let end_ns = begin_ns + (index + 1) * SECOND_NS / connections;
            self.pair(end_ns, sink)?;
            if tick {
                sink(Event::Tick { at_ns: end_ns })?;
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
            port_range: (32_768, 60_999),
            ..KernelFacts::default()
        };
        sink(Event::Kernel { netns: NETNS, facts })?;
        sink(Event::CensusBegin { netns: NETNS, at_ns: self.now_ns, whole: self.alive.len() == 1 })?;
        sink(Event::CensusRows(std::mem::take(&mut self.made)))?;
        if self.alive.len() > TIME_WAIT_S {
            sink(Event::CensusGone(self.alive.pop_front().unwrap_or_default()))?;
        }
        sink(Event::CensusEnd { at_ns: self.now_ns + 20_000_000, complete: true })?;
        sink(Event::Tick { at_ns: self.now_ns + 40_000_000 })
    }

    fn pair(&mut self, end_ns: u64, sink: &mut Sink<'_>) -> Result<()> {
        // Some processes are busier than others.
        let of = |chance: &mut Chance, many: usize| (chance.below(many as u64).min(chance.below(many as u64))) as usize;
        let client = self.clients[of(&mut self.chance, self.clients.len())];
        let server = self.servers[of(&mut self.chance, self.servers.len())];
        let service = self.chance.below(64) as u8;
        self.port = if self.port >= 60_998 { 32_768 } else { self.port + 2 };
        let local = IpAddr::V4(if self.args.loopback { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(10, 0, 0, 5) });
        let remote =
            IpAddr::V4(if self.args.loopback { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(10, 1, 0, service) });
        let near = Tuple {
            netns: NETNS,
            local_addr: local,
            local_port: self.port,
            remote_addr: remote,
            remote_port: 8000 + u16::from(service),
            v4_mapped: false,
        };
        let (out, back) = (200 + self.chance.exponential(300.0), 1000 + self.chance.exponential(4000.0));
        use TcpState::{Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
        let busy_ns = 200_000 + self.chance.exponential(2_000_000.0);
        // On a host of its own, a third of the connections are accepted ones, which the client closes first.
        let accepted = !self.args.loopback && self.chance.below(3) == 0;
        if !accepted {
            let cookie = self.cookie();
            let path = [Close, SynSent, Established, FinWait1, FinWait2, Close];
            let connection = self.connection(cookie, near, Role::Active, &path, busy_ns, end_ns, client);
            sink(Event::Connection(Box::new(Connection { bytes_sent: out, bytes_received: back, ..connection })))?;
            let expires_ms = 60_000 - ((self.now_ns + SECOND_NS - end_ns) / 1_000_000) as u32;
            self.made.push(CensusRow { cookie, tuple: near, state: CensusState::TimeWait, expires_ms });
            if let Some(alive) = self.alive.back_mut() {
                alive.push(cookie);
            }
        }
        if accepted || self.args.loopback {
            let far = Tuple {
                local_addr: remote,
                local_port: near.remote_port,
                remote_addr: local,
                remote_port: near.local_port,
                ..near
            };
            let cookie = self.cookie();
            let path = [Listen, SynRecv, Established, CloseWait, LastAck, Close];
            let connection = self.connection(cookie, far, Role::Passive, &path, busy_ns, end_ns + 3000, server);
            let connection = Connection { bytes_sent: back, bytes_received: out, sock_done: true, ..connection };
            sink(Event::Connection(Box::new(connection)))?;
        }
        Ok(())
    }

    fn cookie(&mut self) -> u64 {
        self.cookie += 1;
        self.cookie
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a connection, which have no other place")]
    fn connection(
        &mut self,
        cookie: u64,
        tuple: Tuple,
        role: Role,
        path: &[TcpState],
        busy_ns: u64,
        end_ns: u64,
        who: Owner,
    ) -> Connection {
        let cut = |time_ns: u64| time_ns / 1000 * 1000;
        let mut at_ns = cut(end_ns);
        let mut transitions: Vec<Transition> = Vec::with_capacity(path.len() - 1);
        for (step, pair) in path.windows(2).enumerate().rev() {
            transitions.push(Transition { from: pair[0], to: pair[1], at_ns });
            // The third step is the request and its answer.
            let before = if step == 2 { busy_ns } else { 8_000 + self.chance.exponential(20_000.0) };
            at_ns = cut(at_ns - before);
        }
        transitions.reverse();
        Connection {
            cookie,
            role,
            opener: Some(who),
            closer: Some(who),
            transitions,
            sock_dead: true,
            sock_done: role == Role::Active,
            established: true,
            ..Connection::bare(tuple, cut(end_ns))
        }
    }
}
