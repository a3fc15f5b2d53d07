//! The state after a list of events.

use twtrace_core::event::Event;
use twtrace_core::snapshot::{GROUPINGS, Snapshot};
use twtrace_core::state::{Config, State};

/// A state that has applied these events.
pub fn state_of(config: Config, events: impl IntoIterator<Item = Event>) -> State {
    let mut state = State::new(config);
    events.into_iter().for_each(|event| state.apply(event));
    state
}

/// A snapshot after these events, with its live sockets.
pub fn snapshot_of(events: impl IntoIterator<Item = Event>) -> Snapshot {
    Snapshot::with_sockets(&mut state_of(Config::default(), events))
}

/// The same with figures over time, as in a report of a recording.
pub fn snapshot_with_history(events: impl IntoIterator<Item = Event>) -> Snapshot {
    Snapshot::with_sockets(&mut state_of(Config { history: true, ..Config::default() }, events))
}

/// Computes everything that a view reads: budgets, findings, and the rows of each grouping.
pub fn look(state: &mut State) {
    let snapshot = Snapshot::with_sockets(state);
    GROUPINGS.iter().for_each(|grouping| _ = std::hint::black_box(snapshot.rows(grouping.by)));
}
