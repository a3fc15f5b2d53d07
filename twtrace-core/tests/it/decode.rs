//! Records as the kernel side writes them.

use proptest::prelude::*;
use std::mem::offset_of;
use std::net::IpAddr;
use twtrace_common::{
    ConnFlags, ConnRecord, Owner, OwnerFlags, PartRecord, SmallRecord, SockFlags, Tuple as WireTuple, cause, kind,
    role, tcp_state,
};
use twtrace_core::decode::{DecodeError, decode};
use twtrace_core::event::{
    BindFailed, Binding, Connection, Event, Role, TcpState, Timewait, TimewaitCause, Transition, Tuple,
};
use zerocopy::IntoBytes as _;

fn bytes(record: &ConnRecord) -> Vec<u8> {
    record.as_bytes().to_vec()
}

fn sample() -> ConnRecord {
    let mut record = ConnRecord {
        role: role::ACTIVE,
        transitions: 2,
        tuple: WireTuple { family: 2, local_port: 40_000, remote_port: 443, netns: 77, ..WireTuple::NONE },
        sk_err: 104,
        flags: ConnFlags::RST_SENT | ConnFlags::ESTABLISHED | ConnFlags::DONE,
        sk_flags: SockFlags::from_bits_retain(1 << 7).union(SockFlags::DEAD).union(SockFlags::LINGER),
        retransmits: 3,
        request_segments: 4,
        tw_count: 5,
        tw_max: 10,
        cookie: 0xea43,
        end_ns: 200_999,
        bytes_sent: 1001,
        bytes_received: 2,
        ..ConnRecord::EMPTY
    };
    record.tuple.local_addr[..4].copy_from_slice(&[10, 0, 0, 1]);
    record.tuple.remote_addr[..4].copy_from_slice(&[192, 0, 2, 7]);
    record.old_states[..2].copy_from_slice(&[tcp_state::SYN_SENT, tcp_state::ESTABLISHED]);
    record.new_states[..2].copy_from_slice(&[tcp_state::ESTABLISHED, tcp_state::CLOSE]);
    record.times_ns[..2].copy_from_slice(&[100_001, 200_999]);
    record.opener = Owner { tgid: 9, uid: 33, ppid: 1, start_ns: 55, cgroup: 66, ..Owner::NONE };
    record.opener.comm[..4].copy_from_slice(b"curl");
    sealed(record)
}

/// With an opener that was written for this connection.
fn sealed(record: ConnRecord) -> ConnRecord {
    ConnRecord { opener_seal: record.opener.seal(record.sk, record.cookie), ..record }
}

fn connection(record: &ConnRecord) -> Connection {
    match decode(&bytes(record)).unwrap() {
        Event::Connection(connection) => *connection,
        other => panic!("not a connection: {other:?}"),
    }
}

#[test]
fn a_connection_has_every_field() {
    let connection = connection(&sample());
    assert_eq!(connection.tuple.local_addr.to_string(), "10.0.0.1");
    assert_eq!(connection.tuple.remote_addr.to_string(), "192.0.2.7");
    assert_eq!((connection.tuple.local_port, connection.tuple.remote_port, connection.tuple.netns), (40_000, 443, 77));
    assert_eq!(
        (connection.cookie, connection.role, connection.sk_err, connection.retransmits, connection.end_ns),
        (0xea43, Role::Active, 104, 3, 200_000)
    );
    assert_eq!((connection.bytes_sent, connection.bytes_received), (1000, 2));
    assert_eq!((connection.sock_dead, connection.sock_done, connection.sock_linger), (true, false, true));
    assert!(
        connection.rst_sent
            && connection.established
            && !connection.older
            && !connection.gap
            && !connection.tuple.v4_mapped
    );
    let expected = [
        Transition { from: TcpState::SynSent, to: TcpState::Established, at_ns: 100_000 },
        Transition { from: TcpState::Established, to: TcpState::Close, at_ns: 200_000 },
    ];
    assert_eq!(connection.transitions, expected);
    let opener = connection.opener.unwrap();
    assert_eq!((opener.key.tgid, opener.key.start_ns, opener.uid, opener.ppid, opener.cgroup), (9, 55, 33, 1, 66));
    assert_eq!(opener.comm.bytes(), b"curl");
    assert_eq!(connection.closer, None, "a tgid of 0 is no process");
    let tw = connection.tw.unwrap();
    assert_eq!((tw.before, tw.after, tw.max), (None, 5, 10));
}

