//! Wire types shared by the eBPF programs and the loader.
//!
//! Everything here is `#[repr(C)]`, has explicit padding and a size asserted at compile time, so that the
//! kernel side and user space can be compiled by different compilers and still agree on every byte. zerocopy
//! derives that each type is free of implicit padding and may have any bytes: user space reads and writes them
//! without `unsafe`.
//! Addresses are in network byte order (as in `struct sock`), ports in host byte order, times in
//! nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`) unless a field says otherwise.
#![no_std]

mod counters;
mod exec;
mod flags;
mod layout;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use counters::Counters;
pub use exec::{ARGUMENTS, CGROUP_LEVELS, CGROUP_NAME, CgroupNames, Exec};
pub use flags::{ConnFlags, OwnerFlags, SockFlags};
pub use layout::{Config, LogFilter, OFFSET_NONE, Offsets};

/// Version of this layout. The object carries it and the loader refuses another one.
pub const WIRE_VERSION: u32 = 12;

/// Length of `task_struct.comm` (`TASK_COMM_LEN`), the terminating NUL included.
pub const COMM_LEN: usize = 16;

/// Transitions kept for one connection. On Linux it has at most seven (RFC 9293 section 3.3.2 with
/// simultaneous open and close); what comes past the bound is counted in [`ConnRecord::transitions_dropped`].
pub const MAX_TRANSITIONS: usize = 8;

/// Smallest size of the ring buffer in bytes, unless one is given.
pub const RING_BYTES: u32 = 8 * 1024 * 1024;

/// Smallest bound of the map that follows live sockets, unless one is given.
pub const MAX_SOCKETS: u32 = 65_536;

/// TCP states as the kernel numbers them (`include/net/tcp_states.h`).
pub mod tcp_state {
    #![allow(missing_docs, reason = "the names are the kernel's and RFC 9293's own")]
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;
    pub const NEW_SYN_RECV: u8 = 12;
}

/// A process as the kernel saw it at one moment: the thread group, never the thread.
///
/// `start_ns` distinguishes processes with the same PID: a PID that is used again has another start time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Owner {
    /// Thread group id in the initial PID namespace; 0 means that no process was recorded.
    pub tgid: u32,
    /// Real uid in the initial user namespace.
    pub uid: u32,
    /// Thread group id of the real parent.
    pub ppid: u32,
    /// What it is.
    pub flags: OwnerFlags,
    /// `group_leader->start_boottime`: nanoseconds since boot.
    pub start_ns: u64,
    /// Id of the cgroup in the default (v2) hierarchy.
    pub cgroup: u64,
    /// `group_leader->comm`, NUL padded. Chosen by the process: hostile input.
    pub comm: [u8; COMM_LEN],
    /// The real parent's `group_leader->comm`.
    pub parent_comm: [u8; COMM_LEN],
}

/// What a record reports.
pub mod kind {
    /// A connection that ended: `CLOSE` was reached.
    pub const CONNECTION: u8 = 1;
    /// `connect()` failed before `SYN_SENT`, so there was no connection: only owner, address and errno are set.
    pub const CONNECT_FAILED: u8 = 2;
    /// `tcp_send_reset` fired on a socket just after its connection was reported: it ended by a reset that this
    /// host sent. Only the tuple, `cookie` and `end_ns` are set.
    pub const RESET_SENT: u8 = 3;
    /// A TIME_WAIT socket ended: a [`SmallRecord`](super::SmallRecord), not a `ConnRecord`.
    pub const TIMEWAIT_END: u8 = 4;
    /// A socket that bind(2) had given a local port began to connect: a [`SmallRecord`](super::SmallRecord) without
    /// `cause` and `substate`.
    pub const BOUND_CONNECT: u8 = 5;
    /// `bind()` failed: the caller is in `opener`, the address and port asked for are the local ones, and only
    /// `connect_errno`, `cookie`, the namespace, `end_ns` and the flag `REUSE_ADDRESS` are set besides.
    pub const BIND_FAILED: u8 = 6;
    /// A connection that has no slot in the socket map was opened or accepted: a [`PartRecord`](super::PartRecord) with
    /// its opener.
    pub const OPENED: u8 = 7;
    /// This host sent its FIN for a connection that has no slot, or its owner aborted it: a
    /// [`PartRecord`](super::PartRecord) with its closer.
    pub const CLOSING: u8 = 8;
}

/// How a TIME_WAIT socket ended ([`SmallRecord::cause`]).
pub mod cause {
    /// Its timer ran out (`tw_timer_handler`).
    pub const EXPIRED: u8 = 1;
    /// A connect took over its port (`tcp_twsk_unique`, `tcp_tw_reuse`).
    pub const REUSED: u8 = 2;
    /// Before its timer ran out: a reset, data for a TIME_WAIT socket in FIN_WAIT2, a new SYN, the end of its
    /// namespace (`inet_twsk_deschedule_put`).
    pub const ENDED_EARLY: u8 = 3;
}

