//! What would have been: the recorded connects once more, through a model of the kernel's port choice and TIME_WAIT, with
//! settings changed.
//!
//! [`Demands`] collects what processes asked for, [`Demands::run`] lets it happen with some [`Change`]s. Each recorded
//! connection is one request, which comes when it came: a client that waited for a slow or failed connect would send more.

mod change;
mod demands;
mod model;
mod ports;

pub use change::{Change, ParseError};
pub use demands::{DEMANDS, Demands};

/// What happened, or would have.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Outcome {
    /// Connections that this host opened.
    pub opened: u64,
    /// Requests of this host's processes for which there was no local port (EADDRNOTAVAIL, or EADDRINUSE of bind(2) with
    /// port 0).
    pub failed: u64,
    /// When the first of them was, nanoseconds since the trace began.
    pub first_failed_ns: Option<u64>,
    /// Most TIME_WAIT sockets at a time.
    pub time_wait_peak: u64,
    /// When that was, nanoseconds since the trace began.
    pub time_wait_peak_ns: u64,
    /// TIME_WAIT sockets that the kernel did not create, because there were `tcp_max_tw_buckets` of them.
    pub overflowed: u64,
    /// The destination whose ports were used most.
    pub fullest: Option<Fullest>,
}

/// Ports in use for one source address and destination, when there were most.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fullest {
    /// Source address.
    pub local_addr: std::net::IpAddr,
    /// Destination address.
    pub remote_addr: std::net::IpAddr,
    /// Destination port.
    pub remote_port: u16,
    /// Ports in use at a time, those that are bound included.
    pub ports: u32,
    /// Ports that connect(2) chooses from.
    pub total: u32,
}
