//! Timewait sockets that are alive.

use crate::attribution::UNKNOWN;
use crate::engine::Ended;
use crate::input::{Role, Tuple};
use crate::ledger::{Map, RowRef};
use crate::model::{Counts, Coverage, Known, Model, Substate};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// One of them, as small as it can be: there may be hundreds of thousands.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) cookie: u64,
    pub(crate) made_ns: u64,
    pub(crate) expires_ns: u64,
    pub(crate) tuple: Tuple,
    pub(crate) closer: u32,
    pub(crate) opener: u32,
    pub(crate) destination: RowRef,
    pub(crate) pair: RowRef,
    /// The last census that told of it; 0 when none did.
    pub(crate) census: u32,
    pub(crate) role: Role,
    pub(crate) substate: Substate,
    pub(crate) known: Known,
    /// Made before the trace began, or by a close that was.
    pub(crate) before_start: bool,
    /// The closer was seen. Not the same as `closer`, which is unknown too for sockets that the filter hides.
    pub(crate) attributed: bool,
    /// Passes the filter, so that it counts in the ledgers.
    pub(crate) shown: bool,
}

impl Live {
    /// Whether only a census has told of it so far.
    pub(crate) fn is_stranger(&self) -> bool {
        self.made_ns == 0 && self.census != 0
    }
}

/// Live timewait sockets by cookie. Full: further ones are refused.
#[derive(Clone, Debug)]
pub(crate) struct LiveSet {
    sockets: Vec<Live>,
    /// Places in `sockets`, by cookie.
    index: HashTable<u32>,
    /// Of each namespace that has any. Kept rather than counted: there is a census each second.
    tallies: Map<u32, Tally>,
    limit: usize,
}

/// Live timewait sockets of one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) live: u64,
    /// Those that a census has told of.
    pub(crate) coverage: Coverage,
}

impl Tally {
    fn change(&mut self, live: &Live, by: i64) {
        self.live = self.live.saturating_add_signed(by);
        if live.census != 0 {
            let known = self.coverage.place(live.attributed, live.before_start);
            *known = known.saturating_add_signed(by);
        }
    }
}

impl Coverage {
    /// Where one more of that kind is counted.
    pub(crate) fn place(&mut self, attributed: bool, before_start: bool) -> &mut u64 {
        match (attributed, before_start) {
            (true, _) => &mut self.attributed,
            (false, true) => &mut self.before_start,
            (false, false) => &mut self.unattributed,
        }
    }
}

impl LiveSet {
    pub(crate) fn new(limit: usize) -> Self {
        Self { sockets: Vec::new(), index: HashTable::new(), tallies: Map::default(), limit }
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.sockets.capacity() * size_of::<Live>() + self.index.allocation_size()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Live> {
        self.sockets.iter()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.sockets.len() >= self.limit
    }

    /// Adds one whose cookie is not yet in. The caller has looked at [`Self::is_full`].
    pub(crate) fn insert(&mut self, live: Live) {
        self.tally(&live, 1);
        let (cookie, at) = (live.cookie, self.sockets.len() as u32);
        self.sockets.push(live);
        let sockets = &self.sockets;
        self.index.insert_unique(hash(cookie), at, |&at| hash(sockets[at as usize].cookie));
    }

    fn find(&self, cookie: u64) -> Option<usize> {
        let at = self.index.find(hash(cookie), |&at| self.sockets[at as usize].cookie == cookie)?;
        Some(*at as usize)
    }

    pub(crate) fn get(&self, cookie: u64) -> Option<&Live> {
        self.sockets.get(self.find(cookie)?)
    }

    /// Changes one of them, but for its cookie; `None` when it is not in.
    pub(crate) fn change(&mut self, cookie: u64, change: impl FnOnce(&mut Live)) -> Option<()> {
        let at = self.find(cookie)?;
        let mut live = self.sockets[at].clone();
        self.tally(&live, -1);
        change(&mut live);
        self.tally(&live, 1);
        self.sockets[at] = live;
        Some(())
    }

    fn tally(&mut self, live: &Live, by: i64) {
        let tally = self.tallies.entry(live.tuple.netns).or_default();
        tally.change(live, by);
        if tally.live == 0 {
            self.tallies.remove(&live.tuple.netns);
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

    pub(crate) fn remove(&mut self, cookie: u64) -> Option<Live> {
        let sockets = &self.sockets;
        let found = self.index.find_entry(hash(cookie), |&at| sockets[at as usize].cookie == cookie).ok()?;
        let (at, _) = found.remove();
        // The last one moves into its place.
        let last = (self.sockets.len() - 1) as u32;
        let moved = hash(self.sockets[last as usize].cookie);
        if let Some(place) = self.index.find_mut(moved, |&place| place == last) {
            *place = at;
        }
        let live = self.sockets.swap_remove(at as usize);
        self.tally(&live, -1);
        Some(live)
    }

    /// Takes out all that `gone` says, and hands each to `then`.
    pub(crate) fn remove_if(&mut self, gone: impl Fn(&Live) -> bool, mut then: impl FnMut(Live)) {
        let mut at = 0;
        while let Some(live) = self.sockets.get(at) {
            if gone(live) {
                let cookie = live.cookie;
                if let Some(live) = self.remove(cookie) {
                    then(live);
                }
            } else {
                at += 1;
            }
        }
    }
}

fn hash(cookie: u64) -> u64 {
    FixedState::default().hash_one(cookie)
}

impl Model {
    /// Counts a live timewait socket in, or out.
    pub(crate) fn count_live(&mut self, live: &Live, by: i64) {
        if !live.shown {
            return;
        }
        let fin_wait2 = if live.substate == Substate::FinWait2 { by } else { 0 };
        let change = |counts: &mut Counts| {
            counts.time_wait_live = counts.time_wait_live.saturating_add_signed(by);
            counts.time_wait_live_peak = counts.time_wait_live_peak.max(counts.time_wait_live);
            counts.fin_wait2_live = counts.fin_wait2_live.saturating_add_signed(fin_wait2);
        };
        self.attribution.tally(live.closer, change);
        change(&mut self.destinations.row_mut(live.destination).counts);
        change(&mut self.summary.totals.counts);
        let pair = self.pairs.row_mut(live.pair);
        pair.time_wait_live = pair.time_wait_live.saturating_add_signed(by);
    }

    /// A live timewait socket that was taken out of the set is over.
    pub(crate) fn ended(&mut self, live: &Live) {
        self.count_live(live, -1);
        self.attribution.release(live.closer);
        self.attribution.release(live.opener);
    }

    /// Corrects what was counted of an ended life.
    pub(crate) fn change_ended(&mut self, ended: &Ended, made: i64, reset: i64) {
        if !self.counts(ended.end_ns) {
            return;
        }
        let by_closer = |counts: &mut Counts| counts.time_wait_made = counts.time_wait_made.saturating_add_signed(made);
        let by_either = |counts: &mut Counts| counts.reset = counts.reset.saturating_add_signed(reset);
        let main = if ended.closer == UNKNOWN { ended.opener } else { ended.closer };
        self.attribution.tally(ended.closer, by_closer);
        self.attribution.tally(main, by_either);
        for counts in [&mut self.destinations.row_mut(ended.destination).counts, &mut self.summary.totals.counts] {
            by_closer(counts);
            by_either(counts);
        }
        let pair = self.pairs.row_mut(ended.pair);
        pair.time_wait_made = pair.time_wait_made.saturating_add_signed(made);
    }
}
