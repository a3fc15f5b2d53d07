//! Plays a run under the tracer.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bed::TestBed;
use super::{Run, Who};
use crate::top::Top;

/// The result of a run.
#[derive(Debug)]
pub struct Played {
    /// The last report while the load ran.
    pub during: Value,
    /// The report after it.
    pub end: Value,
    /// Process id of the load.
    pub load: u32,
    /// The process id that each expected finding must name; `None` if it is not known here.
    pub who: Vec<Option<u32>>,
    /// How long the load ran.
    pub seconds: f64,
    /// What it printed.
    pub printed: String,
    /// For a tracer that started late: what another one, which has seen everything, reported at that time, by command.
    pub truth: Option<Value>,
}

/// When the tracer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    /// Before the load.
    First,
    /// When the load has run for a while: what it did before that is not seen.
    Late,
}

/// For how long.
const LATE: Duration = Duration::from_millis(1500);

/// For what comes while the machine does something else: a loss is a finding of its own.
const ROOM: [&str; 2] = ["--ring-bytes", "64M"];

/// How often a run is played when the tracer is attached only after the load has ended, as on a busy machine.
const ATTEMPTS: u32 = 3;

/// Plays a run to its end, with a tracer of its own.
///
/// # Panics
/// If something does not start, or fails.
pub fn play(run: &Run, starts: Starts) -> Played {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match play_once(run, starts) {
            Some((played, true)) => return played,
            // What it missed, it may miss again.
            Some((played, false)) => last = Some(played),
            None => {}
        }
    }
    last.unwrap_or_else(|| panic!("the load ended before the first report, {ATTEMPTS} times"))
}

/// How long it may take to attach a tracer. If it takes longer and sees no connection, it may have come after the last one.
const ATTACH: Duration = Duration::from_millis(1500);

/// With whether the tracer was there in time. `None` if the load ended before there was a report.
fn play_once(run: &Run, starts: Starts) -> Option<(Played, bool)> {
    let bed = TestBed::of(run);
    let first = (starts == Starts::First).then(|| Top::start(&bed.place, &ROOM));
    let witness =
        (starts == Starts::Late).then(|| Top::start_here(&bed.place, &[&ROOM[..], &["--by", "command"]].concat()));
    let began = Instant::now();
    let mut load = bed.load(run);
    let top = first.unwrap_or_else(|| {
        thread::sleep(LATE);
        // Likely owners are those of its own namespace.
        Top::start_here(&bed.place, &ROOM)
    });
    let is_in_time = starts == Starts::First || began.elapsed() < LATE + ATTACH;
    let truth = witness.map(|witness| witness.newest());
    let pid = load.pid();
    let mut during = Value::Null;
    loop {
        let report = top.report();
        if !load.runs() {
            break;
        }
        during = report;
    }
    if during.is_null() {
        load.end();
        return None;
    }
    let seconds = began.elapsed().as_secs_f64();
    let printed = load.end();
    let who = |who: &Who| match who {
        Who::Load => Some(pid),
        Who::Nobody | Who::ChildOfLoad | Who::ChildrenOfLoad | Who::WorkersOfLoad(_) => None,
        Who::Server(name) => Some(bed.server(name)),
        Who::WorkerOf(name) => Some(bed.worker(name)),
    };
    let who = run.expected.iter().map(|expected| who(&expected.who)).collect();
    // Two censuses later, so that the tracer knows of every connection that ended last.
    top.report();
    top.report();
    let end = top.end();
    let has_seen = ["opened", "accepted"].iter().any(|name| end["totals"][*name].as_u64() > Some(0));
    Some((Played { during, end, load: pid, who, seconds, printed, truth }, is_in_time || has_seen))
}
