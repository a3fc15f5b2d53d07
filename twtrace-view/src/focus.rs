//! What a screen or a page shows first: one sentence, and the namespace and the destination that the sentence is about.

use crate::words::Bucket;
use crate::{findings, text, words};
use twtrace_core::finding::{Finding, Rule, Severity};
use twtrace_core::snapshot::{DestRow, DestinationRow, Snapshot};

/// What deserves attention first.
pub struct Focus<'a> {
    /// The most severe finding; `None` if there is none above info.
    pub finding: Option<&'a Finding>,
    /// Its destination if that has a port budget, else the one that is closest to running out of ports, if any port is in
    /// use.
    pub destination: Option<&'a DestinationRow>,
    /// TIME_WAIT sockets in the namespace of the finding; without one, in the one that is closest to its limit.
    pub bucket: Bucket,
    /// It is about a whole trace, of which the figures are those of the end.
    is_whole: bool,
}

impl<'a> Focus<'a> {
    /// Of what is happening: findings that are over do not count.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        Self::about(findings::worst(snapshot.findings()), snapshot, false)
    }

    /// Of what has happened in a whole trace: findings that are over count as well.
    pub fn of_whole(snapshot: &'a Snapshot) -> Self {
        Self::about(findings::by_gravity(snapshot.findings()).into_iter().next(), snapshot, true)
    }

    fn about(finding: Option<&'a Finding>, snapshot: &'a Snapshot, is_whole: bool) -> Self {
        let finding = finding.filter(|finding| finding.severity > Severity::Info);
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
        Self { finding, destination, bucket, is_whole }
    }

    /// What is happening, or has happened.
    pub fn sentence(&self, snapshot: &Snapshot) -> String {
        if let Some(finding) = self.finding {
            let state = findings::state(finding);
            return format!("{state}: {} {}", findings::subject(finding, Some(snapshot)), findings::title(finding));
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
            if self.is_whole {
                format!("No finding; at the end {state}")
            } else {
                format!("Nothing to worry about: {state}")
            }
        } else {
            format!("Nothing found, but not everything was seen: {state}")
        }
    }
}
