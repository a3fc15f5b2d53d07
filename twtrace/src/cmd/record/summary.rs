//! Text about a recording during and at the end of it.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use twtrace_core::event::{Event, KernelCounters};
use twtrace_core::snapshot::{GroupBy, GroupKey, Snapshot};
use twtrace_recording::writer::Progress;
use twtrace_view::order::{self, Sort};
use twtrace_view::{label, text, words};

/// Maximum number of processes that are named.
const NAMED: usize = 3;

/// Open sockets, by the censuses.
#[derive(Debug, Default)]
pub(super) struct OpenSockets {
    by_netns: HashMap<u32, HashSet<u64>>,
    /// Namespace of the running census.
    netns: u32,
}

impl OpenSockets {
    /// Updates from what is recorded.
    pub(super) fn see(&mut self, event: &Event) {
        match event {
            Event::SocketDumpBegin { netns, whole, .. } => {
                self.netns = *netns;
                if *whole {
                    self.by_netns.remove(netns);
                }
            }
            Event::SocketDump(rows) => {
                let open = self.by_netns.entry(self.netns).or_default();
                for row in rows {
                    if row.state.is_connection() {
                        open.insert(row.cookie);
                    } else {
                        open.remove(&row.cookie);
                    }
                }
            }
            Event::SocketsRemoved(cookies) => {
                if let Some(open) = self.by_netns.get_mut(&self.netns) {
                    cookies.iter().for_each(|cookie| {
                        open.remove(cookie);
                    });
                }
            }
            Event::NamespaceGone { netns } => {
                self.by_netns.remove(netns);
            }
            _ => {}
        }
    }

    /// Their number.
    pub(super) fn count(&self) -> usize {
        self.by_netns.values().map(HashSet::len).sum()
    }
}

/// A recording that has ended.
pub(super) struct Ended<'a> {
    pub(super) path: &'a Path,
    pub(super) lasted: Duration,
    pub(super) progress: Progress,
    pub(super) open: usize,
}

/// A size in about three digits.
fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for larger in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{size:.1} {unit}") }
}

/// The progress line.
pub(super) fn line(elapsed: Duration, progress: &Progress, rows_per_s: f64, counters: &KernelCounters) -> String {
    format!(
        "recording {}   {}   {} rows/s   {}   {}",
        text::duration(elapsed),
        connections(progress.connections),
        text::rate(rows_per_s),
        bytes(progress.bytes),
        words::losses(counters)
    )
}

fn connections(number: u64) -> String {
    text::counted(usize::try_from(number).unwrap_or(usize::MAX), "connection", "connections")
}

/// The text at the end.
pub(super) fn summary(model: &Snapshot, ended: &Ended<'_>) -> String {
    let Ended { path, lasted, progress, open } = ended;
    let counts = &model.summary().totals.counts;
    let each = match progress.connections {
        0 => String::new(),
        connections => format!(", {:.1} bytes a connection", progress.bytes as f64 / connections as f64),
    };
    let dropped = match progress.segments_dropped {
        0 => "",
        _ => ", of which the oldest were dropped",
    };
    let mut said = format!(
        "{} in {}{dropped} ({}{each}): {}\n",
        connections(progress.connections),
        text::duration(*lasted),
        bytes(progress.bytes),
        text::clean(&path.display().to_string()),
    );
    // Writing to a String does not fail.
    let _ = writeln!(
        said,
        "{} TIME_WAIT sockets created; {} open at the end; {}",
        text::count(counts.time_wait_created),
        text::counted(*open, "connection", "connections"),
        words::losses(&model.summary().counters),
    );
    let creators = order::of_snapshot(model, GroupBy::Process, Sort::DEFAULT);
    for row in creators.iter().filter(|row| row.counts.time_wait_created > 0).take(NAMED) {
        let name = match (&row.key, &row.owner) {
            (GroupKey::Process(key), Some(owner)) => label::process(&owner.comm, key.tgid),
            (GroupKey::OneShots(kin), _) => {
                let parent = label::process(&kin.parent_comm, kin.ppid);
                format!(
                    "{} of {parent}, {}",
                    label::group(row, model),
                    text::counted(row.processes as usize, "process", "processes")
                )
            }
            _ => label::group(row, model),
        };
        let _ = writeln!(said, "{:>12} by {name}", text::count(row.counts.time_wait_created));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use twtrace_core::event::CensusState;
    use twtrace_testkit::{census_row, tuple, web};

    #[test]
    fn the_line_says_how_far_it_is() {
        let progress = Progress { connections: 60_000, rows: 181_234, bytes: 1_500_000, ..Progress::default() };
        let counters = KernelCounters { ring_full: 12, ..KernelCounters::default() };
        insta::assert_snapshot!(line(Duration::from_secs(65), &progress, 2789.4, &counters));
    }

    #[test]
    fn the_summary_names_the_creators() {
        let progress = Progress { connections: 1200, rows: 5000, bytes: 28_800, ..Progress::default() };
        let path = Path::new("night\u{1b}[2J.twt");
        let ended = Ended { path, lasted: Duration::from_millis(90_500), progress, open: 12 };
        let said = summary(&web::snapshot(), &ended);
        assert!(said.lines().all(|line| line.chars().all(text::is_plain)));
        insta::assert_snapshot!(said);
    }

    #[test]
    fn open_sockets_follow_the_censuses() {
        let mut open = OpenSockets::default();
        let row = |cookie, state| census_row(cookie, tuple(1, [10, 0, 1, 1], 2), state, 0);
        let mut see = |event: Event| {
            open.see(&event);
            open.count()
        };
        assert_eq!(see(Event::SocketDumpBegin { netns: 1, at_ns: 1, whole: true }), 0);
        let rows = vec![row(1, CensusState::Established), row(2, CensusState::CloseWait), row(3, CensusState::Listen)];
        assert_eq!(see(Event::SocketDump(rows)), 2);
        assert_eq!(see(Event::SocketDumpBegin { netns: 1, at_ns: 2, whole: false }), 2);
        assert_eq!(see(Event::SocketDump(vec![row(2, CensusState::TimeWait)])), 1);
        assert_eq!(see(Event::SocketsRemoved(vec![1])), 0);
        see(Event::SocketDumpBegin { netns: 2, at_ns: 2, whole: true });
        assert_eq!(see(Event::SocketDump(vec![row(9, CensusState::Open), row(10, CensusState::Bound)])), 1);
        assert_eq!(see(Event::NamespaceGone { netns: 2 }), 0);
    }

    #[test]
    fn sizes_read_well() {
        for (number, expected) in [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(bytes(number), expected);
        }
    }
}
