//! The kernel's own list against the trace: who of those alive is known, who is gone, who was judged wrongly.

use crate::account::destination;
use crate::attribution::UNKNOWN;
use crate::connection::Outcome;
use crate::ending::End;
use crate::engine::{Ended, Engine, TIME_WAIT_NS};
use crate::input::{CensusRow, CensusState, KernelCounters, Role, Tuple};
use crate::ledger::{Ledger, Map, RowRef};
use crate::live::{Live, LiveSet};
use crate::model::{DestRow, GroupKey, Known, Row, Substate};
use crate::space::Space;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;
use std::net::IpAddr;

/// How long after a census the record of a socket that it saw may arrive: the timewait socket is in the kernel's table
/// some microseconds before its trace is in the ring buffer.
const SETTLE_NS: u64 = 10_000_000;

/// A socket whose timer says that it was made this long before the trace began was. Less is no proof: timers are
/// rounded.
const ROUNDING_NS: u64 = 1_000_000_000;

/// Lives remembered that ended without a timewait socket as far as could be seen, but might have left one.
const DOUBTS: usize = 1024;

/// A census older than this no longer tells that a socket it never had is alive.
const FRESH_NS: u64 = 10_000_000_000;

/// And none at all for so long that one which it had is.
const STALE_NS: u64 = 60_000_000_000;

/// Open connections towards one destination by which it has a row, although none has ended.
const CROWD: u64 = 128;

/// Network namespaces whose last census is remembered. Full: further ones are not looked at.
const SPACES: usize = 2048;

/// A census under way, or one that waits for the last records.
#[derive(Clone, Debug, Default)]
struct Run {
    netns: u32,
    /// What marks the sockets that it tells of.
    number: u32,
    begin_ns: u64,
    end_ns: u64,
    /// Absence from it proves something.
    complete: bool,
    /// It tells of all that there is, and not of what has changed.
    whole: bool,
    /// Timewait sockets that the trace does not know.
    strangers: Vec<CensusRow>,
    /// Where they are among those.
    places: HashMap<u64, usize, FixedState>,
    /// Cookies of what earlier ones had and this one has not.
    gone: Vec<u64>,
}

/// What is kept from one census to the next.
#[derive(Clone, Debug)]
pub(crate) struct Census {
    number: u32,
    running: Option<Run>,
    settling: VecDeque<Run>,
    spaces: HashMap<u32, Space, FixedState>,
    doubts: VecDeque<Ended>,
    /// Timewait sockets whose end was told while a census was under way or waiting.
    ended: HashSet<u64, FixedState>,
    /// Sockets that are followed and that no census has told of yet, some of which may be over.
    unconfirmed: Vec<u64>,
    /// One row, for the rate of everything.
    pub(crate) rate: Ledger<Row>,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            number: 0,
            running: None,
            settling: VecDeque::new(),
            spaces: HashMap::default(),
            doubts: VecDeque::new(),
            ended: HashSet::default(),
            unconfirmed: Vec::new(),
            rate: Ledger::new(&[GroupKey::Other], 8),
        }
    }
}

impl Census {
    pub(crate) fn begin(&mut self, netns: u32, at_ns: u64, whole: bool) {
        let has_room = self.spaces.len() < SPACES || self.spaces.contains_key(&netns);
        if has_room {
            let space = self.spaces.entry(netns).or_default();
            if whole {
                space.begin_anew();
            }
        }
        self.number = self.number.wrapping_add(1).max(1);
        self.running = has_room.then(|| Run { netns, number: self.number, begin_ns: at_ns, whole, ..Run::default() });
    }

    /// What is known of each namespace.
    pub(crate) fn spaces(&self) -> &HashMap<u32, Space, FixedState> {
        &self.spaces
    }

    pub(crate) fn gone(&mut self, cookies: &[u64]) {
        if let Some(run) = &mut self.running {
            run.gone.extend(cookies);
        }
    }

    pub(crate) fn end(&mut self, at_ns: u64, complete: bool) {
        if let Some(mut run) = self.running.take() {
            run.end_ns = at_ns;
            // Differences from something that was never told prove nothing.
            run.complete = complete && self.spaces.get(&run.netns).is_some_and(|space| space.based);
            self.settling.push_back(run);
        }
    }

