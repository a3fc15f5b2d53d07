//! The other network namespaces of the host, visited by need: those in use every second, the others now and then, and all of
//! them together for a small part of the time.

use super::census::{Censuses, Dump};
use super::meanwhile::Meanwhile;
use crate::host;
use crate::host::InUse;
use crate::host::clock;
use crate::host::namespaces::{Found, NotVisited, Search, Searcher, within};
use crate::kernel::census;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::time::Duration;
use twtrace_core::event::{Event, KernelFacts};
use twtrace_core::netns::NetnsIds;

/// Visits may take at most one part in this many of the time.
const SHARE: u64 = 50;

/// Time between visits to a namespace that is in use: it has TIME_WAIT sockets, records have come from it, or the number
/// of its sockets has changed.
const BUSY_NS: u64 = 1_000_000_000;

/// The same for one that is not.
const QUIET_NS: u64 = 5_000_000_000;

/// A census this old is renewed although nothing seems to have changed.
const OLD_NS: u64 = 60_000_000_000;

/// How long one call may work on visits, in nanoseconds.
const SLICE_NS: u64 = 50_000_000;

/// How long the last round may take, in nanoseconds, and how long the last search.
const LAST_ROUND_NS: u64 = 5_000_000_000;
const LAST_SEARCH: Duration = Duration::from_secs(2);

/// Known namespaces.
pub(super) struct Namespaces {
    own: u32,
    searcher: Searcher,
    /// By id.
    known: BTreeMap<u32, Known>,
    left_out: u64,
    /// Inode numbers of namespaces that records have come from and the last search did not find.
    wanted: HashSet<u32>,
    /// The user whose turn was last.
    last_user: u32,
    /// The last visits have had their share of the time until then.
    rest_until_ns: u64,
}

struct Known {
    found: Found,
    refused: Option<String>,
    /// The last search did not find it. The only process of a namespace can be replaced by another one while a search
    /// runs: it takes two searches to be sure.
    missed: bool,
    /// When the next visit is due.
    due_ns: u64,
    /// What the last visit read.
    last: Option<Visit>,
    /// A census is needed at the next visit.
    is_needed: bool,
    /// Records have come from it since the last visit.
    is_active: bool,
}

/// What a visit has read.
struct Visit {
    in_use: Option<InUse>,
    /// When the last census was taken.
    census_ns: u64,
}

impl Known {
    fn new(found: Found, refused: Option<String>) -> Self {
        Self { found, refused, missed: false, due_ns: 0, last: None, is_needed: true, is_active: false }
    }

    fn need(&mut self) {
        self.is_needed = true;
        self.due_ns = 0;
    }

