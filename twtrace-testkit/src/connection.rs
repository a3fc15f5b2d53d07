//! Connections that ended.

use crate::{MICROSECOND_NS, MILLISECOND_NS};
use twtrace_core::event::{Binding, Connection, Event, Owner, Role, TcpState, Timewait, Transition, Tuple, TwCount};

/// A connection that its owner opened and closed first, 4 microseconds long and without payload: CLOSE, SYN_SENT,
/// ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE, the last at `end_ns`. `SOCK_DEAD` is set, as for every socket that its
/// process has closed.
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

/// A [`connection`] of 8 milliseconds with a request of 100 bytes and an answer of 2,000; the peer has closed too.
pub fn answered(cookie: u64, who: Owner, tuple: Tuple, end_ns: u64) -> Connection {
    connection(cookie, who, tuple, end_ns)
        .usual(Role::Active, true, 2 * MILLISECOND_NS)
        .peer_done(true)
        .bytes(100, 2_000)
}

/// The states of a connection that did not fail: opened or accepted by this host, and closed first by this host or by
/// the peer.
pub fn states(role: Role, closes_first: bool) -> [TcpState; 6] {
    use TcpState::{Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
    let [first, second] = if role == Role::Active { [Close, SynSent] } else { [Listen, SynRecv] };
    let [fourth, fifth] = if closes_first { [FinWait1, FinWait2] } else { [CloseWait, LastAck] };
    [first, second, Established, fourth, fifth, Close]
}

/// Transitions through these states, `step_ns` nanoseconds apart, the last at `end_ns`.
pub fn path(states: &[TcpState], end_ns: u64, step_ns: u64) -> Vec<Transition> {
    transitions(states, end_ns, |_| step_ns)
}

/// Transitions through these states, the last at `end_ns`. For each, from the last back to the first, `before` takes
/// its number, from 0, and returns how many nanoseconds it is later than the one before it.
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

/// Changes the fields in which a connection differs from the usual one.
pub trait BuildConnection: Sized {
    /// Changes any of its fields.
    #[must_use]
    fn with(self, change: impl FnOnce(&mut Connection)) -> Self;

    /// The event of its end.
    fn event(self) -> Event;

    /// Which side opened it. Its states do not change: see [`BuildConnection::usual`].
    #[must_use]
    fn role(self, role: Role) -> Self {
        self.with(|connection| connection.role = role)
    }

    /// A connection that did not fail: its role, whether this host closed first, and nanoseconds between two states.
    #[must_use]
    fn usual(self, role: Role, closes_first: bool, step_ns: u64) -> Self {
        self.role(role).through(&states(role, closes_first), step_ns)
    }

    /// The states that it passed through until its end, `step_ns` nanoseconds apart.
    #[must_use]
    fn through(self, states: &[TcpState], step_ns: u64) -> Self {
        self.timed(states, |_| step_ns)
    }

    /// The states that it passed through until its end, with times as in [`transitions`].
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

    /// Number of retransmitted segments.
    #[must_use]
    fn retransmitted(self, segments: u32) -> Self {
        self.with(|connection| connection.retransmits = segments)
    }

    /// The peer's FIN was received (`SOCK_DONE`).
    #[must_use]
    fn peer_done(self, is_done: bool) -> Self {
        self.with(|connection| connection.sock_done = is_done)
    }

    /// How its local address and port were chosen.
    #[must_use]
    fn bound(self, binding: Binding) -> Self {
        self.with(|connection| connection.binding = binding)
    }

    /// What became of its TIME_WAIT socket, and the kernel's count of TIME_WAIT sockets around its end.
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
