//! The generator's end of the control socket of one of its processes.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use super::command::{Answer, Command, How, Who, receive, send};
use super::diag::TupleState;
use super::net::{Layer, Namespace};
use super::process::{self, control_pair};
use super::sys::{DEADLINE, Event, Family, Names, SockOption};
use super::wire::{Gate, Way};

/// A process that executes commands. When this is dropped, the process ends and is waited for.
pub struct Worker {
    /// What it is now; exec changes the comm.
    pub who: Who,
    control: Option<OwnedFd>,
    /// Whether it is this process's own child, to be waited for.
    child: bool,
}

/// A connection that ended differently because of a race in the kernel: the case must be played again.
#[derive(Clone, Copy, Debug)]
pub struct Raced {
    /// Where.
    pub netns: Namespace,
    /// One side.
    pub local: SocketAddr,
    /// The other side.
    pub remote: SocketAddr,
}

impl std::fmt::Display for Raced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {} stayed a full socket in FIN_WAIT2", self.local, self.remote)
    }
}

impl std::error::Error for Raced {}

impl Worker {
    /// Forks a process with this comm.
    pub fn new(comm: &str) -> Result<Self> {
        let (ours, theirs) = control_pair()?;
        // SAFETY: the generator has one thread.
        match unsafe { fork() }? {
            ForkResult::Parent { .. } => {
                drop(theirs);
                Self::meet(ours, true).with_context(|| format!("starting {comm}"))
            }
            ForkResult::Child => {
                let code = match child(theirs, comm) {
                    Ok(()) => 0,
                    Err(_) => 1,
                };
                // SAFETY: `_exit` runs none of the generator's destructors and handlers.
                unsafe { libc::_exit(code) }
            }
        }
    }

    fn meet(control: OwnedFd, child: bool) -> Result<Self> {
        let timeout = TimeVal::milliseconds((2 * DEADLINE).as_millis() as i64);
        setsockopt(&control, sockopt::ReceiveTimeout, &timeout)?;
        let mut actor = Self { who: Who::default(), control: Some(control), child };
        match actor.end()?.0 {
            Answer::Who(who) => actor.who = who,
            other => bail!("a new process answered {other:?}"),
        }
        Ok(actor)
    }

    /// Sends a command without waiting for the answer, which [`Self::end`] returns.
    pub fn begin(&self, command: &Command) -> Result<()> {
        self.send(command, None)
    }

    fn send(&self, command: &Command, fd: Option<RawFd>) -> Result<()> {
        let control = self.control.as_ref().with_context(|| format!("{} is gone", self.who.comm))?;
        send(control.as_fd(), command, fd).with_context(|| format!("sending {command:?} to {}", self.who.comm))
    }

    /// Waits for the answer of a command.
    pub fn end(&self) -> Result<(Answer, Option<OwnedFd>)> {
        let control = self.control.as_ref().with_context(|| format!("{} is gone", self.who.comm))?;
        let answer = receive(control.as_fd()).with_context(|| format!("no answer from {}", self.who.comm))?;
        answer.ok_or_else(|| anyhow!("{} ended", self.who.comm))
    }

    /// Sends a command and waits for the answer.
    pub fn ask(&self, command: &Command) -> Result<Answer> {
        self.begin(command)?;
        Ok(self.end()?.0)
    }

    /// Sends a command, waits, and expects the answer `Done`.
    pub fn execute(&self, command: &Command) -> Result<()> {
        match self.ask(command)? {
            Answer::Done => Ok(()),
            other => self.refused(command, &other),
        }
    }

    fn refused<T>(&self, command: &Command, answer: &Answer) -> Result<T> {
        let why = match answer {
            Answer::Errno(errno) => Errno::from_raw(*errno).to_string(),
            Answer::Failed(why) => why.clone(),
            other => format!("{other:?}"),
        };
        bail!("{}: {command:?}: {why}", self.who.comm)
    }

