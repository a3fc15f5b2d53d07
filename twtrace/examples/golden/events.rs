//! Events of every kind, with by_rule values in every field.

use std::net::IpAddr;
use twtrace_core::cost::{CostReading, KernelSample};
use twtrace_core::event::{
    Binding, CensusState, Connection, ContainerFacts, Event, KernelFacts, Owner, ProcessFacts, Role, SocketOwner,
    TcpState, Tier, Timewait, TimewaitCause, TimewaitEnd, Tuple, TwCount,
};
use twtrace_testkit::{
    BuildConnection as _, BuildOwner as _, BuildTuple as _, MILLISECOND_NS, NETNS, SECOND_NS, START_UNIX_NS,
    StartBuilder, bind_failed, bound_connect, census_row, connect_failed, container, counters, hook, kernel,
    kernel_facts, namespace, owner, process, refused_hook, reset_sent, socket_owner, start, tick, user,
};

const START_NS: u64 = 5_000 * SECOND_NS;
const CONTAINER: u32 = 4_026_532_999;
/// When the container's namespace is gone, seconds from the start.
const GONE: u64 = 70;

/// Every hook in force, several namespaces, two minutes and a bit.
pub(crate) fn finished() -> Vec<Event> {
    let hooks = [
        hook("inet_sock_set_state", "tp_btf"),
        hook("inet_twsk_alloc", "fexit"),
        refused_hook("tcp_send_active_reset", "fentry", "not in this kernel's \"BTF\""),
    ];
    let mut events = vec![begin("web-1").tier(Tier::Exact).hooks(hooks).event()];
    events.extend(namespaces());
    events.extend(people());
    for second in (0..=130).step_by(10) {
        let now_ns = START_NS + second * SECOND_NS;
        events.extend(bound(second, now_ns));
        for kind in 0..KINDS {
            events.push(connection(kind, second, now_ns).event());
        }
        events.push(reset_sent(cookie(4, second), tuple(4, second), now_ns + 3_001));
        events.extend(failures(now_ns));
        events.extend(ends(second, now_ns));
        if second % 20 == 0 {
            events.extend(figures(second, Some(second as u32 * 50)));
            events.extend(census(second, now_ns));
            events.push(owners(second, now_ns));
        }
        if second == GONE {
            events.push(Event::NamespaceGone { netns: CONTAINER });
            events.push(Event::NamespacesLeftOut(0));
        }
        events.push(tick(now_ns + 4 * MILLISECOND_NS));
    }
    events
}

/// A kernel without BTF: sockets without cookies, processes without a start. A minute and a half.
pub(crate) fn unfinished() -> Vec<Event> {
    let hooks = [hook("sock:inet_sock_set_state", "tp")];
    let mut events = vec![begin("old host\u{1b}[2J").without_btf().hooks(hooks).event()];
    events.extend(people());
    for second in (0..=90).step_by(10) {
        let now_ns = START_NS + second * SECOND_NS;
        for kind in 0..KINDS {
            let whole = connection(kind, second, now_ns);
            let bare = |who: Owner| who.started(0).parent(0, "");
            let whole = Connection {
                cookie: 0,
                tuple: whole.tuple.in_namespace(0),
                opener: whole.opener.map(bare),
                closer: whole.closer.map(bare),
                binding: Binding::default(),
                sk_err: 0,
                sock_dead: false,
                sock_done: false,
                sock_linger: false,
                tw: None,
                timewait: None,
                no_fields: true,
                bytes_sent: 0,
                bytes_received: 0,
                retransmits: 0,
                request_segments: None,
                ..whole
            };
            events.push(whole.event());
        }
        if second % 20 == 0 {
            events.extend(figures(second, None));
            events.extend(census(second, now_ns));
            events.push(owners(second, now_ns));
        }
        events.push(tick(now_ns + 4 * MILLISECOND_NS));
    }
    events
}

fn begin(hostname: &str) -> StartBuilder {
    let unix_ns = START_UNIX_NS + 123_456_789;
    start(START_NS).unix(unix_ns).host(hostname, "6.8.0-41-generic", "6f0fa0d9-0a5c-4a53-9e0c-5c9d0b1f8e11")
}

fn namespaces() -> [Event; 4] {
    let refused = Some("no permission".into());
    [
        namespace(NETNS, "host"),
        namespace(CONTAINER, "shop\n\u{202e}\u{1b}[31m"),
        Event::Namespace { netns: 4_026_533_111, inode: 4_026_533_111, name: String::new(), refused },
        Event::NamespacesLeftOut(3),
    ]
}

