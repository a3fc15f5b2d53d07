//! The kernel's own list against the trace: who of those alive is known, who is gone, who was judged wrongly.

use crate::account::destination;
use crate::attribution::UNKNOWN;
use crate::connection::Outcome;
use crate::ending::End;
use crate::engine::{Ended, Engine, TIME_WAIT_NS};
use crate::input::{CensusRow, CensusState, KernelCounters, Role};
use crate::ledger::{Ledger, Map, RowRef};
use crate::live::Live;
use crate::model::{Coverage, DestRow, GroupKey, Known, Row, Substate};
use foldhash::fast::FixedState;
use hashbrown::HashSet;
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

/// A census under way, or one that waits for the last records.
#[derive(Debug, Default)]
struct Run {
    begin_ns: u64,
    end_ns: u64,
    complete: bool,
    /// Timewait sockets that the trace does not know.
    strangers: Vec<CensusRow>,
    seen_strangers: HashSet<u64, FixedState>,
    open: Map<Towards, u64>,
    listening: HashSet<(IpAddr, u16), FixedState>,
}

/// What is kept from one census to the next.
#[derive(Debug)]
pub(crate) struct Census {
    number: u32,
    running: Option<Run>,
    settling: Option<Run>,
    listening: HashSet<(IpAddr, u16), FixedState>,
    /// End of the last complete census.
    complete_ns: Option<u64>,
    doubts: VecDeque<Ended>,
    /// Timewait sockets whose end was told since the last census began.
    ended: HashSet<u64, FixedState>,
    /// One row, for the rate of everything.
    pub(crate) rate: Ledger<Row>,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            number: 0,
            running: None,
            settling: None,
            listening: HashSet::default(),
            complete_ns: None,
            doubts: VecDeque::new(),
            ended: HashSet::default(),
            rate: Ledger::new(&[GroupKey::Other], 8),
        }
    }
}

impl Census {
    /// One of another namespace is not looked at.
    pub(crate) fn begin(&mut self, is_own: bool, at_ns: u64) {
        self.running = is_own.then(|| Run { begin_ns: at_ns, ..Run::default() });
        if is_own {
            self.number = self.number.wrapping_add(1).max(1);
            self.ended.clear();
        }
    }

    pub(crate) fn end(&mut self, at_ns: u64, complete: bool) {
        if let Some(mut run) = self.running.take() {
            run.end_ns = at_ns;
            run.complete = complete;
            self.settling = Some(run);
        }
    }

    /// Whether somebody listens on a port, by the last complete census.
    pub(crate) fn listens(&self, address: IpAddr, port: u16) -> bool {
        let any = |unspecified: IpAddr| self.listening.contains(&(unspecified, port));
        self.listening.contains(&(address, port))
            || any(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
            || any(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED))
    }

