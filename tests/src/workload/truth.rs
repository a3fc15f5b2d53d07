//! What the generator reports about its connections.

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
    /// All that is known of this connection is that it existed: leave out both of its ends.
    pub left_out: bool,
    /// Case and family.
    pub case: String,
    /// Network namespace, which is kept until the generator ends.
    pub netns: Namespace,
    /// Side.
    pub side: Side,
    /// Own address; the port is 0 if none was assigned.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// An `AF_INET6` socket that carries IPv4.
    pub v4_mapped: bool,
    /// The process that connected or accepted; `None` if it was never accepted.
    pub opener: Option<Who>,
    /// The process that sent this side's FIN or aborted the connection; `None` if it was ended from outside.
    pub closer: Option<Who>,
    /// `twtrace_core::classify::Outcome::name`.
    pub outcome: String,
    /// Errno of a failure, or 0.
    pub errno: i32,
    /// There was no connection: connect failed before SYN_SENT.
    pub early: bool,
    /// No available hook shows which process accepted: a tracer may report this opener or none, but no other process.
    pub accepted_out_of_sight: bool,
    /// Its TIME_WAIT socket did not last for a minute, and no tracepoint reported its end.
    pub timewait_cut_short: bool,
}
