//! Any Events, and recordings of them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod churn;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::net::IpAddr;
use std::path::Path;
use twtrace_core::event::{
    BindFailed, Binding, CensusRow, CensusState, Comm, ConnectFailed, Connection, Event, Hook, HostFacts,
    KernelCounters, KernelFacts, Owner, ProcessFacts, ProcessKey, Role, SocketOwner, TcpState, Tier, Timewait,
    TimewaitCause, TimewaitEnd, TracingFacts, Transition, Tuple, TwCount,
};
use twtrace_recording::reader::Recording;
use twtrace_recording::writer::{Recorder, WriteOptions};

/// Numbers, the edges among them.
fn number() -> BoxedStrategy<u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(1 << 63), 0..100_u64, any::<u64>()].boxed()
}

fn small() -> BoxedStrategy<u32> {
    prop_oneof![Just(0), Just(u32::MAX), 0..5_u32, any::<u32>()].boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), Just("a\0b\u{1b}[2J\u{202e}\n,\"".to_owned()), ".{0,40}", "[a-c]{1,3}"].boxed()
}

fn time() -> BoxedStrategy<u64> {
    prop_oneof![
        8 => (0..100_000_000_u64).prop_map(|us| 5_000_000_000_000 + us * 1000),
        1 => number(),
    ]
    .boxed()
}

fn comm() -> BoxedStrategy<Comm> {
    prop_oneof![
        Just(Comm(*b"nginx\0\0\0\0\0\0\0\0\0\0\0")),
        Just(Comm(*b"nginx\0garbage\0\0\0")),
        Just(Comm(*b"sixteen bytes!!!")),
        Just(Comm::default()),
        any::<[u8; 16]>().prop_map(Comm),
        (any::<[u8; 4]>()).prop_map(|start| {
            let mut comm = Comm::default();
            comm.0[..4].copy_from_slice(&start);
            comm
        }),
    ]
    .boxed()
}

prop_compose! {
    fn any_owner()(
        tgid in small(), start_ns in number(), uid in small(), ppid in small(), cgroup in number(),
        comm in comm(), parent_comm in comm(), kthread: bool, exiting: bool,
    ) -> Owner {
        Owner { key: ProcessKey { tgid, start_ns }, uid, ppid, cgroup, comm, parent_comm, kthread, exiting }
    }
}

/// One and the same process, but for one of its fields.
fn nearly_the_same() -> BoxedStrategy<Owner> {
    let comm = |name: &[u8; 4]| {
        let mut comm = Comm::default();
        comm.0[..4].copy_from_slice(name);
        comm
    };
    (0..10_u32, 0..2_u32)
        .prop_map(move |(field, by)| {
            let mut owner = Owner {
                key: ProcessKey { tgid: 100, start_ns: 7 },
                uid: 0,
                ppid: 1,
                cgroup: 1,
                comm: comm(b"bash"),
                parent_comm: comm(b"cron"),
                kthread: false,
                exiting: false,
            };
            match field {
                0 => owner.key.tgid += by,
                1 => owner.key.start_ns += u64::from(by),
                2 => owner.uid += by,
                3 => owner.ppid += by,
                4 => owner.cgroup += u64::from(by),
                5 => owner.comm.0[0] += by as u8,
                6 => owner.parent_comm.0[0] += by as u8,
                7 => owner.kthread = by == 1,
                _ => owner.exiting = by == 1,
            }
            owner
        })
        .boxed()
}

fn owner() -> BoxedStrategy<Owner> {
    prop_oneof![
        1 => any_owner(),
        4 => nearly_the_same(),
        4 => (1..4_u32, any::<bool>()).prop_map(|(tgid, exiting)| Owner {
            key: ProcessKey { tgid, start_ns: 7 },
            uid: 0,
            ppid: 1,
            cgroup: 1,
            comm: Comm(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0"),
            parent_comm: Comm(*b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            kthread: false,
            exiting,
        }),
    ]
    .boxed()
}

fn address() -> BoxedStrategy<IpAddr> {
    prop_oneof![
        Just(IpAddr::from([127, 0, 0, 1])),
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u16; 8]>().prop_map(IpAddr::from),
        Just(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 1, 2])),
        Just(IpAddr::from([0_u16; 8])),
    ]
    .boxed()
}

prop_compose! {
    fn tuple()(
        netns in small(), local_addr in address(), local_port: u16, remote_addr in address(),
        remote_port in 0..3_u16, v4_mapped: bool,
    ) -> Tuple {
        Tuple { netns, local_addr, local_port, remote_addr, remote_port, v4_mapped }
    }
}

const STATES: [TcpState; 12] = [
    TcpState::Established,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::TimeWait,
    TcpState::Close,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::Listen,
    TcpState::Closing,
    TcpState::NewSynRecv,
];

