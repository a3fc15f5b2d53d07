//! A process of the generator: it executes the commands from its control socket, and ends when that is closed.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, execv, fork};

use super::command::{Answer, Command, How, Who, receive, send};
use super::net::Namespace;
use super::ring::{Files, Ring};
use super::sys::{self, borrow, owned};
use super::wire::Wire;
use super::{compat, diag, net, ring};

/// Name of the hidden subcommand that [`Command::Exec`] starts.
pub const SUBCOMMAND: &str = "process";

/// The calling process.
pub fn myself() -> io::Result<Who> {
    who(std::process::id())
}

/// A process, as `/proc` describes it. The parent must not end meanwhile.
pub fn who(pid: u32) -> io::Result<Who> {
    // The comm of the group leader, not that of the calling thread.
    let comm = |pid| Ok::<_, io::Error>(std::fs::read_to_string(format!("/proc/{pid}/comm"))?.trim_end().to_owned());
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The fields from the third on, after the comm, which may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or(Vec::new(), |(_, rest)| rest.split(' ').collect());
    let field = |number: usize| {
        let field = fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
        field.ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no field {number}")))
    };
    let ppid = field(4)? as u32;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
    let uid = uid.ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no uid")))?;
    Ok(Who { pid, comm: comm(pid)?, uid, ppid, parent_comm: comm(ppid)?, start_ticks: field(22)? })
}

/// A pair of connected control sockets, which preserve message boundaries.
pub fn control_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sets its name, reports itself, and executes commands until the control socket is closed.
pub fn run(control: OwnedFd, comm: &str) -> io::Result<()> {
    sys::set_name(comm)?;
    send(control.as_fd(), &Answer::Who(myself()?), None)?;
    Process { control, handed: None, wire: None, files: None, namespace: Namespace::now()? }.execute_commands()
}

