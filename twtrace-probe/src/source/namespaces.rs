//! The other network namespaces of the host: a round through all of them, again and again.

use super::socket_owners::OpenSockets;
use crate::host;
use crate::host::clock;
use crate::host::namespaces::{Found, NotVisited, Search, Searcher, within};
use crate::kernel::census;
use netlink_sys::Socket;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;
use twtrace_core::changes::Changes;
use twtrace_core::event::{CensusRow, Event, KernelFacts};

/// A round may take one part in this many of the time.
const SHARE: u64 = 50;

/// Rounds follow each other no faster, in nanoseconds.
const PAUSE_NS: u64 = 1_000_000_000;

/// How long one call may go on with a round, in nanoseconds.
const SLICE_NS: u64 = 50_000_000;

/// How long the last round may take, in nanoseconds, and how long the last search.
const LAST_ROUND_NS: u64 = 5_000_000_000;
const LAST_SEARCH: Duration = Duration::from_secs(2);

/// What is done with the records that have come in meanwhile.
pub(super) type Between<'a> = dyn FnMut(&mut dyn FnMut(Event)) + 'a;

/// What is done with each piece of a census.
type With<'a> = dyn FnMut(&[CensusRow], &mut dyn FnMut(Event)) + 'a;

/// Namespaces that are known, and the round under way.
pub(super) struct Namespaces {
    own: u32,
    searcher: Searcher,
    known: BTreeMap<u32, Known>,
    left_out: u64,
    /// Those that the round has yet to visit.
    waiting: VecDeque<u32>,
    /// Processor time that the round has cost so far.
    spent_ns: u64,
    next_round_ns: u64,
}

struct Known {
    found: Found,
    refused: Option<String>,
    /// The last search did not find it. The only process of a namespace can be replaced by another one behind the
    /// back of a search: it takes two.
    missed: bool,
}

impl Namespaces {
    /// Starts to search. To be called before the mount namespace is left.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(own: u32) -> io::Result<Self> {
        Ok(Self {
            own,
            searcher: Searcher::start()?,
            known: BTreeMap::new(),
            left_out: 0,
            waiting: VecDeque::new(),
            spent_ns: 0,
            next_round_ns: 0,
        })
    }

    /// Goes on with the round, or begins the next. `between` is called while a census is taken.
    pub(super) fn go_on(
        &mut self,
        changes: &mut Changes,
        open_sockets: &mut OpenSockets,
        sink: &mut dyn FnMut(Event),
        between: &mut Between<'_>,
    ) -> io::Result<()> {
        if let Some(search) = self.searcher.latest() {
            self.take(search, changes, open_sockets, sink);
        }
        let now_ns = clock::monotonic_ns()?;
        if self.waiting.is_empty() {
            if now_ns < self.next_round_ns {
                return Ok(());
            }
            self.begin();
        }
        self.visit_until(now_ns.saturating_add(SLICE_NS), changes, open_sockets, sink, between)
    }

    /// A whole round from a fresh search.
    pub(super) fn last_round(
        &mut self,
        changes: &mut Changes,
        open_sockets: &mut OpenSockets,
        sink: &mut dyn FnMut(Event),
        between: &mut Between<'_>,
    ) -> io::Result<()> {
        if let Some(search) = self.searcher.fresh(LAST_SEARCH) {
            self.take(search, changes, open_sockets, sink);
        }
        self.begin();
        let until_ns = clock::monotonic_ns()?.saturating_add(LAST_ROUND_NS);
        self.visit_until(until_ns, changes, open_sockets, sink, between)
    }

    fn begin(&mut self) {
        self.waiting = self.known.keys().copied().filter(|netns| *netns != self.own).collect();
        self.spent_ns = 0;
    }

    fn visit_until(
        &mut self,
        until_ns: u64,
        changes: &mut Changes,
        open_sockets: &mut OpenSockets,
        sink: &mut dyn FnMut(Event),
        between: &mut Between<'_>,
    ) -> io::Result<()> {
        let before_ns = clock::process_ns()?;
        let mut now_ns = clock::monotonic_ns()?;
        while now_ns < until_ns {
            let Some(netns) = self.waiting.pop_front() else { break };
            self.visit(netns, changes, open_sockets, sink, between)?;
            now_ns = clock::monotonic_ns()?;
        }
        self.spent_ns = self.spent_ns.saturating_add(clock::process_ns()?.saturating_sub(before_ns));
        if self.waiting.is_empty() {
            self.next_round_ns = now_ns.saturating_add((self.spent_ns.saturating_mul(SHARE)).max(PAUSE_NS));
        }
        Ok(())
    }

    /// Takes over what a search has found.
    fn take(
        &mut self,
        search: Search,
        changes: &mut Changes,
        open_sockets: &mut OpenSockets,
        sink: &mut dyn FnMut(Event),
    ) {
        let Search { found, left_out, .. } = search;
        let mut before = std::mem::take(&mut self.known);
        for found in found {
            let netns = found.netns;
            let old = before.remove(&netns);
            let refused = old.as_ref().and_then(|old| old.refused.clone());
            if old.is_none_or(|old| old.found.name != found.name) {
                sink(Event::Namespace { netns, name: found.name.clone(), refused: refused.clone() });
            }
            self.known.insert(netns, Known { found, refused, missed: false });
        }
        for (netns, known) in before {
            if known.missed {
                changes.forget(netns);
                open_sockets.forget(netns);
                sink(Event::NamespaceGone { netns });
            } else {
                self.known.insert(netns, Known { missed: true, ..known });
            }
        }
        if self.left_out != left_out {
            self.left_out = left_out;
            sink(Event::NamespacesLeftOut(left_out));
        }
    }

    fn visit(
        &mut self,
        netns: u32,
        changes: &mut Changes,
        open_sockets: &mut OpenSockets,
        sink: &mut dyn FnMut(Event),
        between: &mut Between<'_>,
    ) -> io::Result<()> {
        let Some(known) = self.known.get_mut(&netns) else { return Ok(()) };
        let (socket, facts) = match within(&known.found, look) {
            Ok(Ok(there)) => there,
            Ok(Err(error)) => {
                refuse(known, &error.to_string(), sink);
                return Ok(());
            }
            Err(NotVisited::Refused(reason)) => {
                refuse(known, &reason, sink);
                return Ok(());
            }
            // The next search tells whether there is another way.
            Err(NotVisited::Gone) => return Ok(()),
        };
        known.refused = None;
        open_sockets.know_ports(netns, facts.port_range);
        sink(Event::Kernel { netns, facts });
        take_census(netns, changes, open_sockets, sink, || Ok(socket), &mut |_, sink| between(sink)).map(|_| ())
    }
}

