//! What `/proc` and the user database say about the host: its identity, its processes, its TCP figures and sysctls.
//!
//! Every read here is bounded. Text that processes choose themselves is neither trusted nor sanitised here: the views
//! do that.

pub mod ancestors;
pub mod cgroup;
pub mod clock;
pub mod cookies;
pub mod kernel_threads;
pub mod namespaces;
pub mod netstat;
pub mod process;
pub mod runtimes;
pub mod socket_owners;
pub mod sysctl;
pub mod users;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use twtrace_core::event::{HostFacts, KernelFacts, NetFigures};

/// Longest file read whole, in bytes. `/proc/net/netstat` is the largest of those read here, below 8 KiB.
const MAX_FILE: u64 = 64 * 1024;

/// Facts that do not change during a trace. A fact that cannot be read is left empty.
pub fn facts() -> HostFacts {
    HostFacts {
        hostname: sysctl::read("kernel.hostname").unwrap_or_default(),
        kernel: sysctl::read("kernel.osrelease").unwrap_or_default(),
        boot_id: sysctl::read("kernel.random.boot_id").unwrap_or_default(),
        netns: own_netns().unwrap_or_default(),
    }
}

/// Inode number of the calling thread's network namespace.
pub fn own_netns() -> io::Result<u32> {
    let inode = fs::metadata("/proc/thread-self/ns/net")?.ino();
    u32::try_from(inode).map_err(io::Error::other)
}

/// How many TCP sockets the calling thread's network namespace has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Those that are connected or listen, of both address families.
    pub sockets: u64,
    /// TIME_WAIT sockets.
    pub time_wait: u64,
}

impl InUse {
    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.sockets == 0 && self.time_wait == 0
    }
}

/// How many TCP sockets the calling thread's network namespace has: two small files, where a list of the sockets is a
/// walk through those of all namespaces. `None` if the kernel does not say.
pub fn in_use() -> Option<InUse> {
    let v4 = read_text("/proc/thread-self/net/sockstat").ok()?;
    // There is no such file without IPv6.
    let v6 = read_text("/proc/thread-self/net/sockstat6").unwrap_or_default();
    Some(InUse {
        sockets: netstat::in_use(&v4, "TCP:")? + netstat::in_use(&v6, "TCP6:").unwrap_or(0),
        time_wait: netstat::time_wait(&v4)?,
    })
}

/// Whether the connection tracking of the calling thread's network namespace has any connections.
pub fn tracks() -> bool {
    sysctl::read_number("net.netfilter.nf_conntrack_count").is_some_and(|count: u64| count > 0)
}

/// Figures and sysctls of the calling thread's network namespace. Those that the kernel does not have are 0 or empty;
/// it is an error if its count of TIME_WAIT sockets cannot be read.
pub fn kernel_facts() -> io::Result<KernelFacts> {
    let sockstat = read_text("/proc/thread-self/net/sockstat")?;
    let time_wait = netstat::time_wait(&sockstat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/net/sockstat has no TCP `tw` figure"))?;
    // A few KiB more for one counter: there is no cheaper way to read it.
    let netstat = read_text("/proc/thread-self/net/netstat").unwrap_or_default();
    let port_range =
        sysctl::read("net.ipv4.ip_local_port_range").ok().and_then(|text| sysctl::port_range(&text)).unwrap_or((0, 0));
    let reserved_ports = sysctl::read("net.ipv4.ip_local_reserved_ports").unwrap_or_default();
    Ok(KernelFacts {
        time_wait,
        time_wait_overflow: netstat::counter(&netstat, "TcpExt", "TCPTimeWaitOverflow").unwrap_or(0),
        max_tw_buckets: sysctl::read_number("net.ipv4.tcp_max_tw_buckets").unwrap_or(0),
        tw_reuse: sysctl::read_number("net.ipv4.tcp_tw_reuse").unwrap_or(0),
        port_range,
        reserved_in_range: sysctl::reserved_in_range(&reserved_ports, port_range),
        reserved_ports,
        tw_reuse_delay_ms: sysctl::read_number("net.ipv4.tcp_tw_reuse_delay"),
        timestamps: sysctl::read_number("net.ipv4.tcp_timestamps"),
        fin_timeout_s: sysctl::read_number("net.ipv4.tcp_fin_timeout"),
        time_wait_s: sysctl::read_number("net.ipv4.tcp_tw_timeout"),
        figures: Box::new(net_figures(&sockstat, &netstat)),
    })
}

/// What else is counted in the calling thread's network namespace.
fn net_figures(sockstat: &str, netstat: &str) -> NetFigures {
    let counter = |name| netstat::counter(netstat, "TcpExt", name);
    let figures = NetFigures {
        listen_overflows: counter("ListenOverflows"),
        listen_drops: counter("ListenDrops"),
        orphans: netstat::orphans(sockstat),
        aborts_on_memory: counter("TCPAbortOnMemory"),
        ..NetFigures::default()
    };
    let Some(count) = sysctl::read_number("net.netfilter.nf_conntrack_count") else { return figures };
    let table = read_text("/proc/thread-self/net/stat/nf_conntrack").unwrap_or_default();
    let sum = |name| netstat::conntrack(&table, name);
    NetFigures {
        conntrack_count: Some(count),
        conntrack_max: sysctl::read_number("net.netfilter.nf_conntrack_max"),
        conntrack_insert_failed: sum("insert_failed"),
        conntrack_drop: sum("drop"),
        conntrack_early_drop: sum("early_drop"),
        ..figures
    }
}

/// A small text file of the kernel, cut at 64 KiB, with bytes that are not UTF-8 replaced.
///
/// # Errors
/// It cannot be read.
pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn this_host_has_facts() {
        let facts = facts();
        assert!(!facts.hostname.is_empty() && !facts.kernel.is_empty());
        assert_eq!(facts.boot_id.len(), 36);
        assert_ne!(facts.netns, 0);
    }

    #[test]
    fn this_kernel_has_figures() {
        let facts = kernel_facts().unwrap();
        assert!(facts.port_range.0 > 0 && facts.port_range.0 < facts.port_range.1);
        assert!(facts.max_tw_buckets > 0);
    }
}
