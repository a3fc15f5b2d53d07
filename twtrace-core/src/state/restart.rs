//! Counts from a later moment on, for figures of a part of a recording.

use super::closed::{ClosedConnection, destination};
use super::{History, State};
use crate::summary::Totals;

impl State {
    /// Resets everything that was counted so far, as if the trace began now, but keeps what is alive: live sockets with
    /// their owners, gauges, names and the last census stay. The kernel side's counters stay as well, because they are
    /// totals since it was attached. A connection that ended before and is reclassified later is no longer counted.
    pub fn count_from_now(&mut self) {
        if let Some(whole) = &mut self.whole {
            whole.count_from_now();
        }
        self.accounts.restart();
        self.census.rate = Default::default();
        self.failures.restart();

        let summary = &mut self.summary;
        let now_ns = summary.window.now_ns;
        let passed = now_ns.saturating_sub(summary.window.start_ns);
        summary.window.start_unix_ns = summary.window.start_unix_ns.saturating_add(passed.into());
        summary.window.start_ns = now_ns;
        // Connections that ended at this very moment were reported before.
        self.counted_from_ns = now_ns.saturating_add(1);
        summary.totals.counts.restart();
        summary.totals = Totals { counts: std::mem::take(&mut summary.totals.counts), ..Totals::default() };
        if let Some(history) = &mut self.history {
            *history = History::new(now_ns);
        }
        // Rates and budgets of what is left are computed at the next tick.
        self.refresh_soon();
    }

    /// Gives an ended connection rows again when those that it was counted in are gone.
    pub(super) fn place(&mut self, ended: &mut ClosedConnection) {
        ended.closer = self.accounts.renumber(ended.closer);
        ended.destination = self.accounts.destination(destination(&ended.tuple, ended.role));
    }
}
