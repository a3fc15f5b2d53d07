//! `int inet_hash_connect(struct inet_timewait_death_row *death_row, struct sock *sk)`,
//! `int inet6_hash_connect(struct inet_timewait_death_row *death_row, struct sock *sk)`
//!
//! The search for a local port, in the context of the connecting process. EADDRNOTAVAIL from here is a lack of ports
//! and nothing else.

use core::ffi::c_void;

use aya_ebpf::{macros::fexit, programs::FExitContext};
use twtrace_common::ConnFlags;

use crate::{
    log::{self, Decision},
    maps::SOCKETS,
};

/// Over IPv4.
#[fexit(function = "inet_hash_connect")]
pub fn hash_connect(ctx: FExitContext) -> i32 {
    result(ctx.arg(1), ctx.arg::<i32>(2));
    0
}

/// Over IPv6.
#[fexit(function = "inet6_hash_connect")]
pub fn hash_connect6(ctx: FExitContext) -> i32 {
    result(ctx.arg(1), ctx.arg::<i32>(2));
    0
}

#[inline(always)]
fn result(sk: *const c_void, result: i32) {
    if result >= 0 {
        return;
    }
    if let Some(record) = SOCKETS.get_ptr_mut(sk as u64) {
        // SAFETY: a value of the socket map.
        unsafe {
            if !(*record).flags.contains(ConnFlags::DONE) {
                (*record).connect_errno = -result as u16;
                (*record).flags.insert(ConnFlags::HASH_CONNECT);
                log::decision(record, Decision::NoPort, (*record).connect_errno.into());
            }
        }
    }
}
