//! The kernel's own list against the trace: who of those alive is known, who is gone, who was judged wrongly.

use crate::account::destination;
use crate::attribution::UNKNOWN;
use crate::connection::Outcome;
use crate::ending::End;
use crate::engine::{Ended, Engine, TIME_WAIT_NS};
use crate::input::{CensusRow, CensusState, KernelCounters, Role, Tuple};
use crate::ledger::{Ledger, Map, RowRef};
use crate::live::Live;
use crate::model::{Coverage, DestRow, GroupKey, Known, Row, Substate};
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

/// A census older than this no longer tells who is alive.
const FRESH_NS: u64 = 10_000_000_000;

/// Local address, remote address, remote port: what a port is taken for.
type Towards = (IpAddr, IpAddr, u16);

/// Network namespaces whose last census is remembered. Full: further ones are not looked at.
const SPACES: usize = 2048;

/// A census under way, or one that waits for the last records.
#[derive(Debug, Default)]
struct Run {
    netns: u32,
    /// What marks the sockets that it has seen.
    number: u32,
    begin_ns: u64,
    end_ns: u64,
    complete: bool,
    /// Timewait sockets by what is known of them.
    coverage: Coverage,
    /// Timewait sockets that the trace does not know.
    strangers: Vec<CensusRow>,
    seen_strangers: HashSet<u64, FixedState>,
    open: Map<Towards, u64>,
    listening: HashSet<(IpAddr, u16), FixedState>,
}

/// What is kept of a namespace from one census to the next.
#[derive(Debug, Default)]
struct Space {
    listening: HashSet<(IpAddr, u16), FixedState>,
    /// End of its last complete census.
    complete_ns: Option<u64>,
}

/// What is kept from one census to the next.
#[derive(Debug)]
pub(crate) struct Census {
    number: u32,
    running: Option<Run>,
    settling: VecDeque<Run>,
    spaces: HashMap<u32, Space, FixedState>,
    doubts: VecDeque<Ended>,
    /// Timewait sockets whose end was told while a census was under way or waiting.
    ended: HashSet<u64, FixedState>,
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
            rate: Ledger::new(&[GroupKey::Other], 8),
        }
    }
}

impl Census {
    pub(crate) fn begin(&mut self, netns: u32, at_ns: u64) {
        let has_room = self.spaces.len() < SPACES || self.spaces.contains_key(&netns);
        if has_room {
            self.spaces.entry(netns).or_default();
        }
        self.number = self.number.wrapping_add(1).max(1);
        self.running = has_room.then(|| Run { netns, number: self.number, begin_ns: at_ns, ..Run::default() });
    }

