//! How connections are used: the figures by which the rules distinguish one usage pattern from another.

use crate::classify::Outcome;
use crate::event::{Connection, Role, TcpState};

/// Up to this many bytes from the opener are taken for one request: many requests on one connection are more.
pub const ONE_REQUEST_BYTES: u64 = 8 * 1024;

/// A connection that lasts longer is not a one-shot, whatever it carries.
pub const SHORT_US: u64 = 5_000_000;

/// A connection that lasts at least this long and carries more than one request is from a pool, or similar.
const KEPT_US: u64 = 1_000_000;

/// A connection that sent more than this many times the mean of the one-shots has carried several requests.
const SEVERAL: u64 = 3;

/// Window of the highest rate, nanoseconds: a shorter one may only see a burst.
pub const WINDOW_NS: u64 = 5_000_000_000;

/// This many connections within one window are a load.
const LOAD: u32 = 20;

/// Number of windows whose connections are remembered.
const WINDOWS: usize = 3;

/// Sums over the ended connections of one process to one destination, or of all processes to it.
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
    /// Of all, those that were kept: they lasted, and carried more than one request.
    pub kept: u32,
    /// Sum of the lifetimes of these, microseconds.
    pub kept_us: u64,
    /// Sum of the lifetimes of established connections that were seen from their start, microseconds; `lifetimes` is
    /// their number.
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
    /// Opened with the socket's own port range (IP_LOCAL_PORT_RANGE).
    pub own_range: u32,
    /// Aborted with a reset by SO_LINGER 0.
    pub linger_aborts: u32,
    /// Aborted with a reset because data was left unread, or by connect(AF_UNSPEC).
    pub unread_aborts: u32,
    /// Of all aborted connections, those that carried no payload.
    pub empty_aborts: u32,
    /// Start of the first connection, monotonic nanoseconds; 0 before there is one.
    pub first_ns: u64,
    /// Start of the latest.
    pub last_ns: u64,
    /// End of the latest.
    pub ended_ns: u64,
    gaps: Gaps,
    windows: Windows,
}

/// Connections by the time window in which they began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Windows {
    /// Number of the newest window that had any, counted from boot.
    newest: u32,
    /// Counts of that window, the one before it, and so on.
    counts: [u32; WINDOWS],
    /// The highest count of a window.
    most: u32,
}

impl Windows {
    fn number(at_ns: u64) -> u32 {
        u32::try_from(at_ns / WINDOW_NS).unwrap_or(u32::MAX)
    }

    fn advance(&mut self, number: u32) {
        let steps = number.saturating_sub(self.newest) as usize;
        if steps > 0 {
            let kept = WINDOWS.saturating_sub(steps);
            self.counts.copy_within(..kept, WINDOWS - kept);
            self.counts[..WINDOWS - kept].fill(0);
            self.newest = number;
        }
    }

    fn add(&mut self, at_ns: u64) {
        let number = Self::number(at_ns);
        self.advance(number);
        // A connection older than the remembered windows counts only in the sums.
        if let Some(count) = self.counts.get_mut((self.newest - number) as usize) {
            *count = count.saturating_add(1);
            self.most = self.most.max(*count);
        }
    }

    /// Adds another's. For windows that are not remembered, the higher maximum is kept, which is a lower bound.
    fn absorb(&mut self, other: &Self) {
        self.advance(other.newest);
        self.most = self.most.max(other.most);
        for (back, theirs) in other.counts.iter().enumerate() {
            if let Some(ours) = self.counts.get_mut((self.newest - other.newest) as usize + back) {
                *ours = ours.saturating_add(*theirs);
                self.most = self.most.max(*ours);
            }
        }
    }

    /// How many began within the remembered windows as of `now_ns`, and when the first of these windows begins.
    fn recent(&self, now_ns: u64) -> (u32, u64) {
        let now = Self::number(now_ns);
        let passed = now.saturating_sub(self.newest) as usize;
        let count = self.counts.iter().take(WINDOWS.saturating_sub(passed)).sum();
        (count, u64::from(now).saturating_sub(WINDOWS as u64 - 1) * WINDOW_NS)
    }
}

