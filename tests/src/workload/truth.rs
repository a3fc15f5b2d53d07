//! What the generator says of the connections that it made.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::command::Who;
use super::net::Namespace;

/// Which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// It connected.
    Active,
    /// It was accepted.
    Passive,
}

/// One connection of one socket, or a connect that failed before there was one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Of this connection nothing is known but that it was: both of its ends are to be left out.
    pub left_out: bool,
    /// Case and family.
    pub case: String,
    /// Network namespace, which is kept until the generator ends.
    pub netns: Namespace,
    /// Side.
    pub side: Side,
    /// Own address; the port is 0 when none was given.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// An `AF_INET6` socket that carries IPv4.
    pub v4_mapped: bool,
    /// Who connected, or accepted; nobody when it was never accepted.
    pub opener: Option<Who>,
    /// Who sent this side's FIN or threw the connection away; nobody when it was ended from outside.
    pub closer: Option<Who>,
    /// `twtrace_core::classify::Outcome::name`.
    pub outcome: String,
    /// Errno of a failure, or 0.
    pub errno: i32,
    /// There was no connection: connect failed before SYN_SENT.
    pub early: bool,
    /// Nothing that can be hooked here says who accepted: a tracer may know the opener or nobody, but no one else.
    pub accepted_out_of_sight: bool,
    /// Its timewait socket did not last for a minute, and no tracepoint told of its end.
    pub timewait_cut_short: bool,
}
