//! The kernel's list of TCP sockets, from sock_diag (`NETLINK_SOCK_DIAG`), in the network namespace of the calling
//! thread, or in the one that a socket was opened in.
//!
//! Request, headers and constants come from the netlink crates. The fixed part of each answer, `struct inet_diag_msg`,
//! is read here: the crate's own type drops `idiag_expires` for TIME_WAIT sockets, and allocates for each message.

use netlink_packet_core::{
    DoneBuffer, Emitable as _, ErrorBuffer, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseBuffer, SocketId, StateFlags};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY, SockDiagMessage, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_ESTABLISHED,
    TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK, TCP_LISTEN, TCP_SYN_SENT, TCP_TIME_WAIT,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use twtrace_core::event::{CensusRow, CensusState, Tuple};

/// Maximum number of rows passed on at a time.
pub const PIECE_ROWS: usize = 4096;

/// The kernel fills at most 32 KiB at a time for a dump (`netlink_dump`), so this is always enough.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Room for several of those in the socket's queue. The reader sets the pace of a dump, so a longer queue
/// is not faster.
const QUEUE_BYTES: usize = 1024 * 1024;

/// A dump answers at once; a kernel that is silent for this long (seconds) has lost the request.
const SILENCE_S: i64 = 5;

/// A dump that takes longer is given up, incomplete. The largest that were measured took seconds.
const LONGEST: Duration = Duration::from_secs(60);

/// A dump with more rows is given up, incomplete: more than the state can track anyway.
const MOST_ROWS: u64 = 4 << 20;

/// Receive errors that a dump survives before it gives up.
const MAX_HICCUPS: u32 = 64;

/// Value of `idiag_timer` for a TIME_WAIT socket of either substate.
const TIMER_TIMEWAIT: u8 = 3;

/// `TCP_BOUND_INACTIVE` (`include/net/tcp_states.h`, 6.8): requests sockets that are bound and neither connected nor
/// listening. Older kernels have no socket in a state with that number. Their rows say CLOSE, which is their state.
const BOUND_INACTIVE: u8 = 13;

/// The request of before Linux 3.3, which the kernel still answers (`inet_diag_rcv_msg_compat`): it names no family and
/// lists both. Its answers have its type.
const TCPDIAG_GETSOCK: u16 = 18;

/// Length of its `struct inet_diag_req`, and where the states are in it.
const OLD_REQUEST_LEN: usize = 60;
const OLD_STATES_AT: usize = 52;

/// Length of `struct nlmsghdr`.
const NETLINK_HEADER_LEN: usize = 16;

/// This kernel has refused that request: it is not sent again.
static BOTH_REFUSED: AtomicBool = AtomicBool::new(false);

/// Length of `struct inet_diag_msg`.
const DIAG_LEN: usize = 72;
const _: () = assert!(size_of::<InetResponseBuffer>() == DIAG_LEN);

/// Result of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CensusReport {
    /// False when the kernel flagged an interruption, or a part was lost: then the absence of a socket proves nothing.
    pub complete: bool,
    /// The sink stopped it before the end.
    pub cut_short: bool,
    /// Rows passed on.
    pub rows: u64,
}

impl CensusReport {
    /// Of a namespace without sockets.
    pub const NOTHING: Self = Self { complete: true, cut_short: false, rows: 0 };
}

/// A part of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Sockets.
    pub rows: Vec<CensusRow>,
    /// Inode number of each (`idiag_inode`), as `/proc/PID/fd` names it; 0 for a socket that no descriptor refers to: a
    /// TIME_WAIT socket, one that was closed, one that has not been accepted yet.
    pub inodes: Vec<u32>,
}

/// Lists the TCP sockets of the calling thread's network namespace in pieces of at most [`PIECE_ROWS`].
///
/// `netns` is the inode number of that namespace and goes into each row. Of the sockets in CLOSE, the dump requests
/// those with a local port, which kernels from 6.8 report. While sockets come and go, the kernel may silently skip a
/// socket or list one twice where two parts of its answer meet. Rows may have been passed on before an error is
/// returned.
pub fn dump(netns: u32, sink: &mut dyn FnMut(Piece)) -> io::Result<CensusReport> {
    dump_from(open()?, netns, &mut |piece| {
        sink(piece);
        ControlFlow::Continue(())
    })
}

