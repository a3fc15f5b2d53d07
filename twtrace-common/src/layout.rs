//! What the loader patches into the object: where the running kernel keeps its fields, and switches.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Struct offsets in bytes, from the running kernel's BTF, patched into the object before it is loaded.
///
/// Rust programs get no CO-RE relocations: an offset compiled in would be silently wrong on another kernel.
/// [`OFFSET_NONE`] marks a field that this kernel does not have.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs, reason = "each field is named after the kernel structure and member that it locates")]
pub struct Offsets {
    pub skc_family: u32,
    pub skc_flags: u32,
    pub skc_net: u32,
    pub skc_cookie: u32,
    pub skc_num: u32,
    pub skc_dport: u32,
    pub skc_daddr: u32,
    pub skc_rcv_saddr: u32,
    pub skc_v6_daddr: u32,
    pub skc_v6_rcv_saddr: u32,
    pub sk_protocol: u32,
    pub sk_err: u32,
    pub inet_sport: u32,
    pub tcp_bytes_acked: u32,
    pub tcp_bytes_received: u32,
    pub tcp_total_retrans: u32,
    pub tcp_data_segs_in: u32,
    pub tcp_data_segs_out: u32,
    pub tcp_ts_recent_stamp: u32,
    pub net_ns_inum: u32,
    pub net_cookie: u32,
    pub net_tw_refcount: u32,
    /// What the count at `net_tw_refcount` includes besides TIME_WAIT sockets: 1 for the namespace, 0 before 5.17.
    pub net_tw_extra: u32,
    pub net_tw_max: u32,
    pub task_group_leader: u32,
    pub task_real_parent: u32,
    pub task_tgid: u32,
    pub task_flags: u32,
    pub task_comm: u32,
    pub task_start_boottime: u32,
    pub task_files: u32,
    pub files_fdt: u32,
    pub fdtable_max_fds: u32,
    pub fdtable_fd: u32,
    pub file_private_data: u32,
    pub socket_sk: u32,
    pub regs_arg0: u32,
    pub regs_arg1: u32,
    pub regs_syscall: u32,
    /// The word of a task that has the bit `task_compat_bit` while it is in a system call of a 32-bit program.
    pub task_compat: u32,
    pub task_compat_bit: u32,
    pub skc_state: u32,
    pub sk_socket: u32,
    pub tw_substate: u32,
    pub tw_timer_expires: u32,
    pub task_stack: u32,
    /// From the bottom of a task's kernel stack to its `struct pt_regs` (`task_pt_regs`).
    pub regs_in_stack: u32,
    /// Registers of a called function in `struct pt_regs`: its first three arguments, its result, the stack pointer.
    pub call_arg0: u32,
    pub call_arg1: u32,
    pub call_arg2: u32,
    pub call_result: u32,
    pub call_sp: u32,
    /// What returning adds to the stack pointer: 8 where the return address is on the stack (x86_64), else 0.
    pub call_popped: u32,
    /// The byte that has `sk_userlocks`, a bit-field, and the place of its lowest bit there.
    pub sk_userlocks: u32,
    pub sk_userlocks_shift: u32,
    /// The same for `skc_reuse`.
    pub skc_reuse: u32,
    pub skc_reuse_shift: u32,
    pub inet_local_port_range: u32,
    pub mptcp_first: u32,
    pub task_mm: u32,
    pub mm_arg_start: u32,
    pub mm_arg_end: u32,
    pub task_cgroups: u32,
    pub css_set_dfl_cgrp: u32,
    pub cgroup_kn: u32,
    pub kernfs_name: u32,
    pub kernfs_parent: u32,
    /// Fields of the tracepoint `sock:inet_sock_set_state` from here on, from its format file.
    pub tp_skaddr: u32,
    pub tp_oldstate: u32,
    pub tp_newstate: u32,
    pub tp_sport: u32,
    pub tp_dport: u32,
    pub tp_family: u32,
    pub tp_protocol: u32,
    pub tp_saddr: u32,
    pub tp_daddr: u32,
    pub tp_saddr_v6: u32,
    pub tp_daddr_v6: u32,
}

