//! What holds for any inputs.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use twtrace_core::decode::decode;
use twtrace_core::engine::{Engine, EngineConfig, Filter, Limits, Model};
use twtrace_core::input::{
    CensusRow, CensusState, ConnectFailed, Input, KernelCounters, KernelFacts, Life, ProcessFacts, Role, TcpState,
    TwCount,
};
use twtrace_core::model::{Counts, GroupBy, PairRow};

const GROUPINGS: [GroupBy; 5] = [GroupBy::Process, GroupBy::Command, GroupBy::Parent, GroupBy::User, GroupBy::Cgroup];

fn any_state() -> impl Strategy<Value = TcpState> {
    use TcpState::*;
    prop::sample::select(vec![
        Established,
        SynSent,
        SynRecv,
        FinWait1,
        FinWait2,
        TimeWait,
        Close,
        CloseWait,
        LastAck,
        Listen,
        Closing,
    ])
}

prop_compose! {
    fn any_life()(
        cookie in 0_u64..60,
        tgid in prop::option::of(1_u32..40),
        opener in prop::option::of(1_u32..40),
        port in 0_u16..9,
        remote in 0_u8..5,
        netns in prop::sample::select(vec![NETNS, NETNS, NETNS, 7]),
        states in prop::collection::vec(any_state(), 0..9),
        usual: bool,
        errors in (0_u16..120, 0_u16..120),
        flags: [bool; 10],
        tw in prop::option::of((prop::option::of(0_u32..300), 0_u32..300)),
        end in 0_u64..200,
        role in prop::sample::select(vec![Role::Active, Role::Passive, Role::Unknown]),
    ) -> Life {
        let end_ns = START + end * SECOND / 2;
        let mut tuple = tuple(40_000 + port, remote, 80);
        tuple.netns = netns;
        let mut life = life(cookie, owner(1, "a"), tuple, end_ns);
        life.closer = tgid.map(|tgid| owner(tgid, "closer"));
        life.opener = opener.map(|tgid| owner(tgid, "opener"));
        if !usual {
            life.transitions = path(&states, end_ns);
            (life.sk_err, life.connect_errno) = errors;
        }
        life.role = role;
        [
            life.sock_dead, life.sock_done, life.sock_linger, life.rst_sent, life.closed_in_context,
            life.connect_exit, life.older, life.gap, life.established, life.end_unseen,
        ] = flags;
        life.tw = tw.map(|(before, after)| TwCount { before, after, max: 100 });
        life
    }
}

prop_compose! {
    fn any_row()(
        cookie in 0_u64..80,
        port in 0_u16..9,
        remote in 0_u8..5,
        state in prop::sample::select(vec![
            CensusState::TimeWait, CensusState::TimeWait, CensusState::TimewaitFinWait2, CensusState::Open,
            CensusState::Listen,
        ]),
        expires_ms in 0_u32..70_000,
    ) -> CensusRow {
        row(cookie, tuple(40_000 + port, remote, 80), state, expires_ms)
    }
}

prop_compose! {
    fn any_failed()(tgid in 1_u32..40, errno in 0_u16..120, remote in 0_u8..5, at_ns in at_any_time()) -> ConnectFailed {
        ConnectFailed { opener: owner(tgid, "opener"), tuple: tuple(0, remote, 80), errno, at_ns }
    }
}

fn at_any_time() -> impl Strategy<Value = u64> + Clone {
    (0_u64..200).prop_map(|half| START + half * SECOND / 2)
}

