//! Recordings for the report's tests, made of events.

#![allow(missing_docs, reason = "what a fixture is shows in its name")]

use crate::fixture::{HOSTILE, comm, connection, events, findings, owner, tuple};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use twtrace_core::event::{
    ConnectFailed, Connection, Event, Hook, HostFacts, KernelCounters, KernelFacts, Owner, ProcessFacts, Role, Tier,
    TimewaitCause, TimewaitEnd, TracingFacts,
};
use twtrace_core::recording::{Info, Loss};
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, State};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 5000 * SECOND;
/// 2026-09-21 14:13:20.
const START_UNIX_NS: i128 = 1_790_000_000 * SECOND as i128;

/// A snapshot with a history that has been told these.
pub fn snapshot_of(events: Vec<Event>) -> Snapshot {
    let mut state = State::new(Config { history: true, ..Config::default() });
    events.into_iter().for_each(|event| state.apply(event));
    Snapshot::with_sockets(&mut state)
}

/// What the recording of it says.
pub fn info(path: &str, snapshot: &Snapshot) -> Info {
    let summary = snapshot.summary();
    Info {
        path: PathBuf::from(path),
        id: "000102030405060708090a0b0c0d0e0f".to_owned(),
        host: summary.host.clone(),
        start_unix_ns: summary.window.start_unix_ns,
        end_unix_ns: summary.window.start_unix_ns + i128::from(summary.window.now_ns - summary.window.start_ns),
        connections: summary.totals.connections,
        bytes: 24 * summary.totals.connections,
        finished: true,
        ..Info::default()
    }
}

/// A loss whose text was chosen by whoever damaged the file.
pub fn loss() -> Loss {
    Loss { file: "connections-0002.parquet".to_owned(), what: "<b>bad</b>\n\u{1b}[2J| checksum".to_owned() }
}

/// The five seconds of all views' tests.
pub fn short() -> Snapshot {
    snapshot_of(events()).with_findings(findings())
}

/// The same on a host with a name that is HTML, Markdown, a formula and several lines.
pub fn hostile() -> Snapshot {
    let mut events = events();
    if let Some(Event::Start { host, .. }) = events.first_mut() {
        host.hostname = "=<script>alert(1)</script>|`\n\u{1b}[2J\u{202e}".to_owned();
        host.kernel = "<img src=x onerror=alert(1)>".to_owned();
    }
    snapshot_of(events).with_findings(findings())
}

/// One process of the incident.
struct Worker {
    name: &'static [u8],
    uid: u32,
    parent: (u32, &'static str),
    /// Processes that share the work: each connection is of the next one.
    processes: u32,
    role: Role,
    address: [u8; 4],
    port: u16,
    /// Connections per second in a quiet minute and at the height of the incident.
    rate: (f64, f64),
    /// Median lifetime, microseconds.
    lifetime_us: f64,
    cmdline: &'static str,
}

const fn actor(
    name: &'static [u8],
    processes: u32,
    role: Role,
    address: ([u8; 4], u16),
    rate: (f64, f64),
    lifetime_us: f64,
    cmdline: &'static str,
) -> Worker {
    let (address, port) = address;
    Worker { name, uid: 1000, parent: (1, "systemd"), processes, role, address, port, rate, lifetime_us, cmdline }
}

/// Ten kinds of processes: more than a plot tells apart.
fn cast() -> Vec<Worker> {
    use Role::{Active, Passive};
    vec![
        actor(b"checkout", 4, Active, ([10, 0, 1, 7], 5432), (1.0, 60.0), 3e3, "/srv/checkout/bin/checkout --pool 0"),
        actor(b"nginx", 2, Passive, ([10, 0, 0, 1], 443), (4.0, 7.0), 80e3, "nginx: worker process"),
        Worker {
            parent: (812, "healthcheck.sh"),
            ..actor(
                b"curl",
                300,
                Active,
                ([10, 0, 1, 20], 8080),
                (3.0, 3.0),
                12e3,
                "curl -fsS http://10.0.1.20:8080/health",
            )
        },
        actor(b"prometheus", 1, Active, ([10, 0, 2, 3], 9100), (1.0, 1.0), 40e3, "/bin/prometheus"),
        actor(b"redis-cli", 1, Active, ([10, 0, 1, 8], 6379), (0.5, 4.0), 900.0, "redis-cli --scan"),
        actor(b"node", 3, Active, ([10, 0, 3, 1], 443), (0.8, 6.0), 250e3, "node /srv/shop/index.js"),
        actor(b"python3", 1, Active, ([10, 0, 1, 9], 3306), (0.7, 0.7), 7e3, "python3 -m billing.sync"),
        actor(b"java", 1, Active, ([10, 0, 4, 2], 9092), (0.4, 1.5), 4e6, "java -jar events.jar"),
        actor(b"ntp_exporter", 1, Active, ([10, 0, 5, 5], 123), (0.2, 0.2), 2e3, "ntp_exporter"),
        actor(HOSTILE, 1, Active, ([10, 0, 6, 6], 25), (0.1, 0.3), 1e6, "=cmd|' /C calc'!A0 <script>alert(1)</script>"),
    ]
}

/// How far the incident has come at a second: 0 in quiet, 1 at its height.
fn height(second: u64, seconds: u64) -> f64 {
    let at = second as f64 / seconds as f64;
    ((at - 0.4) / 0.1).clamp(0.0, 1.0) * ((0.75 - at) / 0.05).clamp(0.0, 1.0)
}

/// Numbers from 0 to 1 that look random and are the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1_u64 << 31) as f64
    }
}

