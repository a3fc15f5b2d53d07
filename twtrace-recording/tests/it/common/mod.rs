//! Recordings of events.

#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;
use twtrace_core::event::Event;
use twtrace_core::recording::Loss;
use twtrace_recording::reader::Recording;
use twtrace_recording::writer::{Recorder, WriteOptions};

/// Whether a segment may repeat it, at its beginning or when it names a process.
pub(crate) fn may_be_repeated(event: &Event) -> bool {
    matches!(
        event,
        Event::Start { .. }
            | Event::Process { .. }
            | Event::Container { .. }
            | Event::User { .. }
            | Event::Namespace { .. }
            | Event::NamespacesLeftOut(_)
            | Event::SocketOwners { .. }
            | Event::BoundConnect { .. }
    )
}

/// Records a list.
pub(crate) fn record(path: &Path, events: &[Event], options: WriteOptions) {
    let mut recorder = Recorder::create(path, options).unwrap();
    events.iter().for_each(|event| recorder.record(event).unwrap());
    recorder.finish().unwrap();
}

/// All Events of a recording that must not have lost any.
pub(crate) fn replay(path: &Path) -> Vec<Event> {
    let recording = Recording::open(path).unwrap();
    assert_eq!(recording.info().losses, []);
    let (events, losses) = read(&recording);
    assert_eq!(losses, []);
    events
}

/// All Events of a recording that can be read, and the losses found during the pass.
pub(crate) fn read(recording: &Recording) -> (Vec<Event>, Vec<Loss>) {
    let mut replay = recording.replay().unwrap();
    let mut events = Vec::new();
    while replay.advance(u64::MAX, &mut |event| events.push(event)).unwrap() {}
    (events, replay.losses().to_vec())
}
