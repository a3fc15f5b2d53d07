//! `syscalls:sys_exit_accept`, `syscalls:sys_exit_accept4`: `long ret` at offset 16.
//!
//! The only place, without `inet_csk_accept`, where an accepted connection and the process that gets it are seen
//! together: the kernel creates the child socket in softirq.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use twtrace_common::ConnFlags;

use crate::{
    descriptor::{self, RET},
    log::{self, Decision},
    maps::{Program, SOCKETS, count},
    owner, unfollowed,
};

/// accept(2) returned.
#[tracepoint(category = "syscalls", name = "sys_exit_accept")]
pub fn accept_exit(ctx: TracePointContext) -> u32 {
    accepted(&ctx);
    0
}

/// accept4(2) returned.
#[tracepoint(category = "syscalls", name = "sys_exit_accept4")]
pub fn accept4_exit(ctx: TracePointContext) -> u32 {
    accepted(&ctx);
    0
}

#[inline(always)]
fn accepted(ctx: &TracePointContext) {
    // SAFETY: the context's fields are laid out as the format file says.
    if let Ok(ret) = unsafe { ctx.read_at::<i64>(RET) } {
        returned(ret);
    }
}

/// accept(2) or accept4(2) returned this.
#[inline(always)]
pub fn returned(fd: i64) {
    if fd < 0 {
        return;
    }
    let Some(sk) = descriptor::socket(fd as u64) else { return };
    let Some(record) = SOCKETS.get_ptr_mut(sk) else {
        if descriptor::is_tcp(sk) {
            unfollowed::accepted(sk, Program::SyscallExit);
        }
        return;
    };
    // SAFETY: a value of the socket map.
    unsafe {
        if (*record).flags.contains(ConnFlags::DONE) {
            return;
        }
        if !descriptor::may_be_accepted(record, sk) {
            count!(Program::SyscallExit, exit_unresolved);
            return;
        }
        owner::capture_opener(record, sk, descriptor::cookie(sk));
        log::decision(record, Decision::Accepted, (*record).opener.tgid.into());
    }
}
