//! Freeze on finding: when a chosen finding begins, the last minutes of the flight recorder are kept.

use crate::cli::FailOn;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use twtrace_core::event::Comm;
use twtrace_core::finding::{Rule, Severity};
use twtrace_core::snapshot::{DestKey, Snapshot};
use twtrace_recording::writer::is_being_written;
use twtrace_view::{findings, text};

/// After the beginning of a finding, so much is recorded before the end is kept: what follows matters too.
pub(crate) const AFTER: Duration = Duration::from_secs(15);

/// The same finding is kept once in this time, however often it begins.
const PAUSE: Duration = Duration::from_secs(600);

/// Between any two.
const REST: Duration = Duration::from_secs(60);

/// Recordings kept at a time. The oldest ones are removed.
pub(crate) const KEPT: usize = 20;

/// A finding that is not seen for so long has ended, and may begin again.
const GAP: Duration = Duration::from_secs(30);

/// Findings whose last time is remembered.
const REMEMBERED: usize = 1024;

/// The end of the name of the folder that is recorded into all the time.
pub(crate) const FLIGHT: &str = "flight.twt";

/// What is the same finding: a service that is restarted again and again has one, and the consequence of a finding is another
/// one.
type Kind = (Rule, Severity, Option<Comm>, Option<DestKey>);

/// What is known of a finding.
struct Known {
    /// When it was kept last.
    kept: Instant,
    /// When it was seen last.
    seen: Instant,
}

/// Decides when to keep what.
pub(crate) struct Freezing {
    which: FailOn,
    dir: PathBuf,
    known: HashMap<Kind, Known>,
    /// When anything was kept last.
    last: Option<Instant>,
    /// What is due, and when.
    due: Vec<(Instant, PathBuf)>,
}

impl Freezing {
    pub(crate) fn new(which: FailOn, dir: &Path) -> Self {
        Self { which, dir: dir.to_owned(), known: HashMap::new(), last: None, due: Vec::new() }
    }

    /// Looks at a snapshot. Findings that begin together are kept together, under the name of the most severe.
    pub(crate) fn look(&mut self, snapshot: &Snapshot, now: Instant, unix_ns: i128) {
        // One that goes on, or comes back soon, is the same one.
        self.known.retain(|_, known| now.duration_since(known.seen) < PAUSE || now.duration_since(known.kept) < PAUSE);
        let mut begins = None;
        for finding in findings::sorted(snapshot.findings()) {
            if !self.which.selects(finding) {
                continue;
            }
            let command = finding.process.map(|process| process.command);
            let kind = (finding.rule, finding.severity, command, finding.destination);
            let is_going_on = self.known.get_mut(&kind).is_some_and(|known| {
                let before = std::mem::replace(&mut known.seen, now);
                now.duration_since(before) < GAP || now.duration_since(known.kept) < PAUSE
            });
            // What cannot be remembered would begin at every look.
            if !is_going_on && (self.known.len() < REMEMBERED || self.known.contains_key(&kind)) {
                self.known.insert(kind, Known { kept: now, seen: now });
                begins = begins.or(Some(finding.rule.name()));
            }
        }
        let rests = self.last.is_some_and(|last| now.duration_since(last) < REST);
        if let Some(name) = begins.filter(|_| self.due.is_empty() && !rests) {
            self.last = Some(now);
            let name = format!("{name}-{}.twt", text::file_time(unix_ns));
            self.due.push((now + AFTER, self.dir.join(name)));
        }
    }

    /// What is to be kept before the end: nothing more will follow.
    pub(crate) fn rest(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.due).into_iter().map(|(_, path)| path).collect()
    }

    /// What is to be kept now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<PathBuf> {
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(at, _)| *at <= now);
        self.due = later;
        due.into_iter().map(|(_, path)| path).collect()
    }
}

