//! Port arithmetic: how many ports a connection rate needs, and what each remedy gains.
//!
//! A [`Plan`] is the input, [`Plan::outcome`] computes the result, [`Plan::after`] returns the plan with one change,
//! and [`remedies`] is the table of all changes. Everything is steady state: a constant rate, spread evenly over
//! destinations and source addresses. [`Budget`](crate::ports::Budget) has the same figures from measurements.

mod remedies;
pub mod report;

use crate::event::KernelFacts;
use crate::ports::{TIME_WAIT_SECONDS, Usable, reuse_seconds};
pub use remedies::{KEEP_ALIVE_REQUESTS, Remedy, WIDE_RANGE, remedies};

/// Kernel memory of a TIME_WAIT socket, bytes: one object of the slab cache `tw_sock_TCP`. On 6.18 it is 248 bytes in a
/// slot of 256; other versions differ slightly.
pub const TIMEWAIT_BYTES: u32 = 256;

/// Kernel memory of a port in use, bytes: one `tcp_bind_bucket` per port.
pub const PORT_BYTES: u32 = 128;

/// The same for a port at one source address: `tcp_bind2_bucket`, which kernels before 6.1 do not have.
pub const PORT_ADDRESS_BYTES: u32 = 128;

/// The connections that this host opens, and the resources it has for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Requests per second. If each connection carries one request, this is also connections per second.
    pub rate_per_s: f64,
    /// How long a connection is open for one request, seconds: `rate x lifetime` connections are open at a time, and
    /// they use ports too.
    pub lifetime_s: f64,
    /// Requests that a connection carries before it is closed; 1 without keep-alive.
    pub requests_per_connection: f64,
    /// Connections are never closed: as many as are needed at a time are opened once.
    pub pooled: bool,
    /// This host closes first and so keeps the TIME_WAIT sockets. If the peer closes first, the port is free at once.
    pub closes_first: bool,
    /// Number of different (destination address, destination port) pairs.
    pub destinations: u32,
    /// Source addresses of this host, all used evenly.
    pub source_addresses: u32,
    /// `net.ipv4.ip_local_port_range`, both inclusive.
    pub range: (u16, u16),
    /// `net.ipv4.ip_local_reserved_ports` as written.
    pub reserved: String,
    /// Ports of the range that are otherwise in use for each destination: by listeners, bound sockets and long-lived
    /// connections. As in [`Use`](crate::ports::Use): the sum of bound, established and other.
    pub standing: u32,
    /// Share of connections, from 0 to 1, whose socket is bound before it connects without `IP_BIND_ADDRESS_NO_PORT`.
    /// Their ports are taken for all destinations, and `tcp_tw_reuse` does not apply to them. They count only for their
    /// own source address, as when bind(2) is given one.
    pub bound_share: f64,
    /// `net.ipv4.tcp_tw_reuse`: 0, 1, 2.
    pub tw_reuse: u8,
    /// `net.ipv4.tcp_tw_reuse_delay`, milliseconds; `None` on kernels without it, where the delay is one second.
    pub tw_reuse_delay_ms: Option<u32>,
    /// How long TIME_WAIT lasts, seconds ([`KernelFacts::time_wait_seconds`]).
    pub time_wait_seconds: f64,
    /// `net.ipv4.tcp_timestamps` on both sides.
    pub timestamps: bool,
    /// Loopback on either side: the case that `tcp_tw_reuse` = 2 covers.
    pub loopback: bool,
    /// `net.ipv4.tcp_max_tw_buckets`; `None` to ignore the limit.
    pub max_tw_buckets: Option<u64>,
}

impl Default for Plan {
    /// The kernel's defaults, and a rate of 0.
    fn default() -> Self {
        Self {
            rate_per_s: 0.0,
            lifetime_s: 0.0,
            requests_per_connection: 1.0,
            pooled: false,
            closes_first: true,
            destinations: 1,
            source_addresses: 1,
            range: (32_768, 60_999),
            reserved: String::new(),
            standing: 0,
            bound_share: 0.0,
            tw_reuse: 2,
            tw_reuse_delay_ms: None,
            time_wait_seconds: TIME_WAIT_SECONDS,
            timestamps: true,
            loopback: false,
            max_tw_buckets: None,
        }
    }
}

