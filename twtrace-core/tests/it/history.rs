//! Figures over time.

use crate::common::*;
use twtrace_core::event::{Connection, TcpState};
use twtrace_core::failure::FailureKind;
use twtrace_core::history::{BUCKETS, Moment};
use twtrace_core::state::{Config, State};

const EADDRINUSE: u16 = 98;
const EADDRNOTAVAIL: u16 = 99;
const ECONNREFUSED: u16 = 111;

fn at(seconds: u64) -> u64 {
    START + seconds * SECOND
}

/// A connect that ended with this errno, with or without a local port.
fn failed(cookie: u64, local_port: u16, errno: u16, at_ns: u64) -> Connection {
    let mut failed = connection(cookie, owner(10, "app"), tuple(local_port, 1, 80), at_ns);
    failed.transitions = path(&[TcpState::Close, TcpState::SynSent, TcpState::Close], at_ns);
    (failed.connect_errno, failed.connect_exit, failed.established, failed.closer) = (errno, true, false, None);
    failed
}

/// Failed calls of each second, by kind.
fn failures(state: &State) -> Vec<Moment> {
    state.snapshot().history().unwrap().moments().to_vec()
}

#[test]
fn failed_calls_are_counted_over_time_by_what_they_failed_for() {
    let app = owner(10, "app");
    let mut state = engine_with(Config { history: true, ..Config::default() }, [start(), kernel()]);
    let any_port = tuple(0, 1, 0).local_addr([0; 4]);
    for event in [
        ended(failed(1, 0, EADDRNOTAVAIL, at(1))),
        ended(failed(2, 0, EADDRNOTAVAIL, at(1))),
        ended(failed(3, 40_000, EADDRNOTAVAIL, at(1))),
        ended(failed(4, 40_001, ECONNREFUSED, at(2))),
        connect_failed(app, tuple(0, 1, 80).local_addr([0; 4]), EADDRNOTAVAIL, at(2)),
        connect_failed(app, tuple(0, 1, 80), 101, at(3)),
        twtrace_testkit::bind_failed(app, any_port, EADDRINUSE, false, at(3)),
        tick(at(4)),
    ] {
        state.apply(event);
    }
    let moments = failures(&state);
    let of = |second: usize, kind: FailureKind| moments[second].failed[kind as usize];
    assert_eq!((of(1, FailureKind::NoPort), of(1, FailureKind::PortTaken)), (2, 1));
    assert_eq!((of(2, FailureKind::Refused), of(2, FailureKind::NoAddress)), (1, 1));
    assert_eq!((of(3, FailureKind::Other), of(3, FailureKind::NoPort)), (1, 1));
    // The same number as the totals have, and as before when buckets have become wider.
    let sum = |moments: &[Moment]| moments.iter().map(Moment::errors).sum::<u64>();
    assert_eq!(sum(&moments), state.snapshot().summary().totals.counts.errors.values().sum::<u64>());
    state.apply(tick(at(3 * BUCKETS as u64)));
    let wider = failures(&state);
    assert!(wider.len() <= BUCKETS);
    assert_eq!((sum(&wider), wider[0].failed[FailureKind::NoPort as usize]), (7, 3));
}