/// Who they are: a server, a client, a name that fills its place, one that is no text, and a kernel thread.
fn who(number: u32) -> Owner {
    let (name, uid): (&[u8], u32) = match number {
        0 => (b"nginx", 33),
        1 => (b"curl", 1000),
        2 => (b"sixteen bytes!!!", 0),
        3 => (b"\x1b[2J\xff\xfe\xc3(", u32::MAX),
        _ => (b"kworker/u8:1", 0),
    };
    let (parent, parent_name): (u32, &[u8]) = match number {
        0 => (1, b"systemd"),
        1 => (900, b"bash"),
        2 => (901, b"sh\0garbage"),
        3 => (902, b"\xf0\x9f\xa6\x80 crab"),
        _ => (2, b"kthreadd"),
    };
    owner(1000 + number, name)
        .started(4 * SECOND_NS + 123 + u64::from(number) * 7 * MILLISECOND_NS)
        .user(uid)
        .parent(parent, parent_name)
        .in_cgroup(4_711 + u64::from(number))
        .with(|owner| (owner.kthread, owner.exiting) = (number == 4, number == 1))
}

fn people() -> [Event; 7] {
    let facts = ProcessFacts {
        exe: Some("/usr/sbin/nginx".into()),
        cmdline: Some("nginx: worker process".into()),
        cgroup: Some("/system.slice/docker-8c4e2f.scope".into()),
        container: Some("8c4e2f".into()),
        pod_uid: Some("8712f785-1a3e-41ec-a00b-e2dcc77431cb".into()),
        unit: Some("nginx.service".into()),
        ancestor: None,
    };
    let hostile = ProcessFacts {
        exe: Some("/tmp/\u{1b}]0;title\u{7} (deleted)".into()),
        cmdline: Some("=cmd|' /C calc'!A0 <script> | \u{0} \"quoted\",\n".into()),
        ..ProcessFacts::default()
    };
    let said = ContainerFacts {
        name: Some("shop \u{1b}[2J".into()),
        image: Some("registry:5000/shop@sha256:00".into()),
        pod: Some("shop-6d4cf56db6-x7k2p".into()),
        pod_namespace: Some("default".into()),
        workload: Some("shop".into()),
    };
    [
        container("8c4e2f", said),
        container("", ContainerFacts::default()),
        user(33, "www-data"),
        user(1000, "a\u{1b}[1mb,\"c\""),
        process(&who(0), facts),
        process(&who(3), hostile),
        process(&who(1), ProcessFacts::default()),
    ]
}

/// How many kinds of connections there are.
const KINDS: u64 = 15;

fn cookie(kind: u64, second: u64) -> u64 {
    8_192 + second * 64 + kind
}

/// IPv4, IPv6 and IPv4 in IPv6, on the host and in a container.
fn tuple(kind: u64, second: u64) -> Tuple {
    let port = 32_768 + (second * 32 + kind) as u16;
    let (local, remote): (IpAddr, IpAddr) = match kind % 3 {
        0 => ([10, 0, 0, 2].into(), [192, 0, 2, 80].into()),
        1 => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80].into()),
        _ => ([127, 0, 0, 1].into(), [127, 0, 0, 1].into()),
    };
    // One side is the one that listens.
    let (local_port, remote_port) = if kind % 5 == 1 { (443, port) } else { (port, 443) };
    twtrace_testkit::tuple(local_port, remote, remote_port)
        .local_addr(local)
        .in_namespace(if kind % 4 == 1 { CONTAINER } else { NETNS })
        .with(|tuple| tuple.v4_mapped = kind % 3 == 2)
}

/// States one after the other, as the kernel reports them.
fn path(kind: u64) -> &'static [TcpState] {
    use TcpState::*;
    match kind {
        1 => &[Listen, SynRecv, Established, FinWait1, FinWait2, Close],
        3 | 10 => &[Close, SynSent, Close],
        4 | 5 => &[Close, SynSent, Established, Close],
        6 => &[Established, FinWait1, Closing, TimeWait, Close],
        7 => &[NewSynRecv, SynRecv, Established],
        9 => &[Listen, SynRecv, Established, CloseWait, LastAck, Close],
        12 => &[Close, Listen, Close, SynSent, SynRecv, Established, FinWait1, FinWait2, Close],
        14 => &[],
        _ => &[Close, SynSent, Established, FinWait1, FinWait2, Close],
    }
}

