//! `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
//!
//! `sched_process_exec`, fired by `exec_binprm` in the context of the process once execve(2) cannot fail any more: its memory
//! is the new program's, and the arguments are in it. The start time is that of the fork, so it is the same before and after.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{
        bpf_get_current_cgroup_id,
        generated::{bpf_get_current_task, bpf_probe_read_kernel_str, bpf_probe_read_user},
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use twtrace_common::{ARGUMENTS, CGROUP_LEVELS, CGROUP_NAME, OFFSET_NONE};

use crate::{
    config::off,
    maps::{CGROUPS, EXECS, NO_EXEC, NO_NAMES},
    reader::{Checked, Reader as _},
};

/// `BPF_NOEXIST`: a map update fails where there is an entry.
const NOEXIST: u64 = 1;

/// Keeps the arguments and the parent of a program that starts, and the names of its cgroup.
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a copy of the empty entry would fill the stack of 512 bytes"
)]
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(_ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the helper gives the current task, and what it leads to is read by the checking helper.
    unsafe {
        let task = bpf_get_current_task() as *const c_void;
        let leader: *const c_void = Checked.read(task, off!(task_group_leader));
        let parent: *const c_void = Checked.read(leader, off!(task_real_parent));
        let parent: *const c_void = Checked.read(parent, off!(task_group_leader));
        let tgid: u32 = Checked.read(leader, off!(task_tgid));
        if EXECS.insert(tgid, &NO_EXEC, 0).is_ok()
            && let Some(exec) = EXECS.get_ptr_mut(tgid)
        {
            (*exec).ppid = Checked.read(parent, off!(task_tgid));
            (*exec).parent_start_ns = Checked.read(parent, off!(task_start_boottime));
            let mm: *const c_void = Checked.read(task, off!(task_mm));
            let start: u64 = Checked.read(mm, off!(mm_arg_start));
            let end: u64 = Checked.read(mm, off!(mm_arg_end));
            let length = end.wrapping_sub(start);
            (*exec).length = if length > u32::MAX.into() { u32::MAX } else { length as u32 };
            let arguments = (&raw mut (*exec).arguments).cast::<c_void>();
            // Beyond its end there are the environment and its secrets. One length is constant, the other has a bound that the
            // verifier sees.
            if length >= ARGUMENTS as u64 {
                bpf_probe_read_user(arguments, ARGUMENTS as u32, start as *const c_void);
            } else {
                bpf_probe_read_user(arguments, length as u32 & (ARGUMENTS as u32 - 1), start as *const c_void);
            }
            // Last: who reads it before finds another process.
            (*exec).start_ns = Checked.read(leader, off!(task_start_boottime));
        }
        note_cgroup(task);
    }
    0
}

/// Keeps the names of the current cgroup, unless they are known: a cgroup may be gone soon after its last process.
///
/// # Safety
/// `task` is the current task.
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a copy of the empty entry would fill the stack of 512 bytes"
)]
#[inline(always)]
unsafe fn note_cgroup(task: *const c_void) {
    // SAFETY: the helper has no precondition; pointers are read by the checking helper.
    unsafe {
        let id = bpf_get_current_cgroup_id();
        if CGROUPS.get_ptr(id).is_some() || off!(kernfs_name) == OFFSET_NONE as usize {
            return;
        }
        let set: *const c_void = Checked.read(task, off!(task_cgroups));
        let cgroup: *const c_void = Checked.read(set, off!(css_set_dfl_cgrp));
        let mut node: *const c_void = Checked.read(cgroup, off!(cgroup_kn));
        // Not if another processor has begun it meanwhile: two that write would mix.
        if CGROUPS.insert(id, &NO_NAMES, NOEXIST).is_err() {
            return;
        }
        let Some(names) = CGROUPS.get_ptr_mut(id) else { return };
        for level in 0..CGROUP_LEVELS {
            // The root has no name.
            let parent: *const c_void = Checked.read(node, off!(kernfs_parent));
            if parent.is_null() {
                return;
            }
            let name: *const c_void = Checked.read(node, off!(kernfs_name));
            let to = (&raw mut (*names).names[level]).cast::<c_void>();
            bpf_probe_read_kernel_str(to, CGROUP_NAME as u32, name);
            node = parent;
        }
    }
}