/// The same for the network namespace that a socket was opened in by [`open`], until the sink stops it.
pub fn dump_from(
    mut socket: Socket,
    netns: u32,
    sink: &mut dyn FnMut(Piece) -> ControlFlow<()>,
) -> io::Result<CensusReport> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut pieces = Pieces { piece: Piece::default(), total: 0, is_over: false, sink };
    let mut complete = true;
    // Only the kernel can answer a connected socket; and no earlier answer has this number.
    let mut sequence = RandomState::new().build_hasher().finish() as u32;
    let mut wanted = |wanted, pieces: &mut Pieces<'_>| {
        sequence = sequence.wrapping_add(1);
        if pieces.is_over {
            return Ok(true);
        }
        dump_part(&mut socket, &request(wanted, sequence), sequence, netns, &mut buffer, pieces)
    };
    // A dump walks the whole table of the host's sockets: once is enough.
    let both = if BOTH_REFUSED.load(Relaxed) { None } else { wanted(Wanted::Both, &mut pieces).ok() };
    if let Some(whole) = both {
        complete &= whole;
    } else {
        for family in [AF_INET, AF_INET6] {
            complete &= wanted(Wanted::Family(family), &mut pieces)?;
        }
        // Only this request was refused, not every one.
        BOTH_REFUSED.store(true, Relaxed);
    }
    let cut_short = pieces.is_over;
    pieces.flush();
    Ok(CensusReport { complete: complete && !cut_short, cut_short, rows: pieces.total })
}

/// Rows on their way to the sink.
struct Pieces<'a> {
    piece: Piece,
    total: u64,
    /// The sink wants no more.
    is_over: bool,
    sink: &'a mut dyn FnMut(Piece) -> ControlFlow<()>,
}

impl Pieces<'_> {
    fn push(&mut self, row: CensusRow, inode: u32) {
        let Piece { rows, inodes } = &mut self.piece;
        if rows.capacity() == 0 {
            rows.reserve_exact(PIECE_ROWS);
            inodes.reserve_exact(PIECE_ROWS);
        }
        rows.push(row);
        inodes.push(inode);
        self.total += 1;
        self.is_over |= self.total >= MOST_ROWS;
        if rows.len() == PIECE_ROWS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.piece.rows.is_empty() {
            self.is_over |= (self.sink)(std::mem::take(&mut self.piece)).is_break();
        }
    }
}

/// A socket for listing the sockets of the calling thread's network namespace. It keeps that namespace alive: drop it
/// soon.
pub fn open() -> io::Result<Socket> {
    let explain = |error: io::Error| explained(&error, "sock_diag cannot be opened");
    let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(explain)?;
    socket.bind_auto().map_err(explain)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(explain)?;
    // The default queue works as well, only slower.
    let _ = socket.set_rx_buf_sz(QUEUE_BYTES as libc::c_int);
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(SILENCE_S, 0))?;
    Ok(socket)
}

/// Sends a request and reads to the end of the answer; false when it was not whole.
fn dump_part(
    socket: &mut Socket,
    request: &[u8],
    sequence: u32,
    netns: u32,
    buffer: &mut [u8],
    pieces: &mut Pieces<'_>,
) -> io::Result<bool> {
    socket.send(request, 0).map_err(|error| explained(&error, "sock_diag refused the request"))?;
    let mut complete = true;
    let mut hiccups = 0;
    let began = Instant::now();
    loop {
        // MSG_TRUNC returns the true length, so that a truncated message is noticed.
        let length = match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
            Ok(length) => length,
            Err(nix::Error::EINTR) => continue,
            // The kernel found no memory for a part of the answer. The dump itself continues.
            Err(nix::Error::ENOBUFS | nix::Error::ENOMEM) if hiccups < MAX_HICCUPS => {
                hiccups += 1;
                complete = false;
                continue;
            }
            Err(nix::Error::EAGAIN) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("sock_diag did not answer for {SILENCE_S} s"),
                ));
            }
            Err(error) => return Err(explained(&error.into(), "sock_diag stopped")),
        };
        complete &= length <= buffer.len();
        let answer = read_messages(&buffer[..length.min(buffer.len())], sequence, netns, pieces)?;
        complete &= answer.whole;
        if answer.done || pieces.is_over {
            return Ok(complete);
        }
        if began.elapsed() > LONGEST {
            return Ok(false);
        }
    }
}

