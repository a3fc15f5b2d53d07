//! What `/proc` says about a process, if it is still the same one.

use super::cgroup::{self, Labels};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use twtrace_core::event::{ProcessFacts, ProcessKey};

/// Longest command line kept, in bytes; the kernel allows megabytes.
pub const MAX_CMDLINE: usize = 4096;

/// Longest `/proc/PID/cgroup` read: a v1 host has a dozen hierarchies.
const MAX_CGROUP: usize = 16 * 1024;

/// Longest `/proc/PID/stat` read: 52 numbers and a name.
pub(super) const MAX_STAT: u64 = 2048;

/// Reads processes from `/proc`, in buffers of its own.
pub struct ProcessReader {
    proc: PathBuf,
    ns_per_tick: u64,
    buffer: Vec<u8>,
}

impl ProcessReader {
    /// A reader of `/proc`.
    pub fn new() -> Self {
        Self { proc: PathBuf::from("/proc"), ns_per_tick: ns_per_tick(), buffer: Vec::new() }
    }

    /// Facts of a process; `None` when it is gone, or when its PID belongs to another process by now. The start time is
    /// compared before and after, so that facts of two processes are never mixed.
    pub fn read(&mut self, key: ProcessKey) -> Option<ProcessFacts> {
        let folder = self.proc.join(key.tgid.to_string());
        if self.start_ticks(&folder)? != key.start_ns / self.ns_per_tick {
            return None;
        }
        let exe = fs::read_link(folder.join("exe")).ok().map(|path| path.to_string_lossy().into_owned());
        let cmdline = self.contents(&folder.join("cmdline"), MAX_CMDLINE + 1).ok().and_then(cmdline);
        let cgroups =
            self.contents(&folder.join("cgroup"), MAX_CGROUP).map(|bytes| String::from_utf8_lossy(bytes).into());
        let cgroups: String = cgroups.unwrap_or_default();
        let Labels { container, pod_uid, unit } = Labels::of_process(&cgroups);
        let cgroup = cgroup::path(&cgroups).map(str::to_owned);
        let facts = ProcessFacts { exe, cmdline, cgroup, container, pod_uid, unit, ancestor: None };
        (self.start_ticks(&folder)? == key.start_ns / self.ns_per_tick).then_some(facts)
    }

    fn start_ticks(&mut self, folder: &Path) -> Option<u64> {
        start_ticks(self.contents(&folder.join("stat"), MAX_STAT as usize).ok()?)
    }

    fn contents(&mut self, path: &Path, limit: usize) -> io::Result<&[u8]> {
        self.buffer.clear();
        File::open(path)?.take(limit as u64).read_to_end(&mut self.buffer)?;
        Ok(&self.buffer)
    }
}

impl Default for ProcessReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Length of a clock tick of `/proc`, in nanoseconds.
pub(super) fn ns_per_tick() -> u64 {
    // USER_HZ has been 100 on every architecture that eBPF runs on, except in patched kernels.
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    let ticks = ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100);
    1_000_000_000 / ticks
}

/// Field 22 of `/proc/PID/stat`: start of the group leader, in clock ticks since boot.
pub(super) fn start_ticks(stat: &[u8]) -> Option<u64> {
    stat_field(stat, 22)
}

/// A number in `/proc/PID/stat`, from field 3 on. The process chooses the name in field 2, which may contain blanks and
/// brackets: fields are counted from the last bracket.
pub(super) fn stat_field(stat: &[u8], number: usize) -> Option<u64> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat.get(end + 1..)?.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    std::str::from_utf8(fields.nth(number.checked_sub(3)?)?).ok()?.trim_end().parse().ok()
}

/// Arguments joined by blanks; `None` for kernel threads and zombies, which have none. Longer ones end in `…`.
fn cmdline(bytes: &[u8]) -> Option<String> {
    joined(&bytes[..bytes.len().min(MAX_CMDLINE)], bytes.len() > MAX_CMDLINE)
}