/// A chain of states in time, or anything.
fn transitions() -> BoxedStrategy<Vec<Transition>> {
    let state = || prop::sample::select(&STATES[..]);
    let chain = (vec(state(), 1..10), 0..1_000_000_u64, vec(0..100_000_u64, 10)).prop_map(|(states, start, steps)| {
        let mut at_ns = 5_000_000_000_000 + start * 1000;
        let pairs = states.windows(2).zip(steps);
        pairs
            .map(|(pair, step)| {
                at_ns += step * 1000;
                Transition { from: pair[0], to: pair[1], at_ns }
            })
            .collect()
    });
    let anything = (state(), state(), time()).prop_map(|(from, to, at_ns)| Transition { from, to, at_ns });
    prop_oneof![3 => chain, 1 => vec(anything, 0..12)].boxed()
}

prop_compose! {
    fn any_connection()(
        cookie in number(),
        tuple in tuple(),
        role in prop::sample::select(&[Role::Active, Role::Passive, Role::Unknown][..]),
        (opener, closer) in (of(owner()), of(owner())),
        transitions in transitions(),
        (sk_err, connect_errno) in any::<(u16, u16)>(),
        flags: [bool; 11],
        binding in any::<(bool, bool, Option<(u16, u16)>)>(),
        tw in of((of(small()), small(), small())),
        timewait in prop::sample::select(
            &[None, Some(Timewait::Overflowed), Some(Timewait::Created { fin_wait2: true }),
              Some(Timewait::Created { fin_wait2: false })][..]),
        (bytes_sent, bytes_received, retransmits) in (number(), number(), small()),
        end in of(time()),
    ) -> Connection {
        let last = transitions.last().map(|last: &Transition| last.at_ns);
        Connection {
            cookie,
            tuple,
            role,
            opener,
            closer,
            sk_err,
            connect_errno,
            sock_dead: flags[0],
            sock_done: flags[1],
            sock_linger: flags[2],
            rst_sent: flags[3],
            closed_in_context: flags[4],
            connect_exit: flags[5],
            older: flags[6],
            gap: flags[7],
            established: flags[8],
            end_unseen: flags[9],
            no_fields: flags[10],
            binding: Binding { port: binding.0, address: binding.1, range: binding.2 },
            tw: tw.map(|(before, after, max)| TwCount { before, after, max }),
            timewait,
            bytes_sent,
            bytes_received,
            retransmits,
            end_ns: end.or(last).unwrap_or(0),
            transitions,
        }
    }
}

fn state() -> impl Strategy<Value = CensusState> {
    prop::sample::select(
        &[
            CensusState::TimeWait,
            CensusState::TimewaitFinWait2,
            CensusState::Open,
            CensusState::Listen,
            CensusState::Established,
            CensusState::CloseWait,
            CensusState::FinWait2,
            CensusState::Bound,
        ][..],
    )
}

prop_compose! {
    fn census_row()(
        cookie in prop_oneof![0..8_u64, number()], tuple in tuple(),
        state in state(),
        expires_ms in small(),
    ) -> CensusRow {
        CensusRow { cookie, tuple, state, expires_ms }
    }
}

