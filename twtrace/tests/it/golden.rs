//! Recordings of all versions of the format have the events that were recorded. See `tests/golden/README.md`.

use crate::common::read;
use std::fs;
use std::path::{Path, PathBuf};
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

/// Whether all words come back in their order. Between them there may be fields that came later.
fn has_words(expected: &str, found: &str) -> bool {
    fn words(line: &str) -> impl Iterator<Item = &str> {
        line.split(' ').map(|word| word.trim_end_matches(','))
    }
    let depth = |word: &str| word.matches('{').count() as i32 - word.matches('}').count() as i32;
    let mut found = words(found);
    for word in words(expected) {
        match found.next() {
            Some(same) if same == word => {}
            // A field of its own name, up to the one that is looked for. It may have fields itself.
            Some(field) if field.ends_with(':') => {
                let mut inside = 0;
                let is_it = |later: &str| {
                    let is_it = inside == 0 && later == word;
                    inside += depth(later);
                    is_it
                };
                if !found.any(is_it) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    found.next().is_none()
}

#[test]
fn events_are_those_that_were_recorded() {
    for path in recordings() {
        let (found, losses) = read(&Recording::open(&path).unwrap());
        assert_eq!(losses, [], "{}", path.display());
        let expected = fs::read_to_string(path.with_extension("events.txt")).unwrap();
        assert_eq!(found.len(), expected.lines().count(), "{}", path.display());
        for (index, (expected, found)) in expected.lines().zip(found).enumerate() {
            let found = format!("{found:?}");
            assert!(has_words(expected, &found), "event {index} of {}:\n{expected}\n{found}", path.display());
        }
    }
}

#[test]
fn only_new_fields_pass() {
    let old = "Connection { cookie: 1, path: [A, B], end_ns: 5 }";
    assert!(has_words(old, old));
    assert!(has_words(
        old,
        "Connection { cookie: 1, mark: Some(Mark { a: 1, b: 2 }), path: [A, B], end_ns: 5, uid: 7 }"
    ));
    assert!(has_words(old, "Connection { cookie: 1, path: [A, B], end_ns: 5, uid: 7, mark: Mark { a: 1, b: 2 } }"));
    for other in [
        "Connection { cookie: 1, path: [A, B] }",
        "Connection { cookie: 2, path: [A, B], end_ns: 5 }",
        "Connection { cookie: 1, path: [A, B, C], end_ns: 5 }",
        "Connection { cookie: 1, path: [B, A], end_ns: 5 }",
        "Connection { cookie: 1, path: [A, B], end_ns: 5 } more",
    ] {
        assert!(!has_words(old, other), "{other}");
    }
}
