//! A connection that has ended, kept for later corrections.

use crate::classify::Outcome;
use crate::event::{Connection, Role, TcpState, Tuple};
use crate::keys::{DestKey, DestRow};
use crate::table::RowRef;

/// An ended connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClosedConnection {
    pub(crate) cookie: u64,
    pub(crate) end_ns: u64,
    pub(crate) outcome: Outcome,
    pub(crate) tuple: Tuple,
    pub(crate) role: Role,
    pub(crate) closer: u32,
    pub(crate) opener: u32,
    pub(crate) destination: RowRef,
    pub(crate) older: bool,
    pub(crate) attributed: bool,
    /// A kernel thread closed it, on behalf of its opener most likely.
    pub(crate) by_kernel: bool,
    pub(crate) shown: bool,
    /// Its port was bound before it connected.
    pub(crate) bound: bool,
    /// Whether the peer sent timestamps, where that is known.
    pub(crate) peer_timestamps: Option<bool>,
}

impl ClosedConnection {
    /// Whether it was counted among the resets.
    pub(crate) fn counts_as_reset(&self) -> bool {
        matches!(self.outcome, Outcome::ResetSent | Outcome::ResetReceived | Outcome::Abort { .. })
    }

    /// The process whose use of connections it shows: the one that opened it, which need not be the one that
    /// closed it.
    pub(crate) fn user(&self) -> u32 {
        if self.role == Role::Active && self.opener != super::owners::UNKNOWN { self.opener } else { self.main() }
    }

    /// Figures of neither side in particular go to the closer, else to the opener.
    pub(crate) fn main(&self) -> u32 {
        if self.closer == super::owners::UNKNOWN { self.opener } else { self.closer }
    }
}

/// The destination that a connection belongs to.
pub(crate) fn destination(tuple: &Tuple, role: Role) -> DestRow {
    DestRow::Dest(destination_key(tuple, role))
}

/// The same, as a [`DestKey`].
pub(crate) fn destination_key(tuple: &Tuple, role: Role) -> DestKey {
    let (remote_addr, port) = match role {
        Role::Active | Role::Unknown => (Some(tuple.remote_addr), tuple.remote_port),
        Role::Passive => (None, tuple.local_port),
    };
    DestKey { netns: tuple.netns, role, local_addr: tuple.local_addr, remote_addr, port }
}

/// Whether a census may show a TIME_WAIT socket, whatever the connection was classified as.
pub(crate) fn may_be_in_time_wait(connection: &Connection) -> bool {
    connection.transitions.last().is_some_and(|last| matches!(last.from, TcpState::FinWait2 | TcpState::Closing))
}
