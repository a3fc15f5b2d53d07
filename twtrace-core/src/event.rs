//! The engine's input. A [`crate::source::Source`] yields events; a recording stores them; a test lists them.
//!
//! Times called `*_ns` are nanoseconds of the traced host's `CLOCK_MONOTONIC` unless they say otherwise.

pub use crate::containers::ContainerFacts;
use crate::cost::CostReading;
pub use crate::facts::{
    COUNTERS, CensusState, Counter, Hook, HostFacts, KernelCounters, KernelFacts, NetFigures, ProcessFacts,
    SocketOwner, Tier, TracingFacts,
};
use std::net::IpAddr;

/// TCP states with RFC 9293's names; numbers are the kernel's (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "RFC 9293 section 3.3.2 names")]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynRecv = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
    NewSynRecv = 12,
}

/// Identity of a process, unique even when its PID is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ProcessKey {
    /// Thread group id in the initial PID namespace.
    pub tgid: u32,
    /// Start of the thread group leader, nanoseconds since boot (`start_boottime`).
    pub start_ns: u64,
}

/// A command name as the kernel keeps it: up to 15 bytes, not necessarily UTF-8, chosen by the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The bytes before the first NUL.
    pub fn bytes(&self) -> &[u8] {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        &self.0[..length]
    }
}

impl std::fmt::Debug for Comm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.bytes().escape_ascii().to_string())
    }
}

/// A process at the moment of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// Which process.
    pub key: ProcessKey,
    /// Real uid.
    pub uid: u32,
    /// Thread group id of the parent.
    pub ppid: u32,
    /// Id of the cgroup in the default (v2) hierarchy.
    pub cgroup: u64,
    /// The group leader's comm.
    pub comm: Comm,
    /// The parent's comm.
    pub parent_comm: Comm,
    /// A kernel thread: it acts on behalf of another process.
    pub kthread: bool,
    /// The process was exiting.
    pub exiting: bool,
}

/// Both ends of a connection as this host's socket sees them. IPv4-mapped addresses are given as IPv4, with
/// `v4_mapped` set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Tuple {
    /// Inode number of the network namespace; 0 when it is not known.
    pub netns: u32,
    /// Local address.
    pub local_addr: IpAddr,
    /// Local port.
    pub local_port: u16,
    /// Remote address.
    pub remote_addr: IpAddr,
    /// Remote port.
    pub remote_port: u16,
    /// An `AF_INET6` socket that carries IPv4 (`::ffff:a.b.c.d`).
    pub v4_mapped: bool,
}

/// Who began the connection.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, strum::IntoStaticStr, serde::Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Role {
    /// `connect()` on this host.
    Active,
    /// Accepted from a listener of this host.
    Passive,
    /// The beginning was not seen.
    Unknown,
}

/// One state change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// State before.
    pub from: TcpState,
    /// State after.
    pub to: TcpState,
    /// When.
    pub at_ns: u64,
}

/// The kernel's count of TIME_WAIT sockets around the end of a connection, where it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwCount {
    /// Just before `inet_twsk_alloc` could run, when a transition was seen there.
    pub before: Option<u32>,
    /// At CLOSE.
    pub after: u32,
    /// `net.ipv4.tcp_max_tw_buckets` of the namespace.
    pub max: u32,
}

/// How the local side of a connection had been chosen when connect(2) began (CLOSE -> SYN_SENT). Only for connections
/// of `Role::Active`; empty for others and where it was not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Binding {
    /// bind(2) had taken a local port: it is in use for every destination (`inet_csk_get_port`).
    pub port: bool,
    /// bind(2) had chosen a local address (`SOCK_BINDADDR_LOCK`). Without `port` that is IP_BIND_ADDRESS_NO_PORT.
    pub address: bool,
    /// IP_LOCAL_PORT_RANGE of the socket, both inclusive; a bound of 0 is the namespace's. `None` when it is not set.
    pub range: Option<(u16, u16)>,
}

