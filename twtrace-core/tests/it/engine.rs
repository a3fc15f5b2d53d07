//! The engine's rules, each tested with a list of events.

use crate::common::*;
use twtrace_core::event::{CensusState, Event, Owner, Role};
use twtrace_core::snapshot::{Counts, DestKey, DestRow, GroupBy, GroupKey, Provenance, Substate};
use twtrace_core::state::{Config, Filter, Limits, State};

const T: u64 = START + SECOND;

#[allow(clippy::needless_pass_by_value, reason = "keys are built where they are asked for")]
fn counts(engine: &State, by: GroupBy, key: GroupKey) -> Counts {
    engine.snapshot().rows(by).iter().find(|row| row.key == key).map(|row| row.counts.clone()).unwrap_or_default()
}

fn totals(engine: &State) -> &Counts {
    &engine.summary().totals.counts
}

#[test]
fn the_closer_gets_the_socket_and_the_opener_is_kept() {
    let (parent, child) = (owner(10, "master"), owner(11, "worker"));
    let mut one = connection(1, child, tuple(40_000, 1, 80), T);
    one.opener = Some(parent);
    let engine = engine([start(), ended(one)]);
    let created = |who: &Owner| counts(&engine, GroupBy::Pid, GroupKey::Process(who.key));
    assert_eq!((created(&child).time_wait_created, created(&child).closed_first, created(&child).opened), (1, 1, 0));
    assert_eq!((created(&parent).time_wait_created, created(&parent).opened), (0, 1));
    let shown = engine.snapshot();
    let live: Vec<_> = shown.sockets().iter().collect();
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].closer.unwrap().key, child.key);
    assert_eq!(live[0].opener.unwrap().key, parent.key);
    assert_eq!((live[0].substate, live[0].known), (Substate::FinWait2, Provenance::Exact));
}

#[test]
fn a_connection_that_retransmitted_counts_once_however_often_it_did() {
    let mut smooth = connection(2, owner(10, "a"), tuple(40_001, 1, 80), T);
    smooth.retransmits = 0;
    let mut rough = connection(3, owner(10, "a"), tuple(40_002, 1, 80), T);
    rough.retransmits = 7;
    let engine =
        engine([start(), ended(connection(1, owner(10, "a"), tuple(40_000, 1, 80), T)), ended(smooth), ended(rough)]);
    let a = counts(&engine, GroupBy::Pid, GroupKey::Process(owner(10, "a").key));
    assert_eq!((a.retransmitted, a.retransmits, totals(&engine).retransmitted), (2, 8, 2));
}

#[test]
fn a_pid_used_again_is_another_process() {
    let first = owner(10, "curl");
    let mut second = first;
    second.key.start_ns += 1;
    let engine = engine([
        start(),
        ended(connection(1, first, tuple(40_000, 1, 80), T)),
        ended(connection(2, second, tuple(40_001, 1, 80), T)),
    ]);
    assert_eq!(engine.snapshot().rows(GroupBy::Pid).iter().count(), 2);
    let shown = engine.snapshot();
    let command = shown.rows(GroupBy::Command).iter().next().unwrap();
    assert_eq!((command.processes, command.counts.time_wait_created), (2, 2));
}

#[test]
fn one_shot_children_gather_under_their_parent() {
    let events = (0..100).map(|n| {
        let mut child = owner(1000 + n, "curl");
        (child.ppid, child.parent_comm) = (77, comm("poll.sh"));
        ended(connection(u64::from(n) + 1, child, tuple(40_000 + n as u16, 1, 80), T))
    });
    let engine = engine([start()].into_iter().chain(events));
    let row = counts(&engine, GroupBy::Parent, GroupKey::Parent(77, comm("poll.sh")));
    assert_eq!(row.time_wait_created, 100);
    assert_eq!(engine.snapshot().rows(GroupBy::Parent).iter().count(), 1);
}

