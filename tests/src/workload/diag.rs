//! Looks up one TCP socket by its tuple (sock_diag), or destroys it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use serde::{Deserialize, Serialize};

/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY`, `include/uapi/linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;

/// Lengths of `struct nlmsghdr` and `struct inet_diag_req_v2`.
const HEADER: usize = 16;
const REQUEST: usize = 56;

/// Value of `idiag_timer` for a TIME_WAIT socket.
const TIMER_TIMEWAIT: u8 = 3;
const TCP_FIN_WAIT2: u8 = 5;
const TCP_LISTEN: u8 = 10;

/// The kind of socket that has a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TupleState {
    /// No socket has it.
    NoSocket,
    /// A full socket in this state, as the kernel numbers them.
    Socket(u8),
    /// A TIME_WAIT socket in substate TIME_WAIT.
    TimeWait,
    /// A TIME_WAIT socket in substate FIN_WAIT2.
    TimewaitFinWait2,
}

/// The state of the tuple in the network namespace of the calling process.
pub fn tuple_state(local: SocketAddr, remote: SocketAddr) -> io::Result<TupleState> {
    let answer = ask(BY_FAMILY, local, remote)?;
    match number(&answer, 4)? {
        NLMSG_ERROR => match -i32::from_ne_bytes(bytes(&answer, HEADER)?) {
            libc::ENOENT => Ok(TupleState::NoSocket),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
        BY_FAMILY => {
            // struct inet_diag_msg: family, state, timer, retrans.
            let [_, state, timer, _] = bytes(&answer, HEADER)?;
            Ok(match (state, timer) {
                // The lookup falls back to the listener if no socket has the whole tuple.
                (TCP_LISTEN, _) => TupleState::NoSocket,
                (TCP_FIN_WAIT2, TIMER_TIMEWAIT) => TupleState::TimewaitFinWait2,
                (_, TIMER_TIMEWAIT) => TupleState::TimeWait,
                (state, _) => TupleState::Socket(state),
            })
        }
        other => Err(io::Error::other(format!("sock_diag answered with message type {other}"))),
    }
}

/// Destroys the socket that has the tuple, as `ss -K` does. `EOPNOTSUPP` where the kernel cannot.
pub fn destroy(local: SocketAddr, remote: SocketAddr) -> io::Result<()> {
    let answer = ask(DESTROY, local, remote)?;
    match (number(&answer, 4)?, -i32::from_ne_bytes(bytes(&answer, HEADER)?)) {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, errno) => Err(io::Error::from_raw_os_error(errno)),
        (other, _) => Err(io::Error::other(format!("sock_diag answered with message type {other}"))),
    }
}

fn ask(kind: u16, local: SocketAddr, remote: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    send(socket.as_raw_fd(), &request(kind, local, remote), MsgFlags::empty())?;
    let mut answer = vec![0; 8192];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

fn request(kind: u16, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + REQUEST);
    out.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend((NLM_F_REQUEST | if kind == DESTROY { NLM_F_ACK } else { 0 }).to_ne_bytes());
    out.extend([0; 8]);
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    out.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    out.extend(u32::MAX.to_ne_bytes());
    out.extend(local.port().to_be_bytes());
    out.extend(remote.port().to_be_bytes());
    for address in [local.ip(), remote.ip()] {
        let mut sixteen = [0; 16];
        match address {
            IpAddr::V4(v4) => sixteen[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => sixteen = v6.octets(),
        }
        out.extend(sixteen);
    }
    // Any interface; INET_DIAG_NOCOOKIE.
    out.extend(0_u32.to_ne_bytes());
    out.extend([0xff; 8]);
    out
}

fn bytes<const N: usize>(answer: &[u8], at: usize) -> io::Result<[u8; N]> {
    answer
        .get(at..at + N)
        .and_then(|slice| slice.try_into().ok())
        .ok_or_else(|| io::Error::other("sock_diag's answer is too short"))
}

fn number(answer: &[u8], at: usize) -> io::Result<u16> {
    Ok(u16::from_ne_bytes(bytes(answer, at)?))
}
