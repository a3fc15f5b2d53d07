//! The other network namespaces of the host: a round through all of them, again and again.

use super::census::Censuses;
use crate::host;
use crate::host::clock;
use crate::host::namespaces::{Found, NotVisited, Search, Searcher, within};
use crate::kernel::census;
use netlink_sys::Socket;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::time::Duration;
use twtrace_core::event::{Event, KernelFacts};
use twtrace_core::netns::NetnsIds;

/// A round may take at most one part in this many of the time.
const SHARE: u64 = 50;

/// Minimum time between rounds, in nanoseconds.
const PAUSE_NS: u64 = 1_000_000_000;

/// How long one call may work on a round, in nanoseconds.
const SLICE_NS: u64 = 50_000_000;

/// How long the last round may take, in nanoseconds, and how long the last search.
const LAST_ROUND_NS: u64 = 5_000_000_000;
const LAST_SEARCH: Duration = Duration::from_secs(2);

/// What else comes from the kernel while namespaces are searched and visited.
pub(super) trait Meanwhile {
    /// Passes on the records that have arrived.
    fn drain(&mut self, sink: &mut dyn FnMut(Event));

    /// Which namespace is which, for records as well.
    fn ids(&mut self) -> &mut NetnsIds;
}

/// Where there are no records.
#[derive(Default)]
pub(super) struct NoRecords(NetnsIds);

impl Meanwhile for NoRecords {
    fn drain(&mut self, _: &mut dyn FnMut(Event)) {}

    fn ids(&mut self) -> &mut NetnsIds {
        &mut self.0
    }
}

/// Known namespaces, and the running round.
pub(super) struct Namespaces {
    own: u32,
    searcher: Searcher,
    /// By id.
    known: BTreeMap<u32, Known>,
    left_out: u64,
    /// Those that the round has yet to visit.
    waiting: VecDeque<u32>,
    /// Processor time of the round so far.
    spent_ns: u64,
    next_round_ns: u64,
}

struct Known {
    found: Found,
    refused: Option<String>,
    /// The last search did not find it. The only process of a namespace can be replaced by another one while a search
    /// runs: it takes two searches to be sure.
    missed: bool,
}

impl Namespaces {
    /// Starts to search. Call it before leaving the mount namespace.
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

    /// Continues the round, or begins the next.
    pub(super) fn go_on(
        &mut self,
        censuses: &mut Censuses,
        sink: &mut dyn FnMut(Event),
        meanwhile: &mut dyn Meanwhile,
    ) -> io::Result<()> {
        if let Some(search) = self.searcher.latest() {
            self.take(search, censuses, sink, meanwhile.ids());
        }
        let now_ns = clock::monotonic_ns()?;
        if self.waiting.is_empty() {
            if now_ns < self.next_round_ns {
                return Ok(());
            }
            self.begin();
        }
        self.visit_until(now_ns.saturating_add(SLICE_NS), censuses, sink, meanwhile)
    }

    /// A whole round from a fresh search, or as much of it as time allows.
    pub(super) fn last_round(
        &mut self,
        censuses: &mut Censuses,
        sink: &mut dyn FnMut(Event),
        meanwhile: &mut dyn Meanwhile,
    ) -> io::Result<()> {
        if let Some(search) = self.searcher.fresh(LAST_SEARCH.min(censuses.deadline.left())) {
            self.take(search, censuses, sink, meanwhile.ids());
        }
        self.begin();
        let until_ns = clock::monotonic_ns()?.saturating_add(LAST_ROUND_NS);
        self.visit_until(until_ns, censuses, sink, meanwhile)
    }

    fn begin(&mut self) {
        self.waiting = self.known.keys().copied().filter(|netns| *netns != self.own).collect();
        self.spent_ns = 0;
    }

    fn visit_until(
        &mut self,
        until_ns: u64,
        censuses: &mut Censuses,
        sink: &mut dyn FnMut(Event),
        meanwhile: &mut dyn Meanwhile,
    ) -> io::Result<()> {
        let before_ns = clock::process_ns()?;
        let mut now_ns = clock::monotonic_ns()?;
        while now_ns < until_ns && !censuses.deadline.is_over() {
            let Some(netns) = self.waiting.pop_front() else { break };
            self.visit(netns, censuses, sink, meanwhile)?;
            now_ns = clock::monotonic_ns()?;
        }
        self.spent_ns = self.spent_ns.saturating_add(clock::process_ns()?.saturating_sub(before_ns));
        if self.waiting.is_empty() {
            self.next_round_ns = now_ns.saturating_add((self.spent_ns.saturating_mul(SHARE)).max(PAUSE_NS));
        }
        Ok(())
    }

    /// Applies the result of a search.
    fn take(&mut self, search: Search, censuses: &mut Censuses, sink: &mut dyn FnMut(Event), ids: &mut NetnsIds) {
        let Search { found, left_out, .. } = search;
        let mut before = std::mem::take(&mut self.known);
        let inodes: HashSet<u32> = found.iter().map(|found| found.inode).collect();
        for found in found {
            let inode = found.inode;
            let netns = ids.id(inode, found.cookie.unwrap_or(0));
            ids.news().for_each(&mut *sink);
            let old = before.remove(&netns);
            let refused = old.as_ref().and_then(|old| old.refused.clone());
            if old.is_none_or(|old| old.found.name != found.name) {
                sink(Event::Namespace { netns, inode, name: found.name.clone(), refused: refused.clone() });
            }
            self.known.insert(netns, Known { found, refused, missed: false });
        }
        for (netns, known) in before {
            let inode = known.found.inode;
            // Another one has its inode number by now.
            if known.missed || inodes.contains(&inode) {
                censuses.forget(netns);
                ids.gone(inode, netns);
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
        censuses: &mut Censuses,
        sink: &mut dyn FnMut(Event),
        meanwhile: &mut dyn Meanwhile,
    ) -> io::Result<()> {
        let Some(known) = self.known.get_mut(&netns) else { return Ok(()) };
        let (socket, facts) = match within(&known.found, look) {
            Ok(Ok(there)) => there,
            Ok(Err(error)) => {
                refuse(netns, known, &error.to_string(), sink);
                return Ok(());
            }
            Err(NotVisited::Refused(reason)) => {
                refuse(netns, known, &reason, sink);
                return Ok(());
            }
            // The next search shows whether there is another way.
            Err(NotVisited::Gone) => return Ok(()),
        };
        known.refused = None;
        censuses.open_sockets.know_ports(netns, facts.port_range);
        sink(Event::Kernel { netns, facts });
        censuses.take(netns, sink, || Ok(socket), meanwhile).map(|_| ())
    }
}

fn refuse(netns: u32, known: &mut Known, reason: &str, sink: &mut dyn FnMut(Event)) {
    if known.refused.as_deref() != Some(reason) {
        known.refused = Some(reason.to_owned());
        let Found { inode, name, .. } = &known.found;
        sink(Event::Namespace { netns, inode: *inode, name: name.clone(), refused: known.refused.clone() });
    }
}

/// What is read in a namespace.
fn look() -> io::Result<(Socket, KernelFacts)> {
    Ok((census::open()?, host::kernel_facts()?))
}
