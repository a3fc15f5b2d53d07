//! Recordings of all versions are read as they were when they were made. See `tests/golden/README.md`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../twtrace-recording/tests/common/mod.rs"]
mod common;

use assert_cmd::Command;
use common::read;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use twtrace_core::input::{Binding, Input};
use twtrace_recording::reader::Recording;

/// All golden recordings.
fn recordings() -> Vec<PathBuf> {
    let entries = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let versions = entries(&golden).filter(|path| path.is_dir());
    let mut found: Vec<PathBuf> = versions
        .flat_map(|path| entries(&path))
        .filter(|path| path.extension().is_some_and(|is| is == "twt"))
        .collect();
    found.sort();
    assert!(found.len() >= 2, "{found:?}");
    found
}

fn expected(recording: &Path, kind: &str) -> String {
    fs::read_to_string(recording.with_extension(kind)).unwrap()
}

/// Whether all words come back in their order. Between them there may be fields that came later.
fn has_words(expected: &str, found: &str) -> bool {
    fn words(line: &str) -> impl Iterator<Item = &str> {
        line.split(' ').map(|word| word.trim_end_matches(','))
    }
    let mut found = words(found);
    for word in words(expected) {
        match found.next() {
            Some(same) if same == word => {}
            // A field of its own name, up to the one that is looked for.
            Some(field) if field.ends_with(':') && found.any(|later| later == word) => {}
            _ => return false,
        }
    }
    found.next().is_none()
}

/// Where a result is not what it was, if it is anywhere. Objects may have gained fields.
fn difference(expected: &Value, found: &Value, at: &str) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected.iter().find_map(|(name, value)| {
            difference(value, found.get(name).unwrap_or(&Value::Null), &format!("{at}.{name}"))
        }),
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => expected
            .iter()
            .zip(found)
            .enumerate()
            .find_map(|(index, (expected, found))| difference(expected, found, &format!("{at}[{index}]"))),
        _ => (expected != found).then(|| format!("{at} is {found} instead of {expected}")),
    }
}

#[test]
fn inputs_are_those_that_were_recorded() {
    for path in recordings() {
        let (found, losses) = read(&Recording::open(&path).unwrap());
        assert_eq!(losses, [], "{}", path.display());
        let expected = expected(&path, "inputs.txt");
        assert_eq!(found.len(), expected.lines().count(), "{}", path.display());
        for (index, (expected, found)) in expected.lines().zip(found).enumerate() {
            let found = format!("{found:?}");
            assert!(has_words(expected, &found), "Input {index} of {}:\n{expected}\n{found}", path.display());
        }
    }
}

#[test]
fn results_are_what_they_were() {
    for path in recordings() {
        let name = path.file_name().unwrap().to_str().unwrap();
        for (kind, arguments) in [
            ("report.json", &["report", name, "--format", "json"][..]),
            ("replay.json", &["replay", name, "--once", "--json"]),
        ] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_twtrace"));
            let output = command.args(arguments).current_dir(path.parent().unwrap()).assert().success();
            let expected = serde_json::from_str(&expected(&path, kind)).unwrap();
            let found = serde_json::from_slice(&output.get_output().stdout).unwrap();
            assert_eq!(difference(&expected, &found, kind), None, "{}", path.display());
        }
    }
}

#[test]
fn what_schema_1_did_not_tell_is_none() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/schema-1");
    let (mut lives, mut kernels) = (0, 0);
    for name in ["finished.twt", "unfinished.twt"] {
        let (inputs, _) = read(&Recording::open(&golden.join(name)).unwrap());
        for input in inputs {
            match input {
                Input::Life(life) => {
                    assert_eq!(life.binding, Binding::default());
                    lives += 1;
                }
                Input::Kernel { facts, .. } => {
                    assert_eq!((facts.tw_reuse_delay_ms, facts.timestamps, facts.fin_timeout_s), (None, None, None));
                    kernels += 1;
                }
                _ => {}
            }
        }
    }
    assert!(lives > 100 && kernels > 10, "{lives} {kernels}");
}

#[test]
fn only_new_fields_pass() {
    let old = "Life { cookie: 1, path: [A, B], end_ns: 5 }";
    assert!(has_words(old, old));
    assert!(has_words(old, "Life { cookie: 1, mark: Some(Mark { a: 1, b: 2 }), path: [A, B], end_ns: 5, uid: 7 }"));
    for other in [
        "Life { cookie: 1, path: [A, B] }",
        "Life { cookie: 2, path: [A, B], end_ns: 5 }",
        "Life { cookie: 1, path: [A, B, C], end_ns: 5 }",
        "Life { cookie: 1, path: [B, A], end_ns: 5 }",
        "Life { cookie: 1, path: [A, B], end_ns: 5 } more",
    ] {
        assert!(!has_words(old, other), "{other}");
    }
    let old = serde_json::json!({"a": [1, {"b": 2}], "c": null});
    assert_eq!(difference(&old, &serde_json::json!({"a": [1, {"b": 2, "d": 3}], "c": null, "e": 4}), ""), None);
    let other = serde_json::json!({"a": [1, {"b": 3}], "c": null});
    assert_eq!(difference(&old, &other, "x"), Some("x.a[1].b is 3 instead of 2".to_owned()));
    assert!(difference(&old, &serde_json::json!({"a": [1], "c": null}), "").is_some());
}