#[test]
fn what_begins_and_ends_a_connection_is_no_payload() {
    use tcp_state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK};
    let first = [ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE];
    let last = [ESTABLISHED, CLOSE_WAIT, LAST_ACK, CLOSE];
    // As kernels count them: a connection without payload, and one with a byte in each direction; on the client's side
    // and on the server's, with either side closing first.
    for (payload, role, states, done, sent, received) in [
        (0, role::ACTIVE, first, SockFlags::empty(), 2, 0),
        (0, role::PASSIVE, last, SockFlags::DONE, 1, 1),
        (1, role::ACTIVE, last, SockFlags::DONE, 3, 2),
        (1, role::PASSIVE, first, SockFlags::DONE, 2, 2),
    ] {
        let record = ConnRecord { role, transitions: 3, sk_err: 0, sk_flags: done, ..sample() };
        let mut record = ConnRecord { bytes_sent: sent, bytes_received: received, ..record };
        record.old_states[..3].copy_from_slice(&states[..3]);
        record.new_states[..3].copy_from_slice(&states[1..]);
        // Also where the kernel hid the last step of the handshake.
        for flags in [ConnFlags::ESTABLISHED, ConnFlags::GAP] {
            let connection = connection(&ConnRecord { flags, ..record });
            assert!(connection.established);
            assert_eq!((connection.bytes_sent, connection.bytes_received), (payload, payload), "{record:?}");
        }
    }
}

#[test]
fn ipv4_in_ipv6_is_given_as_ipv4() {
    let mut record = sample();
    record.tuple.family = 10;
    record.tuple.local_addr = "::ffff:10.1.2.3".parse::<std::net::Ipv6Addr>().unwrap().octets();
    record.tuple.remote_addr = "::ffff:10.1.2.4".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mapped = connection(&record).tuple;
    assert!(mapped.v4_mapped);
    assert_eq!(mapped.local_addr.to_string(), "10.1.2.3");
    record.tuple.local_addr = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    record.tuple.remote_addr = "2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let plain = connection(&record).tuple;
    assert!(!plain.v4_mapped);
    assert_eq!(plain.remote_addr.to_string(), "2001:db8::2");
}

#[test]
fn an_opener_written_for_another_socket_is_not_believed() {
    let record = sealed(ConnRecord { sk: 0xffff_8881_0000_4000, ..sample() });
    assert!(connection(&record).opener.is_some());
    let other_slot = ConnRecord { sk: record.sk + 64, ..record };
    assert_eq!(connection(&other_slot).opener, None);
    let other_cookie = ConnRecord { cookie: record.cookie + 1, ..record };
    assert_eq!(connection(&other_cookie).opener, None);
    // A socket may be accepted before it has a cookie.
    let early = ConnRecord { opener_seal: record.opener.seal(record.sk, 0), ..record };
    assert_eq!(connection(&early).opener, connection(&record).opener);
}

#[test]
fn an_opener_that_two_programs_wrote_at_once_is_not_believed() {
    use zerocopy::FromBytes as _;
    let one = sealed(ConnRecord { sk: 0xffff_8881_0000_4000, ..sample() });
    let mut other = one.opener;
    (other.tgid, other.start_ns, other.comm) = (10, 56, *b"nginx\0\0\0\0\0\0\0\0\0\0\0");
    // Word by word, up to some word of it: every mixture is found.
    for words in 1..size_of::<Owner>() / 8 {
        let mut mixture = [0; size_of::<Owner>()];
        mixture.copy_from_slice(one.opener.as_bytes());
        mixture[..8 * words].copy_from_slice(&other.as_bytes()[..8 * words]);
        let opener = Owner::read_from_bytes(&mixture).unwrap();
        if opener != one.opener && opener != other {
            for opener_seal in [one.opener_seal, other.seal(one.sk, one.cookie)] {
                assert_eq!(connection(&ConnRecord { opener, opener_seal, ..one }).opener, None, "{words} words");
            }
        }
    }
}

#[test]
fn what_was_accepted_is_passive_whatever_of_its_beginning_was_seen() {
    let mut record = ConnRecord { role: role::UNKNOWN, ..sample() };
    assert_eq!(connection(&record).role, Role::Passive);
    record.opener_seal += 1;
    assert_eq!(connection(&record).role, Role::Unknown, "another socket was accepted");
}

