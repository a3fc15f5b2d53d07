//! Notes of the first program of the pair for its twin: which transitions it has handled.
//!
//! Between the two of one transition, others of this CPU may run: a softirq for many packets, on preemptible kernels another
//! task. So there are notes for several transitions under way. One whose twin the kernel skips stays behind, and must not pass
//! for that of a later transition: it is dropped when a note below it is written, since that shows that nothing is under way
//! above, and by the next note of its socket.

use crate::maps::HANDLED;

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
pub struct Notes([Note; NOTES]);

/// The first program handles this transition.
#[inline(always)]
pub fn note(sk: u64, states: u64) {
    let Some(notes) = HANDLED.get_ptr_mut(0) else { return };
    // Whatever runs in between leaves a note with an address alone, so that is written first; volatile, or the compiler
    // would change the order.
    // SAFETY: a map value of this CPU.
    unsafe {
        let notes = &raw mut (*notes).0;
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

/// Whether the first program has handled this transition; takes its note away.
#[inline(always)]
pub fn take(sk: u64, states: u64) -> bool {
    let Some(notes) = HANDLED.get_ptr_mut(0) else { return false };
    // SAFETY: a map value of this CPU. Nothing else takes a note with this address away.
    unsafe {
        let notes = &raw mut (*notes).0;
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
