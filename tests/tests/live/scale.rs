//! Many sockets: what was created plus what was lost is what happened.

use serde_json::Value;
use std::collections::BTreeMap;
use twtrace_tests::record::ROOMY;
use twtrace_tests::top::{Top, churn, hidden, number, own, quiet_place, sockstat_tw};

/// TIME_WAIT sockets created, by process and destination.
fn created(report: &Value) -> BTreeMap<(u64, String), u64> {
    let mut created = BTreeMap::new();
    for process in report["processes"].as_array().unwrap() {
        let Some(pid) = process["pid"].as_u64() else { continue };
        for destination in process["destinations"].as_array().unwrap() {
            let count = destination["time_wait_created"].as_u64().unwrap();
            if count > 0 {
                let remote = destination["remote_addr"].as_str().unwrap();
                created.insert((pid, remote.to_owned()), count);
            }
        }
    }
    created
}

#[test]
fn sixty_thousand_sockets_are_all_attributed_by_process_and_destination() {
    let place = quiet_place();
    let top = Top::start_here(&place, &ROOMY);
    let churned = churn(&place, &["--processes", "20", "--destinations", "64", "--connections", "60000"]);
    assert_eq!(churned.connections, 60_000);
    let alive = sockstat_tw(&place);
    top.await_census(alive);
    let report = top.end();

    println!("coverage {}\nlost {}", own(&report)["coverage"], report["tracing"]["lost"]);
    println!("counters {}", report["tracing"]["kernel_counters"]);
    println!("outcomes {} {}", report["totals"]["outcomes"], report["totals"]["corrections"]);

    // All of them live for a minute, so none is gone yet.
    assert_eq!(alive, 60_000);
    assert_eq!(number(&report, "/kernel/time_wait"), alive);
    assert_eq!(number(own(&report), "/coverage/census"), alive);
    // All are attributed, except those that are hidden from tracers.
    let unattributed = alive - number(own(&report), "/coverage/attributed");
    assert!(unattributed <= hidden(&report, 60_000), "{unattributed} unattributed");
    assert_eq!(number(own(&report), "/coverage/before_start"), 0);

    let processes = report["processes"].as_array().unwrap();
    for worker in &churned.workers {
        let row = processes.iter().find(|row| row["pid"] == worker.who.pid).unwrap();
        assert_eq!(row["command"], worker.who.comm.as_str());
        for name in ["opened", "closed_first", "time_wait_created", "time_wait_live"] {
            assert_eq!(row[name].as_u64(), Some(worker.opened), "{name} of {}", worker.who.comm);
        }
    }
    let server = processes.iter().find(|row| row["pid"] == churned.server.pid).unwrap();
    for name in ["accepted", "closed_last"] {
        let missing = 60_000 - number(server, &format!("/{name}"));
        assert!(missing <= hidden(&report, 60_000), "{missing} of {name}");
    }
    assert_eq!(server["time_wait_created"], 0);

    // By destination too, from the other side: the view shows at most 16 for each process.
    let destinations = report["destinations"].as_array().unwrap();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for worker in &churned.workers {
        for (service, count) in &worker.destinations {
            *expected.entry(service.ip().to_string()).or_default() += count;
        }
    }
    assert_eq!(expected.len(), 64);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for row in destinations.iter().filter(|row| row["role"] == "active") {
        assert_eq!(row["port"], 9000);
        assert_eq!(row["ports"]["used"], row["time_wait_live"], "no connection is open: {row}");
        *seen.entry(row["remote_addr"].as_str().unwrap().to_owned()).or_default() +=
            row["time_wait_created"].as_u64().unwrap();
    }
    assert_eq!(seen, expected);
    for ((pid, remote), count) in created(&report) {
        let worker = churned.workers.iter().find(|worker| u64::from(worker.who.pid) == pid).unwrap();
        let of_it = worker.destinations.iter().find(|(service, _)| service.ip().to_string() == remote).unwrap();
        assert_eq!(*of_it.1, count, "{} to {remote}", worker.who.comm);
    }

    // Both ends of each connection, none lost.
    accounted(&report, 2 * churned.connections, hidden(&report, churned.connections));
    assert_eq!(lost(&report), 0);
    println!(
        "60,000 of 20 processes: {:.0} connections/s; transitions {}, recovered by the twin: {}",
        churned.rate_per_s,
        number(&report, "/tracing/kernel_counters/transitions"),
        number(&report, "/tracing/kernel_counters/recovered")
    );
}

fn lost(report: &Value) -> u64 {
    report["tracing"]["lost"].as_object().unwrap().values().filter_map(Value::as_u64).sum()
}

