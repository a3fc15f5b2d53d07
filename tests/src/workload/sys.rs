//! System calls on descriptors, given as plain numbers because other processes may inherit or receive the descriptors.
//!
//! Errors are the kernel's own numbers: what a call returned is part of what the generator reports.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, SockaddrStorage, sendmsg,
    socketpair,
};
use serde::{Deserialize, Serialize};

/// The longest wait for anything. Nothing here takes more than a few seconds.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polling interval for what has no event to wait for.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// `IP_LOCAL_PORT_RANGE` (`include/uapi/linux/in.h`).
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// Address family of a socket and of what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`.
    V6,
    /// `AF_INET6`, carrying IPv4 as `::ffff:a.b.c.d`.
    Mapped,
}

/// Both ends as a socket sees them, IPv4-mapped addresses given as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// getsockname.
    pub local: SocketAddr,
    /// getpeername, when there is a peer.
    pub remote: Option<SocketAddr>,
    /// An `AF_INET6` socket that carries IPv4.
    pub v4_mapped: bool,
}

/// Socket options that the cases need.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum SockOption {
    /// `SO_LINGER` with a time of 0: close aborts the connection.
    LingerZero,
    /// `SO_REUSEADDR`.
    ReuseAddress,
    /// `O_NONBLOCK`.
    NonBlocking,
    /// `TCP_REPAIR`: close sends nothing to the peer.
    Repair,
    /// `TCP_SYNCNT`.
    SynCount(i32),
    /// Keepalive: one probe after a second, and the end a second later.
    Keepalive,
    /// `IP_FREEBIND`: bind to an address that this host does not have.
    FreeBind,
    /// `TCP_USER_TIMEOUT`, milliseconds.
    UserTimeout(i32),
    /// `TCP_LINGER2`, seconds; negative to have no FIN_WAIT2 at all.
    Linger2(i32),
    /// `TCP_FASTOPEN`, length of the queue.
    FastOpen(i32),
    /// `IP_BIND_ADDRESS_NO_PORT`: bind chooses an address and leaves the port to connect.
    BindAddressNoPort,
    /// `IP_LOCAL_PORT_RANGE`, both inclusive; kernels from 6.3, and some before.
    LocalPortRange(u16, u16),
}

/// What can be waited for on a socket.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Event {
    /// Data, or a connection to accept.
    Readable,
    /// A connect has completed, or there is room to write.
    Writable,
    /// The peer's FIN.
    PeerClosed,
    /// The connection is gone.
    HungUp,
}

