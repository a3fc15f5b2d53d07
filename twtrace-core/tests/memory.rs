//! What an engine holds with as many timewait sockets alive as the kernel's default limit allows.

mod common;

use common::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use twtrace_core::engine::{Engine, EngineConfig};

/// The system's allocator, which also counts.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to `System`, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above, and `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIVE: u32 = 130_000;
const MIB: usize = 1024 * 1024;

/// Bytes that an engine holds once `LIVE` sockets are alive, the nth opened and closed by these processes.
fn held(owners: impl Fn(u32) -> (u32, u32)) -> usize {
    let before = HELD.load(Ordering::Relaxed);
    let mut engine = Engine::new(EngineConfig::default());
    engine.apply(start());
    for n in 0..LIVE {
        let (opener, closer) = owners(n);
        let tuple = tuple((n % 60_000) as u16, (n % 64) as u8, 80);
        let mut life = life(u64::from(n) + 1, owner(closer, "closer"), tuple, START + u64::from(n) * 1_000);
        life.opener = Some(owner(opener, "opener"));
        if opener == closer {
            life.opener = life.closer;
        }
        engine.apply(ended(life));
    }
    assert_eq!(engine.model().summary().totals.counts.time_wait_live, u64::from(LIVE));
    HELD.load(Ordering::Relaxed) - before
}

// One test: others would allocate meanwhile.
#[test]
fn memory_with_130_000_live_sockets() {
    let servers = held(|n| (n % 20 + 1, n % 1_000 + 1_000));
    assert!(servers <= 40 * MIB, "a thousand processes: {servers} bytes");
    let one_shots = held(|n| (n + 1, n + 1));
    assert!(one_shots <= 40 * MIB, "a process for each connection: {one_shots} bytes");
    let handed_over = held(|n| (2 * n + 1, 2 * n + 2));
    assert!(handed_over <= 64 * MIB, "two processes for each connection: {handed_over} bytes");
}