impl Offsets {
    /// No field is known.
    pub const NONE: Self = Self {
        skc_family: OFFSET_NONE,
        skc_flags: OFFSET_NONE,
        skc_net: OFFSET_NONE,
        skc_cookie: OFFSET_NONE,
        skc_num: OFFSET_NONE,
        skc_dport: OFFSET_NONE,
        skc_daddr: OFFSET_NONE,
        skc_rcv_saddr: OFFSET_NONE,
        skc_v6_daddr: OFFSET_NONE,
        skc_v6_rcv_saddr: OFFSET_NONE,
        sk_protocol: OFFSET_NONE,
        sk_err: OFFSET_NONE,
        inet_sport: OFFSET_NONE,
        tcp_bytes_acked: OFFSET_NONE,
        tcp_bytes_received: OFFSET_NONE,
        tcp_total_retrans: OFFSET_NONE,
        tcp_data_segs_in: OFFSET_NONE,
        tcp_data_segs_out: OFFSET_NONE,
        tcp_ts_recent_stamp: OFFSET_NONE,
        net_ns_inum: OFFSET_NONE,
        net_cookie: OFFSET_NONE,
        net_tw_refcount: OFFSET_NONE,
        net_tw_extra: 0,
        net_tw_max: OFFSET_NONE,
        task_group_leader: OFFSET_NONE,
        task_real_parent: OFFSET_NONE,
        task_tgid: OFFSET_NONE,
        task_flags: OFFSET_NONE,
        task_comm: OFFSET_NONE,
        task_start_boottime: OFFSET_NONE,
        task_files: OFFSET_NONE,
        files_fdt: OFFSET_NONE,
        fdtable_max_fds: OFFSET_NONE,
        fdtable_fd: OFFSET_NONE,
        file_private_data: OFFSET_NONE,
        socket_sk: OFFSET_NONE,
        regs_arg0: OFFSET_NONE,
        regs_arg1: OFFSET_NONE,
        regs_syscall: OFFSET_NONE,
        task_compat: OFFSET_NONE,
        task_compat_bit: 0,
        skc_state: OFFSET_NONE,
        sk_socket: OFFSET_NONE,
        tw_substate: OFFSET_NONE,
        tw_timer_expires: OFFSET_NONE,
        task_stack: OFFSET_NONE,
        regs_in_stack: OFFSET_NONE,
        call_arg0: OFFSET_NONE,
        call_arg1: OFFSET_NONE,
        call_arg2: OFFSET_NONE,
        call_result: OFFSET_NONE,
        call_sp: OFFSET_NONE,
        call_popped: 0,
        sk_userlocks: OFFSET_NONE,
        sk_userlocks_shift: 0,
        skc_reuse: OFFSET_NONE,
        skc_reuse_shift: 0,
        inet_local_port_range: OFFSET_NONE,
        mptcp_first: OFFSET_NONE,
        task_mm: OFFSET_NONE,
        mm_arg_start: OFFSET_NONE,
        mm_arg_end: OFFSET_NONE,
        task_cgroups: OFFSET_NONE,
        css_set_dfl_cgrp: OFFSET_NONE,
        cgroup_kn: OFFSET_NONE,
        kernfs_name: OFFSET_NONE,
        kernfs_parent: OFFSET_NONE,
        tp_skaddr: OFFSET_NONE,
        tp_oldstate: OFFSET_NONE,
        tp_newstate: OFFSET_NONE,
        tp_sport: OFFSET_NONE,
        tp_dport: OFFSET_NONE,
        tp_family: OFFSET_NONE,
        tp_protocol: OFFSET_NONE,
        tp_saddr: OFFSET_NONE,
        tp_daddr: OFFSET_NONE,
        tp_saddr_v6: OFFSET_NONE,
        tp_daddr_v6: OFFSET_NONE,
    };
}

/// Value of an [`Offsets`] field whose member does not exist on this kernel.
pub const OFFSET_NONE: u32 = u32::MAX;

/// Load-time switches.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Config {
    /// 1 when the exit of connect(2) is hooked, so that failures inside the call wait for their errno.
    pub defer_connect: u32,
    /// Number of the connect system call on this architecture.
    pub connect_nr: u32,
    /// Those of accept, accept4 and bind.
    pub accept_nr: u32,
    /// The second.
    pub accept4_nr: u32,
    /// The third.
    pub bind_nr: u32,
    /// Wake the reader once this many bytes are waiting in the ring buffer.
    pub wakeup_bytes: u32,
    /// 1 when `bpf_get_socket_cookie` may be called from tracing programs (kernels from 5.15).
    pub has_cookie: u32,
    /// 1 when `bpf_get_current_task_btf` exists (5.11).
    pub has_task_btf: u32,
    /// 1 when `bpf_task_pt_regs` exists (5.15).
    pub has_pt_regs: u32,
    /// 1 when a program may interrupt itself on a processor, or may be preempted by another one there: then it adds to
    /// counters atomically.
    pub nests: u32,
    /// 1 when the twin is on the classic tracepoint. If another tracer has that already, the kernel runs it before the first
    /// program of the pair.
    pub twin_may_lead: u32,
}

/// Which sockets the kernel side logs. What is not asked for is 0 and matches all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct LogFilter {
    /// 1 to log. With 0 the verifier removes all code that has to do with it.
    pub on: u32,
    /// Local or remote port, host byte order.
    pub port: u32,
    /// Process that opened or closed the connection.
    pub tgid: u32,
    /// 1 when an address is asked for: none is all zeros too.
    pub has_addr: u32,
    /// Local or remote address as the words of an IPv6 address in network byte order, IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u32; 4],
}

impl LogFilter {
    /// Logs nothing.
    pub const OFF: Self = Self { on: 0, port: 0, tgid: 0, has_addr: 0, addr: [0; 4] };
}

// The loader writes them into the object by their names: both sides must have the same size.
const _: () = {
    assert!(size_of::<Offsets>() == 312);
    assert!(size_of::<Config>() == 44);
    assert!(size_of::<LogFilter>() == 32);
};
