//! What a hook can see of a socket.

use twtrace_common::{ConnFlags, ConnRecord, Owner, OwnerFlags, Tuple};

use crate::{
    config::{cfg_value, off},
    owner, sock,
    sock::{Sk, load},
};

/// `SOCK_BINDADDR_LOCK`, a bit of `sk_userlocks` (`include/net/sock.h`).
pub const SOCK_BINDADDR_LOCK: u8 = 4;

/// The socket of a state change, as far as a hook lets it be seen.
pub trait Socket: Copy {
    /// Address of its `struct sock`.
    fn address(self) -> u64;
    /// True for TCP over IPv4 or IPv6.
    fn is_tcp(self) -> bool;
    /// Cookie, or 0.
    fn cookie(self) -> u64;
    /// `sk_err`; `None` where it cannot be read.
    fn error(self) -> Option<i32>;
    /// TIME_WAIT sockets in its namespace and their limit.
    fn tw_count(self) -> (i32, i32);
    /// How bind(2) and IP_LOCAL_PORT_RANGE have chosen its local side, as far as that can be read.
    fn binding(self) -> Binding;
    /// Whether the current thread is in a connect(2) for it, the exit of which is hooked.
    fn in_connect(self, opener: &Owner) -> bool;
    /// Who is running.
    ///
    /// # Safety
    /// `owner` points into a map value or a reserved record.
    unsafe fn capture(self, owner: *mut Owner);
    /// Who talks to whom.
    ///
    /// # Safety
    /// `tuple` points into a map value or a reserved record.
    unsafe fn fill_tuple(self, tuple: *mut Tuple);
    /// What is read once, at the end of a connection.
    ///
    /// # Safety
    /// `record` points to a whole value of the socket map, or to a reserved record.
    unsafe fn fill_end(self, record: *mut ConnRecord);
}

/// How the local side of a socket was chosen before it connects.
#[derive(Clone, Copy)]
pub struct Binding {
    /// [`ConnFlags::BOUND_PORT`] and [`ConnFlags::BOUND_ADDRESS`].
    pub flags: ConnFlags,
    /// As [`ConnRecord::local_range`].
    pub range: u32,
}

impl Binding {
    /// Nothing is known.
    pub const NONE: Self = Self { flags: ConnFlags::empty(), range: 0 };
}

/// With the kernel's types.
impl Socket for Sk {
    #[inline(always)]
    fn address(self) -> u64 {
        self as u64
    }
    #[inline(always)]
    fn is_tcp(self) -> bool {
        sock::is_tcp(self)
    }
    #[inline(always)]
    fn cookie(self) -> u64 {
        sock::cookie(self)
    }
    #[inline(always)]
    fn error(self) -> Option<i32> {
        // SAFETY: offset of struct sock.
        Some(unsafe { load(self, off!(sk_err)) })
    }
    #[inline(always)]
    fn tw_count(self) -> (i32, i32) {
        sock::tw_count(self)
    }
    #[inline(always)]
    fn binding(self) -> Binding {
        sock::binding(self)
    }
    #[inline(always)]
    fn in_connect(self, opener: &Owner) -> bool {
        if cfg_value!(defer_connect) == 0 || opener.flags.contains(OwnerFlags::KTHREAD) {
            return false;
        }
        // An MPTCP subflow is not what the descriptor leads to, so the exit of connect(2) could not find it.
        // SAFETY: offsets of struct sock and struct socket.
        let of_descriptor: Sk = unsafe { load(load(self, off!(sk_socket)), off!(socket_sk)) };
        owner::syscall_number() == cfg_value!(connect_nr) && of_descriptor as u64 == self as u64
    }
    #[inline(always)]
    unsafe fn capture(self, owner: *mut Owner) {
        // SAFETY: the caller's promise.
        unsafe { owner::capture(owner) };
    }
    #[inline(always)]
    unsafe fn fill_tuple(self, tuple: *mut Tuple) {
        // SAFETY: the caller's promise.
        unsafe { sock::fill_tuple(tuple, self) };
    }
    #[inline(always)]
    unsafe fn fill_end(self, record: *mut ConnRecord) {
        // SAFETY: the caller's promise.
        unsafe { sock::fill_end(record, self) };
    }
}
