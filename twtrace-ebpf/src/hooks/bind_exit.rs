//! `syscalls:sys_exit_bind`: `long ret` at offset 16.
//!
//! Failures of bind(2) because there is no address or port. They change no state: EADDRINUSE for a port that is taken,
//! or when none is left to choose from (`inet_csk_get_port`), EADDRNOTAVAIL for an address that this host does not have
//! (`__inet_bind`). io_uring's bind, since 6.11, does not pass here.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, macros::tracepoint, programs::TracePointContext};
use twtrace_common::{ConnFlags, OFFSET_NONE, kind};

use crate::{
    config::off,
    descriptor::{self, RET},
    emit,
    maps::Program,
    owner,
    reader::read,
};

const EADDRINUSE: i64 = 98;
const EADDRNOTAVAIL: i64 = 99;

/// `skc_reuse` has four bits; 0 is off.
const REUSE: u8 = 0xf;

/// bind(2) returned.
#[tracepoint(category = "syscalls", name = "sys_exit_bind")]
pub fn bind_exit(ctx: TracePointContext) -> u32 {
    // SAFETY: the context's fields are laid out as the format file says.
    let Ok(ret) = (unsafe { ctx.read_at::<i64>(RET) }) else { return 0 };
    returned(ret);
    0
}

/// bind(2) returned this.
#[inline(always)]
pub fn returned(ret: i64) {
    if matches!(-ret, EADDRINUSE | EADDRNOTAVAIL) {
        failed(-ret as u16);
    }
}

#[inline(always)]
fn failed(errno: u16) {
    let fd = owner::syscall_argument(off!(regs_arg0));
    let Some(sk) = descriptor::socket(fd as u32 as u64) else { return };
    // Of a socket of another kind, what passes for its family and protocol may lie past its end: reads are checked.
    if !descriptor::is_tcp(sk) {
        return;
    }
    let Some(mut entry) = emit::reserve(Program::SyscallExit) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: a reserved record, filled from the template; no argument.
    unsafe {
        (*record).kind = kind::BIND_FAILED;
        (*record).connect_errno = errno;
        (*record).end_ns = bpf_ktime_get_ns();
        owner::capture(&raw mut (*record).opener);
        descriptor::fill(record, sk);
        let address = owner::syscall_argument(off!(regs_arg1));
        let tuple = &raw mut (*record).tuple;
        descriptor::asked(address, (*tuple).family, &raw mut (*tuple).local_port, &raw mut (*tuple).local_addr);
        if reuses(sk) {
            (*record).flags.insert(ConnFlags::REUSE_ADDRESS);
        }
    }
    emit::submit(entry, Program::SyscallExit);
}

/// SO_REUSEADDR is on.
#[inline(always)]
fn reuses(sk: u64) -> bool {
    off!(skc_reuse) != OFFSET_NONE as usize
        && read::<u8>(sk + off!(skc_reuse) as u64).unwrap_or(0) >> (off!(skc_reuse_shift) & 7) & REUSE != 0
}
