//! Records as the kernel side writes them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::mem::offset_of;
use twtrace_common::{ConnRecord, OWNER_EXITING, OWNER_KTHREAD, Owner, conn_flag, kind, role, sock_flag, tcp_state};
use twtrace_core::decode::{DecodeError, decode};
use twtrace_core::input::{Input, Life, Role, TcpState, Transition};

fn bytes(record: &ConnRecord) -> Vec<u8> {
    let start = std::ptr::from_ref(record).cast::<u8>();
    // SAFETY: a plain value without padding, read as bytes.
    unsafe { std::slice::from_raw_parts(start, size_of::<ConnRecord>()) }.to_vec()
}

fn sample() -> ConnRecord {
    let mut record = ConnRecord {
        role: role::ACTIVE,
        transitions: 2,
        family: 2,
        local_port: 40_000,
        remote_port: 443,
        sk_err: 104,
        flags: conn_flag::RST_SENT | conn_flag::ESTABLISHED | conn_flag::DONE,
        sk_flags: sock_flag::DEAD | sock_flag::LINGER | 1 << 9,
        netns: 77,
        retransmits: 3,
        tw_count: 5,
        tw_max: 10,
        cookie: 0xea43,
        end_ns: 200,
        bytes_sent: 1,
        bytes_received: 2,
        ..ConnRecord::EMPTY
    };
    record.local_addr[..4].copy_from_slice(&[10, 0, 0, 1]);
    record.remote_addr[..4].copy_from_slice(&[192, 0, 2, 7]);
    record.old_states[..2].copy_from_slice(&[tcp_state::SYN_SENT, tcp_state::ESTABLISHED]);
    record.new_states[..2].copy_from_slice(&[tcp_state::ESTABLISHED, tcp_state::CLOSE]);
    record.times_ns[..2].copy_from_slice(&[100, 200]);
    record.opener = Owner { tgid: 9, uid: 33, ppid: 1, start_ns: 55, cgroup: 66, ..Owner::NONE };
    record.opener.comm[..4].copy_from_slice(b"curl");
    record
}

fn life(record: &ConnRecord) -> Life {
    match decode(&bytes(record)).unwrap() {
        Input::Life(life) => *life,
        other => panic!("not a life: {other:?}"),
    }
}

#[test]
fn a_life_has_every_field() {
    let life = life(&sample());
    assert_eq!(life.tuple.local_addr.to_string(), "10.0.0.1");
    assert_eq!(life.tuple.remote_addr.to_string(), "192.0.2.7");
    assert_eq!((life.tuple.local_port, life.tuple.remote_port, life.tuple.netns), (40_000, 443, 77));
    assert_eq!(
        (life.cookie, life.role, life.sk_err, life.retransmits, life.end_ns),
        (0xea43, Role::Active, 104, 3, 200)
    );
    assert_eq!((life.bytes_sent, life.bytes_received), (1, 2));
    assert_eq!((life.sock_dead, life.sock_done, life.sock_linger), (true, false, true));
    assert!(life.rst_sent && life.established && !life.older && !life.gap && !life.tuple.v4_mapped);
    let expected = [
        Transition { from: TcpState::SynSent, to: TcpState::Established, at_ns: 100 },
        Transition { from: TcpState::Established, to: TcpState::Close, at_ns: 200 },
    ];
    assert_eq!(life.transitions, expected);
    let opener = life.opener.unwrap();
    assert_eq!((opener.key.tgid, opener.key.start_ns, opener.uid, opener.ppid, opener.cgroup), (9, 55, 33, 1, 66));
    assert_eq!(opener.comm.bytes(), b"curl");
    assert_eq!(life.closer, None, "a tgid of 0 is nobody");
    let tw = life.tw.unwrap();
    assert_eq!((tw.before, tw.after, tw.max), (None, 5, 10));
}

#[test]
fn ipv4_in_ipv6_is_given_as_ipv4() {
    let mut record = ConnRecord { family: 10, ..sample() };
    record.local_addr = "::ffff:10.1.2.3".parse::<std::net::Ipv6Addr>().unwrap().octets();
    record.remote_addr = "::ffff:10.1.2.4".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mapped = life(&record).tuple;
    assert!(mapped.v4_mapped);
    assert_eq!(mapped.local_addr.to_string(), "10.1.2.3");
    record.local_addr = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    record.remote_addr = "2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let plain = life(&record).tuple;
    assert!(!plain.v4_mapped);
    assert_eq!(plain.remote_addr.to_string(), "2001:db8::2");
}

#[test]
fn an_opener_written_for_another_socket_is_not_believed() {
    let mut record = sample();
    record.flags |= conn_flag::ACCEPTED;
    record.accept_cookie = record.cookie;
    assert!(life(&record).opener.is_some());
    record.accept_cookie += 1;
    assert!(life(&record).opener.is_none());
}

#[test]
fn a_break_in_the_transitions_is_a_gap() {
    let mut record = sample();
    record.old_states[1] = tcp_state::FIN_WAIT1;
    assert!(life(&record).gap);
    let dropped = ConnRecord { transitions_dropped: 1, ..sample() };
    assert!(life(&dropped).gap);
}

#[test]
fn kernel_threads_and_exiting_processes_are_marked() {
    let mut record = sample();
    record.closer = Owner { tgid: 2, flags: OWNER_KTHREAD | OWNER_EXITING, ..Owner::NONE };
    let closer = life(&record).closer.unwrap();
    assert!(closer.kthread && closer.exiting);
}

#[test]
fn the_other_kinds() {
    let mut failed = ConnRecord { kind: kind::CONNECT_FAILED, connect_errno: 101, ..sample() };
    match decode(&bytes(&failed)).unwrap() {
        Input::ConnectFailed(failed) => {
            assert_eq!((failed.errno, failed.opener.key.tgid, failed.tuple.remote_port), (101, 9, 443));
        }
        other => panic!("{other:?}"),
    }
    failed.opener.tgid = 0;
    assert_eq!(decode(&bytes(&failed)), Err(DecodeError::NoOpener));
    let reset = ConnRecord { kind: kind::RESET_SENT, ..sample() };
    assert_eq!(decode(&bytes(&reset)), Ok(Input::ResetSent { cookie: 0xea43, life: 0, at_ns: 200 }));
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
        (offset_of!(ConnRecord, family), 1, DecodeError::Family(1)),
        (offset_of!(ConnRecord, transitions), 9, DecodeError::Transitions(9)),
        (offset_of!(ConnRecord, old_states), 0, DecodeError::State(0)),
        (offset_of!(ConnRecord, new_states) + 1, 13, DecodeError::State(13)),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(decode(&bad), Err(expected));
    }
}
