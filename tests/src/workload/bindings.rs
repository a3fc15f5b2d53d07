//! Connections whose local address and port were chosen in every possible way, and binds that fail.
//!
//! It must run in its own network namespace, because it changes the port range.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::net::{Namespace, sysctl};
use super::sys::{self, Event, Family, SockOption, loopback};

/// First of the ports that are bound by number, outside of the ephemeral port range. Each family has its own, because
/// TIME_WAIT sockets keep the ports in use.
const CHOSEN: u16 = 20_000;

/// Port range of a socket, within that of the namespace.
const OWN_RANGE: (u16, u16) = (40_100, 40_199);

/// An address that this host does not have (RFC 5737, RFC 3849).
const FOREIGN: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9))];

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// A connection, closed again by the end that opened it.
    Connected(Connected),
    /// A bind that failed.
    Refused(Refused),
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// The name of the case, for messages.
    pub case: String,
    /// The process that opened and closed it.
    pub pid: u32,
    /// Where.
    pub netns: u64,
    /// This end; its port is 0 for a connect that was refused.
    pub local: SocketAddr,
    /// The listener's.
    pub remote: SocketAddr,
    /// bind took a port.
    pub bound_port: bool,
    /// bind chose an address.
    pub bound_address: bool,
    /// IP_LOCAL_PORT_RANGE.
    pub range: Option<(u16, u16)>,
    /// It was established; otherwise the connect was refused.
    pub established: bool,
}

/// A bind that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The name of the case, for messages.
    pub case: String,
    /// The caller.
    pub pid: u32,
    /// Where.
    pub netns: u64,
    /// What was asked for.
    pub asked: SocketAddr,
    /// The error.
    pub errno: i32,
    /// SO_REUSEADDR.
    pub reuse: bool,
}

/// Plays all of them and writes one line of JSON for each.
pub fn run(out: &mut dyn Write) -> Result<()> {
    let mut done = Vec::new();
    for family in [Family::V4, Family::V6, Family::Mapped] {
        let bed = TestBed { family, netns: Namespace::now()?.inode };
        sysctl("ipv4/ip_local_port_range", "40000 40999")?;
        bed.connections(&mut done).with_context(|| format!("connections, {family:?}"))?;
        bed.refusals(&mut done).with_context(|| format!("binds, {family:?}"))?;
    }
    for one in &done {
        serde_json::to_writer(&mut *out, one)?;
        writeln!(out)?;
    }
    Ok(())
}

struct TestBed {
    family: Family,
    netns: u64,
}

/// A way to choose the local side.
struct Way<'a> {
    case: &'a str,
    option: Option<SockOption>,
    bind: Option<(IpAddr, u16)>,
    /// The expected binding: port, address, range.
    expected: (bool, bool, Option<(u16, u16)>),
}

impl TestBed {
    fn home(&self) -> IpAddr {
        loopback(self.family)
    }

    fn chosen(&self) -> u16 {
        CHOSEN + 10 * self.family as u16
    }

    fn anywhere(&self) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            // To the kernel, every mapped address is a specific one, even the mapped 0.0.0.0.
            Family::V6 | Family::Mapped => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    fn connections(&self, done: &mut Vec<Done>) -> Result<()> {
        let listener = sys::open(self.family, libc::IPPROTO_TCP)?;
        sys::bind(listener, (self.home(), 0).into())?;
        sys::listen(listener)?;
        let remote = sys::names(listener)?.local;
        let home = self.home();
        let no_port = Some(SockOption::BindAddressNoPort);
        let range = Some(SockOption::LocalPortRange(OWN_RANGE.0, OWN_RANGE.1));
        let ways = [
            Way { case: "plain", option: None, bind: None, expected: (false, false, None) },
            Way { case: "any port", option: None, bind: Some((home, 0)), expected: (true, true, None) },
            Way {
                case: "any port anywhere",
                option: None,
                bind: Some((self.anywhere(), 0)),
                expected: (true, false, None),
            },
            Way { case: "this port", option: None, bind: Some((home, self.chosen())), expected: (true, true, None) },
            Way { case: "no port", option: no_port, bind: Some((home, 0)), expected: (false, true, None) },
            Way { case: "own range", option: range, bind: None, expected: (false, false, Some(OWN_RANGE)) },
            Way {
                case: "own range, bound",
                option: range,
                bind: Some((home, 0)),
                expected: (true, true, Some(OWN_RANGE)),
            },
        ];
        for way in &ways {
            let Some(fd) = self.open(way)? else { continue };
            sys::connect(fd, remote).with_context(|| way.case.to_owned())?;
            let accepted = sys::accept(listener)?;
            self.record(way, fd, remote, true, done)?;
            sys::close(fd)?;
            sys::wait(accepted, Event::PeerClosed)?;
            sys::close(accepted)?;
        }
        self.twice(done)?;
        sys::close(listener)?;
        Ok(())
    }

