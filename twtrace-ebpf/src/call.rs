//! Registers of a called function. A map passes its arguments from the kprobe at its entry to the kretprobe, which does
//! not see them.

use aya_ebpf::EbpfContext;

use crate::{
    config::{off, patched},
    maps::{CALLS, Call, Program, count},
    reader::read,
};

/// A function whose return is read together with its arguments. The number is part of the key.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Function {
    TwskAlloc,
    TwskUnique,
}

/// A register of the context, by its offset in `struct pt_regs`. Not through the type, whose layout would be that of
/// the machine on which the object was built.
#[inline(always)]
pub fn register(ctx: &impl EbpfContext, offset: usize) -> u64 {
    read(ctx.as_ptr() as u64 + offset as u64).unwrap_or(0)
}

/// Names a call under way: the stack pointer is unique among these, even when a softirq interrupts a function on its
/// CPU to call it again, and its low bits are free for the function. With that a call whose return was not seen cannot
/// be taken for one of another function.
#[inline(always)]
fn key(sp: u64, function: Function) -> u64 {
    sp | function as u64
}

/// Keeps the arguments of a call, at its entry.
#[inline(always)]
pub fn enter(ctx: &impl EbpfContext, function: Function, sk: u64, other: u64) {
    // An entry that does not fit is counted at the return.
    let _ = CALLS.insert(key(register(ctx, off!(call_sp)), function), Call { sk, other }, 0);
}

/// Gives them back at its return. Counts for `by` when they are gone.
#[inline(always)]
pub fn leave(ctx: &impl EbpfContext, function: Function, by: Program) -> Option<Call> {
    let popped = u64::from(patched(&crate::config::OFFSETS.call_popped));
    let key = key(register(ctx, off!(call_sp)) - popped, function);
    // SAFETY: copied at once, and no other call has this stack pointer.
    let call = unsafe { CALLS.get(key) }.copied();
    if call.is_some() {
        let _ = CALLS.remove(key);
    } else {
        count!(by, evicted);
    }
    call
}

/// What the function returned, at its return.
#[inline(always)]
pub fn result(ctx: &impl EbpfContext) -> u64 {
    register(ctx, off!(call_result))
}
