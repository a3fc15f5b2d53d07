//! `twtrace doctor --audit` while TIME_WAIT sockets are created continuously.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;
use twtrace_tests::schema;
use twtrace_tests::top::{await_programs, churn, quiet_place};
use twtrace_tests::tracer::{Idle, Place, program};

/// Audits from a place while connections are churned in `churned`. Returns exit code and report.
fn audited(place: &Place, churned: &Place, form: &[&str]) -> (Option<i32>, String) {
    let done = AtomicBool::new(false);
    // The limit is reached sooner or later.
    churned.sysctl("ipv4/tcp_max_tw_buckets", "20000");
    thread::scope(|scope| {
        // From a place of its own in the same namespace: the other one is busy.
        let mut command = Command::new(program("twtrace"));
        command.args(["doctor", "--audit", "5s"]).args(form).stdout(Stdio::piped());
        let child = place.spawn(command);
        // Not before: the limit could be reached by then.
        await_programs(place, child.id());
        let churning = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                churn(churned, &["--connections", "2000"]);
            }
        });
        let output = child.wait_with_output().unwrap();
        done.store(true, Ordering::Relaxed);
        churning.join().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    })
}

/// Checks the report of a namespace with churn against what the tier can know.
fn check(tier: &Value, code: Option<i32>, report: &Value) {
    let lines = report["lines"].as_array().unwrap();
    // Kernels that count timers when they expire have another line here.
    let timers = &lines[0];
    let (kernel, traced) = (timers["kernel"].as_i64().unwrap(), timers["traced"].as_i64().unwrap());
    if tier == "exact" {
        assert_eq!((code, &report["agrees"]), (Some(0), &true.into()), "{report:#}");
        assert!(lines.iter().all(|line| !line["traced"].is_null()));
    } else if kernel > 0 {
        // In lower tiers, an end that no program saw is reported later, as what it probably was. What happens while the
        // counters are read may be counted on either side.
        let doubt = timers["slack"].as_i64().unwrap() + timers["inferred"].as_i64().unwrap();
        assert!((-doubt..=kernel / 100 + 10 + doubt).contains(&(kernel - traced)), "{report:#}");
    }
}

#[test]
fn trace_under_load_agrees_with_the_kernel() {
    let place = quiet_place();
    let (code, text) = audited(&place, &place, &["--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    schema::assert_fits(&schema::AUDIT, &report);
    println!("figures: {report}");
    check(&report["tier"], code, &report);
    assert_eq!(code, Some(if report["agrees"] == true { 0 } else { 1 }));
}

#[test]
fn other_namespaces_are_audited_as_well() {
    let (home, place) = (quiet_place(), quiet_place());
    // Without its own process the namespace might be missed between two runs of the generator.
    let idle = Idle::new(&place);
    let (code, text) = audited(&home, &place, &["--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    schema::assert_fits(&schema::AUDIT, &report);
    println!("figures: {report}");
    assert!(report["lines"].as_array().unwrap().iter().all(|line| line["kernel"] == 0), "nothing happened here");
    let other = report["namespaces"].as_array().unwrap().iter().find(|other| other["netns"] == place.netns()).unwrap();
    // Named after its lowest PID: after PIDs have wrapped around, a younger process of the generator may have a lower
    // one.
    let named = other["name"].as_str().unwrap().strip_prefix("pid ").unwrap().parse::<u32>().unwrap();
    assert!(named <= idle.pid(), "{named}, not {}", idle.pid());
    let timers = &other["lines"][0];
    assert!(timers["kernel"].as_i64().unwrap() > 0 || timers["name"] == "expired", "{other:#}");
    check(&report["tier"], code, other);
}

#[test]
fn audit_text_names_the_kernel_counters() {
    let place = quiet_place();
    let (_, text) = audited(&place, &place, &[]);
    println!("{text}");
    assert!(text.starts_with("audit of "), "{text}");
    for words in ["TW + TWKilled", "TCPTimeWaitOverflow", "TWRecycled", "sockstat tw", "with the kernel"] {
        assert!(text.contains(words), "{words} is missing: {text}");
    }
}