/// A connection that reached CLOSE, as the kernel side saw it: facts only, no classification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Socket cookie; the TIME_WAIT socket keeps it (`inet_twsk_alloc`). 0 when unknown.
    pub cookie: u64,
    /// Addresses and ports; the local port is 0 when none was chosen.
    pub tuple: Tuple,
    /// Which side opened it.
    pub role: Role,
    /// Process that called connect, or that accept returned to.
    pub opener: Option<Owner>,
    /// Process that sent this host's FIN or aborted.
    pub closer: Option<Owner>,
    /// State changes in order, at most eight.
    pub transitions: Vec<Transition>,
    /// `sk_err` at CLOSE, positive errno or 0.
    pub sk_err: u16,
    /// Errno of connect(2), positive, or 0.
    pub connect_errno: u16,
    /// `SOCK_DEAD` at CLOSE.
    pub sock_dead: bool,
    /// `SOCK_DONE` at CLOSE: the peer's FIN was received.
    pub sock_done: bool,
    /// `SOCK_LINGER` at CLOSE.
    pub sock_linger: bool,
    /// This host sent a reset before CLOSE.
    pub rst_sent: bool,
    /// The last transition ran in the closer's own context.
    pub closed_in_context: bool,
    /// CLOSE was reached inside connect(2), whose exit was seen.
    pub connect_exit: bool,
    /// First seen mid-connection.
    pub older: bool,
    /// At least one transition was missed.
    pub gap: bool,
    /// Reached ESTABLISHED.
    pub established: bool,
    /// CLOSE was not seen; `end_ns` is the time of the last transition that was.
    pub end_unseen: bool,
    /// There is no BTF: the socket's error, flags, byte counts and namespace were not read and are empty here.
    pub no_fields: bool,
    /// How the local side was chosen.
    pub binding: Binding,
    /// Whether the peer sent timestamps (RFC 7323). Without, `tcp_tw_reuse` takes over no TIME_WAIT socket of this
    /// connection (`tcp_twsk_unique`). `None` where it was not read.
    pub peer_timestamps: Option<bool>,
    /// Counts of TIME_WAIT sockets, to detect overflow.
    pub tw: Option<TwCount>,
    /// What `inet_twsk_alloc` did, where it is hooked; `None` does not mean that it was not called.
    pub timewait: Option<Timewait>,
    /// Payload acknowledged by the peer, bytes.
    pub bytes_sent: u64,
    /// Payload received, bytes.
    pub bytes_received: u64,
    /// Segments retransmitted.
    pub retransmits: u32,
    /// Segments with payload from the side that opened it, those that were sent again included, 65,535 at most. `None` when
    /// there were none, or not read.
    pub request_segments: Option<u16>,
    /// Time of the last transition.
    pub end_ns: u64,
}

impl Connection {
    /// A connection with nothing else known, for readers and tests to fill in.
    pub fn bare(tuple: Tuple, end_ns: u64) -> Self {
        Self {
            cookie: 0,
            tuple,
            role: Role::Unknown,
            opener: None,
            closer: None,
            transitions: Vec::new(),
            sk_err: 0,
            connect_errno: 0,
            sock_dead: false,
            sock_done: false,
            sock_linger: false,
            rst_sent: false,
            closed_in_context: false,
            connect_exit: false,
            older: false,
            gap: false,
            established: false,
            end_unseen: false,
            no_fields: false,
            binding: Binding::default(),
            peer_timestamps: None,
            tw: None,
            timewait: None,
            bytes_sent: 0,
            bytes_received: 0,
            retransmits: 0,
            request_segments: None,
            end_ns,
        }
    }
}

/// connect(2) failed before the socket left CLOSE: no route, no source address, a bad argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFailed {
    /// Caller.
    pub opener: Owner,
    /// Its destination; the local side is what the socket was bound to.
    pub tuple: Tuple,
    /// Positive errno.
    pub errno: u16,
    /// When.
    pub at_ns: u64,
}

/// bind(2) failed because there was no address or port for it (EADDRINUSE, EADDRNOTAVAIL).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindFailed {
    /// Caller.
    pub owner: Owner,
    /// The local side is what was requested, port 0 for any; the remote side is empty.
    pub tuple: Tuple,
    /// Positive errno.
    pub errno: u16,
    /// SO_REUSEADDR was on.
    pub reuse: bool,
    /// When.
    pub at_ns: u64,
}

/// How a TIME_WAIT socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimewaitCause {
    /// Its timer ran out.
    Expired,
    /// A connect took over its port (`tcp_tw_reuse`).
    Reused,
    /// Before its timer ran out: by a reset, data for a TIME_WAIT socket in FIN_WAIT2, a new SYN, or the end of its
    /// namespace.
    EndedEarly,
}

/// The end of a TIME_WAIT socket, as the kernel side saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimewaitEnd {
    /// Cookie of its connection; 0 when unknown.
    pub cookie: u64,
    /// Addresses and ports.
    pub tuple: Tuple,
    /// Whether its substate was FIN_WAIT2 to the end.
    pub fin_wait2: bool,
    /// How.
    pub cause: TimewaitCause,
    /// When.
    pub at_ns: u64,
}

/// What `inet_twsk_alloc` was seen to do for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timewait {
    /// It created a TIME_WAIT socket with this first substate.
    Created {
        /// FIN_WAIT2, else TIME_WAIT.
        fin_wait2: bool,
    },
    /// It created none: the bucket limit, or no memory.
    Overflowed,
}

