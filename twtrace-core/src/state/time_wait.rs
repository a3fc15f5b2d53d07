//! Live TIME_WAIT sockets.

use crate::event::{Role, Tuple};
use crate::summary::{Coverage, Provenance, Substate};
use crate::table::{Map, RowRef};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// A live TIME_WAIT socket, as small as it can be: there may be hundreds of thousands.
#[derive(Clone, Debug)]
pub(crate) struct TimeWait {
    /// What identifies it: its cookie, unless another one has that (`shared.rs`) or there are no cookies.
    pub(crate) cookie: u64,
    pub(crate) created_ns: u64,
    pub(crate) expires_ns: u64,
    pub(crate) tuple: Tuple,
    pub(crate) closer: u32,
    pub(crate) opener: u32,
    pub(crate) destination: RowRef,
    /// The closer's cell with the destination.
    pub(crate) cell: RowRef,
    /// The last census that contained it; 0 when none did.
    pub(crate) census: u32,
    pub(crate) role: Role,
    pub(crate) substate: Substate,
    pub(crate) known: Provenance,
    /// Created before the trace began, or by a close before it.
    pub(crate) before_start: bool,
    /// The closer was seen. Not the same as `closer`, which is unknown too for sockets that the filter hides.
    pub(crate) attributed: bool,
    /// A kernel thread closed it: that its opener is the cause is inferred.
    pub(crate) by_kernel: bool,
    /// Passes the filter, so that it counts in the rows.
    pub(crate) shown: bool,
    /// Its port was bound before it connected: it is in use for all destinations.
    pub(crate) bound: bool,
    /// Whether the peer sent timestamps, where that is known: without, no connect takes it over.
    pub(crate) peer_timestamps: Option<bool>,
}

impl TimeWait {
    /// Whether it is known only from a census so far.
    pub(crate) fn is_unattributed(&self) -> bool {
        self.created_ns == 0 && self.census != 0
    }
}

/// Most live TIME_WAIT sockets that are ever tracked.
const MOST: usize = 1 << 20;

/// Live TIME_WAIT sockets by cookie. When full, further ones are not added.
#[derive(Clone, Debug)]
pub(crate) struct TimeWaitTable {
    /// A socket stays where it is for as long as it exists: moving others would cost more than the gaps.
    sockets: Vec<Option<TimeWait>>,
    free: Vec<u32>,
    /// Places in `sockets`, by cookie.
    index: HashTable<u32>,
    /// Of each namespace that has any. Kept up to date rather than counted: there is a census each second.
    tallies: Map<u32, Tally>,
    limit: usize,
}

/// Live TIME_WAIT sockets of one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) live: u64,
    /// Those that a census has contained.
    pub(crate) coverage: Coverage,
}

/// How a socket is counted: its namespace, and once a census has contained it, whether it is attributed and
/// whether it is older than the trace.
type Standing = (u32, Option<(bool, bool)>);

impl TimeWait {
    fn standing(&self) -> Standing {
        (self.tuple.netns, (self.census != 0).then_some((self.attributed, self.before_start)))
    }
}

impl Coverage {
    /// The count for sockets of that kind.
    pub(crate) fn place(&mut self, attributed: bool, before_start: bool) -> &mut u64 {
        match (attributed, before_start) {
            (true, _) => &mut self.attributed,
            (false, true) => &mut self.before_start,
            (false, false) => &mut self.unattributed,
        }
    }
}

impl TimeWaitTable {
    pub(crate) fn new(limit: usize) -> Self {
        Self { sockets: Vec::new(), free: Vec::new(), index: HashTable::new(), tallies: Map::default(), limit }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Makes room for as many as the kernel may have, but at most for [`MOST`].
    pub(crate) fn allow(&mut self, sockets: u64) {
        let sockets = usize::try_from(sockets).unwrap_or(usize::MAX).min(MOST);
        self.limit = self.limit.max(sockets);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TimeWait> {
        self.sockets.iter().flatten()
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.sockets.capacity() * size_of::<Option<TimeWait>>() + self.index.allocation_size()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.index.len() >= self.limit
    }

    /// Adds one whose cookie is not yet in the table. The caller has checked [`Self::is_full`].
    pub(crate) fn insert(&mut self, live: TimeWait) {
        self.tally(&live, 1);
        let cookie = live.cookie;
        let at = if let Some(at) = self.free.pop() {
            self.sockets[at as usize] = Some(live);
            at
        } else {
            self.sockets.push(Some(live));
            (self.sockets.len() - 1) as u32
        };
        let sockets = &self.sockets;
        self.index
            .insert_unique(hash(cookie), at, |&at| sockets[at as usize].as_ref().map_or(0, |live| hash(live.cookie)));
    }

    fn find(&self, cookie: u64) -> Option<usize> {
        let at = self.index.find(hash(cookie), |&at| has(&self.sockets, at, cookie))?;
        Some(*at as usize)
    }

    pub(crate) fn get(&self, cookie: u64) -> Option<&TimeWait> {
        self.sockets[self.find(cookie)?].as_ref()
    }

    /// Changes one of them, except its cookie; `None` when it is not in the table.
    pub(crate) fn change<T>(&mut self, cookie: u64, change: impl FnOnce(&mut TimeWait) -> T) -> Option<T> {
        let at = self.find(cookie)?;
        let live = self.sockets[at].as_mut()?;
        let before = live.standing();
        let given = change(live);
        let after = live.standing();
        if before != after {
            self.stand(before, -1);
            self.stand(after, 1);
        }
        Some(given)
    }

    fn tally(&mut self, live: &TimeWait, by: i64) {
        self.stand(live.standing(), by);
    }

    fn stand(&mut self, (netns, known): Standing, by: i64) {
        let tally = self.tallies.entry(netns).or_default();
        tally.live = tally.live.saturating_add_signed(by);
        if let Some((attributed, before_start)) = known {
            let place = tally.coverage.place(attributed, before_start);
            *place = place.saturating_add_signed(by);
        }
        if tally.live == 0 {
            self.tallies.remove(&netns);
        }
    }

    /// Those of one namespace.
    pub(crate) fn of(&self, netns: u32) -> Tally {
        self.tallies.get(&netns).copied().unwrap_or_default()
    }

    /// Namespaces that have any.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = u32> {
        self.tallies.keys().copied()
    }

    pub(crate) fn remove(&mut self, cookie: u64) -> Option<TimeWait> {
        let sockets = &self.sockets;
        let found = self.index.find_entry(hash(cookie), |&at| has(sockets, at, cookie)).ok()?;
        let (at, _) = found.remove();
        self.free.push(at);
        let live = self.sockets[at as usize].take()?;
        self.tally(&live, -1);
        Some(live)
    }

    /// Removes all for which `gone` is true, and passes each to `then`.
    pub(crate) fn remove_if(&mut self, gone: impl Fn(&TimeWait) -> bool, mut then: impl FnMut(TimeWait)) {
        for at in 0..self.sockets.len() {
            if let Some(cookie) = self.sockets[at].as_ref().filter(|live| gone(live)).map(|live| live.cookie)
                && let Some(live) = self.remove(cookie)
            {
                then(live);
            }
        }
    }
}

fn has(sockets: &[Option<TimeWait>], at: u32, cookie: u64) -> bool {
    sockets[at as usize].as_ref().is_some_and(|live| live.cookie == cookie)
}

fn hash(cookie: u64) -> u64 {
    FixedState::default().hash_one(cookie)
}
