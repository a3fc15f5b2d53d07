//! Values that the loader patches in before the programs are verified.
//!
//! They live in a read-only map that is frozen before loading, so the verifier knows each as a constant: it
//! prunes branches on them and accepts `pointer + offset` as a field access.

use twtrace_common::{Config, LogFilter, Offsets};

/// Field offsets of the running kernel.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::NONE;

/// Switches.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config {
    defer_connect: 0,
    connect_nr: 0,
    accept_nr: 0,
    accept4_nr: 0,
    bind_nr: 0,
    wakeup_bytes: 0,
    has_cookie: 0,
    has_task_btf: 0,
    has_pt_regs: 0,
    nests: 0,
    twin_may_lead: 0,
};

/// What to log.
#[unsafe(no_mangle)]
pub static LOG_FILTER: LogFilter = LogFilter::OFF;

/// Reads a patched value. Volatile, or the compiler would use the initial value above.
#[inline(always)]
pub fn patched(value: &'static u32) -> u32 {
    // SAFETY: a valid reference; the loader writes the value before it loads the program, and nothing does later.
    unsafe { core::ptr::read_volatile(value) }
}

/// Reads one offset.
macro_rules! off {
    ($field:ident) => {
        $crate::config::patched(&$crate::config::OFFSETS.$field) as usize
    };
}

/// Reads one switch.
macro_rules! cfg_value {
    ($field:ident) => {
        $crate::config::patched(&$crate::config::CONFIG.$field)
    };
}

pub(crate) use {cfg_value, off};
