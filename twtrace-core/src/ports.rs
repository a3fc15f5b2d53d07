//! The port budget of a destination.

/// Ports towards one (source address, destination address, destination port) and how long they last.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Budget {
    /// Ports of the range, reserved ones taken off.
    pub total: u32,
    /// Ports in use by live timewait sockets and, by the last census, by full sockets.
    pub used: u32,
    /// `used / total`.
    pub utilization: f64,
    /// Connections per second that the range sustains for ever: `total / 60 s`.
    pub max_rate_per_s: f64,
    /// Seconds until no port is left at the present rate; `None` when it never comes to that. *Inferred.*
    pub seconds_to_exhaustion: Option<f64>,
}
