//! Each call that fails because there is no address or no port is reported with its cause.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, id};

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReuseAddr;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket};
use serde_json::{Value, json};
use twtrace_tests::ports::{accept_all, bound, churn, churned, close_first, listening};
use twtrace_tests::require::skip;
use twtrace_tests::software::installed;
use twtrace_tests::top::Top;
use twtrace_tests::tracer::Place;
use twtrace_tests::workload::net::{Layer, tunnel};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 7001);
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A namespace with twenty ephemeral ports, and a tracer that has started.
fn place() -> (Place, Top) {
    let place = Place::new();
    place.sysctl("ipv4/ip_local_port_range", "40000 40019");
    place.sysctl("ipv4/tcp_tw_reuse", "0");
    // An RST does not end a TIME_WAIT socket.
    place.sysctl("ipv4/tcp_rfc1337", "1");
    let top = Top::start_here(&place, &[]);
    (place, top)
}

/// Waits for this test's failures, which must be in one row, and checks that row.
fn assert_failure(top: &Top, call: &str, errno: &str, cause: &str, is_time_wait: bool, count: u32) -> Value {
    // Other tests may cause failures at the same time, in other namespaces.
    let rows = |report: &Value| {
        let mut rows = report["failures"].as_array().cloned().unwrap_or_default();
        rows.retain(|row| row["pid"] == id() && row["netns"] == report["host"]["netns"]);
        rows
    };
    let counted = |report: &Value| rows(report).iter().filter_map(|row| row["count"].as_u64()).sum::<u64>();
    let report = top.wait(|report| counted(report) >= u64::from(count));
    let [row] = &rows(&report)[..] else { panic!("not one row: {:#?}", report["failures"]) };
    println!("{row}");
    let got = json!([row["pid"], row["call"], row["errno"], row["cause"], row["is_time_wait"], row["count"]]);
    assert_eq!(got, json!([id(), call, errno, cause, is_time_wait, count]), "{row}");
    assert!(row["first"].as_str().unwrap() <= row["last"].as_str().unwrap(), "{row}");
    row.clone()
}

#[test]
fn connect_without_a_free_port_is_destination_exhausted() {
    let (place, top) = place();
    accept_all(&place, SERVICE);
    assert_eq!(churn(&place, SERVICE, 100), 20);
    place.run(|| (0..4).for_each(|_| assert!(!churned(SERVICE))));
    // Includes the one that ended the churn.
    let row = assert_failure(&top, "connect", "EADDRNOTAVAIL", "destination_exhausted", true, 5);
    assert_eq!((&row["remote_addr"], &row["port"]), (&json!("127.0.0.11"), &json!(7001)));
}

#[test]
fn bind_without_a_free_port_is_bound_pool_exhausted() {
    let (place, top) = place();
    let any = SocketAddrV4::new(LOCAL, 0);
    let sockets = place.run(move || {
        let sockets: Vec<_> = (0..20).map(|_| bound(any).unwrap()).collect();
        (0..3).for_each(|_| assert_eq!(bound(any).unwrap_err(), Errno::EADDRINUSE));
        sockets
    });
    let row = assert_failure(&top, "bind", "EADDRINUSE", "bound_pool_exhausted", false, 3);
    assert_eq!((&row["local_addr"], &row["port"]), (&json!("127.0.0.1"), &json!(0)));
    drop(sockets);
}

#[test]
fn bind_to_a_foreign_address_is_foreign_source() {
    let (place, top) = place();
    let foreign = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 0);
    place.run(move || (0..2).for_each(|_| assert_eq!(bound(foreign).unwrap_err(), Errno::EADDRNOTAVAIL)));
    let row = assert_failure(&top, "bind", "EADDRNOTAVAIL", "foreign_source", false, 2);
    assert_eq!(row["local_addr"], "192.0.2.1");
}

