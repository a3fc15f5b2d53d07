//! Connections for which the socket map had no room: their parts, as the kernel side writes them, become one.

use crate::common::{row, tuple};
use twtrace_common::{ConnFlags, ConnRecord, Owner, PartRecord, SockFlags, Tuple as WireTuple, kind, role, tcp_state};
use twtrace_core::decode::{Closing, DecodeError, Decoder, decode};
use twtrace_core::event::{CensusState, Connection, Event, Role, TcpState};
use zerocopy::IntoBytes as _;

const SK: u64 = 0xffff_8880_0000_1000;
const COOKIE: u64 = 0xea43;

fn wire_tuple(local_port: u16) -> WireTuple {
    let mut tuple = WireTuple { family: 2, local_port, remote_port: 443, netns: 77, ..WireTuple::NONE };
    tuple.local_addr[..4].copy_from_slice(&[10, 0, 0, 1]);
    tuple.remote_addr[..4].copy_from_slice(&[192, 0, 2, 7]);
    tuple
}

fn process(tgid: u32) -> Owner {
    Owner { tgid, start_ns: 55, ..Owner::NONE }
}

/// connect(2) of process 9: no port is chosen yet.
fn opened() -> PartRecord {
    PartRecord {
        kind: kind::OPENED,
        role: role::ACTIVE,
        old_state: tcp_state::CLOSE,
        new_state: tcp_state::SYN_SENT,
        sk: SK,
        cookie: COOKIE,
        at_ns: 1_000_000,
        tuple: wire_tuple(0),
        owner: process(9),
        ..PartRecord::EMPTY
    }
}

/// close(2) of process 10.
fn closing() -> PartRecord {
    PartRecord {
        kind: kind::CLOSING,
        role: role::UNKNOWN,
        old_state: tcp_state::ESTABLISHED,
        new_state: tcp_state::FIN_WAIT1,
        at_ns: 3_000_000,
        tuple: wire_tuple(40_000),
        owner: process(10),
        ..opened()
    }
}

fn end() -> ConnRecord {
    let mut record = ConnRecord {
        transitions: 1,
        tuple: wire_tuple(40_000),
        flags: ConnFlags::UNFOLLOWED | ConnFlags::OLDER | ConnFlags::GAP,
        sk_flags: SockFlags::DEAD,
        bytes_sent: 102,
        sk: SK,
        cookie: COOKIE,
        end_ns: 4_000_000,
        ..ConnRecord::EMPTY
    };
    record.old_states[0] = tcp_state::FIN_WAIT2;
    record.new_states[0] = tcp_state::CLOSE;
    record.times_ns[0] = 4_000_000;
    record
}

/// What comes of these records, in this order.
fn decoded(records: &[&[u8]]) -> Vec<Connection> {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for bytes in records {
        let event = decoder.decode(bytes).unwrap();
        events.extend(decoder.superseded());
        events.extend(event);
    }
    events
        .into_iter()
        .map(|event| match event {
            Event::Connection(connection) => *connection,
            other => panic!("not a connection: {other:?}"),
        })
        .collect()
}

