//! Derives the outcome of a connection from its facts: which of the kernel's paths to CLOSE it took.

use crate::event::{Connection, Role, TcpState, Timewait};
use crate::summary::{Provenance, Substate};

/// `EPIPE`: the error that the kernel sets for a reset received after the peer's FIN (`tcp_reset`).
const EPIPE: u16 = 32;
/// `EADDRNOTAVAIL`.
const EADDRNOTAVAIL: u16 = 99;
/// `ECONNABORTED`: `ss -K` and other aborts by the administrator (`tcp_abort`).
const ECONNABORTED: u16 = 103;
/// `ECONNRESET`.
const ECONNRESET: u16 = 104;

/// TIME_WAIT sockets that other CPUs may create or free between two instructions of one CPU, a generous bound.
const RACE: u32 = 64;

/// Two transitions within one kernel call are closer together than this.
const SAME_CALL_NS: u64 = 50_000;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A TIME_WAIT socket took over (`tcp_time_wait`); this host sent its FIN first.
    TimeWait(Substate),
    /// The peer closed first and acknowledged our FIN: LAST_ACK -> CLOSE.
    PassiveClose,
    /// This host sent a reset, but the owner did not abort: data arrived after close, keepalive, `ss -K`.
    ResetSent,
    /// The peer sent a reset.
    ResetReceived,
    /// The owner aborted the connection with a reset: SO_LINGER 0 (`linger`), else close with unread data
    /// or connect(AF_UNSPEC).
    Abort {
        /// SO_LINGER was on.
        linger: bool,
    },
    /// connect failed with this errno.
    ConnectFailed(u16),
    /// connect found no free ephemeral port to this destination (EADDRNOTAVAIL after SYN_SENT with no
    /// local port chosen).
    NoPort,
    /// Closed by its owner before the handshake completed.
    Abandoned,
    /// The kernel gave up: retransmission or keepalive timeout, or an ICMP error; the errno says which.
    Broken(u16),
    /// A TIME_WAIT socket was due but overflowed: the bucket limit, or no memory (`TCPTimeWaitOverflow`).
    Overflow,
    /// The facts are not sufficient to decide.
    Unknown,
}

impl Outcome {
    /// Stable name for JSON and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::TimeWait(Substate::TimeWait) => "time_wait",
            Self::TimeWait(Substate::FinWait2) => "fin_wait2_timewait",
            Self::PassiveClose => "passive_close",
            Self::ResetSent => "reset_sent",
            Self::ResetReceived => "reset_received",
            Self::Abort { linger: true } => "linger_abort",
            Self::Abort { linger: false } => "unread_abort",
            Self::ConnectFailed(_) => "connect_failed",
            Self::NoPort => "no_port",
            Self::Abandoned => "abandoned",
            Self::Broken(_) => "broken",
            Self::Overflow => "overflow",
            Self::Unknown => "unknown",
        }
    }
}

/// An outcome and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified {
    /// The outcome.
    pub outcome: Outcome,
    /// Exact or inferred.
    pub known: Provenance,
}

impl Classified {
    fn exact(outcome: Outcome) -> Self {
        Self { outcome, known: Provenance::Exact }
    }

    fn inferred(outcome: Outcome) -> Self {
        Self { outcome, known: Provenance::Inferred }
    }
}

/// Classifies by the last transition, which always ends in CLOSE, and by the socket's fields at that moment.
pub fn classify(connection: &Connection) -> Classified {
    let Some(last) = connection.transitions.last() else { return Classified::inferred(Outcome::Unknown) };
    // Nothing is inferred where the kernel's action was seen.
    match connection.timewait {
        Some(Timewait::Created { fin_wait2 }) => {
            let substate = if fin_wait2 { Substate::FinWait2 } else { Substate::TimeWait };
            return Classified::exact(Outcome::TimeWait(substate));
        }
        Some(Timewait::Overflowed) => return Classified::exact(Outcome::Overflow),
        None => {}
    }
    if connection.end_unseen {
        return Classified::inferred(unseen(last.to));
    }
    if connection.no_fields {
        return Classified::inferred(without_fields(connection, last.from));
    }
    match last.from {
        TcpState::SynSent => unconnected(connection),
        TcpState::SynRecv if connection.role == Role::Active => unconnected(connection),
        TcpState::Established | TcpState::CloseWait | TcpState::SynRecv => aborted(connection),
        TcpState::FinWait1 => by_error(connection).unwrap_or_else(|| {
            if connection.rst_sent {
                Classified::exact(Outcome::ResetSent)
            } else {
                // tcp_rcv_state_process() went to CLOSE without an error: data after close, or linger2 < 0. The reset
                // follows later.
                Classified::inferred(Outcome::Unknown)
            }
        }),
        TcpState::FinWait2 => by_error(connection).unwrap_or_else(|| fin_wait2(connection)),
        TcpState::Closing => by_error(connection).unwrap_or_else(|| created(connection, Substate::TimeWait)),
        TcpState::LastAck => by_error(connection).unwrap_or(Classified::exact(Outcome::PassiveClose)),
        TcpState::TimeWait | TcpState::Close | TcpState::Listen | TcpState::NewSynRecv => {
            Classified::inferred(Outcome::Unknown)
        }
    }
}

