//! Events of every kind, with telling values in every field.

use std::net::IpAddr;
use twtrace_core::event::{
    BindFailed, Binding, CensusRow, CensusState, Comm, ConnectFailed, Connection, Event, Hook, HostFacts,
    KernelCounters, KernelFacts, Owner, ProcessFacts, ProcessKey, Role, SocketOwner, TcpState, Tier, Timewait,
    TimewaitCause, TimewaitEnd, TracingFacts, Transition, Tuple, TwCount,
};

const SECOND_NS: u64 = 1_000_000_000;
const START_NS: u64 = 5_000 * SECOND_NS;
const UNIX_NS: i128 = 1_790_000_000_123_456_789;
const HOST: u32 = 4_026_531_840;
const CONTAINER: u32 = 4_026_532_999;
/// When the container's namespace is gone, seconds from the start.
const GONE: u64 = 70;

/// Every hook in force, several namespaces, two minutes and a bit.
pub(crate) fn finished() -> Vec<Event> {
    let hook = |name: &str, kind: &str| Hook { name: name.into(), kind: kind.into(), attached: true, reason: None };
    let tracing = TracingFacts {
        tier: Tier::Exact,
        by_tuple: false,
        hooks: vec![
            hook("inet_sock_set_state", "tp_btf"),
            hook("inet_twsk_alloc", "fexit"),
            Hook {
                name: "tcp_send_active_reset".into(),
                kind: "fentry".into(),
                attached: false,
                reason: Some("not in this kernel's \"BTF\"".into()),
            },
        ],
        no_btf: false,
    };
    let mut events = vec![start("web-1", tracing)];
    events.extend(namespaces());
    events.extend(people());
    for second in (0..=130).step_by(10) {
        let now_ns = START_NS + second * SECOND_NS;
        events.extend(bound(second, now_ns));
        for kind in 0..KINDS {
            events.push(Event::Connection(Box::new(connection(kind, second, now_ns))));
        }
        let (cookie, tuple) = (cookie(4, second), tuple(4, second));
        events.push(Event::ResetSent { cookie, tuple, at_ns: now_ns + 3_001 });
        events.extend(failures(now_ns));
        events.extend(ends(second, now_ns));
        if second % 20 == 0 {
            events.extend(figures(second, Some(second as u32 * 50)));
            events.extend(census(second, now_ns));
            events.push(holders(second, now_ns));
        }
        if second == GONE {
            events.push(Event::NamespaceGone { netns: CONTAINER });
            events.push(Event::NamespacesLeftOut(0));
        }
        events.push(Event::Tick { at_ns: now_ns + 4_000_000 });
    }
    events
}

/// A kernel without BTF: sockets without cookies, processes without a start. A minute and a half.
pub(crate) fn unfinished() -> Vec<Event> {
    let hook = Hook { name: "sock:inet_sock_set_state".into(), kind: "tp".into(), attached: true, reason: None };
    let tracing = TracingFacts { tier: Tier::Tuple, by_tuple: true, hooks: vec![hook], no_btf: true };
    let mut events = vec![start("old host\u{1b}[2J", tracing)];
    events.extend(people());
    for second in (0..=90).step_by(10) {
        let now_ns = START_NS + second * SECOND_NS;
        for kind in 0..KINDS {
            let whole = connection(kind, second, now_ns);
            let owner = |owner: Owner| Owner {
                key: ProcessKey { start_ns: 0, ..owner.key },
                ppid: 0,
                parent_comm: Comm::default(),
                ..owner
            };
            events.push(Event::Connection(Box::new(Connection {
                cookie: 0,
                tuple: Tuple { netns: 0, ..whole.tuple },
                opener: whole.opener.map(owner),
                closer: whole.closer.map(owner),
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
                ..whole
            })));
        }
        if second % 20 == 0 {
            events.extend(figures(second, None));
            events.extend(census(second, now_ns));
            events.push(holders(second, now_ns));
        }
        events.push(Event::Tick { at_ns: now_ns + 4_000_000 });
    }
    events
}

