//! From whole censuses to what has changed since the last one: a host has a hundred thousand timewait sockets, and
//! from one second to the next nearly all of them are as they were.

use crate::event::{CensusRow, CensusState};
use crate::table::Map;

/// A timer that says the same within this much has not changed: the kernel gives what is left of it in jiffies.
const SAME_NS: u64 = 1_000_000_000;

/// After so long without a complete census the next one is told whole.
const STALE_NS: u64 = 50_000_000_000;

/// Sockets remembered, of all namespaces. Full: the namespaces that do not fit are told whole each time.
const SOCKETS: usize = 1 << 20;

/// A socket as it was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    state: CensusState,
    expires_ns: u64,
    /// The last census that had it.
    number: u32,
}

#[derive(Clone, Debug, Default)]
struct Space {
    sockets: Map<u64, Told>,
    number: u32,
    complete_ns: Option<u64>,
    overflowed: bool,
}

/// What was told of each namespace, to tell the rest.
#[derive(Clone, Debug)]
pub struct Changes {
    spaces: Map<u32, Space>,
    sockets: usize,
    limit: usize,
    /// Namespace and begin of the census under way.
    running: Option<(u32, u64)>,
}

impl Default for Changes {
    fn default() -> Self {
        Self::new(SOCKETS)
    }
}

impl Changes {
    /// Remembers at most so many sockets.
    pub fn new(limit: usize) -> Self {
        Self { spaces: Map::default(), sockets: 0, limit, running: None }
    }

    /// A census begins at this monotonic time. Gives whether it will be told whole (`SocketDumpBegin::whole`).
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

    /// Takes out the rows that were told already.
    pub fn keep(&mut self, rows: &mut Vec<CensusRow>) {
        let Some((netns, begin_ns)) = self.running else { return };
        let Some(space) = self.spaces.get_mut(&netns) else { return };
        rows.retain(|row| {
            let expires_ns = begin_ns.saturating_add(u64::from(row.expires_ms) * 1_000_000);
            let told = Told { state: row.state, expires_ns, number: space.number };
            let Some(before) = space.sockets.get_mut(&row.cookie) else {
                if self.sockets < self.limit {
                    self.sockets += 1;
                    space.sockets.insert(row.cookie, told);
                } else {
                    space.overflowed = true;
                }
                return true;
            };
            // A timer that is overdue has nothing left to say.
            let overdue = row.expires_ms == 0 && before.expires_ns <= begin_ns;
            let same = before.state == row.state && (overdue || before.expires_ns.abs_diff(expires_ns) <= SAME_NS);
            if same {
                before.number = space.number;
            } else {
                *before = told;
            }
            !same
        });
    }

    /// The census ended at this monotonic time. Gives the cookies of what it does not have any more
    /// (`Event::SocketsRemoved`): none unless it was complete.
    pub fn end(&mut self, at_ns: u64, complete: bool) -> Vec<u64> {
        let Some((netns, _)) = self.running.take() else { return Vec::new() };
        let Some(space) = self.spaces.get_mut(&netns).filter(|_| complete) else { return Vec::new() };
        space.complete_ns = Some(at_ns);
        let number = space.number;
        let mut gone: Vec<u64> =
            space.sockets.extract_if(|_, told| told.number != number).map(|(cookie, _)| cookie).collect();
        self.sockets -= gone.len();
        // Neighbours in number are neighbours in time: a recording packs them well.
        gone.sort_unstable();
        gone
    }

    /// A namespace is gone, or to be told whole the next time.
    pub fn forget(&mut self, netns: u32) {
        if let Some(space) = self.spaces.remove(&netns) {
            self.sockets -= space.sockets.len();
        }
    }

    /// Tells every namespace whole the next time: somebody begins to listen.
    pub fn restate(&mut self) {
        self.spaces.clear();
        self.sockets = 0;
    }
}
