//! `int inet_hash_connect(struct inet_timewait_death_row *death_row, struct sock *sk)`,
//! `int inet6_hash_connect(struct inet_timewait_death_row *death_row, struct sock *sk)`
//!
//! The search for a local port, in the context of the connecting process. EADDRNOTAVAIL from here is a lack of ports
//! and nothing else.

use aya_ebpf::{
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use twtrace_common::conn_flag;

use crate::{
    call::{self, Function, register},
    config::off,
    maps::{Program, SOCKETS},
};

/// Over IPv4.
#[fexit(function = "inet_hash_connect")]
pub fn hash_connect(ctx: FExitContext) -> i32 {
    searched(ctx.arg(1), ctx.arg::<i32>(2));
    0
}

/// Over IPv6.
#[fexit(function = "inet6_hash_connect")]
pub fn hash_connect6(ctx: FExitContext) -> i32 {
    searched(ctx.arg(1), ctx.arg::<i32>(2));
    0
}

/// Keeps the arguments where there is no fexit.
#[kprobe]
pub fn hash_connect_entry(ctx: ProbeContext) -> u32 {
    call::enter(&ctx, Function::HashConnect, register(&ctx, off!(call_arg1)), 0);
    0
}

/// The same as [`hash_connect`].
#[kretprobe]
pub fn hash_connect_return(ctx: RetProbeContext) -> u32 {
    returned(&ctx, Function::HashConnect);
    0
}

/// Keeps the arguments where there is no fexit.
#[kprobe]
pub fn hash_connect6_entry(ctx: ProbeContext) -> u32 {
    call::enter(&ctx, Function::HashConnect6, register(&ctx, off!(call_arg1)), 0);
    0
}

/// The same as [`hash_connect6`].
#[kretprobe]
pub fn hash_connect6_return(ctx: RetProbeContext) -> u32 {
    returned(&ctx, Function::HashConnect6);
    0
}

#[inline(always)]
fn returned(ctx: &RetProbeContext, function: Function) {
    if let Some(call) = call::leave(ctx, function, Program::HashConnect) {
        searched(call.sk, call::result(ctx) as i32);
    }
}

#[inline(always)]
fn searched(sk: u64, result: i32) {
    if result >= 0 {
        return;
    }
    if let Some(record) = SOCKETS.get_ptr_mut(sk) {
        // SAFETY: a value of the socket map.
        unsafe {
            if (*record).flags & conn_flag::DONE == 0 {
                (*record).connect_errno = -result as u16;
                (*record).flags |= conn_flag::HASH_CONNECT;
            }
        }
    }
}
