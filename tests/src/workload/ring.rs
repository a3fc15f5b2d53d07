//! Socket calls through io_uring.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, Probe, opcode, types};
use nix::errno::Errno;
use nix::sys::socket::SockaddrLike as _;

use super::sys;

/// Executes one call at submission or, with `worker`, in a worker thread of the kernel.
pub struct Ring {
    /// Set `IOSQE_ASYNC`.
    pub worker: bool,
}

/// Why io_uring cannot do here what the cases need, if it cannot.
pub fn missing() -> Option<String> {
    let ring = match IoUring::new(2) {
        Ok(ring) => ring,
        Err(error) => return Some(format!("io_uring_setup: {error}")),
    };
    let mut probe = Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut probe) {
        return Some(format!("io_uring has no probe: {error}"));
    }
    let needed = [opcode::Connect::CODE, opcode::Accept::CODE, opcode::Shutdown::CODE, opcode::Close::CODE];
    let absent = needed.into_iter().find(|&code| !probe.is_supported(code))?;
    Some(format!("io_uring has no operation {absent}"))
}

impl Ring {
    /// connect.
    pub fn connect(&self, fd: RawFd, address: SocketAddr) -> Result<(), Errno> {
        let address = sys::encode(fd, address)?;
        self.run(opcode::Connect::new(types::Fd(fd), address.as_ptr().cast(), address.len()).build()).map(drop)
    }

    /// accept.
    pub fn accept(&self, fd: RawFd) -> Result<RawFd, Errno> {
        self.run(opcode::Accept::new(types::Fd(fd), std::ptr::null_mut(), std::ptr::null_mut()).build())
    }

    /// shutdown of the sending direction, or of both.
    pub fn shutdown(&self, fd: RawFd, both: bool) -> Result<(), Errno> {
        let how = if both { libc::SHUT_RDWR } else { libc::SHUT_WR };
        self.run(opcode::Shutdown::new(types::Fd(fd), how).build()).map(drop)
    }

    /// close.
    pub fn close(&self, fd: RawFd) -> Result<(), Errno> {
        self.run(opcode::Close::new(types::Fd(fd)).build()).map(drop)
    }

    fn run(&self, entry: Entry) -> Result<i32, Errno> {
        let mut ring = IoUring::new(2).map_err(|error| errno(&error))?;
        execute(&mut ring, &if self.worker { entry.flags(Flags::ASYNC) } else { entry })
    }
}

/// A ring that keeps one socket in its own table of files: no descriptor refers to it.
pub struct Files(IoUring);

impl Files {
    /// With an empty table.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::new(2)?;
        ring.submitter().register_files(&[-1])?;
        Ok(Self(ring))
    }

    /// Takes a socket, and closes its descriptor.
    pub fn keep(&mut self, fd: RawFd) -> Result<(), Errno> {
        self.0.submitter().register_files_update(0, &[fd]).map_err(|error| errno(&error))?;
        sys::close(fd)
    }

    /// accept.
    pub fn accept(&mut self, fd: RawFd) -> Result<(), Errno> {
        let accept = opcode::Accept::new(types::Fd(fd), std::ptr::null_mut(), std::ptr::null_mut());
        let slot = types::DestinationSlot::try_from_slot_target(0).map_err(|_| Errno::EINVAL)?;
        execute(&mut self.0, &accept.file_index(Some(slot)).build()).map(drop)
    }

    /// shutdown of the sending direction.
    pub fn shutdown(&mut self) -> Result<(), Errno> {
        execute(&mut self.0, &opcode::Shutdown::new(types::Fixed(0), libc::SHUT_WR).build()).map(drop)
    }

    /// close.
    pub fn close(&mut self) -> Result<(), Errno> {
        execute(&mut self.0, &opcode::Close::new(types::Fixed(0)).build()).map(drop)
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn execute(ring: &mut IoUring, entry: &Entry) -> Result<i32, Errno> {
    // SAFETY: what the entry points to outlives the call, which is waited for before this returns.
    unsafe { ring.submission().push(entry) }.map_err(|_| Errno::ENOSPC)?;
    ring.submit_and_wait(1).map_err(|error| errno(&error))?;
    let result = ring.completion().next().ok_or(Errno::EIO)?.result();
    if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(result) }
}