    /// A namespace is gone, and whatever was to be learnt of it.
    pub(crate) fn forget(&mut self, netns: u32) {
        self.spaces.remove(&netns);
        self.settling.retain(|run| run.netns != netns);
        if self.running.as_ref().is_some_and(|run| run.netns == netns) {
            self.running = None;
        }
    }

    /// Whether somebody listens on the local side of a connection, by the last census of its namespace.
    pub(crate) fn listens(&self, tuple: &Tuple) -> bool {
        let Some(space) = self.spaces.get(&tuple.netns) else { return false };
        let on = |address: IpAddr| space.listens(address, tuple.local_port);
        on(tuple.local_addr)
            || on(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
            || on(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED))
    }

    /// Whether the censuses of a namespace tell who is alive: of those that they have had, and of others.
    pub(crate) fn tells(&self, netns: u32, now_ns: u64) -> (bool, bool) {
        let complete_ns = self.spaces.get(&netns).and_then(|space| space.complete_ns);
        let within = |limit: u64| complete_ns.is_some_and(|at| now_ns.saturating_sub(at) < limit);
        (within(STALE_NS), within(FRESH_NS))
    }

    /// Whether a census is under way, or waits for the last records.
    pub(crate) fn is_unsettled(&self, number: u32) -> bool {
        self.running.iter().chain(&self.settling).any(|run| run.number == number)
    }

    /// A socket is followed that no census has told of. Of those that are over, as many are kept as may be alive.
    pub(crate) fn unconfirmed(&mut self, cookie: u64, live: &LiveSet) {
        if self.unconfirmed.len() >= 2 * live.limit() {
            self.unconfirmed.retain(|cookie| live.get(*cookie).is_some_and(|live| live.census == 0));
        }
        self.unconfirmed.push(cookie);
    }

    fn is_first(&self, netns: u32) -> bool {
        self.spaces.get(&netns).is_none_or(|space| space.complete_ns.is_none())
    }

    /// A census to draw conclusions from: one that is old enough, or of this namespace.
    fn next_settled(&mut self, now_ns: u64, netns: Option<u32>) -> Option<Run> {
        let is_due = |run: &Run| Some(run.netns) == netns || now_ns >= run.end_ns.saturating_add(SETTLE_NS);
        let at = self.settling.iter().position(is_due)?;
        self.settling.remove(at)
    }

    /// Remembers a life that may have left a timewait socket. Full: the oldest is forgotten and returned.
    pub(crate) fn doubt(&mut self, ended: Ended) -> Option<Ended> {
        let forgotten = if self.doubts.len() == DOUBTS { self.doubts.pop_front() } else { None };
        self.doubts.push_back(ended);
        forgotten
    }

    /// The doubt about a socket, if there is one.
    pub(crate) fn take_doubt(&mut self, cookie: u64) -> Option<Ended> {
        let at = self.doubts.iter().position(|ended| ended.cookie == cookie)?;
        self.doubts.remove(at)
    }

    /// The end of a timewait socket was told, which a census that is under way may still show.
    pub(crate) fn ended(&mut self, cookie: u64, limit: usize) {
        if (self.running.is_some() || !self.settling.is_empty()) && self.ended.len() < limit {
            self.ended.insert(cookie);
        }
    }

    /// A life that may have left a timewait socket turned out to have ended by a reset.
    pub(crate) fn reset(&mut self, ended: &Ended) {
        let is_it = |doubt: &&mut Ended| {
            doubt.cookie == ended.cookie
                && doubt.end_ns == ended.end_ns
                && (doubt.role, doubt.tuple) == (ended.role, ended.tuple)
        };
        for doubt in self.doubts.iter_mut().filter(is_it) {
            doubt.outcome = Outcome::ResetSent;
        }
    }
}

