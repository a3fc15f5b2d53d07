//! One guest: started, watched, judged by its console.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::arch::Arch;

/// A guest that takes longer counts as hung.
const PATIENCE: Duration = Duration::from_secs(3000);

/// With KVM, a host that stalls for a while is no fault of the guest: it takes two minutes of silence for a soft lockup
/// (twice `watchdog_thresh`) or a stall.
const PARAMETERS: &str = "panic=-1 quiet watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120";

/// What a kernel says when something is wrong with it.
const TROUBLE: [&str; 9] = [
    "Kernel panic",
    "BUG:",
    "Oops:",
    "Internal error:",
    "soft lockup",
    "detected stall",
    "blocked for more than",
    "WARNING: CPU",
    "general protection fault",
];

/// How one run in a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) name: String,
    /// Exit code; `None` when it was killed or ran out of time.
    pub(super) code: Option<i32>,
    pub(super) millis: u64,
    pub(super) output: String,
}

/// What was read from a console.
#[derive(Debug, Default)]
pub(super) struct Console {
    pub(super) ended: Vec<Ended>,
    /// The guest completed its plan.
    pub(super) done: bool,
    /// The first line with trouble.
    pub(super) trouble: Option<String>,
}

/// What runs a guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// The host's processor.
    Kvm,
    /// QEMU's emulation, ten times slower.
    Emulation,
}

/// How long a guest with nothing to do may take with KVM.
const PROBE: Duration = Duration::from_secs(30);

impl Accelerator {
    /// KVM, if the host has such processors and this guest, which has nothing to do, boots with it. A `/dev/kvm` alone proves nothing: in some virtual
    /// machines it can be opened and runs no kernel.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub(super) fn choose(arch: Arch, image: &Path, initramfs: &Path, log: &Path) -> Result<Self> {
        let may = arch.is_the_hosts() && Path::new("/dev/kvm").exists();
        let works = may && boot(arch, Self::Kvm, image, initramfs, log, PROBE)?.done;
        Ok(if works { Self::Kvm } else { Self::Emulation })
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm"],
            // The guest's time is the number of its instructions, one for each nanosecond: however busy the host is, the
            // guest is a machine of the same speed. While it idles, its clock jumps to the next timer.
            Self::Emulation => &["-accel", "tcg", "-icount", "shift=0,sleep=off", "-rtc", "clock=vm"],
        }
    }
}

/// Nothing that measures runs beside the guests any more.
static AWAITED: AtomicBool = AtomicBool::new(false);

/// From now on guests run with the usual priority: beside other users of the machine, they would not end otherwise.
pub(crate) fn await_guests() {
    AWAITED.store(true, Relaxed);
}

/// Gives the threads of a process the usual priority.
fn bring_forward(pid: u32) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let threads: Vec<_> = threads.map(|thread| thread.file_name()).collect();
    // A guest that has just ended has none. Whatever fails, the guest is only slower.
    let _ = Command::new("renice").args(["-n", "0", "-p"]).args(threads).stdout(Stdio::null()).status();
}

/// Boots a guest and waits for its end.
///
/// # Errors
/// QEMU cannot be started.
pub(super) fn run(arch: Arch, accelerator: Accelerator, image: &Path, initramfs: &Path, log: &Path) -> Result<Console> {
    boot(arch, accelerator, image, initramfs, log, PATIENCE)
}

fn boot(
    arch: Arch,
    accelerator: Accelerator,
    image: &Path,
    initramfs: &Path,
    log: &Path,
    patience: Duration,
) -> Result<Console> {
    let console = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    // Guests can wait: what runs beside them measures.
    let mut qemu = Command::new("nice");
    qemu.args(["-n", "19", arch.qemu()]);
    // One processor: QEMU's multi-threaded emulation gets code patching wrong.
    qemu.args(accelerator.arguments()).args(arch.machine(accelerator)).args([
        "-m",
        "1G",
        "-smp",
        "1",
        "-no-reboot",
        "-nographic",
    ]);
    let parameters = format!("console={} {PARAMETERS}", arch.console());
    qemu.args(["-append", &parameters, "-kernel"]).arg(image).arg("-initrd").arg(initramfs);
    qemu.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
    let mut guest = qemu.spawn().with_context(|| format!("cannot start nice(1) and {}", arch.qemu()))?;
    let began = Instant::now();
    let mut in_background = true;
    while guest.try_wait()?.is_none() {
        if in_background && AWAITED.load(Relaxed) {
            in_background = false;
            bring_forward(guest.id());
        }
        if began.elapsed() > patience {
            guest.kill()?;
            guest.wait()?;
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(read(&String::from_utf8_lossy(&fs::read(log)?)))
}

/// Reads a console. Lines of the runs begin with `####`, see `twtrace-guest`.
fn read(text: &str) -> Console {
    let mut console = Console::default();
    let mut output = String::new();
    for line in text.lines() {
        let line = line.trim_end_matches('\r');
        if console.trouble.is_none() && TROUBLE.iter().any(|word| line.contains(word)) {
            console.trouble = Some(line.to_owned());
        }
        // It may follow kernel output on the same line.
        let Some((_, mark)) = line.split_once("#### ") else {
            output.push_str(line);
            output.push('\n');
            continue;
        };
        let mut words = mark.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("begin"), ..) => output.clear(),
            (Some("end"), Some(name), Some(code), Some(millis)) => console.ended.push(Ended {
                name: name.to_owned(),
                code: code.parse().ok(),
                millis: millis.parse().unwrap_or(0),
                output: std::mem::take(&mut output),
            }),
            (Some("done"), ..) => console.done = true,
            _ => {}
        }
    }
    console
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_read() {
        let text =
            "boot\r\n#### begin a\r\nline\r\n#### end a 0 1200\r\n#### begin b\n[ 1.0] x #### end b - 7\n#### done\n";
        let console = read(text);
        assert!(console.done && console.trouble.is_none());
        let ended: Vec<_> = console.ended.iter().map(|run| (run.name.as_str(), run.code, run.millis)).collect();
        assert_eq!(ended, [("a", Some(0), 1200), ("b", None, 7)]);
        assert_eq!(console.ended[0].output, "line\n");
    }

    #[test]
    fn trouble_and_silence_are_seen() {
        let console = read("#### begin a\n[    2.0] BUG: kernel NULL pointer dereference\n");
        assert_eq!(console.trouble.as_deref(), Some("[    2.0] BUG: kernel NULL pointer dereference"));
        assert!(!console.done && console.ended.is_empty());
    }
}
