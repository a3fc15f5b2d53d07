//! The command that runs during the recording.

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{self, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

/// How long it may take to end by itself: on a terminal it has received the same signal as this program.
const BY_ITSELF: Duration = Duration::from_secs(1);

/// How long it may take after it was asked.
const WHEN_ASKED: Duration = Duration::from_secs(5);

/// A shell adds this to the number of the signal that ended a command.
const SIGNALLED: i32 = 128;

/// The command cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {name}: {error}")]
pub struct NotStarted {
    name: String,
    error: io::Error,
}

/// A command that runs, or has ended.
pub(super) struct Child {
    process: process::Child,
    status: Option<ExitStatus>,
    /// When it became known that it should end.
    ending: Option<Instant>,
    is_asked: bool,
}

impl Child {
    /// Starts it, with this program's own input and output.
    pub(super) fn start(name: &OsString, arguments: &[OsString]) -> Result<Self, NotStarted> {
        let process = Command::new(name).args(arguments).spawn();
        let process = process.map_err(|error| NotStarted { name: name.to_string_lossy().into_owned(), error })?;
        Ok(Self { process, status: None, ending: None, is_asked: false })
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> anyhow::Result<bool> {
        if self.status.is_none() {
            self.status = self.process.try_wait().context("cannot wait for the command")?;
        }
        Ok(self.status.is_some())
    }

    /// Ends it: true when it has ended, or when the wait for it is over.
    pub(super) fn end(&mut self) -> anyhow::Result<bool> {
        if self.has_ended()? {
            return Ok(true);
        }
        let waited = self.ending.get_or_insert_with(Instant::now).elapsed();
        if waited >= BY_ITSELF {
            self.ask();
        }
        Ok(waited >= BY_ITSELF + WHEN_ASKED)
    }

    /// Asks it to end, once.
    fn ask(&mut self) {
        if !self.is_asked && self.status.is_none() {
            self.is_asked = true;
            // It has not been waited for, so this PID is still its own.
            let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
        }
    }

    /// Its exit code, as in a shell. If it does not end, it counts as ended by the signal that asked it to.
    pub(super) fn code(mut self) -> ExitCode {
        let status = self.status.take().or_else(|| self.process.try_wait().ok().flatten());
        let ended_by = |signal: i32| SIGNALLED + signal;
        let code = status.map_or(ended_by(Signal::SIGTERM as i32), |status| {
            status.code().or(status.signal().map(ended_by)).unwrap_or(1)
        });
        u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

impl Drop for Child {
    /// A command that was started for the recording does not outlive it.
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.ask();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use std::thread;

    fn shell(script: &str) -> Child {
        Child::start(&"sh".into(), &["-c".into(), script.into()]).unwrap()
    }

    fn wait(child: &mut Child, what: impl Fn(&mut Child) -> bool) {
        let began = Instant::now();
        while !what(child) {
            assert!(began.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn its_code_is_passed_on() {
        for (script, code) in [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 137)] {
            let mut child = shell(script);
            wait(&mut child, |child| child.has_ended().unwrap());
            assert_eq!(format!("{:?}", child.code()), format!("{:?}", ExitCode::from(code)), "{script}");
        }
    }

    #[test]
    fn it_is_asked_to_end() {
        let mut child = shell("trap 'exit 3' TERM; while :; do sleep 0.1; done");
        thread::sleep(Duration::from_millis(200));
        assert!(!child.end().unwrap());
        wait(&mut child, |child| child.end().unwrap());
        assert_eq!(format!("{:?}", child.code()), format!("{:?}", ExitCode::from(3)));
    }

    #[test]
    fn what_cannot_be_started_is_named() {
        let error = Child::start(&"/no/such".into(), &[]).err().unwrap();
        assert!(error.to_string().contains("/no/such"), "{error}");
    }
}