#[test]
fn a_break_in_the_transitions_is_a_gap() {
    let mut record = sample();
    record.old_states[1] = tcp_state::FIN_WAIT1;
    assert!(connection(&record).gap);
    let dropped = ConnRecord { transitions_dropped: 1, ..sample() };
    assert!(connection(&dropped).gap);
}

#[test]
fn kernel_threads_and_exiting_processes_are_marked() {
    let mut record = sample();
    record.closer = Owner { tgid: 2, flags: OwnerFlags::KTHREAD | OwnerFlags::EXITING, ..Owner::NONE };
    let closer = connection(&record).closer.unwrap();
    assert!(closer.kthread && closer.exiting);
}

#[test]
fn the_other_kinds() {
    let mut failed = ConnRecord { kind: kind::CONNECT_FAILED, connect_errno: 101, ..sample() };
    match decode(&bytes(&failed)).unwrap() {
        Event::ConnectFailed(failed) => {
            assert_eq!((failed.errno, failed.opener.key.tgid, failed.tuple.remote_port), (101, 9, 443));
        }
        other => panic!("{other:?}"),
    }
    failed.opener.tgid = 0;
    assert_eq!(decode(&bytes(&failed)), Err(DecodeError::NoOpener));
    let reset = ConnRecord { kind: kind::RESET_SENT, ..sample() };
    assert_eq!(
        decode(&bytes(&reset)),
        Ok(Event::ResetSent { cookie: 0xea43, tuple: connection(&sample()).tuple, at_ns: 200_000 })
    );
}

fn failed_bind(record: &ConnRecord) -> BindFailed {
    match decode(&bytes(record)).unwrap() {
        Event::BindFailed(failed) => *failed,
        other => panic!("not a failed bind: {other:?}"),
    }
}

#[test]
fn binds_that_fail() {
    let mut record = ConnRecord { kind: kind::BIND_FAILED, connect_errno: 98, ..sample() };
    record.tuple.remote_port = 0;
    record.tuple.remote_addr = [0; 16];
    let failed = failed_bind(&record);
    assert_eq!((failed.errno, failed.reuse, failed.at_ns), (98, false, 200_000));
    assert_eq!((failed.owner.key.tgid, failed.owner.comm.bytes()), (9, b"curl".as_slice()));
    let Tuple { netns, local_addr, local_port, remote_addr, remote_port, v4_mapped } = failed.tuple;
    assert_eq!((netns, local_port, remote_port, v4_mapped), (77, 40_000, 0, false));
    assert_eq!([local_addr, remote_addr].map(|address| address.to_string()), ["10.0.0.1", "0.0.0.0"]);
    record.flags |= ConnFlags::REUSE_ADDRESS;
    assert!(failed_bind(&record).reuse);

    // The missing side has the same address family as the other.
    record.tuple.family = 10;
    record.tuple.local_addr = "::ffff:10.1.2.3".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mapped = failed_bind(&record).tuple;
    assert!(mapped.v4_mapped);
    assert_eq!([mapped.local_addr, mapped.remote_addr].map(|address| address.to_string()), ["10.1.2.3", "0.0.0.0"]);
    record.tuple.local_addr = [0; 16];
    let anywhere = failed_bind(&record).tuple;
    assert_eq!([anywhere.local_addr, anywhere.remote_addr].map(|address| address.to_string()), ["::", "::"]);

    record.opener.tgid = 0;
    assert_eq!(decode(&bytes(&record)), Err(DecodeError::NoOpener));
}

#[test]
fn how_the_local_side_was_chosen() {
    let with = |flags, local_range| connection(&ConnRecord { flags, local_range, ..sample() }).binding;
    assert_eq!(with(ConnFlags::empty(), 0), Binding::default());
    assert_eq!(with(ConnFlags::BOUND_PORT, 0), Binding { port: true, address: false, range: None });
    assert_eq!(with(ConnFlags::BOUND_ADDRESS, 0), Binding { port: false, address: true, range: None });
    let range = |low: u16, high: u16| with(ConnFlags::empty(), u32::from(high) << 16 | u32::from(low)).range;
    assert_eq!(range(40_000, 40_999), Some((40_000, 40_999)));
    assert_eq!((range(40_000, 0), range(0, 40_999)), (Some((40_000, 0)), Some((0, 40_999))), "one side alone");
}

