//! An hour of a healthy host: nothing above info, at any minute.

use super::*;
use std::collections::BTreeMap;
use twtrace_core::event::{CensusRow, Tuple};
use twtrace_core::finding::Severity;
use twtrace_testkit::chance::Random;

const MINUTES: u64 = 60;

/// Connections that are open, and events in the order of their times.
#[derive(Default)]
struct Host {
    events: Vec<(u64, Event)>,
    /// Sockets of censuses: from when to when, and the row.
    sockets: Vec<(u64, u64, CensusRow)>,
    cookies: u64,
}

impl Host {
    fn at(&mut self, at_ns: u64, event: Event) {
        self.events.push((at_ns, event));
    }

    /// A connection, which is in the censuses while it is open, and for a minute after that if it is closed first here.
    fn connect(&mut self, who: Owner, to: Tuple, role: Role, first: bool, times: (u64, u64), bytes: u64) {
        self.cookies += 1;
        let (begin_ns, end_ns) = times;
        let mut one =
            connection(self.cookies, who, to, end_ns).usual(role, first, MICROSECOND_NS).bytes(bytes, 3 * bytes);
        one.transitions[0].at_ns = begin_ns;
        one.transitions[1].at_ns = one.transitions[1].at_ns.min(begin_ns + MS);
        one.request_segments = Some((bytes / 500 + 1) as u16);
        self.at(end_ns, ended(one));
        self.sockets.push((begin_ns, end_ns, row(self.cookies, to, CensusState::Established, 0)));
        if first {
            let until_ns = end_ns + 60 * SECOND;
            self.sockets.push((end_ns, until_ns, row(self.cookies, to, CensusState::TimeWait, 0)));
        }
    }

    /// All events, with a census each five seconds.
    fn play(mut self, mut look: impl FnMut(u64, &mut State)) {
        self.events.sort_by_key(|(at_ns, _)| *at_ns);
        self.sockets.sort_by_key(|(begin_ns, ..)| *begin_ns);
        let mut state = state_after([]);
        let (mut events, mut sockets) = (self.events.into_iter().peekable(), self.sockets.into_iter().peekable());
        let mut open: BTreeMap<(u64, bool), (u64, CensusRow)> = BTreeMap::new();
        for second in 1..=MINUTES * 60 {
            let now_ns = START + second * SECOND;
            while let Some((_, event)) = events.next_if(|(at_ns, _)| *at_ns <= now_ns) {
                state.apply(event);
            }
            while let Some((_, until_ns, row)) = sockets.next_if(|(begin_ns, ..)| *begin_ns <= now_ns) {
                open.insert((row.cookie, row.state.is_timewait()), (until_ns, row));
            }
            open.retain(|_, (until_ns, _)| *until_ns > now_ns);
            if second.is_multiple_of(5) {
                let left_ms = |until_ns: u64| ((until_ns - now_ns) / MS) as u32;
                let rows = open.values().map(|(until_ns, row)| CensusRow {
                    expires_ms: if row.state.is_timewait() { left_ms(*until_ns) } else { 0 },
                    ..*row
                });
                census(now_ns, rows.collect()).into_iter().for_each(|event| state.apply(event));
            }
            state.apply(tick(now_ns + SECOND / 5));
            if second.is_multiple_of(60) {
                look(second / 60, &mut state);
            }
        }
    }
}

#[test]
fn a_healthy_hour_has_no_finding_above_info() {
    let mut dice = Random::new(7);
    let mut host = Host::default();
    let end_ns = START + MINUTES * 60 * SECOND;
    let port = |number: u64| 32_768 + (number % 28_000) as u16;
    let mut number = 0;
    let mut next = || {
        number += 1;
        port(number)
    };
    // Keep-alive: forty connections of an application to its database, each for ten minutes.
    let app = owner(10, "app");
    for slot in 0..40 {
        let mut begin_ns = START + slot * 15 * SECOND;
        while begin_ns < end_ns {
            let until_ns = begin_ns + 600 * SECOND;
            host.connect(app, tuple(next(), 1, 5432), Role::Active, true, (begin_ns, until_ns), 400_000);
            begin_ns = until_ns + SECOND;
        }
    }
    // A pool that breathes: five more for half a minute, every five minutes.
    for minute in (0..MINUTES).step_by(5) {
        for _ in 0..5 {
            let begin_ns = START + minute * 60 * SECOND + dice.below(5 * SECOND);
            let times = (begin_ns, begin_ns + 30 * SECOND);
            host.connect(app, tuple(next(), 2, 6379), Role::Active, true, times, 60_000);
        }
    }
    // Checks by two load balancers, each five seconds, answered and closed by this host's server.
    let server = owner(11, "nginx");
    for second in (0..MINUTES * 60).step_by(5) {
        for balancer in 0..2 {
            let begin_ns = START + second * SECOND + balancer * 700 * MS;
            let from = tuple(next(), 30 + balancer as u8, 80).mirrored();
            host.connect(server, from, Role::Passive, false, (begin_ns, begin_ns + 2 * MS), 90);
        }
    }
    // Browsers with keep-alive, which the server closes after a minute of silence: two a second.
    for half in 0..MINUTES * 120 {
        let begin_ns = START + half * SECOND / 2 + dice.below(SECOND / 4);
        let from = tuple(next(), 40 + (half % 200) as u8, 80).mirrored();
        host.connect(server, from, Role::Passive, true, (begin_ns, begin_ns + 75 * SECOND), 9_000);
    }
    // A batch, once an hour: fifty connections at once.
    for _ in 0..50 {
        let begin_ns = START + 900 * SECOND + dice.below(SECOND / 2);
        let times = (begin_ns, begin_ns + 300 * MS);
        host.connect(owner(12, "batch"), tuple(next(), 3, 443), Role::Active, true, times, 700);
    }
    // Monitoring that asks ten targets every fifteen seconds over connections of its own.
    for second in (0..MINUTES * 60).step_by(15) {
        for target in 0..10 {
            let begin_ns = START + second * SECOND + target * 100 * MS;
            let to = tuple(next(), 50 + target as u8, 9100);
            host.connect(owner(13, "prometheus"), to, Role::Active, true, (begin_ns, begin_ns + 40 * MS), 300);
        }
    }
    // A service that restarts: for three seconds, connects are refused.
    for attempt in 0..4 {
        let at_ns = START + 1_800 * SECOND + attempt * 750 * MS;
        let mut refused = connection(900_000 + attempt, app, tuple(next(), 2, 6379), at_ns);
        refused.transitions = path(&[TcpState::Close, TcpState::SynSent, TcpState::Close], at_ns);
        (refused.connect_errno, refused.connect_exit, refused.established) = (111, true, false);
        host.at(at_ns, ended(refused));
    }
    let mut connections = 0;
    host.play(|minute, state| {
        let snapshot = state.snapshot();
        connections = snapshot.summary().totals.connections;
        let severe: Vec<_> = snapshot.findings().iter().filter(|one| one.severity > Severity::Info).collect();
        assert!(severe.is_empty(), "minute {minute}: {severe:#?}");
    });
    assert!(connections > 10_000, "{connections}");
}
