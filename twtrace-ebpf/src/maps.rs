//! All maps, and what each does when it is full.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, PerCpuArray, RingBuf},
};
use twtrace_common::{ConnRecord, Counters, MAX_SOCKETS, RING_BYTES};

/// Sockets being followed, by the address of their `struct sock`. Preallocated: inserting from softirq never
/// allocates. Full: the life is not followed and `Counters::map_full` grows.
#[map]
pub static SOCKETS: HashMap<u64, ConnRecord> = HashMap::with_max_entries(MAX_SOCKETS, 0);

/// Ended lives on their way to user space. Full: the record is dropped and `Counters::ring_full` grows.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Per-CPU counters, one entry.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// What the first program of the pair handled last on this CPU, for its twin. One entry.
#[map]
pub static HANDLED: PerCpuArray<Handled> = PerCpuArray::with_max_entries(1, 0);

/// One handled transition.
#[repr(C)]
pub struct Handled {
    /// Address of the socket.
    pub sk: u64,
    /// `old << 8 | new`.
    pub states: u64,
}

/// What a new life starts from. In `.rodata`: a record is too large for the 512-byte stack.
pub static TEMPLATE: ConnRecord = ConnRecord::EMPTY;

/// Adds one to a counter of this CPU. Programs of one kind do not nest on a CPU, but the twin can run inside
/// the first, so the addition is atomic.
macro_rules! count {
    ($field:ident) => {
        if let Some(counters) = $crate::maps::COUNTERS.get_ptr_mut(0) {
            // SAFETY: a pointer into a map value; an aligned u64 inside it.
            unsafe {
                core::sync::atomic::AtomicU64::from_ptr(&raw mut (*counters).$field)
                    .fetch_add(1, core::sync::atomic::Ordering::Relaxed);
            }
        }
    };
}

pub(crate) use count;