fn start(hostname: &str, tracing: TracingFacts) -> Event {
    let host = HostFacts {
        hostname: hostname.into(),
        kernel: "6.8.0-41-generic".into(),
        boot_id: "6f0fa0d9-0a5c-4a53-9e0c-5c9d0b1f8e11".into(),
        netns: HOST,
    };
    Event::Start { at_ns: START_NS, unix_ns: UNIX_NS, host, tracing }
}

fn namespaces() -> [Event; 4] {
    [
        Event::Namespace { netns: HOST, name: "host".into(), refused: None },
        Event::Namespace { netns: CONTAINER, name: "shop\n\u{202e}\u{1b}[31m".into(), refused: None },
        Event::Namespace { netns: 4_026_533_111, name: String::new(), refused: Some("no permission".into()) },
        Event::NamespacesLeftOut(3),
    ]
}

fn comm(name: &[u8]) -> Comm {
    let mut comm = Comm::default();
    comm.0.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    comm
}

/// Who they are: a server, a client, a name that fills its place, one that is no text, and a kernel thread.
fn owner(number: u32) -> Owner {
    let (name, parent): (&[u8], &[u8]) = match number {
        0 => (b"nginx", b"systemd"),
        1 => (b"curl", b"bash"),
        2 => (b"sixteen bytes!!!", b"sh\0garbage"),
        3 => (b"\x1b[2J\xff\xfe\xc3(", b"\xf0\x9f\xa6\x80 crab"),
        _ => (b"kworker/u8:1", b"kthreadd"),
    };
    Owner {
        key: ProcessKey { tgid: 1000 + number, start_ns: 4_000_000_123 + u64::from(number) * 7_000_000 },
        uid: [33, 1000, 0, u32::MAX, 0][number as usize % 5],
        ppid: [1, 900, 901, 902, 2][number as usize % 5],
        cgroup: 4_711 + u64::from(number),
        comm: comm(name),
        parent_comm: comm(parent),
        kthread: number == 4,
        exiting: number == 1,
    }
}

fn people() -> [Event; 5] {
    let facts = ProcessFacts {
        exe: Some("/usr/sbin/nginx".into()),
        cmdline: Some("nginx: worker process".into()),
        cgroup: Some("/system.slice/docker-8c4e2f.scope".into()),
        container: Some("8c4e2f".into()),
        unit: Some("nginx.service".into()),
    };
    let hostile = ProcessFacts {
        exe: Some("/tmp/\u{1b}]0;title\u{7} (deleted)".into()),
        cmdline: Some("=cmd|' /C calc'!A0 <script> | \u{0} \"quoted\",\n".into()),
        ..ProcessFacts::default()
    };
    [
        Event::User { uid: 33, name: "www-data".into() },
        Event::User { uid: 1000, name: "a\u{1b}[1mb,\"c\"".into() },
        Event::Process { key: owner(0).key, facts },
        Event::Process { key: owner(3).key, facts: hostile },
        Event::Process { key: owner(1).key, facts: ProcessFacts::default() },
    ]
}

/// How many kinds of connections there are.
const KINDS: u64 = 15;

fn cookie(kind: u64, second: u64) -> u64 {
    8_192 + second * 64 + kind
}

