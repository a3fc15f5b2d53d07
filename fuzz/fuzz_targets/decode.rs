//! Records of the kernel side: whatever the bytes are, each is an Event or an error, and the state takes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twtrace_core::decode::decode;
use twtrace_core::event::Event;
use twtrace_core::snapshot::{GROUPINGS, Snapshot};
use twtrace_core::state::{Config, Limits, State};

/// Everything that is computed for a look, rules among it.
fn look(state: &mut State) {
    let snapshot = Snapshot::with_sockets(state);
    GROUPINGS.iter().for_each(|grouping| _ = std::hint::black_box(snapshot.rows(grouping.by)));
}

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { rows: 8, cells: 8, live: 16 };
    let mut state = State::new(Config { limits, history: true, ..Config::default() });
    // Records of 512 bytes are longer than any: several of them meet in one state.
    for (number, record) in bytes.chunks(512).enumerate() {
        if let Ok(event) = decode(record) {
            state.apply(event);
        }
        state.apply(Event::Tick { at_ns: number as u64 * 1_000_000_000 });
    }
    look(&mut state);
});
