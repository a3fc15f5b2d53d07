//! The words that recordings use for enumerated values.

use arrow_array::builder::StringBuilder;
use std::fmt::Write as _;
use std::net::IpAddr;
use twtrace_core::event::{Connection, Role, TcpState, Timewait, TimewaitCause, Transition};

/// Defines the words of a type, in both directions.
macro_rules! words {
    ($word:ident, $parse:ident, $type:ty, $($value:pat => $text:literal => $parsed:expr,)*) => {
        pub(super) fn $word(value: $type) -> &'static str {
            match value { $($value => $text),* }
        }

        pub(super) fn $parse(word: &str) -> Option<$type> {
            match word { $($text => Some($parsed),)* _ => None }
        }
    };
}

words!(role, parse_role, Role,
    Role::Active => "active" => Role::Active,
    Role::Passive => "passive" => Role::Passive,
    Role::Unknown => "unknown" => Role::Unknown,
);

words!(cause, parse_cause, TimewaitCause,
    TimewaitCause::Expired => "expired" => TimewaitCause::Expired,
    TimewaitCause::Reused => "reused" => TimewaitCause::Reused,
    TimewaitCause::EndedEarly => "ended_early" => TimewaitCause::EndedEarly,
);

words!(timewait, parse_timewait, Timewait,
    Timewait::Created { fin_wait2: false } => "time_wait" => Timewait::Created { fin_wait2: false },
    Timewait::Created { fin_wait2: true } => "fin_wait2" => Timewait::Created { fin_wait2: true },
    Timewait::Overflowed => "overflowed" => Timewait::Overflowed,
);

words!(state, parse_state, TcpState,
    TcpState::Established => "ESTABLISHED" => TcpState::Established,
    TcpState::SynSent => "SYN_SENT" => TcpState::SynSent,
    TcpState::SynRecv => "SYN_RECV" => TcpState::SynRecv,
    TcpState::FinWait1 => "FIN_WAIT1" => TcpState::FinWait1,
    TcpState::FinWait2 => "FIN_WAIT2" => TcpState::FinWait2,
    TcpState::TimeWait => "TIME_WAIT" => TcpState::TimeWait,
    TcpState::Close => "CLOSE" => TcpState::Close,
    TcpState::CloseWait => "CLOSE_WAIT" => TcpState::CloseWait,
    TcpState::LastAck => "LAST_ACK" => TcpState::LastAck,
    TcpState::Listen => "LISTEN" => TcpState::Listen,
    TcpState::Closing => "CLOSING" => TcpState::Closing,
    TcpState::NewSynRecv => "NEW_SYN_RECV" => TcpState::NewSynRecv,
);

/// Transitions as `CLOSE>SYN_SENT>ESTABLISHED`; where one does not begin in the state in which the last one ended, a
/// `|` is in between.
pub(super) fn write_path(transitions: &[Transition], out: &mut StringBuilder) {
    let mut path = String::new();
    let mut last = None;
    for transition in transitions {
        if last != Some(transition.from) {
            if last.is_some() {
                path.push('|');
            }
            path.push_str(state(transition.from));
        }
        path.push('>');
        path.push_str(state(transition.to));
        last = Some(transition.to);
    }
    out.append_value(path);
}

/// States before and after each transition.
pub(super) type Path = Vec<(TcpState, TcpState)>;

/// The states of a path.
pub(super) fn parse_path(text: &str) -> Option<Path> {
    let mut path = Vec::new();
    for unbroken in text.split('|').filter(|unbroken| !unbroken.is_empty()) {
        let mut states = unbroken.split('>').map(parse_state);
        let mut from = states.next()??;
        for to in states {
            path.push((from, to?));
            from = to?;
        }
    }
    Some(path)
}

/// An address.
pub(super) fn write_address(address: IpAddr, out: &mut StringBuilder) {
    // Writing to memory does not fail.
    let _ = write!(out, "{address}");
    out.append_value("");
}

/// The name of a connection flag, with functions to read and set it.
type ConnectionFlag = (&'static str, fn(&Connection) -> bool, fn(&mut Connection));

const LIFE_FLAGS: [ConnectionFlag; 16] = [
    ("established", |connection| connection.established, |connection| connection.established = true),
    ("older", |connection| connection.older, |connection| connection.older = true),
    ("gap", |connection| connection.gap, |connection| connection.gap = true),
    ("end_unseen", |connection| connection.end_unseen, |connection| connection.end_unseen = true),
    ("no_fields", |connection| connection.no_fields, |connection| connection.no_fields = true),
    ("sock_dead", |connection| connection.sock_dead, |connection| connection.sock_dead = true),
    ("sock_done", |connection| connection.sock_done, |connection| connection.sock_done = true),
    ("sock_linger", |connection| connection.sock_linger, |connection| connection.sock_linger = true),
    ("rst_sent", |connection| connection.rst_sent, |connection| connection.rst_sent = true),
    ("closed_in_context", |connection| connection.closed_in_context, |connection| connection.closed_in_context = true),
    ("connect_exit", |connection| connection.connect_exit, |connection| connection.connect_exit = true),
    ("bound_port", |connection| connection.binding.port, |connection| connection.binding.port = true),
    ("bound_address", |connection| connection.binding.address, |connection| connection.binding.address = true),
    (
        "peer_timestamps",
        |connection| connection.peer_timestamps == Some(true),
        |connection| connection.peer_timestamps = Some(true),
    ),
    (
        "no_peer_timestamps",
        |connection| connection.peer_timestamps == Some(false),
        |connection| connection.peer_timestamps = Some(false),
    ),
    // Of a failed bind, which is not a connection.
    ("reuse", |_| false, |_| {}),
];

/// Flags of a connection or a failed bind, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ConnectionFlags(u16);

impl ConnectionFlags {
    /// Bit of `reuse`, the last.
    const REUSE: usize = LIFE_FLAGS.len() - 1;

    pub(super) fn of(connection: &Connection) -> Self {
        let bits = LIFE_FLAGS.iter().enumerate();
        Self(bits.fold(0, |bits, (bit, (_, is, _))| bits | u16::from(is(connection)) << bit))
    }

    /// Of a failed bind: whether SO_REUSEADDR was on.
    pub(super) fn of_bind(reuse: bool) -> Self {
        Self(u16::from(reuse) << Self::REUSE)
    }

    pub(super) fn is_reuse(self) -> bool {
        self.0 & 1 << Self::REUSE != 0
    }

    /// Sets them in a connection that has none.
    pub(super) fn set(self, connection: &mut Connection) {
        for (bit, (_, _, set)) in LIFE_FLAGS.iter().enumerate() {
            if self.0 & 1 << bit != 0 {
                set(connection);
            }
        }
    }

    /// Names with a space between.
    pub(super) fn write(self, out: &mut StringBuilder) {
        let names = LIFE_FLAGS.iter().enumerate().filter(|(bit, _)| self.0 & 1 << bit != 0);
        out.append_value(names.map(|(_, (name, ..))| *name).collect::<Vec<_>>().join(" "));
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let bits = text
            .split(' ')
            .filter(|name| !name.is_empty())
            .try_fold(0, |bits, name| Some(bits | 1 << LIFE_FLAGS.iter().position(|(known, ..)| *known == name)?));
        bits.map(Self)
    }
}
