//! Properties that are true for any events.

use crate::common::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use twtrace_core::decode::decode;
use twtrace_core::event::{
    CensusRow, CensusState, Connection, Event, KernelCounters, KernelFacts, ProcessFacts, Role, TcpState, TwCount,
};
use twtrace_core::snapshot::{Counts, GROUPINGS, GroupBy, Share, Snapshot};
use twtrace_core::state::{Config, Filter, Limits, State};
use twtrace_core::what_if::{Change, Demands};

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
    fn any_connection()(
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
    ) -> Connection {
        let end_ns = START + end * SECOND / 2;
        let mut tuple = tuple(40_000 + port, remote, 80);
        tuple.netns = netns;
        let mut connection = connection(cookie, owner(1, "a"), tuple, end_ns);
        connection.closer = tgid.map(|tgid| owner(tgid, "closer"));
        connection.opener = opener.map(|tgid| owner(tgid, "opener"));
        if !usual {
            connection.transitions = path(&states, end_ns);
            (connection.sk_err, connection.connect_errno) = errors;
        }
        connection.role = role;
        [
            connection.sock_dead, connection.sock_done, connection.sock_linger, connection.rst_sent, connection.closed_in_context,
            connection.connect_exit, connection.older, connection.gap, connection.established, connection.end_unseen,
        ] = flags;
        connection.tw = tw.map(|(before, after)| TwCount { before, after, max: 100 });
        connection
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
    fn any_failed()(tgid in 1_u32..40, errno in 0_u16..120, remote in 0_u8..5, at_ns in at_any_time()) -> Event {
        connect_failed(owner(tgid, "opener"), tuple(0, remote, 80), errno, at_ns)
    }
}

fn at_any_time() -> impl Strategy<Value = u64> + Clone {
    (0_u64..200).prop_map(|half| START + half * SECOND / 2)
}

fn any_event() -> impl Strategy<Value = Vec<Event>> {
    let at = at_any_time();
    prop_oneof![
        8 => any_connection().prop_map(|connection| vec![ended(connection)]),
        2 => at.clone().prop_map(|at| vec![tick(at)]),
        1 => (at.clone(), prop::collection::vec(any_row(), 0..40)).prop_map(|(at, rows)| census(at, rows)),
        1 => (at.clone(), 0_u64..60).prop_map(|(at_ns, cookie)| vec![Event::ResetSent { cookie, tuple: tuple(0, 1, 80), at_ns }]),
        1 => any::<bool>().prop_map(|full| vec![Event::Counters(KernelCounters {
            ring_full: u64::from(full), ..KernelCounters::default()
        })]),
        1 => at_any_time().prop_map(|at_ns| vec![Event::SocketDumpEnd { at_ns, complete: true }]),
        1 => Just(vec![kernel()]),
        1 => any_failed().prop_map(|failed| vec![failed]),
        1 => (any::<(u16, u16)>(), any::<u32>(), any_netns()).prop_map(|(port_range, reserved_in_range, netns)| {
            vec![Event::Kernel { netns, facts: KernelFacts { port_range, reserved_in_range, ..KernelFacts::default() } }]
        }),
        1 => (any_netns(), any::<bool>()).prop_map(|(netns, refused)| vec![Event::Namespace {
            inode: netns,
            netns, name: "somewhere".to_owned(), refused: refused.then(|| "no".to_owned())
        }]),
        1 => any_netns().prop_map(|netns| vec![Event::NamespaceGone { netns }]),
        1 => (1_u32..40).prop_map(|tgid| vec![
            Event::Process { key: owner(tgid, "").key, facts: ProcessFacts::default() },
            Event::User { uid: tgid % 7, name: "alice".to_owned() },
        ]),
        1 => (at_any_time(), any_netns()).prop_map(|(at_ns, netns)| vec![Event::SocketDumpBegin { netns, at_ns, whole: true }]),
        1 => at_any_time().prop_map(|at_ns| vec![Event::SocketDumpEnd { at_ns, complete: false }]),
        1 => prop::collection::vec(any_row(), 0..5).prop_map(|rows| vec![Event::SocketDump(rows)]),
    ]
}

fn any_netns() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![NETNS, NETNS, 7])
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(any_event(), 0..120)
        .prop_map(|events| [start()].into_iter().chain(events.into_iter().flatten()).collect())
}

fn small() -> Config {
    Config { limits: Limits { rows: 8, cells: 8, live: 30 }, ..Config::default() }
}

