//! `int tcp_twsk_unique(struct sock *sk, struct sock *sktw, void *twp)`
//!
//! A connect asks whether it may take over the port of the timewait socket `sktw` (`tcp_tw_reuse`); 1 is yes, and then
//! it does (`__inet_check_established`).

use aya_ebpf::{macros::fexit, programs::FExitContext};

use crate::maps::{Program, REUSED, count};

/// Remembers whose place was taken until it is freed, some microseconds later.
#[fexit(function = "tcp_twsk_unique")]
pub fn twsk_unique(ctx: FExitContext) -> i32 {
    if ctx.arg::<i32>(3) == 1 {
        count!(Program::TwskUnique, timewaits_reused);
        // Full: this end will be told as a kill.
        let _ = REUSED.insert(ctx.arg::<u64>(1), 1, 0);
    }
    0
}
