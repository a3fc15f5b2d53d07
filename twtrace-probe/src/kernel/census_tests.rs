#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use tokio::net::TcpSocket;

const NETNS: u32 = 7;

/// A whole `inet_diag_msg` in a netlink message.
fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = 16 + payload.len();
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(length as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn diag(family: u8, state: u8, timer: u8, local: [u8; 16], remote: [u8; 16]) -> [u8; DIAG_LEN] {
    let mut bytes = [0; DIAG_LEN];
    bytes[..4].copy_from_slice(&[family, state, timer, 0]);
    bytes[4..6].copy_from_slice(&40000u16.to_be_bytes());
    bytes[6..8].copy_from_slice(&443u16.to_be_bytes());
    bytes[8..24].copy_from_slice(&local);
    bytes[24..40].copy_from_slice(&remote);
    bytes[44..48].copy_from_slice(&0xea43u32.to_ne_bytes());
    bytes[48..52].copy_from_slice(&1u32.to_ne_bytes());
    bytes[52..56].copy_from_slice(&59_000u32.to_ne_bytes());
    bytes[68..72].copy_from_slice(&4711u32.to_ne_bytes());
    bytes
}

fn v4(last: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&[127, 0, 0, last]);
    bytes
}

fn mapped(last: u8) -> [u8; 16] {
    Ipv4Addr::new(127, 0, 0, last).to_ipv6_mapped().octets()
}

fn read(bytes: &[u8]) -> (io::Result<Answer>, Vec<CensusRow>) {
    let mut rows = Vec::new();
    let mut sink = |piece: Piece| {
        rows.extend(piece.rows);
        ControlFlow::Continue(())
    };
    let mut pieces = Pieces { piece: Piece::default(), total: 0, is_over: false, sink: &mut sink };
    let answer = read_messages(bytes, 1, NETNS, &mut pieces);
    pieces.flush();
    (answer, rows)
}

#[test]
fn a_timewait_socket_is_read_whole() {
    let (row, inode) = row(&diag(AF_INET, TCP_TIME_WAIT, 3, v4(1), v4(2)), NETNS).unwrap();
    let tuple = Tuple {
        netns: NETNS,
        local_addr: Ipv4Addr::new(127, 0, 0, 1).into(),
        local_port: 40000,
        remote_addr: Ipv4Addr::new(127, 0, 0, 2).into(),
        remote_port: 443,
        v4_mapped: false,
    };
    assert_eq!(
        row,
        CensusRow { cookie: 0x1_0000_ea43, tuple, state: CensusState::TimeWait, expires_ms: 59_000, backlog: 0 }
    );
    assert_eq!(inode, 4711);
}

#[test]
fn states_are_distinguished() {
    let tuple = |local_port, remote_port| Tuple {
        netns: NETNS,
        local_addr: Ipv4Addr::LOCALHOST.into(),
        local_port,
        remote_addr: Ipv4Addr::LOCALHOST.into(),
        remote_port,
        v4_mapped: false,
    };
    for (state, timer, expected) in [
        (TCP_TIME_WAIT, 3, Some(CensusState::TimeWait)),
        (TCP_FIN_WAIT2, 3, Some(CensusState::TimewaitFinWait2)),
        (TCP_FIN_WAIT2, 0, Some(CensusState::FinWait2)),
        (TCP_FIN_WAIT2, 2, Some(CensusState::FinWait2)),
        (TCP_ESTABLISHED, 0, Some(CensusState::Established)),
        (TCP_CLOSE_WAIT, 0, Some(CensusState::CloseWait)),
        (2, 1, Some(CensusState::SynSent)),
        (4, 1, Some(CensusState::FinWait1)),
        (9, 1, Some(CensusState::LastAck)),
        (11, 1, Some(CensusState::Open)),
        (12, 1, Some(CensusState::Open)),
        (TCP_LISTEN, 0, Some(CensusState::Listen)),
        (TCP_CLOSE, 0, None),
        (BOUND_INACTIVE, 0, None),
        (0, 0, None),
    ] {
        assert_eq!(census_state(state, timer, &tuple(1, 2), 7), expected, "state {state} timer {timer}");
    }
    for state in [TCP_CLOSE, BOUND_INACTIVE] {
        assert_eq!(census_state(state, 0, &tuple(1, 0), 7), Some(CensusState::Bound));
        assert_eq!(census_state(state, 0, &tuple(0, 0), 7), None, "a socket without a port was not asked for");
    }
    // Not accepted yet.
    let queued = |state| census_state(state, 0, &tuple(1, 2), 0);
    assert_eq!(queued(TCP_ESTABLISHED), Some(CensusState::Queued));
    assert_eq!(queued(TCP_CLOSE_WAIT), Some(CensusState::QueuedCloseWait));
    assert_eq!(queued(TCP_FIN_WAIT2), Some(CensusState::FinWait2), "closed, not queued");
}

