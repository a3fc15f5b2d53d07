//! The kernel side of twtrace: follows each TCP socket and writes one record when its connection ends.
//!
//! It records facts and draws no conclusions: `twtrace-core` decides what they mean. Each hook has a file under
//! `hooks/`, with the kernel's prototype at the top.
#![no_std]
#![no_main]
// The one atomic addition that kernels before 5.12 have: `core` has none for this target.
#![feature(asm_experimental_arch)]

mod call;
mod config;
mod connection;
mod descriptor;
mod emit;
mod handled;
mod hooks;
mod log;
mod maps;
mod owner;
mod reader;
mod sock;
mod socket;
mod unfollowed;

/// The kernel lets only GPL-compatible programs use the tracing helpers. The sources are MIT OR Apache-2.0;
/// "Dual MIT/GPL" is the kernel's spelling (`license_is_gpl_compatible`) for code that may be used as either.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Layout version, in the name: the loader asks for this symbol and refuses an object without it.
#[unsafe(export_name = "WIRE_VERSION_12")]
static WIRE_VERSION: u32 = twtrace_common::WIRE_VERSION;
const _: () = assert!(twtrace_common::WIRE_VERSION == 12);

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that no path reaches this.
    loop {}
}
