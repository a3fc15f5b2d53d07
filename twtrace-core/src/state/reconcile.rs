//! Compares the kernel's own socket list with the trace: which live sockets are known, which are gone, which were
//! classified wrongly.

use super::State;
use super::census::{Missed, Run};
use super::closed::{ClosedConnection, destination};
use super::ends::End;
use super::owners::UNKNOWN;
use super::shared::is_same;
use super::time_wait::TimeWait;
use crate::classify::Outcome;
use crate::event::{CensusRow, CensusState, KernelCounters, Role, Tuple};
use crate::keys::DestRow;
use crate::summary::{Provenance, Substate};
use crate::table::{Map, RowRef};

/// Timers are rounded: a creation or end time that is computed from one is known only to within this.
const ROUNDING_NS: u64 = 1_000_000_000;

/// With this many open connections, a destination has a row although none of them has ended.
const CROWD: u64 = 128;

impl State {
    pub(super) fn census_rows(&mut self, rows: Vec<CensusRow>) {
        let Some(mut run) = self.census.running.take() else { return };
        let limit = self.time_wait.limit();
        let by_tuple = self.summary.tracing.by_tuple;
        for mut row in rows {
            // The namespace that was dumped is more reliable than the row's own.
            row.tuple.netns = run.netns;
            let cookie = row.cookie;
            row.cookie = self.identity(row.cookie, &row.tuple);
            let Some(space) = self.census.spaces.get_mut(&run.netns) else { break };
            if space.remember(cookie, &row, run.number, run.begin_ns).is_err() {
                self.summary.totals.open_untracked += 1;
            }
            let live = self.time_wait.get(row.cookie);
            let is_other = |live: &TimeWait| !is_same(&live.tuple, &row.tuple);
            if !row.state.is_timewait() {
                if live.is_some_and(|live| live.census != 0 && !is_other(live)) {
                    space.turned.insert(row.cookie);
                }
                continue;
            }
            let is_without = self.shared.is_without(row.cookie);
            if !by_tuple && !is_without {
                row.cookie = self.shared.beside(cookie, live.map(|live| live.tuple), &row.tuple);
            }
            let was_listed = |live: &TimeWait| ![0, run.number].contains(&live.census);
            if self.shared.first(cookie).is_some() && self.time_wait.get(row.cookie).is_some_and(was_listed) {
                self.shared.listed(cookie, run.number);
            }
            space.turned.remove(&row.cookie);
            run.timers.see(&row, self.time_wait.get(row.cookie), run.begin_ns);
            if by_tuple || is_without {
                space.alias_cookie(cookie, row.cookie, limit);
            }
            if self.seen(&row, &run) {
                continue;
            }
            if let Some(place) = run.places.get(&row.cookie) {
                run.unattributed[*place] = row;
            } else if run.unattributed.len() < limit {
                run.places.insert(row.cookie, run.unattributed.len());
                run.unattributed.push(row);
            }
        }
        self.census.running = Some(run);
    }

    /// Updates a tracked socket from a census row; `false` when the socket is not tracked.
    fn seen(&mut self, row: &CensusRow, run: &Run) -> bool {
        let turned = self.time_wait.change(row.cookie, |live| {
            live.census = run.number;
            if live.tuple.netns == 0 {
                live.tuple.netns = run.netns;
            }
            live.expires_ns = expires_ns(row, run.begin_ns);
            if live.known == Provenance::Inferred {
                live.known = Provenance::Census;
            }
            let before = live.clone();
            live.substate = substate(row);
            (live.substate != before.substate).then(|| (before, live.clone()))
        });
        if let Some(Some((before, after))) = &turned {
            self.count_live(before, -1);
            self.count_live(after, 1);
        }
        turned.is_some()
    }

