//! See [`twtrace_fuzz::recording`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| twtrace_fuzz::recording(bytes));
