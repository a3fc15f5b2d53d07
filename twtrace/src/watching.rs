//! A state, and a recording of its events that a user of the screen may start and end.

use crate::tracer::Work;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use twtrace_core::event::{Event, KernelCounters};
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::State;
use twtrace_probe::source::EventSource;
use twtrace_recording::writer::{Frozen, Progress, Recorder};

/// What the user wants of the recording.
pub(crate) enum Order {
    /// Record from now on.
    Begin(Box<Recorder>),
    /// Keep the end of it apart, and say what came of that.
    Freeze {
        /// The recording to create.
        path: PathBuf,
        /// How much of the end.
        last: Duration,
        /// Where the result goes.
        done: Sender<anyhow::Result<Frozen>>,
    },
    /// Seal what was recorded.
    End,
}

/// How a recording ended.
pub(crate) struct Outcome {
    /// What was recorded.
    pub(crate) progress: Progress,
    /// Why it ended early, or could not be sealed.
    pub(crate) failure: Option<anyhow::Error>,
}

/// The user's side. There is one outcome for each recording that began.
pub(crate) struct Control {
    pub(crate) orders: Sender<Order>,
    pub(crate) outcomes: Receiver<Outcome>,
}

/// A recording in progress.
struct Recording {
    recorder: Box<Recorder>,
    /// The counters at its beginning: what was lost before is not lost from it.
    first: KernelCounters,
}

impl Recording {
    fn record(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Counters(counters) => self.recorder.record(&Event::Counters(counters.since(&self.first))),
            _ => self.recorder.record(event),
        }
    }
}

/// How far the end of a recording is: with the counters of a moment after its last event, it says what it lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    Ordered,
    Counted,
}

/// The tracer's side. Dropping it seals what is recorded, also when the trace has failed.
struct Tape {
    orders: Receiver<Order>,
    outcomes: Sender<Outcome>,
    recording: Option<Recording>,
    ending: Ending,
    /// Threads that seal: the ring buffer must be read meanwhile.
    sealing: Vec<JoinHandle<()>>,
}

impl Tape {
    /// Acts on the next order. Returns whether a recording has begun, which knows no socket yet.
    fn obey(&mut self, order: Order, state: &State) -> bool {
        match order {
            Order::Begin(recorder) => {
                let mut recording = Recording { recorder, first: state.summary().counters };
                let failure = state.preface().iter().find_map(|event| recording.record(event).err());
                self.recording = Some(recording);
                if failure.is_some() {
                    self.end(failure);
                }
                self.recording.is_some()
            }
            Order::Freeze { path, last, done } => {
                // Without a recording, its end says why there is none.
                if let Some(recording) = &mut self.recording {
                    recording.recorder.freeze(path, last, done);
                }
                false
            }
            Order::End => {
                self.ending = Ending::Ordered;
                false
            }
        }
    }

    fn record(&mut self, event: &Event) {
        if let Some(failure) = self.recording.as_mut().and_then(|recording| recording.record(event).err()) {
            self.end(Some(failure));
        }
        self.ending = match (self.ending, event) {
            (Ending::Ordered, Event::Counters(_)) => Ending::Counted,
            (Ending::Counted, Event::Tick { .. }) => {
                self.end(None);
                Ending::No
            }
            (ending, _) => ending,
        };
    }

    /// Seals the recording, if there is one, on a thread of its own. A failed one is let go of, which takes a while as well.
    fn end(&mut self, failure: Option<anyhow::Error>) {
        self.ending = Ending::No;
        let Some(Recording { recorder, .. }) = self.recording.take() else { return };
        let outcomes = self.outcomes.clone();
        let seal = move || {
            let before = recorder.progress();
            let outcome = match recorder.finish() {
                Ok(progress) => Outcome { progress, failure },
                Err(error) => Outcome { progress: before, failure: Some(failure.unwrap_or(error)) },
            };
            // If the user is gone, there is no one to report to.
            let _ = outcomes.send(outcome);
        };
        match thread::Builder::new().name("seal".to_owned()).spawn(seal) {
            Ok(thread) => self.sealing.push(thread),
            Err(error) => {
                let failure = Some(anyhow::Error::from(error).context("cannot seal it"));
                let _ = self.outcomes.send(Outcome { progress: Progress::default(), failure });
            }
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.end(None);
        // A thread that has failed reports nothing.
        self.sealing.drain(..).for_each(|thread| _ = thread.join());
    }
}

/// A state, and maybe a recording.
pub(crate) struct Watching {
    state: State,
    /// Delivers a state that knows something already, before the first event.
    prior: Option<Receiver<State>>,
    /// Delivers the recorder of the whole trace, which its first event waits for.
    recorder: Option<Receiver<Box<Recorder>>>,
    tape: Option<Tape>,
}

impl Watching {
    /// Without a recording.
    pub(crate) fn new(state: State) -> Self {
        Self { state, prior: None, recorder: None, tape: None }
    }

    /// The same, and takes the state from there if there is one by the first event.
    pub(crate) fn after(self, prior: Receiver<State>) -> Self {
        Self { prior: Some(prior), ..self }
    }

    /// With recordings that are started and ended by orders.
    pub(crate) fn with_control(self) -> (Self, Control) {
        let (orders, todo) = channel();
        let (done, outcomes) = channel();
        let tape = Tape { orders: todo, outcomes: done, recording: None, ending: Ending::No, sealing: Vec::new() };
        (Self { tape: Some(tape), ..self }, Control { orders, outcomes })
    }

    /// The same, recorded from the first event on. That event waits for the recorder; if its sender is dropped, there is
    /// none.
    pub(crate) fn recorded_by(self, recorder: Receiver<Box<Recorder>>) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// Waits until all recordings are sealed, also one that was ordered last.
    pub(crate) fn finish(self) {
        let Self { state, tape, .. } = self;
        let Some(mut tape) = tape else { return };
        while let Ok(order) = tape.orders.try_recv() {
            tape.obey(order, &state);
        }
    }
}

impl Work for Watching {
    type View = Snapshot;

    fn apply(&mut self, event: Event) {
        if let Some(prior) = self.prior.take()
            && let Ok(state) = prior.try_recv()
        {
            self.state = state;
        }
        if let Some(tape) = &mut self.tape {
            if let Some(recorder) = self.recorder.take().and_then(|recorder| recorder.recv().ok()) {
                tape.recording = Some(Recording { recorder, first: KernelCounters::default() });
            }
            tape.record(&event);
        }
        self.state.apply(event);
    }

    fn applied(&mut self, source: &mut dyn EventSource) -> anyhow::Result<()> {
        let Some(tape) = &mut self.tape else { return Ok(()) };
        let has_begun = tape.orders.try_recv().is_ok_and(|order| tape.obey(order, &self.state));
        let wants_all = tape.recording.as_mut().is_some_and(|recording| recording.recorder.wants_whole_census());
        if has_begun || wants_all {
            source.restate();
        }
        Ok(())
    }

    fn view(&mut self, sockets: bool) -> Snapshot {
        if sockets { Snapshot::with_sockets(&mut self.state) } else { Snapshot::take(&mut self.state) }
    }
}
