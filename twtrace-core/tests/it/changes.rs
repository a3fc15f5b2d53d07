//! Censuses sent as differences give the same result as whole censuses.

use crate::common::{Look as _, NETNS, START, connection, ended, engine, owner, row, start, tick, tuple};
use proptest::prelude::*;
use twtrace_core::changes::Changes;
use twtrace_core::event::{CensusRow, CensusState, Event, TimewaitCause};
use twtrace_core::snapshot::{Counts, GroupBy};
use twtrace_core::state::State;

const SECOND: u64 = 1_000_000_000;

/// Complete censuses at the end.
const LAST: usize = 3;

/// What happens in one second on a simulated host.
#[derive(Clone, Debug)]
enum Step {
    /// A new connection ends; `created` says whether the kernel really creates its TIME_WAIT socket.
    Closed {
        by: u32,
        created: bool,
    },
    /// Sockets that exist from now on.
    Appear(Vec<(u64, CensusState)>),
    /// Every nth of them is gone.
    Vanish(usize),
    /// The kernel reports the end of a socket.
    Ended(usize),
    Census {
        complete: bool,
        sees: u8,
    },
    Tick,
    Restate,
}

fn any_step() -> impl Strategy<Value = Step> {
    let state = prop::sample::select(vec![
        CensusState::TimeWait,
        CensusState::TimeWait,
        CensusState::TimewaitFinWait2,
        CensusState::Open,
        CensusState::Listen,
    ]);
    let cookie = 1_u64..40;
    prop_oneof![
        6 => (1_u32..5, any::<bool>()).prop_map(|(by, created)| Step::Closed { by, created }),
        2 => prop::collection::vec((cookie, state), 0..8).prop_map(Step::Appear),
        2 => (1_usize..6).prop_map(Step::Vanish),
        1 => any::<usize>().prop_map(Step::Ended),
        6 => (prop::bool::weighted(0.8), any::<u8>()).prop_map(|(complete, sees)| Step::Census { complete, sees }),
        3 => Just(Step::Tick),
        1 => Just(Step::Restate),
    ]
}

fn the_tuple(number: u64) -> twtrace_core::event::Tuple {
    tuple(40_000 + number as u16, (number % 3) as u8, 80)
}

/// Of the sockets that are closed, one process connects a third from one socket, again and again.
fn cookie_of(number: u64) -> u64 {
    if number > 99 && number.is_multiple_of(3) { 99 } else { number }
}

/// Whether several TIME_WAIT sockets have one cookie.
fn share_a_cookie(steps: &[Step]) -> bool {
    let created = steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::Closed { created: true, .. }));
    created.filter(|(second, _)| cookie_of(100 + *second as u64) == 99).count() > 1
}

/// The Events of these steps, once with whole censuses and once with differences.
fn events_of(steps: &[Step]) -> [Vec<Event>; 2] {
    let mut whole = vec![start()];
    let mut differences = whole.clone();
    let mut changes = Changes::new(30);
    let mut there: std::collections::BTreeMap<u64, (CensusState, u64)> = Default::default();
    // Only after complete censuses do both forms agree on the number of sockets: of the sockets of one cookie, differences may
    // show an end one census later, or earlier where it is the first that shows a second socket.
    let last = Step::Census { complete: true, sees: 0 };
    for (second, step) in steps.iter().chain([&last; LAST]).enumerate() {
        let at = START + (second as u64 + 1) * SECOND;
        let mut both = |event: Event| {
            whole.push(event.clone());
            differences.push(event);
        };
        match step {
            Step::Closed { by, created } => {
                let number = 100 + second as u64;
                both(ended(connection(cookie_of(number), owner(*by, "client"), the_tuple(number), at)));
                if *created {
                    there.insert(number, (CensusState::TimeWait, at + 60 * SECOND));
                }
            }
            Step::Appear(sockets) => {
                there.extend(sockets.iter().map(|(cookie, state)| (*cookie, (*state, at + 30 * SECOND))));
            }
            Step::Vanish(every) => {
                let mut place = 0;
                there.retain(|_, _| {
                    place += 1;
                    place % every != 0
                });
            }
            Step::Ended(which) => {
                let Some(number) = there.keys().nth(which % there.len().max(1)).copied() else { continue };
                there.remove(&number);
                let (cookie, tuple) = (cookie_of(number), the_tuple(number));
                both(twtrace_testkit::timewait_end(cookie, tuple, TimewaitCause::EndedEarly, at));
            }
            Step::Census { complete, sees } => {
                let seen = there.iter().filter(|(number, _)| *complete || **number % 5 != u64::from(*sees) % 5);
                let rows: Vec<CensusRow> = seen
                    .map(|(number, (state, expires_ns))| {
                        let left = if state.is_timewait() { expires_ns.saturating_sub(at) / 1_000_000 } else { 0 };
                        row(cookie_of(*number), the_tuple(*number), *state, left as u32)
                    })
                    .collect();
                let end_ns = at + SECOND / 10;
                whole.push(Event::SocketDumpBegin { netns: NETNS, at_ns: at, whole: true });
                differences.push(Event::SocketDumpBegin { netns: NETNS, at_ns: at, whole: changes.begin(NETNS, at) });
                for piece in rows.chunks(7) {
                    whole.push(Event::SocketDump(piece.to_vec()));
                    let mut piece = piece.to_vec();
                    changes.keep(&mut piece);
                    differences.push(Event::SocketDump(piece));
                }
                whole.push(Event::SocketDumpEnd { at_ns: end_ns, complete: *complete });
                differences.push(Event::SocketsRemoved(changes.end(end_ns, *complete)));
                differences.push(Event::SocketDumpEnd { at_ns: end_ns, complete: *complete });
            }
            Step::Tick => both(tick(at)),
            Step::Restate => changes.restate(),
        }
    }
    let end = START + (steps.len() + LAST + 1) as u64 * SECOND;
    whole.push(tick(end));
    differences.push(tick(end));
    [whole, differences]
}