/// Who began the connection.
pub mod role {
    /// Not seen from its beginning.
    pub const UNKNOWN: u8 = 0;
    /// `connect()`: CLOSE -> SYN_SENT.
    pub const ACTIVE: u8 = 1;
    /// Accepted from a listener: LISTEN -> SYN_RECV.
    pub const PASSIVE: u8 = 2;
}

/// Value of [`ConnRecord::tw_count_before`] and [`ConnRecord::tw_count`] when the kernel's count could not be read.
pub const TW_UNKNOWN: i32 = -1;

/// Who talks to whom.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Tuple {
    /// `AF_INET` in the first four bytes, `AF_INET6` in all sixteen.
    pub local_addr: [u8; 16],
    /// As `local_addr`.
    pub remote_addr: [u8; 16],
    /// Inode number of the network namespace (`net->ns.inum`).
    pub netns: u32,
    /// `skc_family`: `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// Local port, host byte order; 0 when none was chosen.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// Low 48 bits of the namespace's cookie (`net->net_cookie`), lowest first; 0 when not known.
    pub netns_cookie: [u16; 3],
}

impl Tuple {
    /// Low 48 bits of the namespace's cookie; 0 when not known.
    pub fn netns_cookie(&self) -> u64 {
        let [low, middle, high] = self.netns_cookie;
        u64::from(high) << 32 | u64::from(middle) << 16 | u64::from(low)
    }

    /// No addresses and no ports.
    pub const NONE: Self = Self {
        local_addr: [0; 16],
        remote_addr: [0; 16],
        netns: 0,
        family: 0,
        local_port: 0,
        remote_port: 0,
        netns_cookie: [0; 3],
    };
}

/// One record of the ring buffer: a whole connection, or one of the rarer events of [`kind`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConnRecord {
    /// [`kind`].
    pub kind: u8,
    /// [`role`].
    pub role: u8,
    /// Number of valid entries in `old_states`, `new_states` and `times_ns`.
    pub transitions: u8,
    /// Transitions past [`MAX_TRANSITIONS`], saturating.
    pub transitions_dropped: u8,
    /// `sk->sk_err` at CLOSE: a positive errno, or 0.
    pub sk_err: u16,
    /// Errno with which connect(2) returned (positive), or 0 when not known or successful; that of bind(2) in a
    /// record of its failure.
    pub connect_errno: u16,
    /// What was seen.
    pub flags: ConnFlags,
    /// `tp->total_retrans`.
    pub retransmits: u32,
    /// TIME_WAIT sockets in the namespace just before the last transition's handler allocated one,
    /// or [`TW_UNKNOWN`].
    pub tw_count_before: i32,
    /// The same at CLOSE.
    pub tw_count: i32,
    /// `sysctl_max_tw_buckets` of the namespace, or [`TW_UNKNOWN`].
    pub tw_max: i32,
    /// IP_LOCAL_PORT_RANGE of the socket when connect began, as the kernel keeps it: `high << 16 | low`, both
    /// inclusive, and 0 for a side that is the namespace's.
    pub local_range: u32,
    /// State argument of `inet_twsk_alloc` ([`tcp_state`]), or 0 when it was not seen.
    pub tw_substate: u8,
    /// Lowest bits of `sk->sk_flags` at CLOSE.
    pub sk_flags: SockFlags,
    /// Segments with payload from the side that opened the connection, those that were sent again included, as far as they
    /// go into 16 bits (`tp->data_segs_in` of an accepted socket, else `tp->data_segs_out`); 0 when there were none, or not
    /// read.
    pub request_segments: u16,
    /// Kernel side only: [`returned_early`] of the socket once connect(2) has returned before the handshake ended
    /// (non-blocking or interrupted). Written at its exit, which does not hold the socket's lock, and nowhere else.
    pub returned_early: u32,
    /// Socket cookie; 0 when it could not be read.
    pub cookie: u64,
    /// Time of the last transition.
    pub end_ns: u64,
    /// `tp->bytes_acked`: payload that the peer acknowledged (RFC 4898 tcpEStatsAppHCThruOctetsAcked).
    pub bytes_sent: u64,
    /// `tp->bytes_received` (RFC 4898 tcpEStatsAppHCThruOctetsReceived).
    pub bytes_received: u64,
    /// Address of the `struct sock`: what a [`PartRecord`] of the same connection has.
    pub sk: u64,
    /// [`Owner::seal`] of `opener` with the address and the cookie (0 if it had none yet) of the socket that it was
    /// written for. The programs that see accept(2) return do not hold the socket's lock: its slot may belong to another
    /// socket by then, and two of them may write at once. Then the seal does not fit, and the opener is not known.
    pub opener_seal: u64,
    /// Who talked to whom.
    pub tuple: Tuple,
    /// Old state of each transition ([`tcp_state`]).
    pub old_states: [u8; MAX_TRANSITIONS],
    /// New state of each transition.
    pub new_states: [u8; MAX_TRANSITIONS],
    /// Time of each transition.
    pub times_ns: [u64; MAX_TRANSITIONS],
    /// Process that called connect(2), or that accept(2) returned to.
    pub opener: Owner,
    /// Process that sent this host's FIN, or that aborted the connection.
    pub closer: Owner,
}

