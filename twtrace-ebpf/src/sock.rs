//! Reading `struct sock` by offset.
//!
//! The socket comes from the tracepoint as a pointer that the verifier knows by its BTF type, so plain loads
//! at constant offsets are allowed and a bad address reads as zero.

use aya_ebpf::helpers::{bpf_get_socket_cookie, generated::bpf_skc_to_tcp_sock};
use twtrace_common::{ConnFlags, ConnRecord, OFFSET_NONE, SockFlags, TW_UNKNOWN, Tuple};

use crate::{
    config::{cfg_value, off},
    socket::{Binding, SOCK_BINDADDR_LOCK},
};

/// `struct sock *` as the tracepoint passes it.
pub type Sk = *const core::ffi::c_void;

/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;
/// `IPPROTO_TCP`. DCCP is 33, SCTP 132.
pub const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_MPTCP`: the socket that a process has. Its subflows are TCP.
pub const IPPROTO_MPTCP: u16 = 262;

/// Loads a field.
///
/// # Safety
/// `base` is a pointer with a BTF type (or to a map value) that has a `T` at `offset`.
#[inline(always)]
pub unsafe fn load<T: Copy>(base: *const core::ffi::c_void, offset: usize) -> T {
    // SAFETY: the caller's promise; the verifier checks the access against the kernel's own types.
    unsafe { core::ptr::read_volatile(base.cast::<u8>().add(offset).cast::<T>()) }
}

/// True for TCP over IPv4 or IPv6.
#[inline(always)]
pub fn is_tcp(sk: Sk) -> bool {
    // SAFETY: offsets of struct sock.
    unsafe { load::<u16>(sk, off!(sk_protocol)) == IPPROTO_TCP }
}

/// Socket cookie, generated if it has none yet; where there is no helper for that, 0 unless one was generated before.
#[inline(always)]
pub fn cookie(sk: Sk) -> u64 {
    if cfg_value!(has_cookie) == 0 {
        // SAFETY: offset of struct sock.
        return unsafe { load(sk, off!(skc_cookie)) };
    }
    // SAFETY: the helper takes the tracepoint's socket.
    unsafe { bpf_get_socket_cookie(sk.cast_mut()) }
}

/// Network namespace of the socket.
#[inline(always)]
fn net(sk: Sk) -> *const core::ffi::c_void {
    // SAFETY: possible_net_t is one pointer to struct net.
    unsafe { load(sk, off!(skc_net)) }
}

/// The cookie of a namespace as [`Tuple::netns_cookie`] has it.
#[inline(always)]
pub fn low_bits(cookie: u64) -> [u16; 3] {
    [cookie as u16, (cookie >> 16) as u16, (cookie >> 32) as u16]
}

/// TIME_WAIT sockets in the namespace and their limit.
#[inline(always)]
pub fn tw_count(sk: Sk) -> (i32, i32) {
    if off!(net_tw_refcount) == OFFSET_NONE as usize {
        return (TW_UNKNOWN, TW_UNKNOWN);
    }
    let net = net(sk);
    // SAFETY: offsets of struct net, checked just above to exist.
    unsafe { (load::<i32>(net, off!(net_tw_refcount)) - off!(net_tw_extra) as i32, load::<i32>(net, off!(net_tw_max))) }
}

/// How the local side was chosen, to be asked before connect looks for a port.
#[inline(always)]
pub fn binding(sk: Sk) -> Binding {
    let mut binding = Binding::NONE;
    // Those that a kernel may lack are checked to exist.
    // SAFETY: offsets of struct sock, and of struct inet_sock within the helper's own type.
    unsafe {
        if load::<u16>(sk, off!(skc_num)) != 0 {
            binding.flags.insert(ConnFlags::BOUND_PORT);
        }
        if off!(sk_userlocks) != OFFSET_NONE as usize
            && load::<u8>(sk, off!(sk_userlocks)) >> (off!(sk_userlocks_shift) & 7) & SOCK_BINDADDR_LOCK != 0
        {
            binding.flags.insert(ConnFlags::BOUND_ADDRESS);
        }
        if off!(inet_local_port_range) != OFFSET_NONE as usize {
            let tp = bpf_skc_to_tcp_sock(sk.cast_mut()).cast::<core::ffi::c_void>();
            if !tp.is_null() {
                // Half by half, for it began as a structure of two: of that, the verifier allows no word to be read.
                let low = load::<u16>(tp, off!(inet_local_port_range));
                let high = load::<u16>(tp, off!(inet_local_port_range) + 2);
                binding.range = u32::from(high) << 16 | u32::from(low);
            }
        }
    }
    binding
}

/// Fills in who talks to whom.
///
/// # Safety
/// `tuple` points into a map value or a reserved record.
#[inline(always)]
pub unsafe fn fill_tuple(tuple: *mut Tuple, sk: Sk) {
    // SAFETY: offsets of struct sock and struct net; `tuple` by the caller's promise.
    unsafe {
        let net = net(sk);
        (*tuple).netns = load(net, off!(net_ns_inum));
        if off!(net_cookie) != OFFSET_NONE as usize {
            (*tuple).netns_cookie = low_bits(load(net, off!(net_cookie)));
        }
        (*tuple).remote_port = u16::from_be(load::<u16>(sk, off!(skc_dport)));
        let family = load::<u16>(sk, off!(skc_family));
        (*tuple).family = family;
        if family == AF_INET6 {
            let local = (&raw mut (*tuple).local_addr).cast::<u64>();
            let remote = (&raw mut (*tuple).remote_addr).cast::<u64>();
            local.write(load::<u64>(sk, off!(skc_v6_rcv_saddr)));
            local.add(1).write(load::<u64>(sk, off!(skc_v6_rcv_saddr) + 8));
            remote.write(load::<u64>(sk, off!(skc_v6_daddr)));
            remote.add(1).write(load::<u64>(sk, off!(skc_v6_daddr) + 8));
        } else {
            let local = (&raw mut (*tuple).local_addr).cast::<u32>();
            let remote = (&raw mut (*tuple).remote_addr).cast::<u32>();
            local.write(load::<u32>(sk, off!(skc_rcv_saddr)));
            remote.write(load::<u32>(sk, off!(skc_daddr)));
        }
        // skc_num is cleared when the port is given back, just before CLOSE is traced; inet_sport stays. What lies
        // past struct sock is reached through the helper's own type.
        let tp = bpf_skc_to_tcp_sock(sk.cast_mut()).cast::<core::ffi::c_void>();
        if !tp.is_null() {
            (*tuple).local_port = u16::from_be(load::<u16>(tp, off!(inet_sport)));
        }
    }
}

/// Fills in what is read once, at the end of a connection: flags, error, volumes.
///
/// # Safety
/// `record` points to a whole value of the socket map, or to a reserved record.
#[inline(always)]
pub unsafe fn fill_end(record: *mut ConnRecord, sk: Sk) {
    // SAFETY: offsets of struct sock and struct net; `record` by the caller's promise.
    unsafe {
        (*record).sk_flags = SockFlags::from_bits_retain(load::<u64>(sk, off!(skc_flags)) as u8);
        (*record).sk_err = load::<i32>(sk, off!(sk_err)) as u16;
        // What lies past struct sock is reached through the helper's own type.
        let tp = bpf_skc_to_tcp_sock(sk.cast_mut()).cast::<core::ffi::c_void>();
        if !tp.is_null() {
            (*record).bytes_sent = load::<u64>(tp, off!(tcp_bytes_acked));
            (*record).bytes_received = load::<u64>(tp, off!(tcp_bytes_received));
            (*record).retransmits = load::<u32>(tp, off!(tcp_total_retrans));
            if off!(tcp_ts_recent_stamp) != OFFSET_NONE as usize {
                let stamp = load::<u32>(tp, off!(tcp_ts_recent_stamp));
                (*record).flags.insert(ConnFlags::of_stamp(stamp));
            }
        }
    }
}
