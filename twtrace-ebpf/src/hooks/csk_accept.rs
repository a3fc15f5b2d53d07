//! `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool kern)` until 6.9, then
//! `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)`
//!
//! Returns the accepted connection to the process that accepts, whichever way it came here: accept(2), io_uring, or
//! the kernel itself.

use aya_ebpf::{
    macros::{fexit, kretprobe},
    programs::{FExitContext, RetProbeContext},
};
use twtrace_common::conn_flag;

use crate::{
    call,
    maps::{Program, SOCKETS, count},
    owner,
};

/// With four arguments.
#[fexit(function = "inet_csk_accept")]
pub fn csk_accept4(ctx: FExitContext) -> i32 {
    returned(ctx.arg(4));
    0
}

/// With two.
#[fexit(function = "inet_csk_accept")]
pub fn csk_accept2(ctx: FExitContext) -> i32 {
    returned(ctx.arg(2));
    0
}

/// However many there are, where there is no fexit. The kernel has room for ten or so kretprobes of a function under
/// way, and whoever waits for a connection takes one, so the exits of the system calls are hooked as well. They count
/// what cannot be resolved.
#[kretprobe]
pub fn csk_accept_return(ctx: RetProbeContext) -> u32 {
    accepted(call::result(&ctx));
    0
}

#[inline(always)]
fn returned(sk: u64) {
    if sk != 0 && !accepted(sk) {
        count!(Program::CskAccept, exit_unresolved);
    }
}

/// False when the socket is not followed.
#[inline(always)]
fn accepted(sk: u64) -> bool {
    let Some(record) = SOCKETS.get_ptr_mut(sk) else { return false };
    // SAFETY: a value of the socket map; the caller has just been handed the socket, so it is this one.
    unsafe {
        if (*record).flags & conn_flag::DONE == 0 {
            owner::capture(&raw mut (*record).opener);
            (*record).flags |= conn_flag::ACCEPTED | conn_flag::ACCEPT_SEEN;
        }
    }
    true
}
