//! `report` and `diff` from the outside: recordings in, forms and errors out.

use assert_cmd::Command;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;
use twtrace_recording::writer::WriteOptions;
use twtrace_testkit::churn::churn;

/// A folder with a recording of so many connections at so many a second.
fn recorded(folder: &TempDir, name: &str, connections: usize, rate: f64) -> PathBuf {
    let path = folder.path().join(name);
    crate::common::record(&path, &churn(connections as u64, rate), WriteOptions::default());
    path
}

fn run(folder: &TempDir, arguments: &[&str], code: i32) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twtrace"));
    command.args(arguments).current_dir(folder.path()).assert().code(code).get_output().clone()
}

fn said(folder: &TempDir, arguments: &[&str], code: i32) -> (String, String) {
    let Output { stdout, stderr, .. } = run(folder, arguments, code);
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn json(folder: &TempDir, arguments: &[&str]) -> serde_json::Value {
    crate::schema::read(arguments[0], &said(folder, &[arguments, &["--format", "json"]].concat(), 0).0)
}

#[test]
fn every_form_is_written_to_where_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    recorded(&folder, "a.twt", 500, 50.0);
    for (format, name, begin) in [
        ("text", "a.txt", "TIME_WAIT churn on web-1"),
        ("json", "a.json", "{\"schema\":1,"),
        ("csv", "a.csv", "host,recording,start,seconds,processes,pid"),
        ("html", "a.html", "<!DOCTYPE html>"),
        ("markdown", "a.md", "# TIME\\_WAIT churn on web-1"),
    ] {
        let (out, error) = said(&folder, &["report", "a.twt", "--format", format], 0);
        assert!(out.starts_with(begin) && error.is_empty(), "{out} {error}");
        assert_eq!(said(&folder, &["report", "a.twt", "-o", name], 0), (String::new(), String::new()));
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), out, "{format}");
    }
}

#[test]
fn figures_are_those_of_the_workload() {
    let folder = tempfile::tempdir().unwrap();
    recorded(&folder, "a.twt", 500, 50.0);
    let report = json(&folder, &["report", "a.twt", "--by", "command"]);
    let rows = report["groups"]["rows"].as_array().unwrap();
    let created =
        |name: &str| rows.iter().find(|row| row["command"] == name).unwrap()["time_wait_created"].as_u64().unwrap();
    assert_eq!((created("worker"), created("server")), (500, 0));
    assert_eq!(report["recordings"][0]["connections"], 1000);
    let some = json(&folder, &["report", "a.twt", "--comm", "server", "--top", "1"]);
    assert_eq!(some["recordings"][0]["totals"]["time_wait_created"], 0);
    assert_eq!(some["processes"].as_array().unwrap().len(), 1);
    // Halves come to the whole.
    let half = |arguments: &[&str]| {
        let report = json(&folder, &[&["report", "a.twt"], arguments].concat());
        report["recordings"][0]["totals"]["time_wait_created"].as_u64().unwrap()
    };
    assert_eq!(half(&["--to", "+5s"]) + half(&["--from", "+5s"]), 500);
}

#[test]
fn two_recordings_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    recorded(&folder, "before.twt", 2000, 100.0);
    recorded(&folder, "after.twt", 40, 2.0);
    let (text, error) = said(&folder, &["diff", "before.twt", "after.twt"], 0);
    assert!(text.starts_with("TIME_WAIT sockets created fell from ") && error.is_empty(), "{text}{error}");
    assert!(text.contains("by worker to 127.0.0.1:9000"), "{text}");
    let diff = json(&folder, &["diff", "before.twt", "after.twt"]);
    assert_eq!(diff["verdict"]["direction"], "fell");
    let (markdown, _) = said(&folder, &["diff", "after.twt", "before.twt", "--format", "markdown", "--by", "user"], 0);
    assert!(markdown.contains("TIME\\_WAIT sockets created rose from") && markdown.contains("| app |"), "{markdown}");
}

#[test]
fn mistakes_have_one_line_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    recorded(&folder, "a.twt", 100, 50.0);
    fs::create_dir(folder.path().join("empty.twt")).unwrap();
    for (arguments, code, expected) in [
        (&["report"][..], 2, "<DIR.twt>"),
        (&["report", "a.twt", "--format", "pdf"], 2, "possible values: text, json, csv, html, markdown"),
        (&["report", "a.twt", "--from", "noon"], 2, "+90s from the start"),
        (&["report", "a.twt", "--top", "0"], 2, "from 1 on"),
        (&["diff", "a.twt"], 2, "<AFTER.twt>"),
        (&["diff", "a.twt", "a.twt", "--format", "csv"], 2, "possible values: text, json, markdown"),
        (&["report", "none.twt"], 1, "none.twt"),
        (&["report", "empty.twt"], 1, "empty.twt"),
        (&["report", "a.twt", "none.twt"], 1, "none.twt"),
        (&["report", "a.twt", "-o", "none/a.html"], 1, "cannot write none/a.html"),
        (&["report", "a.twt", "--from", "+10s", "--to", "+5s"], 1, "is not before --to"),
        (&["report", "a.twt", "--from", "-1s", "--to", "-2s"], 1, "is not before --to"),
        (&["report", "a.twt", "--from", "+2h"], 1, "is too late: a.twt is from 2026-09-21T"),
        (&["report", "a.twt", "--to", "2020-01-01T00:00:00Z"], 1, "is too early"),
        (&["diff", "a.twt", "none.twt"], 1, "none.twt"),
    ] {
        let (out, error) = said(&folder, arguments, code);
        assert!(out.is_empty() && error.contains(expected), "{arguments:?}: {out}{error}");
        if code == 1 {
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}

/// Breaks the first file of a kind that a recording has.
fn damage(recording: &Path, kind: &str) {
    let mut files: Vec<PathBuf> = fs::read_dir(recording).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let file = files.iter().find(|file| file.file_name().unwrap().to_str().unwrap().starts_with(kind)).unwrap();
    fs::write(file, b"not what it was").unwrap();
}

#[test]
fn what_is_left_of_a_damaged_recording_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = recorded(&folder, "a.twt", 100, 50.0);
    damage(&path, "recording.json");
    let (text, error) = said(&folder, &["report", "a.twt"], 0);
    assert!(error.starts_with("twtrace: a.twt: recording.json "), "{error}");
    assert!(text.contains("WARNING: a.twt: recording.json "), "{text}");
    let report = json(&folder, &["report", "a.twt"]);
    assert_eq!(report["recordings"][0]["losses"][0]["file"], "recording.json");
    let (text, _) = said(&folder, &["diff", "a.twt", "a.twt"], 0);
    assert!(text.contains("cannot be read"), "{text}");
    // Of its only segment nothing is left.
    damage(&recorded(&folder, "b.twt", 100, 50.0), "connections");
    let (_, error) = said(&folder, &["report", "b.twt"], 1);
    assert!(error.contains("connections-") && error.lines().count() == 1, "{error}");
}
