//! Who is running: the current process as an [`Owner`].

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_uid_gid, generated::bpf_get_current_task_btf,
    generated::bpf_task_pt_regs,
};
use twtrace_common::{OWNER_EXITING, OWNER_KTHREAD, Owner};

use crate::{config::off, sock::load};

/// `PF_EXITING`, `include/linux/sched.h`.
const PF_EXITING: u32 = 0x0000_0004;
/// `PF_KTHREAD`.
const PF_KTHREAD: u32 = 0x0020_0000;

/// Writes the current process. Names are the group leader's: a thread may call itself anything.
///
/// # Safety
/// `owner` points into a map value or a reserved record.
#[inline(always)]
pub unsafe fn capture(owner: *mut Owner) {
    // SAFETY: the helper's pointer has the type task_struct, and so have group_leader and real_parent;
    // `owner` by the caller's promise.
    unsafe {
        let task = bpf_get_current_task_btf().cast::<core::ffi::c_void>().cast_const();
        let leader: *const core::ffi::c_void = load(task, off!(task_group_leader));
        let parent: *const core::ffi::c_void = load(leader, off!(task_real_parent));
        let parent_leader: *const core::ffi::c_void = load(parent, off!(task_group_leader));
        let task_flags: u32 = load(task, off!(task_flags));
        let mut flags = 0;
        if task_flags & PF_KTHREAD != 0 {
            flags |= OWNER_KTHREAD;
        }
        if task_flags & PF_EXITING != 0 {
            flags |= OWNER_EXITING;
        }
        (*owner).tgid = load(leader, off!(task_tgid));
        (*owner).uid = bpf_get_current_uid_gid() as u32;
        (*owner).ppid = load(parent, off!(task_tgid));
        (*owner).flags = flags;
        (*owner).start_ns = load(leader, off!(task_start_boottime));
        (*owner).cgroup = bpf_get_current_cgroup_id();
        let comm = (&raw mut (*owner).comm).cast::<u64>();
        comm.write(load(leader, off!(task_comm)));
        comm.add(1).write(load(leader, off!(task_comm) + 8));
        let comm = (&raw mut (*owner).parent_comm).cast::<u64>();
        comm.write(load(parent_leader, off!(task_comm)));
        comm.add(1).write(load(parent_leader, off!(task_comm) + 8));
    }
}

/// Registers with which the current task entered the kernel.
#[inline(always)]
pub fn user_regs() -> *const core::ffi::c_void {
    // SAFETY: both helpers work on the current task; the result has the type pt_regs.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const core::ffi::c_void }
}
