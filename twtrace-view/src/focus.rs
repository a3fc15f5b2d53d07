//! What a screen or a page shows first: one sentence, and the namespace and the destination that the sentence is about.

use crate::words::Bucket;
use crate::{findings, text, words};
use twtrace_core::finding::{Finding, Rule, Severity};
use twtrace_core::snapshot::{DestRow, DestinationRow, Snapshot};

/// What deserves attention first.
pub struct Focus<'a> {
    /// The most severe active finding; `None` if there is none above info.
    pub finding: Option<&'a Finding>,
    /// Its destination if that has a port budget, else the one that is closest to running out of ports, if any port is in
    /// use.
    pub destination: Option<&'a DestinationRow>,
    /// TIME_WAIT sockets in the namespace of the finding; without one, in the one that is closest to its limit.
    pub bucket: Bucket,
}

impl<'a> Focus<'a> {
    /// Finds it.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let finding = findings::worst(snapshot.findings()).filter(|finding| finding.severity > Severity::Info);
        let place = finding.and_then(|finding| finding.destination);
        let all = snapshot.destinations();
        let is_its = |row: &&DestinationRow| row.budget.is_some() && place.map(DestRow::Dest) == Some(row.key);
        let destination = all.iter().find(is_its).or_else(|| words::tightest(all.iter()));
        let summary = snapshot.summary();
        let of_finding = place.and_then(|place| {
            let kernel = summary.kernel_of(place.netns)?;
            Some(Bucket::of(kernel, place.netns, summary))
        });
        let bucket = of_finding.unwrap_or_else(|| words::fullest(summary));
        Self { finding, destination, bucket }
    }

    /// What is happening.
    pub fn sentence(&self, snapshot: &Snapshot) -> String {
        if let Some(finding) = self.finding {
            let severity = findings::severity(finding.severity);
            return format!("{severity}: {} {}", findings::subject(finding, Some(snapshot)), findings::title(finding));
        }
        let summary = snapshot.summary();
        let over = snapshot.findings().iter().filter(|finding| !finding.active && finding.severity > Severity::Info);
        let ended = match over.count() {
            0 => String::new(),
            over => format!("; {} over", text::counted(over, "finding is", "findings are")),
        };
        let tightest = self.destination.and_then(|row| row.budget).map_or_else(String::new, |budget| {
            format!(", the tightest destination uses {} of its ports", text::percent(budget.utilization))
        });
        let count = text::counted(usize::try_from(summary.time_wait()).unwrap_or(usize::MAX), "socket", "sockets");
        let state = format!("{count} in TIME_WAIT{tightest}{ended}");
        if self.bucket.is_nearly_full() {
            let (share, limit) = (text::percent(self.bucket.share()), text::count(self.bucket.limit));
            return format!("TIME_WAIT sockets are at {share} of their limit of {limit} in {}", self.bucket.namespace);
        }
        let is_said = |finding: &&Finding| finding.active && finding.rule == Rule::IncompleteTrace;
        if words::warnings(summary).is_empty() && !snapshot.findings().iter().any(|finding| is_said(&finding)) {
            format!("Nothing to worry about: {state}")
        } else {
            format!("Nothing found, but not everything was seen: {state}")
        }
    }
}