/// Borrows a descriptor by its number.
pub fn borrow<'fd>(fd: RawFd) -> BorrowedFd<'fd> {
    // Each process of the generator uses the numbers of its own open descriptors.
    // SAFETY: the process has it open; a call on a wrong number fails with EBADF.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Takes over a descriptor by its number, to close it.
pub fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: as in `borrow`; the caller gives the number up.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn check(result: libc::c_int) -> Result<libc::c_int, Errno> {
    Errno::result(result)
}

/// Opens a stream socket, without `SOCK_CLOEXEC` so that a program that is executed keeps it.
pub fn open(family: Family, protocol: libc::c_int) -> Result<RawFd, Errno> {
    let domain = if family == Family::V4 { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes no pointers.
    check(unsafe { libc::socket(domain, libc::SOCK_STREAM, protocol) })
}

/// Opens a socket that is not TCP's.
pub fn open_datagram(family: Family) -> Result<RawFd, Errno> {
    let domain = if family == Family::V4 { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes no pointers.
    check(unsafe { libc::socket(domain, libc::SOCK_DGRAM, 0) })
}

/// Sets an option.
pub fn set(fd: RawFd, option: SockOption) -> Result<(), Errno> {
    match option {
        SockOption::LingerZero => {
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            set_raw(fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
        }
        SockOption::ReuseAddress => set_raw(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1_i32),
        SockOption::Keepalive => {
            set_raw(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &1_i32)?;
            for option in [libc::TCP_KEEPIDLE, libc::TCP_KEEPINTVL, libc::TCP_KEEPCNT] {
                set_raw(fd, libc::IPPROTO_TCP, option, &1_i32)?;
            }
            Ok(())
        }
        SockOption::Repair => set_raw(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, &1_i32),
        SockOption::FreeBind => set_raw(fd, libc::SOL_IP, libc::IP_FREEBIND, &1_i32),
        SockOption::SynCount(times) => set_raw(fd, libc::IPPROTO_TCP, libc::TCP_SYNCNT, &times),
        SockOption::UserTimeout(ms) => set_raw(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, &ms),
        SockOption::Linger2(seconds) => set_raw(fd, libc::IPPROTO_TCP, libc::TCP_LINGER2, &seconds),
        SockOption::BindAddressNoPort => set_raw(fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1_i32),
        SockOption::LocalPortRange(low, high) => {
            set_raw(fd, libc::SOL_IP, IP_LOCAL_PORT_RANGE, &(u32::from(high) << 16 | u32::from(low)))
        }
        SockOption::FastOpen(queue) => set_raw(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, &queue),
        // SAFETY: F_SETFL takes a number.
        SockOption::NonBlocking => check(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) }).map(drop),
    }
}

fn set_raw<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> Result<(), Errno> {
    // SAFETY: pointer and length are those of `value`.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const *value).cast(), size_of::<T>() as libc::socklen_t) })
        .map(drop)
}

fn get_int(fd: RawFd, level: libc::c_int, name: libc::c_int) -> Result<i32, Errno> {
    let mut value = 0_i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: pointer and length are those of `value`.
    check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value)
}

/// `SO_ERROR`, which also clears it: 0 or an errno.
pub fn take_error(fd: RawFd) -> Result<i32, Errno> {
    get_int(fd, libc::SOL_SOCKET, libc::SO_ERROR)
}

/// State of a socket as the kernel numbers them: the first byte of `struct tcp_info`.
pub fn state(fd: RawFd) -> Result<u8, Errno> {
    let mut state = 0_u8;
    let mut length = 1;
    // SAFETY: pointer and length are those of `state`; the kernel cuts its answer to the length.
    check(unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut state).cast(), &raw mut length)
    })?;
    Ok(state)
}

/// The address in the form that the socket takes: an `AF_INET6` socket reaches IPv4 through a mapped address.
pub fn encode(fd: RawFd, address: SocketAddr) -> Result<SockaddrStorage, Errno> {
    let domain = get_int(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)?;
    Ok(match address {
        SocketAddr::V4(v4) if domain == libc::AF_INET6 => {
            SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()).into()
        }
        other => other.into(),
    })
}

fn decode(storage: &SockaddrStorage) -> (SocketAddr, bool) {
    if let Some(v4) = storage.as_sockaddr_in() {
        return ((v4.ip(), v4.port()).into(), false);
    }
    let Some(v6) = storage.as_sockaddr_in6() else { return ((Ipv4Addr::UNSPECIFIED, 0).into(), false) };
    match v6.ip().to_ipv4_mapped() {
        Some(v4) => ((v4, v6.port()).into(), true),
        None => ((v6.ip(), v6.port()).into(), false),
    }
}

/// Both names of a socket.
pub fn names(fd: RawFd) -> Result<Names, Errno> {
    let (local, mapped) = decode(&nix::sys::socket::getsockname(fd)?);
    let remote = nix::sys::socket::getpeername(fd).ok().map(|storage| decode(&storage).0);
    Ok(Names { local, remote, v4_mapped: mapped || remote.is_some_and(|r| r.is_ipv4()) && is_v6(fd)? })
}

fn is_v6(fd: RawFd) -> Result<bool, Errno> {
    Ok(get_int(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)? == libc::AF_INET6)
}

/// bind.
pub fn bind(fd: RawFd, address: SocketAddr) -> Result<(), Errno> {
    nix::sys::socket::bind(fd, &encode(fd, address)?)
}

