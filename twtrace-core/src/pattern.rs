//! How connections are used: what the rules tell one habit from another by.

use crate::connection::Outcome;
use crate::input::{Life, Role, TcpState};

/// Bytes up to which what an opener sent is taken for one request: many requests on one connection are more.
pub const ONE_REQUEST_BYTES: u64 = 8 * 1024;

/// A connection that lasts longer is no one-shot, whatever it carries.
pub const SHORT_US: u64 = 5_000_000;

/// A connection that lasts so long and carries more than a request is one of a pool's, or the like.
const KEPT_US: u64 = 1_000_000;

/// Sums over ended connections of one process towards one destination, or of all of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pattern {
    /// Connections opened here that were established.
    pub opened: u64,
    /// Connections accepted here.
    pub accepted: u64,
    /// Of all, those in which this side sent its FIN first.
    pub closed_first: u64,
    /// Of all, those that were short and in which the opener sent no more than a request: one-shots.
    pub one_shots: u64,
    /// Of all, those that were kept: they lasted, or had more than a request in a second and more.
    pub kept: u32,
    /// Lifetimes of established connections that were seen from their beginning, microseconds, and how many they are.
    pub lifetime_us: u64,
    /// See `lifetime_us`.
    pub lifetimes: u64,
    /// Payload of the one-shots that the opener sent, bytes.
    pub request_bytes: u64,
    /// Payload of the one-shots that it received, bytes.
    pub response_bytes: u64,
    /// Opened with a port that bind(2) had taken.
    pub bound: u32,
    /// Opened from an address that was bound without a port (IP_BIND_ADDRESS_NO_PORT).
    pub bound_without_port: u32,
    /// Opened within a port range of the socket's own (IP_LOCAL_PORT_RANGE).
    pub own_range: u32,
    /// Thrown away with a reset by SO_LINGER 0.
    pub linger_aborts: u32,
    /// Thrown away with a reset because data was left unread, or by connect(AF_UNSPEC).
    pub unread_aborts: u32,
    /// Beginning of the first connection, monotonic nanoseconds; 0 before there is one.
    pub first_ns: u64,
    /// Beginning of the latest.
    pub last_ns: u64,
    /// End of the latest.
    pub ended_ns: u64,
    gaps: Gaps,
}

/// Times from the beginning of one connection to that of the next: number, mean, sum of squared differences (Welford).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    /// Takes in an ended connection.
    pub(crate) fn add(&mut self, life: &Life, role: Role, outcome: Outcome) {
        self.ended_ns = self.ended_ns.max(life.end_ns);
        if let Outcome::Abort { linger } = outcome {
            let place = if linger { &mut self.linger_aborts } else { &mut self.unread_aborts };
            *place = place.saturating_add(1);
        }
        let active = role == Role::Active;
        self.bound = self.bound.saturating_add(u32::from(active && life.binding.port));
        let without_port = active && life.binding.address && !life.binding.port;
        self.own_range = self.own_range.saturating_add(u32::from(active && life.binding.range.is_some()));
        self.bound_without_port = self.bound_without_port.saturating_add(u32::from(without_port));
        if !life.established {
            return;
        }
        self.opened += u64::from(active);
        self.accepted += u64::from(role == Role::Passive);
        self.closed_first += u64::from(life.transitions.iter().any(|at| at.to == TcpState::FinWait1));
        let begun_ns = life.transitions.first().map_or(life.end_ns, |first| first.at_ns);
        self.begins(begun_ns);
        if life.older {
            return;
        }
        let lifetime_us = life.end_ns.saturating_sub(begun_ns) / 1000;
        self.lifetime_us = self.lifetime_us.saturating_add(lifetime_us);
        self.lifetimes += 1;
        let (request, response) =
            if active { (life.bytes_sent, life.bytes_received) } else { (life.bytes_received, life.bytes_sent) };
        let kept = lifetime_us > SHORT_US || lifetime_us >= KEPT_US && request > ONE_REQUEST_BYTES;
        self.kept = self.kept.saturating_add(u32::from(kept));
        if lifetime_us <= SHORT_US && request <= ONE_REQUEST_BYTES && role != Role::Unknown {
            self.one_shots += 1;
            self.request_bytes = self.request_bytes.saturating_add(request);
            self.response_bytes = self.response_bytes.saturating_add(response);
        }
    }

    /// Connections come in the order of their ends, so a beginning may be earlier than the one before.
    fn begins(&mut self, at_ns: u64) {
        if self.first_ns == 0 || at_ns < self.first_ns {
            self.first_ns = at_ns;
        }
        if self.last_ns != 0 && at_ns > self.last_ns {
            self.gaps.add((at_ns - self.last_ns) as f32 / 1e9);
        }
        self.last_ns = self.last_ns.max(at_ns);
    }

    /// Adds another's sums. Gaps between connections of two are not those of either: they are forgotten.
    pub(crate) fn absorb(&mut self, other: &Self) {
        let first = [self.first_ns, other.first_ns].into_iter().filter(|at| *at > 0).min().unwrap_or(0);
        *self = Self {
            opened: self.opened + other.opened,
            accepted: self.accepted + other.accepted,
            closed_first: self.closed_first + other.closed_first,
            one_shots: self.one_shots + other.one_shots,
            kept: self.kept.saturating_add(other.kept),
            lifetime_us: self.lifetime_us.saturating_add(other.lifetime_us),
            lifetimes: self.lifetimes + other.lifetimes,
            request_bytes: self.request_bytes.saturating_add(other.request_bytes),
            response_bytes: self.response_bytes.saturating_add(other.response_bytes),
            bound: self.bound.saturating_add(other.bound),
            bound_without_port: self.bound_without_port.saturating_add(other.bound_without_port),
            own_range: self.own_range.saturating_add(other.own_range),
            linger_aborts: self.linger_aborts.saturating_add(other.linger_aborts),
            unread_aborts: self.unread_aborts.saturating_add(other.unread_aborts),
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
        if self.lifetimes == 0 { 0.0 } else { self.lifetime_us as f64 / 1e6 / self.lifetimes as f64 }
    }

    /// Connections per second between the first beginning and the last; 0 for fewer than two.
    pub fn rate_per_s(&self) -> f64 {
        let seconds = self.last_ns.saturating_sub(self.first_ns) as f64 / 1e9;
        let steps = self.connections().saturating_sub(1) as f64;
        if seconds > 0.0 { steps / seconds } else { 0.0 }
    }

    /// Times between beginnings: how many, their mean in seconds, and their standard deviation by the mean.
    pub fn gaps(&self) -> (u64, f64, f64) {
        let Gaps { number, mean_s, squares } = self.gaps;
        let (number, mean_s, squares) = (u64::from(number), f64::from(mean_s), f64::from(squares));
        let deviation = if number > 1 { (squares / (number - 1) as f64).sqrt() } else { 0.0 };
        (number, mean_s, if mean_s > 0.0 { deviation / mean_s } else { 0.0 })
    }
}