/// One row of sock_diag (`struct inet_diag_msg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CensusRow {
    /// Cookie; sock_diag generates one for a socket that has none.
    pub cookie: u64,
    /// Addresses and ports.
    pub tuple: Tuple,
    /// State.
    pub state: CensusState,
    /// For TIME_WAIT sockets: milliseconds until the timer ends it (`idiag_expires`).
    pub expires_ms: u32,
    /// For listeners: how many connections may wait to be accepted (`idiag_wqueue`, the backlog of listen(2)); else 0.
    pub backlog: u32,
}

/// One thing that happened or became known.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The trace began: hooks are attached. Always the first event.
    Start {
        /// Monotonic time.
        at_ns: u64,
        /// Wall clock at the same moment, nanoseconds since the Unix epoch.
        unix_ns: i128,
        /// The host.
        host: HostFacts,
        /// Hooks and tier.
        tracing: TracingFacts,
    },
    /// A connection ended.
    Connection(Box<Connection>),
    /// A connect failed early.
    ConnectFailed(Box<ConnectFailed>),
    /// A bind failed.
    BindFailed(Box<BindFailed>),
    /// A socket with a local port from bind(2) began to connect: while it is open, its port is in use for every
    /// destination.
    BoundConnect {
        /// Its cookie, which its connection and its TIME_WAIT socket have as well.
        cookie: u64,
        /// Addresses and ports.
        tuple: Tuple,
        /// When.
        at_ns: u64,
    },
    /// Which process owns the open sockets: the full list, which replaces the previous one.
    SocketOwners {
        /// When the search ended.
        at_ns: u64,
        /// No process was left out.
        complete: bool,
        /// At most 4,096, those with the most sockets first.
        rows: Vec<SocketOwner>,
    },
    /// A connection that was already reported ended by a reset that this host sent.
    ResetSent {
        /// Cookie of the connection.
        cookie: u64,
        /// Its addresses and ports.
        tuple: Tuple,
        /// When.
        at_ns: u64,
    },
    /// A TIME_WAIT socket ended (exact tier).
    TimewaitEnd(TimewaitEnd),
    /// The kernel side's totals.
    Counters(KernelCounters),
    /// What the trace itself has cost so far.
    Cost(CostReading),
    /// Kernel figures and sysctls of a network namespace.
    Kernel {
        /// Which.
        netns: u32,
        /// What was read there.
        facts: KernelFacts,
    },
    /// A network namespace was found, or its name or reachability changed.
    Namespace {
        /// Its id ([`crate::netns`]).
        netns: u32,
        /// Inode number.
        inode: u32,
        /// Its name. Hostile input.
        name: String,
        /// Why it cannot be entered: then it has no census and no figures.
        refused: Option<String>,
    },
    /// A network namespace is gone, and its sockets with it.
    NamespaceGone {
        /// Its id. Another namespace may get its inode number from now on.
        netns: u32,
    },
    /// Number of network namespaces that are not examined, because there are too many.
    NamespacesLeftOut(u64),
    /// A process was looked up. At most once per process, possibly never: it may be gone.
    Process {
        /// Which.
        key: ProcessKey,
        /// What `/proc` said.
        facts: ProcessFacts,
    },
    /// What a container runtime said of a container. It may come long after the processes in it, and again with more.
    Container {
        /// The id that its processes show ([`ProcessFacts::container`]).
        id: String,
        /// What it said.
        facts: ContainerFacts,
    },
    /// A user's name.
    User {
        /// uid.
        uid: u32,
        /// Name from the user database.
        name: String,
    },
    /// A census begins: everything until `SocketDumpEnd` belongs to one dump of one namespace.
    SocketDumpBegin {
        /// Namespace examined.
        netns: u32,
        /// When the dump began. A TIME_WAIT socket that was created later may be missing from it.
        at_ns: u64,
        /// The rows are the whole dump. Otherwise they are the differences from the last dump of this namespace:
        /// unchanged sockets are left out.
        whole: bool,
    },
    /// Rows of the dump, in any number of pieces and any order. Of two with the same cookie and addresses, the later one
    /// applies. A cookie that several sockets have is in each dump with all of them, changed or not.
    SocketDump(Vec<CensusRow>),
    /// Cookies of sockets that were in earlier dumps of this namespace, and of which none is in this one.
    SocketsRemoved(Vec<u64>),
    /// The dump ended.
    SocketDumpEnd {
        /// When.
        at_ns: u64,
        /// False when the kernel flagged the dump as interrupted or it failed part-way: absence proves nothing.
        complete: bool,
    },
    /// Time passed.
    Tick {
        /// Monotonic time.
        at_ns: u64,
    },
}
