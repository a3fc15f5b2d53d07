//! Wire types shared by the eBPF programs and the loader.
//!
//! Everything here is `#[repr(C)]`, has explicit padding and a size asserted at compile time, so that the
//! kernel side and user space can be compiled by different compilers and still agree on every byte.
//! Addresses are in network byte order (as in `struct sock`), ports in host byte order, times in
//! nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`) unless a field says otherwise.
#![no_std]

mod counters;
mod layout;

pub use counters::Counters;
pub use layout::{Config, OFFSET_NONE, Offsets};

/// Version of this layout. The object carries it and the loader refuses another one.
pub const WIRE_VERSION: u32 = 5;

/// Length of `task_struct.comm` (`TASK_COMM_LEN`), the terminating NUL included.
pub const COMM_LEN: usize = 16;

/// Transitions kept for one socket life. A TCP life on Linux has at most seven (RFC 9293 section 3.3.2 with
/// simultaneous open and close); what comes past the bound is counted in [`ConnRecord::transitions_dropped`].
pub const MAX_TRANSITIONS: usize = 8;

/// Default size of the ring buffer in bytes.
pub const RING_BYTES: u32 = 8 * 1024 * 1024;

/// Default bound of the map that follows live sockets.
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
/// `start_ns` makes it unique: a PID that is used again has another start time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Thread group id in the initial PID namespace; 0 means that nobody was recorded.
    pub tgid: u32,
    /// Real uid in the initial user namespace.
    pub uid: u32,
    /// Thread group id of the real parent.
    pub ppid: u32,
    /// `OWNER_*` bits.
    pub flags: u32,
    /// `group_leader->start_boottime`: nanoseconds since boot.
    pub start_ns: u64,
    /// Id of the cgroup in the default (v2) hierarchy.
    pub cgroup: u64,
    /// `group_leader->comm`, NUL padded. Chosen by the process: hostile input.
    pub comm: [u8; COMM_LEN],
    /// The real parent's `group_leader->comm`.
    pub parent_comm: [u8; COMM_LEN],
}

/// The owner is a kernel thread (`PF_KTHREAD`): delayed `fput`, an MPTCP worker, an in-kernel client.
pub const OWNER_KTHREAD: u32 = 1;
/// The owner was exiting (`PF_EXITING`): the socket was closed by exit, not by `close()`.
pub const OWNER_EXITING: u32 = 2;

/// What a [`ConnRecord`] tells.
pub mod kind {
    /// A socket life that ended: `CLOSE` was reached.
    pub const LIFE: u8 = 1;
    /// `connect()` failed before `SYN_SENT`, so there was no life: only owner, address and errno are set.
    pub const CONNECT_FAILED: u8 = 2;
    /// `tcp_send_reset` fired on a socket just after its life was reported: it ended by a reset that this
    /// host sent. Only the tuple, `cookie`, `life`, `netns` and `end_ns` are set.
    pub const RESET_SENT: u8 = 3;
    /// A timewait socket ended: a [`SmallRecord`](super::SmallRecord), not a `ConnRecord`.
    pub const TIMEWAIT_END: u8 = 4;
    /// A socket that bind(2) had given a local port began to connect: a [`SmallRecord`](super::SmallRecord) without
    /// `cause` and `substate`.
    pub const BOUND_CONNECT: u8 = 5;
    /// `bind()` failed: the caller is in `opener`, the address and port asked for are the local ones, and only
    /// `connect_errno`, `cookie`, `netns`, `end_ns` and the flag `REUSE_ADDRESS` are set besides.
    pub const BIND_FAILED: u8 = 6;
}