/// Removes the oldest of what was kept, beyond the limit.
pub(crate) fn drop_oldest(dir: &Path) -> std::io::Result<()> {
    let mut kept: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Nothing that a user has named.
        let time =
            Rule::ALL.iter().find_map(|rule| name.strip_prefix(rule.name())?.strip_prefix('-')?.strip_suffix(".twt"));
        let is_ours = time.is_some_and(|time| {
            time.len() == text::file_time(0).len()
                && time.bytes().all(|byte| byte.is_ascii_digit() || b"-T".contains(&byte))
        });
        if is_ours && entry.file_type()?.is_dir() && !is_being_written(&entry.path()) {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    kept.sort();
    let surplus = kept.len().saturating_sub(KEPT);
    kept.into_iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_dir_all(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use twtrace_testkit::{findings as examples, web};

    fn freezing(which: &str) -> Freezing {
        Freezing::new(which.parse().unwrap(), Path::new("/kept"))
    }

    #[test]
    fn finding_that_begins_is_kept_once() {
        let snapshot = web::snapshot().with_findings(examples());
        let mut freezing = freezing("any");
        let begin = Instant::now();
        for second in 0..60 {
            let now = begin + Duration::from_secs(second);
            freezing.look(&snapshot, now, 0);
            let due = freezing.due(now);
            assert_eq!(due.len(), usize::from(second == AFTER.as_secs()), "{second}");
            let name = due.first().map(|path| path.to_string_lossy().into_owned());
            assert!(name.is_none_or(|name| name.starts_with("/kept/") && name.ends_with(".twt")));
        }
        // It is over for long, and begins again.
        let later = begin + Duration::from_secs(60) + PAUSE;
        freezing.look(&snapshot, later, 0);
        assert_eq!(freezing.due(later + AFTER).len(), 1);
    }

    #[test]
    fn finding_that_gets_worse_is_kept_again() {
        let mut finding = examples().into_iter().find(|finding| finding.active).unwrap();
        let begin = Instant::now();
        let mut freezing = freezing("any");
        for (second, severity, kept) in
            [(0, Severity::Info, 1), (120, Severity::Critical, 1), (240, Severity::Critical, 0)]
        {
            finding.severity = severity;
            let now = begin + Duration::from_secs(second);
            freezing.look(&web::snapshot().with_findings(vec![finding.clone()]), now, 0);
            assert_eq!(freezing.due(now + AFTER).len(), kept, "{second}");
        }
    }

    #[test]
    fn service_that_is_restarted_is_one_finding() {
        let example = examples().into_iter().find(|finding| finding.active && finding.process.is_some()).unwrap();
        let begin = Instant::now();
        let mut freezing = freezing("any");
        let mut kept = 0;
        for number in 0..100 {
            let mut finding = example.clone();
            let key = twtrace_core::event::ProcessKey { tgid: 1000 + number, start_ns: u64::from(number) };
            finding.process = finding.process.map(|of| twtrace_core::finding::Subject { process: Some(key), ..of });
            let now = begin + Duration::from_secs(u64::from(number) * 3);
            freezing.look(&web::snapshot().with_findings(vec![finding]), now, 0);
            kept += freezing.due(now).len();
        }
        assert_eq!(kept, 1);
    }

    #[test]
    fn only_chosen_findings_are_kept() {
        let snapshot = web::snapshot().with_findings(examples());
        let mut freezing = freezing("bound-pool-exhausted");
        let now = Instant::now();
        freezing.look(&snapshot, now, 0);
        let has = examples().iter().any(|finding| finding.active && finding.rule.name() == "bound-pool-exhausted");
        assert_eq!(!freezing.due(now + AFTER).is_empty(), has);
    }

    #[test]
    fn oldest_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..KEPT + 3 {
            std::fs::create_dir(folder.path().join(format!("relay-2026-01-01T0000{number:02}.twt"))).unwrap();
        }
        for other in ["flight.twt", "relay.txt", "mine-2026.twt", "relay-postmortem.twt"] {
            std::fs::create_dir(folder.path().join(other)).unwrap();
        }
        drop_oldest(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), KEPT + 4);
        for other in ["flight.twt", "relay.txt", "mine-2026.twt", "relay-postmortem.twt"] {
            assert!(folder.path().join(other).exists(), "{other}");
        }
    }
}
