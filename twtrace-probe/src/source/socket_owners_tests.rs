#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::source::meanwhile::NoRecords;
use twtrace_core::event::{CensusRow, CensusState, Tuple};
use twtrace_core::netns::NetnsIds;

fn piece(netns: u32, sockets: impl IntoIterator<Item = (u32, CensusState)>) -> Piece {
    let mut piece = Piece::default();
    for (inode, state) in sockets {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let tuple =
            Tuple { netns, local_addr: address, local_port: 1, remote_addr: address, remote_port: 2, v4_mapped: false };
        piece.rows.push(CensusRow { cookie: inode.into(), tuple, state, expires_ms: 0, backlog: 0 });
        piece.inodes.push(inode);
    }
    piece
}

fn take(open_sockets: &mut OpenSockets, netns: u32, sockets: impl IntoIterator<Item = (u32, CensusState)>) {
    open_sockets.begin();
    open_sockets.add(&piece(netns, sockets));
    open_sockets.end(netns, true);
}

fn inodes(open_sockets: &OpenSockets, netns: u32) -> Vec<u32> {
    open_sockets.by_netns.get(&netns).unwrap().open.iter().map(|socket| socket.inode).collect()
}

#[test]
fn the_last_census_of_each_namespace_is_kept() {
    let mut open_sockets = OpenSockets::default();
    open_sockets.know_ports(1, (1000, 2000));
    let open = CensusState::Established;
    take(&mut open_sockets, 1, [(10, open), (0, open), (11, CensusState::TimeWait), (12, CensusState::Listen)]);
    take(&mut open_sockets, 2, [(20, CensusState::Bound)]);
    assert_eq!((inodes(&open_sockets, 1), inodes(&open_sockets, 2), open_sockets.count), (vec![10, 12], vec![20], 3));
    assert_eq!(open_sockets.by_netns.get(&1).unwrap().port_range, (1000, 2000));
    // A search has the old ones.
    let asked = open_sockets.by_netns.get(&1).unwrap().clone();
    open_sockets.know_ports(1, (3000, 4000));
    take(&mut open_sockets, 1, [(13, open)]);
    assert_eq!((inodes(&open_sockets, 1), asked.open.len(), asked.port_range.0), (vec![13], 2, 1000));
    assert_eq!(open_sockets.by_netns.get(&1).unwrap().port_range, (3000, 4000));
    // A failed census says nothing.
    open_sockets.begin();
    open_sockets.add(&piece(1, [(14, open)]));
    open_sockets.end(1, false);
    assert_eq!((inodes(&open_sockets, 1), open_sockets.count), (vec![13], 2));
    open_sockets.forget(1);
    open_sockets.forget(1);
    assert_eq!((open_sockets.by_netns.len(), open_sockets.count), (1, 1));
}

#[test]
fn too_many_are_cut_and_it_is_said() {
    let mut open_sockets = OpenSockets::default();
    let many = |from: u32, count: usize| (from..from + count as u32).map(|inode| (inode, CensusState::Established));
    take(&mut open_sockets, 1, many(1, MAX_SOCKETS - 1));
    assert!(!open_sockets.by_netns.get(&1).unwrap().cut);
    take(&mut open_sockets, 2, many(1 << 20, 2));
    assert_eq!((inodes(&open_sockets, 2).len(), open_sockets.count), (1, MAX_SOCKETS));
    assert!(open_sockets.by_netns.get(&2).unwrap().cut);
    // There is room again.
    take(&mut open_sockets, 1, many(1, 5));
    take(&mut open_sockets, 2, many(1 << 20, 2));
    assert!(open_sockets.count == 7 && !open_sockets.by_netns.get(&2).unwrap().cut);
    take(&mut open_sockets, 1, many(1, MAX_SOCKETS + 1));
    assert!(open_sockets.by_netns.get(&1).unwrap().cut);
}

#[test]
fn searches_keep_their_distance() {
    let mut search = OwnerSearch::start().unwrap();
    let mut events = Vec::new();
    let found = |ended_ns, spent_ns| Found { rows: Vec::new(), complete: true, ended_ns, spent_ns };
    for (ended_ns, spent_ns, next_ns) in
        [(1_000_000_000, 1_000_000, PAUSE_NS), (1_000_000_000, 200_000_000, 11_000_000_000), (7, u64::MAX, u64::MAX)]
    {
        search.hand_over(found(ended_ns, spent_ns), &mut |event| events.push(event));
        assert_eq!(search.next_ns, next_ns);
        assert_eq!(events.pop(), Some(Event::SocketOwners { at_ns: ended_ns, complete: true, rows: Vec::new() }));
    }
    // Not yet.
    search.go_on(&OpenSockets::default(), u64::MAX - 1);
    assert!(!search.searcher.is_busy());
}

/// Counts how often it is drained.
#[derive(Default)]
struct Waiting {
    times: u32,
    ids: NetnsIds,
}

impl Meanwhile for Waiting {
    fn drain(&mut self, _: &mut dyn FnMut(Event)) {
        self.times += 1;
    }

    fn ids(&mut self) -> &mut NetnsIds {
        &mut self.ids
    }
}

#[test]
fn the_last_search_is_of_what_was_gathered_last() {
    let mut search = OwnerSearch::start().unwrap();
    let mut open_sockets = OpenSockets::default();
    search.go_on(&open_sockets, 0);
    assert!(search.searcher.is_busy(), "the first one begins at once");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = {
        use std::os::fd::AsRawFd as _;
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap().ino() as u32
    };
    take(&mut open_sockets, 1, [(inode, CensusState::Listen)]);
    let (mut events, mut waiting) = (Vec::new(), Waiting::default());
    let mut censuses = Censuses::until(super::super::deadline::Deadline::default());
    censuses.open_sockets = open_sockets;
    search.last(&censuses, &mut |event| events.push(event), &mut waiting).unwrap();
    assert!(waiting.times > 0);
    let Some(Event::SocketOwners { rows, .. }) = events.last() else { panic!("{events:?}") };
    assert!(rows.iter().any(|row| row.tgid == std::process::id() && row.sockets == 1), "{rows:?}");
    assert_eq!(events.len(), 2);

    // After a deadline has passed, no search is started.
    censuses.deadline.set(Duration::ZERO);
    search.last(&censuses, &mut |event| events.push(event), &mut NoRecords::default()).unwrap();
    assert_eq!(events.len(), 2);
}