/// What a dump is to list.
#[derive(Clone, Copy)]
enum Wanted {
    /// Sockets of both families in one walk.
    Both,
    /// Those of one.
    Family(u8),
}

fn request(wanted: Wanted, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    let family = match wanted {
        Wanted::Both => {
            header.message_type = TCPDIAG_GETSOCK;
            header.length = (NETLINK_HEADER_LEN + OLD_REQUEST_LEN) as u32;
            let mut bytes = vec![0; NETLINK_HEADER_LEN + OLD_REQUEST_LEN];
            header.emit(&mut bytes);
            bytes[NETLINK_HEADER_LEN + OLD_STATES_AT..][..4].copy_from_slice(&states().bits().to_ne_bytes());
            return bytes;
        }
        Wanted::Family(family) => family,
    };
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        // Attributes would only lengthen the answer.
        extensions: ExtensionFlags::empty(),
        states: states(),
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let payload = NetlinkPayload::from(SockDiagMessage::InetRequest(request));
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn states() -> StateFlags {
    (StateFlags::all() - StateFlags::CLOSE) | StateFlags::from_bits_retain(1 << BOUND_INACTIVE)
}

/// Contents of one received buffer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// The dump ended.
    done: bool,
    /// Nothing was lost.
    whole: bool,
}

fn read_messages(bytes: &[u8], sequence: u32, netns: u32, pieces: &mut Pieces<'_>) -> io::Result<Answer> {
    let mut rest = bytes;
    let mut whole = true;
    while !rest.is_empty() {
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            // Truncated, or not netlink at all: nothing after it can be trusted.
            return Ok(Answer { done: false, whole: false });
        };
        // Messages are aligned to four bytes (NLMSG_ALIGN).
        let next = (message.length() as usize).next_multiple_of(4).min(rest.len());
        rest = &rest[next..];
        if message.sequence_number() != sequence {
            // Left over from a dump that was abandoned.
            continue;
        }
        whole &= message.flags() & NLM_F_DUMP_INTR == 0;
        match message.message_type() {
            SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK => match row(message.payload(), netns) {
                Some((row, inode)) => pieces.push(row, inode),
                None => whole = false,
            },
            NLMSG_DONE => {
                // A dump that fails after it began reports it here and not in NLMSG_ERROR.
                let code = DoneBuffer::new_checked(message.payload()).map_or(0, |done| done.code());
                return if code < 0 { Err(refused(code)) } else { Ok(Answer { done: true, whole }) };
            }
            NLMSG_ERROR => {
                let code = ErrorBuffer::new_checked(message.payload()).ok().and_then(|error| error.code());
                return match code {
                    Some(code) => Err(refused(code.get())),
                    None => Ok(Answer { done: true, whole }),
                };
            }
            NLMSG_OVERRUN => whole = false,
            _ => {}
        }
    }
    Ok(Answer { done: false, whole })
}

/// Reads `struct inet_diag_msg` (`include/uapi/linux/inet_diag.h`) and its inode number; `None` when the message is too
/// short, has an unknown family, or is for a connection that has entered CLOSE meanwhile.
fn row(message: &[u8], netns: u32) -> Option<(CensusRow, u32)> {
    let message = message.first_chunk::<DIAG_LEN>()?;
    let [family, state, timer, _retransmits, ..] = *message;
    let (local, local_mapped) = address(family, field(message, 8))?;
    let (remote, remote_mapped) = address(family, field(message, 24))?;
    let v4_mapped = local_mapped || remote_mapped;
    let unmapped = |address: IpAddr| match address {
        // A listener on ::ffff:a.b.c.d has no peer: its remote side is the IPv4 wildcard, written as the IPv6 one.
        IpAddr::V6(address) if v4_mapped && address.is_unspecified() => Ipv4Addr::UNSPECIFIED.into(),
        address => address,
    };
    let tuple = Tuple {
        netns,
        local_addr: unmapped(local),
        local_port: u16::from_be_bytes(field(message, 4)),
        remote_addr: unmapped(remote),
        remote_port: u16::from_be_bytes(field(message, 6)),
        v4_mapped,
    };
    let inode = u32::from_ne_bytes(field(message, 68));
    let state = census_state(state, timer, &tuple, inode)?;
    let row = CensusRow {
        // Two words, the low one first in any byte order (`sock_diag_save_cookie`).
        cookie: u64::from(u32::from_ne_bytes(field(message, 44)))
            | u64::from(u32::from_ne_bytes(field(message, 48))) << 32,
        tuple,
        state,
        expires_ms: if state.is_timewait() { u32::from_ne_bytes(field(message, 52)) } else { 0 },
        backlog: if state == CensusState::Listen { u32::from_ne_bytes(field(message, 60)) } else { 0 },
    };
    Some((row, inode))
}

