//! `twtrace replay --what-if` against the kernel: what the model makes of a recorded load, and the same load with the
//! change made.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;
use twtrace_tests::record::Record;
use twtrace_tests::require::skip;
use twtrace_tests::schema;
use twtrace_tests::software::installed;
use twtrace_tests::top::quiet_place;
use twtrace_tests::tracer::{Place, program};

const SCRIPT: &str = include_str!("../../scenarios/paced.py");

/// A load, the ports it has, and changes: as the option says, and as they are made for real.
struct Case {
    load: &'static [(&'static str, &'static str)],
    range: &'static str,
    changes: &'static [Change],
}

/// A change as the option says it, the sysctl that makes it, and the variable of the script that does.
struct Change {
    option: &'static str,
    sysctl: Option<(&'static str, &'static str)>,
    variable: Option<(&'static str, &'static str)>,
}

const fn sysctl(option: &'static str, name: &'static str, value: &'static str) -> Change {
    Change { option, sysctl: Some((name, value)), variable: None }
}

const fn habit(option: &'static str, name: &'static str, value: &'static str) -> Change {
    Change { option, sysctl: None, variable: Some((name, value)) }
}

/// 150 a second, one after the other.
const STEADY: Case = Case {
    load: &[("AT_ONCE", "1"), ("EVERY", "0.00667"), ("TIMES", "1500")],
    range: "40000 40499",
    changes: &[
        sysctl("tcp_tw_reuse=1", "ipv4/tcp_tw_reuse", "1"),
        sysctl("range=20000-29999", "ipv4/ip_local_port_range", "20000 29999"),
        // Wider, and not wide enough.
        sysctl("range=40000-40999", "ipv4/ip_local_port_range", "40000 40999"),
        sysctl("tcp_max_tw_buckets=300", "ipv4/tcp_max_tw_buckets", "300"),
        habit("keep-alive=20", "REQUESTS", "20"),
        habit("addresses=2", "ADDRESSES", "2"),
    ],
};

/// Forty at once each second, for a fifth of a second each.
const BURSTS: Case = Case {
    load: &[("AT_ONCE", "40"), ("EVERY", "1"), ("TIMES", "10"), ("HOLD", "0.2")],
    range: "40000 40199",
    changes: &[
        habit("pool=25", "POOL", "25"),
        habit("keep-alive=4", "REQUESTS", "4"),
        habit("limit=20", "LIMIT", "20"),
        sysctl("tcp_tw_reuse=1", "ipv4/tcp_tw_reuse", "1"),
    ],
};

fn small_place(case: &Case) -> Place {
    let place = quiet_place();
    place.sysctl("ipv4/ip_local_port_range", case.range);
    place
}

fn play(place: &Place, case: &Case, more: Option<(&str, &str)>) -> Value {
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT]).envs(case.load.iter().copied()).envs(more).stdout(Stdio::piped());
    let output = place.spawn(command).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The recorded load, and what was said of it.
fn modelled(case: &Case, folder: &Path) -> (Value, Value) {
    let place = small_place(case);
    let recording = folder.join("load.twt");
    let record = Record::start(&place, &recording);
    let played = play(&place, case, None);
    record.end();
    let mut command = Command::new(program("twtrace"));
    command.arg("replay").arg(&recording).args(["--json", "--port", "9100"]);
    for change in case.changes {
        command.args(["--what-if", change.option]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = serde_json::from_slice(&output.stdout).unwrap();
    schema::assert_fits(&schema::WHAT_IF, &report);
    (played, report)
}

/// Within a tenth, or a few where there are few.
#[track_caller]
fn agrees(what: &str, modelled: f64, measured: f64, few: f64) {
    let room = (0.1 * modelled.max(measured)).max(few);
    assert!((modelled - measured).abs() <= room, "{what}: {modelled} by the model, {measured} measured");
}

fn check(case: &Case) {
    if installed("python3").is_none() {
        return skip("python3", "it is not installed");
    }
    let folder = TempDir::new().unwrap();
    let (before, report) = modelled(case, folder.path());
    assert_eq!(report["recorded"]["failed"], before["failed"]);
    assert!(before["failed"].as_u64().unwrap() > 0, "there are fewer ports than connections: {before}");
    // The load begins later than the trace.
    let late_s =
        report["recorded"]["first_failed_ns"].as_f64().unwrap() / 1e9 - before["first_failed"].as_f64().unwrap();

    let measured: Vec<Value> = thread::scope(|scope| {
        let runs: Vec<_> = case
            .changes
            .iter()
            .map(|change| {
                scope.spawn(move || {
                    let place = small_place(case);
                    if let Some((name, value)) = change.sysctl {
                        place.sysctl(name, value);
                    }
                    play(&place, case, change.variable)
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let unchanged = (&"nothing changes", &report["unchanged"], &before);
    let changed = case.changes.iter().zip(&measured).zip(report["changed"].as_array().unwrap());
    let all = changed.map(|((change, measured), modelled)| {
        assert_eq!(modelled["changes"][0], change.option);
        (&change.option, &modelled["outcome"], measured)
    });
    for (name, modelled, measured) in [unchanged].into_iter().chain(all) {
        println!("figures: {name}: modelled {modelled}, measured {measured}");
        for (figure, few) in [("opened", 5.0), ("failed", 5.0), ("time_wait_peak", 10.0)] {
            let [modelled, measured] = [modelled, measured].map(|of| of[figure].as_f64().unwrap());
            agrees(&format!("{name}: {figure}"), modelled, measured, few);
        }
        let first_s = modelled["first_failed_ns"].as_f64().map(|ns| ns / 1e9 - late_s);
        let measured_s = measured["first_failed"].as_f64();
        assert_eq!(first_s.is_some(), measured_s.is_some(), "{name}");
        if let (Some(modelled), Some(measured)) = (first_s, measured_s) {
            agrees(&format!("{name}: first failure"), modelled, measured, 0.1);
        }
    }
}

#[test]
fn a_steady_load_does_with_each_change_what_the_model_says() {
    check(&STEADY);
}

#[test]
fn bursts_do_with_each_change_what_the_model_says() {
    check(&BURSTS);
}
