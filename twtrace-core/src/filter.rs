//! What to show.

use crate::event::{Owner, ProcessFacts, Tuple};
use crate::summary::Summary;
use ipnet::IpNet;
use std::net::IpAddr;

/// What to show. Every kind of condition that is given must match; within a kind, any one value is enough.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Thread group ids of opener or closer.
    pub pids: Vec<u32>,
    /// Commands of opener or closer, exactly as the kernel keeps them (15 bytes).
    pub comms: Vec<Vec<u8>>,
    /// uids of opener or closer.
    pub uids: Vec<u32>,
    /// Remote addresses, with a remote port or any.
    pub dests: Vec<(IpNet, Option<u16>)>,
    /// Local or remote ports.
    pub ports: Vec<u16>,
    /// Programs as an operator calls them.
    pub programs: Vec<String>,
    /// systemd units, with or without `.service`.
    pub units: Vec<String>,
    /// Containers by name, id, or the beginning of an id of at least six characters.
    pub containers: Vec<String>,
    /// Network namespaces by name or inode number.
    pub netns: Vec<String>,
}

/// How many characters of a container's id are enough to name it.
const CONTAINER_ID: usize = 6;

/// What a filter may ask for that is known late: names of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names<'a> {
    pub(crate) program: Option<&'a str>,
    pub(crate) facts: Option<&'a ProcessFacts>,
}

impl Filter {
    /// Whether a connection of these owners passes. Without owners, as in the census, it passes only a filter that asks
    /// for none.
    pub fn passes(&self, tuple: &Tuple, owners: [Option<&Owner>; 2]) -> bool {
        let any_owner = |matches: &dyn Fn(&Owner) -> bool| owners.into_iter().flatten().any(matches);
        (self.pids.is_empty() || any_owner(&|owner| self.pids.contains(&owner.key.tgid)))
            && (self.comms.is_empty() || any_owner(&|owner| self.comms.iter().any(|comm| comm == owner.comm.bytes())))
            && (self.uids.is_empty() || any_owner(&|owner| self.uids.contains(&owner.uid)))
            && self.passes_remote(tuple.remote_addr, tuple.remote_port, Some(tuple.local_port))
    }

    /// Whether connections to that address and port pass, and have a port that passes.
    pub(crate) fn passes_remote(&self, remote_addr: IpAddr, remote_port: u16, local_port: Option<u16>) -> bool {
        (self.dests.is_empty()
            || self
                .dests
                .iter()
                .any(|(net, port)| net.contains(&remote_addr) && port.is_none_or(|port| port == remote_port)))
            && (self.ports.is_empty()
                || self.ports.contains(&remote_port)
                || local_port.is_some_and(|port| self.ports.contains(&port)))
    }

    /// Whether one process passes what is asked of the owners of a connection.
    pub(crate) fn passes_owner(&self, owner: &Owner) -> bool {
        (self.pids.is_empty() || self.pids.contains(&owner.key.tgid))
            && (self.comms.is_empty() || self.comms.iter().any(|comm| comm == owner.comm.bytes()))
            && (self.uids.is_empty() || self.uids.contains(&owner.uid))
    }

    /// Whether it asks for anything.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_early() && !self.is_late()
    }

    /// Whether it asks for what is known of each connection when it ends: that part applies when it is counted.
    pub(crate) fn is_early(&self) -> bool {
        self.asks_for_owners() || self.asks_for_place()
    }

    /// Whether it asks for owners of connections.
    pub(crate) fn asks_for_owners(&self) -> bool {
        !(self.pids.is_empty() && self.comms.is_empty() && self.uids.is_empty())
    }

    /// Whether it asks for addresses or ports.
    pub(crate) fn asks_for_place(&self) -> bool {
        !(self.dests.is_empty() && self.ports.is_empty())
    }

    /// Whether it asks for what may be known only after the connection: that part applies when a snapshot is taken.
    pub fn is_late(&self) -> bool {
        self.asks_for_names() || self.asks_for_netns()
    }

    /// Whether it asks for a network namespace.
    pub(crate) fn asks_for_netns(&self) -> bool {
        !self.netns.is_empty()
    }

    /// Whether it asks for a program, a unit or a container.
    pub(crate) fn asks_for_names(&self) -> bool {
        !(self.programs.is_empty() && self.units.is_empty() && self.containers.is_empty())
    }

    /// Whether a process of these names passes.
    pub(crate) fn passes_names(&self, names: Names<'_>) -> bool {
        let any = |wanted: &[String], name: Option<&str>, is_it: fn(&str, &str) -> bool| {
            wanted.is_empty() || name.is_some_and(|name| wanted.iter().any(|wanted| is_it(wanted, name)))
        };
        let of_facts = |get: fn(&ProcessFacts) -> &Option<String>| names.facts.and_then(|facts| get(facts).as_deref());
        any(&self.programs, names.program, |wanted, name| wanted == name)
            && any(&self.units, of_facts(|facts| &facts.unit), |wanted, name| {
                wanted == name || name.strip_suffix(".service") == Some(wanted)
            })
            && any(&self.containers, of_facts(|facts| &facts.container), |wanted, name| {
                wanted == name || wanted.len() >= CONTAINER_ID && name.starts_with(wanted)
            })
    }

    /// Whether a namespace passes.
    pub(crate) fn passes_netns(&self, netns: u32, summary: &Summary) -> bool {
        if self.netns.is_empty() {
            return true;
        }
        let (inode, name) = (summary.inode(netns), summary.namespace(netns).map(|namespace| namespace.name.as_str()));
        self.netns.iter().any(|wanted| Some(wanted.as_str()) == name || wanted.parse() == Ok(inode))
    }
}
