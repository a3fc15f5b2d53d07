#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, symlink};

const NETNS: u32 = 7;
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const RANGE: (u16, u16) = (32_768, 60_999);

fn open(inode: u32, local_port: u16, remote: (IpAddr, u16), state: CensusState) -> OpenSocket {
    let (remote_addr, remote_port) = remote;
    let tuple = Tuple { netns: NETNS, local_addr: LOCAL, local_port, remote_addr, remote_port, v4_mapped: false };
    OpenSocket { inode, tuple, state }
}

fn question(open: Vec<OpenSocket>) -> Question {
    vec![Arc::new(Sockets { port_range: RANGE, open, cut: false })]
}

/// A `/proc` for the test: processes with the link targets of their descriptors, counted from 0.
fn proc_with(processes: &[(u32, &str, &[&str])]) -> tempfile::TempDir {
    let proc = tempfile::tempdir().unwrap();
    for (pid, name, links) in processes {
        let folder = proc.path().join(pid.to_string());
        fs::create_dir_all(folder.join("fd")).unwrap();
        let tail = "S 1 2 2 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0";
        fs::write(folder.join("stat"), format!("{pid} ({name}) {tail} {} 9\n", pid * 10)).unwrap();
        fs::write(folder.join("status"), "Name:\tx\nUmask:\t0022\nUid:\t1000\t0\t0\t0\n").unwrap();
        for (number, link) in links.iter().enumerate() {
            symlink(link, folder.join("fd").join(number.to_string())).unwrap();
        }
    }
    fs::create_dir(proc.path().join("self")).unwrap();
    proc
}

/// Of a row: process, state, local port, remote side, count.
type Short = (u32, CensusState, u16, (IpAddr, u16), u64);

fn short(found: &Found) -> Vec<Short> {
    let row = |it: &SocketOwner| (it.tgid, it.state, it.local_port, (it.remote_addr, it.remote_port), it.sockets);
    found.rows.iter().map(row).collect()
}

#[test]
fn sockets_are_counted_by_process_state_and_service() {
    let proc = proc_with(&[
        (20, "server", &["socket:[1]", "/dev/null", "socket:[2]", "socket:[3]", "socket:[4]"]),
        // One socket with two descriptors, one that was not asked for, and one that is shared with the server.
        (30, "client) S 1 (x", &["socket:[5]", "socket:[5]", "socket:[99]", "socket:[6]", "socket:[7]", "socket:[2]"]),
        (40, "none", &["pipe:[5]", "socket:[x]", "socket:[]", "anon_inode:[eventpoll]"]),
    ]);
    let established = CensusState::Established;
    let question = question(vec![
        open(1, 80, (NOWHERE, 0), CensusState::Listen),
        open(2, 80, (PEER, 40_001), established),
        open(3, 80, (PEER, 40_002), established),
        open(4, 80, (PEER, 40_003), CensusState::CloseWait),
        open(5, 40_001, (PEER, 443), established),
        open(6, 40_002, (PEER, 443), established),
        open(7, 5555, (NOWHERE, 0), CensusState::Bound),
        open(8, 40_009, (PEER, 443), established),
    ]);
    let found = search(proc.path(), &question, LIMITS);
    assert!(found.complete);
    assert_eq!(
        short(&found),
        [
            (20, CensusState::Established, 80, (NOWHERE, 0), 2),
            (30, CensusState::Established, 0, (PEER, 443), 2),
            (20, CensusState::CloseWait, 80, (NOWHERE, 0), 1),
            (20, CensusState::Listen, 80, (NOWHERE, 0), 1),
            (30, CensusState::Established, 80, (NOWHERE, 0), 1),
            (30, CensusState::Bound, 5555, (NOWHERE, 0), 1),
        ]
    );
    let client = &found.rows[1];
    assert_eq!((client.command.as_str(), client.uid, client.netns), ("client) S 1 (x", 1000, NETNS));
    assert_eq!((client.start_ns, client.local_addr), (300 * process::ns_per_tick(), LOCAL));
}

#[test]
fn the_side_with_a_chosen_port_is_not_the_service() {
    let listening = HashSet::from([(LOCAL, 8080), (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 9090), (PEER, 50_000)]);
    for (local_port, remote_port, is_accepted) in [
        (8080, 40_000, true),
        (9090, 443, true),
        (40_000, 443, false),
        // No process listens any more.
        (443, 40_000, true),
        (40_000, 40_001, false),
        (1000, 443, false),
        // The process chose its own port.
        (1000, 50_000, false),
    ] {
        let socket = open(1, local_port, (PEER, remote_port), CensusState::Open);
        let kind = kind(&socket, &listening, RANGE);
        let expected = if is_accepted { (local_port, NOWHERE, 0) } else { (0, PEER, remote_port) };
        assert_eq!((kind.local_port, kind.remote_addr, kind.remote_port), expected, "{local_port} {remote_port}");
    }
}

