//! How much room the kernel side gets: from what the host has, unless it is given.

use crate::host::{netstat, read_text};
use twtrace_common::{ConnRecord, MAX_SOCKETS, RING_BYTES};

/// Most sockets followed at a time. For further ones, see the kernel side's `unfollowed.rs`.
const MOST_SOCKETS: u64 = 1_000_000;

/// Room for so many times the sockets that are open when the trace begins.
const GROWTH: u64 = 4;

/// The socket map may take one part in this many of the memory.
const MAP_SHARE: u64 = 32;

/// The same for the ring buffer.
const RING_SHARE: u64 = 1024;

/// Largest ring buffer: 95,000 records, most of a second at the highest rate that was measured. The reader has it mapped.
const MOST_RING_BYTES: u64 = 32 << 20;

/// What a slot takes besides its value: `struct htab_elem` with the key, and a share of the buckets
/// (`kernel/bpf/hashtab.c`).
const SLOT_OVERHEAD: u64 = 48 + 8 + 16;

/// Sizes of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Sockets that are followed at a time.
    pub max_sockets: u32,
    /// Size of the ring buffer in bytes, a power of two.
    pub ring_bytes: u32,
}

impl Room {
    /// For this host. What cannot be read counts as little.
    pub fn of_this_host() -> Self {
        let sockstat = read_text("/proc/thread-self/net/sockstat").unwrap_or_default();
        let meminfo = read_text("/proc/meminfo").unwrap_or_default();
        Self::of(netstat::sockets(&sockstat).unwrap_or(0), memory_bytes(&meminfo).unwrap_or(0))
    }

    /// For a host with so many TCP sockets open, in all network namespaces, and so much memory.
    pub fn of(open: u64, memory_bytes: u64) -> Self {
        let by_memory = memory_bytes / MAP_SHARE / slot_bytes();
        let wanted = open.saturating_mul(GROWTH).min(by_memory).clamp(MAX_SOCKETS.into(), MOST_SOCKETS);
        let ring = (memory_bytes / RING_SHARE).clamp(RING_BYTES.into(), MOST_RING_BYTES);
        // A power of two that is not above.
        let ring = 1 << ring.ilog2();
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self { max_sockets: number(wanted), ring_bytes: number(ring) }
    }

    /// Kernel memory that the maps take, in bytes, all of it from the beginning.
    pub fn kernel_bytes(self) -> u64 {
        u64::from(self.max_sockets) * slot_bytes() + u64::from(self.ring_bytes)
    }
}

fn slot_bytes() -> u64 {
    size_of::<ConnRecord>() as u64 + SLOT_OVERHEAD
}

/// `MemTotal` of `/proc/meminfo`.
fn memory_bytes(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn room_grows_with_the_host() {
        let of = |open, memory| {
            let Room { max_sockets, ring_bytes } = Room::of(open, memory);
            (max_sockets, ring_bytes >> 20)
        };
        assert_eq!(of(0, 0), (65_536, 8), "never less");
        assert_eq!(of(100, GIB), (65_536, 8));
        assert_eq!(of(72_000, 16 * GIB), (288_000, 16));
        assert_eq!(of(72_000, 2 * GIB), (161_319, 8), "a thirty-second of the memory");
        assert_eq!(of(10_000_000, 512 * GIB), (1_000_000, 32), "never more");
        assert_eq!(Room { max_sockets: 65_536, ring_bytes: 8 << 20 }.kernel_bytes() >> 20, 34);
    }

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(memory_bytes("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(memory_bytes("MemFree: 1 kB\n"), None);
    }
}
