//! `twtrace replay --what-if` as text and as JSON.

use crate::grid::{Grid, Head};
use crate::text;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;
use twtrace_core::recording::Info;
use twtrace_core::what_if::{Change, Demands, Fullest, Outcome};

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;

/// Difference between the model and what was recorded above which the answer is in doubt.
const DOUBT: f64 = 0.1;

/// What `twtrace replay --what-if --json` writes.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// Version of this form.
    #[cfg_attr(test, schemars(extend("const" = SCHEMA)))]
    schema: u32,
    /// The recording.
    recording: String,
    /// Length of its trace, seconds.
    seconds: f64,
    /// Requests that were left out, because there were too many.
    left_out: u64,
    /// What was recorded.
    recorded: Recorded,
    /// What the model makes of it without any change: the difference from what was recorded is its error.
    unchanged: Outcome,
    /// What would have been, with each change alone, then with all of them.
    changed: Vec<Changed>,
}

/// The recorded figures that the model computes as well.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Recorded {
    /// Connections that this host opened.
    pub opened: u64,
    /// Requests that found no local port.
    pub failed: u64,
    /// When the first of them was, nanoseconds since the trace began.
    pub first_failed_ns: Option<u64>,
    /// Most TIME_WAIT sockets at a time.
    pub time_wait_peak: u64,
}

/// What would have been with some changes.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Changed {
    /// As they are written on the command line.
    changes: Vec<String>,
    /// What would have been.
    outcome: Outcome,
}

impl Report {
    /// Runs the model without changes, with each of them, and with all.
    pub fn new(info: &Info, demands: &Demands, time_wait_peak: u64, changes: &[Change]) -> Self {
        let (failed, first_failed_ns) = demands.recorded_failures();
        let run = |changes: &[Change]| Changed {
            changes: changes.iter().map(ToString::to_string).collect(),
            outcome: demands.run(changes),
        };
        let mut changed: Vec<Changed> = changes.iter().map(|change| run(&[*change])).collect();
        if changes.len() > 1 {
            changed.push(run(changes));
        }
        Self {
            schema: SCHEMA,
            recording: text::clean(&info.path.display().to_string()).into_owned(),
            seconds: demands.length_ns() as f64 / 1e9,
            left_out: demands.left_out(),
            recorded: Recorded { opened: demands.recorded_connections(), failed, first_failed_ns, time_wait_peak },
            unchanged: demands.run(&[]),
            changed,
        }
    }

    /// The report as JSON, one object and a newline.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// The report as text: a row for what was, and one for each change.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let length = text::seconds(self.seconds);
        writeln!(
            out,
            "{}, {length}. Each recorded connection is one request, and comes when it came.",
            self.recording
        )?;
        writeln!(out)?;
        self.table().write_text(out)?;
        writeln!(out)?;
        for line in self.notes() {
            text::wrap(&line, crate::budget::WIDTH).iter().try_for_each(|line| writeln!(out, "{line}"))?;
        }
        Ok(())
    }

    fn table(&self) -> Grid {
        let Recorded { opened, failed, first_failed_ns, time_wait_peak } = self.recorded;
        let recorded = [
            "as recorded".to_owned(),
            text::count(opened),
            text::count(failed),
            after(first_failed_ns),
            text::count(time_wait_peak),
            "-".to_owned(),
        ];
        let row = |name: String, outcome: &Outcome| {
            vec![
                name,
                text::count(outcome.opened),
                text::count(outcome.failed),
                after(outcome.first_failed_ns),
                text::count(outcome.time_wait_peak),
                outcome.fullest.as_ref().map_or_else(|| "-".to_owned(), ports),
            ]
        };
        let name = |changed: &Changed| match &changed.changes[..] {
            [one] => one.clone(),
            _ => "all of these".to_owned(),
        };
        let heads = ["WHAT IF", "CONNECTIONS", "NO PORT", "FIRST AFTER", "MOST TIME_WAIT", "MOST PORTS TO ONE DEST"];
        let mut grid = Grid { heads: heads.map(Head::right).to_vec(), rows: vec![recorded.to_vec()] };
        grid.heads[0] = Head::left("WHAT IF");
        grid.rows.push(row("nothing changes".to_owned(), &self.unchanged));
        grid.rows.extend(self.changed.iter().map(|changed| row(name(changed), &changed.outcome)));
        grid
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let off = |recorded: u64, modelled: u64| {
            recorded.abs_diff(modelled) as f64 > DOUBT * recorded.max(modelled).max(10) as f64
        };
        let Recorded { failed, time_wait_peak, .. } = self.recorded;
        if off(failed, self.unchanged.failed) || off(time_wait_peak, self.unchanged.time_wait_peak) {
            notes.push(
                "The model differs from what was recorded by more than a tenth even where nothing changes: take what \
                 follows as a direction, not as numbers."
                    .to_owned(),
            );
        }
        if self.left_out > 0 {
            let left_out = text::count(self.left_out);
            notes.push(format!("{left_out} later requests are left out: there are too many for one run."));
        }
        if failed > 0 {
            notes.push(
                "A client that tries again at once after a failure asks more often than it would without failures."
                    .to_owned(),
            );
        }
        if notes.is_empty() {
            notes.push(
                "Modelled, not measured. The row `nothing changes` shows how far the model is from what was recorded."
                    .to_owned(),
            );
        }
        notes
    }
}

fn after(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), |ns| text::duration(Duration::from_nanos(ns)))
}

fn ports(fullest: &Fullest) -> String {
    let Fullest { local_addr: _, remote_addr, remote_port, ports, total } = fullest;
    let (ports, total) = (text::count((*ports).into()), text::count((*total).into()));
    format!("{ports} of {total} to {}", text::address(*remote_addr, *remote_port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use crate::fits::assert_fits;
    use crate::report::fixture;
    use twtrace_core::state::Filter;
    use twtrace_testkit::{
        BuildConnection as _, MILLISECOND_NS, SECOND_NS, START_NS, answered, kernel, kernel_facts, owner, snapshot_of,
        start, tick, tuple,
    };

    /// Twenty requests a second for half a minute.
    fn report(time_wait_peak: u64) -> Report {
        let request = |number: u64| {
            let at_ns = START_NS + number * 50 * MILLISECOND_NS;
            answered(number + 1, owner(7, "app"), tuple(33_000 + number as u16, [10, 0, 1, 1], 80), at_ns).event()
        };
        let first = [start(START_NS).event(), kernel(kernel_facts())].into_iter();
        let mut demands = Demands::new(Filter::default());
        let events = first.chain((0..600).map(request)).chain([tick(START_NS + 30 * SECOND_NS)]);
        events.for_each(|event| demands.apply(&event));
        let info = fixture::info("orders\u{1b}[2J.twt", &snapshot_of([]));
        Report::new(&info, &demands, time_wait_peak, &[Change::KeepAlive(100), Change::Reuse(1)])
    }

    #[test]
    fn a_row_for_what_was_and_for_each_change() {
        let mut text = Vec::new();
        report(600).write_text(&mut text).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
        let mut json = Vec::new();
        report(600).write_json(&mut json).unwrap();
        assert_fits("what-if", &serde_json::from_slice(&json).unwrap());
    }

    #[test]
    fn a_model_that_differs_from_what_was_recorded_is_not_believed() {
        assert!(report(600).notes()[0].starts_with("Modelled, not measured"));
        assert!(report(540).notes()[0].starts_with("Modelled, not measured"));
        assert!(report(400).notes()[0].contains("as a direction, not as numbers"));
    }
}
