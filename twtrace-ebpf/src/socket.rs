//! What a hook can see of a socket.

use twtrace_common::{ConnFlags, ConnRecord, Owner, Tuple};

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
