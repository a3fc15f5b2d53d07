//! What to show.

use crate::containers::RunsIn;
use crate::event::{ContainerFacts, Owner, ProcessFacts, Tuple};
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
    /// Images, with or without registry and tag.
    pub images: Vec<String>,
    /// Pods by name, `namespace/name` or uid.
    pub pods: Vec<String>,
    /// Workloads by name or `namespace/name`.
    pub workloads: Vec<String>,
    /// Namespaces of the cluster.
    pub cluster_namespaces: Vec<String>,
    /// Network namespaces by name or inode number.
    pub netns: Vec<String>,
}

/// How many characters of a container's id are enough to name it.
const CONTAINER_ID: usize = 6;

/// Whether a container shows this id, or one that begins so. Processes show the first characters of it.
fn is_id(shown: &str, wanted: &str) -> bool {
    let is_whole = wanted.len() > shown.len() && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    shown == wanted
        || wanted.len() >= CONTAINER_ID && shown.starts_with(wanted)
        || is_whole && shown.len() >= CONTAINER_ID && wanted.starts_with(shown)
}

/// Whether an image is the wanted one: `nginx` is `docker.io/library/nginx:1.25` too.
fn is_image(image: &str, wanted: &str) -> bool {
    let has_name = |name: &str| name == wanted || name.strip_suffix(wanted).is_some_and(|left| left.ends_with('/'));
    let untagged = image.split_once('@').map_or(image, |(name, _)| name);
    // A colon before the last slash is that of a port.
    let tag = untagged.rfind(':').filter(|colon| !untagged[*colon..].contains('/'));
    has_name(image) || has_name(untagged) || has_name(&untagged[..tag.unwrap_or(untagged.len())])
}

/// What a filter may ask for that is known late: names of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names<'a> {
    pub(crate) program: Option<&'a str>,
    pub(crate) runs_in: RunsIn<'a>,
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

    /// Whether it asks for a program, a unit, or where a process runs.
    pub(crate) fn asks_for_names(&self) -> bool {
        let Self { programs, units, containers, images, pods, workloads, cluster_namespaces, .. } = self;
        ![programs, units, containers, images, pods, workloads, cluster_namespaces].into_iter().all(Vec::is_empty)
    }

    /// Whether a process of these names passes.
    pub(crate) fn passes_names(&self, names: Names<'_>) -> bool {
        let any = |wanted: &[String], is_it: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|wanted| is_it(wanted))
        };
        let RunsIn { facts, container } = names.runs_in;
        let shown = |get: fn(&ProcessFacts) -> &Option<String>| facts.and_then(|facts| get(facts).as_deref());
        let said = |get: fn(&ContainerFacts) -> &Option<String>| container.and_then(|facts| get(facts).as_deref());
        let is = |name: Option<&str>, wanted: &str| name == Some(wanted);
        any(&self.programs, &|wanted| is(names.program, wanted))
            && any(&self.units, &|wanted| {
                let unit = shown(|facts| &facts.unit);
                is(unit, wanted) || is(unit.and_then(|unit| unit.strip_suffix(".service")), wanted)
            })
            && any(&self.containers, &|wanted| {
                is(said(|said| &said.name), wanted)
                    || is(names.runs_in.container().as_deref(), wanted)
                    || shown(|facts| &facts.container).is_some_and(|id| is_id(id, wanted))
            })
            && any(&self.images, &|wanted| said(|said| &said.image).is_some_and(|image| is_image(image, wanted)))
            && any(&self.pods, &|wanted| {
                is(said(|said| &said.pod), wanted)
                    || is(names.runs_in.pod().as_deref(), wanted)
                    || is(shown(|facts| &facts.pod_uid), wanted)
            })
            && any(&self.workloads, &|wanted| {
                is(said(|said| &said.workload), wanted) || is(names.runs_in.workload().as_deref(), wanted)
            })
            && any(&self.cluster_namespaces, &|wanted| is(said(|said| &said.pod_namespace), wanted))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_with_and_without_registry_and_tag() {
        for (image, wanted, passes) in [
            ("nginx:1.25", "nginx:1.25", true),
            ("nginx:1.25", "nginx", true),
            ("docker.io/library/nginx:1.25@sha256:00", "nginx", true),
            ("docker.io/library/nginx:1.25@sha256:00", "library/nginx:1.25", true),
            ("localhost:5000/nginx", "nginx", true),
            ("localhost:5000/nginx", "localhost", false),
            ("my-nginx:1", "nginx", false),
            ("nginx:1.25", "", false),
            ("", "nginx", false),
        ] {
            assert_eq!(is_image(image, wanted), passes, "{image} {wanted}");
        }
    }

    #[test]
    fn containers_are_found_by_any_part_of_their_id_that_is_long_enough() {
        let whole = "3f1ce9b7a4d20516e8c7f09b1a2d3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e";
        for (wanted, passes) in
            [(whole, true), (&whole[..12], true), (&whole[..6], true), (&whole[..5], false), ("3f1ce9b7a4d2x", false)]
        {
            assert_eq!(is_id(&whole[..12], wanted), passes, "{wanted}");
        }
        assert!(is_id("db", "db") && !is_id("db", "db2"));
    }
}
