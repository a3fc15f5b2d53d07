//! Counting from a later moment on, for figures of a part of a recording.

use crate::account::destination;
use crate::engine::{Ended, Engine};
use crate::history::History;
use crate::model::{Model, Totals};

impl Engine {
    /// Forgets everything that was counted so far, as if the trace began now, but knows who is alive: live sockets with
    /// their owners, gauges, names and the last census stay. The kernel side's counters stay as well, for they are
    /// totals since it was attached. A life that ended before and is judged otherwise later is not counted any more.
    pub fn count_from_now(&mut self) {
        let Model { summary, attribution, destinations, pairs, history, counted_from_ns, failures, .. } =
            &mut self.model;
        attribution.restart();
        destinations.restart();
        pairs.restart();
        self.census.rate.restart();

        let now_ns = summary.window.now_ns;
        let passed = now_ns.saturating_sub(summary.window.start_ns);
        summary.window.start_unix_ns = summary.window.start_unix_ns.saturating_add(passed.into());
        summary.window.start_ns = now_ns;
        // What ended at this very moment was told before.
        *counted_from_ns = now_ns.saturating_add(1);
        summary.totals.counts.restart();
        failures.restart();
        summary.totals = Totals { counts: std::mem::take(&mut summary.totals.counts), ..Totals::default() };
        if let Some(history) = history {
            *history = History::new(now_ns);
        }
        // Rates and budgets of what is left are worked out at the next tick.
        self.refresh_soon();
    }

    /// Gives an ended life rows again when those that it was counted in are gone.
    pub(crate) fn place(&mut self, ended: &mut Ended) {
        ended.closer = self.model.attribution.renumber(ended.closer);
        ended.destination = self.model.destinations.place(destination(&ended.tuple, ended.role)).0;
        let process = self.model.attribution.process_row(ended.closer);
        ended.pair = self.model.pair(process, ended.destination);
    }
}

impl Model {
    /// Whether a life that ended then is among what is counted.
    pub(crate) fn counts(&self, end_ns: u64) -> bool {
        end_ns >= self.counted_from_ns
    }
}
