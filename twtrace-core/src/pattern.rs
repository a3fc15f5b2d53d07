//! How connections are used: the figures by which the rules distinguish one usage pattern from another.

mod at_a_time;
mod bursts;
mod unanswered;
mod windows;

use crate::classify::Outcome;
use crate::event::{Connection, Role, TcpState};
use at_a_time::AtATime;
pub use bursts::Burst;
use bursts::Bursts;
pub use unanswered::Unanswered;
use windows::Windows;

/// Lower ports are privileged, unless `net.ipv4.ip_unprivileged_port_start` says otherwise.
pub(crate) const PRIVILEGED: u16 = 1024;

/// Up to this many bytes from the opener are taken for one request: many requests on one connection are more.
pub const ONE_REQUEST_BYTES: u64 = 8 * 1024;

/// A connection that lasts longer is not a one-shot, unless its segments show that it carried one request.
pub const SHORT_US: u64 = 5_000_000;

/// A connection that lasts longer is not a one-shot, whatever it carries.
pub const SLOW_US: u64 = 60_000_000;

/// One request is at most this many segments, apart from its bytes: those of a TLS handshake and of a protocol's greeting
/// count as well.
const FEW_SEGMENTS: u64 = 8;

/// The same for connections that last longer than [`SHORT_US`]: others of a pool may carry a few requests in that time.
const FEWEST_SEGMENTS: u64 = 4;

/// Payload of a segment of a large request, at least: a path with an MTU of 1,280 has 1,208 bytes with timestamps.
const SEGMENT_BYTES: u64 = 1_200;

/// A connection that lasts at least this long and carries more than one request is from a pool, or similar.
const KEPT_US: u64 = 1_000_000;

/// A connection that sent more than this many times the mean of the one-shots has carried several requests.
const SEVERAL: u64 = 3;

/// Window of the highest rate, nanoseconds: a shorter one may only see a burst.
pub const WINDOW_NS: u64 = 5_000_000_000;

/// This many connections within one window are a load.
const LOAD: u32 = 20;

/// Sums over the ended connections of one process to one destination, or of all processes to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pattern {
    /// Connections opened here that were established.
    pub opened: u64,
    /// Connections accepted here.
    pub accepted: u64,
    /// Of all, those in which this side sent its FIN first.
    pub closed_first: u64,
    /// Of all, those that left a TIME_WAIT socket here. Any process may have closed them.
    pub time_wait: u64,
    /// Of all, those that were short and in which the opener sent no more than a request: one-shots.
    pub one_shots: u64,
    /// Of all, those that were kept: they lasted, and carried more than one request.
    pub kept: u32,
    /// Sum of the lifetimes of these, microseconds.
    pub kept_us: u64,
    /// Sum of the lifetimes of established connections that were seen from their start, microseconds; `lifetimes` is
    /// their number.
    pub lifetime_us: u64,
    /// See `lifetime_us`.
    pub lifetimes: u32,
    /// Payload of the one-shots that the opener sent, bytes.
    pub request_bytes: u64,
    /// Payload of the one-shots that it received, bytes.
    pub response_bytes: u64,
    /// Opened with a port that bind(2) had taken, other than a privileged one.
    pub bound: u32,
    /// Opened from an address that was bound without a port (IP_BIND_ADDRESS_NO_PORT).
    pub bound_without_port: u32,
    /// Opened with the socket's own port range (IP_LOCAL_PORT_RANGE).
    pub own_range: u32,
    /// Aborted with a reset by SO_LINGER 0.
    pub linger_aborts: u32,
    /// Aborted with a reset because data was left unread, or by connect(AF_UNSPEC).
    pub unread_aborts: u32,
    /// Of all aborted connections, those that carried no payload.
    pub empty_aborts: u32,
    /// Connects that came to nothing although they had a port.
    pub unanswered: Unanswered,
    /// Start of the first connection, monotonic nanoseconds; 0 before there is one.
    pub first_ns: u64,
    /// Start of the latest.
    pub last_ns: u64,
    /// End of the latest.
    pub ended_ns: u64,
    gaps: Gaps,
    windows: Windows,
    bursts: Bursts,
    at_a_time: AtATime,
}

/// Times from the start of one connection to the start of the next: number, mean, sum of squared differences (Welford).
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Gaps {
    number: u32,
    mean_s: f32,
    squares: f32,
}

impl Gaps {
    fn add(&mut self, seconds: f32) {
        self.number = self.number.saturating_add(1);
        let off = seconds - self.mean_s;
        self.mean_s += off / self.number as f32;
        self.squares += off * (seconds - self.mean_s);
    }
}