#[test]
fn destinations_are_the_service_for_connects_and_the_port_for_accepts() {
    let engine = engine([
        start(),
        kernel(),
        ended(connection(1, owner(10, "curl"), tuple(40_000, 1, 80), T)),
        ended(passive(2, owner(11, "nginx"), tuple(443, 2, 51_000), T)),
        tick(T + SECOND),
    ]);
    let local_addr = tuple(0, 0, 0).local_addr;
    let active = DestKey {
        netns: NETNS,
        role: Role::Active,
        local_addr,
        remote_addr: Some("10.0.1.1".parse().unwrap()),
        port: 80,
    };
    let served = DestKey { netns: NETNS, role: Role::Passive, local_addr, remote_addr: None, port: 443 };
    let model = engine.snapshot();
    let row = |key| model.destinations().iter().find(|row| row.key == DestRow::Dest(key)).unwrap();
    assert_eq!(row(active).counts.time_wait_live, 1);
    let budget = row(active).budget.unwrap();
    assert_eq!((budget.total, budget.used), (28_232, 1));
    assert_eq!((row(served).counts.accepted, row(served).budget), (1, None));
}

#[test]
fn failed_connects_count_for_their_opener_by_errno() {
    let who = owner(10, "app");
    let failed = connect_failed(who, tuple(0, 9, 80), 101, T);
    let mut no_port = connection(1, who, tuple(0, 1, 80), T);
    no_port.transitions = path(
        &[
            twtrace_core::event::TcpState::Close,
            twtrace_core::event::TcpState::SynSent,
            twtrace_core::event::TcpState::Close,
        ],
        T,
    );
    (no_port.connect_errno, no_port.connect_exit, no_port.established, no_port.closer) = (99, true, false, None);
    let engine = engine([start(), failed, ended(no_port)]);
    let row = counts(&engine, GroupBy::Pid, GroupKey::Process(who.key));
    assert_eq!(row.errors.into_iter().collect::<Vec<_>>(), [(99, 1), (101, 1)]);
    // Neither opened a connection.
    assert_eq!((row.opened, row.time_wait_created), (0, 0));
    let outcomes = &engine.summary().totals.outcomes;
    assert_eq!((outcomes["no_port"], outcomes["connect_failed"]), (1, 1));
}

#[test]
fn without_a_census_a_socket_expires_after_a_minute() {
    let mut engine = engine([start(), ended(connection(1, owner(10, "a"), tuple(40_000, 1, 80), T))]);
    engine.apply(tick(T + 59 * SECOND));
    assert_eq!(totals(&engine).time_wait_live, 1);
    engine.apply(tick(T + 60 * SECOND));
    assert_eq!((totals(&engine).time_wait_live, totals(&engine).time_wait_created), (0, 1));
    assert_eq!(engine.snapshot().sockets().iter().count(), 0);
}

#[test]
fn a_census_covers_what_was_traced_and_counts_older_ones_separately() {
    let traced = tuple(40_000, 1, 80);
    let mut engine = engine([start(), kernel(), ended(connection(1, owner(10, "a"), traced, T))]);
    let rows = vec![
        row(1, traced, CensusState::TimeWait, 59_000),
        // Created half a minute before the trace began.
        row(2, tuple(40_001, 1, 80), CensusState::TimeWait, 29_000),
        row(2, tuple(40_001, 1, 80), CensusState::TimeWait, 29_000),
    ];
    census(T + SECOND, rows).into_iter().for_each(|event| engine.apply(event));
    let coverage = engine.summary().coverage;
    assert_eq!((coverage.census, coverage.attributed, coverage.before_start, coverage.unattributed), (2, 1, 1, 0));
    assert_eq!(coverage.ratio(), 1.0);
    // The older one uses a port too, and its owner is unknown.
    assert_eq!(totals(&engine).time_wait_live, 2);
    assert_eq!(counts(&engine, GroupBy::Pid, GroupKey::Unknown).time_wait_live, 1);
    assert_eq!(totals(&engine).time_wait_created, 1);
}

#[test]
fn a_young_unknown_socket_is_unattributed_only_when_something_was_lost() {
    let rows = || vec![row(5, tuple(40_001, 1, 80), CensusState::TimeWait, 60_000)];
    let at = START + 10 * SECOND;
    let whole = engine([start()].into_iter().chain(census(at, rows())));
    assert_eq!(whole.summary().coverage.before_start, 1);
    let lossy = engine([start(), lost(1)].into_iter().chain(census(at, rows())));
    let coverage = lossy.summary().coverage;
    assert_eq!((coverage.before_start, coverage.unattributed), (0, 1));
    assert_eq!(coverage.ratio(), 0.0);
}