/// The outcome once this host is known to have sent a reset right after CLOSE; `None` when it does not change.
///
/// A reset is never answered with a reset (RFC 9293 section 3.5.2), so an end that looked like the peer's reset was
/// ours: data after close sets the same error (`tcp_reset`). An abort by the owner also sends its reset after CLOSE.
pub fn after_reset_sent(outcome: Outcome) -> Option<Outcome> {
    matches!(outcome, Outcome::TimeWait(_) | Outcome::Unknown | Outcome::ResetReceived).then_some(Outcome::ResetSent)
}

/// The usual outcome from a state, where the deciding fields were not read.
fn without_fields(connection: &Connection, from: TcpState) -> Outcome {
    match from {
        TcpState::SynSent if connection.tuple.local_port == 0 => Outcome::NoPort,
        // A socket that its owner had closed leaves FIN_WAIT2 in the same call that entered it. One that stays had
        // only been shut down, and the peer's FIN ended it.
        TcpState::FinWait2 => {
            let stayed =
                connection.transitions.windows(2).last().map_or(0, |pair| pair[1].at_ns.saturating_sub(pair[0].at_ns));
            Outcome::TimeWait(if stayed > SAME_CALL_NS { Substate::TimeWait } else { Substate::FinWait2 })
        }
        TcpState::Closing => Outcome::TimeWait(Substate::TimeWait),
        TcpState::LastAck => Outcome::PassiveClose,
        _ => Outcome::Unknown,
    }
}

/// The usual outcome of a socket that was last seen in that state.
fn unseen(state: TcpState) -> Outcome {
    match state {
        TcpState::FinWait1 | TcpState::FinWait2 => Outcome::TimeWait(Substate::FinWait2),
        TcpState::Closing => Outcome::TimeWait(Substate::TimeWait),
        TcpState::LastAck => Outcome::PassiveClose,
        _ => Outcome::Unknown,
    }
}

/// The handshake did not complete.
fn unconnected(connection: &Connection) -> Classified {
    let errno = if connection.connect_errno != 0 { connection.connect_errno } else { connection.sk_err };
    // tcp_v4_connect() sets SYN_SENT before it looks for a port (`inet_hash_connect`).
    let portless = connection.tuple.local_port == 0;
    match errno {
        EADDRNOTAVAIL if portless => Classified::exact(Outcome::NoPort),
        0 if portless && !connection.connect_exit => Classified::inferred(Outcome::NoPort),
        0 if connection.closed_in_context => Classified::exact(Outcome::Abandoned),
        0 => Classified::inferred(Outcome::Unknown),
        errno => Classified::exact(Outcome::ConnectFailed(errno)),
    }
}

/// From ESTABLISHED or CLOSE_WAIT straight to CLOSE.
fn aborted(connection: &Connection) -> Classified {
    by_error(connection).unwrap_or_else(|| {
        if connection.closed_in_context {
            Classified::exact(Outcome::Abort { linger: connection.sock_linger })
        } else {
            Classified::inferred(Outcome::Unknown)
        }
    })
}

/// What a socket error at CLOSE means; `None` without one.
fn by_error(connection: &Connection) -> Option<Classified> {
    Some(Classified::exact(match connection.sk_err {
        0 => return None,
        EPIPE | ECONNRESET if connection.rst_sent => Outcome::ResetSent,
        EPIPE | ECONNRESET => Outcome::ResetReceived,
        ECONNABORTED => Outcome::ResetSent,
        errno => Outcome::Broken(errno),
    }))
}

fn fin_wait2(connection: &Connection) -> Classified {
    if connection.rst_sent {
        Classified::exact(Outcome::ResetSent)
    } else if connection.sock_done {
        // tcp_fin(): the peer's FIN was received.
        created(connection, Substate::TimeWait)
    } else if connection.sock_dead {
        // The application had closed: the TIME_WAIT socket in FIN_WAIT2 waits for the peer's FIN.
        created(connection, Substate::FinWait2)
    } else {
        Classified::inferred(Outcome::ResetSent)
    }
}

/// A TIME_WAIT socket was due: was there room? `inet_twsk_alloc` fails when the count has reached the limit.
fn created(connection: &Connection, substate: Substate) -> Classified {
    let outcome = Outcome::TimeWait(substate);
    let Some(tw) = connection.tw else {
        return if connection.gap { Classified::inferred(outcome) } else { Classified::exact(outcome) };
    };
    // Other CPUs create and free TIME_WAIT sockets between the reading and the allocation: right at the limit, one
    // reading proves nothing.
    let sure = |count: u32| count.abs_diff(tw.max) >= RACE;
    // Without a reading from before, a table that is full afterwards was more likely full already than filled by this
    // very socket.
    let overflow = tw.before.unwrap_or(tw.after) >= tw.max;
    let outcome = if overflow { Outcome::Overflow } else { outcome };
    if sure(tw.before.unwrap_or(tw.after)) { Classified::exact(outcome) } else { Classified::inferred(outcome) }
}
