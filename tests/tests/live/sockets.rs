//! `twtrace sockets` against the kernel's own list and what the generator did.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use twtrace_tests::schema;
use twtrace_tests::top::{await_attached, churn, interrupt, quiet_place, sockstat_tw};
use twtrace_tests::tracer::{Place, program};
use twtrace_tests::workload::Churned;
use twtrace_tests::workload::sys::{self, Family};

const OLDER: u64 = 200;
const YOUNGER: u64 = 3_000;

/// The list of a place in which there were sockets before, and what the generator did meanwhile.
fn listed(place: &Place, form: &[&str]) -> (Output, Churned) {
    churn(place, &["--connections", &OLDER.to_string()]);
    let mut command = Command::new(program("twtrace"));
    // Longer than needed: a signal ends it.
    command.args(["sockets", "--duration", "120s"]).args(form).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = place.spawn(command);
    await_attached(place, child.id());
    let churned = churn(place, &["--processes", "3", "--connections", &YOUNGER.to_string()]);
    let output = interrupt(child);
    assert_eq!(sockstat_tw(place), OLDER + YOUNGER);
    (output, churned)
}

/// Addresses of the TIME_WAIT sockets of a place, by `/proc/net/tcp`: local, remote.
fn by_kernel(place: &Place) -> BTreeSet<(String, String)> {
    let text = place.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp")).unwrap();
    let end = |hex: &str| {
        let (address, port) = hex.split_once(':').unwrap();
        let address = u32::from_str_radix(address, 16).unwrap().to_ne_bytes();
        format!("{}:{}", std::net::Ipv4Addr::from(address), u16::from_str_radix(port, 16).unwrap())
    };
    let lines = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|words| words[3] == "06").map(|words| (end(words[1]), end(words[2]))).collect()
}

#[test]
fn every_time_wait_socket_is_listed_with_its_owners() {
    let place = quiet_place();
    let (output, churned) = listed(&place, &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    schema::assert_fits(&schema::SOCKETS, &report);
    let netns = &report["host"]["netns"];
    let here = || report["sockets"].as_array().unwrap().iter().filter(|socket| socket["netns"] == *netns);
    let ends = |socket: &Value| {
        let end = |side: &str| {
            format!("{}:{}", socket[format!("{side}_addr")].as_str().unwrap(), socket[format!("{side}_port")])
        };
        (end("local"), end("remote"))
    };
    let found: BTreeSet<(String, String)> = here().map(ends).collect();
    assert_eq!(found, by_kernel(&place), "not the kernel's own list");
    assert_eq!(found.len() as u64, OLDER + YOUNGER);
    assert_eq!(here().filter(|socket| socket["before_start"] == true).count() as u64, OLDER);
    for worker in &churned.workers {
        let is_its = |socket: &&Value| socket["closer"]["pid"] == worker.who.pid;
        println!("{}: {}", worker.who.comm, here().filter(is_its).count());
        assert_eq!(here().filter(is_its).count() as u64, worker.opened, "{}", worker.who.comm);
        for socket in here().filter(is_its) {
            assert_eq!(socket["opener"], socket["closer"], "{socket}");
            assert_eq!(socket["closer"]["command"], worker.who.comm.as_str());
            assert!((30_000..=60_000).contains(&socket["expires_in_ms"].as_u64().unwrap()), "{socket}");
        }
    }
}

/// A socket that is disconnected and connects again keeps its cookie, and leaves a copy with each TIME_WAIT socket.
#[test]
fn sockets_with_one_cookie_are_all_listed_with_their_owner() {
    const TIMES: usize = 5;
    let place = quiet_place();
    let mut command = Command::new(program("twtrace"));
    command.args(["sockets", "--json", "--duration", "120s"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = place.spawn(command);
    await_attached(&place, child.id());
    place.run(|| {
        let client = sys::open(Family::V4, 0).unwrap();
        for _ in 0..TIMES {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            sys::connect(client, listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            sys::shutdown(client, false).unwrap();
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
            drop(server);
            // Its FIN, which ends the full socket.
            assert_eq!(sys::receive(client).unwrap(), 0);
            sys::disconnect(client).unwrap();
        }
        sys::close(client).unwrap();
    });
    assert_eq!(by_kernel(&place).len(), TIMES);
    let output = interrupt(child);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let netns = &report["host"]["netns"];
    let here = || report["sockets"].as_array().unwrap().iter().filter(|socket| socket["netns"] == *netns);
    let cookies: BTreeSet<&str> = here().map(|socket| socket["sk"].as_str().unwrap()).collect();
    assert_eq!((here().count(), cookies.len()), (TIMES, 1), "{report:#}");
    assert!(here().all(|socket| socket["closer"]["pid"] == std::process::id()), "{report:#}");
}

#[test]
fn text_has_a_line_per_socket_and_stderr_has_the_coverage() {
    let place = quiet_place();
    let (output, churned) = listed(&place, &["--port", "9000"]);
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{}", text.lines().take(4).collect::<Vec<_>>().join("\n"));
    assert!(text.starts_with("State "), "{text}");
    let lines = |with: &str| text.lines().filter(|line| line.contains(with)).count() as u64;
    assert_eq!(lines("127.0.0.1:"), OLDER + YOUNGER);
    assert_eq!(lines("(before start)"), OLDER);
    for worker in &churned.workers {
        assert_eq!(lines(&format!("(\"{}\",pid={})", worker.who.comm, worker.who.pid)), worker.opened);
    }
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.lines().count() == 1 && said.contains("coverage 100.0%") && said.contains("lost 0"), "{said}");
}
