//! `twtrace record` on the running kernel: what it writes, how it ends, and what is left when it is killed or has no
//! room.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use twtrace_core::event::{Event, Role};
use twtrace_core::snapshot::{GroupBy, Snapshot};
use twtrace_core::state::{Config, State};
use twtrace_recording::Info;
use twtrace_recording::reader::Recording;
use twtrace_tests::top::{await_attached, churn, quiet_place};
use twtrace_tests::tracer::{Place, program};
use twtrace_tests::workload::Churned;

/// How often it is killed. Every state that a kill can leave behind is tested without a kernel, in the recording's own
/// tests.
const KILLS: usize = 3;

/// What is read from a recording.
struct Recorded {
    info: Info,
    /// Established connections by the process that opened them.
    opened: BTreeMap<u32, u64>,
    /// Sockets that were open at the last census of their namespace, by cookie: local and remote port.
    open: HashMap<u64, (u16, u16)>,
    lost: u64,
    /// Transitions that were seen, or counted as lost.
    transitions: u64,
    state: State,
}

fn read(path: &Path) -> Recorded {
    let recording = Recording::open(path).unwrap_or_else(|error| panic!("{error:#}"));
    let mut opened = BTreeMap::new();
    let mut open = HashMap::new();
    let (mut lost, mut transitions) = (0, 0);
    let mut state = State::new(Config::default());
    let mut replay = recording.replay().unwrap();
    let mut see = |event: Event| {
        match &event {
            Event::Connection(connection) if connection.established && connection.role == Role::Active => {
                *opened.entry(connection.opener.map_or(0, |owner| owner.key.tgid)).or_default() += 1;
            }
            Event::SocketDump(rows) => {
                for row in rows {
                    open.remove(&row.cookie);
                    if row.state.is_connection() {
                        open.insert(row.cookie, (row.tuple.local_port, row.tuple.remote_port));
                    }
                }
            }
            Event::SocketsRemoved(cookies) => open.retain(|cookie, _| !cookies.contains(cookie)),
            Event::Counters(counters) => {
                lost = counters.ring_full + counters.recursion + counters.parts_refused;
                transitions = counters.transitions + counters.recursion;
            }
            _ => {}
        }
        state.apply(event);
    };
    while replay.advance(u64::MAX, &mut see).unwrap() {}
    assert_eq!(replay.losses(), []);
    Recorded { info: recording.info().clone(), opened, open, lost, transitions, state }
}

/// Starts `twtrace record` in a place; its output can be read when it ends.
fn start(place: &Place, path: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(program("twtrace"));
    command.arg("record").arg("-o").arg(path).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    place.spawn(command)
}

