//! Three hosts that talk to each other for twenty minutes around midnight, each as it saw that by its own clock, and
//! what each socket was: the truth that reports and queries over many hosts must find.

use crate::{
    BuildConnection as _, BuildTuple as _, HOSTILE, MICROSECOND_NS, SECOND_NS, answered, kernel, kernel_facts, owner,
    process, process_facts, start, tick, tuple,
};
use twtrace_core::event::{Event, KernelFacts, Owner, ProcessFacts, Role, Tuple};

/// A host of the fleet.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Its name.
    pub name: &'static str,
    /// Its address.
    pub address: [u8; 4],
    /// How far its clock is ahead of the true time, microseconds.
    pub ahead_us: i64,
}

/// The hosts: one whose name is a number, one whose name is hostile, one with a service that the others use.
pub const HOSTS: [Host; 3] = [
    Host { name: "007", address: [10, 0, 0, 7], ahead_us: 0 },
    Host { name: "../../web='\"%2F\u{1b}[2J", address: [10, 0, 0, 8], ahead_us: 2_500_000 },
    Host { name: "db-9", address: [10, 0, 0, 9], ahead_us: -1_750_000 },
];

/// How long a packet takes from one host to another, microseconds.
pub const WAY_US: i64 = 400;

/// When all traces began, true time, microseconds since the Unix epoch: 2026-09-21 23:50:00 UTC.
pub const BEGIN_US: i64 = 1_790_034_600_000_000;

/// How long they lasted, seconds.
pub const LENGTH: u64 = 20 * 60;

/// When `billing.py` stopped to pool its connections, seconds after the begin: 23:58:00.
pub const DEPLOY: u64 = 8 * 60;

/// Ports from which 007 connects.
pub const PORTS_OF_007: u16 = 1000;

/// What [`HOSTILE`] is called: its byte that is no UTF-8 is written out.
pub const HOSTILE_PROGRAM: &str = "=\u{1b}[2J\\xff\u{202e},\"x";

/// A name of a container as nobody should give one.
pub const HOSTILE_CONTAINER: &str = "../'; DROP TABLE x; --\u{1b}[2J";

/// A process of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pid: u32,
    command: &'static [u8],
    cmdline: &'static str,
    /// What an operator calls it.
    pub program: &'static str,
    /// Its systemd unit.
    pub unit: Option<&'static str>,
    /// Its container.
    pub container: Option<&'static str>,
}

const BILLING: Who = Who {
    pid: 300,
    command: b"python3",
    cmdline: "/usr/bin/python3 /srv/billing.py",
    program: "billing.py",
    unit: Some("billing.service"),
    container: None,
};
const STRANGE: Who = Who {
    pid: 400,
    command: HOSTILE,
    cmdline: "",
    program: HOSTILE_PROGRAM,
    unit: None,
    container: Some(HOSTILE_CONTAINER),
};
const REDIS: Who = Who {
    pid: 500,
    command: b"redis-server",
    cmdline: "/usr/bin/redis-server *:6379",
    program: "redis-server",
    unit: Some("redis.service"),
    container: None,
};
const POSTGRES: Who = Who {
    pid: 600,
    command: b"postgres",
    cmdline: "/usr/bin/postgres",
    program: "postgres",
    unit: Some("postgresql.service"),
    container: None,
};
const CURL: Who = Who { pid: 2000, command: b"curl", cmdline: "", program: "curl", unit: None, container: None };

impl Who {
    fn owner(&self) -> Owner {
        owner(self.pid, self.command)
    }

    fn facts(&self) -> Event {
        let named = if self.cmdline.is_empty() { ProcessFacts::default() } else { process_facts(self.cmdline) };
        let facts =
            ProcessFacts { unit: self.unit.map(str::to_owned), container: self.container.map(str::to_owned), ..named };
        process(&self.owner(), facts)
    }
}

/// A socket as its host saw it.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// Its host, by its place in [`HOSTS`].
    pub host: usize,
    /// Who opened and closed it; `None` if that was not seen.
    pub who: Option<Who>,
    /// Which side opened it.
    pub role: Role,
    /// Its addresses and ports.
    pub tuple: Tuple,
    /// When it ended by the clock of its host, microseconds since the Unix epoch.
    pub end_us: i64,
    /// This host closed first, so it has the TIME_WAIT socket.
    pub created: bool,
}

/// One connection: its client and its server, those of them that are in the fleet.
struct Flow {
    client: Option<(usize, Who)>,
    server: Option<(usize, Option<Who>)>,
    /// From the client to the server.
    tuple: Tuple,
    /// When the side that closed first was done, true time since the begin, microseconds.
    end_us: i64,
    client_first: bool,
}

