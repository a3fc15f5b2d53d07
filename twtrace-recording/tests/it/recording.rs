//! What is recorded is read back unchanged, wherever batches, hand-overs and segments end.

use crate::common::{may_be_repeated, read};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::path::Path;
use twtrace_core::event::Event;
use twtrace_recording::export::Table;
use twtrace_recording::reader::{ReadOptions, Recording};
use twtrace_recording::writer::{Batching, Recorder, WriteOptions};
use twtrace_testkit::strategies::event;

/// Rows that are decoded at once. With 1, every event with several rows is split at each possible place.
const BATCH_ROWS: [usize; 5] = [1, 2, 3, 64, 16_384];

fn open(path: &Path, batch_rows: usize) -> Recording {
    let recording = Recording::open(path).unwrap().with_options(ReadOptions { batch_rows });
    assert_eq!(recording.info().losses, []);
    recording
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_list_comes_back_in_batches_of_any_size(
        events in vec(event(), 0..200),
        hand_over_rows in select(&[1, 2, 3, 10, 65_536][..]),
        segment_connections in select(&[1, 3, 20, 1_000_000][..]),
        is_sealed: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.twt");
        let batching = Batching { hand_over_rows, segment_connections };
        let mut recorder = Recorder::create(&path, WriteOptions { batching, ..WriteOptions::default() }).unwrap();
        events.iter().for_each(|event| recorder.record(event).unwrap());
        let segments = if is_sealed {
            recorder.finish().unwrap().segments
        } else {
            // As if it had been killed: the last segment stays open.
            drop(recorder);
            0
        };
        for batch_rows in BATCH_ROWS {
            let (found, losses) = match Recording::open(&path) {
                Ok(_) => read(&open(&path, batch_rows)),
                // Nothing was handed over yet.
                Err(_) if !is_sealed => (Vec::new(), Vec::new()),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            prop_assert_eq!(losses, []);
            for (index, (found, event)) in found.iter().zip(&events).enumerate() {
                prop_assert_eq!(found, event, "event {} in batches of {}", index, batch_rows);
            }
            // Each event is at least one row, in one of the tables.
            let missing = if is_sealed { 1 } else { Table::ALL.len() * hand_over_rows };
            prop_assert!(found.len() + missing > events.len(), "{} of {}", found.len(), events.len());
        }
        // Each segment can be read alone.
        for segment in (1..=segments).take(4) {
            for batch_rows in [1, 16_384] {
                let mut replay = open(&path, batch_rows).replay_from(segment as u32).unwrap();
                let mut found = Vec::new();
                while replay.advance(u64::MAX, &mut |event| found.push(event)).unwrap() {}
                prop_assert_eq!(replay.losses(), []);
                let found: Vec<&Event> = found.iter().filter(|event| !may_be_repeated(event)).collect();
                let all: Vec<&Event> = events.iter().filter(|event| !may_be_repeated(event)).collect();
                prop_assert!(all.ends_with(&found), "segment {} of {} in batches of {}", segment, segments, batch_rows);
            }
        }
    }
}
