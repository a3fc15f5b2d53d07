//! One host for the views' tests, made of events.

#![allow(missing_docs, reason = "what a fixture is shows in its name")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use twtrace_core::event::{
    CensusRow, CensusState, Comm, ConnectFailed, Connection, Event, Hook, HostFacts, KernelCounters, KernelFacts,
    Owner, ProcessFacts, ProcessKey, Role, TcpState, Tier, TracingFacts, Transition, Tuple,
};
use twtrace_core::evidence::Evidence;
use twtrace_core::finding::{Advice, Confidence, Effect, Finding, Rule, Severity, Subject};
use twtrace_core::snapshot::DestKey;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, State};

const NETNS: u32 = 4_026_531_840;
/// Another network namespace, whose name was chosen by somebody else.
const CONTAINER: u32 = NETNS + 300;
const SECOND: u64 = 1_000_000_000;
const START: u64 = 1000 * SECOND;

/// A comm that clears the screen, is no UTF-8, begins like a formula and turns the direction of writing.
pub const HOSTILE: &[u8] = b"=\x1b[2J\xff\xe2\x80\xae,\"x";

pub fn comm(name: &[u8]) -> Comm {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name);
    Comm(bytes)
}

pub fn owner(pid: u32, name: &[u8], uid: u32, parent: (u32, &str)) -> Owner {
    Owner {
        key: ProcessKey { tgid: pid, start_ns: u64::from(pid) * 1000 },
        uid,
        ppid: parent.0,
        cgroup: u64::from(uid),
        comm: comm(name),
        parent_comm: comm(parent.1.as_bytes()),
        kthread: false,
        exiting: false,
    }
}

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 1, last))
}

