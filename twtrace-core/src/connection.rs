//! From the facts of a socket life to its outcome: which of the kernel's ways to CLOSE was taken.

use crate::model::{Known, Substate};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A timewait socket took over (`tcp_time_wait`); this host sent its FIN first.
    TimeWait(Substate),
    /// The peer closed first and acknowledged our FIN: LAST_ACK -> CLOSE.
    PassiveClose,
    /// This host sent a reset, but not by an abort of its owner: data came after close, keepalive, `ss -K`.
    ResetSent,
    /// The peer sent a reset.
    ResetReceived,
    /// The owner threw the connection away with a reset: SO_LINGER 0 (`linger`), else close with unread data
    /// or connect(AF_UNSPEC).
    Abort {
        /// SO_LINGER was on.
        linger: bool,
    },
    /// connect failed with this errno.
    ConnectFailed(u16),
    /// connect found no free ephemeral port towards this destination (EADDRNOTAVAIL after SYN_SENT with no
    /// local port chosen).
    NoPort,
    /// Closed by its owner before the handshake ended.
    Abandoned,
    /// The kernel gave up: retransmission or keepalive timeout, or an ICMP error; the errno tells which.
    Broken(u16),
    /// A timewait socket was due but the bucket limit or memory refused it (`TCPTimeWaitOverflow`).
    Overflow,
    /// The facts do not decide.
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
pub struct Judgement {
    /// The outcome.
    pub outcome: Outcome,
    /// Exact or inferred.
    pub known: Known,
}