    /// Remembers a connection that may have left a TIME_WAIT socket, unless a census has already shown that it did.
    pub(super) fn confirm_later(&mut self, ended: ClosedConnection) {
        let unattributed = self.time_wait.get(ended.cookie).filter(|live| live.is_unattributed());
        if let Some((substate, expires_ns)) = unattributed.map(|live| (live.substate, live.expires_ns)) {
            self.found(&ended, substate, expires_ns);
            return;
        }
        self.retain(&ended);
        let forgotten = self.census.confirm_later(ended);
        self.release(forgotten);
    }

    /// A connection that was classified otherwise left a TIME_WAIT socket: it was found after all.
    pub(super) fn found(&mut self, ended: &ClosedConnection, substate: Substate, expires_ns: u64) {
        self.corrected("found_by_census", ended.end_ns, ended.outcome, Outcome::TimeWait(substate));
        self.remember(ended.cookie, ended.end_ns, Outcome::TimeWait(substate));
        let mut ended = *ended;
        if ended.shown {
            self.change_ended(&ended, 1, -i64::from(ended.counts_as_reset()));
            // It is alive and needs rows, although those that it was counted in may be gone.
            self.place(&mut ended);
        }
        self.follow(&ended, substate, Provenance::Census, expires_ns);
    }

    /// Evaluates censuses, once the records of what they saw have arrived.
    pub(super) fn reconcile(&mut self, now_ns: u64) {
        self.settle_runs(now_ns, None);
    }

    /// The same, but evaluates those of one namespace at once: its next census begins.
    pub(super) fn settle_for(&mut self, netns: u32, now_ns: u64) {
        self.settle_runs(now_ns, Some(netns));
    }

    fn settle_runs(&mut self, now_ns: u64, netns: Option<u32>) {
        let mut runs = Map::default();
        while let Some(mut run) = self.census.next_settled(now_ns, netns) {
            for row in std::mem::take(&mut run.unattributed) {
                self.unattributed(&row, &run);
            }
            if run.complete
                && let Some(space) = self.census.spaces.get_mut(&run.netns)
            {
                space.complete_ns = Some(run.end_ns);
                space.searchable_ns = Some(run.begin_ns);
                if run.whole {
                    space.keep_only(run.number);
                    self.forget_bound(run.netns, run.begin_ns);
                }
            }
            if !run.timers.is_empty() {
                self.summary.measure(run.netns, run.timers.contradict());
            }
            runs.insert(run.netns, run);
        }
        if runs.is_empty() {
            return;
        }
        // All of them in one pass: there can be a thousand namespaces, and a hundred thousand sockets.
        self.end_absent(&runs);
        self.count_established(&runs);
        self.cover(&runs);
        self.summary.sum_up();
        self.refresh_soon();
        if self.census.running.is_none() && self.census.settling.is_empty() {
            self.census.ended.clear();
        }
    }

    /// A TIME_WAIT socket that the trace did not know when the census saw it.
    fn unattributed(&mut self, row: &CensusRow, run: &Run) {
        let (expires_ns, substate) = (expires_ns(row, run.begin_ns), substate(row));
        if self.seen(row, run) {
            // Its record has arrived in the meantime.
            return;
        }
        if self.census.ended.contains(&row.cookie) {
            // It was tracked, and its end has been reported in the meantime.
            return;
        }
        if let Some(pending) = self.census.take_pending(row.cookie) {
            self.found(&pending, substate, expires_ns);
            self.release(Some(pending));
            self.mark(row.cookie, run.number);
            return;
        }
        let start_ns = self.summary.window.start_ns;
        let lasts_ns = self.summary.time_wait_ns(run.netns);
        let created_before = expires_ns.saturating_sub(lasts_ns) < start_ns.saturating_add(ROUNDING_NS);
        // The peer's FIN restarts the minute of a TIME_WAIT socket in FIN_WAIT2, so a young timer does not prove that
        // the socket was created since. The first whole census contains every older one: a socket that is missing there
        // is younger.
        let before_start = self.census.is_first(run.netns) && (created_before || self.nothing_lost());
        if self.time_wait.is_full() {
            if let Some(space) = self.census.spaces.get_mut(&run.netns) {
                space.leave_out(row.cookie, before_start, run.number, self.time_wait.limit());
            }
            return;
        }
        let role = self.role(Role::Unknown, &row.tuple);
        let shown = self.passes(&row.tuple);
        let mut found = ClosedConnection {
            cookie: row.cookie,
            end_ns: 0,
            outcome: Outcome::TimeWait(substate),
            tuple: row.tuple,
            role,
            closer: UNKNOWN,
            opener: UNKNOWN,
            destination: RowRef::OTHER,
            older: before_start,
            attributed: false,
            by_kernel: false,
            shown,
            bound: false,
            peer_timestamps: None,
        };
        if shown {
            found.destination = self.accounts.destination(destination(&row.tuple, role));
        }
        self.follow(&found, substate, Provenance::Census, expires_ns);
        self.mark(row.cookie, run.number);
    }