/// Continues after [`Command::Exec`].
pub fn run_executed(control: RawFd, comm: &str) -> io::Result<()> {
    let control = owned(control);
    fcntl(&control, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    run(control, comm)
}

struct Process {
    control: OwnedFd,
    /// Descriptor that came with the last command.
    handed: Option<OwnedFd>,
    wire: Option<Wire>,
    files: Option<Files>,
    namespace: Namespace,
}

impl Process {
    fn execute_commands(&mut self) -> io::Result<()> {
        loop {
            self.wait_for_command()?;
            let Some((command, handed)) = receive(self.control.as_fd())? else { return Ok(()) };
            self.handed = handed;
            let (answer, fd) = match self.perform(command) {
                Ok(result) => result,
                Err(error) => match error.raw_os_error() {
                    Some(errno) => (Answer::Errno(errno), None),
                    None => (Answer::Failed(error.to_string()), None),
                },
            };
            send(self.control.as_fd(), &answer, fd.as_ref().map(std::os::fd::AsRawFd::as_raw_fd))?;
        }
    }

    fn wait_for_command(&mut self) -> io::Result<()> {
        while let Some(wire) = &mut self.wire {
            let tunnels = wire.tunnels();
            let mut polled = vec![PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
            polled.extend(tunnels.iter().map(|&fd| PollFd::new(borrow(fd), PollFlags::POLLIN)));
            poll(&mut polled, PollTimeout::NONE)?;
            let has_command = polled[0].any().unwrap_or(true);
            wire.carry()?;
            if has_command {
                break;
            }
        }
        Ok(())
    }

    fn perform(&mut self, command: Command) -> io::Result<(Answer, Option<OwnedFd>)> {
        let answer = match command {
            Command::Namespace => Answer::Namespace(self.namespace),
            Command::Open { family, protocol } => Answer::Descriptor(sys::open(family, protocol)?),
            Command::Set { fd, option } => done(sys::set(fd, option))?,
            Command::Bind { fd, address } => done(sys::bind(fd, address))?,
            Command::Listen { fd } => done(sys::listen(fd))?,
            Command::Names { fd } => Answer::Names(sys::names(fd)?),
            Command::Connect { .. } | Command::Accept { .. } | Command::Shutdown { .. } | Command::Close { .. } => {
                call_as_asked(command)?
            }
            Command::Disconnect { fd } => done(sys::disconnect(fd))?,
            Command::Send { fd } => done(sys::send_byte(fd))?,
            Command::SendFastOpen { fd, address } => done(sys::send_fast_open(fd, address))?,
            Command::Receive { fd } => Answer::Number(sys::receive(fd)? as u64),
            Command::TakeError { fd } => Answer::Number(sys::take_error(fd)? as u64),
            Command::Wait { fd, event } => done(sys::wait(fd, event))?,
            Command::WaitState { fd, state } => {
                sys::until("state", || Ok((sys::state(fd)? == state).then_some(())))?;
                Answer::Done
            }
            Command::WaitTuple { local, remote, state } => wait_tuple(local, remote, state)?,
            Command::WaitEnded { local, remote } => {
                sys::until("end", || {
                    Ok((!matches!(diag::tuple_state(local, remote)?, diag::TupleState::Socket(_))).then_some(()))
                })?;
                Answer::Done
            }
            Command::Destroy { local, remote } => diag::destroy(local, remote).map(|()| Answer::Done)?,
            Command::LeaveInUnixSockets { fd } => done(sys::leave_in_unix_sockets(fd))?,
            Command::KeepInRing { fd } => done(self.files()?.keep(fd))?,
            Command::AcceptInRing { fd } => done(self.files()?.accept(fd))?,
            Command::ShutdownInRing => done(self.files()?.shutdown())?,
            Command::CloseInRing => done(self.files()?.close())?,
            Command::CloseRing => {
                self.files = None;
                Answer::Done
            }
            Command::Give { fd } => return Ok((Answer::Done, Some(nix::unistd::dup(borrow(fd))?))),
            Command::Run => match self.handed.take() {
                Some(fd) => Answer::Descriptor(fd.into_raw_fd()),
                None => Answer::Failed("no descriptor came".to_owned()),
            },
            Command::Fork { comm } => return self.fork(&comm),
            Command::Exec { comm } => return self.exec(&comm),
            // SAFETY: this process has nothing to do before it ends: the case needs an exit without a close.
            Command::Exit => unsafe { libc::_exit(0) },
            Command::BecomeUser { uid } => {
                let uid = nix::unistd::Uid::from_raw(uid);
                nix::unistd::setresuid(uid, uid, uid)?;
                Answer::Who(myself()?)
            }
            Command::ProbeRing => ring::missing().map_or(Answer::Done, Answer::Failed),
            Command::ProbeCompat => compat::missing().map_or(Answer::Done, Answer::Failed),
            Command::EnterNewNamespace => {
                self.namespace = net::enter_new()?;
                Answer::Done
            }
            Command::Sysctl { name, value } => net::sysctl(&name, &value).map(|()| Answer::Done)?,
            Command::Unreachable { address } => net::add_unreachable(address).map(|()| Answer::Done)?,
            Command::Tunnel { name, layer, addresses } => Answer::Descriptor(net::tunnel(&name, layer, &addresses)?),
            Command::Wire { left, right } => {
                self.wire = Some(Wire::new(left, right)?);
                Answer::Done
            }
            Command::Gate { way, gate } => self.wire()?.gate(way, gate).map(|()| Answer::Done)?,
            Command::WaitHeld { way, flags } => self.wire()?.wait_held(way, flags).map(|()| Answer::Done)?,
        };
        Ok((answer, None))
    }

    fn files(&mut self) -> io::Result<&mut Files> {
        if self.files.is_none() {
            self.files = Some(Files::new()?);
        }
        self.files.as_mut().ok_or_else(|| io::Error::other("no ring"))
    }

    fn wire(&mut self) -> io::Result<&mut Wire> {
        self.wire.as_mut().ok_or_else(|| io::Error::other("this process is no wire"))
    }

    /// The child continues in the same loop with its own control socket; the parent passes on the other end.
    fn fork(&mut self, comm: &str) -> io::Result<(Answer, Option<OwnedFd>)> {
        let (ours, theirs) = control_pair()?;
        // SAFETY: no other thread is alive: a thread that executes a call is joined when the call returns.
        match unsafe { fork() }? {
            ForkResult::Parent { .. } => Ok((Answer::Done, Some(theirs))),
            ForkResult::Child => {
                drop(theirs);
                self.control = ours;
                sys::set_name(comm)?;
                Ok((Answer::Who(myself()?), None))
            }
        }
    }

    /// The new program answers in place of this one.
    fn exec(&self, comm: &str) -> io::Result<(Answer, Option<OwnedFd>)> {
        fcntl(&self.control, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let arguments = ["twtrace-workload", SUBCOMMAND, &self.control.as_raw_fd().to_string(), comm]
            .map(|argument| CString::new(argument).map_err(io::Error::other));
        let arguments = arguments.into_iter().collect::<io::Result<Vec<_>>>()?;
        match execv(c"/proc/self/exe", &arguments)? {}
    }
}

fn done(result: Result<(), Errno>) -> io::Result<Answer> {
    Ok(result.map(|()| Answer::Done)?)
}

/// Executes a call that can be issued in several ways, as the command asks.
fn call_as_asked(command: Command) -> io::Result<Answer> {
    let how = match &command {
        Command::Connect { how, .. }
        | Command::Accept { how, .. }
        | Command::Shutdown { how, .. }
        | Command::Close { how, .. } => how.clone(),
        _ => How::Plain,
    };
    let ring = match how {
        How::Thread(name) => {
            let thread = std::thread::Builder::new().spawn(move || {
                sys::set_name(&name)?;
                call(&command, None)
            })?;
            return thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
        }
        How::Compat => return call_compat(&command),
        How::Plain => None,
        How::Ring => Some(Ring { worker: false }),
        How::RingWorker => Some(Ring { worker: true }),
    };
    call(&command, ring.as_ref())
}

fn call_compat(command: &Command) -> io::Result<Answer> {
    match command {
        Command::Connect { fd, address, .. } => done(compat::connect(*fd, *address)),
        Command::Accept { fd, .. } => Ok(Answer::Descriptor(compat::accept(*fd)?)),
        Command::Shutdown { fd, both, .. } => done(compat::shutdown(*fd, *both)),
        Command::Close { fd, .. } => done(compat::close(*fd)),
        other => Err(io::Error::other(format!("{other:?} is not executed this way"))),
    }
}

fn call(command: &Command, ring: Option<&Ring>) -> io::Result<Answer> {
    match (command, ring) {
        (Command::Connect { fd, address, .. }, None) => done(sys::connect(*fd, *address)),
        (Command::Connect { fd, address, .. }, Some(ring)) => done(ring.connect(*fd, *address)),
        (Command::Accept { fd, .. }, None) => Ok(Answer::Descriptor(sys::accept(*fd)?)),
        (Command::Accept { fd, .. }, Some(ring)) => Ok(Answer::Descriptor(ring.accept(*fd)?)),
        (Command::Shutdown { fd, both, .. }, None) => done(sys::shutdown(*fd, *both)),
        (Command::Shutdown { fd, both, .. }, Some(ring)) => done(ring.shutdown(*fd, *both)),
        (Command::Close { fd, .. }, None) => done(sys::close(*fd)),
        (Command::Close { fd, .. }, Some(ring)) => done(ring.close(*fd)),
        (other, _) => Err(io::Error::other(format!("{other:?} is not executed this way"))),
    }
}

/// A full socket in FIN_WAIT2 instead of a TIME_WAIT socket: close still owned the socket (`sock_owned_by_user`) when
/// the ACK of its FIN arrived, so the kernel keeps the full socket for `tcp_fin_timeout` (`tcp_rcv_state_process`).
const RACED: diag::TupleState = diag::TupleState::Socket(5);

/// After this time it will not change to anything else.
const RACE: Duration = Duration::from_secs(2);

fn wait_tuple(
    local: std::net::SocketAddr,
    remote: std::net::SocketAddr,
    expected: diag::TupleState,
) -> io::Result<Answer> {
    let mut found = diag::TupleState::NoSocket;
    let began = Instant::now();
    let waited = sys::until("tuple", || {
        found = diag::tuple_state(local, remote)?;
        // If there is no room for a TIME_WAIT socket, there should be no socket at all.
        let may_race = matches!(expected, diag::TupleState::TimewaitFinWait2 | diag::TupleState::NoSocket);
        let raced = found == RACED && may_race && began.elapsed() > RACE;
        Ok((found == expected || raced).then_some(()))
    });
    match waited {
        Ok(()) if found == RACED && found != expected => Ok(Answer::Raced),
        Ok(()) => Ok(Answer::Done),
        Err(error) => Err(io::Error::other(format!("{local} to {remote} is {found:?}, not {expected:?}: {error}"))),
    }
}
