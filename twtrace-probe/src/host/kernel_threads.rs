//! Which processes are threads of the kernel, where the eBPF programs cannot read that: without the kernel's types they do not
//! know where a task has its flags.

use super::process;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `PF_KTHREAD`, `include/linux/sched.h`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// An answer is valid for this long: a PID may belong to another process by then.
const VALID: Duration = Duration::from_secs(1);

/// Answers remembered. When full, all are forgotten.
const ANSWERS: usize = 4096;

/// Asks `/proc`, and remembers the answers for a moment.
pub struct KernelThreads {
    proc: PathBuf,
    answers: HashMap<u32, (bool, Instant)>,
}

impl Default for KernelThreads {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), answers: HashMap::new() }
    }
}

impl KernelThreads {
    /// Whether a PID is that of a kernel thread. One that is gone is taken for a process.
    pub fn has(&mut self, pid: u32, now: Instant) -> bool {
        if let Some((answer, at)) = self.answers.get(&pid)
            && now.saturating_duration_since(*at) < VALID
        {
            return *answer;
        }
        let answer = is_kernel_thread(&self.proc.join(pid.to_string()));
        if self.answers.len() >= ANSWERS {
            self.answers.clear();
        }
        self.answers.insert(pid, (answer, now));
        answer
    }
}

fn is_kernel_thread(folder: &Path) -> bool {
    let mut stat = Vec::new();
    let read = File::open(folder.join("stat")).and_then(|file| file.take(process::MAX_STAT).read_to_end(&mut stat));
    // Field 9 is `flags`.
    let flags = process::stat_field(&stat, 9).filter(|_| read.is_ok());
    flags.is_some_and(|flags| flags & PF_KTHREAD != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn flags_of_the_task_decide_whatever_its_name_is() {
        let proc = tempfile::tempdir().unwrap();
        let mut threads = KernelThreads { proc: proc.path().to_owned(), answers: HashMap::new() };
        let write = |pid: u32, name: &str, flags: u64| {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir_all(&folder).unwrap();
            fs::write(
                folder.join("stat"),
                format!("{pid} ({name}) S 2 0 0 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 9 0\n"),
            )
            .unwrap();
        };
        write(7, "kworker/0:1", 69_238_880);
        write(8, "kworker/0:2", 4_194_304);
        write(9, "a) S 2 0 0 0 -1 69238880", 4_194_304);
        let now = Instant::now();
        assert_eq!([7, 8, 9, 10].map(|pid| threads.has(pid, now)), [true, false, false, false]);
        // The PID is used again.
        write(7, "curl", 4_194_304);
        assert!(threads.has(7, now));
        assert!(!threads.has(7, now + VALID));
    }

    #[test]
    fn this_host_has_kernel_threads() {
        let mut threads = KernelThreads::default();
        assert!(!threads.has(std::process::id(), Instant::now()));
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        assert!(pids.into_iter().any(|pid: u32| threads.has(pid, Instant::now())));
    }
}
