//! Addresses and ports.

use crate::NETNS;
use std::net::{IpAddr, Ipv6Addr};
use twtrace_core::event::Tuple;

/// From a port of 10.0.0.1 (2001:db8::1 for an IPv6 remote address) to a port of a remote address, in [`NETNS`].
pub fn tuple(local_port: u16, remote_addr: impl Into<IpAddr>, remote_port: u16) -> Tuple {
    let remote_addr = remote_addr.into();
    let local_addr = match remote_addr {
        IpAddr::V4(_) => [10, 0, 0, 1].into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    Tuple { netns: NETNS, local_addr, local_port, remote_addr, remote_port, v4_mapped: false }
}

/// Changes the fields in which addresses and ports differ from the usual ones.
pub trait BuildTuple: Sized {
    /// Changes any of its fields.
    #[must_use]
    fn with(self, change: impl FnOnce(&mut Tuple)) -> Self;

    /// The inode number of the network namespace.
    #[must_use]
    fn in_namespace(self, netns: u32) -> Self {
        self.with(|tuple| tuple.netns = netns)
    }

    /// From another local address.
    #[must_use]
    fn local_addr(self, local_addr: impl Into<IpAddr>) -> Self {
        self.with(|tuple| tuple.local_addr = local_addr.into())
    }

    /// From another local port.
    #[must_use]
    fn local_port(self, local_port: u16) -> Self {
        self.with(|tuple| tuple.local_port = local_port)
    }

    /// Without a remote end: the unspecified address of the same family, port 0.
    #[must_use]
    fn without_remote(self) -> Self {
        self.with(|tuple| {
            tuple.remote_addr = if tuple.local_addr.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
            tuple.remote_port = 0;
        })
    }

    /// The same, as seen by the other end.
    #[must_use]
    fn mirrored(self) -> Self {
        self.with(|tuple| {
            std::mem::swap(&mut tuple.local_addr, &mut tuple.remote_addr);
            std::mem::swap(&mut tuple.local_port, &mut tuple.remote_port);
        })
    }
}

impl BuildTuple for Tuple {
    fn with(mut self, change: impl FnOnce(&mut Tuple)) -> Self {
        change(&mut self);
        self
    }
}