    /// A refused connect frees the local port, even one that bind(2) took, but the socket remembers its number.
    fn twice(&self, done: &mut Vec<Done>) -> Result<()> {
        let closed = SocketAddr::new(self.home(), 1);
        let ways = [
            Way { case: "refused", option: None, bind: None, expected: (false, false, None) },
            Way { case: "refused, any port", option: None, bind: Some((self.home(), 0)), expected: (true, true, None) },
        ];
        for way in ways {
            let fd = sys::open(self.family, libc::IPPROTO_TCP)?;
            if let Some(address) = way.bind {
                sys::bind(fd, address.into())?;
            }
            let address_stays = way.expected.1;
            let again = Way { case: "refused again", expected: (false, address_stays, None), ..way };
            for way in [&way, &again] {
                ensure!(sys::connect(fd, closed) == Err(Errno::ECONNREFUSED), "{} is not refused", way.case);
                self.record(way, fd, closed, false, done)?;
            }
            sys::close(fd)?;
        }
        Ok(())
    }

    /// A socket that is ready to connect; `None` if the kernel does not have the option.
    fn open(&self, way: &Way<'_>) -> Result<Option<RawFd>> {
        let fd = sys::open(self.family, libc::IPPROTO_TCP)?;
        if let Some(option) = way.option {
            match sys::set(fd, option) {
                Err(Errno::ENOPROTOOPT) if matches!(option, SockOption::LocalPortRange(..)) => {
                    sys::close(fd)?;
                    return Ok(None);
                }
                result => result?,
            }
        }
        if let Some(address) = way.bind {
            sys::bind(fd, address.into()).with_context(|| way.case.to_owned())?;
        }
        Ok(Some(fd))
    }

    fn record(
        &self,
        way: &Way<'_>,
        fd: RawFd,
        remote: SocketAddr,
        established: bool,
        done: &mut Vec<Done>,
    ) -> Result<()> {
        let (bound_port, bound_address, range) = way.expected;
        // After a refused connect the socket has no local address and no port.
        let local = if established { sys::names(fd)?.local } else { (self.home(), 0).into() };
        done.push(Done::Connected(Connected {
            case: format!("{}, {:?}", way.case, self.family),
            pid: std::process::id(),
            netns: self.netns,
            local,
            remote,
            bound_port,
            bound_address,
            range,
            established,
        }));
        Ok(())
    }

    fn refusals(&self, done: &mut Vec<Done>) -> Result<()> {
        let listener = sys::open(self.family, libc::IPPROTO_TCP)?;
        sys::bind(listener, (self.home(), 0).into())?;
        sys::listen(listener)?;
        let taken = sys::names(listener)?.local;
        let foreign = FOREIGN[usize::from(self.family == Family::V6)];
        self.refused("port in use", taken, Errno::EADDRINUSE, false, done)?;
        self.refused("port in use, with SO_REUSEADDR", taken, Errno::EADDRINUSE, true, done)?;
        self.refused("foreign address", SocketAddr::new(foreign, 0), Errno::EADDRNOTAVAIL, false, done)?;
        self.refused("foreign address and port", SocketAddr::new(foreign, 81), Errno::EADDRNOTAVAIL, true, done)?;
        // A range of one port, which is in use.
        let port = taken.port();
        sysctl("ipv4/ip_local_port_range", &format!("{port} {port}"))?;
        self.refused("no port left", (self.home(), 0).into(), Errno::EADDRINUSE, false, done)?;
        // Neither of these must be reported: a second bind of a bound socket, and a socket that is not TCP.
        let used = sys::open(self.family, libc::IPPROTO_TCP)?;
        sys::bind(used, (self.home(), self.chosen() + 1).into())?;
        ensure!(sys::bind(used, (self.home(), self.chosen() + 2).into()) == Err(Errno::EINVAL), "it was bound twice");
        sys::close(used)?;
        let datagrams = sys::open_datagram(self.family)?;
        let there = sys::bind(datagrams, (foreign, 0).into());
        ensure!(there == Err(Errno::EADDRNOTAVAIL), "a foreign address was bound: {there:?}");
        sys::close(datagrams)?;
        sys::close(listener)?;
        Ok(())
    }

    fn refused(&self, case: &str, asked: SocketAddr, errno: Errno, reuse: bool, done: &mut Vec<Done>) -> Result<()> {
        let fd = sys::open(self.family, libc::IPPROTO_TCP)?;
        if reuse {
            sys::set(fd, SockOption::ReuseAddress)?;
        }
        let result = sys::bind(fd, asked);
        ensure!(result == Err(errno), "{case}: {result:?} instead of {errno}");
        sys::close(fd)?;
        done.push(Done::Refused(Refused {
            case: format!("{case}, {:?}", self.family),
            pid: std::process::id(),
            netns: self.netns,
            asked,
            errno: errno as i32,
            reuse,
        }));
        Ok(())
    }
}
