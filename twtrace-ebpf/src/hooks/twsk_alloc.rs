//! `struct inet_timewait_sock *inet_twsk_alloc(const struct sock *sk, struct inet_timewait_death_row *dr, const int state)`
//!
//! Runs just before the full socket's CLOSE. `state` is the substate that the TIME_WAIT socket begins with. NULL means
//! that the bucket limit was reached or that there was no memory (`TCPTimeWaitOverflow`).

use aya_ebpf::{
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use twtrace_common::ConnFlags;

use crate::{
    call::{self, Function, register},
    config::off,
    descriptor::{is_tcp, local_port, remote_port},
    log::{self, Decision},
    maps::{Program, SOCKETS, count},
};

/// Records the result with the connection.
#[fexit(function = "inet_twsk_alloc")]
pub fn twsk_alloc(ctx: FExitContext) -> i32 {
    noted(ctx.arg(0), ctx.arg::<i32>(2) as u64, ctx.arg(3));
    0
}

/// Keeps the arguments where there is no fexit.
#[kprobe]
pub fn twsk_alloc_entry(ctx: ProbeContext) -> u32 {
    call::enter(&ctx, Function::TwskAlloc, register(&ctx, off!(call_arg0)), register(&ctx, off!(call_arg2)));
    0
}

/// The same as [`twsk_alloc`].
#[kretprobe]
pub fn twsk_alloc_return(ctx: RetProbeContext) -> u32 {
    if let Some(call) = call::leave(&ctx, Function::TwskAlloc, Program::TwskAlloc) {
        noted(call.sk, call.other, call::result(&ctx));
    }
    0
}

#[inline(always)]
fn noted(sk: u64, state: u64, created: u64) {
    // DCCP has TIME_WAIT sockets too.
    if !is_tcp(sk) {
        return;
    }
    if created != 0 {
        count!(Program::TwskAlloc, timewaits_created);
    } else {
        count!(Program::TwskAlloc, timewaits_overflowed);
    }
    if let Some(record) = SOCKETS.get_ptr_mut(sk) {
        // SAFETY: a value of the socket map.
        unsafe {
            // Its tuple was noted when this host sent its FIN. If the end of an older socket was not seen, the record is
            // still that one's.
            let tuple = &raw const (*record).tuple;
            let same = (*tuple).family == 0
                || (*tuple).remote_port == remote_port(sk) && (*tuple).local_port == local_port(sk);
            if same && !(*record).flags.contains(ConnFlags::DONE) {
                (*record).tw_substate = state as u8;
                let (flag, decision) = if created != 0 {
                    (ConnFlags::TW_CREATED, Decision::TimewaitCreated)
                } else {
                    (ConnFlags::TW_OVERFLOWED, Decision::TimewaitOverflowed)
                };
                (*record).flags.insert(flag);
                log::decision(record, decision, state);
            }
        }
    }
}