fn connection(kind: u64, second: u64, now_ns: u64) -> Connection {
    let path = path(kind);
    // One kind has times that are no whole microseconds.
    let step_ns = if kind == 11 { 20_123_457 } else { 20_000_000 + second * 1_000_000 };
    let end_ns = now_ns + kind * 1_000;
    let is_accepted = kind % 5 == 1;
    let live = 5 + second as u32;
    let count = TwCount { before: Some(live), after: live + 1, max: 131_072 };
    let usual = twtrace_testkit::connection(cookie(kind, second), who(kind as u32 % 4), tuple(kind, second), end_ns)
        .role(if is_accepted { Role::Passive } else { Role::Active })
        .through(path, step_ns)
        .peer_done(true)
        .timewait(Timewait::Created { fin_wait2: false }, count)
        .bytes(120 * kind, 64_000 + second)
        .with(|connection| (connection.connect_exit, connection.established) = (!is_accepted, path.len() > 3));
    let failed = Connection { established: false, sock_done: false, tw: None, timewait: None, ..usual.clone() };
    let range = Some((40_000, 40_007));
    let bound = Binding { port: true, address: true, range: None };
    match kind {
        0 => Connection { binding: Binding { port: true, ..Binding::default() }, ..usual },
        2 => Connection {
            timewait: Some(Timewait::Created { fin_wait2: true }),
            sock_done: false,
            binding: bound,
            ..usual
        },
        3 => Connection { connect_errno: 111, sk_err: 111, binding: Binding { range, ..Binding::default() }, ..failed },
        4 => Connection { rst_sent: true, sock_linger: true, sock_done: false, timewait: None, ..usual },
        5 => Connection { sk_err: 104, timewait: None, sock_done: false, ..usual },
        6 => Connection { role: Role::Unknown, opener: None, older: true, established: true, ..usual },
        7 => Connection {
            gap: true,
            end_unseen: true,
            established: true,
            closer: None,
            timewait: None,
            tw: Some(TwCount { before: None, after: 0, max: 0 }),
            ..usual
        },
        8 => Connection {
            timewait: Some(Timewait::Overflowed),
            tw: Some(TwCount { before: Some(131_072), after: 131_072, max: 131_072 }),
            ..usual
        },
        9 => Connection { role: Role::Passive, closer: Some(who(4)), closed_in_context: true, timewait: None, ..usual },
        10 => Connection { connect_errno: 110, sk_err: 110, retransmits: 6, ..failed },
        11 => Connection {
            binding: Binding { port: false, address: true, range },
            bytes_sent: 1 << 60,
            bytes_received: 1 << 40,
            retransmits: u32::MAX,
            request_segments: Some(u16::MAX),
            ..usual
        },
        13 => Connection { cookie: cookie(12, second), tuple: tuple(12, second), opener: None, ..usual },
        14 => Connection { gap: true, older: true, role: Role::Unknown, timewait: None, tw: None, ..usual },
        _ => usual,
    }
}

/// Sockets that have a port before they connect: some whose connections are reported, and one that stays open.
fn bound(second: u64, now_ns: u64) -> Vec<Event> {
    let connect = |kind, before_ns: u64| {
        bound_connect(cookie(kind, second), tuple(kind, second), now_ns.saturating_sub(before_ns).max(START_NS))
    };
    let mut events = vec![connect(0, 900_000_000), connect(2, 899_999_999)];
    if second == 10 {
        events.push(connect(44, 1_000));
    }
    events
}

/// Calls that fail at once: no port is left, no route; an address that is taken, with and without SO_REUSEADDR, and
/// one that this host does not have.
fn failures(now_ns: u64) -> [Event; 5] {
    let at_ns = now_ns + 3_999;
    let failed = |kind, errno, port| connect_failed(who(1), tuple(kind, 0).local_port(port), errno, at_ns);
    let bind = |kind, errno, reuse, port| {
        bind_failed(who(kind as u32 % 4), tuple(kind, 0).local_port(port).without_remote(), errno, reuse, at_ns)
    };
    [failed(0, 99, 0), failed(4, 101, 4_000), bind(0, 98, true, 443), bind(1, 98, false, 0), bind(2, 99, false, 8_080)]
}