impl ConnRecord {
    /// A record with nothing in it.
    pub const EMPTY: Self = Self {
        kind: kind::CONNECTION,
        role: role::UNKNOWN,
        transitions: 0,
        transitions_dropped: 0,
        sk_err: 0,
        connect_errno: 0,
        flags: ConnFlags::empty(),
        retransmits: 0,
        tw_count_before: TW_UNKNOWN,
        tw_count: TW_UNKNOWN,
        tw_max: TW_UNKNOWN,
        local_range: 0,
        tw_substate: 0,
        sk_flags: SockFlags::empty(),
        request_segments: 0,
        returned_early: 0,
        cookie: 0,
        end_ns: 0,
        bytes_sent: 0,
        bytes_received: 0,
        sk: 0,
        opener_seal: 0,
        tuple: Tuple::NONE,
        old_states: [0; MAX_TRANSITIONS],
        new_states: [0; MAX_TRANSITIONS],
        times_ns: [0; MAX_TRANSITIONS],
        opener: Owner::NONE,
        closer: Owner::NONE,
    };
}

impl Owner {
    /// No process.
    pub const NONE: Self = Self {
        tgid: 0,
        uid: 0,
        ppid: 0,
        flags: OwnerFlags::empty(),
        start_ns: 0,
        cgroup: 0,
        comm: [0; COMM_LEN],
        parent_comm: [0; COMM_LEN],
    };

    /// A number that changes with each part of the owner, and with the socket that it is written for
    /// ([`ConnRecord::opener_seal`]).
    #[inline(always)]
    pub fn seal(&self, sk: u64, cookie: u64) -> u64 {
        /// Odd, with bits all over (2^64 divided by the golden ratio): no bit of a word is lost.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let words: [u64; size_of::<Self>() / 8] = zerocopy::transmute!(*self);
        let mut seal = sk.wrapping_mul(FACTOR) ^ cookie;
        for word in words {
            seal = seal.wrapping_mul(FACTOR) ^ word;
        }
        seal
    }
}

/// A part of the address of a `struct sock` that other sockets of its time do not have, and never 0.
#[inline(always)]
pub fn returned_early(sk: u64) -> u32 {
    (sk >> 5) as u32 | 1
}

/// An event of one socket for which its addresses are enough: the end of a TIME_WAIT socket, or a connect from a bound
/// port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SmallRecord {
    /// [`kind::TIMEWAIT_END`] or [`kind::BOUND_CONNECT`].
    pub kind: u8,
    /// [`cause`], else 0.
    pub cause: u8,
    /// `tw_substate` at the end of a TIME_WAIT socket ([`tcp_state`]), else 0.
    pub substate: u8,
    /// Explicit padding, zero.
    pub pad: [u8; 5],
    /// Socket cookie, the same as its connection's; 0 when it has none.
    pub cookie: u64,
    /// When.
    pub at_ns: u64,
    /// Who talked to whom.
    pub tuple: Tuple,
}

impl SmallRecord {
    /// A record with nothing in it.
    pub const EMPTY: Self =
        Self { kind: kind::TIMEWAIT_END, cause: 0, substate: 0, pad: [0; 5], cookie: 0, at_ns: 0, tuple: Tuple::NONE };
}

/// What must not be lost of a connection for which the socket map has no room, sent while its process is known. The
/// [`ConnRecord`] with [`ConnFlags::UNFOLLOWED`] that follows at its end has the same `sk`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PartRecord {
    /// [`kind::OPENED`] or [`kind::CLOSING`].
    pub kind: u8,
    /// [`role`]; only known when it was opened.
    pub role: u8,
    /// The transition that it was seen at ([`tcp_state`]), else 0.
    pub old_state: u8,
    /// As `old_state`.
    pub new_state: u8,
    /// [`ConnFlags::BOUND_PORT`] and [`ConnFlags::BOUND_ADDRESS`].
    pub flags: ConnFlags,
    /// As [`ConnRecord::local_range`].
    pub local_range: u32,
    /// Explicit padding, zero.
    pub pad: u32,
    /// Address of the `struct sock`.
    pub sk: u64,
    /// Socket cookie; 0 when it could not be read.
    pub cookie: u64,
    /// When.
    pub at_ns: u64,
    /// Who talks to whom.
    pub tuple: Tuple,
    /// The opener or the closer.
    pub owner: Owner,
}

impl PartRecord {
    /// A record with nothing in it.
    pub const EMPTY: Self = Self {
        kind: kind::OPENED,
        role: role::UNKNOWN,
        old_state: 0,
        new_state: 0,
        flags: ConnFlags::empty(),
        local_range: 0,
        pad: 0,
        sk: 0,
        cookie: 0,
        at_ns: 0,
        tuple: Tuple::NONE,
        owner: Owner::NONE,
    };
}

const _: () = {
    assert!(size_of::<Owner>() == 64);
    assert!(size_of::<Tuple>() == 48);
    assert!(size_of::<ConnRecord>() == 344);
    assert!(size_of::<PartRecord>() == 152);
    assert!(align_of::<ConnRecord>() == 8);
    assert!(size_of::<SmallRecord>() == 72);
};
