//! A web server's host in its first five seconds: each kind of process, and names chosen by an attacker.

use crate::{
    BuildConnection as _, BuildOwner as _, BuildTuple as _, HOSTILE, MILLISECOND_NS, NETNS, SECOND_NS, START_NS,
    answered, census, census_row, connect_failed, hook, kernel_facts, namespace, owner, process, process_facts,
    snapshot_of, start, state_of, tick, tuple, user,
};
use twtrace_core::event::{
    CensusRow, CensusState, Connection, Event, KernelCounters, KernelFacts, Owner, ProcessFacts, Role, TcpState, Tuple,
};
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::Config;

/// Another network namespace, with a name chosen by an attacker.
const CONTAINER: u32 = NETNS + 300;

/// Events that happen in the first half of the time.
const EARLY: usize = 150;

/// A process whose cgroup has the same number as its user.
fn process_of(pid: u32, name: impl AsRef<[u8]>, uid: u32) -> Owner {
    owner(pid, name).user(uid).in_cgroup(uid.into())
}

fn facts(cmdline: &str, container: Option<&str>, unit: Option<&str>) -> ProcessFacts {
    ProcessFacts {
        cgroup: Some("/system.slice".to_owned()),
        container: container.map(str::to_owned),
        unit: unit.map(str::to_owned),
        ..process_facts(cmdline)
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
        nginx: process_of(100, "nginx", 33).parent(99, "nginx"),
        api: process_of(300, "api", 1001),
        hostile: process_of(666, HOSTILE, 1002),
        batch: process_of(700, "batch", 1001),
    }
}

/// Everything that happened on the host in its first five seconds.
pub fn events() -> Vec<Event> {
    let cast = cast();
    let begin = start(START_NS)
        .host("web-1", "6.12.0-amd64", "00000000-0000-4000-8000-000000000000")
        .hooks([hook("inet_sock_set_state", "tp_btf"), hook("sys_exit_connect", "tracepoint")]);
    let mut events = vec![begin.event()];
    for (netns, name) in [(NETNS, "host"), (CONTAINER, "=blue\u{1b}[2J\u{202e}")] {
        events.push(namespace(netns, name));
    }
    events.extend([(NETNS, 10), (NETNS, 40), (CONTAINER, 5), (NETNS, 90), (NETNS, 160), (NETNS, 252)].map(
        |(netns, time_wait)| {
            let facts = KernelFacts {
                time_wait,
                time_wait_overflow: 3,
                tw_reuse: 2,
                port_range: (32_768, 33_023),
                reserved_in_range: 6,
                reserved_ports: "32770-32775".to_owned(),
                timestamps: Some(1),
                ..kernel_facts()
            };
            Event::Kernel { netns, facts }
        },
    ));
    let connections = connections(&cast);
    let created =
        connections.iter().filter(|connection| connection.transitions.iter().any(|at| at.to == TcpState::FinWait1));
    let (mut census_rows, elsewhere): (Vec<CensusRow>, Vec<CensusRow>) = created
        .map(|connection| census_row(connection.cookie, connection.tuple, CensusState::TimeWait, 58_000))
        .partition(|row| row.tuple.netns == NETNS);
    census_rows.extend((0..7).map(|index| {
        let there = tuple(50_000 + index as u16, [10, 0, 1, 9], 6379);
        census_row(9000 + index, there, CensusState::TimeWait, 20_000)
    }));
    events.extend(connections.into_iter().map(Connection::event));
    // No source address was found.
    let nowhere = tuple(0, [10, 0, 1, 3], 11_211).local_addr([0; 4]);
    events.extend((0..3).map(|index| connect_failed(cast.batch, nowhere, 99, START_NS + 4 * SECOND_NS + index)));
    for (who, facts) in [
        (cast.nginx, facts("/usr/sbin/nginx -g daemon off;", None, Some("nginx.service"))),
        (cast.api, facts("/usr/bin/api --listen=:8000 --pool=0", Some("a1b2c3d4e5f6"), None)),
        (cast.hostile, facts("=cmd|' /C calc'!A0 \u{1b}]0;owned\u{7} \u{202e}gpj.exe", None, None)),
    ] {
        events.push(process(&who, facts));
    }
    for (uid, name) in [(33, "www-data"), (1000, "deploy"), (1001, "app")] {
        events.push(user(uid, name));
    }
    events.push(Event::Counters(KernelCounters { transitions: 2000, records: 298, ..KernelCounters::default() }));
    for (netns, rows) in [(NETNS, census_rows), (CONTAINER, elsewhere)] {
        events.extend(census(netns, START_NS + 5 * SECOND_NS, rows));
    }
    events.push(tick_after(5_500));
    events
}

/// A tick this many milliseconds after the start.
pub fn tick_after(after_ms: u64) -> Event {
    tick(START_NS + after_ms * MILLISECOND_NS)
}

fn connections(cast: &Fixture) -> Vec<Connection> {
    let mut connections = Vec::new();
    let mut add = |who: Owner, tuple: Tuple, role: Role, first: bool| {
        let number = connections.len() as u64 + 1;
        let end_ns = START_NS + SECOND_NS + number * 10 * MILLISECOND_NS;
        connections.push(answered(number, who, tuple, end_ns).usual(role, first, 2 * MILLISECOND_NS));
    };
    for index in 0..80_u16 {
        // Each starts when the previous one has ended.
        let curl = process_of(2000 + u32::from(index / 2), "curl", 1000)
            .started(START_NS + SECOND_NS + u64::from(index / 2) * 20 * MILLISECOND_NS)
            .parent(500, "cron.sh");
        add(curl, tuple(32_800 + index, [10, 0, 1, 1], 443), Role::Active, true);
    }
    for index in 0..120 {
        add(cast.api, tuple(32_800 + index, [10, 0, 1, 2], 5432), Role::Active, true);
    }
    for index in 0..60 {
        add(cast.nginx, tuple(80, [10, 0, 1, 50], 40_000 + index), Role::Passive, false);
    }
    let client = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99_u16];
    for index in 0..30 {
        add(cast.nginx, tuple(8080, client, 41_000 + index), Role::Passive, true);
    }
    for index in 0..5 {
        let there = tuple(32_800 + index, [10, 0, 1, 4], 25).in_namespace(CONTAINER);
        add(cast.hostile, there, Role::Active, true);
    }
    connections
}

/// A snapshot after all these events.
pub fn snapshot() -> Snapshot {
    snapshot_of(events())
}

/// The same without the list of sockets.
pub fn without_sockets() -> Snapshot {
    Snapshot::take(&mut state_of(Config::default(), events()))
}

/// A snapshot after the first of these events.
pub fn early() -> Snapshot {
    snapshot_of(events().into_iter().take(EARLY).chain([tick_after(2_500)]))
}

/// The same on a host where records were lost and a hook could not be attached.
pub fn lossy() -> Snapshot {
    let mut events = events();
    if let Some(Event::Start { tracing, .. }) = events.first_mut() {
        tracing.hooks[1].attached = false;
        tracing.hooks[1].reason = Some("tracefs not found:\n\u{1b}[31mnot mounted".to_owned());
    }
    events.push(Event::Counters(KernelCounters { ring_full: 1200, parts_refused: 34, ..KernelCounters::default() }));
    snapshot_of(events)
}