impl Pattern {
    /// Adds an ended connection.
    pub(crate) fn add(&mut self, connection: &Connection, role: Role, outcome: Outcome) {
        self.ended_ns = self.ended_ns.max(connection.end_ns);
        if let Outcome::Abort { linger } = outcome {
            let place = if linger { &mut self.linger_aborts } else { &mut self.unread_aborts };
            *place = place.saturating_add(1);
            let empty = connection.bytes_sent == 0 && connection.bytes_received == 0;
            self.empty_aborts = self.empty_aborts.saturating_add(u32::from(empty));
        }
        let active = role == Role::Active;
        // A privileged port is one that no connect would have chosen.
        let bound = active && connection.binding.port && connection.tuple.local_port >= PRIVILEGED;
        self.bound = self.bound.saturating_add(bound.into());
        let without_port = active && connection.binding.address && !connection.binding.port;
        self.own_range = self.own_range.saturating_add(u32::from(active && connection.binding.range.is_some()));
        self.bound_without_port = self.bound_without_port.saturating_add(u32::from(without_port));
        if connection.older && !connection.established {
            // If it has carried many requests, it was kept, and is at least as old as the others that are known.
            let request = if active { connection.bytes_sent } else { connection.bytes_received };
            if request > ONE_REQUEST_BYTES && role != Role::Unknown && !is_one_request(connection, request, 0) {
                let first_ns = if self.first_ns == 0 { connection.end_ns } else { self.first_ns };
                self.keep(connection.end_ns.saturating_sub(first_ns) / 1000);
            }
            return;
        }
        if !connection.established {
            self.unanswered.add(connection, outcome);
            return;
        }
        self.opened += u64::from(active);
        self.accepted += u64::from(role == Role::Passive);
        self.time_wait += u64::from(matches!(outcome, Outcome::TimeWait(_)));
        self.closed_first += u64::from(connection.transitions.iter().any(|at| at.to == TcpState::FinWait1));
        let begun_ns = connection.transitions.first().map_or(connection.end_ns, |first| first.at_ns);
        self.begins(begun_ns);
        if connection.older {
            return;
        }
        let lifetime_us = connection.end_ns.saturating_sub(begun_ns) / 1000;
        self.lifetime_us = self.lifetime_us.saturating_add(lifetime_us);
        self.lifetimes = self.lifetimes.saturating_add(1);
        let (request, response) = if active {
            (connection.bytes_sent, connection.bytes_received)
        } else {
            (connection.bytes_received, connection.bytes_sent)
        };
        let is_one_request = is_one_request(connection, request, lifetime_us);
        // One request that takes long, or runs into a timeout, does not indicate a pool.
        let mean = self.request_bytes.checked_div(self.one_shots);
        let several = mean.is_some_and(|mean| request > SEVERAL.saturating_mul(mean)) && lifetime_us > SHORT_US;
        if !is_one_request && (lifetime_us >= KEPT_US && request > ONE_REQUEST_BYTES || several) {
            self.keep(lifetime_us);
        }
        let is_small = lifetime_us <= SHORT_US && request <= ONE_REQUEST_BYTES;
        if (is_small || is_one_request) && role != Role::Unknown {
            self.one_shots += 1;
            self.request_bytes = self.request_bytes.saturating_add(request);
            self.response_bytes = self.response_bytes.saturating_add(response);
            if active {
                self.at_a_time.add(begun_ns, connection.end_ns);
            }
        }
    }

    /// A connection was kept for so long.
    fn keep(&mut self, us: u64) {
        self.kept = self.kept.saturating_add(1);
        self.kept_us = self.kept_us.saturating_add(us);
    }

    /// So many more of the connections left a TIME_WAIT socket than it seemed, or fewer.
    pub(crate) fn correct(&mut self, created: i64) {
        self.time_wait = self.time_wait.saturating_add_signed(created);
    }

    /// Connections arrive in the order of their ends, so one may have started before the previous one.
    fn begins(&mut self, at_ns: u64) {
        if self.first_ns == 0 || at_ns < self.first_ns {
            self.first_ns = at_ns;
        }
        if self.last_ns != 0 && at_ns > self.last_ns {
            self.gaps.add((at_ns - self.last_ns) as f32 / 1e9);
        }
        self.last_ns = self.last_ns.max(at_ns);
        self.windows.add(at_ns);
        self.bursts.add(at_ns);
    }

    /// Adds another's sums. When both have gaps, the gaps are dropped: those of the merged connections are unknown.
    pub(crate) fn absorb(&mut self, other: &Self) {
        let (mut windows, mut at_a_time, mut unanswered) = (self.windows, self.at_a_time, self.unanswered);
        unanswered.absorb(&other.unanswered);
        windows.absorb(&other.windows);
        at_a_time.absorb(&other.at_a_time);
        let first = [self.first_ns, other.first_ns].into_iter().filter(|at| *at > 0).min().unwrap_or(0);
        *self = Self {
            opened: self.opened + other.opened,
            accepted: self.accepted + other.accepted,
            closed_first: self.closed_first + other.closed_first,
            time_wait: self.time_wait + other.time_wait,
            one_shots: self.one_shots + other.one_shots,
            kept: self.kept.saturating_add(other.kept),
            kept_us: self.kept_us.saturating_add(other.kept_us),
            lifetime_us: self.lifetime_us.saturating_add(other.lifetime_us),
            lifetimes: self.lifetimes.saturating_add(other.lifetimes),
            request_bytes: self.request_bytes.saturating_add(other.request_bytes),
            response_bytes: self.response_bytes.saturating_add(other.response_bytes),
            bound: self.bound.saturating_add(other.bound),
            bound_without_port: self.bound_without_port.saturating_add(other.bound_without_port),
            own_range: self.own_range.saturating_add(other.own_range),
            linger_aborts: self.linger_aborts.saturating_add(other.linger_aborts),
            unread_aborts: self.unread_aborts.saturating_add(other.unread_aborts),
            empty_aborts: self.empty_aborts.saturating_add(other.empty_aborts),
            unanswered,
            windows,
            at_a_time,
            bursts: self.bursts.or(&other.bursts),
            first_ns: first,
            last_ns: self.last_ns.max(other.last_ns),
            ended_ns: self.ended_ns.max(other.ended_ns),
            gaps: if self.gaps.number == 0 {
                other.gaps
            } else if other.gaps.number == 0 {
                self.gaps
            } else {
                Gaps::default()
            },
        };
    }