#[test]
fn an_unknown_socket_that_the_first_census_did_not_have_is_unattributed() {
    let mut engine = engine([start()].into_iter().chain(census(T, vec![])));
    let late = vec![row(5, tuple(40_001, 1, 80), CensusState::TimeWait, 3_000)];
    census(T + 2 * SECOND, late).into_iter().for_each(|event| engine.apply(event));
    let coverage = engine.summary().coverage;
    assert_eq!((coverage.before_start, coverage.unattributed), (0, 1));
}

#[test]
fn a_record_that_arrives_just_after_the_census_still_counts() {
    let traced = tuple(40_000, 1, 80);
    let mut engine = engine([start(), lost(1)]);
    let mut events = census(T, vec![row(1, traced, CensusState::TimeWait, 60_000)]);
    events.insert(3, ended(connection(1, owner(10, "a"), traced, T - 10)));
    events.into_iter().for_each(|event| engine.apply(event));
    let coverage = engine.summary().coverage;
    assert_eq!((coverage.attributed, coverage.unattributed), (1, 0));
    assert_eq!(engine.snapshot().sockets().iter().count(), 1);
}

#[test]
fn a_socket_that_two_censuses_in_a_row_lack_ended_early() {
    let one = || ended(connection(1, owner(10, "a"), tuple(40_000, 1, 80), T));
    let lacks = |at| census(at, vec![]);
    let shows = |at| census(at, vec![row(1, tuple(40_000, 1, 80), CensusState::TimeWait, 57_000)]);
    let mut whole = engine([start(), one()].into_iter().chain(lacks(T + SECOND)));
    assert_eq!(totals(&whole).time_wait_live, 1, "the kernel skips a socket now and then");
    lacks(T + 2 * SECOND).into_iter().for_each(|event| whole.apply(event));
    assert_eq!(totals(&whole).time_wait_live, 0);
    assert_eq!(whole.summary().totals.corrections["ended_early"], 1);

    let skipped = lacks(T + SECOND).into_iter().chain(shows(T + 2 * SECOND)).chain(lacks(T + 3 * SECOND));
    let skipped = engine([start(), one()].into_iter().chain(skipped));
    assert_eq!((totals(&skipped).time_wait_live, skipped.summary().coverage.attributed), (1, 1));
    assert_eq!(skipped.summary().totals.corrections.len(), 0);

    // Nothing was skipped if its time was over.
    let over = engine([start(), one()].into_iter().chain(lacks(T + 60 * SECOND)));
    assert_eq!((totals(&over).time_wait_live, totals(&over).time_wait_expired), (0, 1));

    // An interrupted census proves nothing.
    let mut cut = census(T + SECOND, vec![]);
    cut[2] = Event::SocketDumpEnd { at_ns: T + SECOND, complete: false };
    let cut = engine([start(), one()].into_iter().chain(cut));
    assert_eq!(totals(&cut).time_wait_live, 1);

    // Nor does one that began before the socket was created.
    let late = engine(
        [start()]
            .into_iter()
            .chain([Event::SocketDumpBegin { netns: NETNS, at_ns: T - 1, whole: true }, one()])
            .chain([Event::SocketDumpEnd { at_ns: T + 1, complete: true }, tick(T + SECOND)]),
    );
    assert_eq!(totals(&late).time_wait_live, 1);
}

#[test]
fn the_census_reports_the_substate_and_the_time_left() {
    let traced = tuple(40_000, 1, 80);
    let mut engine = engine([start(), ended(connection(1, owner(10, "a"), traced, T))]);
    assert_eq!(totals(&engine).fin_wait2_live, 1);
    census(T + 30 * SECOND, vec![row(1, traced, CensusState::TimeWait, 58_000)])
        .into_iter()
        .for_each(|event| engine.apply(event));
    assert_eq!((totals(&engine).fin_wait2_live, totals(&engine).time_wait_live), (0, 1));
    let shown = engine.snapshot();
    let live = shown.sockets().iter().next().unwrap();
    assert_eq!((live.substate, live.expires_ns), (Substate::TimeWait, T + 88 * SECOND));
}