/// How a timewait socket ended ([`SmallRecord::cause`]).
pub mod cause {
    /// Its timer ran out (`tw_timer_handler`).
    pub const EXPIRED: u8 = 1;
    /// A connect took over its port (`tcp_twsk_unique`, `tcp_tw_reuse`).
    pub const REUSED: u8 = 2;
    /// Before its time: a reset, data for a FIN_WAIT2 timewait socket, a new SYN, the end of its namespace
    /// (`inet_twsk_deschedule_put`).
    pub const KILLED: u8 = 3;
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

/// Bits of [`ConnRecord::flags`].
pub mod conn_flag {
    /// First seen in mid-life: the socket is older than the tracer, or its beginning was lost.
    pub const OLDER: u32 = 1 << 0;
    /// A transition did not begin where the previous one ended: at least one was missed.
    pub const GAP: u32 = 1 << 1;
    /// `tcp_send_reset` fired on this socket before CLOSE.
    pub const RST_SENT: u32 = 1 << 2;
    /// CLOSE was reached inside a connect(2) whose exit then gave `connect_errno`.
    pub const CONNECT_EXIT: u32 = 1 << 3;
    /// The last transition to CLOSE ran in the context of `closer` (process context, no socket error).
    pub const CLOSED_IN_CONTEXT: u32 = 1 << 4;
    /// connect(2) returned before the handshake ended (non-blocking or interrupted).
    pub const ASYNC_CONNECT: u32 = 1 << 5;
    /// The opener was recorded when accept(2) returned.
    pub const ACCEPTED: u32 = 1 << 6;
    /// At least one transition was recovered by the twin program.
    pub const RECOVERED: u32 = 1 << 7;
    /// Reached ESTABLISHED.
    pub const ESTABLISHED: u32 = 1 << 8;
    /// CLOSE was not seen: the socket is gone, for its address belongs to another one or a timewait socket has its
    /// cookie. What comes with the end (errors, flags, volumes) is missing.
    pub const END_UNSEEN: u32 = 1 << 9;
    /// `inet_twsk_alloc` made a timewait socket; its first substate is in `tw_substate`.
    pub const TW_MADE: u32 = 1 << 10;
    /// `inet_twsk_alloc` refused: the bucket limit, or no memory.
    pub const TW_REFUSED: u32 = 1 << 11;
    /// The opener was recorded at `inet_csk_accept`, which holds the socket.
    pub const ACCEPT_SEEN: u32 = 1 << 12;
    /// `connect_errno` is the result of `inet_hash_connect` or `inet6_hash_connect`.
    pub const HASH_CONNECT: u32 = 1 << 13;

    /// There is no BTF: socket error, flags, volumes and network namespace were not read.
    pub const NO_FIELDS: u32 = 1 << 14;

    /// bind(2) had taken a local port when connect began: `skc_num` was not 0 at CLOSE -> SYN_SENT.
    pub const BOUND_PORT: u32 = 1 << 15;
    /// bind(2) had chosen a local address then (`SOCK_BINDADDR_LOCK` in `sk_userlocks`).
    pub const BOUND_ADDRESS: u32 = 1 << 16;
    /// SO_REUSEADDR was on (`skc_reuse`), told by [`kind::BIND_FAILED`](super::kind::BIND_FAILED) alone.
    pub const REUSE_ADDRESS: u32 = 1 << 17;

    /// Kernel side only: connect(2) is under way, its exit will tell the errno.
    pub const IN_CONNECT: u32 = 1 << 29;
    /// Kernel side only: CLOSE was reached inside connect(2); the record waits for the errno.
    pub const PENDING: u32 = 1 << 30;
    /// Kernel side only: the record was written (or counted as lost); the slot waits to be freed.
    pub const DONE: u32 = 1 << 31;
}

/// Bits of `sk->sk_flags` that the judgement rests on (`enum sock_flags`, `include/net/sock.h`).
pub mod sock_flag {
    /// `SOCK_DEAD`: no process holds the socket any more.
    pub const DEAD: u32 = 1 << 0;
    /// `SOCK_DONE`: the peer's FIN was received (`tcp_fin`).
    pub const DONE: u32 = 1 << 1;
    /// `SOCK_LINGER`: SO_LINGER is on.
    pub const LINGER: u32 = 1 << 4;
}

/// Value of [`ConnRecord::tw_count_before`] and [`ConnRecord::tw_count`] when the kernel's count could not be read.
pub const TW_UNKNOWN: i32 = -1;

/// One record of the ring buffer: a whole socket life, or one of the rarer events of [`kind`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnRecord {
    /// [`kind`].
    pub kind: u8,
    /// [`role`].
    pub role: u8,
    /// Number of valid entries in `old_states`, `new_states` and `times_ns`.
    pub transitions: u8,
    /// Transitions past [`MAX_TRANSITIONS`], saturating.
    pub transitions_dropped: u8,
    /// `skc_family`: `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// Local port, host byte order; 0 when none was chosen.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// `sk->sk_err` at CLOSE: a positive errno, or 0.
    pub sk_err: u16,
    /// Errno with which connect(2) returned (positive), or 0 when not known or successful; that of bind(2) in a
    /// record of its failure.
    pub connect_errno: u16,
    /// `sk->sk_shutdown` at CLOSE (`RCV_SHUTDOWN` 1, `SEND_SHUTDOWN` 2).
    pub shutdown: u8,
    /// State argument of `inet_twsk_alloc` ([`tcp_state`]), or 0 when it was not seen.
    pub tw_substate: u8,
    /// [`conn_flag`] bits.
    pub flags: u32,
    /// Low half of `sk->sk_flags` at CLOSE: [`sock_flag`] bits and others.
    pub sk_flags: u32,
    /// Inode number of the network namespace (`net->ns.inum`).
    pub netns: u32,
    /// `tp->total_retrans`.
    pub retransmits: u32,
    /// Timewait sockets in the namespace just before the last transition's handler allocated one,
    /// or [`TW_UNKNOWN`].
    pub tw_count_before: i32,
    /// The same at CLOSE.
    pub tw_count: i32,
    /// `sysctl_max_tw_buckets` of the namespace, or [`TW_UNKNOWN`].
    pub tw_max: i32,
    /// Reserved for numbering the lives of one socket; 0.
    pub life: u32,
    /// Socket cookie; 0 when it could not be read.
    pub cookie: u64,
    /// Time of the last transition.
    pub end_ns: u64,
    /// `tp->bytes_acked`: payload that the peer acknowledged (RFC 4898 tcpEStatsAppHCThruOctetsAcked).
    pub bytes_sent: u64,
    /// `tp->bytes_received` (RFC 4898 tcpEStatsAppHCThruOctetsReceived).
    pub bytes_received: u64,
    /// `AF_INET` in the first four bytes, `AF_INET6` in all sixteen.
    pub local_addr: [u8; 16],
    /// As `local_addr`.
    pub remote_addr: [u8; 16],
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
    /// Cookie that the accept exit believed it wrote `opener` for. A mismatch with `cookie` means that the map
    /// slot changed hands meanwhile, and the opener must not be believed.
    pub accept_cookie: u64,
    /// IP_LOCAL_PORT_RANGE of the socket when connect began, as the kernel keeps it: `high << 16 | low`, both
    /// inclusive, and 0 for a side that is the namespace's.
    pub local_range: u32,
    /// Explicit padding, zero.
    pub pad: u32,
}

