//! Calls that failed because there was no free address or port: in order, with their cause in words.

use crate::{label, text};
use std::collections::HashMap;
use twtrace_core::failure::{Call, Cause, FailureKind, FailureRow};
use twtrace_core::snapshot::Snapshot;
use twtrace_core::snapshot::{DestKey, DestRow, DestinationRow, Window};

/// Failures of one kind of one process, with what the rest of the model says about them.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was counted.
    pub row: FailureRow,
    /// Whether TIME_WAIT sockets were the cause; `None` if nothing decides. *Inferred* where ports ran out.
    pub is_time_wait: Option<bool>,
}

/// All failures of a model, the most first.
pub fn of(model: &Snapshot) -> Vec<Failure> {
    let mut rows: Vec<&FailureRow> = model.failures().iter().collect();
    if rows.is_empty() {
        return Vec::new();
    }
    rows.sort_unstable_by_key(|row| {
        let who = row.owner.map(|owner| owner.key);
        (std::cmp::Reverse(row.count), row.first_ns, who, row.destination, row.call, row.errno, row.cause)
    });
    let destinations: HashMap<DestRow, &DestinationRow> =
        model.destinations().iter().map(|row| (row.key, row)).collect();
    let failure = |row: &FailureRow| Failure { row: row.clone(), is_time_wait: is_time_wait(row, &destinations) };
    rows.into_iter().map(failure).collect()
}

/// Whether TIME_WAIT sockets were the cause.
fn is_time_wait(row: &FailureRow, destinations: &HashMap<DestRow, &DestinationRow>) -> Option<bool> {
    let key = row.destination?;
    match row.cause {
        Cause::ForeignSource | Cause::NoSource | Cause::PortInUse | Cause::ConnectionHoldsPort => Some(false),
        Cause::TimewaitHoldsPort | Cause::ClientTimewaitHoldsPort => Some(true),
        Cause::DestinationExhausted => destinations.get(&DestRow::Dest(key))?.exhausted?.is_time_wait(),
        // For a socket's own port range, the owners of its ports were not counted.
        Cause::SocketRangeExhausted => {
            (destinations.get(&DestRow::Dest(key))?.counts.time_wait_live_peak == 0).then_some(false)
        }
        Cause::BoundPoolExhausted => row.time_wait,
        // The type of socket that has the tuple was not seen.
        Cause::BoundTupleTaken | Cause::Unknown => None,
    }
}

impl Failure {
    /// The process, clean.
    pub fn who(&self) -> String {
        let owner = self.row.owner.as_ref();
        owner.map_or_else(|| "(others)".to_owned(), |owner| label::process(&owner.comm, owner.key.tgid))
    }

    /// What an operator calls the process, clean.
    pub fn program(&self, snapshot: &Snapshot) -> String {
        let Some(owner) = &self.row.owner else { return self.who() };
        label::program_and_pid(&text::lossless(owner.comm.bytes()), owner.key.tgid, snapshot.facts(owner.key))
    }

    /// Destination, or the requested local port.
    pub fn place(&self) -> String {
        match (&self.row.destination, self.row.call) {
            (Some(key), Call::Connect) => label::place(key),
            (Some(DestKey { local_addr, port: 0, .. }), Call::Bind) => format!("{local_addr}, any port"),
            (Some(key), Call::Bind) => text::address(key.local_addr, key.port),
            (None, _) => "(others)".to_owned(),
        }
    }

    /// The call and its error: `connect EADDRNOTAVAIL`.
    pub fn call(&self) -> String {
        format!("{} {}", call(self.row.call), text::errno(self.row.errno))
    }

    /// The verdict in words; empty if nothing decides.
    pub fn verdict(&self) -> &'static str {
        match self.is_time_wait {
            Some(true) => "this is TIME_WAIT",
            Some(false) => "this is not TIME_WAIT",
            None => "",
        }
    }
}

/// Wall clock of a moment of the trace, nanoseconds since the Unix epoch.
pub fn unix_ns(window: &Window, at_ns: u64) -> i128 {
    window.start_unix_ns + i128::from(at_ns) - i128::from(window.start_ns)
}

/// The call's name.
pub fn call(call: Call) -> &'static str {
    match call {
        Call::Connect => "connect",
        Call::Bind => "bind",
    }
}

/// What a call failed for, in a few words.
pub fn kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::NoPort => "no free port",
        FailureKind::PortTaken => "port taken",
        FailureKind::NoAddress => "no usable address",
        FailureKind::Refused => "refused by the peer",
        FailureKind::TimedOut => "no answer",
        FailureKind::Other => "other errors",
    }
}

/// A cause in words.
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::DestinationExhausted => "no free port is left for this destination",
        Cause::SocketRangeExhausted => "no free port is left in the socket's own IP_LOCAL_PORT_RANGE",
        Cause::BoundPoolExhausted => "every port of the range is bound",
        Cause::BoundTupleTaken => {
            "the port was bound before, and a connection with the same addresses and ports exists"
        }
        Cause::ForeignSource => "the source address is not one of this host's",
        Cause::NoSource => "no route has a usable source address",
        Cause::PortInUse => "another socket listens on this port or is bound to it",
        Cause::ConnectionHoldsPort => "an open connection has this port",
        Cause::TimewaitHoldsPort => "TIME_WAIT sockets of earlier connections use this port",
        Cause::ClientTimewaitHoldsPort => "the TIME_WAIT socket of an outgoing connection uses this port",
        Cause::Unknown => "what was seen does not show the cause",
    }
}