/// The figures that must be the same for every grouping of rows.
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
            counts.time_wait_created,
            counts.time_wait_live,
            counts.fin_wait2_live,
            counts.bytes_sent,
            counts.bytes_received,
            counts.retransmits,
        ]) {
            *sum += figure;
        }
        for (errno, count) in counts.errors {
            *errors.entry(errno).or_default() += count;
        }
        lifetimes += counts.lifetimes.count();
    }
    (sums, errors, lifetimes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rows_always_add_up_to_the_totals(events in events(), counted_from in 0_usize..240) {
        let mut engine = State::new(Config { history: true, ..small() });
        for (index, event) in events.into_iter().enumerate() {
            engine.apply(event);
            if index == counted_from {
                engine.count_from_now();
            }
            let model = engine.snapshot();
            let totals = figures([model.summary().totals.counts.clone()].into_iter());
            for by in GROUPINGS.iter().map(|grouping| grouping.by) {
                let rows = figures(model.rows(by).iter().map(|row| row.counts.clone()));
                prop_assert_eq!(&rows, &totals, "{:?}", by);
            }
            prop_assert_eq!(&figures(model.destinations().iter().map(|row| row.counts.clone())), &totals);
            let live = model.sockets().len() as u64;
            prop_assert_eq!(totals.0[6], live);
            for row in model.destinations().iter() {
                prop_assert!(row.budget.is_none_or(|budget| budget.utilization >= 0.0));
                prop_assert!(row.counts.created_per_s >= 0.0);
            }
        }
    }

    #[test]
    fn shares_add_up_to_the_rows_that_they_join(events in events()) {
        let model = engine_with(small(), events).snapshot();
        let sum = |shares: &mut dyn Iterator<Item = Share>| {
            shares.fold((0, 0), |sum, share| (sum.0 + share.time_wait_created, sum.1 + share.time_wait_live))
        };
        for by in GROUPINGS.iter().map(|grouping| grouping.by) {
            for row in model.rows(by) {
                // A row of a namespace or of a destination consists of whole destinations.
                let shares = sum(&mut model.destinations_of(by, row).into_iter().map(|(_, share)| share));
                prop_assert_eq!(shares, (row.counts.time_wait_created, row.counts.time_wait_live), "{:?}", row.key);
            }
        }
        for row in model.destinations() {
            let shares = sum(&mut model.processes_of(row.id).into_iter().map(|(_, share)| share));
            prop_assert_eq!(shares, (row.counts.time_wait_created, row.counts.time_wait_live), "{:?}", row.key);
        }
    }

    #[test]
    fn who_is_alive_does_not_depend_on_since_when_is_counted(events in events(), counted_from in 0_usize..120) {
        let whole = engine_with(Config::default(), events.clone());
        let mut part = State::new(Config::default());
        for (index, event) in events.into_iter().enumerate() {
            part.apply(event);
            if index == counted_from {
                part.count_from_now();
            }
        }
        let (whole, part) = (whole.snapshot(), part.snapshot());
        let live = |model: &Snapshot| {
            let mut live: Vec<_> = model.sockets().iter().map(|live| (live.cookie, live.closer, live.substate)).collect();
            live.sort_by_key(|live| live.0);
            live
        };
        prop_assert_eq!(live(&part), live(&whole));
        for by in GROUPINGS.iter().map(|grouping| grouping.by) {
            let alive = |model: &Snapshot| {
                let rows = model.rows(by).iter().filter(|row| row.counts.time_wait_live > 0);
                rows.map(|row| (row.key.clone(), row.counts.time_wait_live)).collect::<BTreeMap<_, _>>()
            };
            prop_assert_eq!(alive(&part), alive(&whole), "{:?}", by);
            let processes = whole.rows(GroupBy::Pid).len() as u64;
            for row in part.rows(by).iter() {
                prop_assert!(row.processes <= processes, "{:?}: {} of {processes}", row.key, row.processes);
                prop_assert!(row.counts.time_wait_live_peak >= row.counts.time_wait_live);
            }
        }
        let (all, some) = (&whole.summary().totals, &part.summary().totals);
        prop_assert!(some.connections <= all.connections);
        prop_assert!(some.counts.opened <= all.counts.opened);
    }

    #[test]
    fn whatever_was_recorded_can_happen_once_more(events in events()) {
        let mut demands = Demands::new(Filter::default());
        events.iter().for_each(|event| demands.apply(event));
        let asked = events.iter().filter(|event| matches!(event, Event::Connection(_) | Event::BindFailed(_))).count();
        for changes in [
            &[][..],
            &[Change::Pool(2), Change::KeepAlive(3), Change::Limit(1)],
            &[Change::Reuse(1), Change::Range(1, 9), Change::Addresses(2), Change::Buckets(1)],
        ] {
            let outcome = demands.run(changes);
            prop_assert_eq!(&outcome, &demands.run(changes));
            prop_assert!(outcome.opened + outcome.failed <= asked as u64);
            prop_assert!(outcome.fullest.is_none_or(|fullest| fullest.ports <= fullest.total));
        }
    }

    #[test]
    fn each_connection_ends_once(events in events()) {
        let of = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count() as u64;
        let connections = of(|event| matches!(event, Event::Connection(_)));
        let failed = of(|event| matches!(event, Event::ConnectFailed(_)));
        let engine = engine_with(small(), events);
        let totals = &engine.summary().totals;
        prop_assert_eq!(totals.connections, connections);
        prop_assert_eq!(totals.outcomes.values().sum::<u64>(), connections + failed);
        let coverage = engine.summary().coverage;
        prop_assert_eq!(coverage.census, coverage.attributed + coverage.before_start + coverage.unattributed);
        prop_assert!((0.0..=1.0).contains(&coverage.ratio()));
    }

    #[test]
    fn the_same_events_give_the_same_snapshot(events in events()) {
        let first = format!("{:?}", engine_with(small(), events.clone()).snapshot());
        let second = format!("{:?}", engine_with(small(), events).snapshot());
        prop_assert_eq!(first, second);
    }

    #[test]
    fn a_filter_only_takes_away(events in events(), pid in 1_u32..40, port in 40_000_u16..40_009) {
        let filter = Filter { pids: vec![pid], ports: vec![port], ..Filter::default() };
        let all = engine_with(Config::default(), events.clone());
        let some = engine_with(Config { filter, ..Config::default() }, events);
        let (all, some) = (all.summary(), some.summary());
        prop_assert!(some.totals.counts.time_wait_created <= all.totals.counts.time_wait_created);
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
