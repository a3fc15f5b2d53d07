//! A process's own network namespace: interfaces, addresses, routes and sysctls, set up without other programs.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, IntoRawFd as _, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A network namespace, and since when its inode number means this one: the kernel reuses the number when the namespace
/// is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Inode number.
    pub inode: u64,
    /// When a process of the generator was first in it, nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
}

impl Namespace {
    /// The calling thread's.
    pub fn now() -> io::Result<Self> {
        let since = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        Ok(Self { inode: fs::metadata("/proc/thread-self/ns/net")?.ino(), since_ns: since.as_nanos() as u64 })
    }
}

/// Moves the calling thread into a namespace of its own, with the loopback interface up.
pub fn enter_new() -> io::Result<Namespace> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let namespace = Namespace::now()?;
    up("lo")?;
    Ok(namespace)
}

/// Writes `net.{name}` of the caller's namespace; the name has slashes for dots.
pub fn sysctl(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/{name}"), value)
        .map_err(|error| io::Error::new(error.kind(), format!("net/{name}: {error}")))
}

/// What an interface of [`tunnel`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// IP packets (`IFF_TUN`).
    Ip,
    /// Ethernet frames (`IFF_TAP`): the kernel asks for its neighbours, and no host answers.
    Ethernet,
}

/// Creates an interface whose packets are read and written through the descriptor, assigns the addresses with a prefix
/// of /24 or /64, and brings it up.
pub fn tunnel(name: &str, layer: Layer, addresses: &[IpAddr]) -> io::Result<RawFd> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let kind = if layer == Layer::Ip { libc::IFF_TUN } else { libc::IFF_TAP };
    // SAFETY: ifreq is plain bytes, for which all zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF takes a struct ifreq.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    // There is no other traffic on it, and a missing neighbour is noticed soon.
    for (name, value) in [
        (format!("ipv6/conf/{name}/router_solicitations"), "0"),
        (format!("ipv4/neigh/{name}/mcast_solicit"), "1"),
        (format!("ipv6/neigh/{name}/mcast_solicit"), "1"),
        (format!("ipv4/neigh/{name}/retrans_time_ms"), "100"),
        (format!("ipv6/neigh/{name}/retrans_time_ms"), "100"),
    ] {
        sysctl(&name, value)?;
    }
    up(name)?;
    for &address in addresses {
        add_address(name, address)?;
    }
    Ok(file.into_raw_fd())
}

/// Brings an interface up.
pub fn up(name: &str) -> io::Result<()> {
    let mut body = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    body.extend(if_nametoindex(name)?.to_ne_bytes());
    body.extend((libc::IFF_UP as u32).to_ne_bytes());
    body.extend((libc::IFF_UP as u32).to_ne_bytes());
    route_request(libc::RTM_NEWLINK, 0, &body)
}

/// Adds an address, usable at once.
fn add_address(name: &str, address: IpAddr) -> io::Result<()> {
    let prefix = if address.is_ipv4() { 24 } else { 64 };
    let mut body = vec![family(address), prefix, libc::IFA_F_NODAD as u8, 0];
    body.extend(if_nametoindex(name)?.to_ne_bytes());
    attribute(&mut body, libc::IFA_LOCAL, &octets(address));
    attribute(&mut body, libc::IFA_ADDRESS, &octets(address));
    route_request(libc::RTM_NEWADDR, libc::NLM_F_CREATE, &body)
}

/// Adds an `unreachable` route to one address.
pub fn add_unreachable(address: IpAddr) -> io::Result<()> {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let mut body = vec![family(address), bits, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_BOOT];
    body.extend([libc::RT_SCOPE_UNIVERSE, libc::RTN_UNREACHABLE, 0, 0, 0, 0]);
    attribute(&mut body, libc::RTA_DST, &octets(address));
    route_request(libc::RTM_NEWROUTE, libc::NLM_F_CREATE, &body)
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Appends a `struct rtattr`. Values here are four or sixteen bytes long, so that none needs padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// Sends one rtnetlink request and waits for its acknowledgement.
fn route_request(kind: u16, flags: libc::c_int, body: &[u8]) -> io::Result<()> {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let errno = answer[..length].get(16..20).and_then(|slice| slice.try_into().ok()).map(i32::from_ne_bytes);
    match errno {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::Error::other("rtnetlink's answer is too short")),
    }
}
