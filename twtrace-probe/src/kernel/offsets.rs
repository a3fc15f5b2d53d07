//! Struct offsets from the running kernel's BTF, for the programs' [`Offsets`].

use super::btf::Btf;
use crate::host::cookies;
use anyhow::Context as _;
use std::fs;
use twtrace_common::{OFFSET_NONE, Offsets};

/// Type information of the running kernel.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Registers of a system call as `struct pt_regs` keeps them: first and second argument, number.
#[cfg(target_arch = "x86_64")]
const REGISTERS: [&str; 3] = ["di", "si", "orig_ax"];
#[cfg(target_arch = "aarch64")]
const REGISTERS: [&str; 3] = ["orig_x0", "regs", "syscallno"];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("twtrace knows the system call registers of x86_64 and aarch64 only");

/// Where a task in a system call of a 32-bit program, whose numbers are others, is marked: `TS_COMPAT`, `TIF_32BIT`.
#[cfg(target_arch = "x86_64")]
const COMPAT: (&str, u32) = ("thread_info.status", 1 << 1);
#[cfg(target_arch = "aarch64")]
const COMPAT: (&str, u32) = ("thread_info.flags", 1 << 22);

/// Registers of a called function: its first three arguments and its result, each as a member and the bytes after it.
#[cfg(target_arch = "x86_64")]
const CALL: [(&str, u32); 4] = [("di", 0), ("si", 0), ("dx", 0), ("ax", 0)];
#[cfg(target_arch = "aarch64")]
const CALL: [(&str, u32); 4] = [("regs", 0), ("regs", 8), ("regs", 16), ("regs", 0)];

/// What a return adds to the stack pointer: on x86_64 the return address is on the stack.
const POPPED: u32 = if cfg!(target_arch = "x86_64") { 8 } else { 0 };

/// Bytes behind the second register's member: on arm64 it is `regs[1]`.
const SECOND: u32 = if cfg!(target_arch = "aarch64") { 8 } else { 0 };

/// Offsets of the running kernel.
///
/// # Errors
/// The kernel has no BTF, or it lacks a member without which nothing can be traced.
pub fn of_this_kernel() -> anyhow::Result<Layout> {
    let bytes = fs::read(VMLINUX).with_context(|| format!("cannot read {VMLINUX}"))?;
    let btf = Btf::parse(&bytes).with_context(|| format!("cannot read {VMLINUX}"))?;
    let mut offsets = resolve(&btf)?;
    // Before 5.15, a namespace got its cookie at the first request for it.
    if cookies::netns_cookie().is_none() {
        offsets.net_cookie = OFFSET_NONE;
    }
    Ok(Layout { offsets, accept_arguments: btf.arguments("inet_csk_accept") })
}

/// The parts of the running kernel's types that the programs depend on.
pub struct Layout {
    /// Where members lie.
    pub offsets: Offsets,
    /// Arguments of `inet_csk_accept`: four until 6.9, then two.
    pub accept_arguments: Option<usize>,
}

/// Size of a kernel stack (`THREAD_SIZE` without KASAN, which no production kernel has), unless a page is larger, as it may
/// be on arm64.
const STACK_BYTES: u32 = 16 * 1024;

/// Where `task_pt_regs()` finds the registers of a system call in a kernel stack: at its top. Needed only for kernels that
/// have no helper for it (before 5.15).
fn regs_in_stack(btf: &Btf) -> Option<u32> {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()?;
    STACK_BYTES.max(u32::try_from(page).ok()?).checked_sub(btf.size_of("pt_regs")?)
}

