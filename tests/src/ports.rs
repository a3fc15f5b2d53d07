//! Opens connections until no port is left, and reads what the tracer reports about the ports meanwhile.

use std::io::Read as _;
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, listen, socket};
use serde_json::Value;

use crate::top::{Top, own};
use crate::tracer::Place;

/// A report that took longer than this to arrive was written after the request, not before it.
const FRESH: Duration = Duration::from_millis(40);

/// Accepts every connection and closes it once its client has, for as long as this process runs.
///
/// # Panics
/// If the address is in use.
pub fn accept_all(place: &Place, at: SocketAddrV4) {
    place.run(move || {
        let listener = TcpListener::bind(at).expect("the address is free");
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || stream.read(&mut [0]));
            }
        });
    });
}

/// Opens a connection and closes it first, which leaves a TIME_WAIT socket that is already in substate TIME_WAIT.
/// Returns whether there was a port for it.
///
/// # Panics
/// If connect fails for another reason.
pub fn churned(to: SocketAddrV4) -> bool {
    match TcpStream::connect(to) {
        Ok(stream) => {
            close_first(stream);
            true
        }
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(Errno::EADDRNOTAVAIL as i32), "{error}");
            false
        }
    }
}

/// Closes a connection before the other end does.
///
/// # Panics
/// If the other end does not close as well.
pub fn close_first(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(stream.read(&mut [0]).expect("the server closes"), 0);
}

/// Runs [`churned`] in a place at most `most` times, until no port is left. Returns how many connections got a port.
pub fn churn(place: &Place, to: SocketAddrV4, most: u32) -> u32 {
    place.run(move || (0..most).take_while(|_| churned(to)).count() as u32)
}

/// Opens connections and keeps them open.
///
/// # Panics
/// If one fails.
pub fn open_connections(place: &Place, to: SocketAddrV4, count: u32) -> Vec<TcpStream> {
    place.run(move || (0..count).map(|_| TcpStream::connect(to).expect("there are ports")).collect())
}

/// A TCP socket bound to an address.
///
/// # Errors
/// The errno of bind(2).
pub fn bound(at: SocketAddrV4) -> Result<OwnedFd, Errno> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrIn::from(at))?;
    Ok(fd)
}

/// The same, listening.
///
/// # Errors
/// The errno of bind(2) or listen(2).
pub fn listening(at: SocketAddrV4) -> Result<OwnedFd, Errno> {
    let fd = bound(at)?;
    listen(&fd, nix::sys::socket::Backlog::new(8)?)?;
    Ok(fd)
}

/// The same, connected.
///
/// # Errors
/// The errno of bind(2) or connect(2).
pub fn bound_connected(at: SocketAddrV4, to: SocketAddrV4) -> Result<OwnedFd, Errno> {
    let fd = bound(at)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrIn::from(to))?;
    Ok(fd)
}

/// Waits for a report whose census of the tracer's own namespace was taken after this call.
pub fn settled(top: &Top) -> Value {
    let fresh = loop {
        let asked = Instant::now();
        let report = top.report();
        if asked.elapsed() > FRESH {
            break report;
        }
    };
    let now = fresh["window"]["seconds"].as_f64().unwrap_or(0.0);
    top.wait(|report| {
        let age = own(report)["coverage"]["census_age_s"].as_f64();
        age.is_some_and(|age| report["window"]["seconds"].as_f64().is_some_and(|at| at - age > now))
    })
}

/// The row of a destination in a report.
///
/// # Panics
/// If the report has no such row.
pub fn destination(report: &Value, to: SocketAddrV4) -> &Value {
    let rows = report["destinations"].as_array().expect("a list");
    let is =
        |row: &&Value| row["role"] == "active" && row["remote_addr"] == to.ip().to_string() && row["port"] == to.port();
    rows.iter().find(is).unwrap_or_else(|| panic!("no destination {to}: {rows:#?}"))
}

/// The port figures of a destination in a report.
pub fn split(report: &Value, to: SocketAddrV4) -> &Value {
    &destination(report, to)["ports"]
}
