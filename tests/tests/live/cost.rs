//! What tracing costs in memory.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
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
    // Counters are read once a second: in the report after the newest one, they are of a time after the load.
    top.await_census(130_000);
    top.newest();
    // All are attributed, except those that are hidden from tracers.
    let is_known = |report: &Value, known: u64| known <= 130_000 && known + hidden(report, 130_000) >= 130_000;
    let report = top.wait(|report| is_known(report, number(own(report), "/coverage/attributed")));
    // All of them belong to one process, the generator's, so none can be of another program.
    let rows = report["processes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["pid"] == churned.workers[0].who.pid).unwrap();
    assert!(is_known(&report, number(row, "/time_wait_live")), "{row}");
    for keys in ["2", "3", "/127\r", " ", "1"] {
        screen.press(keys);
        top.report();
        top.report();
    }
    let (batch, drawn) = (top.peak_memory(), peak_memory(screen.pid()));
    println!("peak memory with 130,000 live: {} MiB as JSON, {} MiB on a screen", batch / MIB, drawn / MIB);
    // While the list of sockets is shown, at most three snapshots contain it: the latest, the frozen one, and the next.
    assert!(batch < 110 * MIB && drawn < 170 * MIB, "{batch} and {drawn} bytes");
    kill(Pid::from_raw(screen.pid() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(screen.end(), (true, true));
    top.end();
}
