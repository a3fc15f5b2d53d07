//! Records of the kernel side: whatever the bytes are, each is an Input or an error, and the engine takes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twtrace_core::decode::decode;
use twtrace_core::state::{Engine, Config, Limits};
use twtrace_core::input::Input;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { rows: 8, pairs: 8, live: 16 };
    let mut engine = Engine::new(Config { limits, history: true, ..Config::default() });
    // Records of 512 bytes are longer than any: several of them meet in one engine.
    for (number, record) in bytes.chunks(512).enumerate() {
        if let Ok(input) = decode(record) {
            engine.apply(input);
        }
        engine.apply(Input::Tick { at_ns: number as u64 * 1_000_000_000 });
    }
});