impl Engine {
    pub(crate) fn census_rows(&mut self, rows: Vec<CensusRow>) {
        let Some(mut run) = self.census.running.take() else { return };
        let limit = self.model.live.limit();
        let by_tuple = self.model.summary.tracing.by_tuple;
        for mut row in rows {
            // What it was found in is known better than what it says.
            row.tuple.netns = run.netns;
            let cookie = row.cookie;
            row.cookie = self.identity(row.cookie, &row.tuple);
            let Some(space) = self.census.spaces.get_mut(&run.netns) else { break };
            if space.hold(cookie, &row, run.number, run.begin_ns).is_err() {
                self.model.summary.totals.open_untracked += 1;
            }
            if !row.state.is_timewait() {
                if self.model.live.get(row.cookie).is_some_and(|live| live.census != 0) {
                    space.turned.insert(row.cookie);
                }
                continue;
            }
            space.turned.remove(&row.cookie);
            if by_tuple {
                space.know_as(cookie, row.cookie, limit);
            }
            if self.seen(&row, &run) {
                continue;
            }
            if let Some(place) = run.places.get(&row.cookie) {
                run.strangers[*place] = row;
            } else if run.strangers.len() < limit {
                run.places.insert(row.cookie, run.strangers.len());
                run.strangers.push(row);
            }
        }
        self.census.running = Some(run);
    }

    /// Takes over what the census says of a socket that is followed; `false` when it is not.
    fn seen(&mut self, row: &CensusRow, run: &Run) -> bool {
        let turned = self.model.live.change(row.cookie, |live| {
            live.census = run.number;
            if live.tuple.netns == 0 {
                live.tuple.netns = run.netns;
            }
            live.expires_ns = expires_ns(row, run.begin_ns);
            if live.known == Known::Inferred {
                live.known = Known::Census;
            }
            let before = live.clone();
            live.substate = substate(row);
            (live.substate != before.substate).then(|| (before, live.clone()))
        });
        if let Some(Some((before, after))) = &turned {
            self.model.count_live(before, -1);
            self.model.count_live(after, 1);
        }
        turned.is_some()
    }

    /// Remembers a life that may have left a timewait socket, unless a census has already shown that it did.
    pub(crate) fn doubt(&mut self, ended: Ended) {
        let stranger = self.model.live.get(ended.cookie).filter(|live| live.is_stranger());
        if let Some((substate, expires_ns)) = stranger.map(|live| (live.substate, live.expires_ns)) {
            self.found(&ended, substate, expires_ns);
            return;
        }
        self.hold(&ended);
        let forgotten = self.census.doubt(ended);
        self.release(forgotten);
    }

    /// A life that was judged otherwise left a timewait socket: a census has it.
    pub(crate) fn found(&mut self, ended: &Ended, substate: Substate, expires_ns: u64) {
        self.corrected("found_by_census", ended.end_ns, ended.outcome, Outcome::TimeWait(substate));
        self.remember(ended.cookie, ended.end_ns, Outcome::TimeWait(substate));
        let mut ended = *ended;
        if ended.shown {
            self.model.change_ended(&ended, 1, -i64::from(ended.counts_as_reset()));
            // It is alive in rows of its own, although those that it was counted in may be gone.
            self.place(&mut ended);
        }
        self.follow(&ended, substate, Known::Census, expires_ns);
    }

    /// Draws the conclusions of censuses, once the records of what they saw have arrived.
    pub(crate) fn settle(&mut self, now_ns: u64) {
        self.settle_runs(now_ns, None);
    }

    /// The same, and of those of one namespace at once: its next one begins.
    pub(crate) fn settle_for(&mut self, netns: u32, now_ns: u64) {
        self.settle_runs(now_ns, Some(netns));
    }

    fn settle_runs(&mut self, now_ns: u64, netns: Option<u32>) {
        let mut runs = Map::default();
        while let Some(mut run) = self.census.next_settled(now_ns, netns) {
            for row in std::mem::take(&mut run.strangers) {
                self.stranger(&row, &run);
            }
            if run.complete
                && let Some(space) = self.census.spaces.get_mut(&run.netns)
            {
                space.complete_ns = Some(run.end_ns);
                if run.whole {
                    space.keep_only(run.number);
                    self.forget_bound(run.netns, run.begin_ns);
                }
            }
            runs.insert(run.netns, run);
        }
        if runs.is_empty() {
            return;
        }
        // All of them in one go: there can be a thousand namespaces, and a hundred thousand sockets.
        self.end_absent(&runs);
        self.count_established(&runs);
        self.cover(&runs);
        self.sum_up();
        self.refresh_soon();
        if self.census.running.is_none() && self.census.settling.is_empty() {
            self.census.ended.clear();
        }
    }

