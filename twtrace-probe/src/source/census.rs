//! Censuses, one after the other, as events.

use super::deadline::Deadline;
use super::meanwhile::Meanwhile;
use super::socket_owners::OpenSockets;
use crate::host::clock;
use crate::kernel::census::{self, CensusReport};
use netlink_sys::Socket;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::ControlFlow;
use twtrace_core::changes::Changes;
use twtrace_core::decode::Closing;
use twtrace_core::event::Event;

/// Where the sockets of a namespace are listed.
pub(super) enum Dump {
    /// By the kernel, to this socket.
    Of(Socket),
    /// Nowhere: the namespace has none.
    Nothing,
}

impl Dump {
    /// For the calling thread's namespace.
    pub(super) fn here() -> io::Result<Self> {
        census::open().map(Self::Of)
    }
}

/// What is kept from one census to the next.
#[derive(Default)]
pub(super) struct Censuses {
    /// What each namespace had.
    pub(super) changes: Changes,
    pub(super) open_sockets: OpenSockets,
    /// A census that is running at that time is cut short.
    pub(super) deadline: Deadline,
    /// Followed sockets that have been closing for a while, by cookie: the next census of their namespace says what became
    /// of each.
    closing: HashMap<u64, Closing>,
    /// Those that have ended unseen: key in the socket map and cookie.
    pub(super) unseen: Vec<(u64, u64)>,
    /// Followed sockets that no census has listed since [`Self::account_for`], by cookie.
    unlisted: HashMap<u64, Unlisted>,
}

/// A followed socket that must be in the next censuses of its namespace, or have ended unseen.
struct Unlisted {
    /// Its namespace may be 0: until this host's FIN, the kernel side does not read it.
    socket: Closing,
    /// How many complete censuses of that namespace, or else of any, did not list it. One may skip a socket.
    censuses: u8,
}

/// So many censuses do not skip the same socket.
const SURE: u8 = 2;

/// After this long, a socket that waits for its last acknowledgement and is in no census has ended: a census may skip a
/// socket, but not one that has waited for so long before.
const LAST_ACK_NS: u64 = 5_000_000_000;

impl Censuses {
    /// With an end that can be set later.
    pub(super) fn until(deadline: Deadline) -> Self {
        Self { deadline, ..Self::default() }
    }

    /// The kernel's list of a namespace, then the records that arrived meanwhile: a socket that was created during the
    /// dump is in both. Returns the time after the dump.
    ///
    /// `meanwhile` is drained after each piece; rows that are already known are not passed on.
    pub(super) fn take(
        &mut self,
        netns: u32,
        sink: &mut dyn FnMut(Event),
        open: impl FnOnce() -> io::Result<Dump>,
        meanwhile: &mut dyn Meanwhile,
    ) -> io::Result<u64> {
        let Self { changes, open_sockets, deadline, closing, unseen, unlisted } = self;
        let began_ns = clock::monotonic_ns()?;
        sink(Event::SocketDumpBegin { netns, at_ns: began_ns, whole: changes.begin(netns, began_ns) });
        open_sockets.begin();
        let report = open().and_then(|dump| {
            let Dump::Of(socket) = dump else { return Ok(CensusReport::NOTHING) };
            census::dump_from(socket, netns, &mut |piece| {
                meanwhile.drain(sink);
                if !closing.is_empty() {
                    // One that is still a full socket has not ended.
                    for row in &piece.rows {
                        if let Entry::Occupied(entry) = closing.entry(row.cookie)
                            && entry.get().is_in(row)
                        {
                            let one = entry.remove();
                            unseen.extend(row.state.is_timewait().then_some((one.sk, one.cookie)));
                        }
                    }
                }
                if !unlisted.is_empty() {
                    for row in &piece.rows {
                        if unlisted.get(&row.cookie).is_some_and(|one| one.socket.is_in(row)) {
                            unlisted.remove(&row.cookie);
                        }
                    }
                }
                open_sockets.add(&piece);
                let mut rows = piece.rows;
                changes.keep(&mut rows);
                // Adjacent cookies are close in time, which a recording compresses well. Of two rows with the same
                // cookie the later one stays the later one.
                rows.sort_by_key(|row| row.cookie);
                if !rows.is_empty() {
                    sink(Event::SocketDump(rows));
                }
                if deadline.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        let at_ns = clock::monotonic_ns()?;
        open_sockets.end(netns, report.as_ref().is_ok_and(|report| !report.cut_short));
        // A failed dump proves nothing, and the next may succeed: it is shown as incomplete.
        let complete = report.is_ok_and(|report| report.complete);
        if complete {
            let there = unlisted.values_mut().filter(|one| [0, netns].contains(&one.socket.netns));
            there.for_each(|one| one.censuses = one.censuses.saturating_add(1));
            let has_ended = |one: &mut Closing| {
                one.netns == netns && one.is_last_ack && one.since_ns.saturating_add(LAST_ACK_NS) < began_ns
            };
            unseen.extend(closing.extract_if(|_, one| has_ended(one)).map(|(cookie, one)| (one.sk, cookie)));
        }
        let gone = changes.end(at_ns, complete);
        if !gone.is_empty() {
            sink(Event::SocketsRemoved(gone));
        }
        sink(Event::SocketDumpEnd { at_ns, complete });
        Ok(at_ns)
    }

    /// The result of a sweep. It replaces the one before.
    pub(super) fn watch(&mut self, closing: Vec<Closing>) {
        self.closing = closing.into_iter().map(|one| (one.cookie, one)).collect();
    }

    /// From now on, what the censuses list of these followed sockets is accounted for.
    pub(super) fn account_for(&mut self, followed: impl Iterator<Item = Closing>) {
        self.unlisted = followed.map(|socket| (socket.cookie, Unlisted { socket, censuses: 0 })).collect();
    }

    /// Namespaces in which a census has not listed all of them; 0 for those of which the namespace is not known.
    pub(super) fn with_unlisted(&self) -> BTreeSet<u32> {
        self.unlisted.values().filter(|one| one.censuses > 0).map(|one| one.socket.netns).collect()
    }

    /// Those that have ended unseen: no census listed them. Key and cookie. `everywhere`: there was a complete census of
    /// every namespace.
    pub(super) fn never_listed(&mut self, everywhere: bool) -> Vec<(u64, u64)> {
        let unlisted = std::mem::take(&mut self.unlisted).into_iter();
        let has_ended = |one: &Unlisted| one.censuses >= SURE && (one.socket.netns != 0 || everywhere);
        unlisted.filter(|(_, one)| has_ended(one)).map(|(cookie, one)| (one.socket.sk, cookie)).collect()
    }

    /// A namespace is gone.
    pub(super) fn forget(&mut self, netns: u32) {
        self.changes.forget(netns);
        self.open_sockets.forget(netns);
    }
}
