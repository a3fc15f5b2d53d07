//! Values that the loader patches in before the programs are verified.
//!
//! They live in a read-only map that is frozen before loading, so the verifier knows each as a constant: it
//! prunes branches on them and accepts `pointer + offset` as a field access.

use twtrace_common::{Config, Offsets};

/// Field offsets of the running kernel.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::NONE;

/// Switches.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config {
    defer_connect: 0,
    connect_nr: 0,
    wakeup_bytes: 0,
    debug: 0,
};

/// Reads one offset. Volatile, or the compiler would use the initial value above.
macro_rules! off {
    ($field:ident) => {{
        // SAFETY: a static of a plain type, only ever written by the loader before the program exists.
        unsafe { core::ptr::read_volatile(&raw const $crate::config::OFFSETS.$field) as usize }
    }};
}

/// Reads one switch, likewise.
macro_rules! cfg_value {
    ($field:ident) => {{
        // SAFETY: as for `off!`.
        unsafe { core::ptr::read_volatile(&raw const $crate::config::CONFIG.$field) }
    }};
}

pub(crate) use {cfg_value, off};