fn record(place: &Place, path: &Path, arguments: &[&str]) -> Output {
    start(place, path, arguments).wait_with_output().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts that each worker's connections are there, except those that are counted as lost and at most `hidden` more.
fn check(recorded: &Recorded, churned: &Churned, hidden: u64) {
    for worker in &churned.workers {
        let found = recorded.opened.get(&worker.who.pid).copied().unwrap_or(0);
        let missing = worker.opened.saturating_sub(found);
        assert!(
            found <= worker.opened && missing <= recorded.lost + hidden,
            "{}: {found} of {}, {} lost; {:?} {:?}",
            worker.who.comm,
            worker.opened,
            recorded.lost,
            recorded.info,
            recorded.opened
        );
    }
}

#[test]
fn command_is_recorded_and_its_exit_code_passed_on() {
    let place = quiet_place();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("churn.twt");
    let workload = program("twtrace-workload");
    let arguments = ["--", workload.to_str().unwrap(), "churn", "--processes", "3", "--connections", "6000"];
    let output = record(&place, &path, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // Its output is its own.
    let churned: Churned = serde_json::from_slice(&output.stdout).unwrap();
    let mut recorded = read(&path);
    check(&recorded, &churned, 0);
    assert!(recorded.info.finished && recorded.info.losses.is_empty());
    let shown = Snapshot::take(&mut recorded.state);
    let created = |pid: u32| {
        let mut rows = shown.rows(GroupBy::Pid).iter();
        let row = rows.find(|row| row.owner.is_some_and(|owner| owner.key.tgid == pid)).unwrap();
        assert!(row.owner.is_some());
        row.counts.time_wait_created
    };
    // Some vendor kernels hide softirqs from every tracer, and the last census, which repairs that, may be cut short.
    let hidden = (10 * churned.connections).saturating_sub(recorded.transitions);
    for worker in &churned.workers {
        assert!(created(worker.who.pid) + recorded.lost + hidden >= worker.opened, "{hidden} hidden: {churned:?}");
    }
    let said = said(&output);
    println!("{said}");
    assert!(said.contains("TIME_WAIT sockets created") && said.contains("churn-0["), "{said}");
    assert!(!said.contains('\r'), "a progress line without a terminal: {said:?}");
    // Other exit codes.
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 137)] {
        let path = folder.path().join(format!("{code}.twt"));
        assert_eq!(record(&place, &path, &["--", "sh", "-c", script]).status.code(), Some(code), "{script}");
        assert!(read(&path).info.finished);
    }
    let path = folder.path().join("none.twt");
    let output = record(&place, &path, &["--", "/no/such/command"]);
    assert_eq!((output.status.code(), path.exists()), (Some(1), false));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.lines().count() == 1 && said.contains("cannot start /no/such/command"), "{said}");
}

