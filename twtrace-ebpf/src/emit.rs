//! Writing records to the ring buffer, and counting those that it refuses.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    maps::ring_buf::RingBufEntry,
};
use twtrace_common::ConnRecord;

use crate::{
    config::cfg_value,
    maps::{RING, TEMPLATE, count},
};

/// Width of the window above the threshold in which a record wakes the reader: about three records.
const WAKEUP_WINDOW: u64 = 1024;

/// The reader polls on a timer. It is woken only while the fill level passes the threshold, never per event.
#[inline(always)]
fn wakeup_flag() -> u64 {
    let waiting = RING.query(u64::from(BPF_RB_AVAIL_DATA));
    let threshold = u64::from(cfg_value!(wakeup_bytes));
    if waiting >= threshold && waiting - threshold < WAKEUP_WINDOW {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// Writes a finished life from its map slot.
///
/// # Safety
/// `record` points to a whole value of the socket map.
#[inline(always)]
pub unsafe fn life(record: *const ConnRecord) {
    // SAFETY: the caller's promise; the record is read while the slot is ours.
    let written = unsafe { RING.output::<ConnRecord>(&*record, wakeup_flag()) };
    if written.is_ok() {
        count!(records);
    } else {
        count!(ring_full);
    }
}

/// Reserves an empty record for an event that has no map slot.
#[inline(always)]
pub fn reserve() -> Option<RingBufEntry<ConnRecord>> {
    let Some(mut entry) = RING.reserve::<ConnRecord>(0) else {
        count!(ring_full);
        return None;
    };
    // SAFETY: TEMPLATE is a whole record in .rodata; the copy is volatile-free and of plain bytes.
    entry.write(unsafe { core::ptr::read(&raw const TEMPLATE) });
    Some(entry)
}

/// Hands over a reserved record.
#[inline(always)]
pub fn submit(entry: RingBufEntry<ConnRecord>) {
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    count!(records);
}