    fn descriptor(&self, command: &Command) -> Result<RawFd> {
        match self.ask(command)? {
            Answer::Descriptor(fd) => Ok(fd),
            other => self.refused(command, &other),
        }
    }

    /// Asks for a number.
    pub fn number(&self, command: &Command) -> Result<u64> {
        match self.ask(command)? {
            Answer::Number(number) => Ok(number),
            other => self.refused(command, &other),
        }
    }

    /// Opens a TCP socket.
    pub fn open(&self, family: Family) -> Result<RawFd> {
        self.descriptor(&Command::Open { family, protocol: libc::IPPROTO_TCP })
    }

    /// Sets an option.
    pub fn set(&self, fd: RawFd, option: SockOption) -> Result<()> {
        self.execute(&Command::Set { fd, option })
    }

    /// Binds to an address, port 0 for any.
    pub fn bind(&self, fd: RawFd, ip: IpAddr, port: u16) -> Result<()> {
        self.execute(&Command::Bind { fd, address: (ip, port).into() })
    }

    /// Both names of a socket.
    pub fn names(&self, fd: RawFd) -> Result<Names> {
        let command = Command::Names { fd };
        match self.ask(&command)? {
            Answer::Names(names) => Ok(names),
            other => self.refused(&command, &other),
        }
    }

    /// Connects: 0 or the errno.
    pub fn connect(&self, fd: RawFd, address: SocketAddr, how: &How) -> Result<i32> {
        let command = Command::Connect { fd, address, how: how.clone() };
        match self.ask(&command)? {
            Answer::Done => Ok(0),
            Answer::Errno(errno) => Ok(errno),
            other => self.refused(&command, &other),
        }
    }

    /// Accepts one connection.
    pub fn accept(&self, fd: RawFd, how: &How) -> Result<RawFd> {
        self.descriptor(&Command::Accept { fd, how: how.clone() })
    }

    /// Shuts the sending direction down.
    pub fn shutdown(&self, fd: RawFd) -> Result<()> {
        self.execute(&Command::Shutdown { fd, both: false, how: How::Plain })
    }

    /// Closes.
    pub fn close(&self, fd: RawFd) -> Result<()> {
        self.execute(&Command::Close { fd, how: How::Plain })
    }

    /// Sends one byte.
    pub fn send_byte(&self, fd: RawFd) -> Result<()> {
        self.execute(&Command::Send { fd })
    }

    /// Waits for an event.
    pub fn wait(&self, fd: RawFd, event: Event) -> Result<()> {
        self.execute(&Command::Wait { fd, event })
    }

    /// Waits until a socket is in this state, as the kernel numbers them.
    pub fn wait_state(&self, fd: RawFd, state: u8) -> Result<()> {
        self.execute(&Command::WaitState { fd, state })
    }

    /// Waits until a tuple is in this state in this process's namespace.
    pub fn wait_tuple(&self, local: SocketAddr, remote: SocketAddr, state: TupleState) -> Result<()> {
        let command = Command::WaitTuple { local, remote, state };
        match self.ask(&command)? {
            Answer::Done => Ok(()),
            Answer::Raced => Err(Raced { netns: self.namespace()?, local, remote }.into()),
            other => self.refused(&command, &other),
        }
    }

    /// Pending error of a socket.
    pub fn take_error(&self, fd: RawFd) -> Result<i32> {
        Ok(self.number(&Command::TakeError { fd })? as i32)
    }

    /// Forks this process; its child has the same descriptors.
    pub fn fork(&self, comm: &str) -> Result<Self> {
        let command = Command::Fork { comm: comm.to_owned() };
        self.begin(&command)?;
        match self.end()? {
            (Answer::Done, Some(control)) => Self::meet(control, false).with_context(|| format!("starting {comm}")),
            (answer, _) => self.refused(&command, &answer),
        }
    }

