//! MPTCP: workers of the kernel close the subflows, on behalf of the process that has the socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;

use twtrace_tests::require::skip;
use twtrace_tests::top::{Top, number, own, quiet_place};
use twtrace_tests::workload::sys::{self, Family};

const PAIRS: u64 = 30;

/// A connection, closed by its client or by its server first.
fn pair(listener: RawFd, service: SocketAddr, client_first: bool) {
    let client = sys::open(Family::V4, libc::IPPROTO_MPTCP).unwrap();
    sys::connect(client, service).unwrap();
    let server = sys::accept(listener).unwrap();
    let [first, second] = if client_first { [client, server] } else { [server, client] };
    sys::close(first).unwrap();
    sys::close(second).unwrap();
}

#[test]
fn time_wait_sockets_of_mptcp_count_for_the_process_that_opened_them() {
    let place = quiet_place();
    // The sysctl is there where MPTCP is.
    if place.run(|| sys::open(Family::V4, libc::IPPROTO_MPTCP)).map(sys::close).is_err() {
        return skip("MPTCP", "this kernel has none");
    }
    let top = Top::start_here(&place, &[]);
    place.run(|| {
        let listener = sys::open(Family::V4, libc::IPPROTO_MPTCP).unwrap();
        let service = SocketAddr::from((Ipv4Addr::LOCALHOST, 9_944));
        sys::bind(listener, service).unwrap();
        sys::listen(listener).unwrap();
        for number in 0..PAIRS {
            pair(listener, service, number % 2 == 0);
        }
        sys::close(listener).unwrap();
    });
    let report =
        top.wait(|report| number(report, "/totals/opened") == PAIRS && number(report, "/totals/accepted") == PAIRS);
    println!("{}", own(&report)["coverage"]);
    let rows = report["processes"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["pid"].is_null() || row["pid"] == std::process::id()), "{rows:#?}");
    let ours = rows.iter().find(|row| row["pid"] == std::process::id()).unwrap();
    let figures = ["opened", "accepted"].map(|name| ours[name].as_u64().unwrap());
    assert_eq!(figures, [PAIRS; 2], "{ours:#}");
    // Both ends of a connection may close at once: then both have a TIME_WAIT socket.
    let created = ours["time_wait_created"].as_u64().unwrap();
    assert!((PAIRS..=2 * PAIRS).contains(&created), "{ours:#}");
    assert_eq!(created, number(&report, "/totals/time_wait_created"), "{ours:#}");
}
