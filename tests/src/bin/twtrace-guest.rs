//! The init process of a guest: turns the booted kernel into a small Linux system, runs what `/plan.json` says, and
//! powers off. Its lines on the console begin with `####`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Deserialize;
use twtrace_tests::workload::net::up;

/// One run.
#[derive(Deserialize)]
struct Run {
    name: String,
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    timeout_s: u64,
}

fn main() {
    if let Err(error) = work() {
        say(&format!("the guest cannot go on: {error:#}"));
    }
    nix::unistd::sync();
    // Cannot return with success; and if it fails, the kernel panics because its first process ends.
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

fn work() -> Result<()> {
    for (kind, place) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp"), ("tmpfs", "/run")]
    {
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>).with_context(|| place.to_owned())?;
    }
    fs::create_dir_all("/dev/pts")?;
    mount(Some("devpts"), "/dev/pts", Some("devpts"), MsFlags::empty(), None::<&str>).context("devpts")?;
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), None::<&str>).context("cgroup2")?;
    nix::unistd::sethostname("guest")?;
    up("lo")?;
    modules()?;
    let plan: Vec<Run> = serde_json::from_slice(&fs::read("/plan.json")?)?;
    for run in plan {
        say(&format!("#### begin {}", run.name));
        let began = Instant::now();
        let code = perform(&run)?;
        let code = code.map_or("-".to_owned(), |code| code.to_string());
        say(&format!("#### end {} {code} {}", run.name, began.elapsed().as_millis()));
    }
    say("#### done");
    Ok(())
}

/// Loads the modules in `/t`, in the order of their names.
fn modules() -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir("/t")? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "ko"));
    files.sort();
    for file in files {
        finit_module(File::open(&file)?, c"", ModuleInitFlags::empty()).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// Runs one and returns its exit code; `None` if a signal ended it.
fn perform(run: &Run) -> Result<Option<i32>> {
    let mut command = Command::new(&run.program);
    let environment = run.env.iter().map(|(name, value)| (name, value));
    command.args(&run.args).env_clear().env("PATH", "/t").env("RUST_BACKTRACE", "0").envs(environment);
    let child = command.spawn().with_context(|| run.program.clone())?;
    Ok(wait(&child, Instant::now() + Duration::from_secs(run.timeout_s)))
}

/// Waits for a child, and reaps the orphans that the init process inherits.
fn wait(child: &Child, deadline: Instant) -> Option<i32> {
    let pid = Pid::from_raw(child.id() as i32);
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(who, code)) if who == pid => return Some(code),
            Ok(WaitStatus::Signaled(who, ..)) if who == pid => return None,
            Ok(WaitStatus::StillAlive) | Err(_) => {
                if Instant::now() > deadline {
                    // If it is gone already, the next round sees it.
                    let _ = kill(pid, Signal::SIGKILL);
                }
                thread::sleep(Duration::from_millis(20));
            }
            Ok(_) => {}
        }
    }
}

fn say(line: &str) {
    // If the console does not accept it, there is no reader either.
    let _ = writeln!(io::stdout(), "{line}");
}
