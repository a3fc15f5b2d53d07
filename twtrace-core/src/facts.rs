//! What is read of the host, its processes and the tracer, beside the events themselves.

use std::net::IpAddr;

/// What the kernel side counted since it was attached. Totals, never differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct KernelCounters {
    /// TCP transitions handled.
    pub transitions: u64,
    /// Recovered by the twin program.
    pub recovered: u64,
    /// Skipped by the kernel on recursion and recovered by nobody.
    pub recursion: u64,
    /// Lives begun.
    pub lives_begun: u64,
    /// Lives that reached CLOSE.
    pub lives_ended: u64,
    /// Listener-side lives that never reached ESTABLISHED.
    pub handshakes_dropped: u64,
    /// Connects that failed before SYN_SENT.
    pub connects_failed_early: u64,
    /// Records written.
    pub records: u64,
    /// Records that the full ring refused.
    pub ring_full: u64,
    /// Lives that the full socket map refused.
    pub map_full: u64,
    /// Lives whose end was never seen.
    pub stale: u64,
    /// Accept or connect exits whose socket could not be reached.
    pub exit_unresolved: u64,
    /// Timewait sockets that `inet_twsk_alloc` made (exact tier).
    pub timewaits_made: u64,
    /// Timewait sockets that it refused.
    pub timewaits_refused: u64,
    /// Timewait sockets that ended.
    pub timewaits_ended: u64,
    /// Of these, taken over by a connect (`tcp_twsk_unique`).
    pub timewaits_reused: u64,
    /// Calls that the kernel kept from the programs of the exact tier; their sockets are judged as in the cookie tier.
    pub exact_missed: u64,
    /// Runs of the system call exits' programs that the kernel skipped: an opener or an errno may be unknown for each.
    /// Kernels before 6.7 do not count them.
    pub exits_missed: u64,
    /// Calls whose arguments were lost on the way to their return, and timewait sockets taken over that nobody could
    /// remember (their end is told as a kill): full maps (exact tier).
    pub evicted: u64,
    /// Records that could not be decoded (counted in user space).
    pub undecodable: u64,
}

/// What `/proc` said of a process while it was alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ProcessFacts {
    /// `/proc/PID/exe`.
    pub exe: Option<String>,
    /// `/proc/PID/cmdline`, arguments joined by spaces. Hostile input.
    pub cmdline: Option<String>,
    /// Path in the cgroup hierarchy.
    pub cgroup: Option<String>,
    /// Container id or name when the cgroup path tells one.
    pub container: Option<String>,
    /// systemd unit when the cgroup path tells one.
    pub unit: Option<String>,
}

impl ProcessFacts {
    /// Length of all of its text, bytes.
    pub fn text_bytes(&self) -> usize {
        let Self { exe, cmdline, cgroup, container, unit } = self;
        [exe, cmdline, cgroup, container, unit].into_iter().flatten().map(String::len).sum()
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

/// How good the trace can be on this kernel (DESIGN: tiers).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Every creation and end of a timewait socket is seen.
    Exact,
    /// Creation is judged at the last transition, the census joins by cookie.
    #[default]
    Cookie,
    /// Joined by namespace and tuple.
    Tuple,
}

/// One kernel hook and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    /// Sockets are told apart by namespace and tuple: this kernel gives tracing programs no cookies (before 5.15).
    pub by_tuple: bool,
    /// Hooks.
    pub hooks: Vec<Hook>,
    /// There is no BTF: network namespaces, errors and flags of sockets are not seen, and of a process only what
    /// helpers tell (its start is 0, its parent unknown, its name that of the thread).
    pub no_btf: bool,
}

/// Figures and sysctls of one network namespace, read at a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct KernelFacts {
    /// `/proc/net/sockstat` TCP `tw`: timewait sockets of both substates.
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
}

/// Full sockets of one kind that one process has descriptors of, by `/proc/PID/fd` and the census: several processes may
/// hold the same socket, and each has a row then.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// Thread group id in the initial PID namespace.
    pub tgid: u32,
    /// Start of the process, nanoseconds since boot, known to 10 ms (`/proc/PID/stat`).
    pub start_ns: u64,
    /// Its name then, cut to 15 bytes, bytes that are no UTF-8 replaced. Hostile input.
    pub command: String,
    /// Real uid.
    pub uid: u32,
    /// Network namespace of the sockets.
    pub netns: u32,
    /// State of the sockets: [`CensusState`](crate::input::CensusState)'s name in recordings (`established`, `close_wait`, `listen`, ...).
    pub state: String,
    /// Local address.
    pub local_addr: IpAddr,
    /// Local port where it is the service's (a listener, an accepted connection), else 0: those are counted together.
    pub local_port: u16,
    /// Remote address; of listeners, and of accepted connections together, unspecified.
    pub remote_addr: IpAddr,
    /// Remote port; likewise 0.
    pub remote_port: u16,
    /// How many sockets.
    pub sockets: u64,
}