    /// Established connections, both roles.
    pub fn connections(&self) -> u64 {
        self.opened + self.accepted
    }

    /// Mean lifetime in seconds.
    pub fn lifetime_s(&self) -> f64 {
        if self.lifetimes == 0 { 0.0 } else { self.lifetime_us as f64 / 1e6 / f64::from(self.lifetimes) }
    }

    /// Connections per second: between the first start and the last, or the highest rate over five seconds where that
    /// is higher, as for a load that lasted only part of a long trace. Of regular bursts, the mean from one to the next. 0
    /// for fewer than two.
    pub fn rate_per_s(&self) -> f64 {
        if let Some(per_s) = self.bursts.rate_per_s(self.connections(), self.first_ns) {
            return per_s;
        }
        let seconds = self.last_ns.saturating_sub(self.first_ns) as f64 / 1e9;
        let steps = self.connections().saturating_sub(1) as f64;
        // A few that happen to coincide are no load.
        let most =
            if self.windows.most >= LOAD { f64::from(self.windows.most) / (WINDOW_NS as f64 / 1e9) } else { 0.0 };
        if seconds > 0.0 { (steps / seconds).max(most) } else { 0.0 }
    }

    /// Recent connections per second: those that began within the last ten to fifteen seconds.
    pub fn recent_per_s(&self, now_ns: u64) -> f64 {
        let (count, since_ns) = self.windows.recent(now_ns);
        let seconds = now_ns.saturating_sub(since_ns.max(self.first_ns)) as f64 / 1e9;
        f64::from(count) / seconds.max(1.0)
    }

    /// How many were kept at a time, on average, rounded up; 0 where there was one only now and then.
    pub fn kept_at_a_time(&self) -> u64 {
        let span_us = self.ended_ns.saturating_sub(self.first_ns) / 1000;
        if span_us == 0 || self.kept_us.saturating_mul(2) < span_us {
            return 0;
        }
        self.kept_us.div_ceil(span_us).min(self.kept.into())
    }

    /// Most one-shots that this host had open at a time, as far as it is known: at least so many.
    pub fn at_a_time(&self) -> u64 {
        self.at_a_time.most()
    }

    /// The largest of the bursts, if connections begin in bursts.
    pub fn burst(&self) -> Option<Burst> {
        self.bursts.largest(self.first_ns)
    }

    /// Times between starts: how many, their mean in seconds, and their standard deviation divided by the mean.
    pub fn gaps(&self) -> (u64, f64, f64) {
        let Gaps { number, mean_s, squares } = self.gaps;
        let (number, mean_s, squares) = (u64::from(number), f64::from(mean_s), f64::from(squares));
        let deviation = if number > 1 { (squares / (number - 1) as f64).sqrt() } else { 0.0 };
        (number, mean_s, if mean_s > 0.0 { deviation / mean_s } else { 0.0 })
    }
}

/// Time has passed by so many steps: of counts by steps, the newest first, the oldest are forgotten.
fn forget<T: Copy + Default, const N: usize>(counts: &mut [T; N], steps: u64) {
    match usize::try_from(steps).unwrap_or(usize::MAX) {
        0 => {}
        steps if steps >= N => *counts = [T::default(); N],
        steps => {
            let old = *counts;
            for (at, count) in counts.iter_mut().enumerate() {
                *count = at.checked_sub(steps).map_or(T::default(), |at| old[at]);
            }
        }
    }
}

/// Whether the segments show that a connection carried one request, large or slow as it may be: many small requests are many
/// segments.
fn is_one_request(connection: &Connection, request: u64, lifetime_us: u64) -> bool {
    let few = if lifetime_us <= SHORT_US { FEW_SEGMENTS } else { FEWEST_SEGMENTS };
    connection.request_segments.is_some_and(|segments| {
        let once = u64::from(segments).saturating_sub(connection.retransmits.into());
        segments < u16::MAX && once <= few + request / SEGMENT_BYTES && lifetime_us <= SLOW_US
    })
}
