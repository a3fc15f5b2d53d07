//! Tracks TIME_WAIT sockets from their creation on, and corrects what was counted for them.

use super::State;
use super::closed::ClosedConnection;
use super::time_wait::TimeWait;
use crate::classify::{Outcome, after_reset_sent};
use crate::counts::Counts;
use crate::event::Tuple;
use crate::summary::{Provenance, Substate};
use crate::table::RowRef;

/// How long after the end of a connection its reset may follow: it is the same call in the kernel.
const RESET_NS: u64 = 10_000_000;

impl State {
    /// Whether a socket without a known owner is shown.
    pub(super) fn passes(&self, tuple: &Tuple) -> bool {
        self.filter.passes(tuple, [None, None])
    }

    /// Tracks a TIME_WAIT socket from now on.
    pub(super) fn follow(
        &mut self,
        ended: &ClosedConnection,
        mut substate: Substate,
        mut known: Provenance,
        mut expires_ns: u64,
    ) {
        // The same addresses again: the old TIME_WAIT socket is gone.
        let replaced = self.end_live(ended.cookie);
        if let Some(unattributed) = replaced.as_ref().filter(|socket| socket.is_unattributed()) {
            // Or a census showed it before its record arrived: the census is newer.
            (substate, expires_ns) = (unattributed.substate, unattributed.expires_ns);
            if known == Provenance::Inferred {
                known = Provenance::Census;
            }
        }
        if self.time_wait.is_full() {
            self.summary.totals.time_wait_untracked += 1;
            return;
        }
        let mut socket = TimeWait {
            cookie: ended.cookie,
            created_ns: ended.end_ns,
            expires_ns,
            tuple: ended.tuple,
            closer: ended.closer,
            opener: ended.opener,
            destination: ended.destination,
            cell: RowRef::OTHER,
            // The census that showed it before, or one that may have seen it before its record arrived.
            census: replaced
                .filter(|socket| socket.is_unattributed() || self.census.is_unsettled(socket.census))
                .map_or(0, |socket| socket.census),
            role: ended.role,
            substate,
            known,
            // A connection that did not fit in the map at its start is also first seen mid-connection.
            before_start: !ended.attributed && ended.older && self.summary.counters.map_full == 0,
            attributed: ended.attributed,
            by_kernel: ended.by_kernel,
            shown: ended.shown,
            bound: ended.bound,
            peer_timestamps: ended.peer_timestamps,
        };
        self.accounts.owners.retain(socket.closer);
        self.accounts.owners.retain(socket.opener);
        if socket.shown {
            socket.cell = self.accounts.cell(socket.closer, socket.destination);
        }
        self.count_live(&socket, 1);
        if socket.census == 0 {
            self.census.unconfirmed(socket.cookie, &self.time_wait);
        }
        self.time_wait.insert(socket);
    }

    /// The identity of a TIME_WAIT socket that may be tracked from now on. Another one that is alive may have its cookie.
    pub(super) fn new_identity(&mut self, cookie: u64, tuple: &Tuple) -> u64 {
        let alive = self.time_wait.get(cookie).map(|live| live.tuple);
        self.shared.beside(cookie, alive, tuple)
    }

    /// Removes the live TIME_WAIT socket with that cookie, if there is one.
    pub(super) fn end_live(&mut self, cookie: u64) -> Option<TimeWait> {
        let socket = self.time_wait.remove(cookie)?;
        self.ended(&socket);
        Some(socket)
    }

    /// Adds a live TIME_WAIT socket to the counts, or subtracts it.
    pub(super) fn count_live(&mut self, socket: &TimeWait, by: i64) {
        if !socket.shown {
            return;
        }
        let fin_wait2 = if socket.substate == Substate::FinWait2 { by } else { 0 };
        let change = |counts: &mut Counts| {
            counts.time_wait_live = counts.time_wait_live.saturating_add_signed(by);
            counts.time_wait_live_peak = counts.time_wait_live_peak.max(counts.time_wait_live);
            counts.fin_wait2_live = counts.fin_wait2_live.saturating_add_signed(fin_wait2);
        };
        let accounts = &mut self.accounts;
        let cell = accounts.cell_again(socket.cell, socket.closer, socket.destination);
        change(&mut accounts.cells.row_mut(cell).counts);
        let process = accounts.process(socket.closer);
        accounts.processes.row_mut(process).meter.count_live(by);
        accounts.destinations.row_mut(socket.destination).meter.count_live(by);
        change(&mut self.summary.totals.counts);
    }

