//! A terminal for a program under test.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::{Pid, setsid};

use crate::tracer::Place;

mod ioctl {
    #![allow(missing_docs, reason = "generated")]
    nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, nix::pty::Winsize);
}

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What ends a frame.
const END_OF_FRAME: &[u8] = b"\x1b[?2026l";

/// A program on its own terminal. Dropping this before its end kills it.
pub struct Terminal {
    child: Child,
    master: OwnedFd,
    /// Kept open, so that its settings can be read after the program is gone.
    slave: OwnedFd,
    before: Termios,
    output: Arc<Shared>,
}

/// What a program wrote, and a way to wait for more.
struct Shared {
    output: Mutex<Output>,
    more: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a program wrote.
struct Output {
    /// The raw output since the last wait.
    written: Vec<u8>,
    /// The resulting screen: a program writes only the cells that change.
    screen: vt100::Parser,
    /// When the last output arrived.
    came: Instant,
}

impl Terminal {
    /// Starts a program in a place, on a terminal of this size.
    ///
    /// # Panics
    /// If no terminal can be opened.
    pub fn start(place: &Place, mut command: Command, columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("a pseudo-terminal");
        let before = tcgetattr(&slave).expect("a terminal has settings");
        let end = || Stdio::from(slave.try_clone().expect("a descriptor can be copied"));
        command.stdin(end()).stdout(end()).stderr(end());
        if command.get_envs().all(|(name, _)| name != "TERM") {
            command.env("TERM", "xterm-256color");
        }
        // Its own session, as on every terminal: the scheduler may distribute CPU time by session.
        // SAFETY: setsid is a system call and nothing else.
        unsafe { command.pre_exec(|| Ok(setsid().map(drop)?)) };
        let child = place.spawn(command);
        let screen = vt100::Parser::new(rows, columns, 0);
        let output = Mutex::new(Output { written: Vec::new(), screen, came: Instant::now() });
        let output = Arc::new(Shared { output, more: Condvar::new() });
        let (copy, into) = (master.try_clone().expect("a descriptor can be copied"), Arc::clone(&output));
        thread::spawn(move || {
            let (mut from, mut bytes) = (File::from(copy), [0; 65536]);
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                // As most terminals: it does not say which background it has, but that it is one (DA1).
                if bytes[..length].windows(3).any(|part| part == b"\x1b[c") {
                    let _ = from.write_all(b"\x1b[?62c");
                }
                let came = Instant::now();
                let mut output = into.lock();
                output.written.extend_from_slice(&bytes[..length]);
                output.screen.process(&bytes[..length]);
                output.came = came;
                into.more.notify_all();
            }
        });
        Self { child, master, slave, before, output }
    }

    /// Gives the terminal another size.
    ///
    /// # Panics
    /// If the terminal or the program is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        self.output().screen.screen_mut().set_size(rows, columns);
        // SAFETY: TIOCSWINSZ reads a `struct winsize`, which outlives the call.
        unsafe { ioctl::set_size(self.master.as_raw_fd(), &raw const size) }.expect("a terminal has a size");
        // It has no controlling terminal, from which the kernel would signal it.
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGWINCH).expect("the program runs");
    }

    /// Presses keys.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn press(&self, keys: &str) {
        let mut master = File::from(self.master.try_clone().expect("a descriptor can be copied"));
        master.write_all(keys.as_bytes()).expect("a terminal takes keys");
    }

    /// Presses keys and returns the time until a complete frame is as expected; `None` if there was none within
    /// `patience`.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn answer(
        &self,
        keys: &str,
        patience: Duration,
        is_expected: impl Fn(&vt100::Screen) -> bool,
    ) -> Option<Duration> {
        self.output().written.clear();
        let pressed = Instant::now();
        if !keys.is_empty() {
            self.press(keys);
        }
        let mut output = self.output();
        loop {
            if output.written.ends_with(END_OF_FRAME) && is_expected(output.screen.screen()) {
                return Some(output.came.saturating_duration_since(pressed));
            }
            let left = patience.checked_sub(pressed.elapsed())?;
            output = self.output.more.wait_timeout(output, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Runs `look` on the screen. Meanwhile the terminal reads nothing that the program writes.
    pub fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.output().screen.screen())
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock()
    }

    /// Everything that was written since the last wait.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.output().written).into_owned()
    }

    /// The text on the screen, line by line.
    pub fn screen(&self) -> String {
        self.output().screen.screen().contents()
    }

    /// Waits until `text` is on the screen, or was written literally, escape sequences included.
    ///
    /// # Panics
    /// If that takes a minute.
    pub fn wait(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.screen().contains(text) && !self.written().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} did not appear on the screen:\n{}", self.screen());
            thread::sleep(Duration::from_millis(10));
        }
        self.output().written.clear();
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends. Returns whether it succeeded, and whether the terminal settings are unchanged.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn end(mut self) -> (bool, bool) {
        let deadline = Instant::now() + PATIENCE;
        let success = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status.success();
            }
            assert!(Instant::now() < deadline, "it does not end; it wrote {:?}", self.written());
            thread::sleep(Duration::from_millis(1));
        };
        let after = tcgetattr(self.slave.as_fd()).expect("a terminal has settings");
        (success, after == self.before)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