/// The same of arguments that may be cut off already.
pub(crate) fn joined(bytes: &[u8], is_cut: bool) -> Option<String> {
    // Programs that write their own title leave NULs behind it.
    let bytes = bytes.trim_ascii_end();
    let kept = bytes.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
    let joined: Vec<u8> = bytes[..kept].iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    let mut line = OsStr::from_bytes(&joined).to_string_lossy().into_owned();
    if is_cut {
        line.push('…');
    }
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    const STAT_TAIL: &str = "S 1 2 2 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 999 88 0\n";

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        for name in ["bash", "a b", "x) S 1 2 3", ")", "((((", "", "\u{1b}[31m"] {
            assert_eq!(start_ticks(format!("42 ({name}) {STAT_TAIL}").as_bytes()), Some(123_456), "{name:?}");
        }
        for damaged in ["", "42 bash S 1", "42 (bash) S 1 2", "42 (bash)"] {
            assert_eq!(start_ticks(damaged.as_bytes()), None, "{damaged:?}");
        }
        let not_utf8 = [b"42 (\xff\xfe) ".as_slice(), STAT_TAIL.as_bytes()].concat();
        assert_eq!(start_ticks(&not_utf8), Some(123_456));
    }

    #[test]
    fn command_lines() {
        for (bytes, expected) in [
            (b"".as_slice(), None),
            (b"\0\0\0", None),
            (b"curl\0-s\0http://a/\0", Some("curl -s http://a/")),
            (b"nginx: worker process\0\0\0\0", Some("nginx: worker process")),
            (b"sh\0-c\0\0x\0", Some("sh -c  x")),
            (b"bad\xff\0", Some("bad\u{fffd}")),
        ] {
            assert_eq!(cmdline(bytes).as_deref(), expected, "{bytes:?}");
        }
        assert!(!cmdline(&[b'a'; MAX_CMDLINE]).unwrap().ends_with('…'));
        let long = cmdline(&[b'a'; MAX_CMDLINE + 1]).unwrap();
        assert!(long.ends_with('…') && long.chars().count() == MAX_CMDLINE + 1);
    }

    /// A `/proc` for the test, with one process.
    fn proc_with(start: u64) -> (tempfile::TempDir, ProcessReader) {
        let proc = tempfile::tempdir().unwrap();
        let folder = proc.path().join("77");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("stat"), format!("77 (x) S 1 2 2 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 {start} 9\n"))
            .unwrap();
        fs::write(folder.join("cmdline"), "x\0-v\0").unwrap();
        fs::write(folder.join("cgroup"), "0::/system.slice/x.service\n").unwrap();
        let reader = ProcessReader { proc: proc.path().to_owned(), ..ProcessReader::new() };
        (proc, reader)
    }

    #[test]
    fn only_the_process_that_was_meant_is_read() {
        let (_proc, mut reader) = proc_with(5000);
        let tick = reader.ns_per_tick;
        let meant = ProcessKey { tgid: 77, start_ns: 5000 * tick + tick / 2 };
        let facts = ProcessFacts {
            exe: None,
            cmdline: Some("x -v".to_owned()),
            cgroup: Some("/system.slice/x.service".to_owned()),
            container: None,
            pod_uid: None,
            unit: Some("x.service".to_owned()),
            ancestor: None,
        };
        assert_eq!(reader.read(meant), Some(facts));
        assert_eq!(reader.read(ProcessKey { start_ns: 5001 * tick, ..meant }), None, "the PID was reused");
        assert_eq!(reader.read(ProcessKey { tgid: 78, ..meant }), None, "gone");
    }

    #[test]
    fn this_process_is_found() {
        let mut reader = ProcessReader::new();
        let tgid = std::process::id();
        let ticks = reader.start_ticks(Path::new("/proc/self")).unwrap();
        let facts = reader.read(ProcessKey { tgid, start_ns: ticks * reader.ns_per_tick }).unwrap();
        assert_eq!(facts.exe.unwrap(), std::env::current_exe().unwrap().to_string_lossy());
        assert!(facts.cmdline.is_some() && facts.cgroup.is_some());
    }
}