impl ConnRecord {
    /// A record with nothing in it.
    pub const EMPTY: Self = Self {
        kind: kind::LIFE,
        role: role::UNKNOWN,
        transitions: 0,
        transitions_dropped: 0,
        family: 0,
        local_port: 0,
        remote_port: 0,
        sk_err: 0,
        connect_errno: 0,
        shutdown: 0,
        tw_substate: 0,
        flags: 0,
        sk_flags: 0,
        netns: 0,
        retransmits: 0,
        tw_count_before: TW_UNKNOWN,
        tw_count: TW_UNKNOWN,
        tw_max: TW_UNKNOWN,
        life: 0,
        cookie: 0,
        end_ns: 0,
        bytes_sent: 0,
        bytes_received: 0,
        local_addr: [0; 16],
        remote_addr: [0; 16],
        old_states: [0; MAX_TRANSITIONS],
        new_states: [0; MAX_TRANSITIONS],
        times_ns: [0; MAX_TRANSITIONS],
        opener: Owner::NONE,
        closer: Owner::NONE,
        accept_cookie: 0,
        local_range: 0,
        pad: 0,
    };
}

impl Owner {
    /// Nobody.
    pub const NONE: Self = Self {
        tgid: 0,
        uid: 0,
        ppid: 0,
        flags: 0,
        start_ns: 0,
        cgroup: 0,
        comm: [0; COMM_LEN],
        parent_comm: [0; COMM_LEN],
    };
}

/// An event of one socket for which its addresses are enough: the end of a timewait socket, or a connect from a bound
/// port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallRecord {
    /// [`kind::TIMEWAIT_END`] or [`kind::BOUND_CONNECT`].
    pub kind: u8,
    /// [`cause`], else 0.
    pub cause: u8,
    /// `tw_substate` at the end of a timewait socket ([`tcp_state`]), else 0.
    pub substate: u8,
    /// Explicit padding, zero.
    pub pad0: u8,
    /// `skc_family`.
    pub family: u16,
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// Explicit padding, zero.
    pub pad1: u16,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Socket cookie, the same as its connection's; 0 when it has none.
    pub cookie: u64,
    /// When.
    pub at_ns: u64,
    /// As [`ConnRecord::local_addr`].
    pub local_addr: [u8; 16],
    /// As [`ConnRecord::remote_addr`].
    pub remote_addr: [u8; 16],
}

impl SmallRecord {
    /// A record with nothing in it.
    pub const EMPTY: Self = Self {
        kind: kind::TIMEWAIT_END,
        cause: 0,
        substate: 0,
        pad0: 0,
        family: 0,
        local_port: 0,
        remote_port: 0,
        pad1: 0,
        netns: 0,
        cookie: 0,
        at_ns: 0,
        local_addr: [0; 16],
        remote_addr: [0; 16],
    };
}

const _: () = {
    assert!(size_of::<Owner>() == 64);
    assert!(size_of::<ConnRecord>() == 336);
    assert!(align_of::<ConnRecord>() == 8);
    assert!(size_of::<SmallRecord>() == 64);
};
