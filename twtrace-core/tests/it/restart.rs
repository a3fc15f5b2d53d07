//! Counting from a later time on.

use crate::common::*;
use twtrace_core::event::{CensusState, Connection, Event, TcpState, TimewaitCause};
use twtrace_core::snapshot::{Counts, GroupBy, GroupKey};
use twtrace_core::state::{Config, State};

fn counts(engine: &State, name: &str) -> Option<Counts> {
    let shown = engine.snapshot();
    let mut rows = shown.rows(GroupBy::Command).iter();
    rows.find(|row| row.key == GroupKey::Command(comm(name))).map(|row| row.counts.clone())
}

fn at(seconds: u64) -> u64 {
    START + seconds * SECOND
}

/// Ten seconds with two processes: the socket of `gone` has ended by the restart, those of `stays` have not.
fn restarted() -> State {
    let config = Config { history: true, ..Config::default() };
    let mut engine = engine_with(config, [start(), kernel()]);
    for (cookie, name) in [(1, "gone"), (2, "stays"), (3, "stays")] {
        engine.apply(ended(connection(
            cookie,
            owner(cookie as u32, name),
            tuple(40_000 + cookie as u16, 1, 80),
            at(1),
        )));
    }
    engine.apply(twtrace_testkit::timewait_end(1, tuple(40_001, 1, 80), TimewaitCause::EndedEarly, at(2)));
    engine.apply(tick(at(10)));
    engine.count_from_now();
    engine
}

#[test]
fn what_was_counted_is_forgotten_and_what_is_alive_is_kept() {
    let engine = restarted();
    let model = engine.snapshot();
    assert!(counts(&engine, "gone").is_none());
    let expected = Counts { time_wait_live: 2, fin_wait2_live: 2, time_wait_live_peak: 2, ..Counts::default() };
    assert_eq!(counts(&engine, "stays").unwrap(), expected);
    let totals = &model.summary().totals;
    assert_eq!(
        (&totals.counts, totals.connections, totals.outcomes.len(), totals.ends.ended_early),
        (&expected, 0, 0, 0)
    );
    assert_eq!(model.sockets().iter().count(), 2);
    assert_eq!(model.destinations().iter().map(|row| row.counts.clone()).collect::<Vec<_>>(), [expected]);
    let pairs: Vec<_> = model
        .cells()
        .map(|(_, _, cell)| (cell.counts.time_wait_created, cell.counts.time_wait_live, cell.connections))
        .collect();
    assert_eq!(pairs, [(0, 1, 0), (0, 1, 0)]);
    // Both processes have live sockets.
    assert_eq!(model.rows(GroupBy::Command).iter().map(|row| row.processes).collect::<Vec<_>>(), [2]);
    let window = model.summary().window;
    assert_eq!((window.start_ns, window.start_unix_ns, window.seconds()), (at(10), 10_000_000_000, 0.0));
    let history = model.history().unwrap();
    assert_eq!((history.start_ns(), history.moments().len()), (at(10), 0));
}

#[test]
fn what_comes_later_counts_from_there() {
    let mut engine = restarted();
    for (cookie, name) in [(4, "gone"), (5, "stays")] {
        engine.apply(ended(connection(cookie, owner(cookie as u32 - 3, name), tuple(40_000, 1, 80), at(12))));
    }
    // An exec: the same process under another name.
    engine.apply(ended(connection(6, owner(2, "stayed"), tuple(40_006, 1, 80), at(12))));
    engine.apply(tick(at(13)));
    let (gone, stays) = (counts(&engine, "gone").unwrap(), counts(&engine, "stays").unwrap());
    assert_eq!((gone.time_wait_created, gone.time_wait_live, gone.created_peak_per_s), (1, 1, 1));
    let stayed = counts(&engine, "stayed").unwrap();
    // All its counts are reported under its current name.
    assert_eq!((stayed.time_wait_created, stayed.time_wait_live, stayed.time_wait_live_peak), (2, 3, 3));
    assert_eq!((stays.time_wait_created, stays.time_wait_live), (0, 1));
    assert_eq!(stayed.created_per_s, 2.0 / 3.0);
    let mut processes: Vec<_> =
        engine.snapshot().rows(GroupBy::Command).iter().map(|row| (row.key.clone(), row.processes)).collect();
    processes.sort();
    let of = |name, number| (GroupKey::Command(comm(name)), number);
    assert_eq!(processes, [of("gone", 1), of("stayed", 1), of("stays", 1)]);
    let shown = engine.snapshot();
    let history = shown.history().unwrap();
    assert_eq!(history.moments().iter().map(|moment| moment.created).collect::<Vec<_>>(), [0, 0, 3, 0]);
    // Sockets created before the restart end after it.
    engine.apply(tick(at(62)));
    let expired = |name| counts(&engine, name).unwrap().time_wait_expired;
    assert_eq!((expired("stays"), expired("stayed")), (1, 1));
}

#[test]
fn an_older_connection_found_by_a_census_is_live_and_not_created() {
    // Classified as a reset, but the kernel has its TIME_WAIT socket.
    let uncertain = Connection { sk_err: 104, ..connection(7, owner(7, "late"), tuple(40_007, 1, 80), at(9)) };
    let mut engine = engine([start(), kernel(), ended(uncertain), tick(at(10))]);
    assert_eq!(counts(&engine, "late").unwrap().time_wait_created, 0);
    engine.count_from_now();
    assert!(counts(&engine, "late").is_none());
    let rows = vec![row(7, tuple(40_007, 1, 80), CensusState::TimeWait, 58_000)];
    census(at(11), rows).into_iter().for_each(|event| engine.apply(event));
    let late = counts(&engine, "late").unwrap();
    assert_eq!((late.time_wait_created, late.time_wait_live, late.reset), (0, 1, 0));
    let pairs: Vec<_> = engine
        .snapshot()
        .cells()
        .map(|(_, _, cell)| (cell.counts.time_wait_created, cell.counts.time_wait_live))
        .collect();
    assert_eq!(pairs, [(0, 1)]);
    assert_eq!(engine.snapshot().destinations().iter().map(|row| row.counts.time_wait_live).sum::<u64>(), 1);
    assert_eq!(engine.summary().totals.corrections.len(), 0);
}

#[test]
fn an_older_connection_taken_back_takes_nothing_from_what_is_counted() {
    use TcpState::{Close, Established, FinWait1, FinWait2, SynSent};
    let mut engine = engine([start(), kernel()]);
    let old = Connection {
        transitions: path(&[Close, SynSent, Established, FinWait1, FinWait2, Close], at(9)),
        ..connection(1, owner(1, "a"), tuple(40_001, 1, 80), at(9))
    };
    engine.apply(ended(old));
    engine.apply(tick(at(9) + 1_000_000));
    engine.count_from_now();
    engine.apply(ended(connection(2, owner(1, "a"), tuple(40_002, 1, 80), at(9) + 2_000_000)));
    engine.apply(Event::ResetSent { cookie: 1, tuple: tuple(40_001, 1, 80), at_ns: at(9) + 3_000_000 });
    let a = counts(&engine, "a").unwrap();
    assert_eq!((a.time_wait_created, a.time_wait_live, a.reset), (1, 1, 0));
    assert_eq!(engine.summary().totals.outcomes.values().sum::<u64>(), 1);
}
