//! The last minutes: TIME_WAIT sockets created per second, and how many exist, by the programs that create most.

use crate::label;
use std::collections::{HashMap, VecDeque};
use twtrace_core::snapshot::{Counts, GroupBy, Row, Snapshot};

/// Moments kept: five minutes of an interval of a second. When full, the oldest one is dropped.
pub const MOMENTS: usize = 300;

/// Programs kept of a moment: those with the most sockets, live and created in a minute at this rate.
const PROGRAMS: usize = 8;

/// A step of the figures that is that many times as long as the one before is a jump in a recording, or a pause of the
/// host: a new chart begins.
const JUMP: u64 = 10;

/// No step below that is a jump.
const NO_JUMP_NS: u64 = 60_000_000_000;

/// The figures of a program at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// TIME_WAIT sockets created per second, over the last few seconds.
    pub created_per_s: f64,
    /// TIME_WAIT sockets alive.
    pub live: f64,
}

impl Figures {
    /// By how much it matters: what is alive, and what is created in a minute at this rate.
    pub fn size(&self) -> f64 {
        self.created_per_s * 60.0 + self.live
    }
}

/// One moment.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Monotonic time, nanoseconds.
    pub at_ns: u64,
    /// All programs together.
    pub all: Figures,
    /// Those that matter most, by the program's row.
    pub programs: Vec<(u64, Figures)>,
}

impl Moment {
    /// The figures of a program; `None` if it did not matter.
    pub fn of(&self, id: u64) -> Option<&Figures> {
        self.programs.iter().find(|(other, _)| *other == id).map(|(_, figures)| figures)
    }
}

/// What the last snapshots said.
#[derive(Clone, Debug, Default)]
pub struct Trend {
    moments: VecDeque<Moment>,
    names: HashMap<u64, String>,
    /// How long the last step was, nanoseconds.
    step_ns: u64,
}

impl Trend {
    /// Adds a snapshot, if it is newer than the last one. An older one begins a new chart.
    pub fn add(&mut self, snapshot: &Snapshot) {
        let summary = snapshot.summary();
        let at_ns = summary.window.now_ns;
        if let Some(last_ns) = self.moments.back().map(|moment| moment.at_ns) {
            let step_ns = at_ns.saturating_sub(last_ns);
            if at_ns == last_ns || step_ns > 0 && step_ns < self.step_ns / 2 {
                // The same again, or one that a key asked for.
                return;
            }
            if at_ns < last_ns || step_ns > NO_JUMP_NS.max(self.step_ns.saturating_mul(JUMP)) && self.step_ns > 0 {
                *self = Self::default();
            } else {
                self.step_ns = step_ns;
            }
        }
        // The same rate as in the list: over the last few seconds.
        let figures =
            |counts: &Counts| Figures { created_per_s: counts.created_per_s, live: counts.time_wait_live as f64 };
        let of = |row: &Row| (row.id, figures(&row.counts));
        let rows = snapshot.rows(GroupBy::Program);
        let mut programs: Vec<(u64, Figures)> = rows.iter().map(of).collect();
        programs.retain(|(_, figures)| *figures != Figures::default());
        programs.sort_unstable_by(|(id, one), (other_id, other)| {
            other.size().total_cmp(&one.size()).then(id.cmp(other_id))
        });
        programs.truncate(PROGRAMS);
        let name = |row: &Row| (row.id, label::group(row, snapshot));
        let is_kept = |row: &&Row| programs.iter().any(|(id, _)| *id == row.id);
        self.names.extend(rows.iter().filter(is_kept).map(name));
        if self.moments.len() == MOMENTS {
            self.moments.pop_front();
            let moments = &self.moments;
            self.names.retain(|id, _| moments.iter().any(|moment| moment.programs.iter().any(|it| it.0 == *id)));
        }
        self.moments.push_back(Moment { at_ns, all: figures(&summary.totals.counts), programs });
    }

    /// The next step may be of any length.
    pub fn change_step(&mut self) {
        self.step_ns = 0;
    }

    /// All moments, the oldest first.
    pub fn moments(&self) -> impl ExactSizeIterator<Item = &Moment> {
        self.moments.iter()
    }

    /// The name of a program, clean.
    pub fn name(&self, id: u64) -> &str {
        self.names.get(&id).map_or("", String::as_str)
    }

    /// The programs that matter most over these moments, at most so many.
    pub fn programs(moments: &[&Moment], most: usize) -> Vec<u64> {
        let mut sums: HashMap<u64, f64> = HashMap::new();
        for (id, figures) in moments.iter().flat_map(|moment| &moment.programs) {
            *sums.entry(*id).or_default() += figures.size();
        }
        let mut programs: Vec<(u64, f64)> = sums.into_iter().collect();
        programs.sort_unstable_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        programs.truncate(most);
        programs.into_iter().map(|(id, _)| id).collect()
    }
}