    /// A timewait socket that the trace did not know when the census saw it.
    fn stranger(&mut self, row: &CensusRow, run: &Run) {
        let (expires_ns, substate) = (expires_ns(row, run.begin_ns), substate(row));
        if self.seen(row, run) {
            // Its record has come meanwhile.
            return;
        }
        if self.census.ended.contains(&row.cookie) {
            // It was followed to its end, which has come meanwhile.
            return;
        }
        if let Some(doubt) = self.census.take_doubt(row.cookie) {
            self.found(&doubt, substate, expires_ns);
            self.release(Some(doubt));
            self.mark(row.cookie, run.number);
            return;
        }
        let start_ns = self.model.summary.window.start_ns;
        let made_before = expires_ns.saturating_sub(TIME_WAIT_NS) < start_ns.saturating_add(ROUNDING_NS);
        // A FIN_WAIT2 timewait socket starts its minute anew when the peer's FIN comes, so a young timer is no proof
        // that it was made since. The first whole census has every older one: whoever is missing there is younger.
        let before_start = self.census.is_first(run.netns) && (made_before || self.nothing_lost());
        if self.model.live.is_full() {
            if let Some(space) = self.census.spaces.get_mut(&run.netns) {
                space.leave_out(row.cookie, before_start, run.number, self.model.live.limit());
            }
            return;
        }
        let role = self.role(Role::Unknown, &row.tuple);
        let shown = self.passes(&row.tuple);
        let mut found = Ended {
            cookie: row.cookie,
            end_ns: 0,
            outcome: Outcome::TimeWait(substate),
            tuple: row.tuple,
            role,
            closer: UNKNOWN,
            opener: UNKNOWN,
            destination: RowRef::OTHER,
            pair: RowRef::OTHER,
            older: before_start,
            attributed: false,
            shown,
            bound: false,
        };
        if shown {
            found.destination = self.model.destinations.place(destination(&row.tuple, role)).0;
            let process = self.model.attribution.process_row(UNKNOWN);
            found.pair = self.model.pair(process, found.destination);
        }
        self.follow(&found, substate, Known::Census, expires_ns);
        self.mark(row.cookie, run.number);
    }

    fn mark(&mut self, cookie: u64, number: u32) {
        self.model.live.change(cookie, |live| live.census = number);
    }

    fn nothing_lost(&self) -> bool {
        let KernelCounters { ring_full, map_full, recursion, stale, undecodable, .. } = self.model.summary.counters;
        let untracked = self.model.summary.totals.live_untracked;
        [ring_full, map_full, recursion, stale, undecodable, untracked].iter().all(|&count| count == 0)
    }

    /// Ends those that a complete census of their namespace did not have.
    fn end_absent(&mut self, runs: &Map<u32, Run>) {
        let unknown = self.model.summary.place_of(0);
        let run_of = |netns: u32| runs.get(&if netns == 0 { unknown } else { netns }).filter(|run| run.complete);
        // One that was made since may be missing, and is alive.
        let absent = |live: &Live, run: &Run| live.census != run.number && live.made_ns < run.begin_ns;
        let mut ended = Vec::new();
        if runs.values().any(|run| run.whole && run.complete) {
            let gone = |live: &Live| run_of(live.tuple.netns).is_some_and(|run| run.whole && absent(live, run));
            self.model.live.remove_if(gone, |live| ended.push(live));
        }
        let mut gone = Vec::new();
        for run in runs.values().filter(|run| run.complete && !run.whole) {
            let Some(space) = self.census.spaces.get_mut(&run.netns) else { continue };
            gone.extend(run.gone.iter().map(|cookie| (space.release(*cookie), run)));
            // What ended without a record holds its port no more.
            run.gone.iter().for_each(|cookie| {
                self.bound.remove(cookie);
            });
            gone.extend(space.turned.drain().map(|identity| (identity, run)));
        }
        let live = &mut self.model.live;
        for (cookie, run) in gone {
            if live.get(cookie).is_some_and(|live| live.census != 0 && absent(live, run)) {
                ended.extend(live.remove(cookie));
            }
        }
        self.census.unconfirmed.retain(|cookie| {
            let Some(socket) = live.get(*cookie).filter(|live| live.census == 0) else { return false };
            let over = run_of(socket.tuple.netns).is_some_and(|run| absent(socket, run));
            if over {
                ended.extend(live.remove(*cookie));
            }
            !over
        });
        for live in &ended {
            // It was a guess that this one had been made, and no census ever had it.
            if live.known == Known::Inferred && live.census == 0 {
                self.never_made(live);
                continue;
            }
            // Reused by a new connection, killed by a reset or by data for a FIN_WAIT2 timewait socket.
            let begin_ns = run_of(live.tuple.netns).map_or(0, |run| run.begin_ns);
            let early = live.expires_ns > begin_ns.saturating_add(ROUNDING_NS);
            if early {
                *self.model.summary.totals.corrections.entry("ended_early").or_default() += 1;
            }
            self.model.end(live, if early { End::Early } else { End::Expired });
        }
    }

