//! Records of the kernel side: whatever the bytes are, each is an Event or an error, and the state takes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twtrace_core::decode::decode;
use twtrace_core::state::{Config, Limits, State};
use twtrace_testkit::{SECOND_NS, look, tick};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { rows: 8, cells: 8, live: 16 };
    let mut state = State::new(Config { limits, history: true, ..Config::default() });
    // Records of 512 bytes are longer than any: several of them meet in one state.
    for (number, record) in bytes.chunks(512).enumerate() {
        if let Ok(event) = decode(record) {
            state.apply(event);
        }
        state.apply(tick(number as u64 * SECOND_NS));
    }
    look(&mut state);
});
