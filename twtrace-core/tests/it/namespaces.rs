//! Several network namespaces in one trace.

use crate::common::*;
use twtrace_core::event::{CensusState, Connection, Event, KernelFacts, Role, Tuple};
use twtrace_core::snapshot::{Counts, DestRow, Namespace};
use twtrace_core::state::State;

const T: u64 = START + SECOND;

/// A namespace other than the tracer's.
const OTHER: u32 = NETNS + 1;

fn elsewhere(local_port: u16) -> Tuple {
    tuple(local_port, 1, 80).in_namespace(OTHER)
}

fn closed(cookie: u64, tuple: Tuple) -> Event {
    ended(connection(cookie, owner(10, "a"), tuple, T))
}

fn named(name: &str) -> Event {
    twtrace_testkit::namespace(OTHER, name)
}

fn figures(port_range: (u16, u16), time_wait: u64) -> Event {
    let facts = KernelFacts { port_range, time_wait, max_tw_buckets: 1000, ..KernelFacts::default() };
    Event::Kernel { netns: OTHER, facts }
}

fn space(engine: &State) -> &Namespace {
    engine.summary().namespace(OTHER).unwrap()
}

fn totals(engine: &State) -> &Counts {
    &engine.summary().totals.counts
}

fn apply(engine: &mut State, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| engine.apply(event));
}

fn budget_of(engine: &mut State, netns: u32) -> Option<u32> {
    let is_of = |key: &DestRow| matches!(key, DestRow::Dest(dest) if dest.netns == netns);
    let shown = engine.snapshot();
    let row = shown.destinations().iter().find(|row| is_of(&row.key)).unwrap();
    row.budget.as_ref().map(|budget| budget.total)
}

#[test]
fn a_budget_is_its_own_namespaces() {
    let own = tuple(40_000, 1, 80);
    let mut engine = engine([start(), kernel(), closed(1, own), closed(2, elsewhere(40_000)), tick(T + SECOND)]);
    assert_eq!(
        (budget_of(&mut engine, NETNS), budget_of(&mut engine, OTHER)),
        (Some(28_232), None),
        "sysctls not known yet"
    );
    apply(&mut engine, [figures((40_000, 40_099), 1), tick(T + 2 * SECOND)]);
    assert_eq!((budget_of(&mut engine, NETNS), budget_of(&mut engine, OTHER)), (Some(28_232), Some(100)));
}

#[test]
fn a_census_proves_nothing_of_other_namespaces() {
    let own = tuple(40_000, 1, 80);
    let mut engine = engine([start(), kernel(), closed(1, own), closed(2, elsewhere(40_000))]);
    // A second one, because one may skip a socket.
    let both = |netns, at| census_of(netns, at, vec![]).into_iter().chain(census_of(netns, at + SECOND, vec![]));
    apply(&mut engine, both(OTHER, T + SECOND));
    assert_eq!(totals(&engine).time_wait_live, 1);
    assert_eq!(engine.snapshot().sockets().iter().next().unwrap().tuple.netns, NETNS);
    apply(&mut engine, both(NETNS, T + 3 * SECOND));
    assert_eq!(totals(&engine).time_wait_live, 0);
}

#[test]
fn coverage_is_that_of_all_namespaces() {
    let own = tuple(40_000, 1, 80);
    let mut engine = engine([start(), kernel(), closed(1, own), closed(2, elsewhere(40_000))]);
    let in_own = || vec![row(1, own, CensusState::TimeWait, 59_000)];
    let in_other = vec![
        row(2, elsewhere(40_000), CensusState::TimeWait, 59_000),
        row(3, elsewhere(40_001), CensusState::TimeWait, 5_000),
    ];
    // The second census begins before the first has settled.
    let at = T + SECOND;
    apply(
        &mut engine,
        [
            Event::SocketDumpBegin { netns: NETNS, at_ns: at, whole: true },
            Event::SocketDump(in_own()),
            Event::SocketDumpEnd { at_ns: at + 1, complete: true },
            Event::SocketDumpBegin { netns: OTHER, at_ns: at + 2, whole: true },
            Event::SocketDump(in_other),
            Event::SocketDumpEnd { at_ns: at + 3, complete: true },
            tick(at + SECOND),
        ],
    );
    let summary = engine.summary();
    assert_eq!((summary.coverage.census, summary.coverage.attributed, summary.coverage.before_start), (3, 2, 1));
    assert_eq!((space(&engine).coverage.census, space(&engine).coverage.before_start), (2, 1));
    assert!(summary.census_complete);
    assert_eq!(summary.census_at_ns, Some(at));
    // If one census is incomplete, the whole is.
    apply(
        &mut engine,
        [
            Event::SocketDumpBegin { netns: OTHER, at_ns: at + SECOND, whole: true },
            Event::SocketDumpEnd { at_ns: at + SECOND + 1, complete: false },
            tick(at + 2 * SECOND),
        ],
    );
    assert!(!engine.summary().census_complete);
    assert_eq!(totals(&engine).time_wait_live, 3, "an incomplete census ends no socket");
}

#[test]
fn a_listener_in_another_namespace_does_not_change_roles_here() {
    let listener = row(9, tuple(40_000, 0, 0).in_namespace(OTHER), CensusState::Listen, 0);
    let mut engine = engine([start(), kernel(), figures((32_768, 60_999), 0)]);
    apply(&mut engine, census_of(OTHER, T, vec![listener]));
    let unseen = |cookie, tuple| {
        let mut one: Connection = passive(cookie, owner(10, "a"), tuple, T + SECOND);
        one.role = Role::Unknown;
        one.transitions.remove(0);
        ended(one)
    };
    apply(&mut engine, [unseen(1, tuple(40_000, 1, 80)), unseen(2, elsewhere(40_000))]);
    let role = |netns| {
        engine.snapshot().destinations().iter().find_map(|row| match &row.key {
            DestRow::Dest(key) if key.netns == netns => Some(key.role),
            _ => None,
        })
    };
    assert_eq!((role(NETNS), role(OTHER)), (Some(Role::Active), Some(Role::Passive)));
}