#[test]
fn a_census_finds_a_socket_that_was_classified_otherwise() {
    let traced = tuple(40_000, 1, 80);
    let mut unclear = connection(1, owner(10, "a"), traced, T);
    unclear.sock_dead = false;
    let mut engine = engine([start(), ended(unclear)]);
    assert_eq!(totals(&engine).time_wait_created, 0);
    assert_eq!(totals(&engine).reset, 1);
    census(T + SECOND, vec![row(1, traced, CensusState::TimeWait, 59_000)])
        .into_iter()
        .for_each(|event| engine.apply(event));
    assert_eq!((totals(&engine).time_wait_created, totals(&engine).reset, totals(&engine).time_wait_live), (1, 0, 1));
    assert_eq!(engine.summary().coverage.attributed, 1);
    assert_eq!(engine.summary().totals.corrections["found_by_census"], 1);
    assert_eq!(engine.snapshot().sockets().iter().next().unwrap().known, Provenance::Census);
}

#[test]
fn a_reset_right_after_the_end_takes_the_socket_back() {
    let who = owner(10, "a");
    let one = connection(1, who, tuple(40_000, 1, 80), T);
    let reset = |at_ns| Event::ResetSent { cookie: 1, tuple: tuple(40000, 1, 80), at_ns };
    let engine_after = |at_ns| engine([start(), ended(one.clone()), reset(at_ns)]);
    let soon = engine_after(T + 1_000);
    assert_eq!((totals(&soon).time_wait_created, totals(&soon).time_wait_live, totals(&soon).reset), (0, 0, 1));
    let outcomes = &soon.summary().totals.outcomes;
    assert_eq!((outcomes["fin_wait2_timewait"], outcomes["reset_sent"]), (0, 1));
    let late = engine_after(T + SECOND);
    assert_eq!((totals(&late).time_wait_created, totals(&late).reset), (1, 0));
}

#[test]
fn an_end_that_was_not_seen_is_found_by_the_census() {
    let traced = tuple(40_000, 1, 80);
    let mut unseen = connection(1, owner(10, "a"), traced, T);
    unseen.transitions.truncate(3);
    (unseen.end_unseen, unseen.sock_dead) = (true, false);
    let confirmed = census(T + SECOND, vec![row(1, traced, CensusState::TimeWait, 59_000)]);
    let engine_a = engine([start(), ended(unseen.clone())].into_iter().chain(confirmed));
    assert_eq!((totals(&engine_a).time_wait_created, engine_a.summary().coverage.attributed), (1, 1));
    let engine_b = engine([start(), ended(unseen)].into_iter().chain(census(T + SECOND, vec![])));
    assert_eq!((totals(&engine_b).time_wait_created, totals(&engine_b).time_wait_live), (0, 0));
}

#[test]
fn a_guess_at_the_bucket_limit_is_corrected() {
    let mut guess = connection(1, owner(10, "a"), tuple(40_000, 1, 80), T);
    guess.tw = Some(twtrace_core::event::TwCount { before: None, after: 99, max: 100 });
    let engine = engine([start(), ended(guess)].into_iter().chain(census(T + SECOND, vec![])));
    assert_eq!((totals(&engine).time_wait_created, totals(&engine).time_wait_live), (0, 0));
    assert_eq!(engine.summary().totals.outcomes["unknown"], 1);
    assert_eq!(engine.summary().totals.corrections["never_created"], 1);
}

#[test]
fn the_role_of_an_older_connection_follows_from_the_listeners() {
    let older = |cookie, tuple| {
        let mut connection = connection(cookie, owner(10, "nginx"), tuple, T + SECOND);
        (connection.role, connection.older, connection.opener) = (Role::Unknown, true, None);
        ended(connection)
    };
    let listener = row(9, tuple(80, 0, 0), CensusState::Listen, 0);
    let mut engine = engine([start(), kernel()].into_iter().chain(census(T, vec![listener])));
    engine.apply(older(1, tuple(80, 5, 50_123)));
    engine.apply(older(2, tuple(40_000, 5, 443)));
    engine.apply(older(3, tuple(99, 5, 443)));
    let mut roles: Vec<Role> = engine.snapshot().sockets().iter().map(|live| live.role).collect();
    roles.sort();
    assert_eq!(roles, [Role::Active, Role::Passive, Role::Unknown]);
}

