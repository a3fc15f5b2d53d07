//! Facts about the host, its processes and the tracer, apart from the events themselves.

use std::net::IpAddr;

/// A counter of [`KernelCounters`].
#[derive(Debug)]
pub struct Counter {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub doc: &'static str,
    /// Its value.
    pub get: fn(&KernelCounters) -> u64,
}

macro_rules! define {
    (kernel { $($(#[doc = $doc:literal])* $name:ident,)* } user { $($(#[doc = $user_doc:literal])* $user:ident,)* }) => {
        /// What was counted since the programs were attached. Totals, never differences.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct KernelCounters {
            $($(#[doc = $doc])* pub $name: u64,)*
            $($(#[doc = $user_doc])* pub $user: u64,)*
        }

        /// All counters.
        pub const COUNTERS: &[Counter] = &[
            $(Counter { name: stringify!($name), doc: concat!($($doc),*), get: |all| all.$name },)*
            $(Counter { name: stringify!($user), doc: concat!($($user_doc),*), get: |all| all.$user },)*
        ];

        impl KernelCounters {
            /// What was added since they were as in `first`.
            #[must_use]
            pub fn since(&self, first: &Self) -> Self {
                Self {
                    $($name: self.$name.saturating_sub(first.$name),)*
                    $($user: self.$user.saturating_sub(first.$user),)*
                }
            }
        }

        impl From<twtrace_common::Counters> for KernelCounters {
            /// The counters of user space are 0.
            fn from(counters: twtrace_common::Counters) -> Self {
                Self { $($name: counters.$name,)* $($user: 0,)* }
            }
        }
    };
}
twtrace_common::for_each_counter!(define);

/// What `/proc` said of a process while it was alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessFacts {
    /// `/proc/PID/exe`.
    pub exe: Option<String>,
    /// `/proc/PID/cmdline`, arguments joined by spaces. Hostile input.
    pub cmdline: Option<String>,
    /// Path in the cgroup hierarchy.
    pub cgroup: Option<String>,
    /// Container id or name when the cgroup path contains one.
    pub container: Option<String>,
    /// Kubernetes' uid of the pod when the cgroup path contains one.
    pub pod_uid: Option<String>,
    /// systemd unit when the cgroup path contains one.
    pub unit: Option<String>,
    /// The first ancestor that has lived for a minute, by its program and PID, as `cron[712]`. Hostile input.
    pub ancestor: Option<String>,
}

impl ProcessFacts {
    /// Total length of its text, bytes.
    pub fn text_bytes(&self) -> usize {
        let Self { exe, cmdline, cgroup, container, pod_uid, unit, ancestor } = self;
        [exe, cmdline, cgroup, container, pod_uid, unit, ancestor].into_iter().flatten().map(String::len).sum()
    }
}

/// Facts of the host that do not change during a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostFacts {
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The tracer's own network namespace (inode number).
    pub netns: u32,
}

/// How good the trace can be on this kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Every creation and end of a TIME_WAIT socket is seen.
    Exact,
    /// Creation is classified at the last transition, the census joins by cookie.
    #[default]
    Cookie,
    /// Joined by namespace and tuple.
    Tuple,
}

/// One kernel hook and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hook {
    /// Name of the kernel's hook, such as `inet_sock_set_state`.
    pub name: String,
    /// Program type, such as `tp_btf`.
    pub kind: String,
    /// Whether it runs.
    pub attached: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// The tracer's own state.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TracingFacts {
    /// Tier in force.
    pub tier: Tier,
    /// Sockets are identified by namespace and tuple: this kernel gives tracing programs no cookies (before 5.15).
    pub by_tuple: bool,
    /// Hooks.
    pub hooks: Vec<Hook>,
    /// There is no BTF: network namespaces, errors and flags of sockets are not seen, and a process is known only from
    /// helpers (its start is 0, its parent unknown, its name that of the thread).
    pub no_btf: bool,
}

/// Figures and sysctls of one network namespace, read at a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KernelFacts {
    /// `/proc/net/sockstat` TCP `tw`: TIME_WAIT sockets of both substates.
    pub time_wait: u64,
    /// `TCPTimeWaitOverflow` of `/proc/net/netstat`, since boot.
    pub time_wait_overflow: u64,
    /// `net.ipv4.tcp_max_tw_buckets`.
    pub max_tw_buckets: u64,
    /// `net.ipv4.tcp_tw_reuse`.
    pub tw_reuse: u8,
    /// `net.ipv4.ip_local_port_range`, both inclusive.
    pub port_range: (u16, u16),
    /// `net.ipv4.ip_local_reserved_ports`: number of ports reserved inside `port_range`.
    pub reserved_in_range: u32,
    /// `net.ipv4.ip_local_reserved_ports` as written.
    pub reserved_ports: String,
    /// `net.ipv4.tcp_tw_reuse_delay`, milliseconds; `None` on kernels without it, where it is a second.
    pub tw_reuse_delay_ms: Option<u32>,
    /// `net.ipv4.tcp_timestamps`; `None` when it was not read.
    pub timestamps: Option<u8>,
    /// `net.ipv4.tcp_fin_timeout`, seconds; `None` when it was not read.
    pub fin_timeout_s: Option<u32>,
    /// How long a TIME_WAIT socket lasts, seconds, if this kernel does not use the 60 s of others: by its sysctl (Alibaba
    /// Cloud Linux has `net.ipv4.tcp_tw_timeout`), else by the timers that censuses show.
    pub time_wait_s: Option<u32>,
    /// What else is counted there. Boxed, because these facts travel in events of which most are smaller.
    pub figures: Box<NetFigures>,
}

macro_rules! net_figures {
    ($($(#[$doc:meta])* $name:ident: $kind:ident,)*) => {
        /// What else the kernel counts in a network namespace; `None` where it does not, or where it was not read.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct NetFigures {
            $($(#[$doc])* pub $name: Option<u64>,)*
        }

        impl NetFigures {
            /// How many there are.
            pub const NUMBER: usize = [$(stringify!($name)),*].len();

            /// Those of all, in their order.
            pub fn of(figures: [Option<u64>; Self::NUMBER]) -> Self {
                let [$($name),*] = figures;
                Self { $($name),* }
            }

            /// These, and where one is not known, the other's.
            #[must_use]
            pub fn or(&self, other: &Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)* }
            }

            /// What was added to the counters since they were as in `first`; what is not a counter is as it is.
            #[must_use]
            pub fn since(&self, first: &Self) -> Self {
                Self { $($name: net_figures!($kind self.$name, first.$name),)* }
            }
        }
    };
    (counter $now:expr, $first:expr) => {
        $now.zip($first).map(|(now, first): (u64, u64)| now.saturating_sub(first))
    };
    (present $now:expr, $first:expr) => {
        $now
    };
}

// Name and kind: a counter since boot, or a present number. A new one needs a line here and a column in the recording.
net_figures! {
    /// `ListenOverflows`: connections that came when the queue of their listener was full.
    listen_overflows: counter,
    /// `ListenDrops`: all that a listener dropped, those included.
    listen_drops: counter,
    /// `orphan` of `/proc/net/sockstat`: closed sockets that are not yet gone and that no process has, of all namespaces.
    orphans: present,
    /// `TCPAbortOnMemory`: sockets that ended because there were too many orphans, or too little memory for TCP.
    aborts_on_memory: counter,
    /// `net.netfilter.nf_conntrack_count`: connections that conntrack tracks.
    conntrack_count: present,
    /// `net.netfilter.nf_conntrack_max`: how many it tracks at most.
    conntrack_max: present,
    /// `insert_failed` of `/proc/net/stat/nf_conntrack`: connections that could not be tracked, as where SNAT finds no port
    /// that is not taken.
    conntrack_insert_failed: counter,
    /// `drop`: packets that were dropped because the table was full, or there was no memory.
    conntrack_drop: counter,
    /// `early_drop`: connections that were forgotten to make room.
    conntrack_early_drop: counter,
}

/// The longest TIME_WAIT that is believed, seconds: a recording may say anything.
const LONGEST_S: u32 = 3600;

impl KernelFacts {
    /// How long a TIME_WAIT socket lasts: `TCP_TIMEWAIT_LEN` (`include/net/tcp.h`), unless this kernel has another length.
    pub fn time_wait_ns(&self) -> u64 {
        u64::from(self.time_wait_s.filter(|seconds| *seconds > 0).map_or(60, |seconds| seconds.min(LONGEST_S)))
            * 1_000_000_000
    }

    /// The same, in seconds.
    pub fn time_wait_seconds(&self) -> f64 {
        self.time_wait_ns() as f64 / 1e9
    }
}

/// State of one socket in sock_diag's reply.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Deserialize,
    serde::Serialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CensusState {
    /// A TIME_WAIT socket in substate TIME_WAIT.
    TimeWait,
    /// A TIME_WAIT socket in substate FIN_WAIT2 (`timer:(timewait,...)` in `ss`).
    #[serde(rename = "fin_wait2")]
    #[strum(serialize = "fin_wait2")]
    TimewaitFinWait2,
    /// A full socket that uses its port, in a state without its own variant here: SYN_RECV, CLOSING.
    Open,
    /// FIN_WAIT1: closed, and the peer has not acknowledged everything.
    #[serde(rename = "fin_wait1")]
    #[strum(serialize = "fin_wait1")]
    FinWait1,
    /// LAST_ACK: the same, and the peer has closed before.
    LastAck,
    /// SYN_SENT: connect(2) waits for an answer.
    SynSent,
    /// ESTABLISHED.
    Established,
    /// CLOSE_WAIT: the peer has closed, this host's process has not.
    CloseWait,
    /// ESTABLISHED, in the queue of a listener: not accepted yet.
    Queued,
    /// CLOSE_WAIT, in the queue of a listener: its peer has closed before it was accepted.
    QueuedCloseWait,
    /// A full socket in FIN_WAIT2: shut down, not closed.
    #[serde(rename = "fin_wait2_open")]
    #[strum(serialize = "fin_wait2_open")]
    FinWait2,
    /// A listener.
    Listen,
    /// Bound, neither connected nor listening (`TCP_BOUND_INACTIVE`, reported by kernels from 6.8).
    Bound,
}

impl CensusState {
    /// A TIME_WAIT socket of either substate.
    pub fn is_timewait(self) -> bool {
        matches!(self, Self::TimeWait | Self::TimewaitFinWait2)
    }

    /// A full socket of a connection, in any state: not a TIME_WAIT socket, not a listener, not merely bound.
    pub fn is_connection(self) -> bool {
        let is_merely_bound = matches!(self, Self::Listen | Self::Bound);
        !is_merely_bound && !self.is_timewait()
    }

    /// A connection that waits to be accepted.
    pub fn is_queued(self) -> bool {
        matches!(self, Self::Queued | Self::QueuedCloseWait)
    }

    /// The state with this name.
    pub fn of(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Its name in recordings.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Full sockets of one kind that one process has open, from `/proc/PID/fd` and the census: several processes may have
/// the same socket open, and each has a row then.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SocketOwner {
    /// Thread group id in the initial PID namespace.
    pub tgid: u32,
    /// Start of the process, nanoseconds since boot, known to 10 ms (`/proc/PID/stat`).
    pub start_ns: u64,
    /// Its name at that time, cut to 15 bytes, with invalid UTF-8 replaced. Hostile input.
    pub command: String,
    /// Real uid.
    pub uid: u32,
    /// Network namespace of the sockets.
    pub netns: u32,
    /// State of the sockets, never that of a TIME_WAIT socket.
    pub state: CensusState,
    /// Local address.
    pub local_addr: IpAddr,
    /// Local port where it is the service's (a listener, an accepted connection), else 0: those are counted together.
    pub local_port: u16,
    /// Remote address; unspecified for listeners and for accepted connections, which are counted together.
    pub remote_addr: IpAddr,
    /// Remote port; 0 in the same cases.
    pub remote_port: u16,
    /// How many sockets.
    pub sockets: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::VariantArray as _;

    #[test]
    fn census_states_have_the_same_name_in_json_and_in_columns() {
        for &state in CensusState::VARIANTS {
            assert_eq!(serde_json::to_value(state).ok(), Some(state.name().into()));
            assert_eq!(CensusState::of(state.name()), Some(state));
        }
    }
}
