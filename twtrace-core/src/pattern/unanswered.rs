//! Connects that came to nothing although they had a port.

use crate::classify::Outcome;
use crate::event::Connection;

/// `ETIMEDOUT`, `EHOSTDOWN`, `EHOSTUNREACH`.
const NO_ANSWER: [u16; 3] = [110, 112, 113];

/// `ECONNREFUSED`.
const REFUSED: u16 = 111;

/// A connect that its own process gave up was unanswered if it had waited for this long: a second SYN had been sent
/// (`TCP_TIMEOUT_INIT`). A client that connects to several addresses at once gives up the slower ones sooner.
const WAITED_NS: u64 = 1_000_000_000;

/// A tenth of a second: there is one of these for each process and destination.
const UNIT_NS: u64 = 100_000_000;

/// How many of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Unanswered {
    /// No answer came.
    pub silent: u32,
    /// The answer was a reset, or an ICMP error for the port.
    pub refused: u32,
    /// The first of both and the latest, in units of [`UNIT_NS`]; 0 before there is one.
    first: u32,
    last: u32,
}

impl Unanswered {
    pub(super) fn add(&mut self, connection: &Connection, outcome: Outcome) {
        let begun_ns = connection.transitions.first().map_or(connection.end_ns, |first| first.at_ns);
        let place = match outcome {
            Outcome::ConnectFailed(errno) if NO_ANSWER.contains(&errno) => &mut self.silent,
            Outcome::Abandoned if connection.end_ns.saturating_sub(begun_ns) >= WAITED_NS => &mut self.silent,
            Outcome::ConnectFailed(REFUSED) => &mut self.refused,
            _ => return,
        };
        *place = place.saturating_add(1);
        let at = u32::try_from(connection.end_ns / UNIT_NS).unwrap_or(u32::MAX);
        self.came(at, at);
    }

    fn came(&mut self, first: u32, last: u32) {
        self.first = [self.first, first].into_iter().filter(|at| *at > 0).min().unwrap_or(0);
        self.last = self.last.max(last);
    }

    pub(super) fn absorb(&mut self, other: &Self) {
        self.silent = self.silent.saturating_add(other.silent);
        self.refused = self.refused.saturating_add(other.refused);
        self.came(other.first, other.last);
    }

    /// Of both kinds per second, between the first and the last.
    pub fn per_s(&self) -> f64 {
        let seconds = f64::from(self.last - self.first) * (UNIT_NS as f64 / 1e9);
        self.all().saturating_sub(1) as f64 / seconds.max(1.0)
    }

    /// When the latest was, monotonic nanoseconds.
    pub fn last_ns(&self) -> u64 {
        u64::from(self.last) * UNIT_NS
    }

    /// Of both kinds.
    pub fn all(&self) -> u64 {
        u64::from(self.silent) + u64::from(self.refused)
    }
}
