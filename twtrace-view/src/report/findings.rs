//! Findings and failures of a recording, for every form that people read.

use super::Part;
use crate::failures::{self, Failure, unix_ns};
use crate::grid::{Grid, Head};
use crate::{findings as words, text};
use twtrace_core::finding::{Advice, Finding};
use twtrace_core::snapshot::Snapshot;

/// Maximum number of kinds of failures in a table.
const FAILURES: usize = 50;

/// Numbers of TIME_WAIT sockets at which people usually begin to investigate.
const HABIT: [u64; 4] = [1000, 10_000, 30_000, 60_000];

/// A finding in words. All of it is clean.
pub(super) struct RenderedFinding {
    /// Severity, and whether it is over.
    pub(super) state: String,
    pub(super) id: &'static str,
    pub(super) subject: String,
    pub(super) title: String,
    /// User, parent, and underlying cause, by title.
    pub(super) about: Vec<(&'static str, String)>,
    /// By name.
    pub(super) evidence: Vec<(String, String)>,
    pub(super) advice: Vec<RenderedAdvice>,
    pub(super) confidence: &'static str,
    pub(super) recheck: String,
}

/// Something to change in words.
pub(super) struct RenderedAdvice {
    pub(super) id: &'static str,
    pub(super) text: String,
    pub(super) command: Option<String>,
    /// Empty if they are not known.
    pub(super) effects: String,
    pub(super) risk: String,
}

impl RenderedAdvice {
    fn of(advice: &Advice) -> Self {
        Self {
            id: advice.id,
            text: words::advice(advice),
            command: words::command(advice),
            effects: words::effects(advice),
            risk: text::clean(&advice.risk).into_owned(),
        }
    }
}

impl RenderedFinding {
    pub(super) fn of(finding: &Finding, model: &Snapshot) -> Self {
        Self {
            state: words::state(finding),
            id: finding.rule.name(),
            subject: words::subject(finding, Some(model)),
            title: words::title(finding),
            about: words::about(finding, model),
            evidence: finding.evidence.iter().map(words::evidence).collect(),
            advice: finding.advice.iter().map(RenderedAdvice::of).collect(),
            confidence: words::confidence(finding.confidence),
            recheck: text::clean(&finding.recheck).into_owned(),
        }
    }
}

impl Part<'_> {
    /// Findings, the most severe first.
    pub(super) fn findings(&self) -> Vec<RenderedFinding> {
        words::sorted(self.model.findings()).into_iter().map(|one| RenderedFinding::of(one, self.model)).collect()
    }

    /// Calls that failed because there was no free address or port, the most frequent first.
    pub(super) fn failures(&self) -> Grid {
        let window = &self.model.summary().window;
        let mut all = failures::of(self.model);
        all.truncate(FAILURES);
        let time = |at_ns| text::time_of_day(unix_ns(window, at_ns));
        type Cell<'a> = Box<dyn Fn(&Failure) -> String + 'a>;
        let columns: [(Head, Cell<'_>); 8] = [
            (Head::right("TIMES"), Box::new(|failure| text::count(failure.row.count))),
            (Head::left("WHO"), Box::new(|failure| failure.program(self.model))),
            (Head::left("CALL"), Box::new(Failure::call)),
            (Head::left("WHERE"), Box::new(Failure::place)),
            (Head::left("CAUSE"), Box::new(|failure| failures::cause(failure.row.cause).to_owned())),
            (Head::left("VERDICT"), Box::new(|failure| failure.verdict().to_owned())),
            (Head::left("FIRST (UTC)"), Box::new(|failure| time(failure.row.first_ns))),
            (Head::left("LAST (UTC)"), Box::new(|failure| time(failure.row.last_ns))),
        ];
        Grid::of(columns, &all)
    }

    /// The usual thresholds, for orientation.
    pub(super) fn orientation(&self) -> String {
        let most = self.kernel_peak().unwrap_or(self.model.summary().totals.counts.time_wait_live_peak);
        let passed = HABIT.iter().rev().find(|habit| most >= **habit);
        let place =
            passed.map_or_else(|| "below all of them".to_owned(), |habit| format!("{} is passed", text::count(*habit)));
        let habit = HABIT.map(text::count).join(", ");
        let most = text::count(most);
        format!(
            "For orientation: people begin to look at {habit} TIME_WAIT sockets; here there were {most} at most, \
             {place}. A bare count is no severity."
        )
    }
}