    fn mark(&mut self, cookie: u64, number: u32) {
        self.time_wait.change(cookie, |live| live.census = number);
    }

    fn nothing_lost(&self) -> bool {
        let KernelCounters { ring_full, parts_refused, recursion, stale, undecodable, .. } = self.summary.counters;
        let untracked = self.summary.totals.time_wait_untracked;
        [ring_full, parts_refused, recursion, stale, undecodable, untracked].iter().all(|&count| count == 0)
    }

    /// Ends the tracked sockets that complete censuses of their namespace did not contain: two in a row, unless the
    /// socket's time was over.
    fn end_absent(&mut self, runs: &Map<u32, Run>) {
        let unknown = self.summary.place_of(0);
        let run_of = |netns: u32| runs.get(&if netns == 0 { unknown } else { netns }).filter(|run| run.complete);
        // One that was created since the census began may be missing although it is alive.
        let absent = |live: &TimeWait, run: &Run| live.census != run.number && live.created_ns < run.begin_ns;
        let is_over = |live: &TimeWait, run: &Run| live.expires_ns <= run.begin_ns.saturating_add(ROUNDING_NS);
        let (live, missed) = (&mut self.time_wait, &mut self.census.missed);
        let mut ended = Vec::new();
        if runs.values().any(|run| run.whole && run.complete) {
            for socket in live.iter().filter(|socket| socket.census != 0) {
                if let Some(run) = run_of(socket.tuple.netns).filter(|run| run.whole && absent(socket, run)) {
                    missed.push(Missed { cookie: socket.cookie, number: run.number });
                }
            }
        }
        for run in runs.values().filter(|run| run.complete) {
            let Some(space) = self.census.spaces.get_mut(&run.netns) else { continue };
            for cookie in run.gone.iter().filter(|_| !run.whole) {
                let identity = space.release(*cookie);
                // A socket that ended without a record no longer uses its port.
                self.bound.remove(cookie);
                for identity in self.shared.others(*cookie).iter().copied().chain([identity]) {
                    if live.get(identity).is_some_and(|live| live.census != 0 && absent(live, run)) {
                        missed.push(Missed { cookie: identity, number: run.number });
                    }
                }
            }
            for identity in self.shared.in_census(run.number).filter(|_| !run.whole) {
                if live.get(identity).is_some_and(|live| live.census != 0 && absent(live, run)) {
                    missed.push(Missed { cookie: identity, number: run.number });
                }
            }
            for identity in space.turned.drain() {
                if live.get(identity).is_some_and(|live| live.census != 0 && absent(live, run)) {
                    ended.extend(live.remove(identity));
                }
            }
        }
        self.census.unconfirmed.retain(|cookie| {
            let Some(socket) = live.get(*cookie).filter(|live| live.census == 0) else { return false };
            let Some(run) = run_of(socket.tuple.netns).filter(|run| absent(socket, run)) else { return true };
            if socket.known == Provenance::Inferred {
                // That it was created is a guess, which the first census decides.
                ended.extend(live.remove(*cookie));
            } else {
                missed.push(Missed { cookie: *cookie, number: run.number });
            }
            false
        });
        missed.retain(|one| {
            // A census has shown it since.
            let Some(socket) = live.get(one.cookie).filter(|live| live.census <= one.number) else { return false };
            let Some(run) = run_of(socket.tuple.netns).filter(|run| absent(socket, run)) else { return true };
            let is_gone = one.number != run.number || is_over(socket, run);
            if is_gone {
                ended.extend(live.remove(one.cookie));
            }
            !is_gone
        });
        self.shared.keep(|identity| live.get(identity).is_some());
        for live in &ended {
            // Its creation was inferred, and no census ever contained it.
            if live.known == Provenance::Inferred && live.census == 0 {
                self.never_created(live);
                continue;
            }
            // Reused by a new connection, or ended early by a reset or by data for a TIME_WAIT socket in FIN_WAIT2.
            let begin_ns = run_of(live.tuple.netns).map_or(0, |run| run.begin_ns);
            let early = live.expires_ns > begin_ns.saturating_add(ROUNDING_NS);
            if early {
                *self.summary.totals.corrections.entry("ended_early".into()).or_default() += 1;
            }
            self.end(live, if early { End::Early } else { End::Expired });
        }
    }