    /// Executes the program again under another comm.
    pub fn exec(&mut self, comm: &str) -> Result<()> {
        let command = Command::Exec { comm: comm.to_owned() };
        match self.ask(&command)? {
            Answer::Who(who) => self.who = who,
            other => return self.refused(&command, &other),
        }
        Ok(())
    }

    /// Passes a descriptor to another process over a Unix socket; afterwards both have it.
    pub fn hand(&self, fd: RawFd, to: &Self) -> Result<RawFd> {
        let command = Command::Give { fd };
        self.begin(&command)?;
        let (answer, Some(handed)) = self.end()? else { bail!("{} handed nothing over", self.who.comm) };
        if answer != Answer::Done {
            return self.refused(&command, &answer);
        }
        to.send(&Command::Run, Some(handed.as_raw_fd()))?;
        match to.end()?.0 {
            Answer::Descriptor(fd) => Ok(fd),
            other => to.refused(&Command::Run, &other),
        }
    }

    /// Creates a tunnel in this process's namespace; the errno if the kernel has no tunnels.
    pub fn tunnel(&self, layer: Layer, addresses: &[IpAddr]) -> Result<Result<RawFd, Errno>> {
        let command = Command::Tunnel { name: "tw0".to_owned(), layer, addresses: addresses.to_vec() };
        match self.ask(&command)? {
            Answer::Descriptor(fd) => Ok(Ok(fd)),
            Answer::Errno(errno) => Ok(Err(Errno::from_raw(errno))),
            other => self.refused(&command, &other),
        }
    }

    /// Sets a gate of a wire.
    pub fn gate(&self, way: Way, gate: Gate) -> Result<()> {
        self.execute(&Command::Gate { way, gate })
    }

    /// Writes `net.{name}` of this process's namespace.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.execute(&Command::Sysctl { name: name.to_owned(), value: value.to_owned() })
    }

    /// This process's network namespace.
    pub fn namespace(&self) -> Result<Namespace> {
        match self.ask(&Command::Namespace)? {
            Answer::Namespace(namespace) => Ok(namespace),
            other => self.refused(&Command::Namespace, &other),
        }
    }

    /// Switches to another user for good.
    pub fn become_user(&mut self, uid: u32) -> Result<()> {
        let command = Command::BecomeUser { uid };
        match self.ask(&command)? {
            Answer::Who(who) => self.who = who,
            other => return self.refused(&command, &other),
        }
        Ok(())
    }

    /// Makes it exit without closing anything, and waits until it is gone.
    pub fn exit(&mut self) -> Result<()> {
        self.begin(&Command::Exit)?;
        self.gone()
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        kill(self.pid(), Signal::SIGKILL)?;
        self.gone()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.who.pid as i32)
    }

    fn gone(&mut self) -> Result<()> {
        self.control = None;
        if std::mem::take(&mut self.child) {
            waitpid(self.pid(), None)?;
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.control = None;
        if !self.child {
            return;
        }
        // It sees at once that the control socket is closed, unless it is inside a call that blocks.
        let flags = nix::sys::wait::WaitPidFlag::WNOHANG;
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while waitpid(self.pid(), Some(flags)).is_ok_and(|status| status.pid().is_none()) {
            if std::time::Instant::now() > deadline {
                let _ = kill(self.pid(), Signal::SIGKILL);
                let _ = waitpid(self.pid(), None);
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// The body of a new process.
fn child(control: OwnedFd, comm: &str) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // If this process kept the control socket of another one open, that one would not see that the generator is gone.
    let number = control.as_raw_fd() as libc::c_uint;
    for (first, last) in [(3, number - 1), (number + 1, libc::c_uint::MAX)] {
        if first <= last {
            // SAFETY: the closed descriptors belong to values of the generator, none of which is used or dropped here.
            unsafe { libc::close_range(first, last, 0) };
        }
    }
    process::run(control, comm)?;
    Ok(())
}
