//! `struct inet_timewait_sock *inet_twsk_alloc(const struct sock *sk, struct inet_timewait_death_row *dr, const int state)`
//!
//! Runs just before the full socket's CLOSE. `state` is the substate that the timewait socket begins with; NULL means
//! that the bucket limit or the memory allowed none (`TCPTimeWaitOverflow`).

use aya_ebpf::{macros::fexit, programs::FExitContext};
use twtrace_common::conn_flag;

use crate::{
    maps::{Program, SOCKETS, count},
    sock::{self, Sk},
};

/// Notes on the life what became of it.
#[fexit(function = "inet_twsk_alloc")]
pub fn twsk_alloc(ctx: FExitContext) -> i32 {
    let (sk, state, made): (Sk, i32, u64) = (ctx.arg(0), ctx.arg::<i32>(2), ctx.arg(3));
    // DCCP has timewait sockets too.
    if !sock::is_tcp(sk) {
        return 0;
    }
    if made != 0 {
        count!(Program::TwskAlloc, timewaits_made);
    } else {
        count!(Program::TwskAlloc, timewaits_refused);
    }
    if let Some(record) = SOCKETS.get_ptr_mut(sk as u64) {
        // SAFETY: a value of the socket map.
        unsafe {
            if (*record).flags & conn_flag::DONE == 0 {
                (*record).tw_substate = state as u8;
                (*record).flags |= if made != 0 { conn_flag::TW_MADE } else { conn_flag::TW_REFUSED };
            }
        }
    }
    0
}