/// IPv4, IPv6 and IPv4 in IPv6, on the host and in a container.
fn tuple(kind: u64, second: u64) -> Tuple {
    let local_port = 32_768 + (second * 32 + kind) as u16;
    let (local, remote): (IpAddr, IpAddr) = match kind % 3 {
        0 => ([10, 0, 0, 2].into(), [192, 0, 2, 80].into()),
        1 => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80].into()),
        _ => ([127, 0, 0, 1].into(), [127, 0, 0, 1].into()),
    };
    let tuple = Tuple {
        netns: if kind % 4 == 1 { CONTAINER } else { HOST },
        local_addr: local,
        local_port,
        remote_addr: remote,
        remote_port: 443,
        v4_mapped: kind % 3 == 2,
    };
    // The side that listens.
    if kind % 5 == 1 { Tuple { local_port: 443, remote_port: local_port, ..tuple } } else { tuple }
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
    let steps = path.len().saturating_sub(1) as u64;
    // One kind has times that are no whole microseconds.
    let step_ns = if kind == 11 { 20_123_457 } else { 20_000_000 + second * 1_000_000 };
    let end_ns = now_ns + kind * 1_000;
    let transitions = path.windows(2).zip(1..).map(|(pair, number)| Transition {
        from: pair[0],
        to: pair[1],
        at_ns: end_ns - (steps - number) * step_ns,
    });
    let client = Some(owner(kind as u32 % 4));
    let live = 5 + second as u32;
    let usual = Connection {
        cookie: cookie(kind, second),
        role: if kind % 5 == 1 { Role::Passive } else { Role::Active },
        opener: client,
        closer: client,
        transitions: transitions.collect(),
        sock_dead: true,
        sock_done: true,
        connect_exit: kind % 5 != 1,
        established: steps > 2,
        tw: Some(TwCount { before: Some(live), after: live + 1, max: 131_072 }),
        timewait: Some(Timewait::Created { fin_wait2: false }),
        bytes_sent: 120 * kind,
        bytes_received: 64_000 + second,
        ..Connection::bare(tuple(kind, second), end_ns)
    };
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
        9 => {
            Connection { role: Role::Passive, closer: Some(owner(4)), closed_in_context: true, timewait: None, ..usual }
        }
        10 => Connection { connect_errno: 110, sk_err: 110, retransmits: 6, ..failed },
        11 => Connection {
            binding: Binding { port: false, address: true, range },
            bytes_sent: 1 << 60,
            bytes_received: 1 << 40,
            retransmits: u32::MAX,
            ..usual
        },
        13 => Connection { cookie: cookie(12, second), tuple: tuple(12, second), opener: None, ..usual },
        14 => Connection { gap: true, older: true, role: Role::Unknown, timewait: None, tw: None, ..usual },
        _ => usual,
    }
}