#[test]
fn bind_to_a_listening_port_is_port_in_use() {
    let (place, top) = place();
    let at = SocketAddrV4::new(LOCAL, 7005);
    let socket = place.run(move || listening(at).unwrap());
    // The census must have seen which socket has it.
    twtrace_tests::ports::settled(&top);
    place.run(move || assert_eq!(bound(at).unwrap_err(), Errno::EADDRINUSE));
    let row = assert_failure(&top, "bind", "EADDRINUSE", "port_in_use", false, 1);
    assert_eq!((&row["local_addr"], &row["port"]), (&json!("127.0.0.1"), &json!(7005)));
    drop(socket);
}

/// A socket with SO_REUSEADDR.
fn reusing() -> OwnedFd {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, ReuseAddr, &true).unwrap();
    fd
}

/// Binds a socket without SO_REUSEADDR, and one with it.
fn bind_both_ways(at: SocketAddrV4) -> [Result<(), Errno>; 2] {
    let fd = reusing();
    [bound(at).map(drop), bind(fd.as_raw_fd(), &SockaddrIn::from(at))]
}

#[test]
fn bind_to_a_port_of_a_clients_time_wait_socket_names_it_with_so_reuseaddr_or_without() {
    let (place, top) = place();
    accept_all(&place, SERVICE);
    let port = place.run(|| {
        let stream = TcpStream::connect(SERVICE).unwrap();
        let port = stream.local_addr().unwrap().port();
        close_first(stream);
        port
    });
    twtrace_tests::ports::settled(&top);
    let at = SocketAddrV4::new(LOCAL, port);
    place.run(move || assert_eq!(bind_both_ways(at), [Err(Errno::EADDRINUSE); 2]));
    assert_failure(&top, "bind", "EADDRINUSE", "client_timewait_holds_port", true, 2);
}

#[test]
fn bind_to_a_port_of_a_servers_time_wait_socket_names_time_wait() {
    let (place, top) = place();
    let at = SocketAddrV4::new(LOCAL, 7007);
    place.run(move || {
        // Without SO_REUSEADDR, so that its connections have none either.
        let listener = TcpListener::from(listening(at).unwrap());
        let mut client = TcpStream::connect(at).unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    });
    twtrace_tests::ports::settled(&top);
    place.run(move || assert_eq!(bind_both_ways(at), [Err(Errno::EADDRINUSE); 2]));
    assert_failure(&top, "bind", "EADDRINUSE", "timewait_holds_port", true, 2);
}

#[test]
fn so_reuseaddr_on_both_sides_lets_the_server_bind() {
    let (place, top) = place();
    accept_all(&place, SERVICE);
    let port = place.run(|| {
        let client = reusing();
        connect(client.as_raw_fd(), &SockaddrIn::from(SERVICE)).unwrap();
        let stream = TcpStream::from(client);
        let port = stream.local_addr().unwrap().port();
        close_first(stream);
        port
    });
    twtrace_tests::ports::settled(&top);
    let at = SocketAddrV4::new(LOCAL, port);
    place.run(move || assert_eq!(bind_both_ways(at), [Err(Errno::EADDRINUSE), Ok(())]));
    assert_failure(&top, "bind", "EADDRINUSE", "client_timewait_holds_port", true, 1);
}

#[test]
fn connect_without_a_source_address_is_no_source() {
    let Some(ip) = installed("ip") else { return skip("ip", "iproute2 is not installed") };
    let (place, top) = place();
    let run = |arguments: &str| {
        let mut command = Command::new(&ip);
        command.args(arguments.split_whitespace());
        assert!(place.spawn(command).wait().unwrap().success(), "ip {arguments}");
    };
    // A route, but no source address for packets that take it. The descriptor stays open, so the interface stays there.
    place.run(|| tunnel("tw0", Layer::Ip, &[]).unwrap());
    run("-6 addr flush dev tw0");
    run("-6 addr flush dev lo");
    run("-6 route add 2001:db8::/32 dev tw0");
    place.run(|| {
        let error = TcpStream::connect("[2001:db8::1]:7001").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EADDRNOTAVAIL as i32), "{error}");
    });
    let row = assert_failure(&top, "connect", "EADDRNOTAVAIL", "no_source", false, 1);
    assert_eq!((&row["remote_addr"], &row["port"]), (&json!("2001:db8::1"), &json!(7001)));
}
