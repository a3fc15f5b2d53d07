//! Size of recordings, and the speed of writing and reading them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "figures for whoever runs the test")]

mod common;

use common::churn::Churn;
use common::replay;
use std::time::Instant;
use twtrace::trace::reader::Recording;
use twtrace::trace::writer::{Recorder, WriteOptions};
use twtrace_core::input::Input;

/// What a connection may cost on disk, bytes.
const LIMIT: u64 = 24;

fn inputs(connections: u64) -> Vec<Input> {
    let mut churn = Churn::new(5000.0);
    let mut inputs = Vec::new();
    churn.start(&mut |input| inputs.push(input));
    for _ in 0..connections {
        churn.connection(&mut |input| inputs.push(input));
    }
    churn.end(&mut |input| inputs.push(input));
    inputs
}

#[test]
fn a_connection_costs_few_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("TWTRACE_KEEP").map_or_else(|| folder.path().join("size.twt"), Into::into);
    let connections = 60_000;
    let inputs = inputs(connections);
    let lives = inputs.iter().filter(|input| matches!(input, Input::Life(_))).count() as u64;
    assert_eq!(lives, 2 * connections);
    let mut recorder = Recorder::create(&path, WriteOptions::default()).unwrap();
    let began = Instant::now();
    inputs.iter().for_each(|input| recorder.record(input).unwrap());
    let recorded = began.elapsed();
    recorder.finish().unwrap();
    println!("recorded in {:.3} us a life", recorded.as_secs_f64() * 1e6 / lives as f64);
    let recording = Recording::open(&path).unwrap();
    let mut replayed = recording.replay().unwrap();
    let began = Instant::now();
    let mut count = 0;
    while replayed.advance(u64::MAX, &mut |_| count += 1).unwrap() {}
    println!("read in {:.3} us a life", began.elapsed().as_secs_f64() * 1e6 / lives as f64);
    let info = recording.info();
    println!("{:.2} bytes a connection", info.bytes as f64 / connections as f64);
    assert_eq!(info.connections, lives);
    assert!(info.bytes <= LIMIT * connections, "{} bytes", info.bytes);
    assert!(replay(&path) == inputs, "not the same");
}
