//! Size of recordings, and the speed of writing and reading them.

use crate::common::replay;
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;
use twtrace_core::event::Event;
use twtrace_recording::reader::Recording;
use twtrace_recording::writer::{Recorder, WriteOptions};
use twtrace_testkit::churn::churn;

/// Maximum size of both ends of a connection on disk, bytes.
const LIMIT: u64 = 24;

/// Processor time of this thread, and of the whole process: other programs do not count.
fn cpu() -> [Duration; 2] {
    [ClockId::CLOCK_THREAD_CPUTIME_ID, ClockId::CLOCK_PROCESS_CPUTIME_ID]
        .map(|clock| clock_gettime(clock).unwrap().into())
}

/// Microseconds per connection since then: in this thread, and in all threads.
fn each(since: [Duration; 2], connections: u64) -> String {
    let [own, all] = cpu();
    let us = |now: Duration, then: Duration| (now - then).as_secs_f64() * 1e6 / connections as f64;
    format!("{:.3} us a connection in this thread, {:.3} in all", us(own, since[0]), us(all, since[1]))
}

#[test]
fn a_connection_costs_few_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("TWTRACE_KEEP").map_or_else(|| folder.path().join("size.twt"), Into::into);
    let connections = std::env::var("TWTRACE_CONNECTIONS").map_or(60_000, |number| number.parse().unwrap());
    let events = churn(connections, 5000.0);
    let ended = events.iter().filter(|event| matches!(event, Event::Connection(_))).count() as u64;
    assert_eq!(ended, 2 * connections);
    let mut recorder = Recorder::create(&path, WriteOptions::default()).unwrap();
    let began = cpu();
    events.iter().for_each(|event| recorder.record(event).unwrap());
    println!("recorded in {}", each(began, ended));
    recorder.finish().unwrap();
    println!("recorded and sealed in {}", each(began, ended));
    let recording = Recording::open(&path).unwrap();
    let mut replayed = recording.replay().unwrap();
    let began = cpu();
    let mut count = 0;
    while replayed.advance(u64::MAX, &mut |_| count += 1).unwrap() {}
    println!("read in {}", each(began, ended));
    let info = recording.info();
    println!("{:.2} bytes for both ends of a connection", info.bytes as f64 / connections as f64);
    assert_eq!(info.connections, ended);
    assert!(info.bytes <= LIMIT * connections, "{} bytes", info.bytes);
    assert!(count as usize == events.len());
    assert!(replay(&path) == events, "not the same");
}
