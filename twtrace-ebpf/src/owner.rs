//! Who is running: the current process as an [`Owner`].

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_uid_gid,
    generated::{bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs},
};
use twtrace_common::{ConnRecord, OFFSET_NONE, Owner, OwnerFlags};

use crate::{
    config::{cfg_value, off},
    reader::{Checked, Reader, Typed, Zero, load, read},
};

/// `PF_EXITING`, `include/linux/sched.h`.
const PF_EXITING: u32 = 0x0000_0004;
/// `PF_KTHREAD`.
const PF_KTHREAD: u32 = 0x0020_0000;

/// Writes the current process. Names are the group leader's: a thread may call itself anything.
///
/// # Safety
/// `owner` points to the stack, or into a map value or a reserved record.
#[inline(always)]
pub unsafe fn capture(owner: *mut Owner) {
    // SAFETY: the caller's promise; the helper's pointer has the type task_struct, and what it leads to is typed too.
    unsafe {
        if cfg_value!(has_task_btf) != 0 {
            from_task(owner, bpf_get_current_task_btf().cast::<c_void>().cast_const(), Typed);
        } else {
            from_task(owner, bpf_get_current_task() as *const c_void, Checked);
        }
        (*owner).uid = bpf_get_current_uid_gid() as u32;
        (*owner).cgroup = bpf_get_current_cgroup_id();
    }
}

/// Writes the current process as the one that accepted a socket, with the cookie that the socket has by now. Nothing keeps
/// its slot from being given to another socket meanwhile: user space finds out by the seal.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
pub unsafe fn capture_opener(record: *mut ConnRecord, sk: u64, cookie: u64) {
    let mut opener = Owner::NONE;
    // SAFETY: on the stack; the record by the caller's promise.
    unsafe {
        capture(&raw mut opener);
        write_opener(record, opener, sk, cookie);
    }
}

/// Writes the opener of a socket, unless the slot has been given to another one.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
pub unsafe fn write_opener(record: *mut ConnRecord, opener: Owner, sk: u64, cookie: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let address = &raw const (*record).sk;
        if address.read_volatile() == sk {
            // Read again: `sk` is a pointer to the verifier, which allows no arithmetic on those.
            let number = address.read_volatile();
            // Sealed before it is written: what is there afterwards may be another program's.
            let seal = opener.seal(number, cookie);
            (*record).opener = opener;
            (*record).opener_seal = seal;
        }
    }
}

/// Fills in what is read from `struct task_struct`.
///
/// # Safety
/// `owner` as for [`capture`]; `task` is the current task, typed if `by` is.
#[inline(always)]
unsafe fn from_task(owner: *mut Owner, task: *const c_void, by: impl Reader) {
    // SAFETY: the caller's promise; group_leader and real_parent are tasks.
    unsafe {
        let leader: *const c_void = by.read(task, off!(task_group_leader));
        let parent: *const c_void = by.read(leader, off!(task_real_parent));
        let parent_leader: *const c_void = by.read(parent, off!(task_group_leader));
        let task_flags: u32 = by.read(task, off!(task_flags));
        let mut flags = OwnerFlags::empty();
        if task_flags & PF_KTHREAD != 0 {
            flags.insert(OwnerFlags::KTHREAD);
        }
        if task_flags & PF_EXITING != 0 {
            flags.insert(OwnerFlags::EXITING);
        }
        (*owner).tgid = by.read(leader, off!(task_tgid));
        (*owner).ppid = by.read(parent, off!(task_tgid));
        (*owner).flags = flags;
        (*owner).start_ns = by.read(leader, off!(task_start_boottime));
        let comm = (&raw mut (*owner).comm).cast::<u64>();
        comm.write(by.read(leader, off!(task_comm)));
        comm.add(1).write(by.read(leader, off!(task_comm) + 8));
        let comm = (&raw mut (*owner).parent_comm).cast::<u64>();
        comm.write(by.read(parent_leader, off!(task_comm)));
        comm.add(1).write(by.read(parent_leader, off!(task_comm) + 8));
    }
}

/// Argument of the system call that the current task is in: a register of `struct pt_regs` at `offset`.
#[inline(always)]
pub fn syscall_argument(offset: usize) -> u64 {
    syscall_register(offset)
}

/// Number of the system call that the current task is in. Its field has four bytes on arm64, and the verifier refuses to
/// read more.
#[inline(always)]
pub fn syscall_number() -> u32 {
    syscall_register(off!(regs_syscall))
}

/// Whether the system call that the current task is in is one of a 32-bit program, whose numbers mean other calls.
#[inline(always)]
pub fn is_compat() -> bool {
    let offset = off!(task_compat);
    if offset == OFFSET_NONE as usize {
        return false;
    }
    // SAFETY: the helpers work on the current task; the first's result has its type.
    let word: u32 = unsafe {
        if cfg_value!(has_task_btf) != 0 {
            load(bpf_get_current_task_btf().cast::<c_void>().cast_const(), offset)
        } else {
            read(bpf_get_current_task() + offset as u64).unwrap_or(0)
        }
    };
    word & off!(task_compat_bit) as u32 != 0
}

#[inline(always)]
fn syscall_register<T: Copy + Zero>(offset: usize) -> T {
    // SAFETY: the helpers work on the current task; the first's result has the type pt_regs.
    unsafe {
        if cfg_value!(has_pt_regs) != 0 {
            load(bpf_task_pt_regs(bpf_get_current_task_btf()) as *const c_void, offset)
        } else {
            let stack: u64 = read(bpf_get_current_task() + off!(task_stack) as u64).unwrap_or(0);
            read(stack + off!(regs_in_stack) as u64 + offset as u64).unwrap_or(T::ZERO)
        }
    }
}
