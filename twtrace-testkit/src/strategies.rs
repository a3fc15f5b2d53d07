//! Any events, for property tests, including the edge cases of each type.

use crate::{
    BuildConnection as _, BuildOwner as _, bind_failed, bound_connect, census_row as row, connect_failed, container,
    owner as process, reset_sent, tick, user,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::net::IpAddr;
use twtrace_core::cost::{CostReading, KernelSample};
use twtrace_core::event::{
    Binding, CensusRow, CensusState, Comm, Connection, ContainerFacts, Event, Hook, HostFacts, KernelCounters,
    KernelFacts, NetFigures, Owner, ProcessFacts, ProcessKey, Role, SocketOwner, TcpState, Tier, Timewait,
    TimewaitCause, TimewaitEnd, TracingFacts, Transition, Tuple, TwCount,
};

/// Numbers, including the edge cases.
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
        Just(crate::comm("nginx")),
        Just(crate::comm("nginx\0garbage")),
        Just(crate::comm("sixteen bytes!!!")),
        Just(Comm::default()),
        any::<[u8; 16]>().prop_map(Comm),
        any::<[u8; 4]>().prop_map(crate::comm),
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

/// The same process, with one field changed.
fn nearly_the_same() -> BoxedStrategy<Owner> {
    (0..10_u32, 0..2_u32)
        .prop_map(|(field, by)| {
            let mut owner = process(100, "bash").started(7).parent(1, "cron").in_cgroup(1);
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
        4 => (1..4_u32, any::<bool>()).prop_map(|(tgid, exiting)| {
            process(tgid, "curl").started(7).parent(1, "sh").in_cgroup(1).with(|owner| owner.exiting = exiting)
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

/// A chain of states in time order, or anything.
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
        peer_timestamps in any::<Option<bool>>(),
        tw in of((of(small()), small(), small())),
        timewait in prop::sample::select(
            &[None, Some(Timewait::Overflowed), Some(Timewait::Created { fin_wait2: true }),
              Some(Timewait::Created { fin_wait2: false })][..]),
        (bytes_sent, bytes_received, retransmits) in (number(), number(), small()),
        request_segments in of(1_u16..),
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
            peer_timestamps,
            tw: tw.map(|(before, after, max)| TwCount { before, after, max }),
            timewait,
            bytes_sent,
            bytes_received,
            retransmits,
            request_segments,
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
            CensusState::FinWait1,
            CensusState::LastAck,
            CensusState::SynSent,
            CensusState::Listen,
            CensusState::Established,
            CensusState::CloseWait,
            CensusState::Queued,
            CensusState::QueuedCloseWait,
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
        row(cookie, tuple, state, expires_ms)
    }
}

fn cost() -> impl Strategy<Value = CostReading> {
    let sample = (number(), number(), number(), number());
    let sample =
        sample.prop_map(|(over_ns, run_ns, runs, connections)| KernelSample { over_ns, run_ns, runs, connections });
    (time(), number(), of(sample), any::<bool>()).prop_map(|(at_ns, process_ns, kernel, kernel_refused)| CostReading {
        at_ns,
        process_ns,
        kernel,
        kernel_refused,
    })
}

fn counters() -> BoxedStrategy<KernelCounters> {
    let mut figures = 0;
    crate::counters(|| {
        figures += 1;
        0
    });
    vec(number(), figures)
        .prop_map(|figures| {
            let mut figures = figures.into_iter();
            crate::counters(|| figures.next().unwrap_or_default())
        })
        .boxed()
}

prop_compose! {
    fn kernel()(
        n in vec(number(), 3), tw_reuse: u8, port_range: (u16, u16), reserved_in_range in small(),
        reserved_ports in text(), (tw_reuse_delay_ms, fin_timeout_s, time_wait_s) in (of(small()), of(small()), of(small())),
        timestamps: Option<u8>, figures in vec(of(number()), NetFigures::NUMBER),
    ) -> KernelFacts {
        KernelFacts {
            time_wait: n[0], time_wait_overflow: n[1], max_tw_buckets: n[2], tw_reuse, port_range,
            reserved_in_range, reserved_ports, tw_reuse_delay_ms, timestamps, fin_timeout_s, time_wait_s,
            figures: Box::new(NetFigures::of(figures.try_into().unwrap_or_default())),
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
    fn facts()(f in vec(of(text()), 7)) -> ProcessFacts {
        let mut f = f.into_iter();
        let mut next = || f.next().flatten();
        ProcessFacts {
            exe: next(),
            cmdline: next(),
            cgroup: next(),
            container: next(),
            pod_uid: next(),
            unit: next(),
            ancestor: next(),
        }
    }
}

prop_compose! {
    fn container_facts()(f in vec(of(text()), 5)) -> ContainerFacts {
        let mut f = f.into_iter();
        let mut next = || f.next().flatten();
        ContainerFacts { name: next(), image: next(), pod: next(), pod_namespace: next(), workload: next() }
    }
}

prop_compose! {
    fn socket_owner_row()(
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

/// Any Event that is not empty: an empty piece of a census has no content, and may be dropped.
pub fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any_connection().prop_map(Connection::event).boxed(),
        2 => (owner(), tuple(), any::<u16>(), time()).prop_map(|(opener, tuple, errno, at_ns)| {
            connect_failed(opener, tuple, errno, at_ns)
        }).boxed(),
        2 => (owner(), tuple(), any::<u16>(), any::<bool>(), time()).prop_map(|(owner, tuple, errno, reuse, at_ns)| {
            bind_failed(owner, tuple, errno, reuse, at_ns)
        }).boxed(),
        2 => (prop_oneof![0..8_u64, number()], tuple(), time())
            .prop_map(|(cookie, tuple, at_ns)| bound_connect(cookie, tuple, at_ns)).boxed(),
        1 => (time(), any::<bool>(), vec(socket_owner_row(), 0..5))
            .prop_map(|(at_ns, complete, rows)| Event::SocketOwners { at_ns, complete, rows }).boxed(),
        1 => (number(), tuple(), time())
            .prop_map(|(cookie, tuple, at_ns)| reset_sent(cookie, tuple, at_ns)).boxed(),
        2 => (0..8_u64, tuple(), any::<bool>(), time(), prop::sample::select(
                &[TimewaitCause::Expired, TimewaitCause::Reused, TimewaitCause::EndedEarly][..]))
            .prop_map(|(cookie, tuple, fin_wait2, at_ns, cause)| {
                Event::TimewaitEnd(TimewaitEnd { cookie, tuple, fin_wait2, cause, at_ns })
            }).boxed(),
        1 => counters().prop_map(Event::Counters).boxed(),
        1 => cost().prop_map(Event::Cost).boxed(),
        1 => (small(), kernel()).prop_map(|(netns, facts)| Event::Kernel { netns, facts }).boxed(),
        1 => (small(), small(), text(), of(text()))
            .prop_map(|(netns, inode, name, refused)| Event::Namespace { netns, inode, name, refused }).boxed(),
        1 => small().prop_map(|netns| Event::NamespaceGone { netns }).boxed(),
        1 => number().prop_map(Event::NamespacesLeftOut).boxed(),
        1 => (1..4_u32, number(), facts()).prop_map(|(tgid, start_ns, facts)| {
            Event::Process { key: ProcessKey { tgid, start_ns }, facts }
        }).boxed(),
        1 => (small(), text()).prop_map(|(uid, name)| user(uid, &name)).boxed(),
        1 => (text(), container_facts()).prop_map(|(id, facts)| container(&id, facts)).boxed(),
        1 => (small(), time(), any::<bool>())
            .prop_map(|(netns, at_ns, whole)| Event::SocketDumpBegin { netns, at_ns, whole }).boxed(),
        2 => vec(census_row(), 1..20).prop_map(Event::SocketDump).boxed(),
        1 => vec(number(), 1..20).prop_map(Event::SocketsRemoved).boxed(),
        1 => (time(), any::<bool>()).prop_map(|(at_ns, complete)| Event::SocketDumpEnd { at_ns, complete }).boxed(),
        2 => time().prop_map(tick).boxed(),
        1 => start().boxed(),
    ]
}
