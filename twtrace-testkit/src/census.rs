//! What the kernel's own list of sockets says. Times are monotonic nanoseconds.

use crate::MILLISECOND_NS;
use twtrace_core::event::{CensusRow, CensusState, Event, Owner, SocketOwner, Tuple};

/// `/proc` tells the start of a process in steps of so many nanoseconds.
const START_STEP_NS: u64 = 10 * MILLISECOND_NS;

/// One socket. `expires_ms` is how many milliseconds the timer of a timewait socket has left.
pub fn census_row(cookie: u64, tuple: Tuple, state: CensusState, expires_ms: u32) -> CensusRow {
    CensusRow { cookie, tuple, state, expires_ms }
}

/// All sockets of a network namespace: a complete census that takes a millisecond.
pub fn census(netns: u32, at_ns: u64, rows: Vec<CensusRow>) -> [Event; 3] {
    [
        Event::SocketDumpBegin { netns, at_ns, whole: true },
        Event::SocketDump(rows),
        Event::SocketDumpEnd { at_ns: at_ns + MILLISECOND_NS, complete: true },
    ]
}

/// So many sockets of a process with these addresses; those of each local port are counted together where it is 0.
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

/// All owners of sockets, by a search that ended then and left nobody out.
pub fn socket_owners(at_ns: u64, rows: Vec<SocketOwner>) -> Event {
    Event::SocketOwners { at_ns, complete: true, rows }
}
