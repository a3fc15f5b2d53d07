//! What rows stand for: destinations, and groups of processes.

use crate::event::{Comm, ProcessKey, Role};
use crate::ports::is_loopback;
use std::net::IpAddr;
use std::sync::Arc;

/// Identity of a destination. For `Role::Active`, `port` is the remote service's and both addresses are set; for
/// `Role::Passive`, `port` is the local listening port and `remote_addr` is `None`. For `Role::Unknown` `port` is the
/// remote port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct DestKey {
    /// Network namespace.
    pub netns: u32,
    /// Role.
    pub role: Role,
    /// Local address.
    pub local_addr: IpAddr,
    /// Remote address, for active connections.
    pub remote_addr: Option<IpAddr>,
    /// See above.
    pub port: u16,
}

impl DestKey {
    /// Whether both ends are loopback addresses.
    pub(crate) fn is_loopback(&self) -> bool {
        self.remote_addr.is_some_and(|remote| is_loopback(self.local_addr, remote))
    }
}

/// A destination, or all that found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum DestRow {
    /// One destination.
    Dest(DestKey),
    /// All that were evicted, together.
    Other,
}

/// What processes of one program, one parent, one user and one cgroup have in common, such as a script's `curl` calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Kin {
    /// What an operator calls the program. Hostile input.
    pub program: Arc<str>,
    /// Command name.
    pub comm: Comm,
    /// Thread group id of the parent.
    pub ppid: u32,
    /// Command name of the parent.
    pub parent_comm: Comm,
    /// Real uid.
    pub uid: u32,
    /// Id of the cgroup.
    pub cgroup: u64,
}

/// Identity of a group of processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum GroupKey {
    /// A process.
    Process(ProcessKey),
    /// Processes with one or two connections each.
    OneShots(Arc<Kin>),
    /// What an operator calls a program. Hostile input.
    Program(Arc<str>),
    /// A command name.
    Command(Comm),
    /// A parent: its tgid and comm.
    Parent(u32, Comm),
    /// A uid.
    User(u32),
    /// A cgroup id.
    Cgroup(u64),
    /// A group with only a name: a systemd unit, a container. Hostile input.
    Named(Arc<str>),
    /// A network namespace's inode number.
    Netns(u32),
    /// A destination.
    Destination(DestKey),
    /// No such name, or none that is known.
    None,
    /// The owner is unknown: no process was seen.
    Unknown,
    /// Rows that were evicted because the table was full.
    Other,
}