    /// A live TIME_WAIT socket that was removed from the table has ended.
    pub(super) fn ended(&mut self, socket: &TimeWait) {
        self.count_live(socket, -1);
        self.accounts.owners.release(socket.closer);
        self.accounts.owners.release(socket.opener);
    }

    /// Whether a connection that ended at that time is counted.
    pub(super) fn is_counted(&self, end_ns: u64) -> bool {
        end_ns >= self.counted_from_ns
    }

    /// Corrects what was counted for an ended connection.
    pub(super) fn change_ended(&mut self, ended: &ClosedConnection, created: i64, reset: i64) {
        if !self.is_counted(ended.end_ns) {
            return;
        }
        let by_closer =
            |counts: &mut Counts| counts.time_wait_created = counts.time_wait_created.saturating_add_signed(created);
        let by_either = |counts: &mut Counts| counts.reset = counts.reset.saturating_add_signed(reset);
        let accounts = &mut self.accounts;
        accounts.add(ended.closer, ended.destination, by_closer);
        accounts.add(ended.main(), ended.destination, by_either);
        let cell = accounts.cell(ended.user(), ended.destination);
        accounts.cells.row_mut(cell).pattern.correct(created);
        accounts.destinations.row_mut(ended.destination).pattern.correct(created);
        let process = accounts.process(ended.closer);
        for meter in [
            &mut accounts.processes.row_mut(process).meter,
            &mut accounts.destinations.row_mut(ended.destination).meter,
        ] {
            meter.created = meter.created.saturating_add_signed(created);
        }
        let totals = &mut self.summary.totals.counts;
        by_closer(totals);
        by_either(totals);
    }

    pub(super) fn reset_sent(&mut self, cookie: u64, at_ns: u64) {
        // Search all of them: records arrive only roughly in the order of their ends, and a recovered one is far
        // behind.
        let of_it =
            |ended: &&mut ClosedConnection| ended.cookie == cookie && ended.end_ns.saturating_add(RESET_NS) >= at_ns;
        let Some(ended) = self.recent.iter_mut().rev().find(of_it) else {
            return;
        };
        let before = ended.outcome;
        let Some(outcome) = after_reset_sent(before) else { return };
        ended.outcome = outcome;
        let ended = *ended;
        self.census.reset(&ended);
        self.end_live(cookie);
        self.corrected("reset_after_close", ended.end_ns, before, outcome);
        if ended.shown {
            let created = matches!(before, Outcome::TimeWait(_));
            let counted = before == Outcome::ResetReceived;
            self.change_ended(&ended, -i64::from(created), i64::from(!counted));
        }
    }

    /// Moves a connection that ended at that time from one outcome to another.
    pub(super) fn corrected(&mut self, why: &'static str, end_ns: u64, from: Outcome, to: Outcome) {
        if !self.is_counted(end_ns) {
            return;
        }
        let totals = &mut self.summary.totals;
        if let Some(count) = totals.outcomes.get_mut(from.name()) {
            *count = count.saturating_sub(1);
        }
        *totals.outcomes.entry(to.name().into()).or_default() += 1;
        *totals.corrections.entry(why.into()).or_default() += 1;
    }

    /// Applies a correction to what is remembered of a connection.
    pub(super) fn remember(&mut self, cookie: u64, end_ns: u64, outcome: Outcome) {
        let of_it = |ended: &&mut ClosedConnection| ended.cookie == cookie && ended.end_ns == end_ns;
        if let Some(ended) = self.recent.iter_mut().rev().find(of_it) {
            ended.outcome = outcome;
        }
    }
}
