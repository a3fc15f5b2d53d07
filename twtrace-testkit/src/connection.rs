//! Connections that ended.

use crate::{MICROSECOND_NS, MILLISECOND_NS};
use twtrace_core::event::{Binding, Connection, Event, Owner, Role, TcpState, Timewait, Transition, Tuple, TwCount};

/// A connection that its owner opened and closed first, of 4 microseconds and no bytes: CLOSE, SYN_SENT, ESTABLISHED,
/// FIN_WAIT1, FIN_WAIT2, CLOSE, the last at `end_ns`. `SOCK_DEAD` is set, as of each socket that its process has closed.
pub fn connection(cookie: u64, who: Owner, tuple: Tuple, end_ns: u64) -> Connection {
    Connection {
        cookie,
        role: Role::Active,
        opener: Some(who),
        closer: Some(who),
        transitions: path(&states(Role::Active, true), end_ns, MICROSECOND_NS),
        sock_dead: true,
        established: true,
        ..Connection::bare(tuple, end_ns)
    }
}

/// A [`connection`] of 8 milliseconds for a request of 100 bytes and an answer of 2,000, after which the peer closed too.
pub fn answered(cookie: u64, who: Owner, tuple: Tuple, end_ns: u64) -> Connection {
    connection(cookie, who, tuple, end_ns)
        .usual(Role::Active, true, 2 * MILLISECOND_NS)
        .peer_done(true)
        .bytes(100, 2_000)
}

/// The states of a connection without a failure: opened from this host or else accepted, and closed first by this host
/// or else by the peer.
pub fn states(role: Role, closes_first: bool) -> [TcpState; 6] {
    use TcpState::{Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
    let [first, second] = if role == Role::Active { [Close, SynSent] } else { [Listen, SynRecv] };
    let [fourth, fifth] = if closes_first { [FinWait1, FinWait2] } else { [CloseWait, LastAck] };
    [first, second, Established, fourth, fifth, Close]
}

/// Transitions through these states, `step_ns` nanoseconds one after the other, the last at `end_ns`.
pub fn path(states: &[TcpState], end_ns: u64, step_ns: u64) -> Vec<Transition> {
    transitions(states, end_ns, |_| step_ns)
}

/// Transitions through these states, the last at `end_ns`. From the last back to the first, `before` is asked by its
/// number, from 0, how many nanoseconds each is later than the one before it.
pub fn transitions(states: &[TcpState], end_ns: u64, mut before: impl FnMut(usize) -> u64) -> Vec<Transition> {
    let mut at_ns = end_ns;
    let mut transitions: Vec<Transition> = Vec::with_capacity(states.len().saturating_sub(1));
    for (number, pair) in states.windows(2).enumerate().rev() {
        transitions.push(Transition { from: pair[0], to: pair[1], at_ns });
        at_ns = at_ns.saturating_sub(before(number));
    }
    transitions.reverse();
    transitions
}

/// Says what is special about a connection.
pub trait BuildConnection: Sized {
    /// Changes any of its fields.
    #[must_use]
    fn with(self, change: impl FnOnce(&mut Connection)) -> Self;

    /// The event that it ended.
    fn event(self) -> Event;

    /// Who began it. Its states stay: see [`BuildConnection::usual`].
    #[must_use]
    fn role(self, role: Role) -> Self {
        self.with(|connection| connection.role = role)
    }

    /// Began and ended without a failure: its role, whether this host closed first, and nanoseconds between two states.
    #[must_use]
    fn usual(self, role: Role, closes_first: bool, step_ns: u64) -> Self {
        self.role(role).through(&states(role, closes_first), step_ns)
    }

    /// The states that it passed through until its end, `step_ns` nanoseconds one after the other.
    #[must_use]
    fn through(self, states: &[TcpState], step_ns: u64) -> Self {
        self.timed(states, |_| step_ns)
    }

    /// The states that it passed through until its end, with times as [`transitions`] has them.
    #[must_use]
    fn timed(self, states: &[TcpState], before: impl FnMut(usize) -> u64) -> Self {
        self.with(|connection| connection.transitions = transitions(states, connection.end_ns, before))
    }

    /// The process that called connect, or that accept returned to.
    #[must_use]
    fn opened_by(self, opener: impl Into<Option<Owner>>) -> Self {
        self.with(|connection| connection.opener = opener.into())
    }

    /// The process that sent this host's FIN or aborted.
    #[must_use]
    fn closed_by(self, closer: impl Into<Option<Owner>>) -> Self {
        self.with(|connection| connection.closer = closer.into())
    }

    /// Payload, bytes: acknowledged by the peer, and received.
    #[must_use]
    fn bytes(self, sent: u64, received: u64) -> Self {
        self.with(|connection| (connection.bytes_sent, connection.bytes_received) = (sent, received))
    }

    /// Segments that were sent again.
    #[must_use]
    fn retransmitted(self, segments: u32) -> Self {
        self.with(|connection| connection.retransmits = segments)
    }

    /// The peer's FIN was received (`SOCK_DONE`).
    #[must_use]
    fn peer_done(self, is_done: bool) -> Self {
        self.with(|connection| connection.sock_done = is_done)
    }

    /// How its local side was chosen.
    #[must_use]
    fn bound(self, binding: Binding) -> Self {
        self.with(|connection| connection.binding = binding)
    }

    /// What became of its timewait socket, and the kernel's count of these around its end.
    #[must_use]
    fn timewait(self, timewait: impl Into<Option<Timewait>>, count: impl Into<Option<TwCount>>) -> Self {
        self.with(|connection| (connection.timewait, connection.tw) = (timewait.into(), count.into()))
    }
}

impl BuildConnection for Connection {
    fn with(mut self, change: impl FnOnce(&mut Connection)) -> Self {
        change(&mut self);
        self
    }

    fn event(self) -> Event {
        Event::Connection(Box::new(self))
    }
}