/// Everything that a view can see, in a fixed order. `late`: an end may be seen one census later, so that its timer may have
/// run out by then: expired or ended early is the same.
fn seen(engine: &State, late: bool) -> Vec<String> {
    let model = engine.snapshot();
    let summary = model.summary();
    let comparable = |counts: &Counts| {
        let (expired, early) = (counts.time_wait_expired, counts.time_wait_ended_early);
        let (expired, early) = if late { (expired + early, 0) } else { (expired, early) };
        // The peak of live sockets depends on when snapshots were taken.
        let peak = 0;
        Counts { time_wait_live_peak: peak, time_wait_expired: expired, time_wait_ended_early: early, ..counts.clone() }
    };
    let counts = |counts: &Counts| format!("{:?}", comparable(counts));
    let mut totals = summary.totals.clone();
    totals.counts = comparable(&totals.counts);
    if late {
        totals.corrections.remove("ended_early");
    }
    let mut all = vec![format!("{totals:?} {:?} {:?}", summary.coverage, summary.namespaces)];
    all.extend(model.rows(GroupBy::Pid).iter().map(|row| format!("{:?} {}", row.key, counts(&row.counts))));
    all.extend(model.destinations().iter().map(|row| format!("{:?} {} {}", row.key, counts(&row.counts), row.open)));
    let mut live: Vec<String> = model
        .sockets()
        .iter()
        .map(|mut live| {
            live.expires_ns = live.expires_ns.max(summary.window.now_ns) / SECOND;
            format!("{live:?}")
        })
        .collect();
    live.sort();
    all.extend(live);
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn differences_come_to_the_same_as_the_whole(steps in prop::collection::vec(any_step(), 0..60)) {
        let [whole, differences] = events_of(&steps);
        let late = share_a_cookie(&steps);
        prop_assert_eq!(seen(&engine(whole), late), seen(&engine(differences), late));
    }
}

fn rows(cookies: std::ops::Range<u64>, expires_ms: u32) -> Vec<CensusRow> {
    cookies.map(|cookie| row(cookie, the_tuple(cookie), CensusState::TimeWait, expires_ms)).collect()
}

#[test]
fn unchanged_sockets_are_reported_once() {
    let mut changes = Changes::default();
    assert!(changes.begin(NETNS, START), "there was no earlier census");
    let mut first = rows(1..1000, 60_000);
    changes.keep(&mut first);
    assert_eq!(first.len(), 999);
    assert_eq!(changes.end(START, true), [0_u64; 0]);
    assert!(!changes.begin(NETNS, START + SECOND));
    let mut second = rows(10..1010, 59_004);
    changes.keep(&mut second);
    assert_eq!(second.iter().map(|row| row.cookie).collect::<Vec<_>>(), (1000..1010).collect::<Vec<_>>());
    assert_eq!(changes.end(START + SECOND, true), (1..10).collect::<Vec<_>>());
    // A timer that restarts, as that of a TIME_WAIT socket in FIN_WAIT2 does.
    assert!(!changes.begin(NETNS, START + 9 * SECOND));
    let mut third = rows(10..12, 60_000);
    changes.keep(&mut third);
    assert_eq!(third.len(), 2);
    assert_eq!(changes.end(START + 9 * SECOND, false), [0_u64; 0], "what an interrupted census lacks may exist");
    assert!(changes.begin(NETNS, START + 99 * SECOND), "the last census is too old");
}

#[test]
fn an_overdue_timer_is_not_reported_again() {
    let mut changes = Changes::default();
    for (second, expected) in [(0, 1), (1, 0), (5, 0), (7, 0)] {
        let at = START + second * SECOND;
        changes.begin(NETNS, at);
        let mut rows = rows(1..2, 1500_u32.saturating_sub(second as u32 * 1000));
        changes.keep(&mut rows);
        assert_eq!(rows.len(), expected, "after {second} s");
        changes.end(at, true);
    }
}

#[test]
fn past_the_bound_a_namespace_is_reported_whole() {
    let mut changes = Changes::new(10);
    for second in 0..3 {
        assert!(changes.begin(NETNS, START + second * SECOND));
        let mut rows = rows(1..21, 60_000);
        changes.keep(&mut rows);
        assert_eq!(rows.len(), 20);
        assert_eq!(changes.end(START + second * SECOND, true), [0_u64; 0]);
    }
    changes.forget(NETNS);
    changes.begin(7, START);
    let mut fits = rows(1..9, 60_000);
    changes.keep(&mut fits);
    changes.end(START, true);
    assert!(!changes.begin(7, START + SECOND), "there is room again");
}