#[test]
fn expiry_is_for_timewait_sockets_alone() {
    assert_eq!(row(&diag(AF_INET, 1, 2, v4(1), v4(2)), NETNS).unwrap().0.expires_ms, 0);
}

#[test]
fn mapped_addresses_become_ipv4() {
    let connected = row(&diag(AF_INET6, TCP_TIME_WAIT, 3, mapped(1), mapped(2)), NETNS).unwrap().0.tuple;
    assert!(connected.v4_mapped && connected.local_addr.is_ipv4() && connected.remote_addr.is_ipv4());

    let listener = row(&diag(AF_INET6, TCP_LISTEN, 0, mapped(1), [0; 16]), NETNS).unwrap().0.tuple;
    assert_eq!(listener.remote_addr, IpAddr::from(Ipv4Addr::UNSPECIFIED));

    let wildcard = row(&diag(AF_INET6, TCP_LISTEN, 0, [0; 16], [0; 16]), NETNS).unwrap().0.tuple;
    assert!(!wildcard.v4_mapped && wildcard.local_addr.is_ipv6());
}

#[test]
fn damage_is_reported_and_never_panics() {
    let good = message(SOCK_DIAG_BY_FAMILY, 0, 1, &diag(AF_INET, TCP_TIME_WAIT, 3, v4(1), v4(2)));
    for cut in 1..good.len() {
        let (answer, rows) = read(&good[..cut]);
        assert_eq!((answer.unwrap(), rows.len()), (Answer { done: false, whole: false }, 0), "cut at {cut}");
    }
    let short = message(SOCK_DIAG_BY_FAMILY, 0, 1, &[AF_INET; 10]);
    assert!(!read(&short).0.unwrap().whole);
    let family = message(SOCK_DIAG_BY_FAMILY, 0, 1, &diag(99, TCP_TIME_WAIT, 3, v4(1), v4(2)));
    assert!(!read(&family).0.unwrap().whole);
    assert!(!read(&[0xff; 64]).0.unwrap().whole);
    assert!(!read(&[0; 64]).0.unwrap().whole);
}

#[test]
fn interruption_and_overrun_make_it_incomplete() {
    let diag = diag(AF_INET, TCP_TIME_WAIT, 3, v4(1), v4(2));
    let mut bytes = message(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP_INTR, 1, &diag);
    bytes.extend(message(NLMSG_DONE, 0, 1, &[0; 4]));
    let (answer, rows) = read(&bytes);
    assert_eq!((answer.unwrap(), rows.len()), (Answer { done: true, whole: false }, 1));
    assert!(!read(&message(NLMSG_OVERRUN, 0, 1, &[])).0.unwrap().whole);
}

#[test]
fn another_dumps_messages_are_skipped() {
    let diag = diag(AF_INET, TCP_TIME_WAIT, 3, v4(1), v4(2));
    let (answer, rows) = read(&message(SOCK_DIAG_BY_FAMILY, 0, 9, &diag));
    assert_eq!((answer.unwrap(), rows.len()), (Answer { done: false, whole: true }, 0));
}

#[test]
fn a_missing_tcp_diag_is_named_wherever_the_kernel_says_it() {
    for kind in [NLMSG_ERROR, NLMSG_DONE] {
        let error = read(&message(kind, 0, 1, &(-libc::ENOENT).to_ne_bytes())).0.unwrap_err();
        assert!(error.to_string().contains("modprobe tcp_diag"), "{error}");
    }
}

#[test]
fn this_kernel_lists_a_timewait_socket_a_peer_and_a_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let client_port = client.local_addr().unwrap().port();
    let (server, _) = listener.accept().unwrap();
    // The server closes first and so gets the TIME_WAIT socket; the second client stays open.
    server.shutdown(std::net::Shutdown::Both).unwrap();
    drop(server);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    drop(client);
    let open = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let open_port = open.local_addr().unwrap().port();

    let mut rows = Vec::new();
    let mut largest = 0;
    let report = dump(NETNS, &mut |piece| {
        largest = largest.max(piece.rows.len());
        assert_eq!(piece.rows.len(), piece.inodes.len());
        rows.extend(piece.rows);
    })
    .unwrap();
    assert!(report.complete && largest <= PIECE_ROWS);
    assert_eq!(report.rows, rows.len() as u64);
    let find = |local, remote| {
        rows.iter().find(|row: &&CensusRow| row.tuple.local_port == local && row.tuple.remote_port == remote).copied()
    };
    let timewait = find(port, client_port).unwrap();
    assert_eq!(timewait.state, CensusState::TimeWait);
    assert!((1..=60_000).contains(&timewait.expires_ms), "{timewait:?}");
    assert!(timewait.cookie != 0 && timewait.tuple.netns == NETNS);
    assert_eq!(find(open_port, port).unwrap().state, CensusState::Established);
    assert_eq!(find(port, 0).unwrap().state, CensusState::Listen);
}