fn one(records: &[&[u8]]) -> Connection {
    let mut all = decoded(records);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn pids(connection: &Connection) -> (Option<u32>, Option<u32>) {
    (connection.opener.map(|owner| owner.key.tgid), connection.closer.map(|owner| owner.key.tgid))
}

#[test]
fn opener_closer_and_end_become_one_connection() {
    let connection = one(&[opened().as_bytes(), closing().as_bytes(), end().as_bytes()]);
    assert_eq!(pids(&connection), (Some(9), Some(10)));
    assert_eq!(
        (connection.role, connection.older, connection.established, connection.gap),
        (Role::Active, false, true, true)
    );
    let steps: Vec<_> = connection.transitions.iter().map(|step| (step.from, step.to, step.at_ns)).collect();
    let expected = [
        (TcpState::Close, TcpState::SynSent, 1_000_000),
        (TcpState::Established, TcpState::FinWait1, 3_000_000),
        (TcpState::FinWait2, TcpState::Close, 4_000_000),
    ];
    assert_eq!(steps, expected);
    // SYN and FIN take a sequence number each.
    assert_eq!(connection.bytes_sent, 100);
}

#[test]
fn nothing_is_taken_from_another_socket_at_the_same_address() {
    let other = PartRecord { cookie: 7, ..opened() };
    let connection = one(&[other.as_bytes(), closing().as_bytes(), end().as_bytes()]);
    assert_eq!(pids(&connection), (None, Some(10)));
    assert_eq!((connection.role, connection.older), (Role::Unknown, true));

    // Without cookies, the addresses decide.
    let without = |part: PartRecord| PartRecord { cookie: 0, ..part };
    let bare = ConnRecord { cookie: 0, ..end() };
    let same = one(&[without(opened()).as_bytes(), without(closing()).as_bytes(), bare.as_bytes()]);
    assert_eq!(pids(&same), (Some(9), Some(10)));
    let elsewhere = PartRecord { tuple: WireTuple { remote_port: 80, ..wire_tuple(0) }, ..without(opened()) };
    let other = one(&[elsewhere.as_bytes(), without(closing()).as_bytes(), bare.as_bytes()]);
    assert_eq!(pids(&other), (None, Some(10)));
}

#[test]
fn each_part_is_used_once() {
    let (opened, closing, end) = (opened(), closing(), end());
    let later = ConnRecord { end_ns: 9_000_000, times_ns: [9_000_000; 8], ..end };
    let all = decoded(&[opened.as_bytes(), closing.as_bytes(), end.as_bytes(), later.as_bytes()]);
    assert_eq!(all.iter().map(pids).collect::<Vec<_>>(), [(Some(9), Some(10)), (None, None)]);
}

#[test]
fn an_end_that_is_reported_twice_counts_once() {
    // Both programs of the pair have handled it, some hundred nanoseconds apart.
    let twice = ConnRecord { end_ns: 4_000_400, ..end() };
    assert_eq!(decoded(&[end().as_bytes(), twice.as_bytes()]).len(), 1);
}

#[test]
fn a_socket_that_is_followed_from_its_middle_keeps_its_opener() {
    // There was room again at its FIN.
    let followed = ConnRecord { flags: ConnFlags::OLDER, closer: process(10), ..end() };
    let connection = one(&[opened().as_bytes(), followed.as_bytes()]);
    assert_eq!((pids(&connection), connection.role, connection.older), ((Some(9), Some(10)), Role::Active, false));
}

#[test]
fn an_accepted_connection_has_its_acceptor() {
    let accepted =
        PartRecord { role: role::PASSIVE, old_state: 0, new_state: 0, tuple: wire_tuple(40_000), ..opened() };
    let connection = one(&[accepted.as_bytes(), closing().as_bytes(), end().as_bytes()]);
    assert_eq!((pids(&connection), connection.role), ((Some(9), Some(10)), Role::Passive));
    assert_eq!(connection.transitions.len(), 2);
}

#[test]
fn an_end_that_no_hook_saw_has_both() {
    let mut decoder = Decoder::default();
    for part in [opened(), closing()] {
        assert_eq!(decoder.decode(part.as_bytes()), Ok(None));
    }
    assert_eq!(decoder.closing(3_000_000).count(), 0, "not old enough");
    let ports = (40_000, 443);
    let expected = Closing { sk: SK, cookie: COOKIE, netns: 77, ports, is_last_ack: false, since_ns: 3_000_000 };
    assert_eq!(decoder.closing(3_000_001).collect::<Vec<_>>(), [expected]);
    let listed = |local_port, state| expected.is_in(&row(COOKIE, tuple(local_port, 1, 443), state, 0));
    assert!(listed(40_000, CensusState::TimeWait), "it has become this TIME_WAIT socket");
    assert!(!listed(40_001, CensusState::TimeWait), "it left this one before it connected again");
    assert!(listed(40_000, CensusState::Open));
    assert_eq!(decoder.take_unseen(SK, 7), None);
    let connection = decoder.take_unseen(SK, COOKIE).unwrap();
    assert_eq!((pids(&connection), connection.end_unseen, connection.end_ns), ((Some(9), Some(10)), true, 3_000_000));
    assert_eq!(decoder.take_unseen(SK, COOKIE), None);
}

#[test]
fn a_connect_that_found_no_port_is_one_failure() {
    let mut back = ConnRecord { tuple: wire_tuple(0), flags: ConnFlags::UNFOLLOWED | ConnFlags::OLDER, ..end() };
    back.old_states[0] = tcp_state::SYN_SENT;
    // The exit of connect(2) finds no slot, and a socket in CLOSE.
    let failed = ConnRecord {
        kind: kind::CONNECT_FAILED,
        transitions: 0,
        connect_errno: 99,
        opener: process(9),
        end_ns: 4_001_000,
        flags: ConnFlags::empty(),
        ..back
    };
    let connection = one(&[opened().as_bytes(), back.as_bytes(), failed.as_bytes()]);
    assert_eq!((pids(&connection), connection.established), ((Some(9), None), false));
    let alone = Decoder::default().decode(failed.as_bytes()).unwrap();
    assert!(matches!(alone, Some(Event::ConnectFailed(_))), "{alone:?}");
}

#[test]
fn a_part_is_no_event_by_itself() {
    assert_eq!(decode(opened().as_bytes()), Err(DecodeError::Part(SK)));
    let nobody = PartRecord { owner: Owner::NONE, ..opened() };
    assert_eq!(Decoder::default().decode(nobody.as_bytes()), Err(DecodeError::NoOpener));
    assert_eq!(Decoder::default().decode(&opened().as_bytes()[..100]), Err(DecodeError::Short(100)));
}

#[test]
fn closer_is_known_although_the_end_was_not_seen_and_the_address_is_used_again() {
    let (next_open, next_close) = (PartRecord { cookie: 7, ..opened() }, PartRecord { cookie: 7, ..closing() });
    let next_end = ConnRecord { cookie: 7, ..end() };
    let (open, close) = (opened(), closing());
    // Whatever is seen first of the next one.
    for next in [next_open.as_bytes(), next_close.as_bytes(), next_end.as_bytes()] {
        let connections = decoded(&[open.as_bytes(), close.as_bytes(), next]);
        let unseen = connections.first().unwrap();
        assert_eq!((unseen.cookie, unseen.end_unseen, pids(unseen)), (COOKIE, true, (Some(9), Some(10))));
    }
    // Its own end is no other's.
    assert_eq!(decoded(&[open.as_bytes(), close.as_bytes(), end().as_bytes()]).len(), 1);
}