#[test]
fn established_connections_take_part_in_the_budget() {
    let traced = tuple(40_000, 1, 80);
    let rows = vec![
        row(1, traced, CensusState::TimeWait, 59_000),
        row(20, tuple(40_100, 1, 80), CensusState::Open, 0),
        row(21, tuple(40_101, 1, 80), CensusState::Open, 0),
        row(22, tuple(40_102, 2, 80), CensusState::Open, 0),
    ];
    let mut engine = engine([start(), kernel(), ended(connection(1, owner(10, "a"), traced, T))]);
    census(T + SECOND, rows).into_iter().for_each(|event| engine.apply(event));
    let shown = engine.snapshot();
    let row = shown.destinations().iter().next().unwrap();
    assert_eq!((row.open, row.budget.unwrap().used), (2, 3));
}

#[test]
fn a_filter_narrows_rows_and_never_the_coverage() {
    let (a, b) = (owner(10, "a"), owner(11, "b"));
    let events = || {
        let (one, two) = (tuple(40_000, 1, 80), tuple(40_001, 2, 443));
        let rows = vec![row(1, one, CensusState::TimeWait, 59_000), row(2, two, CensusState::TimeWait, 59_000)];
        [start(), ended(connection(1, a, one, T)), ended(connection(2, b, two, T))]
            .into_iter()
            .chain(census(T + SECOND, rows))
    };
    let filters = [
        Filter { pids: vec![10], ..Filter::default() },
        Filter { comms: vec![b"a".to_vec()], ..Filter::default() },
        Filter { uids: vec![a.uid], ..Filter::default() },
        Filter { dests: vec![("10.0.1.1/32".parse().unwrap(), None)], ..Filter::default() },
        Filter { dests: vec![("10.0.0.0/8".parse().unwrap(), Some(80))], ..Filter::default() },
        Filter { ports: vec![80], ..Filter::default() },
        Filter { ports: vec![40_000], pids: vec![10], ..Filter::default() },
    ];
    for filter in filters {
        let engine = engine_with(Config { filter: filter.clone(), ..Config::default() }, events());
        let shown: Vec<_> = engine.snapshot().rows(GroupBy::Pid).iter().map(|row| row.key.clone()).collect();
        assert_eq!(shown, [GroupKey::Process(a.key)], "{filter:?}");
        assert_eq!((totals(&engine).time_wait_created, totals(&engine).time_wait_live), (1, 1), "{filter:?}");
        assert_eq!(engine.snapshot().sockets().iter().count(), 1);
        let summary = engine.summary();
        assert_eq!((summary.coverage.attributed, summary.totals.connections), (2, 2), "{filter:?}");
    }
    let no_match = Filter { pids: vec![10], ports: vec![443], ..Filter::default() };
    let engine = engine_with(Config { filter: no_match, ..Config::default() }, events());
    assert_eq!(engine.snapshot().rows(GroupBy::Pid).iter().count(), 0);
}

#[test]
fn past_the_bound_the_smallest_rows_become_other() {
    let limits = Limits { rows: 16, ..Limits::default() };
    let events = (0..200_u32).flat_map(|n| {
        // Process 5 is the one that matters.
        let who = if n % 2 == 0 { owner(5, "big") } else { owner(1000 + n, "small") };
        [ended(connection(u64::from(n) + 1, who, tuple(30_000 + n as u16, (n % 50) as u8, 80), T)), tick(T)]
    });
    let engine = engine_with(
        Config { limits, ..Config::default() },
        [start()].into_iter().chain(events).chain([tick(T + 61 * SECOND)]),
    );
    let shown = engine.snapshot();
    let rows: Vec<_> = shown.rows(GroupBy::Pid).iter().collect();
    assert!(rows.len() <= 17, "{}", rows.len());
    let big = rows.iter().find(|row| row.key == GroupKey::Process(owner(5, "big").key)).unwrap();
    assert_eq!(big.counts.time_wait_created, 100);
    let folded: u64 = rows.iter().map(|row| row.folded).sum();
    assert!(folded >= 84, "{folded}");
    let created: u64 = rows.iter().map(|row| row.counts.time_wait_created).sum();
    assert_eq!((created, totals(&engine).time_wait_created, totals(&engine).time_wait_live), (200, 200, 0));
}

