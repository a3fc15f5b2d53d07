//! Reduces whole censuses to what has changed since the last one: a host may have a hundred thousand TIME_WAIT sockets,
//! and from one second to the next nearly all of them are unchanged.

use crate::event::{CensusRow, CensusState, Tuple};
use crate::table::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::net::IpAddr;

/// A timer that differs by no more than this has not changed: the kernel gives the remaining time in jiffies.
const SAME_NS: u64 = 1_000_000_000;

/// After this long without a complete census, the next one is reported whole.
const STALE_NS: u64 = 50_000_000_000;

/// Sockets remembered, over all namespaces. When full, the namespaces that do not fit are reported whole each time.
const SOCKETS: usize = 1 << 20;

/// Cookies with several sockets that are remembered. When full, the first socket of a further one stands for all.
const SHARED: usize = 1 << 16;

/// A socket as last reported.
#[derive(Clone, Copy, Debug)]
struct Reported {
    state: CensusState,
    ends: u16,
    expires_ns: u64,
    /// The last census that contained it.
    number: u32,
}

#[derive(Clone, Debug, Default)]
struct Space {
    sockets: Map<u64, Reported>,
    /// Cookies that more than one socket has: all of them are reported each time, until none is left.
    shared: HashSet<u64, FixedState>,
    number: u32,
    complete_ns: Option<u64>,
    overflowed: bool,
}

/// What has been reported for each namespace, so that only the differences are reported.
#[derive(Clone, Debug)]
pub struct Changes {
    spaces: Map<u32, Space>,
    sockets: usize,
    /// Cookies that several sockets have.
    shared: usize,
    limit: usize,
    /// Namespace and start time of the census in progress.
    running: Option<(u32, u64)>,
}

impl Default for Changes {
    fn default() -> Self {
        Self::new(SOCKETS)
    }
}

impl Changes {
    /// Remembers at most `limit` sockets.
    pub fn new(limit: usize) -> Self {
        Self { spaces: Map::default(), sockets: 0, shared: 0, limit, running: None }
    }

    /// A census begins at this monotonic time. Returns whether it will be reported whole (`SocketDumpBegin::whole`).
    pub fn begin(&mut self, netns: u32, at_ns: u64) -> bool {
        self.running = Some((netns, at_ns));
        let is_stale = |at: u64| at_ns.saturating_sub(at) > STALE_NS;
        let whole =
            self.spaces.get(&netns).is_none_or(|space| space.overflowed || space.complete_ns.is_none_or(is_stale));
        if whole {
            self.forget(netns);
        }
        let space = self.spaces.entry(netns).or_default();
        space.number = space.number.wrapping_add(1);
        whole
    }

    /// Removes the rows that were already reported.
    pub fn keep(&mut self, rows: &mut Vec<CensusRow>) {
        let Some((netns, begin_ns)) = self.running else { return };
        let Some(space) = self.spaces.get_mut(&netns) else { return };
        rows.retain(|row| {
            let expires_ns = begin_ns.saturating_add(u64::from(row.expires_ms) * 1_000_000);
            let reported = Reported { state: row.state, ends: ends(row), expires_ns, number: space.number };
            let Some(before) = space.sockets.get_mut(&row.cookie) else {
                if self.sockets < self.limit {
                    self.sockets += 1;
                    space.sockets.insert(row.cookie, reported);
                } else {
                    space.overflowed = true;
                }
                return true;
            };
            let is_another =
                before.number == space.number || before.state.is_timewait() && before.ends != reported.ends;
            if is_another && self.shared < SHARED {
                self.shared += usize::from(space.shared.insert(row.cookie));
            }
            if is_another || !space.shared.is_empty() && space.shared.contains(&row.cookie) {
                *before = reported;
                return true;
            }
            // An overdue timer carries no information.
            let overdue = row.expires_ms == 0 && before.expires_ns <= begin_ns;
            let same = before.state == row.state && (overdue || before.expires_ns.abs_diff(expires_ns) <= SAME_NS);
            if same {
                before.number = space.number;
            } else {
                *before = reported;
            }
            !same
        });
    }

    /// The census ended at this monotonic time. Returns the cookies that are no longer in it (`Event::SocketsRemoved`):
    /// none unless it was complete.
    pub fn end(&mut self, at_ns: u64, complete: bool) -> Vec<u64> {
        let Some((netns, _)) = self.running.take() else { return Vec::new() };
        let Some(space) = self.spaces.get_mut(&netns).filter(|_| complete) else { return Vec::new() };
        space.complete_ns = Some(at_ns);
        let number = space.number;
        let mut gone: Vec<u64> =
            space.sockets.extract_if(|_, reported| reported.number != number).map(|(cookie, _)| cookie).collect();
        self.sockets -= gone.len();
        if !space.shared.is_empty() {
            self.shared -= gone.iter().filter(|cookie| space.shared.remove(*cookie)).count();
        }
        // Cookies that are close in number are close in time: a recording compresses them well.
        gone.sort_unstable();
        gone
    }

    /// A namespace is gone, or must be reported whole the next time.
    pub fn forget(&mut self, netns: u32) {
        if let Some(space) = self.spaces.remove(&netns) {
            self.sockets -= space.sockets.len();
            self.shared -= space.shared.len();
        }
    }

    /// Reports every namespace whole the next time: a new reader has started.
    pub fn restate(&mut self) {
        self.spaces.clear();
        (self.sockets, self.shared) = (0, 0);
    }
}

/// Distinguishes the TIME_WAIT sockets of one cookie. In 16 bits, so that two of them may have the same number.
fn ends(row: &CensusRow) -> u16 {
    let Tuple { local_port, remote_addr, remote_port, .. } = row.tuple;
    let last = match remote_addr {
        IpAddr::V4(address) => u16::from_be_bytes([address.octets()[2], address.octets()[3]]),
        IpAddr::V6(address) => address.segments()[7],
    };
    local_port.wrapping_add(remote_port.rotate_left(5)).wrapping_add(last.rotate_left(10))
}
