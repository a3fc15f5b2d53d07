//! `int tcp_twsk_unique(struct sock *sk, struct sock *sktw, void *twp)`
//!
//! A connect asks whether it may take over the port of the TIME_WAIT socket `sktw` (`tcp_tw_reuse`); 1 is yes, and then
//! it does (`__inet_check_established`).

use aya_ebpf::{
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};

use crate::{
    call::{self, Function, register},
    config::off,
    maps::{Program, REUSED, count},
};

/// Remembers the socket that is taken over until it is freed, some microseconds later.
#[fexit(function = "tcp_twsk_unique")]
pub fn twsk_unique(ctx: FExitContext) -> i32 {
    answered(ctx.arg(1), ctx.arg::<i32>(3));
    0
}

/// Keeps the arguments where there is no fexit.
#[kprobe]
pub fn twsk_unique_entry(ctx: ProbeContext) -> u32 {
    call::enter(&ctx, Function::TwskUnique, register(&ctx, off!(call_arg1)), 0);
    0
}

/// The same as [`twsk_unique`].
#[kretprobe]
pub fn twsk_unique_return(ctx: RetProbeContext) -> u32 {
    if let Some(call) = call::leave(&ctx, Function::TwskUnique, Program::TwskUnique) {
        answered(call.sk, call::result(&ctx) as i32);
    }
    0
}

#[inline(always)]
fn answered(sktw: u64, answer: i32) {
    if answer == 1 {
        count!(Program::TwskUnique, timewaits_reused);
        // Full: this end will be reported as ended early.
        if REUSED.insert(sktw, 1, 0).is_err() {
            count!(Program::TwskUnique, evicted);
        }
    }
}
