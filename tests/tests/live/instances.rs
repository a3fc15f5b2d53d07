//! Instances side by side, and one that is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use twtrace_tests::objects::Objects;
use twtrace_tests::top::{Top, churn, hidden, load, number, own, quiet_place};
use twtrace_tests::tracer::Place;
use twtrace_tests::workload::Churned;

/// Opens and closes connections as fast as possible, in rounds, until `work` is done.
fn under_load(place: &Place, work: impl FnOnce()) -> Vec<Churned> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let churning = scope.spawn(|| {
            let mut rounds = Vec::new();
            while !done.load(Ordering::Relaxed) {
                rounds.push(churn(place, &["--processes", "4", "--connections", &load("20000")]));
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

/// Everything below a folder; empty if there is no such folder.
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

/// The instance traces, and is killed while connections come as fast as possible.
#[test]
fn killed_instance_leaves_nothing_behind() {
    let (pins, mounts_before) = (below(Path::new("/sys/fs/bpf")), mounts());
    let before = Objects::loaded();
    let place = quiet_place();
    let top = Top::start(&place, &[]);
    let its = Objects::of_process(top.pid());
    // What the rest of the test looks for is visible.
    assert_eq!(its.among(&Objects::loaded()), its, "not listed by the kernel");
    assert_eq!(its.among(&before), Objects::default());
    let report = top.report();
    let attached = report["tracing"]["hooks"].as_array().unwrap().iter().filter(|hook| hook["attached"] == true);
    // Before 5.15, what perf attaches is no link.
    let linked = attached.clone().filter(|hook| hook["kind"] != "tracepoint").count();
    assert!(its.programs.len() >= attached.count() && its.links.len() >= linked && its.maps.len() >= 3, "{its:?}");

    under_load(&place, || {
        top.wait(|report| number(report, "/totals/connections") > 1000);
        drop(top); // SIGKILL.
        await_none("still there after a kill", || Objects::loaded().among(&its));
    });
    // Nothing is left that it used without a descriptor either. Instances that run meanwhile have descriptors of their
    // own objects.
    await_none("no process has these open", || {
        Objects::loaded().without(&before).without(&Objects::of_all_processes())
    });
    assert_eq!(below(Path::new("/sys/fs/bpf")).difference(&pins).count(), 0, "pinned");
    let added: Vec<String> = mounts().difference(&mounts_before).cloned().collect();
    assert!(added.is_empty(), "mounted: {added:?}");
    println!("{} programs, {} maps, {} links gone", its.programs.len(), its.maps.len(), its.links.len());
}

/// Opened, accepted, closed first, closed last and TIME_WAIT sockets created, per process.
type Figures = BTreeMap<u32, [u64; 5]>;

/// What the generator counted.
fn generated(rounds: &[Churned]) -> Figures {
    let clients = rounds.iter().flat_map(|round| &round.workers);
    let clients = clients.map(|worker| (worker.who.pid, [worker.opened, 0, worker.opened, 0, worker.opened]));
    let servers = rounds.iter().map(|round| (round.server.pid, [0, round.connections, 0, round.connections, 0]));
    clients.chain(servers).collect()
}

/// The figures of the same processes in a report.
fn reported(report: &Value, of: &Figures) -> Figures {
    let rows = report["processes"].as_array().unwrap();
    of.keys()
        .map(|pid| {
            let row = rows.iter().find(|row| row["pid"] == *pid).unwrap_or_else(|| panic!("no row of {pid}"));
            let names = ["opened", "accepted", "closed_first", "closed_last", "time_wait_created"];
            (*pid, names.map(|name| row[name].as_u64().unwrap()))
        })
        .collect()
}

const EXITS_MISSED: &str = "/tracing/kernel_counters/exits_missed";

fn lost(report: &Value) -> u64 {
    report["tracing"]["lost"].as_object().unwrap().values().filter_map(Value::as_u64).sum()
}

#[test]
fn instances_do_not_disturb_each_other() {
    let place = quiet_place();
    place.sysctl("ipv4/tcp_max_tw_buckets", "1000000");
    // Room for what comes while the other instances and the generator use the processors.
    let first = Top::start_here(&place, &["--ring-bytes", "64M"]);
    let beside = Top::start_here(&place, &["--ring-bytes", "64M"]);
    let rounds = under_load(&place, || {
        first.wait(|report| number(report, "/totals/connections") > 1000);
        // Attached and killed in the middle of the load.
        let killed = Top::start(&place, &[]);
        let seen = killed.wait(|report| number(report, "/totals/connections") > 1000);
        drop(killed);
        println!("killed after {} connections", seen["totals"]["connections"]);
    });
    let connections = rounds.iter().map(|round| round.connections).sum::<u64>();
    println!("{connections} connections in {} rounds", rounds.len());
    let expected = generated(&rounds);
    // One ends before the other, in the usual way.
    let reports = [beside.end(), first.end()];
    let seen = reports.each_ref().map(|report| reported(report, &expected));
    // Kernels that preempt programs keep some transitions from both programs of a pair, which is counted; some vendors'
    // kernels keep softirqs that interrupt certain processes from every program, which nobody counts. Each of these can
    // cost up to five figures of its process, unless the last census shows what became of the socket.
    let skipped = |report: &Value| number(report, "/tracing/lost/recursion") + number(report, EXITS_MISSED);
    for (report, seen) in reports.iter().zip(&seen) {
        println!("{}", report["tracing"]["kernel_counters"]);
        let (skipped, hidden) = (skipped(report), hidden(report, connections));
        println!("{skipped} skipped, {hidden} hidden");
        let missing: u64 = seen
            .iter()
            .flat_map(|(pid, row)| row.iter().zip(expected[pid]).map(|(seen, expected)| expected.abs_diff(*seen)))
            .sum();
        assert!(missing <= 5 * (skipped + hidden), "{missing} missing: {seen:?} of {expected:?}");
        assert_eq!(number(report, "/tracing/lost/ring_full") + number(report, "/tracing/kernel_counters/map_full"), 0);
        if skipped > 0 {
            continue;
        }
        // Each end closes first or last.
        let seen = number(report, "/totals/closed_first") + number(report, "/totals/closed_last");
        let (ends, seen_or_lost) = (2 * connections, seen + lost(report));
        assert!(
            seen_or_lost <= ends && seen_or_lost + hidden >= ends,
            "{seen_or_lost} of {ends}, {hidden} hidden: {}",
            report["tracing"]
        );
        let unattributed = connections - number(own(report), "/coverage/attributed");
        // On a slow machine the first ones expire meanwhile.
        let over = number(report, "/totals/time_wait_created") - number(report, "/totals/time_wait_live");
        assert!(unattributed <= hidden + over, "{} {}", own(report)["coverage"], report["totals"]);
        if hidden == 0 {
            assert_eq!(lost(report), 0);
        }
    }
}