/// Ends of TIME_WAIT sockets: after a minute, taken over, and ended early.
fn ends(second: u64, now_ns: u64) -> Vec<Event> {
    let end = |kind: u64, created: u64, cause| {
        let fin_wait2 = kind == 2;
        let (cookie, tuple) = (cookie(kind, created), tuple(kind, created));
        Event::TimewaitEnd(TimewaitEnd { cookie, tuple, fin_wait2, cause, at_ns: now_ns + 2 * MILLISECOND_NS })
    };
    let mut ends = Vec::new();
    if let Some(created) = second.checked_sub(60) {
        ends.extend([0, 1, 11].map(|kind| end(kind, created, TimewaitCause::Expired)));
    }
    if let Some(created) = second.checked_sub(10) {
        ends.push(end(12, created, TimewaitCause::Reused));
        ends.push(end(2, created, TimewaitCause::EndedEarly));
    }
    ends
}

fn figures(second: u64, tw_reuse_delay_ms: Option<u32>) -> Vec<Event> {
    let facts = |time_wait| KernelFacts {
        time_wait,
        time_wait_overflow: second / 5,
        tw_reuse: 2,
        reserved_in_range: 11,
        reserved_ports: "8080,40000-40010".into(),
        tw_reuse_delay_ms,
        timestamps: Some(1),
        fin_timeout_s: Some(60 - second as u32 / 10),
        ..kernel_facts()
    };
    // Every counter has a figure of its own.
    let mut number = second;
    let counters = counters(|| {
        number += 1_000;
        number
    });
    let sample = KernelSample { over_ns: SECOND_NS + second, run_ns: 6_400_000, runs: 30_000, connections: 10_000 };
    let cost = CostReading {
        at_ns: START_NS + second * SECOND_NS,
        process_ns: 250_000_000 + 1_234_567 * second,
        kernel: (second % 40 == 20).then_some(sample),
        kernel_refused: second == 0,
    };
    let mut events = vec![Event::Counters(counters), Event::Cost(cost), kernel(facts(5 + second))];
    if second < GONE {
        events.push(Event::Kernel { netns: CONTAINER, facts: facts(1) });
    }
    events
}

/// The first one is whole, the others have only the changes; one is interrupted.
fn census(second: u64, now_ns: u64) -> Vec<Event> {
    let row = |kind, state, expires_ms| census_row(cookie(kind, second), tuple(kind, second), state, expires_ms);
    let mut events = vec![
        Event::SocketDumpBegin { netns: NETNS, at_ns: now_ns + MILLISECOND_NS, whole: second == 0 },
        Event::SocketDump(vec![
            row(0, CensusState::TimeWait, 59_996),
            row(2, CensusState::TimewaitFinWait2, 59_000),
            // No trace of its connection.
            row(40, CensusState::TimeWait, 12_345),
        ]),
        Event::SocketDump(vec![row(41, CensusState::Open, 0), row(42, CensusState::Listen, 0)]),
        Event::SocketDump(vec![
            row(45, CensusState::Established, 0),
            row(46, CensusState::CloseWait, 0),
            row(47, CensusState::FinWait2, 0),
            row(48, CensusState::Bound, 0),
        ]),
    ];
    if let Some(last) = second.checked_sub(20) {
        let gone = [2, 40, 41, 42, 45, 46, 47, 48].map(|kind| cookie(kind, last));
        events.push(Event::SocketsRemoved(gone.to_vec()));
    }
    events.push(Event::SocketDumpEnd { at_ns: now_ns + 1_500_999, complete: second != 40 });
    events
}

/// Pools, listeners and sockets that were never closed. One search was incomplete, and one found no process.
fn owners(second: u64, now_ns: u64) -> Event {
    let row = |number, state, kind, sockets| socket_owner(&who(number), state, tuple(kind, 0).local_port(0), sockets);
    let listener = row(0, CensusState::Listen, 1, 1);
    let rows = vec![
        row(1, CensusState::Established, 0, 20 + second),
        SocketOwner { command: "\u{1b}[2J\u{fffd}\u{fffd}(".into(), ..row(3, CensusState::CloseWait, 2, 7) },
        SocketOwner { local_port: 443, remote_addr: [0; 4].into(), remote_port: 0, ..listener },
    ];
    let rows = if second == 80 { Vec::new() } else { rows };
    Event::SocketOwners { at_ns: now_ns + 1_800_000, complete: second != 60, rows }
}
