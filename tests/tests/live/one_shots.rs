//! Thousands of processes that open one connection each, during a flood: every command that reads the recording must
//! find each of them. The kernel closes their sockets when they exit, so opener and closer differ and one event writes
//! two rows of `processes`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::python::{Program, rows};
use serde_json::Value;
use tempfile::TempDir;
use twtrace_core::event::Event;
use twtrace_recording::reader::{ReadOptions, Recording};
use twtrace_tests::record::{Record, json_of, output_of};
use twtrace_tests::top::{churn, number, quiet_place};
use twtrace_tests::workload::Churned;

const NAME: &str = "one-shots.twt";
const ONE_SHOTS: u64 = 5000;

/// Outcomes that leave a TIME_WAIT socket, in either substate.
const CREATED: [&str; 2] = ["time_wait", "fin_wait2_timewait"];

/// TIME_WAIT sockets by a number: of the process, or of its parent.
type Counts = BTreeMap<u64, u64>;

/// What the generator did: by process, and by parent.
fn truth(churned: &Churned) -> (Counts, Counts) {
    let shots = churned.one_shots.as_ref().unwrap();
    let (mut processes, mut parents) = (Counts::new(), Counts::new());
    for worker in &churned.workers {
        *processes.entry(worker.who.pid.into()).or_default() += worker.opened;
        *parents.entry(worker.who.ppid.into()).or_default() += worker.opened;
    }
    for pid in &shots.pids {
        *processes.entry((*pid).into()).or_default() += 1;
        *parents.entry(shots.parent.pid.into()).or_default() += 1;
    }
    (processes, parents)
}

/// Sums of a figure by a number, only for the generator's processes: other programs have connections too.
fn sums(rows: impl Iterator<Item = (Option<u64>, u64)>, of: &Counts) -> Counts {
    let mut sums = Counts::new();
    for (key, count) in rows.filter_map(|(key, count)| Some((key?, count))) {
        if of.contains_key(&key) {
            *sums.entry(key).or_default() += count;
        }
    }
    sums
}

/// The same from rows in JSON.
fn of_json(rows: &Value, key: &str, of: &Counts) -> Counts {
    sums(rows.as_array().unwrap().iter().map(|row| (row[key].as_u64(), number(row, "/time_wait_created"))), of)
}

/// Asserts that two lists of thousands are the same, and shows only the first difference.
fn assert_same(found: &Counts, truth: &Counts, who: &str) {
    let differs = truth.iter().find(|(key, count)| found.get(key) != Some(count));
    assert_eq!(differs.map(|(key, count)| (key, Some(count), found.get(key))), None, "{who}");
}

/// All events, decoded in batches of `batch_rows` rows.
fn events(path: &Path, batch_rows: usize) -> Vec<Event> {
    let recording = Recording::open(path).unwrap().with_options(ReadOptions { batch_rows });
    let mut replay = recording.replay().unwrap();
    let mut events = Vec::new();
    while replay.advance(u64::MAX, &mut |event| events.push(event)).unwrap() {}
    assert_eq!((recording.info().losses.as_slice(), replay.losses()), (&[][..], &[][..]));
    events
}

#[test]
fn every_reader_of_a_recording_finds_each_one_shot() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(NAME);
    let place = quiet_place();
    let record = Record::start(&place, &path);
    let one_shots = ONE_SHOTS.to_string();
    let churned = churn(&place, &["--processes", "4", "--connections", "60000", "--one-shots", &one_shots]);
    let said = record.end();
    assert!(said.contains("lost 0"), "{said}");
    let (processes, parents) = truth(&churned);
    assert_eq!(parents.values().sum::<u64>(), 60_000 + ONE_SHOTS);

    let report = |by: &str| json_of(folder.path(), &format!("report {NAME} --format json --by {by}"));
    let by_process = report("pid");
    assert_eq!(by_process["recordings"][0]["connections_lost"], 0);
    assert_same(&of_json(&by_process["processes"], "pid", &processes), &processes, "report");
    let by_parent = report("parent");
    assert_same(&of_json(&by_parent["processes"], "ppid", &parents), &parents, "report by parent");

    let replay = |by: &str| json_of(folder.path(), &format!("replay {NAME} --once --json --by {by}"));
    assert_same(&of_json(&replay("pid")["processes"], "pid", &processes), &processes, "replay");
    assert_same(&of_json(&replay("parent")["processes"], "ppid", &parents), &parents, "replay by parent");

    let diff = |by: &str| json_of(folder.path(), &format!("diff {NAME} {NAME} --format json --by {by}"));
    for (by, name) in [("command", "one-shot"), ("parent", "churn-shots")] {
        let diff = diff(by);
        let row = diff["rows"].as_array().unwrap().iter().find(|row| row["name"] == name);
        let row = row.unwrap_or_else(|| panic!("diff by {by} has no {name}: {}", diff["rows"]));
        for side in ["before", "after"] {
            assert_eq!(row[side]["time_wait_created"], ONE_SHOTS, "diff by {by}");
        }
    }

    let lines = output_of(folder.path(), &format!("export {NAME} --format jsonl"));
    let exported: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let created = exported.iter().filter(|row| CREATED.iter().any(|outcome| row["outcome"] == *outcome));
    for (key, truth) in [("closer_pid", &processes), ("closer_ppid", &parents)] {
        let found = sums(created.clone().map(|row| (row[key].as_u64(), 1)), truth);
        assert_same(&found, truth, "export");
    }

    let query = |select: &str| Program {
        language: "sql".to_owned(),
        code: format!(
            "SELECT {select}, count(*) FROM '{NAME}/connections-*.parquet' c JOIN '{NAME}/processes-*.parquet' p \
             ON p.kind = 'process' AND p.id = c.closer WHERE c.outcome IN ('{}') GROUP BY 1",
            CREATED.join("', '")
        ),
    };
    let answers = rows(folder.path(), &[query("p.pid"), query("p.ppid")]);
    for (answer, truth) in answers.into_iter().zip([&processes, &parents]) {
        let rows = answer.unwrap();
        let number = |value: &Value| value.as_f64().map(|number| number as u64);
        assert_same(&sums(rows.iter().map(|row| (number(&row[0]), number(&row[1]).unwrap())), truth), truth, "DuckDB");
    }

    // No matter where a batch ends: with so few rows, some end between the two rows of one event.
    let whole = events(&path, 16_384);
    assert!(whole.len() > 130_000);
    assert!(whole == events(&path, 7), "what is read depends on the batches");
}
