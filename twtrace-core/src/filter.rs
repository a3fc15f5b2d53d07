//! What to show.

use crate::input::{Owner, Tuple};
use ipnet::IpNet;

/// What to show. All kinds that are given must match, and of each kind any one.
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
}

impl Filter {
    /// Whether a connection of these owners passes. Without owners, as in the census, only a filter that asks for none
    /// can be passed.
    pub fn passes(&self, tuple: &Tuple, owners: [Option<&Owner>; 2]) -> bool {
        let any_owner = |matches: &dyn Fn(&Owner) -> bool| owners.into_iter().flatten().any(matches);
        (self.pids.is_empty() || any_owner(&|owner| self.pids.contains(&owner.key.tgid)))
            && (self.comms.is_empty() || any_owner(&|owner| self.comms.iter().any(|comm| comm == owner.comm.bytes())))
            && (self.uids.is_empty() || any_owner(&|owner| self.uids.contains(&owner.uid)))
            && (self.dests.is_empty()
                || self.dests.iter().any(|(net, port)| {
                    net.contains(&tuple.remote_addr) && port.is_none_or(|port| port == tuple.remote_port)
                }))
            && (self.ports.is_empty()
                || self.ports.contains(&tuple.local_port)
                || self.ports.contains(&tuple.remote_port))
    }
}