#[test]
fn what_stops_at_a_limit_says_so() {
    let proc = proc_with(&[
        (20, "a", &["socket:[1]", "socket:[2]"]),
        (30, "b", &["socket:[1]", "socket:[2]", "socket:[3]"]),
        (40, "c", &["socket:[3]"]),
    ]);
    let sockets = |range: std::ops::RangeInclusive<u16>| {
        let each = |port: u16| open(port.into(), 40_000, (PEER, port), CensusState::Established);
        question(range.map(each).collect())
    };
    let all = search(proc.path(), &sockets(1..=3), LIMITS);
    assert_eq!((all.complete, all.rows.len()), (true, 6));
    for limits in [
        Limits { processes: 2, ..LIMITS },
        Limits { descriptors: 2, ..LIMITS },
        Limits { looks: 5, ..LIMITS },
        Limits { groups: 5, ..LIMITS },
        Limits { rows: 5, ..LIMITS },
    ] {
        let some = search(proc.path(), &sockets(1..=3), limits);
        assert!(!some.complete && (4..6).contains(&some.rows.len()), "{limits:?}: {:?}", some.rows);
        assert!(some.rows.iter().all(|row| limits.processes < 3 || all.rows.contains(row)), "{limits:?}");
    }
    let cut = vec![Arc::new(Sockets { cut: true, ..Sockets::default() })];
    assert!(!search(proc.path(), &cut, LIMITS).complete);
    // A process that cannot be read counts as left out; one that is gone does not.
    let file = proc.path().join("50");
    fs::create_dir(&file).unwrap();
    assert!(search(proc.path(), &sockets(1..=3), LIMITS).complete);
    fs::write(file.join("fd"), "").unwrap();
    assert!(!search(proc.path(), &sockets(1..=3), LIMITS).complete);
    assert!(!search(&proc.path().join("none"), &sockets(1..=3), LIMITS).complete);
    // With nothing to search for, no process is read.
    assert!(search(&proc.path().join("none"), &[], LIMITS).complete);
}

#[test]
fn damaged_files_name_no_process() {
    for (stat, status, is_named) in [
        ("20 (x) S 1 2 2 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 5 9", "Uid:\t1\t2", true),
        ("20 (x) S 1", "Uid:\t1\t2", false),
        ("", "Uid:\t1\t2", false),
        (")(", "Uid:\t1\t2", false),
        ("20 (x) S 1 2 2 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 5 9", "Name:\tUid:\t7", false),
        ("20 (x) S 1 2 2 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 5 9", "Uid:\t99999999999", false),
    ] {
        let proc = proc_with(&[(20, "x", &["socket:[1]"])]);
        fs::write(proc.path().join("20/stat"), stat).unwrap();
        fs::write(proc.path().join("20/status"), status).unwrap();
        let found = search(proc.path(), &question(vec![open(1, 1, (PEER, 2), CensusState::Open)]), LIMITS);
        assert_eq!(found.rows.len(), usize::from(is_named), "{stat:?} {status:?}");
    }
    for (link, expected) in [
        (b"socket:[12]".as_slice(), Some(12)),
        (b"socket:[99999999999]", None),
        (b"socket:[]", None),
        (b"socket:[1", None),
        (b"socket:[\xff]", None),
        (b"", None),
    ] {
        assert_eq!(socket(link), expected, "{link:?}");
    }
    assert_eq!(command(b"1 (\xff) S").unwrap(), "\u{fffd}");
    assert_eq!(command(b"1 (kworker/u16:3-events_unbound) S").unwrap().len(), MAX_COMM);
}

#[test]
fn this_process_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let again = client.try_clone().unwrap();
    let inode = |fd: i32| fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino() as u32;
    use std::os::fd::AsRawFd as _;
    let question = question(vec![
        open(inode(listener.as_raw_fd()), port, (NOWHERE, 0), CensusState::Listen),
        open(inode(client.as_raw_fd()), 1, (LOCAL, port), CensusState::Established),
    ]);
    let mut searcher = Searcher::start().unwrap();
    assert_eq!((searcher.is_busy(), searcher.answer(Duration::from_secs(60))), (false, None));
    searcher.ask(question.clone());
    assert!(searcher.is_busy());
    // One at a time.
    searcher.ask(Vec::new());
    let found = searcher.answer(Duration::from_secs(60)).unwrap();
    assert!(!searcher.is_busy() && found.ended_ns > 0 && found.spent_ns > 0);
    // Children of other tests may have the same descriptors for a moment.
    let own: Vec<_> = short(&found).into_iter().filter(|row| row.0 == std::process::id()).collect();
    let own_state: Vec<_> = own.iter().map(|row| (row.1, row.2, row.3, row.4)).collect();
    assert_eq!(
        own_state,
        [(CensusState::Established, 0, (LOCAL, port), 1), (CensusState::Listen, port, (NOWHERE, 0), 1)]
    );
    drop(again);
}
