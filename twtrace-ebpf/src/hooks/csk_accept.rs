//! `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool kern)` until 6.9, then
//! `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)`
//!
//! Returns the accepted connection to the process that accepts, whichever way it came here: accept(2), io_uring, or
//! the kernel itself.

use aya_ebpf::{macros::fexit, programs::FExitContext};
use twtrace_common::ConnFlags;

use crate::{
    descriptor::{cookie, may_be_accepted},
    log::{self, Decision},
    maps::{Program, SOCKETS, count},
    owner, unfollowed,
};

/// With four arguments.
#[fexit(function = "inet_csk_accept")]
pub fn csk_accept4(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(4));
    0
}

/// With two.
#[fexit(function = "inet_csk_accept")]
pub fn csk_accept2(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(2));
    0
}

#[inline(always)]
fn accepted(sk: u64) {
    if sk == 0 {
        return;
    }
    let Some(record) = SOCKETS.get_ptr_mut(sk) else {
        unfollowed::accepted(sk, Program::CskAccept);
        return;
    };
    // SAFETY: a value of the socket map.
    unsafe {
        if !may_be_accepted(record, sk) {
            count!(Program::CskAccept, exit_unresolved);
        } else if !(*record).flags.contains(ConnFlags::DONE) {
            owner::capture_opener(record, sk, cookie(sk));
            log::decision(record, Decision::Accepted, (*record).opener.tgid.into());
        }
    }
}
