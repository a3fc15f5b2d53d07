//! Memory of an engine with as many live TIME_WAIT sockets as the kernel's default limit allows.

use crate::common::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use twtrace_core::event::{CensusState, Event, ProcessFacts};
use twtrace_core::state::{Config, State};

/// The system's allocator, which also counts bytes.
struct Counting;

thread_local! {
    /// Of this thread: other tests allocate at the same time.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

fn allocated() -> usize {
    ALLOCATED.get()
}

// SAFETY: everything is left to `System`, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has none any more.
        let _ = ALLOCATED.try_with(|bytes| bytes.set(bytes.get().wrapping_add(layout.size())));
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let _ = ALLOCATED.try_with(|bytes| bytes.set(bytes.get().wrapping_sub(layout.size())));
        // SAFETY: as above, and `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIVE: u32 = 130_000;
const MIB: usize = 1024 * 1024;

/// Bytes that an engine uses with `LIVE` live sockets, the nth opened and closed by these processes.
fn bytes_of(owners: impl Fn(u32) -> (u32, u32)) -> usize {
    let before = allocated();
    let mut engine = State::new(Config::default());
    engine.apply(start());
    for n in 0..LIVE {
        let (opener, closer) = owners(n);
        let tuple = tuple((n % 60_000) as u16, (n % 64) as u8, 80);
        let mut connection = connection(u64::from(n) + 1, owner(closer, "closer"), tuple, START + u64::from(n) * 1_000);
        connection.opener = Some(owner(opener, "opener"));
        if opener == closer {
            connection.opener = connection.closer;
        }
        engine.apply(ended(connection));
    }
    assert_eq!(engine.summary().totals.counts.time_wait_live, u64::from(LIVE));
    allocated().wrapping_sub(before)
}

/// Bytes that an engine uses with every table at its limit: as many live sockets as it follows, all reported by
/// censuses, each opened and closed by separate processes with known command lines, and as many destinations as it has
/// rows for.
fn bytes_at_the_bound() -> usize {
    const FOLLOWED: u32 = 262_144;
    const SECONDS: u32 = 50;
    let before = allocated();
    let mut engine = State::new(Config::default());
    engine.apply(start());
    for n in 0..FOLLOWED {
        let at_ns = START + u64::from(n) * u64::from(SECONDS) * SECOND / u64::from(FOLLOWED);
        let (opener, closer) = (owner(2 * n + 1, "opener"), owner(2 * n + 2, "closer"));
        let tuple = tuple((n % 60_000) as u16, (n % 251) as u8, (n % 16_381) as u16 + 1);
        let mut connection = connection(u64::from(n) + 1, closer, tuple, at_ns);
        connection.opener = Some(opener);
        engine.apply(ended(connection));
        let facts = ProcessFacts { cmdline: Some("x".repeat(1_000)), ..ProcessFacts::default() };
        engine.apply(Event::Process { key: closer.key, facts });
        if n % 1_000 == 0 {
            engine.apply(tick(at_ns));
        }
    }
    let end = START + u64::from(SECONDS) * SECOND;
    let rows = (0..FOLLOWED).map(|n| {
        let tuple = tuple((n % 60_000) as u16, (n % 251) as u8, (n % 16_381) as u16 + 1);
        row(u64::from(n) + 1, tuple, CensusState::TimeWait, 60_000)
    });
    census(end, rows.collect()).into_iter().for_each(|event| engine.apply(event));
    engine.snapshot();
    assert_eq!(engine.summary().totals.counts.time_wait_live, u64::from(FOLLOWED));
    allocated().wrapping_sub(before)
}

#[test]
fn memory_with_130_000_live_sockets() {
    let servers = bytes_of(|n| (n % 20 + 1, n % 1_000 + 1_000));
    assert!(servers <= 42 * MIB, "a thousand processes: {servers} bytes");
    let one_shots = bytes_of(|n| (n + 1, n + 1));
    assert!(one_shots <= 42 * MIB, "a process for each connection: {one_shots} bytes");
    let handed_over = bytes_of(|n| (2 * n + 1, 2 * n + 2));
    assert!(handed_over <= 64 * MIB, "two processes for each connection: {handed_over} bytes");
    // The README states this limit.
    let all = bytes_at_the_bound();
    assert!(all <= 192 * MIB, "every table at its limit: {all} bytes");
}