#[test]
fn one_shots_do_not_push_out_processes_that_created_many() {
    const WORKERS: u64 = 90;
    const EACH: u64 = 40;
    const ONE_SHOTS: u64 = 26_000;
    let limits = Limits { rows: 256, ..Limits::default() };
    // Short-lived workers one after another, each with many connections, and one-shots all the time. The workers'
    // sockets end long before the last one-shot's.
    let (mut cookie, mut events) = (0, vec![start()]);
    let mut add = |who, at_ns: u64| {
        cookie += 1;
        events.push(ended(connection(cookie, who, tuple((cookie % 60_000) as u16, 1, 80), at_ns)));
        if cookie % 100 == 0 {
            events.push(tick(at_ns));
        }
    };
    for one_shot in 0..ONE_SHOTS {
        let at_ns = START + one_shot * SECOND / 100;
        add(owner(100_000 + one_shot as u32, "curl"), at_ns);
        let worker = one_shot * WORKERS / ONE_SHOTS;
        let number = one_shot - (worker * ONE_SHOTS).div_ceil(WORKERS);
        if number < EACH {
            add(owner(1_000 + worker as u32, "worker"), at_ns);
        }
    }
    let engine = engine_with(Config { limits, ..Config::default() }, events);
    let shown = engine.snapshot();
    let rows: Vec<_> = shown.rows(GroupBy::Pid).iter().collect();
    let workers = rows.iter().filter(|row| row.owner.is_some_and(|owner| owner.comm == comm("worker")));
    let created: Vec<u64> = workers.map(|row| row.counts.time_wait_created).collect();
    assert_eq!(created.len() as u64, WORKERS);
    // A worker that has just started looks like a one-shot: what it had created by then may be in the rest.
    assert!(created.iter().all(|created| *created >= EACH * 3 / 4), "{created:?}");
    let all: u64 = rows.iter().map(|row| row.counts.time_wait_created).sum();
    assert_eq!((all, totals(&engine).time_wait_created), (ONE_SHOTS + WORKERS * EACH, ONE_SHOTS + WORKERS * EACH));
}

#[test]
fn too_many_live_sockets_are_counted_and_said() {
    let limits = Limits { live: 10, ..Limits::default() };
    let events = (0..15).map(|n| ended(connection(n + 1, owner(5, "a"), tuple(30_000 + n as u16, 1, 80), T)));
    let engine = engine_with(Config { limits, ..Config::default() }, [start()].into_iter().chain(events));
    assert_eq!((totals(&engine).time_wait_created, totals(&engine).time_wait_live), (15, 10));
    assert_eq!(engine.summary().totals.time_wait_untracked, 5);
}

#[test]
fn rates_are_over_the_last_seconds() {
    let events = (0..500_u64).map(|n| {
        ended(connection(n + 1, owner(5, "a"), tuple(30_000 + n as u16, 1, 80), START + 10 * SECOND + n * SECOND / 100))
    });
    let mut engine = engine([start()].into_iter().chain(events));
    engine.apply(tick(START + 15 * SECOND));
    let rate = totals(&engine).created_per_s;
    assert!((90.0..=110.0).contains(&rate), "{rate}");
    assert_eq!(counts(&engine, GroupBy::Pid, GroupKey::Process(owner(5, "a").key)).created_per_s, rate);
    engine.apply(tick(START + 30 * SECOND));
    assert_eq!(totals(&engine).created_per_s, 0.0);
}

#[test]
fn time_that_goes_back_does_no_harm() {
    let mut engine = engine([start(), ended(connection(1, owner(5, "a"), tuple(30_000, 1, 80), T)), tick(T + SECOND)]);
    engine.apply(tick(0));
    engine.apply(ended(connection(2, owner(5, "a"), tuple(30_001, 1, 80), 5)));
    assert_eq!(engine.summary().window.seconds(), 2.0);
    assert_eq!(totals(&engine).time_wait_created, 2);
}
