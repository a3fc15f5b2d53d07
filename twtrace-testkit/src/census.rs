//! Censuses: the kernel's own list of sockets. Times are monotonic nanoseconds.

use crate::MILLISECOND_NS;
use twtrace_core::event::{CensusRow, CensusState, Event, Owner, SocketOwner, Tuple};

/// Resolution of process start times in `/proc`, nanoseconds.
const START_STEP_NS: u64 = 10 * MILLISECOND_NS;

/// One socket. `expires_ms` is the time left on the timer of a TIME_WAIT socket, milliseconds.
pub fn census_row(cookie: u64, tuple: Tuple, state: CensusState, expires_ms: u32) -> CensusRow {
    CensusRow { cookie, tuple, state, expires_ms, backlog: 0 }
}

/// All sockets of a network namespace: a complete census that takes one millisecond.
pub fn census(netns: u32, at_ns: u64, rows: Vec<CensusRow>) -> [Event; 3] {
    [
        Event::SocketDumpBegin { netns, at_ns, whole: true },
        Event::SocketDump(rows),
        Event::SocketDumpEnd { at_ns: at_ns + MILLISECOND_NS, complete: true },
    ]
}

/// This many sockets of a process with these addresses. A local port of 0 counts the sockets of all local ports
/// together.
pub fn socket_owner(who: &Owner, state: CensusState, tuple: Tuple, sockets: u64) -> SocketOwner {
    SocketOwner {
        tgid: who.key.tgid,
        start_ns: who.key.start_ns / START_STEP_NS * START_STEP_NS,
        command: String::from_utf8_lossy(who.comm.bytes()).into_owned(),
        uid: who.uid,
        netns: tuple.netns,
        state,
        local_addr: tuple.local_addr,
        local_port: tuple.local_port,
        remote_addr: tuple.remote_addr,
        remote_port: tuple.remote_port,
        sockets,
    }
}

/// All owners of sockets, from a complete search that ended at `at_ns`.
pub fn socket_owners(at_ns: u64, rows: Vec<SocketOwner>) -> Event {
    Event::SocketOwners { at_ns, complete: true, rows }
}
