//! The load while it runs.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::tracer::Place;

/// The load. Dropping this before its end kills it.
pub struct Running {
    child: Option<Child>,
    /// When it is killed together with its children: with a deadline it has its own process group.
    deadline: Option<Instant>,
}

impl Running {
    /// Starts it in a place, for a given time or until it ends. Its standard output can be read.
    pub(super) fn start(place: &Place, mut command: Command, time: Option<Duration>) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        if time.is_some() {
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        Self { child: Some(place.spawn(command)), deadline: time.map(|time| Instant::now() + time) }
    }

    /// Process id.
    ///
    /// # Panics
    /// Never: only [`Self::end`] takes the child, and it consumes this.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is there until it ends").id()
    }

    /// Whether it is still running and its deadline has not passed.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn runs(&mut self) -> bool {
        let child = self.child.as_mut().expect("it is there until it ends");
        child.try_wait().expect("a child can be waited for").is_none()
            && self.deadline.is_none_or(|deadline| Instant::now() < deadline)
    }

    /// Waits for its end, or ends it at its deadline, and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn end(mut self) -> String {
        let mut child = self.child.take().expect("it ends once");
        let is_over = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if self.deadline.is_some() {
            kill(&mut child, true);
        }
        let output = child.wait_with_output().expect("a child can be waited for");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(is_over || output.status.success(), "the load failed: {printed}");
        printed
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            kill(child, self.deadline.is_some());
            let _ = child.wait();
        }
    }
}

fn kill(child: &mut Child, is_group: bool) {
    if is_group {
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    } else {
        let _ = child.kill();
    }
}
