//! Plays a take under the tracer.

use std::time::Instant;

use serde_json::Value;

use super::stage::TestBed;
use super::{Run, Who};
use crate::top::Top;

/// What a take came to.
#[derive(Debug)]
pub struct Played {
    /// The last report while the load ran.
    pub during: Value,
    /// The report after it.
    pub end: Value,
    /// Process id of the load.
    pub load: u32,
    /// Process id of the one who is to be found.
    pub who: Option<u32>,
    /// How long the load ran.
    pub seconds: f64,
    /// What it printed.
    pub printed: String,
}

/// Plays a take from its beginning to its end, with a tracer of its own.
///
/// # Panics
/// When something does not start, or fails.
pub fn play(take: &Run) -> Played {
    let stage = TestBed::of(take);
    let top = Top::start(&stage.place, &[]);
    let began = Instant::now();
    let mut load = stage.start((take.load)(&stage));
    let pid = load.pid();
    let mut during = Value::Null;
    loop {
        let report = top.report();
        if !load.runs() {
            break;
        }
        during = report;
    }
    let seconds = began.elapsed().as_secs_f64();
    let printed = load.end();
    let who = take.expected.and_then(|expected| match expected.who {
        Who::Load => Some(pid),
        Who::ChildrenOfLoad | Who::WorkersOfLoad(_) => None,
        Who::Server(name) => Some(stage.server(name)),
        Who::WorkerOf(name) => Some(stage.worker(name)),
    });
    // Two censuses later, so that it knows of each connection that ended at the end.
    top.report();
    top.report();
    Played { during, end: top.end(), load: pid, who, seconds, printed }
}