pub fn tuple(local_port: u16, remote_addr: IpAddr, remote_port: u16) -> Tuple {
    let local_addr = match remote_addr {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    Tuple { netns: NETNS, local_addr, local_port, remote_addr, remote_port, v4_mapped: false }
}

/// a connection of 8 ms.
pub fn connection(cookie: u64, who: Owner, tuple: Tuple, role: Role, first: bool, end_ns: u64) -> Connection {
    use TcpState::{Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
    let begin = if role == Role::Active { [Close, SynSent] } else { [Listen, SynRecv] };
    let end: &[TcpState] = if first { &[FinWait1, FinWait2, Close] } else { &[CloseWait, LastAck, Close] };
    let states: Vec<TcpState> = begin.into_iter().chain([Established]).chain(end.iter().copied()).collect();
    let transitions = states.windows(2).zip(0..).map(|(pair, step): (_, u64)| Transition {
        from: pair[0],
        to: pair[1],
        at_ns: end_ns - 8_000_000 + step * 2_000_000,
    });
    Connection {
        cookie,
        role,
        opener: Some(who),
        closer: Some(who),
        transitions: transitions.collect(),
        sock_dead: true,
        sock_done: true,
        established: true,
        bytes_sent: 100,
        bytes_received: 2000,
        ..Connection::bare(tuple, end_ns)
    }
}

fn facts(cmdline: &str, container: Option<&str>, unit: Option<&str>) -> ProcessFacts {
    ProcessFacts {
        exe: cmdline.split(' ').next().map(str::to_owned),
        cmdline: Some(cmdline.to_owned()),
        cgroup: Some("/system.slice".to_owned()),
        container: container.map(str::to_owned),
        unit: unit.map(str::to_owned),
    }
}

/// The processes of the host, in the order of their PIDs.
struct Fixture {
    nginx: Owner,
    api: Owner,
    hostile: Owner,
    batch: Owner,
}

fn cast() -> Fixture {
    Fixture {
        nginx: owner(100, b"nginx", 33, (99, "nginx")),
        api: owner(300, b"api", 1001, (1, "systemd")),
        hostile: owner(666, HOSTILE, 1002, (1, "systemd")),
        batch: owner(700, b"batch", 1001, (1, "systemd")),
    }
}

/// Everything that happened on the host in its first five seconds.
pub fn events() -> Vec<Event> {
    let cast = cast();
    let hook =
        |name: &str, kind: &str| Hook { name: name.to_owned(), kind: kind.to_owned(), attached: true, reason: None };
    let host = HostFacts {
        hostname: "web-1".to_owned(),
        kernel: "6.12.0-amd64".to_owned(),
        boot_id: "00000000-0000-4000-8000-000000000000".to_owned(),
        netns: NETNS,
    };
    let hooks = vec![hook("inet_sock_set_state", "tp_btf"), hook("sys_exit_connect", "tracepoint")];
    let tracing = TracingFacts { tier: Tier::Cookie, by_tuple: false, no_btf: false, hooks };
    let mut events = vec![Event::Start { at_ns: START, unix_ns: 1_790_000_000_000_000_000, host, tracing }];
    for (netns, name) in [(NETNS, "host"), (CONTAINER, "=blue\u{1b}[2J\u{202e}")] {
        events.push(Event::Namespace { netns, name: name.to_owned(), refused: None });
    }
    events.extend([(NETNS, 10), (NETNS, 40), (CONTAINER, 5), (NETNS, 90), (NETNS, 160), (NETNS, 252)].map(
        |(netns, time_wait)| {
            let facts = KernelFacts {
                time_wait,
                time_wait_overflow: 3,
                max_tw_buckets: 131_072,
                tw_reuse: 2,
                port_range: (32_768, 33_023),
                reserved_in_range: 6,
                reserved_ports: "32770-32775".to_owned(),
                timestamps: Some(1),
                ..KernelFacts::default()
            };
            Event::Kernel { netns, facts }
        },
    ));
    let connections = connections(&cast);
    let made =
        connections.iter().filter(|connection| connection.transitions.iter().any(|at| at.to == TcpState::FinWait1));
    let (mut census, elsewhere): (Vec<CensusRow>, Vec<CensusRow>) = made
        .map(|connection| CensusRow {
            cookie: connection.cookie,
            tuple: connection.tuple,
            state: CensusState::TimeWait,
            expires_ms: 58_000,
        })
        .partition(|row| row.tuple.netns == NETNS);
    census.extend((0..7).map(|index| CensusRow {
        cookie: 9000 + index,
        tuple: tuple(50_000 + index as u16, address(9), 6379),
        state: CensusState::TimeWait,
        expires_ms: 20_000,
    }));
    events.extend(connections.into_iter().map(|connection| Event::Connection(Box::new(connection))));
    events.extend((0..3).map(|index| {
        Event::ConnectFailed(Box::new(ConnectFailed {
            opener: cast.batch,
            // No source address was found.
            tuple: Tuple { local_addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), ..tuple(0, address(3), 11_211) },
            errno: 99,
            at_ns: START + 4 * SECOND + index,
        }))
    }));
    for (who, facts) in [
        (cast.nginx, facts("/usr/sbin/nginx -g daemon off;", None, Some("nginx.service"))),
        (cast.api, facts("/usr/bin/api --listen=:8000 --pool=0", Some("a1b2c3d4e5f6"), None)),
        (cast.hostile, facts("=cmd|' /C calc'!A0 \u{1b}]0;owned\u{7} \u{202e}gpj.exe", None, None)),
    ] {
        events.push(Event::Process { key: who.key, facts });
    }
    for (uid, name) in [(33, "www-data"), (1000, "deploy"), (1001, "app")] {
        events.push(Event::User { uid, name: name.to_owned() });
    }
    events.push(Event::Counters(KernelCounters { transitions: 2000, records: 298, ..KernelCounters::default() }));
    for (netns, rows) in [(NETNS, census), (CONTAINER, elsewhere)] {
        events.push(Event::CensusBegin { netns, at_ns: START + 5 * SECOND, whole: true });
        events.push(Event::CensusRows(rows));
        events.push(Event::CensusEnd { at_ns: START + 5 * SECOND + 1_000_000, complete: true });
    }
    events.push(tick(5_500));
    events
}

/// A tick so many milliseconds after the start.
pub fn tick(after_ms: u64) -> Event {
    Event::Tick { at_ns: START + after_ms * 1_000_000 }
}

fn connections(cast: &Fixture) -> Vec<Connection> {
    let mut connections = Vec::new();
    let mut add = |who: Owner, tuple: Tuple, role: Role, first: bool| {
        let number = connections.len() as u64 + 1;
        connections.push(connection(number, who, tuple, role, first, START + SECOND + number * 10_000_000));
    };
    for index in 0..80_u16 {
        let mut curl = owner(2000 + u32::from(index / 2), b"curl", 1000, (500, "cron.sh"));
        // Each starts when the one before has ended.
        curl.key.start_ns = START + SECOND + u64::from(index / 2) * 20_000_000;
        add(curl, tuple(32_800 + index, address(1), 443), Role::Active, true);
    }
    for index in 0..120 {
        add(cast.api, tuple(32_800 + index, address(2), 5432), Role::Active, true);
    }
    for index in 0..60 {
        add(cast.nginx, Tuple { local_port: 80, ..tuple(80, address(50), 40_000 + index) }, Role::Passive, false);
    }
    let client = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99));
    for index in 0..30 {
        add(cast.nginx, tuple(8080, client, 41_000 + index), Role::Passive, true);
    }
    for index in 0..5 {
        let there = Tuple { netns: CONTAINER, ..tuple(32_800 + index, address(4), 25) };
        add(cast.hostile, there, Role::Active, true);
    }
    connections
}

