//! TIME_WAIT sockets with one cookie: a socket that is disconnected and connects again leaves several.

use crate::common::{Look as _, NETNS, SECOND, START, connection, ended, engine, owner, row, start, tick, tuple};
use twtrace_core::changes::Changes;
use twtrace_core::event::{CensusRow, CensusState, Event, TimewaitCause};
use twtrace_core::state::State;
use twtrace_testkit::StartBuilder;

const COOKIE: u64 = 7;

fn socket(number: u16) -> twtrace_core::event::Tuple {
    tuple(40_000 + number, 1, 80)
}

fn closed(number: u16) -> Event {
    ended(connection(COOKIE, owner(5, "client"), socket(number), START + u64::from(number) * SECOND / 100))
}

fn in_time_wait(number: u16) -> CensusRow {
    row(COOKIE, socket(number), CensusState::TimeWait, 59_000)
}

/// Censuses of a kernel with these sockets, one a second, as a tracer reports them: what has changed.
struct Kernel {
    changes: Changes,
    at_ns: u64,
}

impl Kernel {
    fn new() -> Self {
        Self { changes: Changes::default(), at_ns: START + SECOND }
    }

    fn census(&mut self, state: &mut State, mut rows: Vec<CensusRow>) {
        self.at_ns += SECOND;
        let at_ns = self.at_ns;
        let whole = self.changes.begin(NETNS, at_ns);
        state.apply(Event::SocketDumpBegin { netns: NETNS, at_ns, whole });
        self.changes.keep(&mut rows);
        state.apply(Event::SocketDump(rows));
        state.apply(Event::SocketsRemoved(self.changes.end(at_ns, true)));
        state.apply(Event::SocketDumpEnd { at_ns, complete: true });
        state.apply(tick(at_ns + SECOND / 10));
    }
}

fn live(state: &State) -> u64 {
    let snapshot = state.snapshot();
    let summary = snapshot.summary();
    let live = summary.totals.counts.time_wait_live;
    assert_eq!(snapshot.sockets().iter().count() as u64, live);
    live
}

#[test]
fn sockets_with_one_cookie_are_all_alive_and_attributed() {
    let mut state = engine([start(), closed(1), closed(2), closed(3)]);
    assert_eq!(live(&state), 3);
    let mut kernel = Kernel::new();
    for _ in 0..3 {
        kernel.census(&mut state, [1, 2, 3].map(in_time_wait).to_vec());
        let coverage = state.snapshot().summary().coverage;
        assert_eq!((coverage.census, coverage.attributed, live(&state)), (3, 3, 3));
        assert!(state.snapshot().sockets().iter().all(|socket| socket.cookie == COOKIE));
    }
}

#[test]
fn one_that_ends_is_missed_by_the_censuses_and_the_others_stay() {
    for gone in [1, 2, 3] {
        let mut state = engine([start(), closed(1), closed(2), closed(3)]);
        let mut kernel = Kernel::new();
        let all = [1, 2, 3].map(in_time_wait).to_vec();
        for _ in 0..2 {
            kernel.census(&mut state, all.clone());
        }
        let left: Vec<CensusRow> = all.into_iter().filter(|row| row.tuple != socket(gone)).collect();
        for expected in [3, 2, 2, 2] {
            kernel.census(&mut state, left.clone());
            assert_eq!(live(&state), expected, "two censuses decide that {gone} is gone");
        }
        for expected in [2, 0, 0] {
            kernel.census(&mut state, Vec::new());
            assert_eq!(live(&state), expected, "gone {gone}");
        }
        assert_eq!(state.summary().totals.counts.time_wait_ended_early, 3);
    }
}

#[test]
fn a_reported_end_is_that_of_the_socket_with_those_addresses() {
    for ended_first in [1, 2, 3] {
        let exact = StartBuilder::tier(twtrace_testkit::start(START).unix(0), twtrace_core::event::Tier::Exact).event();
        let mut state = engine([exact, closed(1), closed(2), closed(3)]);
        let end = twtrace_testkit::timewait_end(COOKIE, socket(ended_first), TimewaitCause::Reused, START + SECOND);
        state.apply(end);
        let snapshot = state.snapshot();
        let mut ports: Vec<u16> = snapshot.sockets().iter().map(|socket| socket.tuple.local_port - 40_000).collect();
        ports.sort_unstable();
        let expected: Vec<u16> = [1, 2, 3].into_iter().filter(|port| *port != ended_first).collect();
        assert_eq!(ports, expected);
        assert_eq!(snapshot.summary().totals.counts.time_wait_reused, 1);
    }
}

