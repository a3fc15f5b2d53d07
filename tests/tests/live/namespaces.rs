//! Several network namespaces on one host: each with its name, its census and its sysctls.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::Value;
use twtrace_tests::record::{Record, json_of};
use twtrace_tests::top::{Top, churn, load, namespace, number, own, quiet_place, sockstat_tw};
use twtrace_tests::tracer::{Idle, Named, Place, program};

/// Transitions that both programs of the pair missed and that were counted: this happens on a kernel that preempts
/// programs.
fn skipped(report: &Value) -> u64 {
    number(report, "/tracing/lost/recursion")
}

/// Whether the census of a namespace has this many sockets, each with its owner.
fn covers(report: &Value, netns: u64, sockets: u64) -> bool {
    namespace(report, netns).is_some_and(|there| {
        there["coverage"]["census"] == sockets && number(there, "/coverage/attributed") + skipped(report) >= sockets
    })
}

/// Ports to each destination of a namespace.
fn ports(report: &Value, netns: u64) -> Vec<u64> {
    let rows = report["destinations"].as_array().unwrap().iter();
    let active = rows.filter(|row| row["netns"] == netns && row["role"] == "active");
    active.map(|row| number(row, "/ports/total")).collect()
}

fn live(report: &Value, netns: u64) -> u64 {
    let rows = report["destinations"].as_array().unwrap().iter();
    rows.filter(|row| row["netns"] == netns).map(|row| number(row, "/time_wait_live")).sum()
}

/// Processes that live for a moment and have low PIDs, as where PIDs have begun again: until this is dropped.
struct LowPids(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl LowPids {
    fn new(place: Place) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&goes_on);
        let run = move || {
            while flag.load(Relaxed) {
                // The next PIDs follow this one (pid_namespaces(7)).
                fs::write("/proc/sys/kernel/ns_last_pid", "400").unwrap();
                let mut command = Command::new("sleep");
                command.arg("0.02");
                place.spawn(command).wait().unwrap();
            }
        };
        Self(goes_on, Some(thread::spawn(run)))
    }
}

impl Drop for LowPids {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
        self.1.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn namespace_whose_lowest_pids_end_at_once_is_visited_from_the_start() {
    let (home, there) = (quiet_place(), quiet_place());
    let _idle = Idle::new(&there);
    churn(&there, &["--connections", "300"]);
    let netns = there.netns();
    let _low = LowPids::new(there);
    let top = Top::start(&home, &[]);
    loop {
        let report = top.report();
        if namespace(&report, netns).is_some_and(|there| there["coverage"]["census"] == 300) {
            break;
        }
        // The next search would be five seconds after the first.
        let seconds = report["window"]["seconds"].as_f64().unwrap();
        assert!(seconds < 4.0, "no census after {seconds} s: {}", report["namespaces"]);
    }
}

#[test]
fn each_namespace_has_its_name_its_census_and_its_sysctls() {
    let (home, named, nameless) = (quiet_place(), quiet_place(), quiet_place());
    named.sysctl("ipv4/ip_local_port_range", "40000 40999");
    named.sysctl("ipv4/tcp_max_tw_buckets", "777777");
    let name = format!("twtrace-{}", std::process::id());
    let mounted = Named::new(&named, &name);
    let idle = Idle::new(&nameless);
    let numbers = [&home, &named, &nameless].map(Place::netns);

    let top = Top::start(&home, &[]);
    churn(&home, &["--connections", "300"]);
    churn(&named, &["--connections", "500"]);
    churn(&nameless, &["--connections", "700"]);
    let counts = [(&home, 300), (&named, 500), (&nameless, 700)];
    for (place, created) in counts {
        assert_eq!(sockstat_tw(place), created);
    }
    // The name is that of the oldest process: a search during the churn may have missed it.
    let of_idle = format!("pid {}", idle.pid());
    let is_named =
        |report: &Value| namespace(report, numbers[2]).is_some_and(|there| there["name"] == of_idle.as_str());
    let report = top.wait(|report| {
        is_named(report) && numbers.iter().zip(counts).all(|(&netns, (_, created))| covers(report, netns, created))
    });

    for (&netns, (_, created)) in numbers.iter().zip(counts) {
        let there = namespace(&report, netns).unwrap();
        println!("{netns}: {there}");
        assert_eq!(number(there, "/coverage/census"), created);
        assert!(there["coverage"]["ratio"] == 1.0 || skipped(&report) > 0, "{there}");
        assert_eq!(number(there, "/kernel/time_wait"), created);
        assert_eq!((&there["gone"], &there["refused"]), (&false.into(), &Value::Null));
    }
    assert_eq!(number(own(&report), "/netns"), numbers[0]);
    let of = |index: usize| namespace(&report, numbers[index]).unwrap();
    assert_eq!(of(1)["name"], name.as_str());
    assert_eq!((number(of(1), "/kernel/max_tw_buckets"), &of(1)["kernel"]["port_range"][0]), (777_777, &40_000.into()));
    assert!(number(&report, "/coverage/census") >= 1_500, "of all namespaces");
    let has = |index: usize, total| ports(&report, numbers[index]).iter().all(|&ports| ports == total);
    assert!(!ports(&report, numbers[1]).is_empty() && has(1, 1000), "{:?}", ports(&report, numbers[1]));
    assert!(!ports(&report, numbers[0]).is_empty() && has(0, 28_232), "{:?}", ports(&report, numbers[0]));
    let rows = report["processes"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["netns_name"] == name.as_str() && row["netns"] == numbers[1]));

