//! Bits of the wire types. A record may have bits that this version does not know: they are kept, and mean nothing.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What an [`Owner`](crate::Owner) is.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OwnerFlags(u32);

bitflags! {
    impl OwnerFlags: u32 {
        /// A kernel thread (`PF_KTHREAD`): delayed `fput`, an MPTCP worker, an in-kernel client.
        const KTHREAD = 1;
        /// It was exiting (`PF_EXITING`): the socket was closed by exit, not by `close()`.
        const EXITING = 2;
    }
}

/// What was seen of a [`ConnRecord`](crate::ConnRecord). Only programs that hold the socket's lock set or clear these, and
/// the exit of the connect(2) for which a [`Self::PENDING`] record waits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConnFlags(u32);

bitflags! {
    impl ConnFlags: u32 {
        /// First seen in the middle: the socket is older than the tracer, or its beginning was lost.
        const OLDER = 1 << 0;
        /// A transition did not begin where the previous one ended: at least one was missed.
        const GAP = 1 << 1;
        /// `tcp_send_reset` fired on this socket before CLOSE.
        const RST_SENT = 1 << 2;
        /// CLOSE was reached inside a connect(2) whose exit then gave `connect_errno`.
        const CONNECT_EXIT = 1 << 3;
        /// The last transition to CLOSE ran in the context of `closer` (process context, no socket error).
        const CLOSED_IN_CONTEXT = 1 << 4;
        /// Reached ESTABLISHED.
        const ESTABLISHED = 1 << 6;
        /// CLOSE was not seen. The socket is gone, because its address belongs to another socket or a TIME_WAIT socket
        /// has its cookie. What comes with the end (errors, flags, volumes) is missing.
        const END_UNSEEN = 1 << 7;
        /// `inet_twsk_alloc` created a TIME_WAIT socket; its first substate is in `tw_substate`.
        const TW_CREATED = 1 << 8;
        /// `inet_twsk_alloc` failed: the bucket limit was reached, or there was no memory.
        const TW_OVERFLOWED = 1 << 9;
        /// `connect_errno` is the result of `inet_hash_connect` or `inet6_hash_connect`.
        const HASH_CONNECT = 1 << 11;
        /// There is no BTF: socket error, flags, volumes and network namespace were not read.
        const NO_FIELDS = 1 << 12;
        /// bind(2) had taken a local port when connect began: `skc_num` was not 0 at CLOSE -> SYN_SENT.
        const BOUND_PORT = 1 << 13;
        /// bind(2) had chosen a local address then (`SOCK_BINDADDR_LOCK` in `sk_userlocks`).
        const BOUND_ADDRESS = 1 << 14;
        /// SO_REUSEADDR was on (`skc_reuse`), in records of [`kind::BIND_FAILED`](crate::kind::BIND_FAILED) alone.
        const REUSE_ADDRESS = 1 << 15;
        /// The socket map had no room: the connection was not followed. What its processes did came before, in a
        /// [`PartRecord`](crate::PartRecord) each.
        const UNFOLLOWED = 1 << 16;
        /// The peer had sent timestamps by CLOSE (`rx_opt.ts_recent_stamp`, which a TIME_WAIT socket copies): a connect
        /// may take over the TIME_WAIT socket (`tcp_twsk_unique`).
        const PEER_TIMESTAMPS = 1 << 17;
        /// It had not. Neither bit: not read.
        const NO_PEER_TIMESTAMPS = 1 << 18;

        /// Kernel side only: the socket matches the [`LogFilter`](crate::LogFilter).
        const LOGGED = 1 << 27;
        /// Kernel side only: connect(2) is under way, its exit will give the errno.
        const IN_CONNECT = 1 << 29;
        /// Kernel side only: CLOSE was reached inside connect(2); the record waits for the errno.
        const PENDING = 1 << 30;
        /// Kernel side only: the record was written (or counted as lost); the slot waits to be freed.
        const DONE = 1 << 31;
    }
}

impl ConnFlags {
    /// By `rx_opt.ts_recent_stamp`.
    #[inline(always)]
    pub const fn of_stamp(stamp: u32) -> Self {
        if stamp != 0 { Self::PEER_TIMESTAMPS } else { Self::NO_PEER_TIMESTAMPS }
    }
}

/// Bits of `sk->sk_flags` that the classification rests on (`enum sock_flags`, `include/net/sock.h`).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SockFlags(u8);

bitflags! {
    impl SockFlags: u8 {
        /// `SOCK_DEAD`: no process has the socket open any more.
        const DEAD = 1 << 0;
        /// `SOCK_DONE`: the peer's FIN was received (`tcp_fin`).
        const DONE = 1 << 1;
        /// `SOCK_LINGER`: SO_LINGER is on.
        const LINGER = 1 << 4;
    }
}
