//! Filters of system calls (seccomp), in three layers.
//!
//! They list what a tracer never does, and let the rest pass: the C library and the modules by which it looks up users differ
//! from host to host, and what they need must not depend on a list made elsewhere. Calls that are newer than the list do not
//! exist (ENOSYS), for which every caller is prepared; so does the second set of numbers that x86-64 kernels may have (x32).
//! `clone3` does not exist either, because a filter cannot see its flags: the C library then uses `clone`.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter, sock_filter,
};
use std::collections::BTreeMap;

/// The first number that does not exist: system calls from here on (Linux 6.6) are newer than what is used.
const NEWER: u32 = 452;

/// What a tracer never does, before it has loaded its programs and after.
const NEVER: &[libc::c_long] = &[
    // Other programs, and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // What CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH would allow.
    libc::SYS_open_by_handle_at,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_vhangup,
    libc::SYS_mknodat,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_personality,
    // Ways around this list, and frequent entrances into the kernel.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// What only loading needs.
const LOADING: &[libc::c_long] = &[libc::SYS_mount, libc::SYS_unshare, libc::SYS_perf_event_open];

/// What changes files by their names.
const WRITING: &[libc::c_long] = &[
    libc::SYS_openat2,
    libc::SYS_truncate,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
];

/// `enum bpf_cmd`: look up, update and delete elements, the next key, what an object is, and several elements at once.
const OF_MAPS: [u32; 8] = [1, 2, 3, 4, 15, 21, 24, 25];

/// Families of sockets: the kernel's own questions, answers to clients, and what the user database may be asked through.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Those of a thread that asks the kernel alone. A Unix socket has the cookie of its network namespace.
const LOCAL_FAMILIES: [i32; 2] = [libc::AF_UNIX, libc::AF_NETLINK];

/// Size of an address of netlink. A filter cannot see the family of an address, and those of TCP, and of all daemons that
/// listen on Unix sockets, are longer.
const NETLINK_ADDRESS: u64 = size_of::<libc::sockaddr_nl>() as u64;

/// Namespaces other than those of threads.
const NEW_NAMESPACES: [i32; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWCGROUP,
    CLONE_NEWTIME,
];

/// `include/uapi/linux/sched.h`; libc has it for `unshare` alone.
const CLONE_NEWTIME: i32 = 0x80;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// For the whole process, before anything else.
pub(super) fn never() -> Result<(), String> {
    apply_filter(&numbers()).map_err(|error| error.to_string())?;
    let mut rules = refused(NEVER);
    let add = |rules: &mut Rules, number, rule: Result<SeccompRule, String>| {
        rules.entry(number).or_default().push(rule?);
        Ok::<(), String>(())
    };
    // Only into network namespaces, and only into mount namespaces of its own.
    add(&mut rules, libc::SYS_setns, unless(1, &[libc::CLONE_NEWNET.cast_unsigned()]))?;
    add(&mut rules, libc::SYS_unshare, unless(0, &[libc::CLONE_NEWNS.cast_unsigned()]))?;
    add(&mut rules, libc::SYS_socket, unless(0, &FAMILIES.map(i32::cast_unsigned)))?;
    add(&mut rules, libc::SYS_ioctl, when(1, SeccompCmpOp::Eq, libc::TIOCSTI))?;
    // Threads, and nothing else.
    add(&mut rules, libc::SYS_clone, bits(0, libc::CLONE_THREAD.cast_unsigned(), 0))?;
    for namespace in NEW_NAMESPACES {
        add(&mut rules, libc::SYS_clone, bits(0, namespace.cast_unsigned(), namespace.cast_unsigned()))?;
    }
    apply(rules)
}

/// For a thread that loads nothing any more, and connects to no one unless it `asks` the user database.
pub(super) fn loaded(asks: bool) -> Result<(), String> {
    let mut rules = refused(LOADING);
    rules.insert(libc::SYS_bpf, vec![unless(0, &OF_MAPS)?]);
    if !asks {
        rules.insert(libc::SYS_socket, vec![unless(0, &LOCAL_FAMILIES.map(i32::cast_unsigned))?]);
        rules.insert(libc::SYS_connect, vec![when(2, SeccompCmpOp::Gt, NETLINK_ADDRESS)?]);
    }
    apply(rules)
}

/// For a thread that writes no file.
pub(super) fn only_read() -> Result<(), String> {
    let mut rules = refused(WRITING);
    let writes = |argument| {
        let accesses = [libc::O_WRONLY, libc::O_RDWR].map(|access| (libc::O_ACCMODE, access));
        let changes = [libc::O_CREAT, libc::O_TRUNC].map(|flag| (flag, flag));
        let all = accesses.into_iter().chain(changes);
        all.map(|(mask, value)| bits(argument, mask.cast_unsigned(), value.cast_unsigned()))
            .collect::<Result<Vec<_>, _>>()
    };
    rules.insert(libc::SYS_openat, writes(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, writes(1)?);
    apply(rules)
}

fn refused(calls: &[libc::c_long]) -> Rules {
    calls.iter().map(|number| (*number, Vec::new())).collect()
}

/// Any other value of an argument.
fn unless(argument: u8, allowed: &[u32]) -> Result<SeccompRule, String> {
    let conditions = allowed.iter().map(|value| condition(argument, SeccompCmpOp::Ne, u64::from(*value)));
    rule(conditions.collect::<Result<Vec<_>, _>>()?)
}

/// An argument with these bits.
fn bits(argument: u8, mask: u32, value: u32) -> Result<SeccompRule, String> {
    when(argument, SeccompCmpOp::MaskedEq(mask.into()), value.into())
}

fn when(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, String> {
    rule(vec![condition(argument, compare, value)?])
}

fn condition(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompCondition, String> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value).map_err(|error| error.to_string())
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, String> {
    SeccompRule::new(conditions).map_err(|error| error.to_string())
}

fn apply(rules: Rules) -> Result<(), String> {
    let compile = || {
        let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
        BpfProgram::try_from(filter)
    };
    let program = compile().map_err(|error: seccompiler::BackendError| error.to_string())?;
    apply_filter(&program).map_err(|error| error.to_string())
}

/// System calls that do not exist for this process. The library compares numbers for equality alone.
fn numbers() -> BpfProgram {
    // `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ`, `BPF_JMP | BPF_JGE`, `BPF_RET`; the number is at offset 0 of
    // `struct seccomp_data`. The architecture is compared by the other filters, which end the process if it is another one.
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    vec![
        step(LOAD, 0, 0, 0),
        step(EQUAL, 2, 0, clone3),
        step(AT_LEAST, 1, 0, NEWER),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
    ]
}