    // When a namespace goes away, its sockets go with it.
    drop(mounted);
    drop(named);
    let report = top.wait(|report| namespace(report, numbers[1]).is_some_and(|there| there["gone"] == true));
    assert_eq!(live(&report, numbers[1]), 0);
    assert_eq!(live(&report, numbers[2]), 700, "the others are still there");
    assert_eq!(namespace(&report, numbers[1]).unwrap()["name"], name.as_str());
    drop(idle);
}

/// One namespace after the other, many with the inode number of an earlier one.
fn rounds() -> u32 {
    load("1000").parse().unwrap()
}

/// In two rounds of so many, the namespace stays until it is found and has its name.
const NAMED_EVERY: u32 = 200;

/// Its port. No other test uses it.
const PORT: u16 = 7017;

/// The same destination in each round.
const COMMON: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The destination of one round.
fn of_round(round: u32) -> Ipv4Addr {
    let [_, _, high, low] = round.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

fn name_of(round: u32) -> String {
    format!("twtrace-{}-{round}", std::process::id())
}

/// Each has another range of ports.
fn ports_of(round: u32) -> u32 {
    1000 + 2 * round
}

/// A connection on loopback, closed by the client first.
fn connect_once(to: Ipv4Addr) {
    let listener = TcpListener::bind((to, PORT)).unwrap();
    let client = TcpStream::connect((to, PORT)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    drop(client);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

/// Asserts that no row is under the name of another round, and that the namespaces of all rounds are apart. Returns the
/// number of rows with a name.
fn assert_apart(report: &Value) -> usize {
    let rows =
        report["destinations"].as_array().unwrap().iter().filter(|row| row["role"] == "active" && row["port"] == PORT);
    let of = |to: Ipv4Addr| rows.clone().filter(move |row| row["remote_addr"] == to.to_string());
    let mut named = 0;
    for round in 0..rounds() {
        let rows: Vec<&Value> = of(of_round(round)).collect();
        let [row] = rows[..] else { panic!("{} rows of round {round}", rows.len()) };
        assert_eq!(row["opened"], 1, "{row:#}");
        // A namespace that was never visited has no figures, and never those of another one.
        let ports = &row["ports"]["total"];
        assert!(ports.is_null() || *ports == ports_of(round), "{row:#}");
        if let Some(name) = row["netns_name"].as_str() {
            assert_eq!(name, name_of(round));
            named += 1;
        }
    }
    // Here, the namespace is all that keeps the rows apart.
    let common: Vec<u64> = of(COMMON).map(|row| number(row, "/opened")).collect();
    assert_eq!(common, vec![1; rounds() as usize]);
    let names: BTreeSet<&str> = of(COMMON).filter_map(|row| row["netns_name"].as_str()).collect();
    assert_eq!(names.len(), named, "as many as of the rounds' own destinations");
    named
}

#[test]
fn namespace_never_inherits_from_the_one_that_had_its_inode_number() {
    let home = quiet_place();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounds.twt");
    let top = Top::start(&home, &[]);
    let record = Record::start(&home, &path);
    let mut inodes = BTreeSet::new();
    for round in 0..rounds() {
        let place = Place::new();
        let named = Named::new(&place, &name_of(round));
        place.sysctl("ipv4/ip_local_port_range", &format!("40000 {}", 40_000 + ports_of(round) - 1));
        place.run(move || [COMMON, of_round(round)].map(connect_once));
        inodes.insert(place.netns());
        if round % NAMED_EVERY < 2 {
            let there = |report: &Value| {
                let rows = report["destinations"].as_array().unwrap();
                rows.iter().any(|row| row["netns_name"] == name_of(round).as_str())
            };
            top.wait(there);
        }
        drop(named);
    }
    println!("{} namespaces had {} inode numbers", rounds(), inodes.len());
    assert!(inodes.len() < rounds() as usize, "the kernel has used none again");
    record.end();
    let live = assert_apart(&top.end());
    let recorded = assert_apart(&json_of(folder.path(), "replay rounds.twt --once --json"));
    println!("{live} and {recorded} rows have names");
    let awaited = (2 * rounds().div_ceil(NAMED_EVERY)) as usize;
    // The recorder searches at other times.
    assert!(live >= awaited, "{awaited} were awaited");
}

/// How the namespaces of a kernel without cookies are distinguished, once a search has missed the first.
#[test]
fn inode_number_of_a_namespace_that_is_gone_means_another_one() {
    let home = quiet_place();
    let top = Top::start(&home, &[]);
    let (first, name) = (Place::new(), name_of(0));
    let named = Named::new(&first, &name);
    first.run(|| connect_once(COMMON));
    let inode = first.netns();
    top.wait(|report| namespace(report, inode).is_some_and(|there| there["name"] == name.as_str()));
    drop((named, first));
    top.wait(|report| namespace(report, inode).is_some_and(|there| there["gone"] == true));
    // The kernel gives the lowest free number.
    let mut others = Vec::new();
    while others.last().map(Place::netns) != Some(inode) {
        assert!(others.len() < 1000, "no namespace has got the number");
        others.push(Place::new());
    }
    let second = others.pop().unwrap();
    second.run(|| connect_once(COMMON));
    let report = top.end();
    let rows = report["destinations"].as_array().unwrap().iter();
    let ours = rows.filter(|row| row["netns"] == inode && row["role"] == "active" && row["port"] == PORT);
    let mut rows: Vec<_> = ours.map(|row| (row["netns_name"].as_str(), number(row, "/opened"))).collect();
    rows.sort_unstable();
    assert!(matches!(rows[..], [(other, 1), (Some(gone), 1)] if gone == name && other != Some(&name)), "{rows:?}");
}

/// An unprivileged user may have as many as it likes.
const NOBODY: &str = "65534";
const CROWD: u64 = 1100;

#[test]
fn namespaces_of_one_user_do_not_hide_those_of_others() {
    let home = quiet_place();
    let mut command = Command::new(program("twtrace-workload"));
    command.args(["crowd", "--uid", NOBODY, "--namespaces", &CROWD.to_string()]);
    let mut crowd = home.spawn({
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    });
    let mut line = String::new();
    BufReader::new(crowd.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), CROWD.to_string());

    let top = Top::start(&home, &[]);
    let report = top.wait(|report| number(report, "/namespaces_left_out") > CROWD - 1024);
    println!("{} left out", report["namespaces_left_out"]);
    // A namespace of another user, made later: the kernel gives it one of the highest inode numbers.
    let late = quiet_place();
    let name = name_of(0);
    let named = Named::new(&late, &name);
    let netns = late.netns();
    let began = Instant::now();
    churn(&late, &["--connections", "300"]);
    let report = top.wait(|report| covers(report, netns, 300));
    println!("listed with its census after {:?}", began.elapsed());
    assert_eq!(namespace(&report, netns).unwrap()["name"], name.as_str());
    // And it stays up to date.
    for _ in 0..10 {
        let report = top.report();
        let coverage = &namespace(&report, netns).unwrap()["coverage"];
        assert!(coverage["census_age_s"].as_f64().unwrap() < 5.0, "{coverage}");
    }
    drop(named);
    top.end();
    crowd.kill().unwrap();
    crowd.wait().unwrap();
}
