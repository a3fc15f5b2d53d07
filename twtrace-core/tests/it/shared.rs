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