/// The result of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Outcome {
    /// Connections opened per second.
    pub connections_per_s: f64,
    /// Connections open at a time; for a pool, its size.
    pub open: f64,
    /// How long the port of a closed connection stays in use, seconds: 60, the delay of `tcp_tw_reuse`, or 0 when the
    /// peer closes first. The port of a connection that was bound first stays in use for 60 whatever `tcp_tw_reuse` is.
    pub hold_seconds: f64,
    /// Ports that a connect may choose for one destination from one source address.
    pub ports_available: u32,
    /// Ports that the rate needs for that destination, in the steady state; more than are available when they run out.
    pub ports_needed: f64,
    /// Requests per second that the ports sustain indefinitely; `None` without limit.
    pub max_rate_per_s: Option<f64>,
    /// Seconds until a connect fails, starting without connections; `None` if none ever fails.
    pub seconds_to_exhaustion: Option<f64>,
    /// TIME_WAIT sockets if nothing limited them: the rate times 60 seconds.
    pub time_wait_wanted: f64,
    /// Maximum of simultaneous TIME_WAIT sockets: no more than the ports and `tcp_max_tw_buckets` allow.
    pub time_wait: f64,
    /// `tcp_max_tw_buckets` is what limits them: the kernel ends connections without a TIME_WAIT socket
    /// (`TCPTimeWaitOverflow`). Their ports are free at once.
    pub overflows: bool,
    /// Approximate kernel memory of them, bytes: [`TIMEWAIT_BYTES`], [`PORT_BYTES`] and [`PORT_ADDRESS_BYTES`].
    pub memory_bytes: u64,
}

/// One change to a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Connections are kept open and reused.
    Pool,
    /// A connection carries this many requests.
    KeepAlive(u32),
    /// The peer closes first.
    PeerCloses,
    /// `tcp_tw_reuse` = 1, with timestamps on.
    Reuse,
    /// Another `ip_local_port_range`, both inclusive.
    Range(u16, u16),
    /// This many source addresses.
    Sources(u32),
    /// This many destinations.
    Destinations(u32),
    /// `IP_BIND_ADDRESS_NO_PORT` wherever a socket is bound first.
    NoPortAtBind,
    /// Another `tcp_max_tw_buckets`.
    Buckets(u64),
}

/// Number of simultaneous connections that a request rate needs if connections are reused: rate times lifetime, rounded
/// up (Little's law). At least one if the rate is above 0.
pub fn connections_needed(rate_per_s: f64, lifetime_s: f64) -> u64 {
    let (rate, lifetime) = (positive(rate_per_s), positive(lifetime_s));
    // An error in the last digit must not round up to one more connection. The cast saturates.
    let needed = ((rate * lifetime) * (1.0 - 1e-12)).ceil() as u64;
    if rate > 0.0 { needed.max(1) } else { 0 }
}

/// NaN and negative numbers become 0; numbers above `u32::MAX`, infinity included, become `u32::MAX`.
fn positive(number: f64) -> f64 {
    if number > 0.0 { number.min(f64::from(u32::MAX)) } else { 0.0 }
}

impl Plan {
    /// This host's settings.
    pub fn of(kernel: &KernelFacts) -> Self {
        Self {
            range: kernel.port_range,
            reserved: kernel.reserved_ports.clone(),
            tw_reuse: kernel.tw_reuse,
            tw_reuse_delay_ms: kernel.tw_reuse_delay_ms,
            timestamps: kernel.timestamps != Some(0),
            time_wait_seconds: kernel.time_wait_seconds(),
            // No kernel has a limit of 0: 0 means that it could not be read.
            max_tw_buckets: (kernel.max_tw_buckets > 0).then_some(kernel.max_tw_buckets),
            ..Self::default()
        }
    }

    /// Ports that connect(2) chooses from; `None` when the range is invalid.
    pub fn usable(&self) -> Option<Usable> {
        Usable::new(self.range, &self.reserved)
    }

    /// Seconds after which connect(2) may reuse a TIME_WAIT socket; `None` when it may not.
    pub fn reuse_seconds(&self) -> Option<f64> {
        let kernel = KernelFacts {
            tw_reuse: self.tw_reuse,
            tw_reuse_delay_ms: self.tw_reuse_delay_ms,
            timestamps: Some(u8::from(self.timestamps)),
            ..KernelFacts::default()
        };
        // A delay as long as TIME_WAIT itself allows no reuse.
        reuse_seconds(&kernel, self.loopback, None).filter(|delay| *delay < self.time_wait_seconds)
    }

    /// How long the port of a closed connection stays in use, seconds, except for bound ports.
    pub fn hold_seconds(&self) -> f64 {
        if self.closes_first { self.reuse_seconds().unwrap_or(self.time_wait_seconds) } else { 0.0 }
    }

    /// Requests per second that the ports sustain indefinitely; `None` without limit.
    pub fn max_rate_per_s(&self) -> Option<f64> {
        self.outcome().max_rate_per_s
    }

    /// The plan with one change.
    #[must_use]
    pub fn after(&self, change: Change) -> Self {
        let mut plan = self.clone();
        match change {
            Change::Pool => plan.pooled = true,
            Change::KeepAlive(requests) => plan.requests_per_connection = f64::from(requests.max(1)),
            Change::PeerCloses => plan.closes_first = false,
            Change::Reuse => (plan.tw_reuse, plan.timestamps) = (1, true),
            Change::Range(low, high) => plan.range = (low, high),
            Change::Sources(addresses) => plan.source_addresses = addresses,
            Change::Destinations(destinations) => plan.destinations = destinations,
            Change::NoPortAtBind => plan.bound_share = 0.0,
            Change::Buckets(buckets) => plan.max_tw_buckets = Some(buckets),
        }
        plan
    }

