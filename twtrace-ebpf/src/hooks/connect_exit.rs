//! `syscalls:sys_exit_connect`: `long ret` at offset 16.
//!
//! The errno of connect(2), which the state change does not show: a full port range and a refused connection both
//! end as SYN_SENT -> CLOSE.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, macros::tracepoint, programs::TracePointContext};
use twtrace_common::{ConnFlags, ConnRecord, kind, returned_early, role};

use crate::{
    config::off,
    connection,
    descriptor::{self, RET},
    emit,
    log::{self, Decision},
    maps::{Program, SOCKETS, count},
    owner,
};

const EINTR: i64 = 4;
const EBADF: i64 = 9;
const EFAULT: i64 = 14;
const ENOTSOCK: i64 = 88;
const ECONNABORTED: i64 = 103;
const ECONNRESET: i64 = 104;
const EISCONN: i64 = 106;
const ETIMEDOUT: i64 = 110;
const ECONNREFUSED: i64 = 111;
const EALREADY: i64 = 114;
const EINPROGRESS: i64 = 115;
/// `ERESTARTSYS` to `ERESTART_RESTARTBLOCK` (`include/linux/errno.h`): interrupted, seen here before the signal is.
const ERESTART: core::ops::RangeInclusive<i64> = 512..=516;

/// connect(2) returned.
#[tracepoint(category = "syscalls", name = "sys_exit_connect")]
pub fn connect_exit(ctx: TracePointContext) -> u32 {
    // SAFETY: the context's fields are laid out as the format file says.
    let Ok(ret) = (unsafe { ctx.read_at::<i64>(RET) }) else { return 0 };
    returned(ret);
    0
}

/// connect(2) returned this.
#[inline(always)]
pub fn returned(ret: i64) {
    if ret < 0 {
        failed(-ret);
    }
}

#[inline(always)]
fn failed(errno: i64) {
    if matches!(errno, EBADF | ENOTSOCK | EFAULT | EISCONN) {
        return;
    }
    let fd = owner::syscall_argument(off!(regs_arg0));
    let Some(sk) = descriptor::socket(fd as u32 as u64) else { return };
    if let Some(record) = SOCKETS.get_ptr_mut(sk) {
        // SAFETY: a value of the socket map.
        unsafe { followed(record, sk, errno) };
        return;
    }
    // A later call returns the result of an earlier asynchronous connect: that connection was reported.
    if matches!(errno, EINTR | EALREADY | EINPROGRESS | ECONNABORTED | ECONNRESET | ETIMEDOUT | ECONNREFUSED)
        || ERESTART.contains(&errno)
    {
        return;
    }
    if descriptor::is_tcp(sk) && descriptor::remote_port(sk) == 0 {
        before_connection(sk, errno);
    }
}

/// The socket's connection is being followed.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn followed(record: *mut ConnRecord, sk: u64, errno: i64) {
    let goes_on = matches!(errno, EINTR | EALREADY | EINPROGRESS) || ERESTART.contains(&errno);
    // SAFETY: the caller's promise.
    unsafe {
        let flags = (*record).flags;
        if flags.contains(ConnFlags::PENDING) {
            if !goes_on {
                (*record).connect_errno = errno as u16;
                (*record).flags.insert(ConnFlags::CONNECT_EXIT);
            }
            log::decision(record, Decision::ConnectFailed, errno as u64);
            connection::finish(record, Program::SyscallExit);
            // Only if it is still this one's: another thread may be in the next connect of the same socket.
            connection::free(sk);
        } else if goes_on {
            // By the address: the slot may belong to another socket by now.
            (*record).returned_early = returned_early(sk);
        }
    }
}

/// The socket never left CLOSE: no route, no source address, forbidden. Or it had no slot and is back in CLOSE, which user
/// space knows.
#[inline(always)]
fn before_connection(sk: u64, errno: i64) {
    count!(Program::SyscallExit, connects_failed_early);
    let Some(mut entry) = emit::reserve(Program::SyscallExit) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: a reserved record, filled from the template.
    unsafe {
        (*record).kind = kind::CONNECT_FAILED;
        (*record).role = role::ACTIVE;
        (*record).connect_errno = errno as u16;
        (*record).sk = sk;
        (*record).end_ns = bpf_ktime_get_ns();
        owner::capture(&raw mut (*record).opener);
        descriptor::fill(record, sk);
        let address = owner::syscall_argument(off!(regs_arg1));
        let tuple = &raw mut (*record).tuple;
        descriptor::asked(address, (*tuple).family, &raw mut (*tuple).remote_port, &raw mut (*tuple).remote_addr);
    }
    emit::submit(entry, Program::SyscallExit);
}
