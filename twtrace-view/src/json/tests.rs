#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::fits::assert_fits;
use serde_json::Value;
use twtrace_core::event::ContainerFacts;
use twtrace_core::snapshot::{GROUPINGS, Snapshot};
use twtrace_core::state::{Config, Limits, State};
use twtrace_testkit::{container, web};

fn json(snapshot: &Snapshot, options: Options) -> Value {
    let mut out = Vec::new();
    write(snapshot, options, &mut out).unwrap();
    read(out)
}

fn read(out: Vec<u8>) -> Value {
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.trim_end().chars().all(text::is_plain));
    let report = serde_json::from_str(&text).unwrap();
    assert_fits("top", &report);
    report
}

fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn assert_has(value: &Value, expected: &str) {
    let names = names(value);
    for name in expected.split(' ') {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

#[test]
fn snapshot_from_an_agent_is_shown_as_its_own() {
    let (own, theirs) = (web::snapshot(), Snapshot::of_image(&web::snapshot().to_image().unwrap()).unwrap());
    for grouping in GROUPINGS {
        let options = Options { by: grouping.by, ..Options::default() };
        assert_eq!(json(&own, options), json(&theirs, options), "{}", grouping.name);
    }
}

/// These names are promised: see the schema. Add names, and never remove one.
#[test]
fn field_names_are_pinned() {
    let report = json(&web::snapshot(), Options { by: GroupBy::Parent, ..Options::default() });
    assert_eq!(report["schema"], 1);
    assert_has(&report, "schema host window tracing kernel coverage totals processes groups destinations findings");
    assert_has(&report["host"], "hostname kernel boot_id netns");
    assert_has(&report["window"], "start end seconds");
    assert_has(&report["tracing"], "tier hooks events lost kernel_counters");
    assert_has(&report["tracing"]["hooks"][0], "name kind attached reason");
    assert_has(&report["tracing"]["lost"], "ring_full parts_refused recursion stale undecodable");
    assert_has(
        &report["kernel"],
        "time_wait time_wait_overflow max_tw_buckets tw_reuse port_range reserved_ports reserved_in_range",
    );
    assert_has(&report["coverage"], "census attributed before_start unattributed ratio complete census_age_s");
    let counts = "opened accepted closed_first closed_last reset time_wait_created time_wait_live fin_wait2_live \
                  created_per_s lifetime_ms errors bytes_sent bytes_received retransmits";
    let identity = "pid start_ns command exe cmdline ppid parent_command uid user cgroup container container_name image pod \
                    pod_namespace pod_uid workload unit netns \
                    netns_name owner_known other folded processes";
    assert_has(&report["totals"], counts);
    assert_has(&report["totals"], "connections outcomes corrections live_known time_wait_untracked");
    let process = &report["processes"][0];
    assert_has(process, counts);
    assert_has(process, identity);
    assert_has(process, "destinations destinations_total");
    assert_has(&process["lifetime_ms"], "p50 p99");
    assert_has(
        &process["destinations"][0],
        "netns role local_addr remote_addr port time_wait_created time_wait_live connections",
    );
    assert_has(&report["groups"], "by total rows");
    assert_has(&report["groups"]["rows"][0], counts);
    assert_has(&report["groups"]["rows"][0], identity);
    assert_has(&report["groups"]["rows"][0], "name");
    let destination = &report["destinations"][0];
    assert_has(destination, counts);
    assert_has(
        destination,
        "netns role local_addr remote_addr port utilization max_rate_per_s seconds_to_exhaustion other folded \
         seconds_to_slow soonest_seconds latest_seconds ports hold_seconds port_rate_per_s connect_ms open binding",
    );
    assert_has(
        &destination["ports"],
        "total reserved bound established other time_wait fin_wait2 reusable without_timestamps used available",
    );
    assert_has(&destination["connect_ms"], "p50 p90 p99");
    assert_has(&destination["binding"], "open_with_port with_port address_without_port own_port_range");
    assert_has(
        &report["failures"][0],
        "pid command start_ns call errno cause is_time_wait count first last netns local_addr remote_addr port",
    );
}

#[test]
fn findings_are_whole_in_their_order() {
    let snapshot = web::snapshot().with_findings(twtrace_testkit::findings());
    let mut out = Vec::new();
    write(&snapshot, Options::default(), &mut out).unwrap();
    let report = read(out);
    let all = report["findings"].as_array().unwrap();
    let first = &all[0];
    assert_has(first, "id severity active title process destination cause evidence advice confidence recheck");
    assert_has(&first["process"], "pid start_ns command ppid parent_command processes uid user");
    assert_has(&first["destination"], "netns role local_addr remote_addr port");
    assert_has(&first["advice"][0], "id text command effect risk");
    assert_eq!(
        all.iter().map(|finding| finding["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["exhaustion-reached", "fork-per-request", "incomplete-trace"]
    );
    assert_eq!(
        (&first["severity"], &first["active"], &first["cause"], &first["confidence"]),
        (&"critical".into(), &true.into(), &"no-connection-reuse".into(), &"high".into())
    );
    assert_eq!(
        (&first["process"]["pid"], &first["process"]["command"]),
        (&666.into(), &"=\u{1b}[2J\\xff\u{202e},\"x".into())
    );
    assert_eq!((&first["evidence"]["failures"], &first["evidence"]["failures_per_s"]), (&61_000.into(), &12.25.into()));
    assert_eq!(first["evidence"]["reason"], "=cmd|' /C calc'!A0 \u{1b}]0;owned\u{7}<b>\u{202e}gpj.exe|\n");
    assert_eq!(
        first["advice"][0]["effect"][0],
        serde_json::json!({ "figure": "time_wait_created_per_s", "from": 322.0, "to": 0.0 })
    );
    assert_eq!(
        (&first["advice"][0]["command"], &first["advice"][1]["command"]),
        (&Value::Null, &"sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"".into())
    );
    let forked = &all[1]["process"];
    assert_eq!(
        (&forked["pid"], &forked["ppid"], &forked["parent_command"], &forked["user"], &forked["processes"]),
        (&Value::Null, &500.into(), &"cron.sh".into(), &"deploy".into(), &40.into())
    );
    assert_eq!((&all[2]["process"], &all[2]["destination"]), (&Value::Null, &Value::Null));
}

#[test]
fn failures_have_their_cause() {
    let report = json(&web::snapshot(), Options::default());
    assert_eq!(
        report["failures"],
        serde_json::json!([{
            "pid": 700, "command": "batch", "start_ns": 700_000, "call": "connect", "errno": "EADDRNOTAVAIL",
            "cause": "no_source", "is_time_wait": false, "count": 3,
            "first": "2026-09-21T14:13:24.000Z", "last": "2026-09-21T14:13:24.000Z",
            "netns": 4_026_531_840_u32, "local_addr": "0.0.0.0", "remote_addr": "10.0.1.3", "port": 11_211,
        }])
    );
    let destinations = report["destinations"].as_array().unwrap();
    let tightest = destinations.iter().find(|row| row["port"] == 5432).unwrap();
    assert_eq!(
        tightest["ports"],
        serde_json::json!({
            "total": 250, "reserved": 6, "bound": 0, "established": 0, "other": 0, "close_wait": 0, "syn_sent": 0, "time_wait": 120, "fin_wait2": 0,
            "reusable": 0, "without_timestamps": 0, "used": 120, "available": 130,
        })
    );
    assert_eq!((&tightest["hold_seconds"], &tightest["open"]), (&60.0.into(), &0.into()));
    assert_eq!(tightest["connect_ms"], serde_json::json!({ "p50": 2.016, "p90": 2.016, "p99": 2.016 }));
}

#[test]
fn values_are_in_their_promised_form() {
    let report = json(&web::snapshot(), Options::default());
    assert!(report.get("groups").is_none());
    assert_eq!(report["window"]["start"], "2026-09-21T14:13:20.000Z");
    assert_eq!(report["window"]["end"], "2026-09-21T14:13:25.500Z");
    assert_eq!(report["window"]["seconds"], 5.5);
    assert_eq!(report["tracing"]["tier"], "cookie");
    assert_eq!(report["kernel"]["port_range"], serde_json::json!([32_768, 33_023]));
    assert_eq!(report["coverage"]["ratio"], 1.0);
    assert_eq!(report["coverage"]["before_start"], 7);
    assert_eq!(report["totals"]["live_known"], "census");
    // The 40 one-shot processes of one script are one row.
    assert_eq!(report["processes_total"], 6);
    let each = json(&web::snapshot(), Options { by: GroupBy::Pid, ..Options::default() });
    assert_eq!(each["processes_total"], 45);
    let of = |pid: u32| report["processes"].as_array().unwrap().iter().find(|row| row["pid"] == pid).unwrap();
    let api = of(300);
    assert_eq!(
        (&api["command"], &api["user"], &api["container"]),
        (&"api".into(), &"app".into(), &"a1b2c3d4e5f6".into())
    );
    assert_eq!((&api["time_wait_created"], &api["time_wait_live"]), (&120.into(), &120.into()));
    assert_eq!(api["destinations"][0]["remote_addr"], "10.0.1.2");
    assert_eq!(api["destinations"][0]["time_wait_created"], 120);
    assert_eq!(of(700)["errors"], serde_json::json!({ "EADDRNOTAVAIL": 3 }));
    assert_eq!(of(666)["command"], "=\u{1b}[2J\\xff\u{202e},\"x");
    let unknown = report["processes"].as_array().unwrap().iter().find(|row| row["owner_known"] == false).unwrap();
    assert_eq!(unknown["pid"], Value::Null);
    assert_eq!(unknown["time_wait_live"], 7);
    let first = &report["destinations"][0];
    assert_eq!(
        (&first["role"], &first["remote_addr"], &first["port"]),
        (&"active".into(), &"10.0.1.2".into(), &5432.into())
    );
    let passive = report["destinations"].as_array().unwrap().iter().find(|row| row["port"] == 80).unwrap();
    assert_eq!(
        (&passive["role"], &passive["remote_addr"], &passive["ports"]),
        (&"passive".into(), &Value::Null, &Value::Null)
    );
}

#[test]
fn groups_say_what_their_processes_have_in_common() {
    let by = |by| {
        let report = json(&web::snapshot(), Options { by, limit: Some(2), ..Options::default() });
        assert_eq!(report["processes"].as_array().unwrap().len(), 2);
        report["groups"].clone()
    };
    let parents = by(GroupBy::Parent);
    assert_eq!((&parents["by"], &parents["total"]), (&"parent".into(), &4.into()));
    let row = &parents["rows"][1];
    assert_eq!((&row["name"], &row["ppid"], &row["processes"]), (&"cron.sh[500]".into(), &500.into(), &40.into()));
    assert_eq!((&row["pid"], &row["command"], &row["uid"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!(by(GroupBy::Command)["rows"][1]["command"], "curl");
    assert_eq!(by(GroupBy::User)["rows"][0]["user"], "app");
    // The row's own example was gone before it could be looked up; another process of the cgroup was not.
    assert_eq!(by(GroupBy::Cgroup)["rows"][0]["container"], "a1b2c3d4e5f6");
}

/// The web server's host, after a runtime has named the container of its API.
fn with_names() -> Snapshot {
    let some = |text: &str| Some(text.to_owned());
    let said = ContainerFacts {
        name: some("api\u{1b}[2J"),
        image: some("api:2"),
        pod: some("api-0"),
        pod_namespace: some("shop"),
        workload: some("api"),
    };
    let mut state = State::new(Config::default());
    web::events().into_iter().for_each(|event| state.apply(event));
    state.apply(container("a1b2c3d4e5f6", said));
    Snapshot::take(&mut state)
}

#[test]
fn rows_say_where_their_processes_run() {
    let by = |by| json(&with_names(), Options { by, ..Options::default() });
    let report = by(GroupBy::Container);
    let process = report["processes"].as_array().unwrap().iter().find(|row| row["container"].is_string()).unwrap();
    let names = ["container", "container_name", "image", "pod", "pod_namespace", "workload"];
    let expected = ["a1b2c3d4e5f6", "api\\u{1b}[2J", "api:2", "api-0", "shop", "api"];
    assert_eq!(
        names.map(|name| process[name].as_str().unwrap()),
        expected.map(|text| text.replace("\\u{1b}", "\u{1b}"))
    );
    // What rows of a grouping have in common.
    for (grouping, name, common) in [
        (GroupBy::Container, "shop/api-0/api\\x1b[2J", &names[..]),
        (GroupBy::Pod, "shop/api-0", &names[3..]),
        (GroupBy::Image, "api:2", &names[2..3]),
        (GroupBy::Workload, "shop/api", &names[4..]),
        (GroupBy::ClusterNamespace, "shop", &names[4..5]),
    ] {
        let report = by(grouping);
        let rows = report["groups"]["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {rows:?}"));
        for key in names {
            assert_eq!(row[key].is_string(), common.contains(&key), "{key} of {name}");
        }
        let none = rows.iter().find(|row| row["name"] == "(none)").unwrap();
        assert!(names.iter().all(|name| none[*name].is_null()), "{none}");
    }
}

#[test]
fn folded_rows_are_reported_and_lose_nothing() {
    let limits = Limits { rows: 4, cells: 4, ..Limits::default() };
    let mut state = State::new(Config { limits, ..Config::default() });
    web::events().into_iter().for_each(|event| state.apply(event));
    let report = json(&Snapshot::take(&mut state), Options::default());
    let rows = report["processes"].as_array().unwrap();
    let folded = rows.iter().find(|row| row["folded"].as_u64().unwrap() > 0).unwrap();
    assert_eq!(folded["pid"], Value::Null);
    let created: u64 = rows.iter().map(|row| row["time_wait_created"].as_u64().unwrap()).sum();
    assert_eq!(Value::from(created), report["totals"]["time_wait_created"]);
}

#[test]
fn strings_are_whole_and_harmless() {
    let hostile = "a\u{1b}[2J\u{9b}\u{202e}\u{7f}\"\\\n\u{200b}日\u{e0041}";
    let mut bytes = Vec::new();
    serde_json::to_writer(PlainJson::new(&mut bytes), &hostile).unwrap();
    let written = String::from_utf8(bytes).unwrap();
    assert!(written.chars().all(text::is_plain), "{written}");
    assert_eq!(serde_json::from_str::<String>(&written).unwrap(), hostile);
}

#[test]
fn a_broken_pipe_stays_one() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = write(&web::snapshot(), Options::default(), &mut Closed).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