fn refuse(known: &mut Known, reason: &str, sink: &mut dyn FnMut(Event)) {
    if known.refused.as_deref() != Some(reason) {
        known.refused = Some(reason.to_owned());
        let Found { netns, name, .. } = &known.found;
        sink(Event::Namespace { netns: *netns, name: name.clone(), refused: known.refused.clone() });
    }
}

/// What is taken from a namespace while in it.
fn look() -> io::Result<(Socket, KernelFacts)> {
    Ok((census::open()?, host::kernel_facts()?))
}

/// The kernel's own list of a namespace, then the records that came in meanwhile: a socket made during the dump is in
/// both. Gives the time after the dump.
///
/// `with` sees each piece as it came; what `changes` knows already is not handed over.
pub(super) fn take_census(
    netns: u32,
    changes: &mut Changes,
    open_sockets: &mut OpenSockets,
    sink: &mut dyn FnMut(Event),
    open: impl FnOnce() -> io::Result<Socket>,
    with: &mut With<'_>,
) -> io::Result<u64> {
    let at_ns = clock::monotonic_ns()?;
    sink(Event::CensusBegin { netns, at_ns, whole: changes.begin(netns, at_ns) });
    open_sockets.begin();
    let report = open().and_then(|socket| {
        census::dump_from(socket, netns, &mut |piece| {
            with(&piece.rows, sink);
            open_sockets.add(&piece);
            let mut rows = piece.rows;
            changes.keep(&mut rows);
            // Neighbours in number are neighbours in time, which a recording packs well. Of two with the same cookie
            // the later one stays the later one.
            rows.sort_by_key(|row| row.cookie);
            if !rows.is_empty() {
                sink(Event::CensusRows(rows));
            }
        })
    });
    let at_ns = clock::monotonic_ns()?;
    open_sockets.end(netns, report.is_ok());
    // A failed dump proves nothing, and the next may succeed: it is shown as incomplete.
    let complete = report.is_ok_and(|report| report.complete);
    let gone = changes.end(at_ns, complete);
    if !gone.is_empty() {
        sink(Event::CensusGone(gone));
    }
    sink(Event::CensusEnd { at_ns, complete });
    Ok(at_ns)
}