/// An incident of so many seconds: a service that stopped to pool its connections, until it was rolled back.
pub fn incident(seconds: u64) -> Snapshot {
    shop(seconds, 1.0).with_findings(findings())
}

/// The same host on a quiet day.
pub fn quiet(seconds: u64) -> Snapshot {
    shop(seconds, 0.0)
}

fn shop(seconds: u64, worst: f64) -> Snapshot {
    snapshot_of(shop_events(seconds, worst))
}

/// What happened in the shop; `worst` is how bad the incident becomes, from 0 to 1.
pub fn shop_events(seconds: u64, worst: f64) -> Vec<Event> {
    let host = HostFacts {
        hostname: "shop-3".to_owned(),
        kernel: "6.12.48+deb13-amd64".to_owned(),
        boot_id: "00000000-0000-4000-8000-000000000001".to_owned(),
        netns: 4_026_531_840,
    };
    let hook =
        |name: &str, kind: &str| Hook { name: name.to_owned(), kind: kind.to_owned(), attached: true, reason: None };
    let hooks = vec![hook("inet_sock_set_state", "tp_btf"), hook("inet_twsk_alloc", "fexit")];
    let tracing = TracingFacts { tier: Tier::Exact, hooks, ..TracingFacts::default() };
    let mut events = vec![Event::Start { at_ns: START, unix_ns: START_UNIX_NS, host, tracing }];
    let cast = cast();
    let mut noise = Noise(1);
    let mut numbers = vec![0_u32; cast.len()];
    let mut cookie = 0;
    let mut alive: VecDeque<TimewaitEnd> = VecDeque::new();
    for second in 0..seconds {
        let at_ns = START + second * SECOND;
        let height = worst * height(second, seconds);
        for (index, actor) in cast.iter().enumerate() {
            let (low, high) = actor.rate;
            let rate = (low + (high - low) * height) * (0.7 + 0.6 * noise.next());
            let many = (rate + noise.next()) as u64;
            for _ in 0..many {
                cookie += 1;
                let number = numbers[index];
                numbers[index] += 1;
                let who = process(actor, index as u32, number % actor.processes);
                let end_ns = at_ns + (noise.next() * 0.99 * SECOND as f64) as u64;
                // A wide spread around the median.
                let lifetime_us = actor.lifetime_us * (noise.next() * 4.0 - 2.0).exp();
                let connection = lived(actor, who, cookie, end_ns, lifetime_us as u64);
                alive.push_back(TimewaitEnd {
                    cookie,
                    tuple: connection.tuple,
                    fin_wait2: false,
                    cause: TimewaitCause::Expired,
                    at_ns: at_ns + 60 * SECOND,
                });
                events.push(Event::Connection(Box::new(connection)));
            }
            if actor.port == 5432 && height > 0.9 && second % 3 == 0 {
                let opener = process(actor, index as u32, 0);
                let to = tuple(0, IpAddr::V4(Ipv4Addr::from(actor.address)), actor.port);
                let failed = ConnectFailed { opener, tuple: to, errno: 99, at_ns: at_ns + SECOND / 2 };
                events.push(Event::ConnectFailed(Box::new(failed)));
            }
        }
        while alive.front().is_some_and(|end| end.at_ns <= at_ns) {
            events.extend(alive.pop_front().map(Event::TimewaitEnd));
        }
        events.push(Event::Kernel { netns: 4_026_531_840, facts: kernel(alive.len() as u64) });
        events.push(Event::Tick { at_ns: at_ns + SECOND - 1 });
    }
    for (index, actor) in cast.iter().enumerate() {
        for number in 0..actor.processes.min(5) {
            let facts = ProcessFacts {
                exe: actor.cmdline.split(' ').next().map(str::to_owned),
                cmdline: Some(actor.cmdline.to_owned()),
                ..ProcessFacts::default()
            };
            events.push(Event::Process { key: process(actor, index as u32, number).key, facts });
        }
    }
    events.push(Event::User { uid: 1000, name: "shop".to_owned() });
    events.push(Event::Counters(KernelCounters { records: cookie, ..KernelCounters::default() }));
    events
}

fn process(actor: &Worker, index: u32, number: u32) -> Owner {
    let mut owner = owner(1000 + index * 1000 + number, b"", actor.uid, actor.parent);
    owner.comm = comm(actor.name);
    owner
}

fn lived(actor: &Worker, who: Owner, cookie: u64, end_ns: u64, lifetime_us: u64) -> Connection {
    let port = 32_768 + (cookie % 4000) as u16;
    let to = IpAddr::V4(Ipv4Addr::from(actor.address));
    let tuple = if actor.role == Role::Active {
        tuple(port, to, actor.port)
    } else {
        let mut tuple = tuple(actor.port, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), port);
        tuple.local_addr = to;
        tuple
    };
    let mut connection = connection(cookie, who, tuple, actor.role, true, end_ns);
    if let Some(first) = connection.transitions.first_mut() {
        first.at_ns = end_ns.saturating_sub(lifetime_us * 1000).min(first.at_ns + 7_900_000);
    }
    connection
}

fn kernel(time_wait: u64) -> KernelFacts {
    KernelFacts {
        time_wait,
        max_tw_buckets: 16_384,
        tw_reuse: 2,
        port_range: (32_768, 36_767),
        ..KernelFacts::default()
    }
}
