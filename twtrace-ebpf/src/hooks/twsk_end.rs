//! `void tcp_twsk_destructor(struct sock *sk)`, else `void inet_twsk_free(struct inet_timewait_sock *tw)`
//!
//! The last reference to a TIME_WAIT socket is gone. The first is called through a pointer, so it is never inlined;
//! its argument is the TIME_WAIT socket.

use aya_ebpf::{
    helpers::{bpf_jiffies64, generated::bpf_ktime_get_ns},
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use twtrace_common::{SmallRecord, cause};

use crate::{
    call::register,
    config::off,
    descriptor::{cookie, fill_whole},
    emit,
    maps::{Program, REUSED, count},
    reader::read,
};

/// The end of a TIME_WAIT socket of TCP.
#[fentry(function = "tcp_twsk_destructor")]
pub fn twsk_destructor(ctx: FEntryContext) -> i32 {
    ended(ctx.arg(0));
    0
}

/// The same where there is no such destructor.
#[fentry(function = "inet_twsk_free")]
pub fn twsk_free(ctx: FEntryContext) -> i32 {
    ended(ctx.arg(0));
    0
}

/// Either of them, where there is no fentry.
#[kprobe]
pub fn twsk_end(ctx: ProbeContext) -> u32 {
    ended(register(&ctx, off!(call_arg0)));
    0
}

#[inline(always)]
fn ended(tw: u64) {
    count!(Program::TwskEnd, timewaits_ended);
    let reused = REUSED.get_ptr(tw).is_some();
    if reused {
        let _ = REUSED.remove(tw);
    }
    let Some(mut entry) = emit::reserve_small(Program::TwskEnd) else { return };
    let record: *mut SmallRecord = entry.as_mut_ptr();
    // SAFETY: a reserved record, all of it written before; the helpers have no preconditions.
    unsafe {
        let expires: u64 = read(tw + off!(tw_timer_expires) as u64).unwrap_or(0);
        // The timer never fires early. Any other end of the socket stops the timer first.
        (*record).cause = if reused {
            cause::REUSED
        } else if bpf_jiffies64() >= expires {
            cause::EXPIRED
        } else {
            cause::ENDED_EARLY
        };
        (*record).substate = read(tw + off!(tw_substate) as u64).unwrap_or(0);
        (*record).at_ns = bpf_ktime_get_ns();
        (*record).cookie = cookie(tw);
        fill_whole(&raw mut (*record).tuple, tw);
    }
    emit::submit(entry, Program::TwskEnd);
}
