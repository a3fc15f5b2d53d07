//! A long load at full speed against the kernel's own counters, to the moment at which a recording ends.

use std::process::{Command, Stdio};

use serde_json::Value;
use twtrace_core::event::Tier;
use twtrace_probe::host::netstat;
use twtrace_probe::source::kernel_source::{KernelSource, KernelSourceOptions};
use twtrace_tests::record::json_of;
use twtrace_tests::require::skip;
use twtrace_tests::top::{await_attached, churn, interrupt, load, number, quiet_place};
use twtrace_tests::tracer::program;

#[test]
fn recording_of_a_long_load_agrees_with_the_kernel_to_the_last_socket() {
    let tier = KernelSource::start(&KernelSourceOptions::default()).unwrap().tier();
    if tier != Tier::Exact {
        let wanted = std::env::var("TWTRACE_TIER").is_ok_and(|tier| tier == "exact");
        assert!(!wanted, "the exact tier was requested");
        return skip("the exact tier", "this kernel refuses its hooks");
    }
    let place = quiet_place();
    // The rest overflow: there is no room for all in a minute.
    place.sysctl("ipv4/tcp_max_tw_buckets", "100000");
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("twtrace"));
    command.args(["record", "--ring-bytes", "64M", "-o"]).arg(folder.path().join("long.twt"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = place.spawn(command);
    await_attached(&place, child.id());
    let churned = churn(&place, &["--processes", "4", "--connections", &load("1000000")]);
    // At once: what the kernel has done by now must be in the recording.
    let output = interrupt(child);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = place.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat")).unwrap();
    let counter = |name| netstat::counter(&text, "TcpExt", name).unwrap();
    let overflowed = counter("TCPTimeWaitOverflow");

    let report: Value = json_of(folder.path(), "replay long.twt --once --json");
    let side = |name: &str| number(&report, &format!("/tracing/kernel_counters/{name}"));
    let lost: u64 = report["tracing"]["lost"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    println!(
        "figures: {} connections, {:.0}/s; by the kernel {overflowed} overflowed, {} timers; lost {lost}, {} of {} recovered",
        churned.connections,
        churned.rate_per_s,
        counter("TW") + counter("TWKilled"),
        side("recovered"),
        side("transitions")
    );
    assert_eq!(lost, 0, "{} {}", report["tracing"]["lost"], report["tracing"]["kernel_counters"]);
    assert_eq!(number(&report, "/totals/connections"), 2 * churned.connections);
    assert_eq!(number(&report, "/totals/time_wait_overflow"), overflowed);
    assert_eq!(number(&report, "/totals/time_wait_created"), churned.connections - overflowed);
    assert_eq!(
        (side("timewaits_overflowed"), side("timewaits_created")),
        (overflowed, churned.connections - overflowed)
    );
    for worker in &churned.workers {
        let rows = report["processes"].as_array().unwrap();
        let row = rows.iter().find(|row| row["pid"] == worker.who.pid).unwrap();
        assert_eq!(row["opened"], worker.opened, "{}", worker.who.comm);
        assert_eq!(number(row, "/time_wait_created") + number(row, "/time_wait_overflow"), worker.opened);
    }
}
