//! Records that come late, and events that no kernel sends.

use crate::common::*;
use twtrace_core::event::{CensusState, Connection, Event, KernelCounters, KernelFacts};
use twtrace_core::snapshot::{GroupBy, GroupKey, Substate};
use twtrace_core::state::{Config, State};

const T: u64 = START + SECOND;

fn apply(engine: &mut State, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| engine.apply(event));
}

/// A connection that was last seen in FIN_WAIT1: its end was recovered because a census had its cookie.
fn recovered(cookie: u64) -> Connection {
    let mut connection = connection(cookie, owner(10, "a"), tuple(40_000, 1, 80), T);
    connection.transitions.truncate(3);
    (connection.end_unseen, connection.sock_dead) = (true, false);
    connection
}

#[test]
fn a_socket_recovered_after_several_censuses_stays() {
    let rows = || vec![row(1, tuple(40_000, 1, 80), CensusState::TimeWait, 50_000)];
    let mut engine = engine([start()].into_iter().chain(census(T + SECOND, rows())));
    // A live trace recovers it after the end of a later census and before its evaluation.
    let mut second = census(T + 5 * SECOND, rows());
    second.insert(3, ended(recovered(1)));
    apply(&mut engine, second);
    let summary = engine.summary();
    assert_eq!(summary.totals.corrections.get("never_created"), None);
    assert_eq!((summary.totals.counts.time_wait_created, summary.totals.counts.time_wait_live), (1, 1));
    assert_eq!((summary.coverage.census, summary.coverage.attributed), (1, 1));
}

#[test]
fn a_recovered_end_between_a_close_and_its_reset_does_no_harm() {
    let mut other = recovered(2);
    other.end_ns = T - 20 * SECOND;
    let reset = Event::ResetSent { cookie: 1, tuple: tuple(40000, 1, 80), at_ns: T + 1_000 };
    let one = ended(connection(1, owner(10, "a"), tuple(40_000, 1, 80), T));
    let engine = engine([start(), one, ended(other), reset]);
    assert_eq!(engine.summary().totals.corrections.get("reset_after_close"), Some(&1));
}

#[test]
fn a_record_that_comes_after_the_census_row_takes_its_substate() {
    let traced = tuple(40_000, 1, 80);
    let mut events = census(T, vec![row(1, traced, CensusState::TimeWait, 60_000)]);
    events.insert(3, ended(connection(1, owner(10, "a"), traced, T - 10)));
    let engine = engine([start()].into_iter().chain(events));
    assert_eq!(engine.snapshot().sockets().iter().next().unwrap().substate, Substate::TimeWait);
    assert_eq!(engine.summary().totals.counts.fin_wait2_live, 0);
}

#[test]
fn a_pair_is_of_the_process_that_its_sockets_count_for() {
    let mut unknown = connection(1, owner(10, "a"), tuple(40_000, 1, 80), T);
    unknown.closer = None;
    let engine = engine([start(), ended(unknown)]);
    let model = engine.snapshot();
    let share = |key| {
        let row = model.rows(GroupBy::Pid).iter().find(|row| row.key == key).unwrap();
        let shares = model.destinations_of(GroupBy::Pid, row);
        shares
            .iter()
            .map(|(_, share)| (share.connections, share.time_wait_created, share.time_wait_live))
            .collect::<Vec<_>>()
    };
    assert_eq!(share(GroupKey::Unknown), [(0, 1, 1)]);
    assert_eq!(share(GroupKey::Process(owner(10, "a").key)), [(1, 0, 0)]);
}

#[test]
fn figures_at_the_end_of_their_range_do_no_harm() {
    let mut last = connection(1, owner(10, "a"), tuple(40_000, 1, 80), u64::MAX);
    last.transitions[0].at_ns = 0;
    let end = u64::MAX;
    let counters = KernelCounters { ring_full: end, parts_refused: end, recursion: end, ..KernelCounters::default() };
    let one = row(2, tuple(40_001, 1, 80), CensusState::TimeWait, u32::MAX);
    let events = [
        start(),
        Event::Counters(counters),
        Event::Kernel {
            netns: NETNS,
            facts: KernelFacts { port_range: (1, u16::MAX), time_wait: end, ..KernelFacts::default() },
        },
        ended(last),
        Event::ResetSent { cookie: 9, tuple: tuple(40000, 1, 80), at_ns: end },
        Event::SocketDumpBegin { netns: NETNS, at_ns: end, whole: true },
        Event::SocketDump(vec![one]),
        Event::SocketDumpEnd { at_ns: end, complete: true },
        tick(end),
        tick(0),
        tick(end),
    ];
    let mut engine = State::new(Config::default());
    apply(&mut engine, events);
    assert_eq!(engine.summary().totals.connections, 1);
}
