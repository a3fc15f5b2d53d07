//! `cargo xtask soak`: the memory use of `top` and `record` over a long time, side by side under one load.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{cargo, memory, run as run_command, say};
use crate::workspace::target;

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
pub struct Args {
    /// How long, minutes
    #[arg(long, default_value_t = 15)]
    minutes: u64,
    /// Connections per second on average; they come in bursts, one every ten seconds, as fast as the machine can
    #[arg(long, default_value_t = 13_000)]
    connections: u64,
    /// Processes per second that open one connection and exit without closing it
    #[arg(long, default_value_t = 150)]
    one_shots: u64,
    /// What the recording keeps
    #[arg(long, default_value = "200MiB")]
    keep: String,
    /// Another build of twtrace to watch, instead of the one that is built here
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Seconds from the beginning of a burst to that of the next.
const BURST_SECONDS: u64 = 10;

/// A process that is killed when this is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("cannot start {command:?}"))?))
    }

    /// Present and highest resident memory, MiB.
    fn memory(&mut self) -> Result<(u64, u64)> {
        if let Some(status) = self.0.try_wait()? {
            bail!("it ended too early: {status}");
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let mib = |name: &str| memory(&status, name).map(|bytes| bytes >> 20);
        mib("VmRSS").zip(mib("VmHWM")).context("its memory cannot be read")
    }

    /// Ends it with SIGINT and checks that it succeeded.
    fn interrupt(mut self) -> Result<()> {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT)?;
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { bail!("it failed: {status}") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or its output is not needed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the load and prints the memory of both each minute.
///
/// # Errors
/// It is not root, or one of the programs ended too early.
pub fn run(args: &Args) -> Result<()> {
    run_command(cargo().args(["build", "--release", "--package", "twtrace", "--package", "twtrace-tests", "--bins"]))?;
    let twtrace = args.program.clone().unwrap_or_else(|| target().join("release/twtrace"));
    let workload = target().join("release/twtrace-workload");
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace of its own needs root")?;
    run_command(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let recording = target().join("soak.twt");

    let mut top = Running::start(Command::new(&twtrace).args(["top", "--json", "--interval", "1s"]))?;
    let mut record = Command::new(&twtrace);
    record.args(["record", "--overwrite", "--keep", &args.keep, "-o"]).arg(&recording);
    let mut record = Running::start(&mut record)?;
    std::thread::sleep(Duration::from_secs(2));

    let seconds = 60 * args.minutes;
    let mut churn = Command::new(&workload);
    churn.args(["churn", "--processes=4"]).args([
        format!("--connections={}", args.connections * BURST_SECONDS),
        format!("--rounds={}", seconds.div_ceil(BURST_SECONDS)),
        format!("--round-seconds={BURST_SECONDS}"),
        format!("--one-shots={}", args.one_shots * seconds),
        format!("--one-shot-rate={}", args.one_shots),
    ]);
    let mut churn = Running::start(&mut churn)?;

    let began = Instant::now();
    let mut minutes = 0;
    say("minute   top MiB  (most)   record MiB  (most)   recording MiB");
    while minutes < args.minutes {
        if began.elapsed() >= Duration::from_secs(60 * (minutes + 1)) {
            minutes += 1;
            if minutes < args.minutes {
                churn.memory().context("the load")?;
            }
            let (top, record) = (top.memory().context("top")?, record.memory().context("record")?);
            let bytes: u64 =
                fs::read_dir(&recording)?.flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
            say(&format!(
                "{minutes:>6} {:>9} {:>8} {:>12} {:>8} {:>15.1}",
                top.0,
                format!("({})", top.1),
                record.0,
                format!("({})", record.1),
                bytes as f64 / f64::from(1 << 20)
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(churn);
    top.interrupt().context("top")?;
    record.interrupt().context("record")
}
