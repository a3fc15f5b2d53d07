//! Recordings of many hosts as one dataset, and the queries of docs/fleet.md, on recordings of known events.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::python::{Program, rows};
use crate::common::recorded::{HOSTILE, SECOND};
use serde_json::{Value, json};
use tempfile::TempDir;
use twtrace_core::event::{Event, Role};
use twtrace_recording::writer::{Recorder, WriteOptions};
use twtrace_testkit::{
    BuildConnection as _, MICROSECOND_NS, answered, kernel, kernel_facts, owner, start, tick, tuple,
};
use twtrace_tests::tracer::program;

const DOCS: &str = include_str!("../../../docs/fleet.md");

/// 2026-09-22T00:00:00Z, seconds since the Unix epoch: in the middle of the recordings.
const MIDNIGHT: i128 = 20_718 * 86_400;

/// Length of each recording, seconds.
const LENGTH: u64 = 120;

/// How far the clock of the server is ahead, milliseconds.
const AHEAD_MS: i128 = 2500;

/// A recording of a host whose clock is ahead, of what happens in each second.
fn record(folder: &Path, host: &str, ahead_ms: i128, second: impl Fn(u64, &mut Vec<Event>)) {
    let began = MIDNIGHT * 1_000_000_000 - i128::from(LENGTH / 2 * SECOND);
    let mut events = vec![start(SECOND).unix(began + ahead_ms * 1_000_000).host(host, "", "").event()];
    for number in 1..=LENGTH {
        second(number, &mut events);
        events.push(kernel(kernel_facts()));
        events.push(tick(SECOND + number * SECOND));
    }
    let mut recorder = Recorder::create(&folder.join(format!("{host}.twt")), WriteOptions::default()).unwrap();
    events.iter().for_each(|event| recorder.record(event).unwrap());
    recorder.finish().unwrap();
}

/// Two connections a second from `api` on web-1 to `postgres` on db-1, and one a second of a hostile program on 007.
fn fleet() -> TempDir {
    let folder = TempDir::new().unwrap();
    let port = |second: u64, part: u64| 32_768 + (2 * second + part) as u16;
    let at = |second: u64, part: u64| SECOND + second * SECOND - SECOND / 2 + part * SECOND / 10;
    let (web, db) = ([10, 0, 1, 1], [10, 0, 2, 1]);
    record(folder.path(), "web-1", 0, |second, events| {
        for part in 0..2 {
            let mut of = tuple(port(second, part), db, 5432);
            of.local_addr = web.into();
            let connection = answered(10 * second + part, owner(300, "api"), of, at(second, part));
            events.push(connection.usual(Role::Active, true, 1000 * MICROSECOND_NS).event());
        }
    });
    record(folder.path(), "db-1", AHEAD_MS, |second, events| {
        for part in 0..2 {
            let mut of = tuple(5432, web, port(second, part));
            of.local_addr = db.into();
            let connection = answered(10 * second + part, owner(700, "postgres"), of, at(second, part));
            events.push(connection.usual(Role::Passive, false, 1000 * MICROSECOND_NS).event());
        }
    });
    record(folder.path(), "007", 0, |second, events| {
        let of = tuple(port(second, 0), [10, 0, 9, 9], 80);
        let connection = answered(second, owner(400, HOSTILE), of, at(second, 0));
        events.push(connection.usual(Role::Active, true, 1000 * MICROSECOND_NS).event());
    });
    folder
}

fn twtrace(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program("twtrace")).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const EXPORT: [&str; 6] = ["export", "web-1.twt", "db-1.twt", "007.twt", "--dataset", "fleet"];

/// The blocks of the page, by what follows the language.
fn blocks(language: &str) -> BTreeMap<&'static str, String> {
    let mut blocks = BTreeMap::new();
    let mut lines = DOCS.lines();
    while let Some(line) = lines.next() {
        let Some(fence) = line.strip_prefix("```").filter(|fence| !fence.is_empty()) else { continue };
        let code: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some(name) = fence.strip_prefix(language) {
            blocks.insert(name.trim(), code.join("\n"));
        }
    }
    blocks
}

