//! The wire between two network namespaces: what one tunnel sends, the other receives, unless the gate of that
//! direction holds it back or drops it. So a case decides which packets cross or get lost, and does not depend on time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::sys::{self, borrow};

/// TCP flags, RFC 9293 section 3.1.
pub const FIN: u8 = 0x01;
/// Synchronise.
pub const SYN: u8 = 0x02;

/// Longest packet: the tunnels keep their default MTU of 1500 bytes.
const PACKET: usize = 2048;

/// One of the two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// From the left end to the right end.
    Right,
    /// From the right end to the left end.
    Left,
}

/// What happens to packets in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gate {
    /// They pass, after those that were held back.
    Pass,
    /// They are held back.
    Hold,
    /// They are lost, with those that were held back.
    Drop,
}

struct Lane {
    from: RawFd,
    to: RawFd,
    gate: Gate,
    held: VecDeque<Vec<u8>>,
}

/// Both directions.
pub struct Wire {
    lanes: [Lane; 2],
}

impl Wire {
    /// A wire between two tunnels, which lets everything pass.
    pub fn new(left: RawFd, right: RawFd) -> io::Result<Self> {
        for fd in [left, right] {
            sys::set(fd, sys::SockOption::NonBlocking)?;
        }
        let lane = |from, to| Lane { from, to, gate: Gate::Pass, held: VecDeque::new() };
        Ok(Self { lanes: [lane(left, right), lane(right, left)] })
    }

    /// The tunnels, to wait for.
    pub fn tunnels(&self) -> [RawFd; 2] {
        self.lanes.each_ref().map(|lane| lane.from)
    }

    /// Moves every packet that is waiting.
    pub fn carry(&mut self) -> io::Result<()> {
        self.lanes.iter_mut().try_for_each(Lane::carry)
    }

    /// Sets the gate of one direction, after the packets sent under the old one were handled.
    pub fn gate(&mut self, way: Way, gate: Gate) -> io::Result<()> {
        self.carry()?;
        let lane = &mut self.lanes[way as usize];
        lane.gate = gate;
        let held = std::mem::take(&mut lane.held);
        held.into_iter().try_for_each(|packet| lane.admit(packet))
    }

    /// Waits until a packet with all of `flags` is held back in this direction.
    pub fn wait_held(&mut self, way: Way, flags: u8) -> io::Result<()> {
        sys::until("held packet", || {
            self.carry()?;
            let held = &self.lanes[way as usize].held;
            if held.iter().any(|packet| tcp_flags(packet).is_some_and(|found| found & flags == flags)) {
                return Ok(Some(()));
            }
            let tunnels = self.tunnels();
            let mut polled = tunnels.each_ref().map(|&fd| PollFd::new(borrow(fd), PollFlags::POLLIN));
            poll(&mut polled, PollTimeout::from(100_u8))?;
            Ok(None)
        })
    }
}

impl Lane {
    fn carry(&mut self) -> io::Result<()> {
        loop {
            let mut packet = vec![0; PACKET];
            match nix::unistd::read(borrow(self.from), &mut packet) {
                Ok(length) => packet.truncate(length),
                // The interface is down or gone, because its namespace is going away.
                Err(Errno::EAGAIN | Errno::EIO | Errno::EBADFD) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
            self.admit(packet)?;
        }
    }

    fn admit(&mut self, packet: Vec<u8>) -> io::Result<()> {
        // Multicast listener reports and the like are of no interest.
        if tcp_flags(&packet).is_none() {
            return Ok(());
        }
        match self.gate {
            Gate::Hold => self.held.push_back(packet),
            Gate::Drop => {}
            Gate::Pass => match nix::unistd::write(borrow(self.to).as_fd(), &packet) {
                Ok(_) | Err(Errno::EIO | Errno::EBADFD) => {}
                Err(errno) => return Err(errno.into()),
            },
        }
        Ok(())
    }
}

/// Flags of a TCP packet without IPv6 extension headers.
fn tcp_flags(packet: &[u8]) -> Option<u8> {
    let (header, protocol) = match packet.first()? >> 4 {
        4 => (usize::from(packet[0] & 15) * 4, *packet.get(9)?),
        6 => (40, *packet.get(6)?),
        _ => return None,
    };
    let flags = *packet.get(header + 13)?;
    (i32::from(protocol) == libc::IPPROTO_TCP).then_some(flags)
}
