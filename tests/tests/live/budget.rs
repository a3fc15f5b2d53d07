//! The port arithmetic against what the kernel then does, and the forecast against what then happens.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twtrace_tests::ports::{
    accept_all, bound, bound_connected, churn, churned, close_first, destination, listening, open_connections, settled,
    split,
};
use twtrace_tests::top::Top;
use twtrace_tests::tracer::Place;

/// Ports of the range 40000 to 40199.
const N: u32 = 200;

const ONE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 7001);
const OTHER_ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 12), 7001);
const OTHER_PORT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 7002);

/// A namespace with this range and three services.
fn place(reuse: &'static str) -> Place {
    let place = Place::new();
    place.sysctl("ipv4/ip_local_port_range", "40000 40199");
    place.sysctl("ipv4/tcp_tw_reuse", reuse);
    // An RST does not end a TIME_WAIT socket.
    place.sysctl("ipv4/tcp_rfc1337", "1");
    for service in [ONE, OTHER_ADDRESS, OTHER_PORT] {
        accept_all(&place, service);
    }
    place
}

/// A port of the range, on the address that connections come from.
fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// The report names the exact number of available ports: that many connects succeed, and the next one fails.
fn exactly(what: &str, place: &Place, top: &Top, to: SocketAddrV4, expected: u32) {
    let report = settled(top);
    let said = split(&report, to);
    println!("{what}: {said}");
    assert_eq!(said["available"], expected, "{what}: {said}");
    assert_eq!(churn(place, to, 2 * N), expected, "{what}: by the kernel; {said}");
    let report = settled(top);
    let said = split(&report, to);
    assert_eq!(said["available"], 0, "{what}, after all were taken: {said}");
    assert_eq!(destination(&report, to)["utilization"], 1.0, "{what}");
}

#[test]
fn every_port_of_the_range_is_available_or_used() {
    let place = place("0");
    let top = Top::start_here(&place, &[]);
    assert_eq!(churn(&place, ONE, 50), 50);
    exactly("50 in TIME_WAIT", &place, &top, ONE, N - 50);
    let report = settled(&top);
    assert_eq!((&split(&report, ONE)["time_wait"], &split(&report, ONE)["used"]), (&N.into(), &N.into()));
}

#[test]
fn reserved_ports_are_not_chosen() {
    let place = place("0");
    place.sysctl("ipv4/ip_local_reserved_ports", "39990-40019,40100,41000");
    let top = Top::start_here(&place, &[]);
    assert_eq!(churn(&place, ONE, 50), 50);
    exactly("21 reserved", &place, &top, ONE, N - 21 - 50);
    let report = settled(&top);
    assert_eq!((&split(&report, ONE)["reserved"], &split(&report, ONE)["total"]), (&json!(21), &json!(N - 21)));
}

#[test]
fn bound_ports_are_not_chosen() {
    let place = place("0");
    let top = Top::start_here(&place, &[]);
    let sockets = place.run(|| {
        let bound = (40_000..40_010).map(|port| bound(local(port)).unwrap());
        let listening = (40_050..40_065).map(|port| listening(local(port)).unwrap());
        // Connected, but still a bound port to all other destinations.
        let connected = (40_100..40_105).map(|port| bound_connected(local(port), OTHER_PORT).unwrap());
        bound.chain(listening).chain(connected).collect::<Vec<_>>()
    });
    assert_eq!(sockets.len(), 30);
    assert_eq!(churn(&place, ONE, 20), 20);
    exactly("30 bound", &place, &top, ONE, N - 30 - 20);
    let report = settled(&top);
    assert_eq!(split(&report, ONE)["bound"], 30, "{}", split(&report, ONE));
    drop(sockets);
}

#[test]
fn open_connections_occupy_their_ports() {
    let place = place("0");
    let top = Top::start_here(&place, &[]);
    let open = open_connections(&place, ONE, 40);
    assert_eq!(churn(&place, ONE, 20), 20);
    exactly("40 open", &place, &top, ONE, N - 40 - 20);
    let report = settled(&top);
    assert_eq!(split(&report, ONE)["established"], 40, "{}", split(&report, ONE));
    drop(open);
}

#[test]
fn each_destination_has_the_whole_range() {
    let place = place("0");
    let top = Top::start_here(&place, &[]);
    for to in [ONE, OTHER_ADDRESS, OTHER_PORT] {
        assert_eq!(churn(&place, to, 10), 10);
    }
    for to in [ONE, OTHER_ADDRESS, OTHER_PORT] {
        exactly(&format!("to {to}"), &place, &top, to, N - 10);
    }
}

/// Takes ports in less time than the first one needs to become reusable.
fn churn_at_once(place: &Place, most: u32) -> u32 {
    let began = Instant::now();
    let succeeded = churn(place, ONE, most);
    assert!(began.elapsed() < Duration::from_secs(1), "the machine is too slow: {:?}", began.elapsed());
    succeeded
}

#[test]
fn time_wait_ports_are_reusable_after_a_second() {
    for reuse in ["1", "2"] {
        let place = place(reuse);
        let top = Top::start_here(&place, &[]);
        assert_eq!(churn_at_once(&place, N), N);
        // Not before the last one is reusable.
        let report = top.wait(|report| {
            let rows = report["destinations"].as_array().unwrap();
            rows.iter().any(|row| row["role"] == "active" && row["port"] == 7001 && row["ports"]["available"] == N)
        });
        println!("tcp_tw_reuse {reuse}: {}", split(&report, ONE));
        assert_eq!(split(&report, ONE)["reusable"], N, "{}", split(&report, ONE));
        assert_eq!(churn(&place, ONE, N), N, "by the kernel");
    }
}

