//! The commands that the generator sends to its processes, and their answers. There is one message each way at a time,
//! so that everything happens in the order of the case's own lines.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::diag::TupleState;
use super::net::{Layer, Namespace};
use super::sys::{Event, Family, Names, SockOption, owned};
use super::wire::{Gate, Way};

/// Longest message. Commands and answers are a few hundred bytes.
const MESSAGE: usize = 8192;

/// A process, as it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// getpid.
    pub pid: u32,
    /// The group leader's comm.
    pub comm: String,
    /// Real user id.
    pub uid: u32,
    /// getppid.
    pub ppid: u32,
    /// The parent's comm.
    pub parent_comm: String,
    /// Start, in clock ticks since boot: `starttime` of `/proc/PID/stat`.
    pub start_ticks: u64,
}

/// What issues the system call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// The process itself.
    Plain,
    /// A thread with a name of its own.
    Thread(String),
    /// io_uring, at submission where that is possible.
    Ring,
    /// io_uring, in a worker thread of the kernel (`IOSQE_ASYNC`).
    RingWorker,
    /// The process itself, as a 32-bit program would.
    Compat,
}

/// One command. Descriptors are numbers in the process that executes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is named after the system call or the function that it stands for")]
pub enum Command {
    Namespace,
    Open {
        family: Family,
        protocol: i32,
    },
    Set {
        fd: RawFd,
        option: SockOption,
    },
    Bind {
        fd: RawFd,
        address: SocketAddr,
    },
    Listen {
        fd: RawFd,
    },
    Names {
        fd: RawFd,
    },
    Connect {
        fd: RawFd,
        address: SocketAddr,
        how: How,
    },
    Disconnect {
        fd: RawFd,
    },
    Accept {
        fd: RawFd,
        how: How,
    },
    Shutdown {
        fd: RawFd,
        both: bool,
        how: How,
    },
    Close {
        fd: RawFd,
        how: How,
    },
    Send {
        fd: RawFd,
    },
    SendFastOpen {
        fd: RawFd,
        address: SocketAddr,
    },
    Receive {
        fd: RawFd,
    },
    TakeError {
        fd: RawFd,
    },
    Wait {
        fd: RawFd,
        event: Event,
    },
    WaitState {
        fd: RawFd,
        state: u8,
    },
    /// Waits until the tuple is in this state.
    WaitTuple {
        local: SocketAddr,
        remote: SocketAddr,
        state: TupleState,
    },
    /// Waits until no full socket has the tuple.
    WaitEnded {
        local: SocketAddr,
        remote: SocketAddr,
    },
    Destroy {
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// Leaves the descriptor to the kernel: in a cycle of Unix sockets that no process can reach.
    LeaveInUnixSockets {
        fd: RawFd,
    },
    /// Keeps the socket in io_uring alone, without a descriptor.
    KeepInRing {
        fd: RawFd,
    },
    /// accept through io_uring, into io_uring alone.
    AcceptInRing {
        fd: RawFd,
    },
    /// shutdown of the sending direction of what is kept there.
    ShutdownInRing,
    /// close of what is kept there.
    CloseInRing,
    /// Closes the ring, with what it keeps.
    CloseRing,
    /// Sends the descriptor with the answer.
    Give {
        fd: RawFd,
    },
    /// Takes the descriptor that came with the command.
    Run,
    /// Forks; the child's end of control comes with the answer.
    Fork {
        comm: String,
    },
    /// Executes this program again, with the same descriptors and under another name.
    Exec {
        comm: String,
    },
    /// Exits without closing anything.
    Exit,
    /// Changes all three user ids for good.
    BecomeUser {
        uid: u32,
    },
    /// Whether the kernel's io_uring has what [`How::Ring`] needs.
    ProbeRing,
    /// Whether the kernel has system calls of 32-bit programs.
    ProbeCompat,
    EnterNewNamespace,
    Sysctl {
        name: String,
        value: String,
    },
    Unreachable {
        address: IpAddr,
    },
    Tunnel {
        name: String,
        layer: Layer,
        addresses: Vec<IpAddr>,
    },
    /// Becomes the wire between two tunnels.
    Wire {
        left: RawFd,
        right: RawFd,
    },
    Gate {
        way: Way,
        gate: Gate,
    },
    /// Waits until the wire holds back a packet with all of these TCP flags.
    WaitHeld {
        way: Way,
        flags: u8,
    },
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is named after what it carries")]
pub enum Answer {
    Done,
    Descriptor(RawFd),
    Number(u64),
    Namespace(Namespace),
    Names(Names),
    Who(Who),
    /// A race in the kernel led to another result.
    Raced,
    /// A system call failed.
    Errno(i32),
    /// Something failed that is not part of a case.
    Failed(String),
}

/// Sends a message, and a descriptor with it.
pub fn send<T: Serialize>(control: BorrowedFd<'_>, message: &T, fd: Option<RawFd>) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let fds: Vec<RawFd> = fd.into_iter().collect();
    let ancillary = [ControlMessage::ScmRights(&fds)];
    let ancillary = if fds.is_empty() { &[][..] } else { &ancillary };
    sendmsg::<()>(control.as_raw_fd(), &[io::IoSlice::new(&bytes)], ancillary, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives a message; `None` when the other end is gone.
pub fn receive<T: DeserializeOwned>(control: BorrowedFd<'_>) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0; MESSAGE];
    let mut space = cmsg_space!([RawFd; 1]);
    let mut slices = [io::IoSliceMut::new(&mut bytes)];
    let received = recvmsg::<()>(control.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
    let fd = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied().map(owned),
        _ => None,
    });
    let length = received.bytes;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..length])?, fd)))
}
