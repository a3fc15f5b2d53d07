//! Notes of the first program of the pair for its twin, and the other way round: which transitions it has handled.
//!
//! Between the two of one transition, others of this CPU may run: a softirq for many packets, on preemptible kernels another
//! task. So there are notes for several transitions under way. One whose twin the kernel skips stays behind, and must not pass
//! for that of a later transition: it is dropped when a note below it is written, since that shows that nothing is under way
//! above, and by the next note of its socket.

use crate::{config::cfg_value, maps::HANDLED};

/// A task, a softirq that interrupts it, and two more tasks where they preempt each other. When full, the last one is
/// replaced: a twin that misses its note finds in the record that its transition was handled, and user space drops what is
/// reported twice of a connection that has none.
const NOTES: usize = 4;

/// One handled transition.
#[repr(C)]
#[derive(Clone, Copy)]
struct Note {
    /// Address of the socket; 0 for none.
    sk: u64,
    /// `old << 8 | new`.
    states: u64,
}

/// Those of one CPU.
#[repr(C)]
pub struct Notes {
    notes: [Note; NOTES],
    /// Not 0 once the first program has found a note of its twin: the kernel runs that before it.
    twin_leads: u64,
}

/// Added to `states` in a note of the twin.
pub const BY_TWIN: u64 = 1 << 16;

/// Whether the kernel runs the twin before the first program.
#[inline(always)]
pub fn twin_leads() -> bool {
    // SAFETY: a map value of this CPU.
    cfg_value!(twin_may_lead) != 0 && HANDLED.get_ptr(0).is_some_and(|notes| unsafe { (*notes).twin_leads } != 0)
}

/// The first program has found out that it does.
#[inline(always)]
pub fn follow_twin() {
    if let Some(notes) = HANDLED.get_ptr_mut(0) {
        // SAFETY: a map value of this CPU.
        unsafe { (*notes).twin_leads = 1 };
    }
}

/// A program of the pair handles this transition.
#[inline(always)]
pub fn note(sk: u64, states: u64) {
    let Some(notes) = HANDLED.get_ptr_mut(0) else { return };
    // Whatever runs in between leaves a note with an address alone, so that is written first; volatile, or the compiler
    // would change the order.
    // SAFETY: a map value of this CPU.
    unsafe {
        let notes = &raw mut (*notes).notes;
        for at in 0..NOTES {
            let there = (&raw const (*notes)[at].sk).read_volatile();
            // A socket has one transition at a time: an older note of it is one that stayed behind.
            if there == 0 || there == sk || at + 1 == NOTES {
                (&raw mut (*notes)[at].sk).write_volatile(sk);
                (&raw mut (*notes)[at].states).write_volatile(states);
                for above in at + 1..NOTES {
                    (&raw mut (*notes)[above].sk).write_volatile(0);
                }
                return;
            }
        }
    }
}

/// Whether the other program has handled this transition; takes its note away.
#[inline(always)]
pub fn take(sk: u64, states: u64) -> bool {
    let Some(notes) = HANDLED.get_ptr_mut(0) else { return false };
    // SAFETY: a map value of this CPU. Nothing else takes a note with this address away.
    unsafe {
        let notes = &raw mut (*notes).notes;
        for at in 0..NOTES {
            if (&raw const (*notes)[at].sk).read_volatile() == sk
                && (&raw const (*notes)[at].states).read_volatile() == states
            {
                (&raw mut (*notes)[at].sk).write_volatile(0);
                return true;
            }
        }
    }
    false
}