/// Sockets that have a port before they connect: some whose connections are told, and one that stays open.
fn bound(second: u64, now_ns: u64) -> Vec<Event> {
    let connect = |kind, before_ns| Event::BoundConnect {
        cookie: cookie(kind, second),
        tuple: tuple(kind, second),
        at_ns: now_ns.saturating_sub(before_ns).max(START_NS),
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
    let failed = |kind, errno, local_port| {
        let tuple = Tuple { local_port, ..tuple(kind, 0) };
        Event::ConnectFailed(Box::new(ConnectFailed { opener: owner(1), tuple, errno, at_ns: now_ns + 3_999 }))
    };
    let bind = |kind, errno, reuse, local_port| {
        let local = tuple(kind, 0);
        let nobody: IpAddr = if local.local_addr.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let tuple = Tuple { local_port, remote_addr: nobody, remote_port: 0, ..local };
        let owner = owner(kind as u32 % 4);
        Event::BindFailed(Box::new(BindFailed { owner, tuple, errno, reuse, at_ns: now_ns + 3_999 }))
    };
    [failed(0, 99, 0), failed(4, 101, 4_000), bind(0, 98, true, 443), bind(1, 98, false, 0), bind(2, 99, false, 8_080)]
}

/// Ends of timewait sockets: after a minute, taken over, and by other means.
fn ends(second: u64, now_ns: u64) -> Vec<Event> {
    let end = |kind: u64, made: u64, cause| {
        let fin_wait2 = kind == 2;
        let (cookie, tuple) = (cookie(kind, made), tuple(kind, made));
        Event::TimewaitEnd(TimewaitEnd { cookie, tuple, fin_wait2, cause, at_ns: now_ns + 2_000_000 })
    };
    let mut ends = Vec::new();
    if let Some(made) = second.checked_sub(60) {
        ends.extend([0, 1, 11].map(|kind| end(kind, made, TimewaitCause::Expired)));
    }
    if let Some(made) = second.checked_sub(10) {
        ends.push(end(12, made, TimewaitCause::Reused));
        ends.push(end(2, made, TimewaitCause::EndedEarly));
    }
    ends
}

fn figures(second: u64, tw_reuse_delay_ms: Option<u32>) -> Vec<Event> {
    let facts = |time_wait| KernelFacts {
        time_wait,
        time_wait_overflow: second / 5,
        max_tw_buckets: 131_072,
        tw_reuse: 2,
        port_range: (32_768, 60_999),
        reserved_in_range: 11,
        reserved_ports: "8080,40000-40010".into(),
        tw_reuse_delay_ms,
        timestamps: Some(1),
        fin_timeout_s: Some(60 - second as u32 / 10),
    };
    let counters = counters(second);
    let mut events = vec![Event::Counters(counters), Event::Kernel { netns: HOST, facts: facts(5 + second) }];
    if second < GONE {
        events.push(Event::Kernel { netns: CONTAINER, facts: facts(1) });
    }
    events
}

macro_rules! counters {
    (kernel { $($(#[$_doc:meta])* $name:ident,)* } user { $($(#[$_user_doc:meta])* $user:ident,)* }) => {
        /// Every counter has a figure of its own.
        fn counters(second: u64) -> KernelCounters {
            let mut number = second;
            let mut next = || {
                number += 1_000;
                number
            };
            KernelCounters { $($name: next(),)* $($user: next(),)* }
        }
    };
}
twtrace_common::for_each_counter!(counters);

/// The first one tells all, the others what differs; one is interrupted.
fn census(second: u64, now_ns: u64) -> Vec<Event> {
    let row = |kind, state, expires_ms| CensusRow {
        cookie: cookie(kind, second),
        tuple: tuple(kind, second),
        state,
        expires_ms,
    };
    let mut events = vec![
        Event::CensusBegin { netns: HOST, at_ns: now_ns + 1_000_000, whole: second == 0 },
        Event::CensusRows(vec![
            row(0, CensusState::TimeWait, 59_996),
            row(2, CensusState::TimewaitFinWait2, 59_000),
            // No trace of its connection.
            row(40, CensusState::TimeWait, 12_345),
        ]),
        Event::CensusRows(vec![row(41, CensusState::Open, 0), row(42, CensusState::Listen, 0)]),
        Event::CensusRows(vec![
            row(45, CensusState::Established, 0),
            row(46, CensusState::CloseWait, 0),
            row(47, CensusState::FinWait2, 0),
            row(48, CensusState::Bound, 0),
        ]),
    ];
    if let Some(last) = second.checked_sub(20) {
        let gone = [2, 40, 41, 42, 45, 46, 47, 48].map(|kind| cookie(kind, last));
        events.push(Event::CensusGone(gone.to_vec()));
    }
    events.push(Event::CensusEnd { at_ns: now_ns + 1_500_999, complete: second != 40 });
    events
}

/// Pools, listeners and what somebody forgot to close. One search found not all, and one found nobody.
fn holders(second: u64, now_ns: u64) -> Event {
    let holder = |number: u32, command: &str, state, kind: u64, sockets| {
        let (key, tuple) = (owner(number).key, tuple(kind, 0));
        SocketOwner {
            tgid: key.tgid,
            start_ns: key.start_ns / 10_000_000 * 10_000_000,
            command: command.into(),
            uid: owner(number).uid,
            netns: tuple.netns,
            state,
            local_addr: tuple.local_addr,
            local_port: 0,
            remote_addr: tuple.remote_addr,
            remote_port: tuple.remote_port,
            sockets,
        }
    };
    let nobody: IpAddr = [0; 4].into();
    let listener = holder(0, "nginx", CensusState::Listen, 1, 1);
    let rows = vec![
        holder(1, "curl", CensusState::Established, 0, 20 + second),
        holder(3, "\u{1b}[2J\u{fffd}\u{fffd}(", CensusState::CloseWait, 2, 7),
        SocketOwner { local_port: 443, remote_addr: nobody, remote_port: 0, ..listener },
    ];
    let rows = if second == 80 { Vec::new() } else { rows };
    Event::SocketOwners { at_ns: now_ns + 1_800_000, complete: second != 60, rows }
}