fn resolve(btf: &Btf) -> anyhow::Result<Offsets> {
    let need = |structure: &str, path: &str| {
        btf.offset_of(structure, path).with_context(|| format!("this kernel has no `struct {structure}.{path}`"))
    };
    let may = |structure: &str, path: &str| btf.offset_of(structure, path).unwrap_or(OFFSET_NONE);
    // Without them, it is unknown that a bind chose an address, or that SO_REUSEADDR was on.
    let bits = |structure: &str, path: &str| btf.bits_of(structure, path).unwrap_or((OFFSET_NONE, 0));
    let (sk_userlocks, sk_userlocks_shift) = bits("sock", "sk_userlocks");
    let (skc_reuse, skc_reuse_shift) = bits("sock", "__sk_common.skc_reuse");
    let common = |member: &str| need("sock", &format!("__sk_common.{member}"));
    let [tw_refcount, tw_count] =
        ["tw_refcount", "tw_count"].map(|member| btf.offset_of("net", &format!("ipv4.tcp_death_row.{member}")));
    let [arg0, arg1, syscall] = REGISTERS;
    let call = |number: usize| {
        let (member, behind) = CALL[number];
        need("pt_regs", member).map(|offset| offset + behind)
    };
    Ok(Offsets {
        skc_family: common("skc_family")?,
        skc_flags: common("skc_flags")?,
        skc_net: common("skc_net")?,
        skc_cookie: common("skc_cookie")?,
        skc_num: common("skc_num")?,
        skc_dport: common("skc_dport")?,
        skc_daddr: common("skc_daddr")?,
        skc_rcv_saddr: common("skc_rcv_saddr")?,
        skc_v6_daddr: common("skc_v6_daddr")?,
        skc_v6_rcv_saddr: common("skc_v6_rcv_saddr")?,
        sk_protocol: need("sock", "sk_protocol")?,
        sk_err: need("sock", "sk_err")?,
        inet_sport: need("tcp_sock", "inet_conn.icsk_inet.inet_sport")?,
        tcp_bytes_acked: need("tcp_sock", "bytes_acked")?,
        tcp_bytes_received: need("tcp_sock", "bytes_received")?,
        tcp_total_retrans: need("tcp_sock", "total_retrans")?,
        tcp_data_segs_in: need("tcp_sock", "data_segs_in")?,
        tcp_data_segs_out: need("tcp_sock", "data_segs_out")?,
        // Without it, it is not known which TIME_WAIT sockets tcp_tw_reuse lets a connect take over.
        tcp_ts_recent_stamp: may("tcp_sock", "rx_opt.ts_recent_stamp"),
        net_ns_inum: need("net", "ns.inum")?,
        net_cookie: may("net", "net_cookie"),
        // Kernels differ in how they count TIME_WAIT sockets; without this member, overflow is known only from the
        // kernel's counter.
        net_tw_refcount: tw_refcount.or(tw_count).unwrap_or(OFFSET_NONE),
        net_tw_extra: u32::from(tw_refcount.is_some()),
        net_tw_max: may("net", "ipv4.tcp_death_row.sysctl_max_tw_buckets"),
        task_group_leader: need("task_struct", "group_leader")?,
        task_real_parent: need("task_struct", "real_parent")?,
        task_tgid: need("task_struct", "tgid")?,
        task_flags: need("task_struct", "flags")?,
        task_comm: need("task_struct", "comm")?,
        task_start_boottime: need("task_struct", "start_boottime")?,
        task_files: need("task_struct", "files")?,
        files_fdt: need("files_struct", "fdt")?,
        fdtable_max_fds: need("fdtable", "max_fds")?,
        fdtable_fd: need("fdtable", "fd")?,
        file_private_data: need("file", "private_data")?,
        socket_sk: need("socket", "sk")?,
        regs_arg0: need("pt_regs", arg0)?,
        regs_arg1: need("pt_regs", arg1)? + SECOND,
        regs_syscall: need("pt_regs", syscall)?,
        task_compat: may("task_struct", COMPAT.0),
        task_compat_bit: COMPAT.1,
        skc_state: common("skc_state")?,
        sk_socket: need("sock", "sk_socket")?,
        tw_substate: may("inet_timewait_sock", "tw_substate"),
        tw_timer_expires: may("inet_timewait_sock", "tw_timer.expires"),
        task_stack: may("task_struct", "stack"),
        regs_in_stack: regs_in_stack(btf).unwrap_or(OFFSET_NONE),
        call_arg0: call(0)?,
        call_arg1: call(1)?,
        call_arg2: call(2)?,
        call_result: call(3)?,
        call_sp: need("pt_regs", "sp")?,
        call_popped: POPPED,
        sk_userlocks,
        sk_userlocks_shift,
        skc_reuse,
        skc_reuse_shift,
        // IP_LOCAL_PORT_RANGE, from 6.3 on; long-term kernels have it too.
        inet_local_port_range: may("tcp_sock", "inet_conn.icsk_inet.local_port_range"),
        // Without it, it is not seen who accepts MPTCP connections.
        mptcp_first: may("mptcp_sock", "first"),
        task_mm: need("task_struct", "mm")?,
        mm_arg_start: need("mm_struct", "arg_start")?,
        mm_arg_end: need("mm_struct", "arg_end")?,
        // Without them, the cgroup of a process that is gone has no name.
        task_cgroups: may("task_struct", "cgroups"),
        css_set_dfl_cgrp: may("css_set", "dfl_cgrp"),
        cgroup_kn: may("cgroup", "kn"),
        kernfs_name: may("kernfs_node", "name"),
        // `__parent` from 6.15 on.
        kernfs_parent: btf
            .offset_of("kernfs_node", "__parent")
            .or_else(|| btf.offset_of("kernfs_node", "parent"))
            .unwrap_or(OFFSET_NONE),
        ..Offsets::NONE
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn this_kernel_has_every_member() {
        let Layout { offsets, accept_arguments } = of_this_kernel().unwrap();
        // Fixed by struct sock_common's layout, which has been the same since 3.13.
        assert_eq!((offsets.skc_daddr, offsets.skc_rcv_saddr, offsets.skc_dport, offsets.skc_num), (0, 4, 12, 14));
        assert_eq!((offsets.skc_family, offsets.skc_state), (16, 18));
        assert_ne!(offsets.net_tw_refcount, OFFSET_NONE);
        assert_ne!(offsets.tw_timer_expires, OFFSET_NONE);
        assert_ne!(offsets.sk_userlocks, OFFSET_NONE);
        assert_ne!(offsets.regs_in_stack, OFFSET_NONE, "kernels before 5.15 need it on each architecture");
        assert_ne!(offsets.tcp_ts_recent_stamp, OFFSET_NONE);
        assert_eq!((offsets.skc_reuse, offsets.skc_reuse_shift), (19, 0), "behind skc_state");
        assert!(matches!(accept_arguments, Some(2 | 4)));
    }

    #[test]
    fn a_missing_member_is_named() {
        // The smallest BTF: a header, no types, one empty string.
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24_u32, 0, 0, 0, 1] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.push(0);
        let error = resolve(&Btf::parse(&bytes).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no `struct sock.__sk_common.skc_family`");
    }
}