/// A snapshot that knows it all.
pub fn snapshot() -> Snapshot {
    snapshot_of(events())
}

/// The same on a host where records were lost and a hook was refused.
pub fn lossy() -> Snapshot {
    let mut events = events();
    if let Some(Event::Start { tracing, .. }) = events.first_mut() {
        tracing.hooks[1].attached = false;
        tracing.hooks[1].reason = Some("tracefs not found:\n\u{1b}[31mnot mounted".to_owned());
    }
    events.push(Event::Counters(KernelCounters { ring_full: 1200, map_full: 34, ..KernelCounters::default() }));
    snapshot_of(events)
}

/// A snapshot that has been told these.
pub fn snapshot_of(events: Vec<Event>) -> Snapshot {
    let mut state = State::new(Config::default());
    events.into_iter().for_each(|event| state.apply(event));
    Snapshot::with_sockets(&mut state)
}

/// Findings as rules could write them: a critical one of a hostile process, one of a parent's many children that has
/// stopped, and one of the tracer itself.
pub fn findings() -> Vec<Finding> {
    let key = |last, port| DestKey {
        netns: NETNS,
        role: Role::Active,
        local_addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        remote_addr: Some(address(last)),
        port,
    };
    let advice = |id, text: &str, command: Option<&str>, effect: &[(&'static str, f64, f64)], risk: &str| Advice {
        id,
        text: text.to_owned(),
        command: command.map(str::to_owned),
        effect: effect.iter().map(|(figure, from, to)| Effect { figure, from: *from, to: *to }).collect(),
        risk: risk.to_owned(),
    };
    vec![
        Finding {
            rule: Rule::ExhaustionReached,
            severity: Severity::Critical,
            holds: true,
            process: Some(Subject {
                process: Some(ProcessKey { tgid: 666, start_ns: 666_000 }),
                command: comm(HOSTILE),
                ppid: 1,
                parent_command: comm(b"systemd"),
                processes: 1,
                uid: 1002,
            }),
            destination: Some(key(2, 5432)),
            cause: Some(Rule::NoConnectionReuse),
            title: "finds no free port: connects fail with EADDRNOTAVAIL".to_owned(),
            evidence: vec![
                Evidence::FailuresPerS(12.25),
                Evidence::Failures(61_000),
                Evidence::Reason("=cmd|' /C calc'!A0 \u{1b}]0;owned\u{7}<b>\u{202e}gpj.exe|\n".to_owned()),
            ],
            advice: vec![
                advice(
                    "pool-connections",
                    "Keep 3 connections open and send the requests through them, one after the other.",
                    None,
                    &[("time_wait_created_per_s", 322.0, 0.0), ("connect_failures_per_s", 12.25, 0.0)],
                    "The server keeps as many connections open for each client.",
                ),
                advice(
                    "wider-port-range",
                    "Let more local ports be used.",
                    Some("sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""),
                    &[("ports_total", 250.0, 64_506.0), ("max_rate_per_s", 4.17, 1075.1)],
                    "Services that listen within the new range may find their port taken: reserve those ports.",
                ),
            ],
            confidence: Confidence::High,
            recheck: "`twtrace top --once --fail-on exhaustion-reached` ends with 0.".to_owned(),
        },
        Finding {
            rule: Rule::ForkPerRequest,
            severity: Severity::Warning,
            holds: false,
            process: Some(Subject {
                process: None,
                command: comm(b"curl"),
                ppid: 500,
                parent_command: comm(b"cron.sh"),
                processes: 40,
                uid: 1000,
            }),
            destination: Some(key(1, 443)),
            cause: None,
            title: "starts a process for each request".to_owned(),
            evidence: vec![Evidence::Processes(40), Evidence::Connections(80)],
            advice: vec![advice(
                "keep-alive",
                "Send several requests from one process, on one connection.",
                Some("curl --parallel URL1 URL2"),
                &[("time_wait_created_per_s", 16.0, 0.4)],
                "None that is known.",
            )],
            confidence: Confidence::Medium,
            recheck: "The parent's row shows few processes.".to_owned(),
        },
        Finding {
            rule: Rule::IncompleteTrace,
            severity: Severity::Info,
            holds: true,
            process: None,
            destination: None,
            cause: None,
            title: "1,234 events were lost: figures are too low".to_owned(),
            evidence: vec![Evidence::Lost(1234)],
            advice: Vec::new(),
            confidence: Confidence::High,
            recheck: "The header says `lost 0`.".to_owned(),
        },
    ]
}
