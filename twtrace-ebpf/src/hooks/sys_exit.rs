//! `TP_PROTO(struct pt_regs *regs, long ret)`
//!
//! `sys_exit`: the exit of every system call of the host, for those who may not read tracefs, which has the numbers of the
//! tracepoints of single calls. Any of these puts every call on the same slow way (`syscall_exit_work`), so what this costs
//! more is one comparison in a program.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use super::{accept_exit, bind_exit, connect_exit};
use crate::{
    config::{cfg_value, off},
    owner,
    reader::load,
};

/// A system call returned.
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let regs: *const c_void = ctx.arg(0);
    // SAFETY: a typed pointer to the registers of the call.
    let number: u32 = unsafe { load(regs, off!(regs_syscall)) };
    let ret: i64 = ctx.arg(1);
    if number == cfg_value!(connect_nr) {
        if !owner::is_compat() {
            connect_exit::returned(ret);
        }
    } else if number == cfg_value!(accept_nr) || number == cfg_value!(accept4_nr) {
        if !owner::is_compat() {
            accept_exit::returned(ret);
        }
    } else if number == cfg_value!(bind_nr) && !owner::is_compat() {
        bind_exit::returned(ret);
    }
    0
}