/// Times from the start of one connection to the start of the next: number, mean, sum of squared differences (Welford).
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
        self.bound = self.bound.saturating_add(u32::from(active && connection.binding.port));
        let without_port = active && connection.binding.address && !connection.binding.port;
        self.own_range = self.own_range.saturating_add(u32::from(active && connection.binding.range.is_some()));
        self.bound_without_port = self.bound_without_port.saturating_add(u32::from(without_port));
        if !connection.established {
            return;
        }
        self.opened += u64::from(active);
        self.accepted += u64::from(role == Role::Passive);
        self.closed_first += u64::from(connection.transitions.iter().any(|at| at.to == TcpState::FinWait1));
        let begun_ns = connection.transitions.first().map_or(connection.end_ns, |first| first.at_ns);
        self.begins(begun_ns);
        if connection.older {
            return;
        }
        let lifetime_us = connection.end_ns.saturating_sub(begun_ns) / 1000;
        self.lifetime_us = self.lifetime_us.saturating_add(lifetime_us);
        self.lifetimes += 1;
        let (request, response) = if active {
            (connection.bytes_sent, connection.bytes_received)
        } else {
            (connection.bytes_received, connection.bytes_sent)
        };
        // One request that takes long, or runs into a timeout, does not indicate a pool.
        let mean = self.request_bytes.checked_div(self.one_shots);
        let several = mean.is_some_and(|mean| request > SEVERAL.saturating_mul(mean)) && lifetime_us > SHORT_US;
        if lifetime_us >= KEPT_US && request > ONE_REQUEST_BYTES || several {
            self.kept = self.kept.saturating_add(1);
            self.kept_us = self.kept_us.saturating_add(lifetime_us);
        }
        if lifetime_us <= SHORT_US && request <= ONE_REQUEST_BYTES && role != Role::Unknown {
            self.one_shots += 1;
            self.request_bytes = self.request_bytes.saturating_add(request);
            self.response_bytes = self.response_bytes.saturating_add(response);
        }
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
    }

    /// Adds another's sums. When both have gaps, the gaps are dropped: those of the merged connections are unknown.
    pub(crate) fn absorb(&mut self, other: &Self) {
        let mut windows = self.windows;
        windows.absorb(&other.windows);
        let first = [self.first_ns, other.first_ns].into_iter().filter(|at| *at > 0).min().unwrap_or(0);
        *self = Self {
            opened: self.opened + other.opened,
            accepted: self.accepted + other.accepted,
            closed_first: self.closed_first + other.closed_first,
            one_shots: self.one_shots + other.one_shots,
            kept: self.kept.saturating_add(other.kept),
            kept_us: self.kept_us.saturating_add(other.kept_us),
            lifetime_us: self.lifetime_us.saturating_add(other.lifetime_us),
            lifetimes: self.lifetimes + other.lifetimes,
            request_bytes: self.request_bytes.saturating_add(other.request_bytes),
            response_bytes: self.response_bytes.saturating_add(other.response_bytes),
            bound: self.bound.saturating_add(other.bound),
            bound_without_port: self.bound_without_port.saturating_add(other.bound_without_port),
            own_range: self.own_range.saturating_add(other.own_range),
            linger_aborts: self.linger_aborts.saturating_add(other.linger_aborts),
            unread_aborts: self.unread_aborts.saturating_add(other.unread_aborts),
            empty_aborts: self.empty_aborts.saturating_add(other.empty_aborts),
            windows,
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

    /// Connections per second: between the first start and the last, or the highest rate over five seconds where that
    /// is higher, as for a load that lasted only part of a long trace. 0 for fewer than two.
    pub fn rate_per_s(&self) -> f64 {
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

    /// Times between starts: how many, their mean in seconds, and their standard deviation divided by the mean.
    pub fn gaps(&self) -> (u64, f64, f64) {
        let Gaps { number, mean_s, squares } = self.gaps;
        let (number, mean_s, squares) = (u64::from(number), f64::from(mean_s), f64::from(squares));
        let deviation = if number > 1 { (squares / (number - 1) as f64).sqrt() } else { 0.0 };
        (number, mean_s, if mean_s > 0.0 { deviation / mean_s } else { 0.0 })
    }
}