    pub(crate) fn end(&mut self, at_ns: u64, complete: bool) {
        if let Some(mut run) = self.running.take() {
            run.end_ns = at_ns;
            run.complete = complete;
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

    /// Whether somebody listens on the local side of a connection, by the last complete census of its namespace.
    pub(crate) fn listens(&self, tuple: &Tuple) -> bool {
        let Some(Space { listening, .. }) = self.spaces.get(&tuple.netns) else { return false };
        let on = |address: IpAddr| listening.contains(&(address, tuple.local_port));
        on(tuple.local_addr)
            || on(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
            || on(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED))
    }

    /// Whether there was a complete census of a namespace of late.
    pub(crate) fn is_fresh(&self, netns: u32, now_ns: u64) -> bool {
        let complete_ns = self.spaces.get(&netns).and_then(|space| space.complete_ns);
        complete_ns.is_some_and(|at| now_ns.saturating_sub(at) < FRESH_NS)
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
    pub(crate) fn reset(&mut self, cookie: u64, end_ns: u64) {
        for doubt in self.doubts.iter_mut().filter(|doubt| doubt.cookie == cookie && doubt.end_ns == end_ns) {
            doubt.outcome = Outcome::ResetSent;
        }
    }
}

impl Engine {
    pub(crate) fn census_rows(&mut self, rows: Vec<CensusRow>) {
        let Some(mut run) = self.census.running.take() else { return };
        for mut row in rows {
            // What it was found in is known better than what it says.
            row.tuple.netns = run.netns;
            row.cookie = self.identity(row.cookie, &row.tuple);
            match row.state {
                CensusState::TimeWait | CensusState::TimewaitFinWait2 => {
                    if !self.seen(&row, &run)
                        && run.strangers.len() < self.model.live.limit()
                        && run.seen_strangers.insert(row.cookie)
                    {
                        run.strangers.push(row);
                    }
                }
                CensusState::Open => {
                    let towards = (row.tuple.local_addr, row.tuple.remote_addr, row.tuple.remote_port);
                    *run.open.entry(towards).or_default() += 1;
                }
                CensusState::Listen => {
                    run.listening.insert((row.tuple.local_addr, row.tuple.local_port));
                }
            }
        }
        self.census.running = Some(run);
    }

    /// Takes over what the census says of a socket that is followed; `false` when it is not.
    fn seen(&mut self, row: &CensusRow, run: &Run) -> bool {
        let Some(live) = self.model.live.get_mut(row.cookie) else { return false };
        live.census = run.number;
        if live.tuple.netns == 0 {
            live.tuple.netns = run.netns;
        }
        live.expires_ns = expires_ns(row, run.begin_ns);
        if live.known == Known::Inferred {
            live.known = Known::Census;
        }
        if live.substate != substate(row) {
            let before = live.clone();
            live.substate = substate(row);
            let after = live.clone();
            self.model.count_live(&before, -1);
            self.model.count_live(&after, 1);
        }
        true
    }

    /// Remembers a life that may have left a timewait socket, unless a census has already shown that it did.
    pub(crate) fn doubt(&mut self, ended: Ended) {
        let stranger = self.model.live.get_mut(ended.cookie).filter(|live| live.is_stranger());
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
                self.stranger(&row, &mut run);
            }
            if run.complete
                && let Some(space) = self.census.spaces.get_mut(&run.netns)
            {
                space.listening = std::mem::take(&mut run.listening);
                space.complete_ns = Some(run.end_ns);
            }
            runs.insert(run.netns, run);
        }
        if runs.is_empty() {
            return;
        }
        // All of them in one go: there can be a thousand namespaces, and a hundred thousand sockets.
        self.end_absent(&runs);
        self.count_established(&runs);
        self.cover(runs);
        self.sum_up();
        self.refresh_soon();
        if self.census.running.is_none() && self.census.settling.is_empty() {
            self.census.ended.clear();
        }
    }

    /// A timewait socket that the trace did not know when the census saw it.
    fn stranger(&mut self, row: &CensusRow, run: &mut Run) {
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
            if before_start {
                run.coverage.before_start += 1;
            } else {
                run.coverage.unattributed += 1;
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
        if let Some(live) = self.model.live.get_mut(cookie) {
            live.census = number;
        }
    }

    fn nothing_lost(&self) -> bool {
        let KernelCounters { ring_full, map_full, recursion, stale, undecodable, .. } = self.model.summary.counters;
        let untracked = self.model.summary.totals.live_untracked;
        [ring_full, map_full, recursion, stale, undecodable, untracked].iter().all(|&count| count == 0)
    }

    /// Ends those that a complete census of their namespace did not have.
    fn end_absent(&mut self, runs: &Map<u32, Run>) {
        let unknown = self.model.summary.place_of(0);
        let place_of = |netns: u32| if netns == 0 { unknown } else { netns };
        let absent = |live: &Live| {
            let run = runs.get(&place_of(live.tuple.netns)).filter(|run| run.complete);
            run.is_some_and(|run| live.census != run.number && live.made_ns < run.begin_ns)
        };
        let mut ended = Vec::new();
        self.model.live.remove_if(absent, |live| ended.push(live));
        for live in &ended {
            // It was a guess that this one had been made, and no census ever had it.
            if live.known == Known::Inferred && live.census == 0 {
                self.never_made(live);
                continue;
            }
            // Reused by a new connection, killed by a reset or by data for a FIN_WAIT2 timewait socket.
            let begin_ns = runs.get(&place_of(live.tuple.netns)).map_or(0, |run| run.begin_ns);
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
            };
            self.model.change_ended(&ended, -1, 0);
        }
        self.model.ended(live);
    }

    fn count_established(&mut self, runs: &Map<u32, Run>) {
        let unknown = self.model.summary.place_of(0);
        for row in self.model.destinations.rows_mut() {
            let DestRow::Dest(key) = row.key else { continue };
            let run = runs.get(&if key.netns == 0 { unknown } else { key.netns }).filter(|run| run.complete);
            if let (Role::Active, Some(remote), Some(run)) = (key.role, key.remote_addr, run) {
                row.established = run.open.get(&(key.local_addr, remote, key.port)).copied().unwrap_or(0);
            }
        }
    }

    fn cover(&mut self, mut runs: Map<u32, Run>) {
        for live in self.model.live.iter() {
            let Some(run) = runs.get_mut(&live.tuple.netns).filter(|run| run.number == live.census) else { continue };
            if live.attributed {
                run.coverage.attributed += 1;
            } else if live.before_start {
                run.coverage.before_start += 1;
            } else {
                run.coverage.unattributed += 1;
            }
        }
        for (netns, Run { mut coverage, begin_ns, complete, .. }) in runs {
            coverage.census = coverage.attributed + coverage.before_start + coverage.unattributed;
            if let Some(namespace) = self.place_namespace(netns) {
                namespace.coverage = coverage;
                namespace.census_at_ns = Some(begin_ns);
                namespace.census_complete = complete;
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