fn any_input() -> impl Strategy<Value = Vec<Input>> {
    let at = at_any_time();
    prop_oneof![
        8 => any_life().prop_map(|life| vec![ended(life)]),
        2 => at.clone().prop_map(|at| vec![tick(at)]),
        1 => (at.clone(), prop::collection::vec(any_row(), 0..40)).prop_map(|(at, rows)| census(at, rows)),
        1 => (at.clone(), 0_u64..60).prop_map(|(at_ns, cookie)| vec![Input::ResetSent { cookie, tuple: tuple(0, 1, 80), at_ns }]),
        1 => any::<bool>().prop_map(|full| vec![Input::Counters(KernelCounters {
            ring_full: u64::from(full), ..KernelCounters::default()
        })]),
        1 => at_any_time().prop_map(|at_ns| vec![Input::CensusEnd { at_ns, complete: true }]),
        1 => Just(vec![kernel()]),
        1 => any_failed().prop_map(|failed| vec![Input::ConnectFailed(Box::new(failed))]),
        1 => (any::<(u16, u16)>(), any::<u32>(), any_netns()).prop_map(|(port_range, reserved_in_range, netns)| {
            vec![Input::Kernel { netns, facts: KernelFacts { port_range, reserved_in_range, ..KernelFacts::default() } }]
        }),
        1 => (any_netns(), any::<bool>()).prop_map(|(netns, refused)| vec![Input::Namespace {
            netns, name: "somewhere".to_owned(), refused: refused.then(|| "no".to_owned())
        }]),
        1 => any_netns().prop_map(|netns| vec![Input::NamespaceGone { netns }]),
        1 => (1_u32..40).prop_map(|tgid| vec![
            Input::Process { key: owner(tgid, "").key, facts: ProcessFacts::default() },
            Input::User { uid: tgid % 7, name: "somebody".to_owned() },
        ]),
        1 => (at_any_time(), any_netns()).prop_map(|(at_ns, netns)| vec![Input::CensusBegin { netns, at_ns, whole: true }]),
        1 => at_any_time().prop_map(|at_ns| vec![Input::CensusEnd { at_ns, complete: false }]),
        1 => prop::collection::vec(any_row(), 0..5).prop_map(|rows| vec![Input::CensusRows(rows)]),
    ]
}

fn any_netns() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![NETNS, NETNS, 7])
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    prop::collection::vec(any_input(), 0..120)
        .prop_map(|inputs| [start()].into_iter().chain(inputs.into_iter().flatten()).collect())
}

fn small() -> EngineConfig {
    EngineConfig { limits: Limits { rows: 8, pairs: 8, live: 30 }, ..EngineConfig::default() }
}

