//! What tracing costs: a test limits the memory; the connection rate is measured and printed.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use twtrace_tests::record::ROOMY;
use twtrace_tests::terminal::Terminal;
use twtrace_tests::top::{Top, churn, hidden, number, own, peak_memory, quiet_place, sockstat_tw};
use twtrace_tests::tracer::program;

const MIB: u64 = 1024 * 1024;

/// As many as the default `tcp_max_tw_buckets` of 131,072 has room for.
const MANY: &[&str] = &["--processes", "1", "--connections", "130000"];

#[test]
fn memory_with_130_000_live_sockets_is_limited() {
    let place = quiet_place();
    let top = Top::start(&place, &["--limit", "20"]);
    let mut command = Command::new(program("twtrace"));
    command.args(["top", "--interval", "200ms"]);
    let screen = Terminal::start(&place, command, 200, 60);
    screen.wait("TIME_WAIT");
    let churned = churn(&place, MANY);
    assert_eq!(sockstat_tw(&place), 130_000);

    // Censuses, all tabs, a filter and a frozen screen included.
    let report = top.wait(|report| number(own(report), "/coverage/attributed") == 130_000);
    // All of them belong to one process, the generator's, so none can be of another program.
    let rows = report["processes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["pid"] == churned.workers[0].who.pid).unwrap();
    assert_eq!(number(row, "/time_wait_live"), 130_000);
    for keys in ["2", "3", "/127\r", " ", "1"] {
        screen.press(keys);
        top.report();
        top.report();
    }
    let (batch, drawn) = (top.peak_memory(), peak_memory(screen.pid()));
    println!("peak memory with 130,000 live: {} MiB as JSON, {} MiB on a screen", batch / MIB, drawn / MIB);
    // While the list of sockets is shown, at most three snapshots contain it: the latest, the frozen one, and the next.
    assert!(batch < 100 * MIB && drawn < 160 * MIB, "{batch} and {drawn} bytes");
    kill(Pid::from_raw(screen.pid() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(screen.end(), (true, true));
    top.end();
}

/// Pairs of runs, one without and one with a tracer.
const PAIRS: usize = 12;

/// Median rates without and with a tracer, and the median of their ratios. The two take turns, so that other work of
/// the machine affects both.
fn rates(load: &[&str]) -> [f64; 3] {
    let mut figures = [const { Vec::new() }; 3];
    for _ in 0..PAIRS {
        let without = churn(&quiet_place(), load).rate_per_s;
        let place = quiet_place();
        let top = Top::start(&place, &[&["--limit", "20", "--interval", "1s"], &ROOMY[..]].concat());
        let with = churn(&place, load).rate_per_s;
        let report = top.end();
        // All are attributed, except those that are hidden from tracers.
        let unattributed = 15_000 - number(own(&report), "/coverage/attributed");
        assert!(unattributed <= hidden(&report, 15_000), "{unattributed} unattributed: {}", report["tracing"]["lost"]);
        for (all, one) in figures.iter_mut().zip([without, with, with / without]) {
            all.push(one);
        }
    }
    figures.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[PAIRS / 2]
    })
}

#[test]
fn connection_rate_with_and_without_tracer_is_measured() {
    // One client, one server, 64 destinations.
    let load = ["--processes", "1", "--connections", "15000"];
    for (what, more) in [("a byte each way", Some("--exchange")), ("nothing but connect and close", None)] {
        let load: Vec<&str> = load.into_iter().chain(more).collect();
        let [without, with, ratio] = rates(&load);
        let share = 100.0 * ratio;
        println!("loopback connections/s, {what}: {without:.0} without, {with:.0} with top; median ratio {share:.1}%");
    }
}
