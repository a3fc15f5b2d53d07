//! twtrace under test: in this process, or as the program.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::workload::net::{enter_new, sysctl};

/// How often the ring buffer is read while a workload runs.
pub const PUMP: Duration = Duration::from_millis(20);

/// A thread in a network namespace of its own, with the loopback interface up. What it starts is there too.
pub struct Place {
    work: Option<Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
}

impl Place {
    /// A new namespace.
    ///
    /// # Panics
    /// Without root there are none.
    pub fn new() -> Self {
        let (work, todo): (_, Receiver<Box<dyn FnOnce() + Send>>) = channel();
        let thread = thread::spawn(move || {
            enter_new().expect("a network namespace needs root");
            todo.into_iter().for_each(|work| work());
        });
        Self { work: Some(work), thread: Some(thread) }
    }

    /// Writes `net.{name}` there; the name has slashes for dots.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn sysctl(&self, name: &str, value: &str) {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.run(move || sysctl(&name, &value)).expect("root may write the sysctls of its namespace");
    }

    /// Does something there, and waits for it.
    ///
    /// # Panics
    /// When `what` does.
    pub fn run<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let work = self.work.as_ref().expect("a place is open until it is dropped");
        work.send(Box::new(move || {
            let _ = tell.send(what());
        }))
        .expect("the thread runs as long as the place");
        told.recv().expect("what was asked for panicked")
    }

    /// Inode number of the namespace.
    ///
    /// # Panics
    /// Never where there is `/proc`.
    pub fn netns(&self) -> u64 {
        self.run(|| fs::metadata("/proc/thread-self/ns/net")).expect("a thread has a network namespace").ino()
    }

    /// Starts a program there.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&self, mut command: Command) -> Child {
        self.run(move || command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A name as `ip netns add` gives it, for as long as this is not dropped.
pub struct Named {
    file: PathBuf,
}

impl Named {
    /// For the namespace of a place.
    ///
    /// # Panics
    /// Without root.
    pub fn new(place: &Place, name: &str) -> Self {
        fs::create_dir_all("/run/netns").expect("root may make it");
        let file = PathBuf::from("/run/netns").join(name);
        File::create(&file).expect("root may make it");
        let named = Self { file };
        let there = named.file.clone();
        place
            .run(move || mount(Some("/proc/thread-self/ns/net"), &there, None::<&str>, MsFlags::MS_BIND, None::<&str>))
            .expect("root may mount");
        named
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = umount2(&self.file, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.file);
    }
}

/// A process that does nothing, for as long as it is not killed.
pub struct Idle(Child);

impl Idle {
    /// In a place, whose namespace has a process then.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn new(place: &Place) -> Self {
        let mut command = Command::new(program("twtrace-workload"));
        command.arg("idle").stdin(Stdio::piped());
        Self(place.spawn(command))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that was built with these tests.
///
/// # Panics
/// When it was not: `cargo build --release --bins` of both packages.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    // target/PROFILE/deps/TEST
    let folder = test.parent().and_then(|deps| deps.parent()).expect("a test lies in target/PROFILE/deps");
    let program = folder.join(name);
    assert!(program.is_file(), "{} is missing: run `cargo xtask test`, which builds it", program.display());
    program
}

/// The last few lines of something, for a message.
pub fn tail(text: &str, lines: usize) -> String {
    let mut last = VecDeque::new();
    for line in text.lines() {
        if last.len() == lines {
            last.pop_front();
        }
        last.push_back(line);
    }
    Vec::from(last).join("\n")
}