/// Bytes at a constant offset; [`DIAG_LEN`] bounds each of them.
fn field<const N: usize>(message: &[u8; DIAG_LEN], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&message[offset..offset + N]);
    bytes
}

/// An address, and whether it was IPv4 written as IPv6.
fn address(family: u8, bytes: [u8; 16]) -> Option<(IpAddr, bool)> {
    match family {
        AF_INET => Some((Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(), false)),
        AF_INET6 => {
            let address = Ipv6Addr::from(bytes);
            Some(address.to_ipv4_mapped().map_or((address.into(), false), |mapped| (mapped.into(), true)))
        }
        _ => None,
    }
}

/// The kernel reports a TIME_WAIT socket's substate as its state; only the timer distinguishes FIN_WAIT2 of a TIME_WAIT
/// socket from FIN_WAIT2 of a full socket.
fn census_state(state: u8, timer: u8, tuple: &Tuple, inode: u32) -> Option<CensusState> {
    match (state, timer) {
        (TCP_TIME_WAIT, _) => Some(CensusState::TimeWait),
        (TCP_FIN_WAIT2, TIMER_TIMEWAIT) => Some(CensusState::TimewaitFinWait2),
        (TCP_FIN_WAIT2, _) => Some(CensusState::FinWait2),
        // No descriptor refers to it, and it was not closed: it waits to be accepted.
        (TCP_ESTABLISHED, _) if inode == 0 => Some(CensusState::Queued),
        (TCP_CLOSE_WAIT, _) if inode == 0 => Some(CensusState::QueuedCloseWait),
        (TCP_ESTABLISHED, _) => Some(CensusState::Established),
        (TCP_SYN_SENT, _) => Some(CensusState::SynSent),
        (TCP_CLOSE_WAIT, _) => Some(CensusState::CloseWait),
        (TCP_FIN_WAIT1, _) => Some(CensusState::FinWait1),
        (TCP_LAST_ACK, _) => Some(CensusState::LastAck),
        (TCP_LISTEN, _) => Some(CensusState::Listen),
        // A connection that entered CLOSE while the kernel wrote its row still has its peer's port.
        (TCP_CLOSE | BOUND_INACTIVE, _) => {
            (tuple.local_port != 0 && tuple.remote_port == 0).then_some(CensusState::Bound)
        }
        (0, _) => None,
        _ => Some(CensusState::Open),
    }
}

/// The error for a negative errno in the kernel's answer.
fn refused(code: i32) -> io::Error {
    let error = io::Error::from_raw_os_error(code.saturating_neg());
    explained(&error, "sock_diag refused the request")
}

/// One line with a cause that an operator can act on.
fn explained(error: &io::Error, what: &str) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP) => "the kernel has no tcp_diag: try `modprobe tcp_diag`",
        Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => "the kernel has no sock_diag: try `modprobe inet_diag`",
        Some(libc::EPERM | libc::EACCES) => "a security policy (seccomp, SELinux, AppArmor) forbids netlink sockets",
        _ => return io::Error::new(error.kind(), format!("{what}: {error}")),
    };
    io::Error::new(error.kind(), format!("{what} ({error}): {hint}"))
}

#[cfg(test)]
#[path = "census_tests.rs"]
mod tests;
