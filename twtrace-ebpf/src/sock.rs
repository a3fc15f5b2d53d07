//! A socket by the kernel's types: they say where its fields are.

use core::ffi::c_void;

use twtrace_common::{ConnFlags, ConnRecord, OFFSET_NONE, Owner, OwnerFlags, SockFlags, TW_UNKNOWN, Tuple, role};

use crate::{
    config::{cfg_value, off},
    owner,
    reader::{Reader, Typed, Zero},
    socket::{Binding, SOCK_BINDADDR_LOCK, Socket},
};

/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;
/// `IPPROTO_TCP`. DCCP is 33, SCTP 132.
pub const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_MPTCP`: the socket that a process has. Its subflows are TCP.
pub const IPPROTO_MPTCP: u16 = 262;

/// A `struct sock *`, and how to read what it points to.
#[derive(Clone, Copy)]
pub struct Sock<R> {
    pub sk: *const c_void,
    pub by: R,
}

/// As a hook with types passes it.
pub type TypedSock = Sock<Typed>;

/// The cookie of a namespace as [`Tuple::netns_cookie`] has it.
#[inline(always)]
pub fn low_bits(cookie: u64) -> [u16; 3] {
    [cookie as u16, (cookie >> 16) as u16, (cookie >> 32) as u16]
}

impl TypedSock {
    /// From the argument of a hook.
    #[inline(always)]
    pub fn typed(sk: *const c_void) -> Self {
        Self { sk, by: Typed }
    }
}

impl<R: Reader> Sock<R> {
    /// A field of `struct sock`.
    #[inline(always)]
    fn field<T: Copy + Zero>(self, offset: usize) -> T {
        // SAFETY: offsets of struct sock; `sk` points to one.
        unsafe { self.by.read(self.sk, offset) }
    }
}

impl<R: Reader> Socket for Sock<R> {
    #[inline(always)]
    fn address(self) -> u64 {
        self.sk as u64
    }
    #[inline(always)]
    fn is_tcp(self) -> bool {
        self.field::<u16>(off!(sk_protocol)) == IPPROTO_TCP
    }
    #[inline(always)]
    fn cookie(self) -> u64 {
        // SAFETY: `sk` points to a socket.
        unsafe { self.by.cookie(self.sk) }
    }
    #[inline(always)]
    fn error(self) -> Option<i32> {
        Some(self.field(off!(sk_err)))
    }
    #[inline(always)]
    fn tw_count(self) -> (i32, i32) {
        if off!(net_tw_refcount) == OFFSET_NONE as usize {
            return (TW_UNKNOWN, TW_UNKNOWN);
        }
        let net: *const c_void = self.field(off!(skc_net));
        // SAFETY: offsets of struct net, checked just above to exist.
        unsafe {
            let count: i32 = self.by.read(net, off!(net_tw_refcount));
            (count - off!(net_tw_extra) as i32, self.by.read(net, off!(net_tw_max)))
        }
    }
    /// To be asked before connect looks for a port.
    #[inline(always)]
    fn binding(self) -> Binding {
        let mut binding = Binding::NONE;
        if self.field::<u16>(off!(skc_num)) != 0 {
            binding.flags.insert(ConnFlags::BOUND_PORT);
        }
        // Those that a kernel may lack are checked to exist.
        if off!(sk_userlocks) != OFFSET_NONE as usize
            && self.field::<u8>(off!(sk_userlocks)) >> (off!(sk_userlocks_shift) & 7) & SOCK_BINDADDR_LOCK != 0
        {
            binding.flags.insert(ConnFlags::BOUND_ADDRESS);
        }
        if off!(inet_local_port_range) != OFFSET_NONE as usize {
            // SAFETY: a socket of TCP; offsets of struct inet_sock.
            unsafe {
                let tp = self.by.tcp_sock(self.sk);
                if !tp.is_null() {
                    // Half by half, for it began as a structure of two: of that, the verifier allows no word to be read.
                    let low: u16 = self.by.read(tp, off!(inet_local_port_range));
                    let high: u16 = self.by.read(tp, off!(inet_local_port_range) + 2);
                    binding.range = u32::from(high) << 16 | u32::from(low);
                }
            }
        }
        binding
    }
    #[inline(always)]
    fn in_connect(self, opener: &Owner) -> bool {
        if cfg_value!(defer_connect) == 0 || opener.flags.contains(OwnerFlags::KTHREAD) {
            return false;
        }
        // An MPTCP subflow is not what the descriptor leads to, so the exit of connect(2) could not find it.
        let socket: *const c_void = self.field(off!(sk_socket));
        // SAFETY: offset of struct socket.
        let of_descriptor: *const c_void = unsafe { self.by.read(socket, off!(socket_sk)) };
        owner::syscall_number() == cfg_value!(connect_nr) && of_descriptor as u64 == self.sk as u64
    }
    #[inline(always)]
    unsafe fn capture(self, owner: *mut Owner) {
        // SAFETY: the caller's promise.
        unsafe { owner::capture(owner) };
    }
    #[inline(always)]
    unsafe fn fill_tuple(self, tuple: *mut Tuple) {
        let by = self.by;
        // SAFETY: offsets of struct sock and struct net; `tuple` by the caller's promise.
        unsafe {
            let net: *const c_void = self.field(off!(skc_net));
            (*tuple).netns = by.read(net, off!(net_ns_inum));
            if off!(net_cookie) != OFFSET_NONE as usize {
                (*tuple).netns_cookie = low_bits(by.read(net, off!(net_cookie)));
            }
            (*tuple).remote_port = u16::from_be(self.field(off!(skc_dport)));
            let family: u16 = self.field(off!(skc_family));
            (*tuple).family = family;
            if family == AF_INET6 {
                let local = (&raw mut (*tuple).local_addr).cast::<u64>();
                let remote = (&raw mut (*tuple).remote_addr).cast::<u64>();
                local.write(self.field(off!(skc_v6_rcv_saddr)));
                local.add(1).write(self.field(off!(skc_v6_rcv_saddr) + 8));
                remote.write(self.field(off!(skc_v6_daddr)));
                remote.add(1).write(self.field(off!(skc_v6_daddr) + 8));
            } else {
                let local = (&raw mut (*tuple).local_addr).cast::<u32>();
                let remote = (&raw mut (*tuple).remote_addr).cast::<u32>();
                local.write(self.field(off!(skc_rcv_saddr)));
                remote.write(self.field(off!(skc_daddr)));
            }
            // skc_num is cleared when the port is given back, just before CLOSE is traced; inet_sport stays.
            let tp = by.tcp_sock(self.sk);
            if !tp.is_null() {
                (*tuple).local_port = u16::from_be(by.read(tp, off!(inet_sport)));
            }
        }
    }
    /// Flags, error, volumes.
    #[inline(always)]
    unsafe fn fill_end(self, record: *mut ConnRecord) {
        let by = self.by;
        // SAFETY: offsets of struct sock and struct tcp_sock; `record` by the caller's promise.
        unsafe {
            (*record).sk_flags = SockFlags::from_bits_retain(self.field::<u64>(off!(skc_flags)) as u8);
            (*record).sk_err = self.field::<i32>(off!(sk_err)) as u16;
            let tp = by.tcp_sock(self.sk);
            if !tp.is_null() {
                (*record).bytes_sent = by.read(tp, off!(tcp_bytes_acked));
                (*record).bytes_received = by.read(tp, off!(tcp_bytes_received));
                (*record).retransmits = by.read(tp, off!(tcp_total_retrans));
                let is_accepted = (*record).role == role::PASSIVE;
                let segments: u32 =
                    by.read(tp, if is_accepted { off!(tcp_data_segs_in) } else { off!(tcp_data_segs_out) });
                (*record).request_segments = if segments > 0xffff { 0xffff } else { segments as u16 };
                if off!(tcp_ts_recent_stamp) != OFFSET_NONE as usize {
                    let stamp: u32 = by.read(tp, off!(tcp_ts_recent_stamp));
                    (*record).flags.insert(ConnFlags::of_stamp(stamp));
                }
            }
        }
    }
}
