//! The first ancestor of a process that lives long: the cron job, the service or the shell above it, by which people know what
//! short-lived processes belong to.

use super::process::{ProcessReader, ns_per_tick, start_ticks, stat_field};
use nix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use twtrace_core::event::ProcessKey;
use twtrace_core::program;

/// From which age on a process lives long.
const LONG: Duration = Duration::from_secs(60);

/// Generations that are looked at.
const GENERATIONS: usize = 8;

/// How long an answer is used for all children of a process.
const FRESH: Duration = Duration::from_secs(5);

/// Answers kept. When full, all are dropped.
const KEPT: usize = 1024;

/// What was found by parent.
pub struct Ancestors {
    proc: PathBuf,
    kept: HashMap<ProcessKey, (Instant, Option<String>)>,
}

impl Ancestors {
    /// Reads `/proc`.
    pub fn new() -> Self {
        Self { proc: PathBuf::from("/proc"), kept: HashMap::new() }
    }

    /// The ancestor of the children of a process, as `cron[712]`. `parent_of` knows parents of processes that are gone. Of
    /// those that all are young it is the eldest that exists. A PID that another process has by now leads nowhere.
    pub fn of(
        &mut self,
        parent: ProcessKey,
        parent_of: impl Fn(ProcessKey) -> Option<ProcessKey>,
        reader: &mut ProcessReader,
    ) -> Option<String> {
        if let Some((at, found)) = self.kept.get(&parent)
            && at.elapsed() < FRESH
        {
            return found.clone();
        }
        let found = self.find(parent, parent_of, reader);
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        self.kept.insert(parent, (Instant::now(), found.clone()));
        found
    }

    /// The parent of a process that exists; `None` if it is gone, or its PID belongs to another process by now.
    pub fn parent(&self, key: ProcessKey) -> Option<ProcessKey> {
        let stat = self.stat(key.tgid)?;
        let above = self.above(&stat)?;
        (start_ticks(&stat)? == key.start_ns / ns_per_tick()).then_some(above)
    }

    fn stat(&self, pid: u32) -> Option<Vec<u8>> {
        fs::read(self.proc.join(pid.to_string()).join("stat")).ok()
    }

    /// The parent that is in such a text. It is alive: a process without one belongs to another.
    fn above(&self, stat: &[u8]) -> Option<ProcessKey> {
        let tgid = u32::try_from(stat_field(stat, 4)?).ok().filter(|pid| *pid != 0)?;
        Some(ProcessKey { tgid, start_ns: start_ticks(&self.stat(tgid)?)? * ns_per_tick() })
    }

    fn find(
        &self,
        parent: ProcessKey,
        parent_of: impl Fn(ProcessKey) -> Option<ProcessKey>,
        reader: &mut ProcessReader,
    ) -> Option<String> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
        let (mut next, mut eldest) = (Some(parent), None);
        for _ in 0..GENERATIONS {
            let Some(key) = next else { break };
            let stat = self.stat(key.tgid);
            let same = stat.filter(|stat| start_ticks(stat) == Some(key.start_ns / ns_per_tick()));
            let Some(stat) = same else {
                next = parent_of(key);
                continue;
            };
            // The first process is above everything, and says nothing.
            if key.tgid != 1 || eldest.is_none() {
                eldest = Some((key, comm(&stat)));
            }
            if now.saturating_sub(Duration::from_nanos(key.start_ns)) >= LONG {
                break;
            }
            next = self.above(&stat);
        }
        let (key, comm) = eldest?;
        let facts = reader.read(key);
        let (exe, line) = facts.as_ref().map_or((None, None), |facts| (facts.exe.as_deref(), facts.cmdline.as_deref()));
        Some(format!("{}[{}]", program::of(&comm, exe, line).name, key.tgid))
    }
}

impl Default for Ancestors {
    fn default() -> Self {
        Self::new()
    }
}

/// The name in `/proc/PID/stat`, between the first and the last bracket.
fn comm(stat: &[u8]) -> String {
    let begin = stat.iter().position(|byte| *byte == b'(').map_or(0, |at| at + 1);
    let end = stat.iter().rposition(|byte| *byte == b')').unwrap_or(begin);
    String::from_utf8_lossy(stat.get(begin..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use std::process::Command;

    #[test]
    fn ancestor_of_a_child_of_this_process_exists() {
        let mut reader = ProcessReader::new();
        let mut ancestors = Ancestors::new();
        let stat = ancestors.stat(std::process::id()).unwrap();
        let own = ProcessKey { tgid: std::process::id(), start_ns: start_ticks(&stat).unwrap() * ns_per_tick() };
        let found = ancestors.of(own, |_| None, &mut reader).unwrap();
        assert!(found.ends_with(']') && found.contains('['), "{found}");
        // A parent that is gone is passed over.
        let mut child = Command::new("true").spawn().unwrap();
        let gone = ProcessKey { tgid: child.id(), start_ns: 7 };
        child.wait().unwrap();
        assert_eq!(ancestors.of(gone, |key| (key == gone).then_some(own), &mut reader), Some(found));
        assert_eq!(Ancestors::new().of(gone, |_| None, &mut reader), None);
        // Another process has the PID.
        let other = ProcessKey { start_ns: own.start_ns + 5_000_000_000, ..own };
        assert_eq!(Ancestors::new().of(other, |_| None, &mut reader), None);
        assert!(ancestors.parent(own).is_some() && ancestors.parent(other).is_none());
    }

    #[test]
    fn name_may_have_brackets() {
        assert_eq!(comm(b"7 (a) b) S 1 2"), "a) b");
        assert_eq!(comm(b""), "");
    }
}
