//! Connections that kernel threads open or close.

use crate::common::*;
use twtrace_core::event::{Connection, Owner, Role, Tuple};
use twtrace_core::snapshot::{GroupBy, Provenance};

const T: u64 = START + SECOND;

/// PID of the parent of all kernel threads.
const KTHREADD: u32 = 2;

#[test]
fn what_a_kernel_thread_closes_counts_for_the_opener() {
    let worker = Owner { kthread: true, ..owner(20, "kworker/0:0") };
    let closed = |opener, closer, cookie: u64| {
        let whole = connection(cookie, closer, tuple(40_000 + cookie as u16, 1, 80), T);
        ended(Connection { opener, closer: Some(closer), ..whole })
    };
    let client = Some(owner(10, "client"));
    let engine = engine([start(), closed(client, worker, 1), closed(None, worker, 2), closed(Some(worker), worker, 3)]);
    let snapshot = engine.snapshot();
    let rows = snapshot.rows(GroupBy::Pid);
    let ours = rows.iter().find(|row| row.owner.is_some_and(|owner| owner.key.tgid == 10)).unwrap();
    assert_eq!(ours.counts.time_wait_created, 1);
    let by_cookie = |cookie| snapshot.sockets().iter().find(|socket| socket.cookie == cookie).unwrap();
    let closer = |cookie| by_cookie(cookie).closer.map(|owner| owner.key.tgid);
    assert_eq!((closer(1), closer(2), closer(3)), (Some(10), None, Some(KTHREADD)));
    assert_eq!((by_cookie(1).known, by_cookie(3).known), (Provenance::Inferred, Provenance::Exact));
}

#[test]
fn the_kernels_own_connections_count_for_their_service() {
    let thread = |pid, comm| Owner { kthread: true, ..owner(pid, comm) };
    let own = |opener, closer, cookie: u64, role, (local, remote): (u16, u16)| {
        let tuple = Tuple { local_port: local, ..tuple(40_000, 1, remote) };
        ended(Connection { opener: Some(opener), role, ..connection(cookie, closer, tuple, T) })
    };
    let workers = [thread(20, "kworker/0:0"), thread(21, "kworker/1:2H"), thread(22, "kworker/u8:1")];
    let engine = engine([
        start(),
        own(workers[0], workers[1], 1, Role::Active, (700, 2049)),
        own(workers[2], workers[0], 2, Role::Active, (701, 2049)),
        own(workers[0], workers[0], 3, Role::Active, (2049, 3260)),
        own(thread(30, "nfsd"), workers[2], 4, Role::Passive, (2049, 900)),
        own(thread(31, "lockd"), thread(31, "lockd"), 5, Role::Passive, (40_123, 901)),
        own(thread(32, "ksmbd:r445"), thread(33, "ksmbd:r446"), 6, Role::Passive, (445, 50_000)),
        own(workers[0], workers[2], 7, Role::Active, (700, 5000)),
        // A process ends what a worker began: an additional subflow of MPTCP.
        own(workers[0], owner(10, "client"), 8, Role::Active, (40_001, 80)),
        connect_failed(workers[1], tuple(0, 1, 2049), 99, T),
    ]);
    let snapshot = engine.snapshot();
    let mut rows: Vec<(String, u32, u64, u64)> = snapshot
        .rows(GroupBy::Pid)
        .iter()
        .filter_map(|row| {
            let owner = row.owner?;
            let name = String::from_utf8_lossy(owner.comm.bytes()).into_owned();
            Some((name, owner.key.tgid, row.counts.time_wait_created, row.counts.opened))
        })
        .collect();
    rows.sort();
    let expected = [
        ("client", 10, 1, 0),
        ("kernel", KTHREADD, 1, 2),
        ("kernel:iscsi", KTHREADD, 1, 1),
        ("kernel:lockd", KTHREADD, 1, 0),
        // One of its connects failed.
        ("kernel:nfs", KTHREADD, 3, 2),
        ("kernel:smb", KTHREADD, 1, 0),
    ];
    assert_eq!(rows, expected.map(|(name, pid, created, opened)| (name.to_owned(), pid, created, opened)));
}