    pub(crate) fn is_fresh(&self, now_ns: u64) -> bool {
        self.complete_ns.is_some_and(|at| now_ns.saturating_sub(at) < FRESH_NS)
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
        if (self.running.is_some() || self.settling.is_some()) && self.ended.len() < limit {
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
            row.cookie = self.identity(row.cookie, &row.tuple);
            match row.state {
                CensusState::TimeWait | CensusState::TimewaitFinWait2 => {
                    if !self.seen(&row, run.begin_ns)
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
    fn seen(&mut self, row: &CensusRow, begin_ns: u64) -> bool {
        let Some(live) = self.model.live.get_mut(row.cookie) else { return false };
        live.census = self.census.number;
        live.expires_ns = expires_ns(row, begin_ns);
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
        self.corrected("found_by_census", ended.outcome, Outcome::TimeWait(substate));
        self.remember(ended.cookie, ended.end_ns, Outcome::TimeWait(substate));
        if ended.shown {
            self.model.change_ended(ended, 1, -i64::from(ended.counts_as_reset()));
        }
        self.follow(ended, substate, Known::Census, expires_ns);
    }

    /// Draws the conclusions of the last census, once the records of what it saw have arrived.
    pub(crate) fn settle(&mut self, now_ns: u64) {
        if self.census.settling.as_ref().is_none_or(|run| now_ns < run.end_ns.saturating_add(SETTLE_NS)) {
            return;
        }
        let Some(mut run) = self.census.settling.take() else { return };
        if run.complete {
            self.census.listening = std::mem::take(&mut run.listening);
        }
        let mut unfollowed = Coverage::default();
        for row in std::mem::take(&mut run.strangers) {
            self.stranger(&row, &run, &mut unfollowed);
        }
        if run.complete {
            self.census.complete_ns = Some(run.end_ns);
            self.end_absent(&run);
            self.count_established(&run);
        }
        self.cover(unfollowed, &run);
        self.refresh_soon();
    }

    /// A timewait socket that the trace did not know when the census saw it.
    fn stranger(&mut self, row: &CensusRow, run: &Run, unfollowed: &mut Coverage) {
        let (expires_ns, substate) = (expires_ns(row, run.begin_ns), substate(row));
        if self.seen(row, run.begin_ns) {
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
            self.mark(row.cookie);
            return;
        }
        let start_ns = self.model.summary.window.start_ns;
        let made_before = expires_ns.saturating_sub(TIME_WAIT_NS) < start_ns.saturating_add(ROUNDING_NS);
        // A FIN_WAIT2 timewait socket starts its minute anew when the peer's FIN comes, so a young timer is no proof
        // that it was made since. The first whole census has every older one: whoever is missing there is younger.
        let before_start = self.census.complete_ns.is_none() && (made_before || self.nothing_lost());
        if self.model.live.is_full() {
            if before_start {
                unfollowed.before_start += 1;
            } else {
                unfollowed.unattributed += 1;
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
        self.mark(row.cookie);
    }

    fn mark(&mut self, cookie: u64) {
        if let Some(live) = self.model.live.get_mut(cookie) {
            live.census = self.census.number;
        }
    }

    fn nothing_lost(&self) -> bool {
        let KernelCounters { ring_full, map_full, recursion, stale, undecodable, .. } = self.model.summary.counters;
        let untracked = self.model.summary.totals.live_untracked;
        [ring_full, map_full, recursion, stale, undecodable, untracked].iter().all(|&count| count == 0)
    }

    /// Ends those that a complete census did not have.
    fn end_absent(&mut self, run: &Run) {
        let (number, netns) = (self.census.number, self.model.summary.host.netns);
        let absent = |live: &Live| live.census != number && live.made_ns < run.begin_ns && live.tuple.netns == netns;
        let mut ended = Vec::new();
        self.model.live.remove_if(absent, |live| ended.push(live));
        for live in &ended {
            // It was a guess that this one had been made, and no census ever had it.
            if live.known == Known::Inferred && live.census == 0 {
                self.never_made(live);
                continue;
            }
            // Reused by a new connection, killed by a reset or by data for a FIN_WAIT2 timewait socket.
            let early = live.expires_ns > run.begin_ns.saturating_add(ROUNDING_NS);
            if early {
                *self.model.summary.totals.corrections.entry("ended_early").or_default() += 1;
            }
            self.model.end(live, if early { End::Early } else { End::Expired });
        }
    }

    fn never_made(&mut self, live: &Live) {
        self.corrected("never_made", Outcome::TimeWait(live.substate), Outcome::Unknown);
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

    fn count_established(&mut self, run: &Run) {
        let netns = self.model.summary.host.netns;
        for row in self.model.destinations.rows_mut() {
            let DestRow::Dest(key) = row.key else { continue };
            if let (Role::Active, Some(remote), true) = (key.role, key.remote_addr, key.netns == netns) {
                row.established = run.open.get(&(key.local_addr, remote, key.port)).copied().unwrap_or(0);
            }
        }
    }

    fn cover(&mut self, unfollowed: Coverage, run: &Run) {
        let number = self.census.number;
        let mut coverage = unfollowed;
        for live in self.model.live.iter().filter(|live| live.census == number) {
            if live.attributed {
                coverage.attributed += 1;
            } else if live.before_start {
                coverage.before_start += 1;
            } else {
                coverage.unattributed += 1;
            }
        }
        coverage.census = coverage.attributed + coverage.before_start + coverage.unattributed;
        let summary = &mut self.model.summary;
        summary.coverage = coverage;
        summary.census_at_ns = Some(run.begin_ns);
        summary.census_complete = run.complete;
    }
}

fn substate(row: &CensusRow) -> Substate {
    if row.state == CensusState::TimeWait { Substate::TimeWait } else { Substate::FinWait2 }
}

fn expires_ns(row: &CensusRow, begin_ns: u64) -> u64 {
    begin_ns.saturating_add(u64::from(row.expires_ms) * 1_000_000)
}
