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

/// A thread in its own network namespace, with the loopback interface up. Programs that it starts run there too.
pub struct Place {
    work: Option<Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
}

impl Place {
    /// Creates a namespace.
    ///
    /// # Panics
    /// Without root.
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
    /// If the kernel rejects it.
    pub fn sysctl(&self, name: &str, value: &str) {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.run(move || sysctl(&name, &value)).expect("root may write the sysctls of its namespace");
    }

    /// Runs a closure there and waits for its result.
    ///
    /// # Panics
    /// If `what` panics.
    pub fn run<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        let work = self.work.as_ref().expect("a place is open until it is dropped");
        work.send(Box::new(move || {
            let _ = sender.send(what());
        }))
        .expect("the thread runs as long as the place");
        receiver.recv().expect("the closure panicked")
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
    /// If it cannot be started.
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

/// A namespace name like that of `ip netns add`, removed when this is dropped.
pub struct Named {
    file: PathBuf,
}

impl Named {
    /// For the namespace of a place.
    ///
    /// # Panics
    /// Without root.
    pub fn new(place: &Place, name: &str) -> Self {
        fs::create_dir_all("/run/netns").expect("root may create it");
        let file = PathBuf::from("/run/netns").join(name);
        File::create(&file).expect("root may create it");
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

/// A process that does nothing until it is killed.
pub struct Idle(Child);

impl Idle {
    /// Starts it in a place, so that the namespace has a process.
    ///
    /// # Panics
    /// If it cannot be started.
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
/// If it was not built: `cargo build --release --bins` of both packages does that.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    // target/PROFILE/deps/TEST
    let folder = test.parent().and_then(|deps| deps.parent()).expect("a test lies in target/PROFILE/deps");
    let program = folder.join(name);
    assert!(program.is_file(), "{} is missing: run `cargo xtask test`, which builds it", program.display());
    program
}

/// The last lines of a text, for a message.
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
