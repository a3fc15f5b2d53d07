//! Which process owns the open sockets, against processes that report what they have.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use twtrace_core::event::{CensusState, Event, SocketOwner};
use twtrace_core::source::Source as _;
use twtrace_probe::kernel::load::LoadOptions;
use twtrace_probe::source::kernel_source::{KernelSource, KernelSourceOptions};
use twtrace_tests::top::quiet_place;
use twtrace_tests::tracer::{PUMP, Place, program};
use twtrace_tests::workload::{OpenSockets, Who};

const PATIENCE: Duration = Duration::from_secs(60);

/// A process of the generator that keeps sockets open until it is killed.
struct Opener(Child);

impl Drop for Opener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn keep_open(place: &Place, arguments: &[&str]) -> (Opener, OpenSockets) {
    let mut command = Command::new(program("twtrace-workload"));
    command.arg("keep-open").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = place.spawn(command);
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    let opener = Opener(child);
    BufReader::new(output).read_line(&mut line).unwrap();
    (opener, serde_json::from_str(&line).unwrap())
}

/// Waits until a process has this many sockets: a connection is established before its server has accepted it.
fn await_sockets(pid: u32, sockets: usize) {
    let has = || {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let links = links.filter_map(|link| fs::read_link(link.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    let began = Instant::now();
    while has() != sockets {
        assert!(began.elapsed() < PATIENCE, "{} sockets, not {sockets}", has());
        thread::sleep(Duration::from_millis(10));
    }
}

fn netns(place: &Place) -> u32 {
    place.netns() as u32
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The expected row of a process.
fn row(who: &Who, netns: u32, state: CensusState, local_port: u16, remote: (IpAddr, u16), sockets: u64) -> SocketOwner {
    SocketOwner {
        tgid: who.pid,
        start_ns: who.start_ticks * 10_000_000,
        command: who.comm.clone(),
        uid: who.uid,
        netns,
        state,
        local_addr: LOCAL,
        local_port,
        remote_addr: remote.0,
        remote_port: remote.1,
        sockets,
    }
}

/// The last search's rows of a namespace, sorted.
fn last_search(events: &[Event], netns: u32) -> Option<Vec<SocketOwner>> {
    let last = events.iter().rev().find_map(|event| match event {
        Event::SocketOwners { rows, .. } => Some(rows),
        _ => None,
    })?;
    let mut rows: Vec<SocketOwner> = last.iter().filter(|row| row.netns == netns).cloned().collect();
    rows.sort_by_key(|row| (row.tgid, row.state));
    Some(rows)
}

#[test]
fn each_process_owns_the_sockets_that_it_reports() {
    let place = quiet_place();
    let netns = netns(&place);
    let (_listening, server) = keep_open(&place, &["--listen"]);
    let address = server.address.to_string();
    let (_connected, client) = keep_open(&place, &["--connect", &address, "--connections", "3"]);
    let (_shared, sharing) = keep_open(&place, &["--connect", &address, "--connections", "2", "--share"]);
    let child = sharing.child.clone().unwrap();
    let port = server.address.port();
    let to_server = |who: &Who, sockets| row(who, netns, CensusState::Established, 0, (LOCAL, port), sockets);
    let mut expected = vec![
        row(&server.who, netns, CensusState::Established, port, (NOWHERE, 0), 5),
        row(&server.who, netns, CensusState::Listen, port, (NOWHERE, 0), 1),
        to_server(&client.who, 3),
        to_server(&sharing.who, 2),
        to_server(&child, 2),
    ];
    expected.sort_by_key(|row| (row.tgid, row.state));

    // The tracer is in the namespace of the host, so it searches another one.
    let mut live = KernelSource::start(&KernelSourceOptions::default()).unwrap();
    let mut events = Vec::new();
    let began = Instant::now();
    while last_search(&events, netns).as_ref() != Some(&expected) {
        assert!(began.elapsed() < PATIENCE, "not {expected:#?} but {:#?}", last_search(&events, netns));
        live.pump(&mut |event| events.push(event)).unwrap();
        thread::sleep(PUMP);
    }

    // The last search includes what has happened since.
    drop(_connected);
    let half = place.run(move || {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream
    });
    // The listener, and every connection so far: it closes none.
    await_sockets(server.who.pid, 1 + 5 + 1);
    events.clear();
    live.final_pump(&mut |event| events.push(event)).unwrap();
    let rows = last_search(&events, netns).unwrap();
    let of = |pid: u32, state: CensusState| {
        rows.iter().filter(|row| row.tgid == pid && row.state == state).map(|row| row.sockets).sum::<u64>()
    };
    // In CLOSE_WAIT: the server's three connections with the client that was killed, and the one that was shut down.
    assert_eq!(
        (of(server.who.pid, CensusState::Established), of(server.who.pid, CensusState::CloseWait)),
        (2, 4),
        "{rows:#?}"
    );
    assert_eq!(
        (of(client.who.pid, CensusState::Established), of(child.pid, CensusState::Established)),
        (0, 2),
        "{rows:#?}"
    );
    assert_eq!(
        of(std::process::id(), CensusState::FinWait2) + of(std::process::id(), CensusState::Open),
        1,
        "{rows:#?}"
    );
    drop(half);
}

#[test]
fn short_trace_includes_a_search() {
    let place = quiet_place();
    let (_listening, server) = keep_open(&place, &["--listen"]);
    let mut events = Vec::new();
    let mut live = KernelSource::start(&KernelSourceOptions::default()).unwrap();
    live.final_pump(&mut |event| events.push(event)).unwrap();
    let rows = last_search(&events, netns(&place)).unwrap();
    assert_eq!(rows, [row(&server.who, netns(&place), CensusState::Listen, server.address.port(), (NOWHERE, 0), 1)]);
}

/// Processes, and connections of each: the server may have a thousand descriptors.
const MANY: usize = 40;
const EACH: usize = 20;

#[test]
fn search_loses_no_records() {
    let place = quiet_place();
    let (_listening, server) = keep_open(&place, &["--listen"]);
    let address = server.address.to_string();
    let each = EACH.to_string();
    let arguments = ["--connect", &address, "--connections", &each, "--share"];
    let _openers: Vec<_> = (0..MANY).map(|_| keep_open(&place, &arguments)).collect();
    // Room for what comes while the reader gets no processor, but far from enough for the whole load.
    let load = LoadOptions { ring_bytes: Some(64 << 20), ..LoadOptions::default() };
    let mut live = KernelSource::start(&KernelSourceOptions { load, ..Default::default() }).unwrap();
    let mut command = Command::new(program("twtrace-workload"));
    command.args(["churn", "--processes", "2", "--connections"]).arg(twtrace_tests::top::load("60000"));
    let mut churn = place.spawn({
        command.stdout(Stdio::null());
        command
    });
    let (mut counters, mut searches, mut longest) = (None, Vec::new(), Duration::ZERO);
    let mut see = |event| match event {
        Event::Counters(latest) => counters = Some(latest),
        Event::SocketOwners { rows, .. } => searches.push(rows.iter().map(|row| row.sockets).sum::<u64>()),
        _ => {}
    };
    let began = Instant::now();
    while churn.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < 2 * PATIENCE, "the generator does not end");
        let began = Instant::now();
        live.pump(&mut see).unwrap();
        longest = longest.max(began.elapsed());
        thread::sleep(PUMP);
    }
    live.final_pump(&mut see).unwrap();
    let counters = counters.unwrap();
    println!("searches of {searches:?} sockets, {} records, the longest pump {longest:?}", counters.records);
    // Each client and its child, and the server.
    assert!(searches.iter().any(|sockets| *sockets >= 3 * (EACH * MANY) as u64), "{searches:?}");
    assert_eq!(counters.ring_full, 0, "{counters:?}");
    assert!(counters.records > 0);
}