/// listen, with the longest queue that the kernel takes.
pub fn listen(fd: RawFd) -> Result<(), Errno> {
    nix::sys::socket::listen(&borrow(fd), Backlog::MAXCONN)
}

/// connect.
pub fn connect(fd: RawFd, address: SocketAddr) -> Result<(), Errno> {
    nix::sys::socket::connect(fd, &encode(fd, address)?)
}

/// connect to `AF_UNSPEC`, which disconnects the socket.
pub fn disconnect(fd: RawFd) -> Result<(), Errno> {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    // SAFETY: pointer and length are those of `nowhere`.
    check(unsafe { libc::connect(fd, &raw const nowhere, size_of::<libc::sockaddr>() as libc::socklen_t) }).map(drop)
}

/// accept.
pub fn accept(fd: RawFd) -> Result<RawFd, Errno> {
    nix::sys::socket::accept(fd)
}

/// shutdown of the sending direction, or of both.
pub fn shutdown(fd: RawFd, both: bool) -> Result<(), Errno> {
    nix::sys::socket::shutdown(fd, if both { Shutdown::Both } else { Shutdown::Write })
}

/// Sends the descriptor and one end of a pair of Unix sockets to that end itself, and closes all three: only the kernel's
/// garbage collection finds them (`unix_gc`).
pub fn leave_in_unix_sockets(fd: RawFd) -> Result<(), Errno> {
    let (near, far) = socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_CLOEXEC)?;
    let left = [fd, near.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&left)];
    sendmsg::<()>(far.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None)?;
    drop((near, far));
    close(fd)
}

/// close.
pub fn close(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: takes no pointers; the caller gives the number up.
    check(unsafe { libc::close(fd) }).map(drop)
}

/// Sends one byte.
pub fn send_byte(fd: RawFd) -> Result<(), Errno> {
    nix::sys::socket::send(fd, b"x", MsgFlags::MSG_NOSIGNAL).map(drop)
}

/// Opens a connection with TCP Fast Open and one byte of data.
pub fn send_fast_open(fd: RawFd, address: SocketAddr) -> Result<(), Errno> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
    nix::sys::socket::sendto(fd, b"x", &encode(fd, address)?, flags).map(drop)
}

/// Reads what is there; 0 is the end of the stream.
pub fn receive(fd: RawFd) -> Result<usize, Errno> {
    nix::unistd::read(borrow(fd), &mut [0; 4096])
}

/// Waits for an event, up to [`DEADLINE`].
pub fn wait(fd: RawFd, event: Event) -> Result<(), Errno> {
    let (asked, wanted) = match event {
        Event::Readable => (libc::POLLIN, libc::POLLIN),
        Event::Writable => (libc::POLLOUT, libc::POLLOUT | libc::POLLERR | libc::POLLHUP),
        Event::PeerClosed => (libc::POLLRDHUP, libc::POLLRDHUP),
        Event::HungUp => (0, libc::POLLHUP | libc::POLLERR),
    };
    let deadline = Instant::now() + DEADLINE;
    let mut entry = libc::pollfd { fd, events: asked, revents: 0 };
    while entry.revents & wanted == 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::ETIME);
        }
        // SAFETY: one entry, and the count says so.
        check(unsafe { libc::poll(&raw mut entry, 1, left.as_millis() as libc::c_int) })?;
    }
    Ok(())
}

/// Polls until `look` finds something, up to [`DEADLINE`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("{what}: not within {} s", DEADLINE.as_secs())));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The loopback address of a family.
pub fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 | Family::Mapped => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => std::net::Ipv6Addr::LOCALHOST.into(),
    }
}

/// Sets the name of the calling thread; of the process, when it is the first one.
pub fn set_name(name: &str) -> Result<(), Errno> {
    let name = std::ffi::CString::new(name).map_err(|_| Errno::EINVAL)?;
    nix::sys::prctl::set_name(&name)
}