macro_rules! counters {
    (kernel { $($(#[$_doc:meta])* $name:ident,)* } user { $($(#[$_user_doc:meta])* $user:ident,)* }) => {
        const COUNTERS: usize = [$(stringify!($name),)* $(stringify!($user),)*].len();

        prop_compose! {
            fn counters()(n in vec(number(), COUNTERS)) -> KernelCounters {
                let mut n = n.into_iter();
                let mut next = || n.next().unwrap_or_default();
                KernelCounters { $($name: next(),)* $($user: next(),)* }
            }
        }
    };
}
twtrace_common::for_each_counter!(counters);

prop_compose! {
    fn kernel()(
        n in vec(number(), 3), tw_reuse: u8, port_range: (u16, u16), reserved_in_range in small(),
        reserved_ports in text(), (tw_reuse_delay_ms, fin_timeout_s) in (of(small()), of(small())),
        timestamps: Option<u8>,
    ) -> KernelFacts {
        KernelFacts {
            time_wait: n[0], time_wait_overflow: n[1], max_tw_buckets: n[2], tw_reuse, port_range,
            reserved_in_range, reserved_ports, tw_reuse_delay_ms, timestamps, fin_timeout_s,
        }
    }
}

prop_compose! {
    fn start()(
        at_ns in time(),
        unix_ns in prop_oneof![Just(1_790_000_000_123_456_789_i128), any::<i128>(), Just(i128::MIN), Just(-1)],
        (hostname, kernel, boot_id, netns) in (text(), text(), text(), small()),
        tier in prop::sample::select(&[Tier::Exact, Tier::Cookie, Tier::Tuple][..]),
        (by_tuple, no_btf) in any::<(bool, bool)>(),
        hooks in vec((text(), text(), any::<bool>(), of(text())), 0..3),
    ) -> Event {
        let hooks =
            hooks.into_iter().map(|(name, kind, attached, reason)| Hook { name, kind, attached, reason }).collect();
        Event::Start {
            at_ns, unix_ns,
            host: HostFacts { hostname, kernel, boot_id, netns },
            tracing: TracingFacts { tier, by_tuple, hooks, no_btf },
        }
    }
}

prop_compose! {
    fn facts()(f in vec(of(text()), 5)) -> ProcessFacts {
        let mut f = f.into_iter();
        let mut next = || f.next().unwrap();
        ProcessFacts { exe: next(), cmdline: next(), cgroup: next(), container: next(), unit: next() }
    }
}

prop_compose! {
    fn holder()(
        (tgid, start_ns, uid, netns) in (small(), number(), small(), small()),
        (command, state) in (text(), state()),
        (local_addr, local_port, remote_addr, remote_port) in (address(), any::<u16>(), address(), any::<u16>()),
        sockets in number(),
    ) -> SocketOwner {
        SocketOwner {
            tgid, start_ns, command, uid, netns, state, local_addr, local_port, remote_addr, remote_port, sockets,
        }
    }
}

/// Any Event that is not empty: an empty piece of a census tells nothing, and may vanish.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any_connection().prop_map(|connection| Event::Connection(Box::new(connection))).boxed(),
        2 => (owner(), tuple(), any::<u16>(), time()).prop_map(|(opener, tuple, errno, at_ns)| {
            Event::ConnectFailed(Box::new(ConnectFailed { opener, tuple, errno, at_ns }))
        }).boxed(),
        2 => (owner(), tuple(), any::<u16>(), any::<bool>(), time()).prop_map(|(owner, tuple, errno, reuse, at_ns)| {
            Event::BindFailed(Box::new(BindFailed { owner, tuple, errno, reuse, at_ns }))
        }).boxed(),
        2 => (prop_oneof![0..8_u64, number()], tuple(), time())
            .prop_map(|(cookie, tuple, at_ns)| Event::BoundConnect { cookie, tuple, at_ns }).boxed(),
        1 => (time(), any::<bool>(), vec(holder(), 0..5))
            .prop_map(|(at_ns, complete, rows)| Event::SocketOwners { at_ns, complete, rows }).boxed(),
        1 => (number(), tuple(), time())
            .prop_map(|(cookie, tuple, at_ns)| Event::ResetSent { cookie, tuple, at_ns }).boxed(),
        2 => (0..8_u64, tuple(), any::<bool>(), time(), prop::sample::select(
                &[TimewaitCause::Expired, TimewaitCause::Reused, TimewaitCause::EndedEarly][..]))
            .prop_map(|(cookie, tuple, fin_wait2, at_ns, cause)| {
                Event::TimewaitEnd(TimewaitEnd { cookie, tuple, fin_wait2, cause, at_ns })
            }).boxed(),
        1 => counters().prop_map(Event::Counters).boxed(),
        1 => (small(), kernel()).prop_map(|(netns, facts)| Event::Kernel { netns, facts }).boxed(),
        1 => (small(), text(), of(text()))
            .prop_map(|(netns, name, refused)| Event::Namespace { netns, name, refused }).boxed(),
        1 => small().prop_map(|netns| Event::NamespaceGone { netns }).boxed(),
        1 => number().prop_map(Event::NamespacesLeftOut).boxed(),
        1 => (1..4_u32, number(), facts()).prop_map(|(tgid, start_ns, facts)| {
            Event::Process { key: ProcessKey { tgid, start_ns }, facts }
        }).boxed(),
        1 => (small(), text()).prop_map(|(uid, name)| Event::User { uid, name }).boxed(),
        1 => (small(), time(), any::<bool>())
            .prop_map(|(netns, at_ns, whole)| Event::CensusBegin { netns, at_ns, whole }).boxed(),
        2 => vec(census_row(), 1..20).prop_map(Event::CensusRows).boxed(),
        1 => vec(number(), 1..20).prop_map(Event::CensusGone).boxed(),
        1 => (time(), any::<bool>()).prop_map(|(at_ns, complete)| Event::CensusEnd { at_ns, complete }).boxed(),
        2 => time().prop_map(|at_ns| Event::Tick { at_ns }).boxed(),
        1 => start().boxed(),
    ]
}

/// Whether a segment may repeat it at its beginning, or when it names a process.
pub(crate) fn may_be_repeated(event: &Event) -> bool {
    matches!(
        event,
        Event::Start { .. }
            | Event::Process { .. }
            | Event::User { .. }
            | Event::Namespace { .. }
            | Event::NamespacesLeftOut(_)
            | Event::SocketOwners { .. }
            | Event::BoundConnect { .. }
    )
}

/// Records a list.
pub(crate) fn record(path: &Path, events: &[Event], options: WriteOptions) {
    let mut recorder = Recorder::create(path, options).unwrap();
    events.iter().for_each(|event| recorder.record(event).unwrap());
    recorder.finish().unwrap();
}

/// All Events of a recording of which nothing may be lost.
pub(crate) fn replay(path: &Path) -> Vec<Event> {
    let recording = Recording::open(path).unwrap();
    assert_eq!(recording.info().losses, []);
    let (events, losses) = read(&recording);
    assert_eq!(losses, []);
    events
}

/// All Events of a recording that can be read, and what was found to be lost on the way.
pub(crate) fn read(recording: &Recording) -> (Vec<Event>, Vec<twtrace_core::recording::Loss>) {
    let mut replay = recording.replay().unwrap();
    let mut events = Vec::new();
    while replay.advance(u64::MAX, &mut |event| events.push(event)).unwrap() {}
    (events, replay.losses().to_vec())
}
