//! Timewait sockets that are alive.

use crate::input::{Role, Tuple};
use crate::ledger::{Map, RowRef};
use crate::model::{Known, Substate};

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
    /// The last census that had it.
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

/// Live timewait sockets by cookie. Full: further ones are refused.
#[derive(Debug)]
pub(crate) struct LiveSet {
    sockets: Vec<Live>,
    index: Map<u64, u32>,
    limit: usize,
}

impl LiveSet {
    pub(crate) fn new(limit: usize) -> Self {
        Self { sockets: Vec::new(), index: Map::default(), limit }
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
        self.index.insert(live.cookie, self.sockets.len() as u32);
        self.sockets.push(live);
    }

    pub(crate) fn get_mut(&mut self, cookie: u64) -> Option<&mut Live> {
        let at = *self.index.get(&cookie)?;
        self.sockets.get_mut(at as usize)
    }

    pub(crate) fn remove(&mut self, cookie: u64) -> Option<Live> {
        let at = self.index.remove(&cookie)?;
        let live = self.sockets.swap_remove(at as usize);
        if let Some(moved) = self.sockets.get(at as usize) {
            self.index.insert(moved.cookie, at);
        }
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