    fn is_busy(&self) -> bool {
        self.is_needed || self.last.as_ref().is_none_or(|last| last.in_use.is_none_or(|now| now.time_wait > 0))
    }
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
            wanted: HashSet::new(),
            last_user: 0,
            rest_until_ns: 0,
        })
    }

    /// Visits those that are due, as long as they may.
    pub(super) fn go_on(
        &mut self,
        censuses: &mut Censuses,
        sink: &mut dyn FnMut(Event),
        meanwhile: &mut dyn Meanwhile,
    ) -> io::Result<()> {
        if let Some(search) = self.searcher.latest() {
            self.take(search, censuses, sink, meanwhile.ids());
        }
        let began_ns = clock::monotonic_ns()?;
        if began_ns < self.rest_until_ns {
            return Ok(());
        }
        self.note_active(meanwhile.ids());
        let before_ns = clock::process_ns()?;
        let mut now_ns = began_ns;
        while now_ns < began_ns.saturating_add(SLICE_NS) && !censuses.deadline.is_over() {
            let Some(netns) = self.next(now_ns) else { break };
            self.visit(netns, censuses, sink, meanwhile)?;
            now_ns = clock::monotonic_ns()?;
        }
        let spent_ns = clock::process_ns()?.saturating_sub(before_ns);
        self.rest_until_ns = now_ns.saturating_add(spent_ns.saturating_mul(SHARE));
        Ok(())
    }

    /// The next one to visit. Users take turns, so that one with a great many does not keep those of others waiting; of
    /// each user, those come first that are in use, then the ones that have waited longest.
    fn next(&mut self, now_ns: u64) -> Option<u32> {
        let is_due = |netns: u32, known: &Known| netns != self.own && known.due_ns <= now_ns;
        let order = |known: &Known| {
            let user = known.found.user;
            (user <= self.last_user, user, !known.is_active, known.due_ns)
        };
        let due = self.known.iter().filter(|(netns, known)| is_due(**netns, known));
        let (netns, known) = due.min_by_key(|(_, known)| order(known))?;
        self.last_user = known.found.user;
        Some(*netns)
    }

    /// A whole round from a fresh search, or as much of it as time allows: those in use first. Returns whether all were
    /// visited.
    pub(super) fn last_round(
        &mut self,
        censuses: &mut Censuses,
        sink: &mut dyn FnMut(Event),
        meanwhile: &mut dyn Meanwhile,
    ) -> io::Result<bool> {
        if let Some(search) = self.searcher.fresh(LAST_SEARCH.min(censuses.deadline.left())) {
            self.take(search, censuses, sink, meanwhile.ids());
        }
        self.note_active(meanwhile.ids());
        let mut round: Vec<(bool, u32)> = self
            .known
            .iter()
            .map(|(netns, known)| (!known.is_busy(), *netns))
            .filter(|(_, id)| *id != self.own)
            .collect();
        round.sort_unstable();
        let until_ns = clock::monotonic_ns()?.saturating_add(LAST_ROUND_NS);
        for (_, netns) in round {
            if clock::monotonic_ns()? >= until_ns || censuses.deadline.is_over() {
                return Ok(false);
            }
            self.visit(netns, censuses, sink, meanwhile)?;
        }
        Ok(self.left_out == 0 && self.known.values().all(|known| known.refused.is_none()))
    }

    /// Visits one again at once, if it is known.
    pub(super) fn again(
        &mut self,
        netns: u32,
        censuses: &mut Censuses,
        sink: &mut dyn FnMut(Event),
        meanwhile: &mut dyn Meanwhile,
    ) -> io::Result<()> {
        self.need(netns);
        self.visit(netns, censuses, sink, meanwhile)
    }

    /// A census of a namespace is needed.
    pub(super) fn need(&mut self, netns: u32) {
        if let Some(known) = self.known.get_mut(&netns) {
            known.need();
        }
    }

    /// A census of each is needed.
    pub(super) fn need_all(&mut self) {
        self.known.values_mut().for_each(Known::need);
    }

    fn note_active(&mut self, ids: &mut NetnsIds) {
        for (netns, inode) in ids.take_active() {
            if let Some(known) = self.known.get_mut(&netns) {
                (known.is_needed, known.is_active) = (true, true);
                let census_ns = known.last.as_ref().map_or(0, |last| last.census_ns);
                known.due_ns = known.due_ns.min(census_ns.saturating_add(BUSY_NS));
            } else {
                // It is new, or one of too many.
                self.wanted.insert(inode);
                self.searcher.soon();
            }
        }
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
            if old.as_ref().is_none_or(|old| old.found.name != found.name) {
                let refused = old.as_ref().and_then(|old| old.refused.clone());
                sink(Event::Namespace { netns, inode, name: found.name.clone(), refused });
            }
            let known = match old {
                Some(old) => Known { found, missed: false, ..old },
                None => Known::new(found, None),
            };
            self.known.insert(netns, known);
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
                self.searcher.soon();
            }
        }
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.extend(self.known.values().filter(|known| known.is_busy()).map(|known| known.found.inode));
        self.searcher.want(wanted);
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
        let now_ns = clock::monotonic_ns()?;
        let Some(known) = self.known.get_mut(&netns) else { return Ok(()) };
        known.due_ns = now_ns.saturating_add(QUIET_NS);
        let last = if known.is_needed { None } else { known.last.as_ref() };
        let seen = match within(&known.found, || look(last, now_ns)) {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => {
                refuse(netns, known, &error.to_string(), sink);
                return Ok(());
            }
            Err(NotVisited::Refused(reason)) => {
                refuse(netns, known, &reason, sink);
                return Ok(());
            }
            // The process that led there has ended. The next search shows whether there is another way.
            Err(NotVisited::Gone) => {
                known.due_ns = now_ns.saturating_add(BUSY_NS);
                self.searcher.soon();
                return Ok(());
            }
        };
        known.refused = None;
        let (in_use, facts, dump) = match seen {
            Seen::Same => return Ok(()),
            Seen::Tracked(facts) => {
                sink(Event::Kernel { netns, facts });
                return Ok(());
            }
            Seen::Changed { in_use, facts, dump } => (in_use, facts, dump),
        };
        known.due_ns = now_ns.saturating_add(BUSY_NS);
        (known.is_needed, known.is_active) = (false, false);
        known.last = Some(Visit { in_use, census_ns: now_ns });
        censuses.open_sockets.know_ports(netns, facts.port_range);
        sink(Event::Kernel { netns, facts });
        censuses.take(netns, sink, || Ok(dump), meanwhile).map(|_| ())
    }
}

/// What there is to see in a namespace.
enum Seen {
    /// As many sockets as at the last visit, none in TIME_WAIT.
    Same,
    /// The same, but connections of others pass through it: it is a gateway, whose figures change.
    Tracked(KernelFacts),
    Changed {
        in_use: Option<InUse>,
        facts: KernelFacts,
        dump: Dump,
    },
}

/// What is read in a namespace. Without a last visit, everything.
fn look(last: Option<&Visit>, now_ns: u64) -> io::Result<Seen> {
    let in_use = host::in_use();
    let is_empty = in_use.is_some_and(|now| now.is_empty());
    if let Some(last) = last.filter(|last| last.in_use == in_use && in_use.is_some_and(|now| now.time_wait == 0))
        && (is_empty || now_ns.saturating_sub(last.census_ns) < OLD_NS)
    {
        return if host::tracks() { Ok(Seen::Tracked(host::kernel_facts()?)) } else { Ok(Seen::Same) };
    }
    // Where there are no sockets, nobody needs to walk through those of the host to find none.
    let dump = if is_empty { Dump::Nothing } else { Dump::Of(census::open()?) };
    Ok(Seen::Changed { in_use, facts: host::kernel_facts()?, dump })
}

fn refuse(netns: u32, known: &mut Known, reason: &str, sink: &mut dyn FnMut(Event)) {
    if known.refused.as_deref() != Some(reason) {
        known.refused = Some(reason.to_owned());
        let Found { inode, name, .. } = &known.found;
        sink(Event::Namespace { netns, inode: *inode, name: name.clone(), refused: known.refused.clone() });
    }
}
