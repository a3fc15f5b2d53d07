//! Instances side by side, and one that is killed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "figures for whoever runs the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use twtrace_tests::objects::Objects;
use twtrace_tests::top::{Top, churn, number, quiet_place};
use twtrace_tests::tracer::Place;
use twtrace_tests::workload::Churned;

/// Makes sockets as fast as they can be made, in rounds, until `work` is done.
fn under_load(place: &Place, work: impl FnOnce()) -> Vec<Churned> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let churning = scope.spawn(|| {
            let mut rounds = Vec::new();
            while !done.load(Ordering::Relaxed) {
                rounds.push(churn(place, &["--processes", "4", "--connections", "20000"]));
            }
            rounds
        });
        // The scope waits for its threads when this panics too.
        let worked = catch_unwind(AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let rounds = churning.join().unwrap();
        worked.unwrap_or_else(|panic| resume_unwind(panic));
        rounds
    })
}

/// Everything below a folder; nothing where there is none.
fn below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
        found.insert(entry.path());
    }
    found
}

fn mounts() -> BTreeSet<String> {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect()
}

/// Waits until there are none: the kernel frees them a while after the last reference is gone.
fn await_none(what: &str, objects: impl Fn() -> Objects) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left = objects();
        if left == Objects::default() {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {left:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Traces, and is killed while sockets are made as fast as they can be.
#[test]
fn a_killed_instance_leaves_nothing_behind() {
    let (pins, mounts_before) = (below(Path::new("/sys/fs/bpf")), mounts());
    let before = Objects::loaded();
    let place = quiet_place();
    let top = Top::start(&place, &[]);
    let its = Objects::held_by(top.pid());
    // What the rest of the test looks for can be seen.
    assert_eq!(its.among(&Objects::loaded()), its, "not listed by the kernel");
    assert_eq!(its.among(&before), Objects::default());
    let attached =
        top.report()["tracing"]["hooks"].as_array().unwrap().iter().filter(|hook| hook["attached"] == true).count();
    assert!(its.programs.len() >= attached && its.links.len() >= attached && its.maps.len() >= 3, "{its:?}");

    under_load(&place, || {
        top.wait(|report| number(report, "/totals/lives") > 1000);
        drop(top); // SIGKILL.
        await_none("still there after a kill", || Objects::loaded().among(&its));
    });
    // Nor is there anything that it held without a descriptor. Instances that run meanwhile hold theirs.
    await_none("nobody holds these", || Objects::loaded().without(&before).without(&Objects::held()));
    assert_eq!(below(Path::new("/sys/fs/bpf")).difference(&pins).count(), 0, "pinned");
    let added: Vec<String> = mounts().difference(&mounts_before).cloned().collect();
    assert!(added.is_empty(), "mounted: {added:?}");
    println!("{} programs, {} maps, {} links gone", its.programs.len(), its.maps.len(), its.links.len());
}

/// Opened, accepted, closed first and timewait sockets made, of each process.
type Figures = BTreeMap<u64, [u64; 4]>;

/// The processes of the generator in a report.
fn reported(report: &Value) -> Figures {
    let rows = report["processes"].as_array().unwrap().iter();
    let figure = |row: &Value, name: &str| row[name].as_u64().unwrap();
    rows.filter(|row| row["command"].as_str().unwrap().starts_with("churn-"))
        .map(|row| {
            let names = ["opened", "accepted", "closed_first", "time_wait_made"];
            (row["pid"].as_u64().unwrap(), names.map(|name| figure(row, name)))
        })
        .collect()
}

/// The same as the generator counted it.
fn made(rounds: &[Churned]) -> Figures {
    let clients = rounds.iter().flat_map(|round| &round.workers);
    let clients = clients.map(|worker| (worker.who.pid.into(), [worker.made, 0, worker.made, worker.made]));
    let servers = rounds.iter().map(|round| (round.server.pid.into(), [0, round.connections, 0, 0]));
    clients.chain(servers).collect()
}

fn lost(report: &Value) -> u64 {
    report["tracing"]["lost"].as_object().unwrap().values().filter_map(Value::as_u64).sum()
}

#[test]
fn instances_do_not_disturb_each_other() {
    let place = quiet_place();
    place.sysctl("ipv4/tcp_max_tw_buckets", "1000000");
    let first = Top::start(&place, &[]);
    let beside = Top::start(&place, &[]);
    let rounds = under_load(&place, || {
        first.wait(|report| number(report, "/totals/lives") > 1000);
        // Attached in the middle of it, and killed there.
        let killed = Top::start(&place, &[]);
        let seen = killed.wait(|report| number(report, "/totals/lives") > 1000);
        drop(killed);
        println!("killed after {} lives", seen["totals"]["lives"]);
    });
    let connections = rounds.iter().map(|round| round.connections).sum::<u64>();
    println!("{connections} connections in {} rounds", rounds.len());
    // One ends before the other, in the usual way.
    for (which, top) in [("beside", beside), ("first", first)] {
        let report = top.end();
        println!(
            "DBG {which} {}\n{}\n{}",
            report["tracing"]["kernel_counters"], report["totals"], report["tracing"]["lost"]
        );
        for row in report["processes"].as_array().unwrap() {
            println!(
                "ROW {} {} opened {} accepted {} last {} made {}",
                row["pid"], row["command"], row["opened"], row["accepted"], row["closed_last"], row["time_wait_made"]
            );
        }
        if which == "beside" && reported(&report) != made(&rounds) {
            println!("DIFFERS");
            continue;
        }
        assert_eq!(reported(&report), made(&rounds), "{which}");
        assert_eq!(lost(&report), 0, "{which}: {:#}", report["tracing"]["lost"]);
        assert_eq!(number(&report, "/coverage/attributed"), connections, "{which}: {:#}", report["coverage"]);
        assert_eq!(report["coverage"]["ratio"], 1.0, "{which}");
    }
}
