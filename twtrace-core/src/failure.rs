//! Why no address or port was available: each EADDRNOTAVAIL, and each EADDRINUSE of bind(2), by its cause.

use crate::event::{Owner, ProcessKey};
use crate::keys::DestKey;
use crate::table::Map;
use std::net::IpAddr;
use strum::VariantArray as _;

/// Why.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, serde::Serialize, serde::Deserialize,
)]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// connect found no free port to its destination.
    DestinationExhausted,
    /// The same, within the socket's own IP_LOCAL_PORT_RANGE.
    SocketRangeExhausted,
    /// bind with port 0 found no port: all are bound.
    BoundPoolExhausted,
    /// connect from a port that was bound before: a connection with the same addresses and ports exists.
    BoundTupleTaken,
    /// bind: the address is not one of this host's.
    ForeignSource,
    /// connect: no route has a usable source address.
    NoSource,
    /// bind to a port that another socket listens on or has bound.
    PortInUse,
    /// bind to a port that nothing listens on, and that an open connection has.
    ConnectionHoldsPort,
    /// bind to a port that only TIME_WAIT sockets use: without SO_REUSEADDR, or their connections had none.
    TimewaitHoldsPort,
    /// The same, and an outgoing connection left one of them. SO_REUSEADDR helps only where that connection had it as well
    /// (`inet_bind_conflict`), which clients hardly ever do.
    ClientTimewaitHoldsPort,
    /// Nothing that was seen shows the cause.
    Unknown,
}

impl Cause {
    /// Stable name for JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// `ECONNREFUSED`.
const ECONNREFUSED: u16 = 111;
/// `ETIMEDOUT`.
const ETIMEDOUT: u16 = 110;

/// What a call of connect or bind failed for: few enough to count each of them over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray, serde::Serialize, serde::Deserialize)]
pub enum FailureKind {
    /// No port was free: for the destination, in the socket's own range, or for any bind.
    NoPort,
    /// Something has the port that was asked for.
    PortTaken,
    /// No address of this host could be used.
    NoAddress,
    /// The peer refused the connection.
    Refused,
    /// The peer did not answer.
    TimedOut,
    /// Any other error.
    Other,
}

/// How many kinds there are.
pub const FAILURE_KINDS: usize = FailureKind::VARIANTS.len();

impl FailureKind {
    /// All of them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// By the error alone, where no cause was looked for.
    pub(crate) fn of_errno(errno: u16) -> Self {
        match errno {
            ECONNREFUSED => Self::Refused,
            ETIMEDOUT => Self::TimedOut,
            _ => Self::Other,
        }
    }
}

impl From<Cause> for FailureKind {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::DestinationExhausted | Cause::SocketRangeExhausted | Cause::BoundPoolExhausted => Self::NoPort,
            Cause::BoundTupleTaken
            | Cause::PortInUse
            | Cause::ConnectionHoldsPort
            | Cause::TimewaitHoldsPort
            | Cause::ClientTimewaitHoldsPort => Self::PortTaken,
            Cause::ForeignSource | Cause::NoSource => Self::NoAddress,
            Cause::Unknown => Self::Other,
        }
    }
}

/// Which call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// connect(2).
    Connect,
    /// bind(2).
    Bind,
}

/// What keeps bind(2) from a port: the TIME_WAIT socket that lasts the longest, or an open connection.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// The process that opened its connection, or if that is not known, the one that closed it.
    pub owner: Option<Owner>,
    /// Its peer.
    pub remote: (IpAddr, u16),
    /// When the timer of a TIME_WAIT socket runs out, monotonic nanoseconds; 0 for an open connection.
    pub expires_ns: u64,
}

/// Failures of one kind of one process.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FailureRow {
    /// The process; `None` for failures that found no room, counted together.
    pub owner: Option<Owner>,
    /// The destination; for bind, the requested local side, as [`Role::Passive`](crate::event::Role::Passive).
    pub destination: Option<DestKey>,
    /// Which call.
    pub call: Call,
    /// Positive errno.
    pub errno: u16,
    /// Why.
    pub cause: Cause,
    /// How many.
    pub count: u64,
    /// For bind with port 0: whether TIME_WAIT sockets had the ports, as counted at one of the failures. `None` when
    /// the count is not conclusive, and for other calls.
    pub time_wait: Option<bool>,
    /// What has the port, at the last failure.
    pub holder: Option<Holder>,
    /// For bind: no process has the socket open that has the port, by a whole search of them between a census that listed
    /// it and the last failure. So it is the kernel's own.
    pub no_process_has_it: bool,
    /// A failure from this time on triggers another count.
    pub(crate) due_ns: u64,
    /// The first, monotonic nanoseconds.
    pub first_ns: u64,
    /// The last.
    pub last_ns: u64,
}

/// Kinds of failures counted separately. When full, further kinds are counted together, without a process.
const ROWS: usize = 4096;

/// What identifies a kind of failure: process, destination, call, errno, cause.
type Key = (Option<ProcessKey>, Option<DestKey>, Call, u16, Cause);

/// All failures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures {
    pub(crate) rows: Map<Key, FailureRow>,
}

impl Failures {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &FailureRow> {
        self.rows.values()
    }

    /// Counts one.
    pub(crate) fn add(
        &mut self,
        owner: &Owner,
        destination: DestKey,
        call: Call,
        errno: u16,
        cause: Cause,
        at_ns: u64,
    ) -> &mut FailureRow {
        let mut key = (Some(owner.key), Some(destination), call, errno, cause);
        let mut of = Some(*owner);
        if self.rows.len() >= ROWS && !self.rows.contains_key(&key) {
            key = (None, None, call, errno, cause);
            of = None;
        }
        let row = self.rows.entry(key).or_insert(FailureRow {
            owner: of,
            destination: key.1,
            call,
            errno,
            cause,
            count: 0,
            time_wait: None,
            holder: None,
            no_process_has_it: false,
            due_ns: 0,
            first_ns: at_ns,
            last_ns: at_ns,
        });
        row.count += 1;
        row.first_ns = row.first_ns.min(at_ns);
        row.last_ns = row.last_ns.max(at_ns);
        row
    }

    /// Resets what was counted.
    pub(crate) fn restart(&mut self) {
        self.rows.clear();
    }
}
