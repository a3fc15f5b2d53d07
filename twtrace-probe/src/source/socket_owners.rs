//! Owners of the open sockets: passes what the censuses found to a search from time to time.

use super::census::Censuses;
use super::meanwhile::Meanwhile;
use crate::host::clock;
use crate::host::socket_owners::{Found, MAX_SOCKETS, OpenSocket, Searcher, Sockets};
use crate::kernel::census::Piece;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use twtrace_core::event::Event;

/// Minimum time between searches, in nanoseconds.
const PAUSE_NS: u64 = 5_000_000_000;

/// A search may take at most one part in this many of the time of one processor.
const SHARE: u64 = 50;

/// Maximum wait for the last search, in nanoseconds.
const LAST_NS: u64 = 1_000_000_000;

/// How long records may wait meanwhile.
const SLICE: Duration = Duration::from_millis(10);

/// Open sockets of each namespace by its last census.
#[derive(Debug, Default)]
pub(super) struct OpenSockets {
    by_netns: BTreeMap<u32, Arc<Sockets>>,
    /// Total number of these.
    count: usize,
    /// The running census.
    running: Sockets,
}

impl OpenSockets {
    /// A census begins.
    pub(super) fn begin(&mut self) {
        self.running = Sockets::default();
    }

    /// A part of it.
    pub(super) fn add(&mut self, piece: &Piece) {
        let open = &mut self.running.open;
        for (row, &inode) in piece.rows.iter().zip(&piece.inodes) {
            if inode == 0 || row.state.is_timewait() {
                continue;
            }
            if open.len() >= MAX_SOCKETS {
                self.running.cut = true;
                return;
            }
            open.push(OpenSocket { inode, tuple: row.tuple, state: row.state });
        }
    }

    /// It ended. If it failed, the result of the last one stays.
    pub(super) fn end(&mut self, netns: u32, succeeded: bool) {
        let mut running = std::mem::take(&mut self.running);
        if !succeeded {
            return;
        }
        let before = self.by_netns.remove(&netns);
        self.count -= before.as_ref().map_or(0, |before| before.open.len());
        running.port_range = before.map_or((0, 0), |before| before.port_range);
        let room = MAX_SOCKETS.saturating_sub(self.count);
        running.cut |= running.open.len() > room;
        running.open.truncate(room);
        running.open.shrink_to_fit();
        self.count += running.open.len();
        self.by_netns.insert(netns, Arc::new(running));
    }

    /// Which ports the kernel chooses there.
    pub(super) fn know_ports(&mut self, netns: u32, range: (u16, u16)) {
        let sockets = self.by_netns.entry(netns).or_default();
        // A running search keeps what it was given.
        if sockets.port_range != range {
            Arc::make_mut(sockets).port_range = range;
        }
    }

    /// A namespace is gone.
    pub(super) fn forget(&mut self, netns: u32) {
        self.count -= self.by_netns.remove(&netns).map_or(0, |gone| gone.open.len());
    }
}

/// Searches again and again.
pub(super) struct OwnerSearch {
    searcher: Searcher,
    asked_ns: u64,
    next_ns: u64,
}

impl OwnerSearch {
    /// Starts the thread that searches.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self { searcher: Searcher::start()?, asked_ns: 0, next_ns: 0 })
    }

    /// Begins a search when it is time.
    pub(super) fn go_on(&mut self, open_sockets: &OpenSockets, now_ns: u64) {
        if now_ns >= self.next_ns && !self.searcher.is_busy() {
            self.ask(open_sockets, now_ns);
        }
    }

    /// Reports the result of a search that has ended.
    pub(super) fn report(&mut self, sink: &mut dyn FnMut(Event)) {
        if let Some(found) = self.searcher.answer(Duration::ZERO) {
            self.hand_over(found, sink);
        }
    }

    /// Searches once more and waits for it, if it does not take too long. `meanwhile` is drained.
    pub(super) fn last(
        &mut self,
        censuses: &Censuses,
        sink: &mut dyn FnMut(Event),
        meanwhile: &mut dyn Meanwhile,
    ) -> io::Result<()> {
        let began_ns = clock::monotonic_ns()?;
        // A running search looks for sockets of an earlier census.
        let mut is_last = false;
        loop {
            let now_ns = clock::monotonic_ns()?;
            if now_ns.saturating_sub(began_ns) >= LAST_NS || censuses.deadline.is_over() {
                return Ok(());
            }
            if !self.searcher.is_busy() {
                if is_last {
                    return Ok(());
                }
                is_last = true;
                self.ask(&censuses.open_sockets, now_ns);
            }
            if let Some(found) = self.searcher.answer(SLICE) {
                self.hand_over(found, sink);
            }
            meanwhile.drain(sink);
        }
    }

    fn ask(&mut self, open_sockets: &OpenSockets, now_ns: u64) {
        self.asked_ns = now_ns;
        self.searcher.ask(open_sockets.by_netns.values().cloned().collect());
    }

    fn hand_over(&mut self, found: Found, sink: &mut dyn FnMut(Event)) {
        let Found { rows, complete, ended_ns, spent_ns } = found;
        let share_ns = ended_ns.saturating_add(spent_ns.saturating_mul(SHARE));
        self.next_ns = share_ns.max(self.asked_ns.saturating_add(PAUSE_NS));
        sink(Event::SocketOwners { at_ns: ended_ns, complete, rows });
    }
}

#[cfg(test)]
#[path = "socket_owners_tests.rs"]
mod tests;
