//! Writing records to the ring buffer, and counting those that it refuses.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    maps::ring_buf::RingBufEntry,
};
use twtrace_common::{ConnRecord, PartRecord, SmallRecord};

use crate::{
    config::cfg_value,
    log::{self, Decision},
    maps::{Program, RING, TEMPLATE, count},
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

/// Writes an ended connection from its map slot.
///
/// # Safety
/// `record` points to a whole value of the socket map.
#[inline(always)]
pub unsafe fn connection(record: *const ConnRecord, by: Program) {
    // SAFETY: the caller's promise; the record is read while the slot is ours.
    let written = unsafe { RING.output::<ConnRecord>(&*record, wakeup_flag()) };
    let decision = if written.is_ok() {
        count!(by, records);
        Decision::Written
    } else {
        count!(by, ring_full);
        Decision::RingFull
    };
    // SAFETY: as above.
    unsafe { log::decision(record, decision, (*record).transitions.into()) };
}

/// Reserves an empty record for an event that has no map slot.
#[inline(always)]
pub fn reserve(by: Program) -> Option<RingBufEntry<ConnRecord>> {
    let Some(mut entry) = RING.reserve::<ConnRecord>(0) else {
        count!(by, ring_full);
        return None;
    };
    // SAFETY: from one whole record to another. Not through a value, which would not fit the stack.
    unsafe { core::ptr::copy_nonoverlapping(&raw const TEMPLATE, entry.as_mut_ptr(), 1) };
    Some(entry)
}

/// Hands over a reserved record, of any kind.
#[inline(always)]
pub fn submit<T>(entry: RingBufEntry<T>, by: Program) {
    entry.submit(wakeup_flag());
    count!(by, records);
}

/// Reserves an empty part of a connection.
#[inline(always)]
pub fn reserve_part(by: Program) -> Option<RingBufEntry<PartRecord>> {
    let Some(mut entry) = RING.reserve::<PartRecord>(0) else {
        count!(by, parts_refused);
        return None;
    };
    entry.write(PartRecord::EMPTY);
    Some(entry)
}

/// Reserves an empty small record.
#[inline(always)]
pub fn reserve_small(by: Program) -> Option<RingBufEntry<SmallRecord>> {
    let Some(mut entry) = RING.reserve::<SmallRecord>(0) else {
        count!(by, ring_full);
        return None;
    };
    entry.write(SmallRecord::EMPTY);
    Some(entry)
}
