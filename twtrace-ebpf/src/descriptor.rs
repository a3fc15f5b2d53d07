//! From a descriptor of the current process to its socket, at the exit of a system call.
//!
//! The array of open files is not typed for the verifier, so the last steps go through `bpf_probe_read_kernel`. All
//! of it can change under a reader: what comes out is believed only after a look-up in the socket map.

use aya_ebpf::helpers::{
    bpf_probe_read_user,
    generated::{bpf_get_current_task, bpf_get_current_task_btf},
};
use twtrace_common::{ConnRecord, OFFSET_NONE, Tuple, role};

use crate::{
    config::{cfg_value, off},
    reader::{load, read},
    sock::{AF_INET, AF_INET6, IPPROTO_MPTCP, IPPROTO_TCP, low_bits},
};

/// Offset of `ret` in the record of a `syscalls:sys_exit_*` tracepoint: common fields 8, `nr` 4, padding 4.
pub const RET: usize = 16;

/// Address of the `struct sock` behind a descriptor of the current process; of an MPTCP socket, that of its first
/// subflow (`mptcp_sock.first`).
#[inline(always)]
pub fn socket(fd: u64) -> Option<u64> {
    // Without the typed task, all reads go through the helper.
    // SAFETY: typed pointers as far as `fdt`; the helper checks the reads that follow.
    unsafe {
        let (limit, array): (u32, u64) = if cfg_value!(has_task_btf) != 0 {
            let task = bpf_get_current_task_btf().cast::<core::ffi::c_void>().cast_const();
            let files: *const core::ffi::c_void = load(task, off!(task_files));
            let table: *const core::ffi::c_void = load(files, off!(files_fdt));
            (load(table, off!(fdtable_max_fds)), load(table, off!(fdtable_fd)))
        } else {
            let files = read::<u64>(bpf_get_current_task() + off!(task_files) as u64)?;
            let table = read::<u64>(files + off!(files_fdt) as u64)?;
            (read(table + off!(fdtable_max_fds) as u64)?, read(table + off!(fdtable_fd) as u64)?)
        };
        if fd >= u64::from(limit) {
            return None;
        }
        let file = read::<u64>(array + fd * 8)?;
        let socket = read::<u64>(file + off!(file_private_data) as u64)?;
        let sk = read::<u64>(socket + off!(socket_sk) as u64).filter(|&sk| sk != 0)?;
        // An MPTCP socket is no connection itself: its first subflow is.
        if off!(mptcp_first) != OFFSET_NONE as usize
            && read::<u16>(sk + off!(sk_protocol) as u64) == Some(IPPROTO_MPTCP)
        {
            return read::<u64>(sk + off!(mptcp_first) as u64).filter(|&first| first != 0);
        }
        Some(sk)
    }
}

/// True for TCP over IPv4 or IPv6.
#[inline(always)]
pub fn is_tcp(sk: u64) -> bool {
    let family = read::<u16>(sk + off!(skc_family) as u64);
    (family == Some(AF_INET) || family == Some(AF_INET6))
        && read::<u16>(sk + off!(sk_protocol) as u64) == Some(IPPROTO_TCP)
}

/// Cookie, 0 when it has none yet.
#[inline(always)]
pub fn cookie(sk: u64) -> u64 {
    read(sk + off!(skc_cookie) as u64).unwrap_or(0)
}

/// Remote port, host byte order.
#[inline(always)]
pub fn remote_port(sk: u64) -> u16 {
    u16::from_be(read(sk + off!(skc_dport) as u64).unwrap_or(0))
}

/// Local port, host byte order; 0 once it was given back.
#[inline(always)]
pub fn local_port(sk: u64) -> u16 {
    read(sk + off!(skc_num) as u64).unwrap_or(0)
}

/// False when a record cannot be that of a socket that was accepted: it is another one's, whose end was not seen.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
pub unsafe fn may_be_accepted(record: *const ConnRecord, sk: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*record).role != role::ACTIVE && ((*record).cookie == 0 || (*record).cookie == cookie(sk)) }
}

/// Cookie, local side, family and namespace.
///
/// # Safety
/// `record` points to a reserved record.
#[inline(always)]
pub unsafe fn fill(record: *mut ConnRecord, sk: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        (*record).cookie = cookie(sk);
        fill_side(&raw mut (*record).tuple, sk);
        (*record).tuple.local_addr = address(sk, (*record).tuple.family, off!(skc_rcv_saddr), off!(skc_v6_rcv_saddr));
    }
}

/// Family, namespace and local port.
///
/// # Safety
/// `tuple` points into a reserved record.
#[inline(always)]
unsafe fn fill_side(tuple: *mut Tuple, sk: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        (*tuple).family = read(sk + off!(skc_family) as u64).unwrap_or(0);
        (*tuple).local_port = local_port(sk);
        let net: u64 = read(sk + off!(skc_net) as u64).unwrap_or(0);
        (*tuple).netns = read(net + off!(net_ns_inum) as u64).unwrap_or(0);
        if off!(net_cookie) != OFFSET_NONE as usize {
            (*tuple).netns_cookie = low_bits(read(net + off!(net_cookie) as u64).unwrap_or(0));
        }
    }
}

/// An address, by where it is in a socket of each family.
#[inline(always)]
fn address(sk: u64, family: u16, v4: usize, v6: usize) -> [u8; 16] {
    if family == AF_INET6 {
        return read(sk + v6 as u64).unwrap_or([0; 16]);
    }
    let mut bytes = [0; 16];
    let short: [u8; 4] = read(sk + v4 as u64).unwrap_or([0; 4]);
    bytes[..4].copy_from_slice(&short);
    bytes
}

/// The address and port in the caller's `struct sockaddr` (`sockaddr_in`, `sockaddr_in6`); what cannot be read, or is of
/// another family than the socket, stays as it is.
///
/// # Safety
/// `port` and `bytes` point into a reserved record.
#[inline(always)]
pub unsafe fn asked(sockaddr: u64, family: u16, port: *mut u16, bytes: *mut [u8; 16]) {
    // SAFETY: user memory, read by the helper; the record by the caller's promise.
    unsafe {
        let Ok(given) = bpf_probe_read_user(sockaddr as *const u16) else { return };
        let Ok(number) = bpf_probe_read_user((sockaddr + 2) as *const u16) else { return };
        if given != family && !(given == AF_INET && family == AF_INET6) {
            return;
        }
        port.write(u16::from_be(number));
        if given == AF_INET6 {
            if let Ok(address) = bpf_probe_read_user((sockaddr + 8) as *const [u8; 16]) {
                bytes.write(address);
            }
        } else if let Ok(address) = bpf_probe_read_user((sockaddr + 4) as *const [u8; 4])
            && family == AF_INET
        {
            bytes.cast::<[u8; 4]>().write(address);
        }
    }
}

/// Addresses and ports of a socket of any kind that has its port: all begin with `struct sock_common`, and a TIME_WAIT
/// socket keeps its port in `skc_num`.
///
/// # Safety
/// `tuple` points into a reserved record.
#[inline(always)]
pub unsafe fn fill_whole(tuple: *mut Tuple, sk: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        fill_side(tuple, sk);
        (*tuple).remote_port = remote_port(sk);
        let family = (*tuple).family;
        (*tuple).local_addr = address(sk, family, off!(skc_rcv_saddr), off!(skc_v6_rcv_saddr));
        (*tuple).remote_addr = address(sk, family, off!(skc_daddr), off!(skc_v6_daddr));
    }
}
