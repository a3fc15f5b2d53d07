//! Several network namespaces on one host: each with its name, its census and its sysctls.

use serde_json::Value;
use twtrace_tests::top::{Top, churn, namespace, number, own, quiet_place, sockstat_tw};
use twtrace_tests::tracer::{Idle, Named, Place};

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
    // The name is that of the lowest PID: during the churn, that may have been another process if PIDs wrapped around.
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