/// Received records plus connections counted as lost are everything that happened, except what was hidden from tracers. Losses
/// are the host's, other namespaces' included.
fn accounted(report: &Value, connections: u64, hidden: u64) {
    let counter = |name: &str| number(report, &format!("/tracing/kernel_counters/{name}"));
    let seen = number(report, "/totals/connections") + number(report, "/tracing/lost/ring_full");
    let happened = counter("connections_ended") + counter("unseen_ends");
    assert!(
        seen <= happened.max(connections) && seen + hidden >= connections,
        "{seen} of {connections}, {hidden} hidden: {:#}",
        report["tracing"]
    );
}

#[test]
fn losses_of_a_small_ring_are_counted() {
    let place = quiet_place();
    // A page has room for a dozen records, and no one reads it while the tracer sleeps.
    let top = Top::start(&place, &["--ring-bytes", "4096"]);
    let churned = churn(&place, &["--processes", "4", "--connections", "20000"]);
    top.await_census(20_000);
    let report = top.end();
    assert!(number(&report, "/tracing/lost/ring_full") > 0, "a page was enough: {:#}", report["tracing"]);
    accounted(&report, 2 * churned.connections, hidden(&report, churned.connections));
    // What is not known is not claimed.
    let coverage = &own(&report)["coverage"];
    assert_eq!(number(own(&report), "/coverage/census"), 20_000);
    assert_eq!(number(own(&report), "/coverage/before_start"), 0, "{coverage}");
    assert!(number(own(&report), "/coverage/unattributed") > 0, "{coverage}");
    assert!(coverage["ratio"].as_f64().unwrap() < 1.0, "{coverage}");
}

#[test]
fn connections_without_room_in_the_socket_map_are_all_attributed() {
    let place = quiet_place();
    // An instance with room for everything shows what no tracer could see.
    let roomy = Top::start_here(&place, &[]);
    let top = Top::start_here(&place, &["--max-sockets", "4", "--ring-bytes", "64M"]);
    // The generator's own processes keep some connections open at a time: more than four, now and then.
    let churned = churn(&place, &["--processes", "8", "--connections", "8000"]);
    top.await_census(8_000);
    let report = top.end();
    let hidden = hidden(&roomy.end(), churned.connections);
    let unfollowed = number(&report, "/tracing/kernel_counters/map_full");
    assert!(unfollowed > 4_000, "four slots were enough: {:#}", report["tracing"]);
    println!("{unfollowed} of 16,000 reported in parts, {hidden} hidden; {}", report["totals"]["outcomes"]);
    accounted(&report, 2 * churned.connections, hidden);
    assert_eq!(lost(&report), 0, "{:#}", report["tracing"]);
    let coverage = &own(&report)["coverage"];
    assert_eq!(number(coverage, "/attributed"), 8_000, "{coverage}");
    let rows = report["processes"].as_array().unwrap();
    for worker in &churned.workers {
        let row = rows.iter().find(|row| row["pid"] == worker.who.pid).unwrap();
        for name in ["opened", "closed_first", "time_wait_created", "time_wait_live"] {
            assert_eq!(row[name].as_u64(), Some(worker.opened), "{name} of {}: {row:#}", worker.who.comm);
        }
    }
    let server = rows.iter().find(|row| row["pid"] == churned.server.pid).unwrap();
    for name in ["accepted", "closed_last"] {
        let missing = 8_000 - number(server, &format!("/{name}"));
        assert!(missing <= hidden, "{missing} of {name}: {server:#}");
    }
}

/// Each connection ends while accept returns it, and its slot is soon another one's.
#[test]
fn resets_that_race_with_accept_leave_every_opener_right() {
    let place = quiet_place();
    let top = Top::start_here(&place, &ROOMY);
    let churned = churn(&place, &["--reset", "--processes", "8", "--connections", "60000"]);
    let report = top.end();
    let counter = |name: &str| number(&report, &format!("/tracing/kernel_counters/{name}"));
    // Three of each end.
    let hidden = (6 * churned.connections).saturating_sub(counter("transitions") + counter("recursion"));
    let row = |pid: u32| report["processes"].as_array().unwrap().iter().find(|row| row["pid"] == pid).unwrap();
    let mut missing = 0;
    for worker in &churned.workers {
        let row = row(worker.who.pid);
        assert_eq!(row["accepted"], 0, "{} accepts nothing", worker.who.comm);
        missing += worker.opened - number(row, "/opened");
    }
    let server = row(churned.server.pid);
    assert_eq!(server["opened"], 0, "the server opens nothing");
    // What has ended before accept returned it was written without an opener.
    let (accepted, too_late) = (number(server, "/accepted"), counter("exit_unresolved"));
    println!("{accepted} accepted, {too_late} too late, {missing} openers missing, {hidden} transitions hidden");
    assert!(missing <= hidden, "{missing} openers are unknown, {hidden} transitions are hidden");
    // The end of a connection is lost if the kernel hides it.
    assert!(lost(&report) <= hidden, "{} lost, {hidden} transitions are hidden", report["tracing"]["lost"]);
}