/// What the queries must answer.
fn truth() -> BTreeMap<&'static str, Vec<Vec<Value>>> {
    let hostile = std::str::from_utf8(HOSTILE).unwrap();
    let (all, half) = (LENGTH as f64, LENGTH as f64 / 2.0);
    let ports = 60_999.0 - 32_768.0 + 1.0;
    BTreeMap::from([
        (
            "churners",
            vec![
                vec![json!("web-1"), json!("api"), json!(2.0 * all), json!(1.0)],
                vec![json!("007"), json!(hostile), json!(all), json!(1.0)],
            ],
        ),
        (
            "ports",
            vec![
                vec![json!("web-1"), json!("10.0.2.1"), json!(5432.0), json!(120.0), json!(ports)],
                vec![json!("007"), json!("10.0.9.9"), json!(80.0), json!(60.0), json!(ports)],
            ],
        ),
        (
            "deploy",
            vec![
                vec![json!("007"), json!(hostile), json!(half), json!(half)],
                vec![json!("web-1"), json!("api"), json!(all), json!(all)],
            ],
        ),
        (
            "pairs",
            vec![vec![
                json!("web-1"),
                json!("db-1"),
                json!("api"),
                json!("postgres"),
                json!(2.0 * all),
                json!(AHEAD_MS as f64),
            ]],
        ),
    ])
}

/// The files of a dataset with their bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.display().to_string(), fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn documented_queries_over_a_fleet_return_what_happened() {
    let folder = fleet();
    twtrace(folder.path(), &EXPORT);
    let (truth, blocks) = (truth(), blocks("sql"));
    let names: Vec<&str> = truth.keys().copied().collect();
    let run = |name: &&str| Program {
        language: "sql".to_owned(),
        // Each in views of its own.
        code: format!(
            "{}\n{}",
            blocks["setup"].replace("CREATE ", "CREATE OR REPLACE "),
            blocks[&*format!("test {name}")]
        ),
    };
    let programs: Vec<Program> = names.iter().map(run).collect();
    for (name, answer) in names.iter().zip(rows(folder.path(), &programs)) {
        assert_eq!(answer.unwrap_or_else(|error| panic!("{name}: {error}")), truth[name], "{name}");
    }

    // The report of the same recordings has the same rows.
    let arguments = ["report", "web-1.twt", "db-1.twt", "007.twt", "--by", "command", "--format", "json"];
    let report: Value = serde_json::from_str(&twtrace(folder.path(), &arguments)).unwrap();
    let mut created: Vec<Vec<Value>> = report["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| vec![row["host"].clone(), row["command"].clone(), json!(row["time_wait_created"].as_f64().unwrap())])
        .filter(|row| row[2] != json!(0.0))
        .collect();
    created.sort_by(|a, b| b[2].as_f64().unwrap().total_cmp(&a[2].as_f64().unwrap()));
    let queried: Vec<Vec<Value>> = truth["churners"].iter().map(|row| row[..3].to_vec()).collect();
    assert_eq!(created, queried);
}

#[test]
fn dataset_has_each_row_once_however_often_it_is_exported() {
    let folder = fleet();
    twtrace(folder.path(), &EXPORT);
    let first = files(&folder.path().join("fleet"));
    // Two tables, three hosts, two days; one host's clock is ahead, and on the same two days.
    assert_eq!(first.len(), 12, "{:?}", first.keys());
    assert!(first.keys().all(|path| path.contains("/host=") && path.contains("/date=2026-09-2")));
    twtrace(folder.path(), &EXPORT);
    assert!(first == files(&folder.path().join("fleet")), "the same files, byte for byte");

    // A host's name leads nowhere else.
    record(folder.path(), "x", 0, |_, _| {});
    let hostile = folder.path().join("h.twt");
    let mut recorder = Recorder::create(&hostile, WriteOptions::default()).unwrap();
    for event in [start(SECOND).host("../../out", "", "").event(), kernel(kernel_facts()), tick(2 * SECOND)] {
        recorder.record(&event).unwrap();
    }
    recorder.finish().unwrap();
    twtrace(folder.path(), &["export", "h.twt", "--dataset", "fleet/inner"]);
    let inner = files(&folder.path().join("fleet/inner"));
    assert!(inner.len() == 1 && inner.keys().all(|path| path.contains("/host=%2E.%2F..%2Fout/")), "{:?}", inner.keys());
}