#[test]
fn a_sink_that_wants_no_more_ends_the_dump() {
    let (row, inode) = row(&diag(AF_INET, TCP_TIME_WAIT, 3, v4(1), v4(2)), NETNS).unwrap();
    let mut handed_over = 0;
    let mut sink = |piece: Piece| {
        handed_over += piece.rows.len();
        ControlFlow::Break(())
    };
    let mut pieces = Pieces { piece: Piece::default(), total: 0, is_over: false, sink: &mut sink };
    for _ in 1..PIECE_ROWS {
        pieces.push(row, inode);
    }
    assert!(!pieces.is_over, "nothing was handed over yet");
    pieces.push(row, inode);
    assert!(pieces.is_over);
    assert_eq!(handed_over, PIECE_ROWS);
}

#[test]
fn an_accepted_mapped_connection_is_listed_as_ipv4() {
    // A host without IPv6 has no such sockets.
    let Ok(listener) = TcpListener::bind("[::]:0") else { return };
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let client_port = client.local_addr().unwrap().port();
    let (_server, _) = listener.accept().unwrap();
    let mut tuples = Vec::new();
    dump(NETNS, &mut |piece| tuples.extend(piece.rows.into_iter().map(|row| row.tuple))).unwrap();
    let ours = |local, remote| {
        tuples.iter().find(|tuple: &&Tuple| tuple.local_port == local && tuple.remote_port == remote).copied().unwrap()
    };
    let (server, client) = (ours(port, client_port), ours(client_port, port));
    assert!(server.v4_mapped && !client.v4_mapped);
    assert_eq!((server.local_addr, server.remote_addr), (client.remote_addr, client.local_addr));
}

#[test]
fn this_kernel_reports_each_state_and_its_inode() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let pair = || {
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        (listener.accept().unwrap().0, client)
    };
    let (server, client) = pair();
    let (mut half_server, mut half_client) = pair();
    half_client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(half_server.read(&mut [0; 1]).unwrap(), 0);
    // The answer acknowledges the FIN, which alone may take a while.
    half_server.write_all(&[1]).unwrap();
    assert_eq!(half_client.read(&mut [0; 1]).unwrap(), 1);
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let bound_port = bound.local_addr().unwrap().port();

    let mut found = Vec::new();
    assert!(dump(NETNS, &mut |piece| found.extend(piece.rows.into_iter().zip(piece.inodes))).unwrap().complete);
    let find = |local, remote| {
        let mut found = found.iter();
        let found = found.find(|(row, _)| row.tuple.local_port == local && row.tuple.remote_port == remote);
        found.map(|(row, inode)| (row.state, row.expires_ms, u64::from(*inode)))
    };
    let inode = |fd: i32| std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino();
    let port_of = |stream: &TcpStream| stream.local_addr().unwrap().port();
    let (open, half) = (port_of(&client), port_of(&half_client));
    for (local, remote, state, fd) in [
        (port, 0, CensusState::Listen, listener.as_raw_fd()),
        (port, open, CensusState::Established, server.as_raw_fd()),
        (open, port, CensusState::Established, client.as_raw_fd()),
        (port, half, CensusState::CloseWait, half_server.as_raw_fd()),
        (half, port, CensusState::FinWait2, half_client.as_raw_fd()),
    ] {
        assert_eq!(find(local, remote), Some((state, 0, inode(fd))));
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let is_reported = super::super::probe::kernel_version(&release) >= Some((6, 8));
    let expected = (CensusState::Bound, 0, inode(bound.as_raw_fd()));
    assert_eq!(find(bound_port, 0), is_reported.then_some(expected));
}

#[test]
fn one_walk_lists_what_two_do() {
    let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    // A host without IPv6 lists one family.
    let v6 = TcpListener::bind("[::1]:0").ok();
    let ports: Vec<u16> =
        [Some(&v4), v6.as_ref()].into_iter().flatten().map(|at| at.local_addr().unwrap().port()).collect();
    let listed = || {
        let mut found = Vec::new();
        let report = dump(NETNS, &mut |piece| found.extend(piece.rows)).unwrap();
        found.retain(|row| ports.contains(&row.tuple.local_port) && row.state == CensusState::Listen);
        found.sort_by_key(|row| row.tuple.local_port);
        (report.complete, found)
    };
    let both = listed();
    assert!(!BOTH_REFUSED.load(Relaxed), "this kernel answers the old request");
    assert_eq!((both.0, both.1.len()), (true, ports.len()));
    BOTH_REFUSED.store(true, Relaxed);
    let each = listed();
    BOTH_REFUSED.store(false, Relaxed);
    assert_eq!(both, each);
}