    fn never_made(&mut self, live: &Live) {
        self.corrected("never_made", live.made_ns, Outcome::TimeWait(live.substate), Outcome::Unknown);
        self.remember(live.cookie, live.made_ns, Outcome::Unknown);
        if live.shown {
            let ended = Ended {
                cookie: live.cookie,
                end_ns: live.made_ns,
                outcome: Outcome::Unknown,
                tuple: live.tuple,
                role: live.role,
                closer: live.closer,
                opener: live.opener,
                destination: live.destination,
                pair: live.pair,
                older: false,
                attributed: live.attributed,
                shown: true,
                bound: live.bound,
            };
            self.model.change_ended(&ended, -1, 0);
        }
        self.model.ended(live);
    }

    fn count_established(&mut self, runs: &Map<u32, Run>) {
        for netns in runs.values().filter(|run| run.complete).map(|run| run.netns) {
            // Nothing may ever end towards them, and that their ports run out has to be seen coming all the same.
            let crowds = self.census.spaces.get(&netns).map(|space| space.crowds(CROWD)).unwrap_or_default();
            let is_unknown = self.model.summary.place_of(0) == netns;
            for (local_addr, remote_addr, remote_port) in crowds {
                let tuple = Tuple { netns, local_addr, local_port: 0, remote_addr, remote_port, v4_mapped: false };
                let of_unknown = destination(&Tuple { netns: 0, ..tuple }, Role::Active);
                // Where namespaces are not told, its row is there under none.
                let is_there = is_unknown && self.model.destinations.find(&of_unknown).is_some();
                if self.passes(&tuple) && !is_there {
                    self.model.destinations.place(destination(&tuple, Role::Active));
                }
            }
        }
        let unknown = self.model.summary.place_of(0);
        for row in self.model.destinations.rows_mut() {
            let DestRow::Dest(key) = row.key else { continue };
            let netns = if key.netns == 0 { unknown } else { key.netns };
            if let (Role::Active, Some(remote), true) =
                (key.role, key.remote_addr, runs.get(&netns).is_some_and(|run| run.complete))
            {
                let space = self.census.spaces.get(&netns);
                row.established = space.map_or(0, |space| space.open_towards(key.local_addr, remote, key.port));
                row.trend.add(runs.get(&netns).map_or(0, |run| run.begin_ns), row.established);
            }
        }
    }

    fn cover(&mut self, runs: &Map<u32, Run>) {
        for (netns, run) in runs {
            let mut coverage = self.model.live.of(*netns).coverage;
            if let Some(space) = self.census.spaces.get(netns) {
                space.add_left_out(&mut coverage);
            }
            coverage.census = coverage.attributed + coverage.before_start + coverage.unattributed;
            if let Some(namespace) = self.place_namespace(*netns) {
                namespace.coverage = coverage;
                namespace.census_at_ns = Some(run.begin_ns);
                namespace.census_complete = run.complete;
            }
        }
    }
}

fn substate(row: &CensusRow) -> Substate {
    if row.state == CensusState::TimeWait { Substate::TimeWait } else { Substate::FinWait2 }
}

fn expires_ns(row: &CensusRow, begin_ns: u64) -> u64 {
    begin_ns.saturating_add(u64::from(row.expires_ms) * 1_000_000)
}