/// The figures that must come to the same, however rows are cut.
fn figures(all: impl Iterator<Item = Counts>) -> ([u64; 11], BTreeMap<u16, u64>, u64) {
    let mut errors = BTreeMap::new();
    let mut lifetimes = 0;
    let mut sums = [0; 11];
    for counts in all {
        for (sum, figure) in sums.iter_mut().zip([
            counts.opened,
            counts.accepted,
            counts.closed_first,
            counts.closed_last,
            counts.reset,
            counts.time_wait_made,
            counts.time_wait_live,
            counts.fin_wait2_live,
            counts.bytes_sent,
            counts.bytes_received,
            counts.retransmits,
        ]) {
            *sum += figure;
        }
        for (errno, count) in counts.connect_errors {
            *errors.entry(errno).or_default() += count;
        }
        lifetimes += counts.lifetimes.count();
    }
    (sums, errors, lifetimes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rows_always_add_up_to_the_totals(inputs in inputs(), counted_from in 0_usize..240) {
        let mut engine = Engine::new(EngineConfig { history: true, ..small() });
        for (index, input) in inputs.into_iter().enumerate() {
            engine.apply(input);
            if index == counted_from {
                engine.count_from_now();
            }
            let model = engine.show();
            let totals = figures([model.summary().totals.counts.clone()].into_iter());
            for by in GROUPINGS {
                let rows = figures(model.rows(by).map(|row| row.counts.clone()));
                prop_assert_eq!(&rows, &totals, "{:?}", by);
            }
            prop_assert_eq!(&figures(model.destinations().map(|row| row.counts.clone())), &totals);
            let live = model.live_sockets().count() as u64;
            prop_assert_eq!(totals.0[6], live);
            prop_assert_eq!(model.pairs().map(|pair| pair.time_wait_live).sum::<u64>(), live);
            prop_assert_eq!(model.pairs().map(|pair| pair.time_wait_made).sum::<u64>(), totals.0[5]);
            for row in model.destinations() {
                prop_assert!(row.budget.is_none_or(|budget| budget.utilization >= 0.0));
                prop_assert!(row.counts.rate_per_s >= 0.0);
            }
            // One of nothing is all that may be left of a correction, and then its rows are hidden.
            for pair in model.pairs().filter(|pair| pair.connections + pair.time_wait_made + pair.time_wait_live > 0) {
                // The rest is 0, and shown only when there is one.
                let has = |mut ids: Box<dyn Iterator<Item = u32> + '_>, id| id == 0 || ids.any(|other| other == id);
                let processes = Box::new(model.rows(GroupBy::Process).map(|row| row.id));
                prop_assert!(has(processes, pair.process), "{pair:?}");
                prop_assert!(has(Box::new(model.destinations().map(|row| row.id)), pair.destination), "{pair:?}");
            }
        }
    }

    #[test]
    fn pairs_add_up_to_the_rows_that_they_join(inputs in inputs()) {
        let engine = engine_with(EngineConfig::default(), inputs);
        let model = engine.model();
        let sum = |is: &dyn Fn(&PairRow) -> bool| {
            let pairs = model.pairs().filter(|pair| is(pair));
            pairs.fold((0, 0), |sum, pair| (sum.0 + pair.time_wait_made, sum.1 + pair.time_wait_live))
        };
        for row in model.rows(GroupBy::Process) {
            let pairs = sum(&|pair| pair.process == row.id);
            prop_assert_eq!(pairs, (row.counts.time_wait_made, row.counts.time_wait_live), "{:?}", row.key);
        }
        for row in model.destinations() {
            let pairs = sum(&|pair| pair.destination == row.id);
            prop_assert_eq!(pairs, (row.counts.time_wait_made, row.counts.time_wait_live), "{:?}", row.key);
        }
    }

    #[test]
    fn who_is_alive_does_not_depend_on_since_when_is_counted(inputs in inputs(), counted_from in 0_usize..120) {
        let whole = engine_with(EngineConfig::default(), inputs.clone());
        let mut part = Engine::new(EngineConfig::default());
        for (index, input) in inputs.into_iter().enumerate() {
            part.apply(input);
            if index == counted_from {
                part.count_from_now();
            }
        }
        let (whole, part) = (whole.model(), part.model());
        let live = |model: &Model| {
            let mut live: Vec<_> = model.live_sockets().map(|live| (live.cookie, live.closer, live.substate)).collect();
            live.sort_by_key(|live| live.0);
            live
        };
        prop_assert_eq!(live(part), live(whole));
        for by in GROUPINGS {
            let alive = |model: &Model| {
                let rows = model.rows(by).filter(|row| row.counts.time_wait_live > 0);
                rows.map(|row| (row.key, row.counts.time_wait_live)).collect::<BTreeMap<_, _>>()
            };
            prop_assert_eq!(alive(part), alive(whole), "{:?}", by);
            let processes = whole.rows(GroupBy::Process).count() as u64;
            for row in part.rows(by) {
                prop_assert!(row.processes <= processes, "{:?}: {} of {processes}", row.key, row.processes);
                prop_assert!(row.counts.time_wait_live_peak >= row.counts.time_wait_live);
            }
        }
        let (all, some) = (&whole.summary().totals, &part.summary().totals);
        prop_assert!(some.lives <= all.lives);
        prop_assert!(some.counts.opened <= all.counts.opened);
    }

    #[test]
    fn each_life_ends_once(inputs in inputs()) {
        let of = |is: fn(&Input) -> bool| inputs.iter().filter(|input| is(input)).count() as u64;
        let lives = of(|input| matches!(input, Input::Life(_)));
        let failed = of(|input| matches!(input, Input::ConnectFailed(_)));
        let engine = engine_with(small(), inputs);
        let totals = &engine.model().summary().totals;
        prop_assert_eq!(totals.lives, lives);
        prop_assert_eq!(totals.outcomes.values().sum::<u64>(), lives + failed);
        let coverage = engine.model().summary().coverage;
        prop_assert_eq!(coverage.census, coverage.attributed + coverage.before_start + coverage.unattributed);
        prop_assert!((0.0..=1.0).contains(&coverage.ratio()));
    }

    #[test]
    fn the_same_inputs_give_the_same_model(inputs in inputs()) {
        let first = format!("{:?}", engine_with(small(), inputs.clone()).model());
        let second = format!("{:?}", engine_with(small(), inputs).model());
        prop_assert_eq!(first, second);
    }

    #[test]
    fn a_filter_only_takes_away(inputs in inputs(), pid in 1_u32..40, port in 40_000_u16..40_009) {
        let filter = Filter { pids: vec![pid], ports: vec![port], ..Filter::default() };
        let all = engine_with(EngineConfig::default(), inputs.clone());
        let some = engine_with(EngineConfig { filter, ..EngineConfig::default() }, inputs);
        let (all, some) = (all.model().summary(), some.model().summary());
        prop_assert!(some.totals.counts.time_wait_made <= all.totals.counts.time_wait_made);
        prop_assert!(some.totals.counts.opened <= all.totals.counts.opened);
        prop_assert_eq!(some.coverage, all.coverage);
        prop_assert_eq!(&some.totals.outcomes, &all.totals.outcomes);
    }

    #[test]
    fn any_bytes_are_an_input_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0_u8..5) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let _ = decode(&bytes);
    }
}