/// A small record of another family.
fn strange(record: SmallRecord) -> SmallRecord {
    SmallRecord { tuple: WireTuple { family: 1, ..record.tuple }, ..record }
}

#[test]
fn connects_from_bound_ports() {
    let record = SmallRecord {
        kind: kind::BOUND_CONNECT,
        cookie: 0xea43,
        at_ns: 77_500,
        tuple: sample().tuple,
        ..SmallRecord::EMPTY
    };
    let good = record.as_bytes();
    let tuple = connection(&sample()).tuple;
    assert_eq!(decode(good), Ok(Event::BoundConnect { cookie: 0xea43, tuple, at_ns: 77_000 }));
    assert_eq!(decode(&good[..71]), Err(DecodeError::Short(71)));
    assert_eq!(decode(strange(record).as_bytes()), Err(DecodeError::Family(1)));
}

#[test]
fn ends_of_timewait_sockets() {
    let record = SmallRecord {
        cause: cause::REUSED,
        substate: tcp_state::FIN_WAIT2,
        cookie: 0xea43,
        at_ns: 77_500,
        tuple: WireTuple {
            family: 2,
            local_port: 40_000,
            remote_port: 443,
            netns: 5,
            local_addr: std::array::from_fn(|at| if at < 4 { [127, 0, 0, 1][at] } else { 0 }),
            remote_addr: std::array::from_fn(|at| if at < 4 { [10, 0, 0, 2][at] } else { 0 }),
            ..WireTuple::NONE
        },
        ..SmallRecord::EMPTY
    };
    let good = record.as_bytes();
    let Ok(Event::TimewaitEnd(end)) = decode(good) else { panic!("not decoded") };
    assert_eq!((end.cookie, end.fin_wait2, end.cause, end.at_ns), (0xea43, true, TimewaitCause::Reused, 77_000));
    let Tuple { netns, local_addr, local_port, remote_addr, remote_port, v4_mapped } = end.tuple;
    assert_eq!((netns, local_port, remote_port, v4_mapped), (5, 40_000, 443, false));
    assert_eq!([local_addr, remote_addr].map(|address| address.to_string()), ["127.0.0.1", "10.0.0.2"]);
    assert_eq!(decode(&good[..71]), Err(DecodeError::Short(71)));
    assert_eq!(decode(SmallRecord { cause: 0, ..record }.as_bytes()), Err(DecodeError::Cause(0)));
    assert_eq!(decode(strange(record).as_bytes()), Err(DecodeError::Family(1)));
}

#[test]
fn what_the_exact_hooks_saw_is_reported() {
    let with = |flags, tw_substate| connection(&ConnRecord { flags, tw_substate, ..sample() });
    assert_eq!(with(ConnFlags::empty(), tcp_state::FIN_WAIT2).timewait, None);
    let created = |fin_wait2| Some(Timewait::Created { fin_wait2 });
    assert_eq!(with(ConnFlags::TW_CREATED, tcp_state::FIN_WAIT2).timewait, created(true));
    assert_eq!(with(ConnFlags::TW_CREATED, tcp_state::TIME_WAIT).timewait, created(false));
    assert_eq!(with(ConnFlags::TW_OVERFLOWED, tcp_state::TIME_WAIT).timewait, Some(Timewait::Overflowed));
    assert!(with(ConnFlags::HASH_CONNECT, 0).connect_exit);
}

#[test]
fn damage_is_an_error() {
    let good = bytes(&sample());
    assert_eq!(decode(&good[..good.len() - 1]), Err(DecodeError::Short(good.len() - 1)));
    let mut longer = good.clone();
    longer.extend([0xff; 40]);
    assert_eq!(decode(&longer), decode(&good));
    for (at, value, expected) in [
        (offset_of!(ConnRecord, kind), 9, DecodeError::Kind(9)),
        (offset_of!(ConnRecord, role), 7, DecodeError::Role(7)),
        (offset_of!(ConnRecord, tuple.family), 1, DecodeError::Family(1)),
        (offset_of!(ConnRecord, transitions), 9, DecodeError::Transitions(9)),
        (offset_of!(ConnRecord, old_states), 0, DecodeError::State(0)),
        (offset_of!(ConnRecord, new_states) + 1, 13, DecodeError::State(13)),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(decode(&bad), Err(expected));
    }
}