#[test]
fn time_wait_sockets_of_bound_ports_are_not_reused() {
    let place = place("1");
    let top = Top::start_here(&place, &[]);
    place.run(|| {
        for port in 40_000..40_020 {
            close_first(TcpStream::from(bound_connected(local(port), ONE).unwrap()));
        }
    });
    // Created after them, without bind.
    assert_eq!(churn(&place, ONE, 1), 1);
    let report = top.wait(|report| {
        let rows = report["destinations"].as_array().unwrap();
        rows.iter().any(|row| row["role"] == "active" && row["port"] == 7001 && row["ports"]["reusable"] == 1)
    });
    let said = split(&report, ONE);
    assert_eq!((&said["time_wait"], &said["available"]), (&json!(21), &json!(N - 20)), "{said}");
    // bind(2) does not reuse them either.
    let errno = place.run(|| bound(local(40_000)).err());
    assert_eq!(errno, Some(nix::errno::Errno::EADDRINUSE));
    assert_eq!(churn_at_once(&place, 2 * N), N - 20, "by the kernel");
}

#[test]
fn sockets_without_timestamps_of_their_peer_are_not_taken_over() {
    let place = place("1");
    let top = Top::start_here(&place, &[]);
    let row = |report: &Value| {
        let mut rows = report["destinations"].as_array().unwrap().iter();
        rows.find(|row| row["role"] == "active" && row["port"] == 7001).map(|row| row["ports"].clone())
    };
    let shows = |report: &Value, name: &str, count: u32| row(report).is_some_and(|ports| ports[name] == count);
    place.sysctl("ipv4/tcp_timestamps", "0");
    assert_eq!(churn(&place, ONE, 50), 50);
    // What counts is the socket: what is set later changes nothing for it.
    place.sysctl("ipv4/tcp_timestamps", "1");
    assert_eq!(churn(&place, ONE, 1), 1);
    let report = top.wait(|report| shows(report, "reusable", 1));
    let said = split(&report, ONE);
    let counts = (&said["time_wait"], &said["without_timestamps"], &said["available"]);
    assert_eq!(counts, (&json!(51), &json!(50), &json!(N - 50)), "{said}");
    assert_eq!(churn_at_once(&place, 2 * N), N - 50, "by the kernel");

    place.sysctl("ipv4/tcp_timestamps", "0");
    let report = top.wait(|report| shows(report, "reusable", N - 50));
    let said = split(&report, ONE);
    assert_eq!((&said["without_timestamps"], &said["available"]), (&json!(50), &json!(N - 50)), "{said}");
    assert_eq!(churn_at_once(&place, 2 * N), N - 50, "by the kernel");
    // A socket that takes another one over inherits its timestamp (`tcp_twsk_unique`), whatever its own peer sends.
    let again = |report: &Value| shows(report, "reusable", N - 50) && shows(report, "time_wait", N);
    let said = row(&top.wait(again)).unwrap();
    assert_eq!((&said["without_timestamps"], &said["available"]), (&json!(50), &json!(N - 50)), "{said}");
    assert_eq!(churn_at_once(&place, 2 * N), N - 50, "by the kernel, once more");
}

/// Connections per second of the ramp, which has a thousand ports.
const RATE: u32 = 50;

#[test]
fn forecast_at_half_of_the_ports_is_right() {
    let place = Place::new();
    place.sysctl("ipv4/ip_local_port_range", "40000 40999");
    place.sysctl("ipv4/tcp_tw_reuse", "0");
    accept_all(&place, ONE);
    let top = Top::start_here(&place, &[]);
    let (sender, receiver) = channel();
    let began = Instant::now();
    // A thread starts in the namespace of the thread that creates it.
    place.run(move || {
        thread::spawn(move || {
            for number in 1.. {
                if !churned(ONE) {
                    break;
                }
                thread::sleep(
                    (began + number * Duration::from_secs(1) / RATE).saturating_duration_since(Instant::now()),
                );
            }
            let _ = sender.send(began.elapsed().as_secs_f64());
        });
    });
    let half_way = |report: &Value| {
        let rows = report["destinations"].as_array().unwrap();
        rows.iter().any(|row| row["role"] == "active" && row["ports"]["used"].as_u64() >= Some(500))
    };
    let report = top.wait(half_way);
    let asked = began.elapsed().as_secs_f64();
    let row = destination(&report, ONE);
    let forecast = |name: &str| row[name].as_f64();
    let left = forecast("seconds_to_exhaustion").unwrap_or_else(|| panic!("no forecast: {row}"));
    let happened = receiver.recv_timeout(Duration::from_secs(60)).unwrap() - asked;
    let (soonest, latest) = (forecast("soonest_seconds"), forecast("latest_seconds"));
    println!("at {asked:.2} s: in {left:.2} s ({soonest:?} to {latest:?}); actually {happened:.2} s");
    assert!((left - happened).abs() <= 0.1 * happened, "forecast {left}, actually {happened}: {row}");
    assert!(soonest.is_none_or(|soonest| soonest <= happened), "{soonest:?}");
    assert!(latest.is_none_or(|latest| latest >= happened), "{latest:?}");
}