    fn never_created(&mut self, live: &TimeWait) {
        self.corrected("never_created", live.created_ns, Outcome::TimeWait(live.substate), Outcome::Unknown);
        self.remember(live.cookie, live.created_ns, Outcome::Unknown);
        if live.shown {
            let ended = ClosedConnection {
                cookie: live.cookie,
                end_ns: live.created_ns,
                outcome: Outcome::Unknown,
                tuple: live.tuple,
                role: live.role,
                closer: live.closer,
                opener: live.opener,
                destination: live.destination,
                older: false,
                attributed: live.attributed,
                by_kernel: live.by_kernel,
                shown: true,
                bound: live.bound,
                peer_timestamps: live.peer_timestamps,
            };
            self.change_ended(&ended, -1, 0);
        }
        self.ended(live);
    }

    fn count_established(&mut self, runs: &Map<u32, Run>) {
        for netns in runs.values().filter(|run| run.complete).map(|run| run.netns) {
            // Connections to them may never end, but the exhaustion of their ports must still be forecast.
            let crowds = self.census.spaces.get(&netns).map(|space| space.crowds(CROWD)).unwrap_or_default();
            let is_unknown = self.summary.place_of(0) == netns;
            for (local_addr, remote_addr, remote_port) in crowds {
                let tuple = Tuple { netns, local_addr, local_port: 0, remote_addr, remote_port, v4_mapped: false };
                let of_unknown = destination(&Tuple { netns: 0, ..tuple }, Role::Active);
                // Where namespaces are not known, its row is there without one.
                let is_there = is_unknown && self.accounts.destinations.find(&of_unknown).is_some();
                if self.passes(&tuple) && !is_there {
                    self.accounts.destination(destination(&tuple, Role::Active));
                }
            }
        }
        let unknown = self.summary.place_of(0);
        for row in self.accounts.destinations.rows_mut() {
            let DestRow::Dest(key) = row.key else { continue };
            let netns = if key.netns == 0 { unknown } else { key.netns };
            if let (Role::Active, Some(remote), true) =
                (key.role, key.remote_addr, runs.get(&netns).is_some_and(|run| run.complete))
            {
                let space = self.census.spaces.get(&netns);
                row.established = space.map_or(0, |space| space.open_to(key.local_addr, remote, key.port));
                row.trend.add(runs.get(&netns).map_or(0, |run| run.begin_ns), row.established);
            }
        }
    }

    fn cover(&mut self, runs: &Map<u32, Run>) {
        for (netns, run) in runs {
            let mut coverage = self.time_wait.of(*netns).coverage;
            if let Some(space) = self.census.spaces.get(netns) {
                space.add_left_out(&mut coverage);
            }
            coverage.census = coverage.attributed + coverage.before_start + coverage.unattributed;
            if let Some(namespace) = self.summary.place_namespace(*netns) {
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