prop_compose! {
    fn any_owner()(
        tgid in prop_oneof![Just(0), any::<u32>()],
        uid: u32,
        ppid: u32,
        flags: u32,
        start_ns: u64,
        cgroup: u64,
        comm: [u8; 16],
        parent_comm: [u8; 16],
    ) -> Owner {
        let flags = OwnerFlags::from_bits_retain(flags);
        Owner { tgid, uid, ppid, flags, start_ns, cgroup, comm, parent_comm }
    }
}

prop_compose! {
    fn any_record()(
        (role, transitions, transitions_dropped) in (0_u8..3, 0_u8..9, 0_u8..2),
        mapped: bool,
        family in prop::sample::select(vec![2_u16, 10]),
        (local_port, remote_port, sk_err, connect_errno) in any::<(u16, u16, u16, u16)>(),
        (flags, sk_flags, netns, retransmits, request_segments) in any::<(u32, u8, u32, u32, u16)>(),
        (tw_count_before, tw_count, tw_max) in (-1_i32..9, -1_i32..9, -1_i32..9),
        (cookie, end_ns, bytes_sent, bytes_received) in any::<(u64, u64, u64, u64)>(),
        local_range in prop_oneof![Just(0), any::<u32>()],
        mut local_addr: [u8; 16],
        remote_addr: [u8; 16],
        (old_states, new_states) in (prop::array::uniform8(1_u8..13), prop::array::uniform8(1_u8..13)),
        times_ns: [u64; 8],
        (opener, closer) in (any_owner(), any_owner()),
        (sk, foreign) in (any::<u64>(), 0_u64..2),
    ) -> ConnRecord {
        if mapped {
            local_addr[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        }
        ConnRecord {
            role, transitions, transitions_dropped, sk_err, connect_errno, retransmits, request_segments, tw_count_before, tw_count,
            tw_max, cookie, end_ns, bytes_sent, bytes_received, old_states, new_states, times_ns, opener, closer,
            flags: ConnFlags::from_bits_retain(flags),
            sk_flags: SockFlags::from_bits_retain(sk_flags),
            tuple: WireTuple {
                family, local_port, remote_port, netns, local_addr, remote_addr, ..WireTuple::NONE
            },
            sk,
            opener_seal: opener.seal(sk, cookie) ^ foreign,
            local_range,
            ..ConnRecord::EMPTY
        }
    }
}

/// An address as written in the record, IPv4-mapped or not.
fn octets(address: IpAddr, family: u16) -> [u8; 16] {
    match (address, family) {
        (IpAddr::V4(v4), 10) => v4.to_ipv6_mapped().octets(),
        (IpAddr::V4(v4), _) => std::array::from_fn(|at| v4.octets().get(at).copied().unwrap_or(0)),
        (IpAddr::V6(v6), _) => v6.octets(),
    }
}

/// Whole microseconds.
fn cut(time_ns: u64) -> u64 {
    time_ns - time_ns % 1000
}

/// The parts of an owner that are kept.
fn kept(owner: Owner) -> Owner {
    if owner.tgid == 0 { Owner::NONE } else { Owner { flags: owner.flags & OwnerFlags::all(), ..owner } }
}

fn encoded(owner: Option<twtrace_core::event::Owner>) -> Owner {
    owner.map_or(Owner::NONE, |owner| Owner {
        tgid: owner.key.tgid,
        uid: owner.uid,
        ppid: owner.ppid,
        flags: [(owner.kthread, OwnerFlags::KTHREAD), (owner.exiting, OwnerFlags::EXITING)]
            .into_iter()
            .filter_map(|(is_so, flag)| is_so.then_some(flag))
            .collect(),
        start_ns: owner.key.start_ns,
        cgroup: owner.cgroup,
        comm: owner.comm.0,
        parent_comm: owner.parent_comm.0,
    })
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_it_is_an_input_or_an_error(
        kind in 0_u8..11,
        family in prop::sample::select(vec![2_u16, 10, 1]),
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        for (at, byte) in [(0, kind), (offset_of!(ConnRecord, role), 1), (offset_of!(ConnRecord, transitions), 2)] {
            bytes.get_mut(at).into_iter().for_each(|place| *place = byte);
        }
        // The family in both record layouts.
        for family_at in [offset_of!(ConnRecord, tuple.family), offset_of!(SmallRecord, tuple.family)] {
            bytes.get_mut(family_at..family_at + 2).into_iter().for_each(|place| place.copy_from_slice(&family.to_ne_bytes()));
        }
        let whole = match kind {
            kind::TIMEWAIT_END | kind::BOUND_CONNECT => size_of::<SmallRecord>(),
            kind::OPENED | kind::CLOSING => size_of::<PartRecord>(),
            _ => size_of::<ConnRecord>(),
        };
        let short = bytes.len() < whole && !bytes.is_empty();
        let result = decode(&bytes);
        prop_assert_eq!(matches!(result, Err(DecodeError::Short(_))), short || bytes.is_empty(), "{:?}", result);
    }

    #[test]
    fn every_record_comes_back(record in any_record()) {
        let connection = connection(&record);
        let has = |flag| record.flags.contains(flag);
        let foreign = record.opener_seal != record.opener.seal(record.sk, record.cookie);
        prop_assert_eq!(encoded(connection.opener), if foreign { Owner::NONE } else { kept(record.opener) });
        prop_assert_eq!(encoded(connection.closer), kept(record.closer));
        let address = |bytes: [u8; 16]| {
            let mut bytes = bytes;
            if record.tuple.family == 2 {
                bytes[4..].fill(0);
            }
            bytes
        };
        prop_assert_eq!(octets(connection.tuple.local_addr, record.tuple.family), address(record.tuple.local_addr));
        prop_assert_eq!(octets(connection.tuple.remote_addr, record.tuple.family), address(record.tuple.remote_addr));
        prop_assert_eq!((connection.tuple.local_port, connection.tuple.remote_port), (record.tuple.local_port, record.tuple.remote_port));
        prop_assert_eq!((connection.tuple.netns, connection.cookie), (record.tuple.netns, record.cookie));
        prop_assert_eq!((connection.sk_err, connection.connect_errno), (record.sk_err, record.connect_errno));
        prop_assert!((record.bytes_sent.saturating_sub(2)..=record.bytes_sent).contains(&connection.bytes_sent));
        prop_assert!((record.bytes_received.saturating_sub(1)..=record.bytes_received).contains(&connection.bytes_received));
        prop_assert_eq!((connection.retransmits, connection.end_ns), (record.retransmits, cut(record.end_ns)));
        let flags = [
            (connection.older, ConnFlags::OLDER),
            (connection.rst_sent, ConnFlags::RST_SENT),
            (connection.closed_in_context, ConnFlags::CLOSED_IN_CONTEXT),
            (connection.end_unseen, ConnFlags::END_UNSEEN),
            (connection.no_fields, ConnFlags::NO_FIELDS),
            (connection.binding.port, ConnFlags::BOUND_PORT),
            (connection.binding.address, ConnFlags::BOUND_ADDRESS),
        ];
        prop_assert!(flags.into_iter().all(|(decoded, flag)| decoded == has(flag)));
        let left = !connection.older && connection.transitions.iter().any(|step| step.from == TcpState::Established);
        prop_assert_eq!(connection.established, has(ConnFlags::ESTABLISHED) || left);
        let range = connection.binding.range.map_or(0, |(low, high)| u32::from(high) << 16 | u32::from(low));
        prop_assert_eq!(range, record.local_range);
        let known = |count: i32| u32::try_from(count).ok();
        let tw = connection.tw.map(|tw| (tw.before, Some(tw.after), Some(tw.max)));
        let expected = (known(record.tw_count_before), known(record.tw_count), known(record.tw_max));
        prop_assert_eq!(tw, (record.tw_count >= 0 && record.tw_max >= 0).then_some(expected));
        let states: Vec<_> = connection.transitions.iter().map(|one| (one.from as u8, one.to as u8, one.at_ns)).collect();
        let expected: Vec<_> = (0..usize::from(record.transitions))
            .map(|at| (record.old_states[at], record.new_states[at], cut(record.times_ns[at])))
            .collect();
        let gap = expected.windows(2).any(|pair| pair[0].1 != pair[1].0);
        prop_assert_eq!(states, expected);
        prop_assert_eq!(connection.gap, gap || record.transitions_dropped > 0 || has(ConnFlags::GAP));
    }
}