#[test]
fn signal_ends_the_recording_properly() {
    let place = quiet_place();
    let folder = TempDir::new().unwrap();
    for asked in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let path = folder.path().join(format!("{asked}.twt"));
        let child = start(&place, &path, &[]);
        await_attached(&place, child.id());
        let churned = churn(&place, &["--connections", "500"]);
        signal(&child, asked);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{asked}: {}", said(&output));
        let recorded = read(&path);
        assert!(recorded.info.finished);
        check(&recorded, &churned, 0);
    }
    // The command is asked to end as well, and is recorded until it has.
    let path = folder.path().join("asked.twt");
    let child = start(&place, &path, &["--", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"]);
    await_attached(&place, child.id());
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(5));
    let path = folder.path().join("short.twt");
    let began = Instant::now();
    assert_eq!(record(&place, &path, &["--duration", "1s"]).status.code(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn open_connections_are_recorded_as_open() {
    let place = quiet_place();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("open.twt");
    let child = start(&place, &path, &[]);
    await_attached(&place, child.id());
    let sockets = place.run(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        (listener, client, server)
    });
    signal(&child, Signal::SIGINT);
    let said = said(&child.wait_with_output().unwrap());
    let (client, server) = (sockets.1.local_addr().unwrap().port(), sockets.2.local_addr().unwrap().port());
    drop(sockets);
    // Other namespaces have theirs.
    let open = read(&path).open;
    for ports in [(client, server), (server, client)] {
        assert!(open.values().any(|open| *open == ports), "{ports:?} is not in {open:?}");
    }
    assert!(said.contains("open at the end") && !said.contains(" 0 connections open"), "{said}");
}

#[test]
fn kill_at_any_moment_loses_at_most_a_second() {
    let folder = TempDir::new().unwrap();
    // A slow disk is not what this tests.
    let memory = Memory::new(folder.path().join("fast"), MsFlags::empty(), "size=512m");
    let mut pause = 17_u64;
    for kill in 0..KILLS {
        let place = quiet_place();
        let path = memory.0.join(format!("{kill}.twt"));
        let mut child = start(&place, &path, &["--keep", "30s"]);
        await_attached(&place, child.id());
        let churned = churn(&place, &["--processes", "2", "--connections", "1000"]);
        // From here on there is at least a second before the kill, with another load running.
        let mut load = Command::new(program("twtrace-workload"));
        load.args(["churn", "--processes", "2", "--connections", "200000"]).stdout(Stdio::null());
        let mut load = place.spawn(load);
        pause = pause * 1_103_515_245 % 2_147_483_647;
        thread::sleep(Duration::from_millis(1000 + pause % 800));
        signal(&child, Signal::SIGKILL);
        child.wait().unwrap();
        load.kill().unwrap();
        load.wait().unwrap();
        let recorded = read(&path);
        // An end that a kernel hides from tracers is found by a census, some seconds later.
        check(&recorded, &churned, 10);
        assert!(!recorded.info.finished);
        // Only files that were just being written.
        assert!(recorded.info.losses.iter().all(|loss| loss.file.ends_with(".arrows")), "{:?}", recorded.info.losses);
        println!("{} connections, {} lost, {:?}", recorded.info.connections, recorded.lost, recorded.info.losses);
        fs::remove_dir_all(path).unwrap();
    }
}

/// A file system in memory.
struct Memory(PathBuf);

impl Memory {
    fn new(at: PathBuf, flags: MsFlags, size: &str) -> Self {
        fs::create_dir(&at).unwrap();
        mount(Some("tmpfs"), &at, Some("tmpfs"), flags, Some(size)).unwrap();
        Self(at)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Asserts one line that names the recording and contains `what`.
fn failed(output: &Output, what: &str) {
    let said = said(output);
    println!("{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().count() == 1 && said.contains(".twt") && said.contains(what), "{said}");
}

#[test]
fn full_disk_ends_the_recording_and_keeps_sealed_segments() {
    let place = quiet_place();
    let folder = TempDir::new().unwrap();
    let memory = Memory::new(folder.path().join("small"), MsFlags::empty(), "size=4m");
    let path = memory.0.join("full.twt");
    // Segments of half a megabyte, and a limit that exceeds the available space. The load is several times that.
    let child = start(&place, &path, &["--keep", "8MiB"]);
    await_attached(&place, child.id());
    let sealed = || {
        let names = fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(".parquet")).count()
    };
    // On a slow machine the thread that seals falls behind a flood, and the disk is full before it has sealed one.
    while sealed() == 0 {
        churn(&place, &["--connections", "5000"]);
    }
    let mut load = Command::new(program("twtrace-workload"));
    load.args(["churn", "--processes", "2", "--connections", "1000000"]).stdout(Stdio::null());
    let mut load = place.spawn(load);
    let output = child.wait_with_output().unwrap();
    load.kill().unwrap();
    load.wait().unwrap();
    failed(&output, "No space left");
    let recorded = read(&path);
    println!("{} connections, {:?}", recorded.info.connections, recorded.info.losses);
    assert!(recorded.info.connections > 1000 && !recorded.info.finished);
    let names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name.to_str().unwrap().ends_with(".parquet")), "{names:?}");
    assert!(!names.iter().any(|name| name.to_str().unwrap().ends_with(".tmp")), "{names:?}");
}

#[test]
fn unwritable_path_is_named() {
    let place = quiet_place();
    let folder = TempDir::new().unwrap();
    let memory = Memory::new(folder.path().join("fixed"), MsFlags::MS_RDONLY, "size=4m");
    failed(&record(&place, &memory.0.join("a.twt"), &[]), "Read-only");
    failed(&record(&place, &folder.path().join("no/a.twt"), &[]), "No such file");
    let there = folder.path().join("there.twt");
    fs::create_dir(&there).unwrap();
    failed(&record(&place, &there, &[]), "--overwrite");
}

#[test]
fn removed_folder_ends_the_recording() {
    let place = quiet_place();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("gone.twt");
    let child = start(&place, &path, &[]);
    await_attached(&place, child.id());
    // A file may be added while the others are removed.
    while let Err(error) = fs::remove_dir_all(&path) {
        assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
    failed(&child.wait_with_output().unwrap(), "removed");
}