#[test]
fn a_socket_that_is_open_again_has_not_ended_its_time_wait_sockets() {
    let mut state = engine([start(), closed(1)]);
    let mut kernel = Kernel::new();
    let open = row(COOKIE, socket(2), CensusState::Established, 0);
    for _ in 0..4 {
        kernel.census(&mut state, vec![in_time_wait(1), open]);
        assert_eq!(live(&state), 1);
        kernel.census(&mut state, vec![open, in_time_wait(1)]);
        assert_eq!(live(&state), 1);
    }
    // On the same port it has taken over its own.
    let same = row(COOKIE, socket(1), CensusState::Established, 0);
    kernel.census(&mut state, vec![same]);
    kernel.census(&mut state, vec![same]);
    assert_eq!(live(&state), 0);
}

#[test]
fn all_of_one_cookie_are_reported_until_none_is_left() {
    let mut changes = Changes::default();
    let mut census = |second: u64, numbers: &[u16]| {
        let at_ns = START + second * SECOND;
        changes.begin(NETNS, at_ns);
        // Timers run while nothing else changes.
        let mut rows: Vec<CensusRow> = numbers.iter().map(|number| in_time_wait(*number)).collect();
        rows.iter_mut().for_each(|row| row.expires_ms -= 1000 * second as u32);
        changes.keep(&mut rows);
        (rows.len(), changes.end(at_ns, true))
    };
    assert_eq!(census(0, &[1]), (1, vec![]));
    assert_eq!(census(1, &[1]), (0, vec![]));
    assert_eq!(census(2, &[1, 2]), (1, vec![]), "the second is new");
    assert_eq!(census(3, &[1, 2]), (2, vec![]));
    assert_eq!(census(4, &[2]), (1, vec![]));
    assert_eq!(census(5, &[]), (0, vec![COOKIE]));
    assert_eq!(census(6, &[3]), (1, vec![]));
    assert_eq!(census(7, &[3]), (0, vec![]), "the cookie has one socket again");
}

/// The kernel's program could give it no cookie before its TIME_WAIT socket was created.
fn without_cookie(number: u16) -> Event {
    ended(connection(0, owner(5, "client"), socket(number), START + u64::from(number) * SECOND / 100))
}

/// The kernel has made a cookie of its own for the TIME_WAIT socket.
fn with_its_own(number: u16) -> CensusRow {
    row(1_000 + u64::from(number), socket(number), CensusState::TimeWait, 59_000)
}

#[test]
fn a_socket_without_a_cookie_is_the_one_with_its_addresses_in_the_kernels_list() {
    let mut state = engine([start(), without_cookie(1), without_cookie(2), closed(3)]);
    let mut kernel = Kernel::new();
    let rows = vec![with_its_own(1), with_its_own(2), in_time_wait(3)];
    for _ in 0..3 {
        kernel.census(&mut state, rows.clone());
        let coverage = state.snapshot().summary().coverage;
        assert_eq!((coverage.census, coverage.attributed, live(&state)), (3, 3, 3));
    }
    // One ends: two censuses lack it.
    for expected in [3, 2, 2] {
        kernel.census(&mut state, rows[1..].to_vec());
        assert_eq!(live(&state), expected);
    }
    // The addresses are used again, by a connection with a cookie.
    state.apply(ended(connection(99, owner(6, "other"), socket(2), START + 20 * SECOND)));
    let again = row(99, socket(2), CensusState::TimeWait, 59_000);
    for _ in 0..3 {
        kernel.census(&mut state, vec![again, in_time_wait(3)]);
    }
    let coverage = state.snapshot().summary().coverage;
    assert_eq!((coverage.census, coverage.attributed, live(&state)), (2, 2, 2));
}

#[test]
fn the_end_of_a_socket_without_a_cookie_is_reported_with_its_own() {
    let exact = || twtrace_testkit::start(START).unix(0).tier(twtrace_core::event::Tier::Exact).event();
    let mut state = engine([exact(), without_cookie(1)]);
    let mut kernel = Kernel::new();
    kernel.census(&mut state, vec![with_its_own(1)]);
    let end = |cookie| twtrace_testkit::timewait_end(cookie, socket(1), TimewaitCause::Reused, START + 3 * SECOND);
    state.apply(end(1_001));
    assert_eq!(live(&state), 0);
    let counts = state.snapshot().summary().totals.counts.clone();
    assert_eq!((counts.time_wait_reused, counts.time_wait_ended_early), (1, 0));

    // No census has shown it, so it has no cookie at its end either.
    let mut state = engine([exact(), without_cookie(1), end(0)]);
    state.apply(tick(START + 4 * SECOND));
    assert_eq!((live(&state), state.snapshot().summary().totals.counts.time_wait_reused), (0, 1));
}