    /// The result of the plan.
    pub fn outcome(&self) -> Outcome {
        let usable = self.usable().map_or(0, |usable| usable.total());
        let available = usable.saturating_sub(self.standing);
        let (sources, destinations) = (f64::from(self.source_addresses.max(1)), f64::from(self.destinations.max(1)));
        let pairs = sources * destinations;
        let rate = positive(self.rate_per_s);
        let lifetime = positive(self.lifetime_s);
        let requests = positive(self.requests_per_connection).max(1.0);
        let bound = positive(self.bound_share).min(1.0);
        let keeps_s = self.hold_seconds();
        let minute = if self.closes_first { self.time_wait_seconds } else { 0.0 };

        let connections_per_s = if self.pooled { 0.0 } else { rate / requests };
        let open = if self.pooled { connections_needed(rate, lifetime) as f64 } else { rate * lifetime };
        let time_wait_wanted = connections_per_s * minute;
        let buckets = self.max_tw_buckets.map_or(f64::INFINITY, |buckets| buckets as f64);

        // Share of the TIME_WAIT sockets with ports that the bucket limit leaves.
        let holding = connections_per_s * (bound * minute + (1.0 - bound) * keeps_s);
        // The ports limit how many sockets can be in TIME_WAIT at a time. A bucket limit at or above that has no
        // effect.
        let room = f64::from(available) * (bound * sources + (1.0 - bound) * pairs);
        let kept = if holding > buckets && buckets < room { buckets / holding } else { 1.0 };
        // Share of connections that take a port of one source address: bound ones for all destinations, others for one.
        let spread = bound / sources + (1.0 - bound) / pairs;
        let timewaits = connections_per_s * (bound * minute / sources + (1.0 - bound) * keeps_s / pairs);
        let ports_needed = open * spread + kept * timewaits;

        // Ports that one request per second needs, regardless of the bucket limit.
        let each_closed = (bound * minute / sources + (1.0 - bound) * keeps_s / pairs) / requests;
        let each = lifetime * spread + if self.pooled { 0.0 } else { each_closed };
        let max_rate_per_s = (each > 0.0).then(|| (f64::from(available) / each).min(f64::MAX));
        let max_rate_per_s = if available == 0 { Some(0.0) } else { max_rate_per_s };

        // A rate exactly at the limit is sustained: tolerate an error in the last digit.
        let exhausted = ports_needed > f64::from(available) * (1.0 + 1e-9) || available == 0 && rate > 0.0;
        let growth = Growth {
            bound_per_s: connections_per_s * bound / sources,
            bound_for_s: minute + lifetime * requests,
            other_per_s: connections_per_s * (1.0 - bound) / pairs,
            other_for_s: keeps_s + lifetime * requests,
        };
        let seconds_to_exhaustion = exhausted.then(|| growth.seconds_until(f64::from(available)));

        let by_ports = time_wait_wanted.min(room);
        let time_wait = by_ports.min(buckets);
        let ports = time_wait.min(f64::from(available));
        let port_addresses = time_wait.min(f64::from(available) * sources);
        let memory = time_wait * f64::from(TIMEWAIT_BYTES)
            + ports * f64::from(PORT_BYTES)
            + port_addresses * f64::from(PORT_ADDRESS_BYTES);
        Outcome {
            connections_per_s,
            open,
            hold_seconds: keeps_s,
            ports_available: available,
            ports_needed,
            max_rate_per_s,
            seconds_to_exhaustion,
            time_wait_wanted,
            time_wait,
            overflows: by_ports > buckets,
            // The cast saturates.
            memory_bytes: memory.round() as u64,
        }
    }
}

/// How ports fill up: how many are taken per second, and for how long each.
struct Growth {
    bound_per_s: f64,
    bound_for_s: f64,
    other_per_s: f64,
    /// Not longer than `bound_for_s`.
    other_for_s: f64,
}

impl Growth {
    /// Seconds until this many ports are taken, if they ever are.
    fn seconds_until(&self, ports: f64) -> f64 {
        let both = self.bound_per_s + self.other_per_s;
        if both <= 0.0 {
            // A pool larger than the range fails while it is being filled.
            return 0.0;
        }
        if ports <= both * self.other_for_s || self.bound_per_s <= 0.0 {
            return ports / both;
        }
        // From then on, unbound ports come free as fast as they are taken.
        ((ports - self.other_per_s * self.other_for_s) / self.bound_per_s).clamp(0.0, self.bound_for_s)
    }
}