fn flows() -> Vec<Flow> {
    let mut flows = Vec::new();
    let from = |host: usize, port: u16, to: [u8; 4], service| tuple(port, to, service).local_addr(HOSTS[host].address);
    let db = HOSTS[2].address;
    let mut pooled = 0;
    for second in 0..LENGTH {
        let at_us = |part: i64| second as i64 * 1_000_000 + part * 10_000;
        let count = (second % 20_000) as u16;
        let mut add = |client, server, tuple, part, client_first| {
            flows.push(Flow { client, server, tuple, end_us: at_us(part), client_first });
        };
        for part in 0..if second < DEPLOY { 1 } else { 8 } {
            let tuple = from(0, 40_000 + pooled % PORTS_OF_007, db, 5432);
            pooled += 1;
            add(Some((0, BILLING)), Some((2, Some(POSTGRES))), tuple, 10 + 10 * part, true);
        }
        if second % 2 == 0 {
            // Each port serves again after 14 seconds, as with tcp_tw_reuse.
            let tuple = from(1, 32_768 + count / 2 % 7, db, 5432);
            add(Some((1, STRANGE)), Some((2, Some(POSTGRES))), tuple, 45, true);
        }
        if second % 5 == 0 {
            let tuple = from(0, 40_000 + count % PORTS_OF_007, HOSTS[1].address, 6379);
            add(Some((0, BILLING)), Some((1, Some(REDIS))), tuple, 55, false);
        }
        if second % 10 == 0 {
            for host in 0..HOSTS.len() {
                let curl = Who { pid: CURL.pid + second as u32, ..CURL };
                let tuple = from(host, 40_000 + count % PORTS_OF_007, [203, 0, 113, 5], 443);
                add(Some((host, curl)), None, tuple, 25 + host as i64, true);
            }
            let tuple = from(1, 50_000 + count, db, 5432);
            add(Some((1, BILLING)), Some((2, Some(POSTGRES))), tuple, 65, true);
        }
        if second % 100 == 0 {
            let outside = tuple(60_000 + count, db, 8080).local_addr([198, 51, 100, 7]);
            add(None, Some((2, None)), outside, 85, false);
        }
    }
    flows
}

/// All sockets of the fleet.
pub fn sockets() -> Vec<Socket> {
    let mut sockets = Vec::new();
    for Flow { client, server, tuple, end_us, client_first } in flows() {
        let mut add = |host: usize, who, role, tuple, is_first: bool| {
            // The side that closes last is done when the last packet of the other one arrives.
            let late_us = if is_first { 0 } else { WAY_US };
            let end_us = BEGIN_US + end_us + late_us + HOSTS[host].ahead_us;
            sockets.push(Socket { host, who, role, tuple, end_us, created: is_first });
        };
        if let Some((host, who)) = client {
            add(host, Some(who), Role::Active, tuple, client_first);
        }
        if let Some((host, who)) = server {
            add(host, who, Role::Passive, tuple.mirrored(), !client_first);
        }
    }
    sockets
}

/// What the tracer of a host saw.
pub fn events(host: usize) -> Vec<Event> {
    let Host { name, ahead_us, .. } = HOSTS[host];
    // Each host was started at another time.
    let begin_ns = 1_000 * SECOND_NS * (host as u64 + 1);
    let begin_us = BEGIN_US + ahead_us;
    let figures = match host {
        0 => KernelFacts { port_range: (40_000, 40_000 + PORTS_OF_007 - 1), ..kernel_facts() },
        _ => kernel_facts(),
    };
    let mut own: Vec<Socket> = sockets().into_iter().filter(|socket| socket.host == host).collect();
    own.sort_by_key(|socket| socket.end_us);
    let mut events = vec![start(begin_ns).unix(i128::from(begin_us) * 1000).host(name, "", "").event()];
    let mut sockets = (0..).zip(own).peekable();
    for second in 1..=LENGTH {
        let is_before = |socket: &Socket| socket.end_us < begin_us + second as i64 * 1_000_000;
        while let Some((number, socket)) = sockets.next_if(|(_, socket)| is_before(socket)) {
            let end_ns = begin_ns + (socket.end_us - begin_us).unsigned_abs() * MICROSECOND_NS;
            let who = socket.who.map(|who| who.owner());
            let connection = answered(number + 1, who.unwrap_or_else(|| owner(1, "")), socket.tuple, end_ns);
            let connection = connection.opened_by(who).closed_by(who);
            events.push(connection.usual(socket.role, socket.created, 1000 * MICROSECOND_NS).event());
        }
        if second == 2 {
            let long_lived: &[Who] = [&[BILLING][..], &[BILLING, STRANGE, REDIS], &[POSTGRES]][host];
            events.extend(long_lived.iter().map(Who::facts));
        }
        if second % 10 == 0 {
            events.push(kernel(figures.clone()));
        }
        events.push(tick(begin_ns + second * SECOND_NS));
    }
    events
}