#[test]
fn a_namespace_takes_its_sockets_with_it() {
    let own = tuple(40_000, 1, 80);
    let mut engine = engine([start(), kernel(), named("blue"), figures((40_000, 40_099), 7)]);
    apply(&mut engine, [closed(1, own), closed(2, elsewhere(40_000))]);
    apply(&mut engine, census_of(OTHER, T + SECOND, vec![row(2, elsewhere(40_000), CensusState::TimeWait, 59_000)]));
    assert_eq!((totals(&engine).time_wait_live, engine.summary().time_wait()), (2, 7));
    apply(&mut engine, [Event::NamespaceGone { netns: OTHER }, tick(T + 2 * SECOND)]);
    assert_eq!((totals(&engine).time_wait_live, totals(&engine).time_wait_ended_early), (1, 1));
    assert_eq!((space(&engine).name.as_str(), space(&engine).gone), ("blue", true));
    assert_eq!(engine.summary().time_wait(), 0, "a namespace that is gone has no sockets");
    assert_eq!(engine.summary().coverage.census, 0);
    // Another namespace may get the same inode number.
    apply(&mut engine, [named("green")]);
    assert_eq!((space(&engine).name.as_str(), space(&engine).gone), ("green", false));
    assert_eq!(space(&engine).kernel, None);
}

#[test]
fn where_no_census_can_be_taken_timers_decide() {
    let refused = Some("not permitted".to_owned());
    let mut engine =
        engine([start(), kernel(), Event::Namespace { netns: OTHER, inode: OTHER, name: String::new(), refused }]);
    apply(&mut engine, [closed(2, elsewhere(40_000)), tick(T + 59 * SECOND)]);
    assert_eq!(totals(&engine).time_wait_live, 1);
    apply(&mut engine, [tick(T + 61 * SECOND)]);
    assert_eq!((totals(&engine).time_wait_live, totals(&engine).time_wait_expired), (0, 1));
    assert_eq!(space(&engine).refused.as_deref(), Some("not permitted"));
}

#[test]
fn there_can_be_too_many() {
    let mut engine = engine([start(), kernel()]);
    for netns in 0..5_000 {
        apply(&mut engine, [Event::Namespace { netns, inode: netns, name: netns.to_string(), refused: None }]);
        apply(&mut engine, census_of(netns, T, vec![]));
    }
    apply(&mut engine, [Event::NamespacesLeftOut(12)]);
    let summary = engine.summary();
    assert_eq!((summary.namespaces.len(), summary.namespaces_left_out), (2048, 12));
    // A namespace that goes away frees its place.
    apply(
        &mut engine,
        [
            Event::NamespaceGone { netns: 7 },
            Event::Namespace { netns: 9_999, inode: 9_999, name: "late".to_owned(), refused: None },
        ],
    );
    let summary = engine.summary();
    assert!(summary.namespace(7).is_none() && summary.namespace(9_999).is_some());
}

/// How long a port to a destination of the other namespace is held, and how much of that is left for the youngest socket.
fn lasts_s(engine: &State) -> f64 {
    let shown = engine.snapshot();
    let of_other = |key: &DestRow| matches!(key, DestRow::Dest(dest) if dest.netns == OTHER);
    shown.destinations().iter().find(|row| of_other(&row.key)).unwrap().budget.unwrap().hold_seconds
}

#[test]
fn time_wait_lasts_as_long_as_the_sysctl_of_this_kernel_says() {
    let facts = KernelFacts { port_range: (1, 1000), time_wait_s: Some(5), ..KernelFacts::default() };
    let mut engine = engine([start(), kernel(), Event::Kernel { netns: OTHER, facts }, closed(2, elsewhere(400))]);
    assert_eq!((lasts_s(&engine), totals(&engine).time_wait_live), (5.0, 1));
    apply(&mut engine, [tick(T + 6 * SECOND)]);
    assert_eq!((totals(&engine).time_wait_live, totals(&engine).time_wait_expired), (0, 1));
}

#[test]
fn timers_that_contradict_the_minute_are_believed() {
    let begin = || engine([start(), kernel(), figures((1, 1000), 1), closed(2, elsewhere(400))]);
    let at = |engine: &mut State, after_s: u64, expires_ms: u32| {
        let rows = vec![row(2, elsewhere(400), CensusState::TimeWait, expires_ms)];
        apply(engine, census_of(OTHER, T + after_s * SECOND, rows));
        lasts_s(engine)
    };
    let mut usual = begin();
    assert_eq!((at(&mut usual, 1, 59_000), at(&mut usual, 20, 40_300)), (60.0, 60.0));
    let mut longer = begin();
    assert_eq!(at(&mut longer, 1, 299_000), 299.0);
    let mut shorter = begin();
    assert_eq!(at(&mut shorter, 1, 9_000), 10.0);
    // Figures that are read later do not know it either, and say nothing against it.
    apply(&mut shorter, [figures((1, 1000), 1), tick(T + 3 * SECOND)]);
    assert_eq!(lasts_s(&shorter), 10.0);
    // A late segment has restarted this timer.
    let mut restarted = begin();
    assert_eq!(at(&mut restarted, 30, 55_000), 60.0);
}
