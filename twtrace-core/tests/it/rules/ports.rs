//! Ports that run out, and ports that are bound.

use super::*;
use crate::common::*;
use twtrace_core::event::{Binding, CensusState, Connection, Event, Owner, ProcessKey, SocketOwner};
use twtrace_core::evidence::Value;
use twtrace_core::finding::{Confidence, Rule, Severity};
use twtrace_core::state::{Config, Filter, State};

fn exhausted(tw_reuse: u8) -> State {
    let client = owner(10, "client");
    let fills = many(client, 200, 10, START, one_shot).into_iter();
    let fails = many(client, 50, 10, START + 2 * SECOND, no_port).into_iter();
    let begin = [start(), small_range(200, tw_reuse)].into_iter();
    engine(begin.chain(fills).chain(fails).chain([tick(START + 3 * SECOND)]))
}

#[test]
fn exhaustion_is_reached() {
    let mut engine = exhausted(0);
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.severity, finding.active), (Rule::ExhaustionReached, Severity::Critical, true));
    assert_eq!((pid(&finding), finding.cause), (Some(10), Some(Rule::NoConnectionReuse)));
    assert_eq!(evidence(&finding, "failures"), Value::Count(50));
    assert_eq!(evidence(&finding, "ports_time_wait"), Value::Count(200));
    assert_eq!(evidence(&finding, "ports_available"), Value::Count(0));
    assert_eq!(finding.advice[0].id, "pool-connections", "removing the cause comes first");
    // 200 ports, each free again after one second.
    let (from, to) = effect(&finding, "tcp-tw-reuse", "max_rate_per_s");
    assert!((from - 200.0 / 60.0).abs() < 0.01 && to == 200.0, "{from} to {to}");
    let (from, to) = effect(&finding, "wider-port-range", "ports_total");
    assert_eq!((from, to), (200.0, 64_512.0));
    let reuse = finding.advice.iter().find(|advice| advice.id == "tcp-tw-reuse").unwrap();
    assert_eq!(reuse.command.as_deref(), Some("sysctl -w net.ipv4.tcp_tw_reuse=1"));
    // No process tries to connect any more, and the ports are not free yet.
    engine.apply(tick(START + 20 * SECOND));
    assert_eq!(rules(&mut engine), [Rule::ExhaustionReached]);
    engine.apply(tick(START + 90 * SECOND));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.severity, finding.active), (Rule::ExhaustionReached, Severity::Warning, false));
}

#[test]
fn what_is_on_already_is_not_advised() {
    let finding = only(&mut exhausted(1));
    assert!(finding.advice.iter().all(|advice| advice.id != "tcp-tw-reuse"), "{:?}", finding.advice);
}

#[test]
fn ports_that_open_connections_have_are_not_time_wait() {
    let client = owner(10, "client");
    let open = (40_000..40_200).map(|port| row(u64::from(port), tuple(port, 1, 80), CensusState::Established, 0));
    let events = [start(), small_range(200, 0)].into_iter().chain(census(START + SECOND, open.collect())).chain(many(
        client,
        50,
        10,
        START + 2 * SECOND,
        no_port,
    ));
    let finding = only(&mut engine(events.chain([tick(START + 3 * SECOND)])));
    assert_eq!((finding.rule, pid(&finding)), (Rule::ExhaustionReached, Some(10)));
    assert_eq!(evidence(&finding, "verdict"), Value::Text("this is not TIME_WAIT".to_owned()));
    assert_eq!(finding.advice[0].id, "close-sockets");
}

#[test]
fn exhaustion_is_near() {
    // 50/s for four seconds: 200 of 1,000 ports are taken, and the rest last for 16 s.
    let fills = many(owner(10, "client"), 200, 20, START, one_shot).into_iter();
    let begin = [start(), small_range(1000, 0)].into_iter();
    let mut engine = engine(begin.chain(fills).chain([tick(START + 4 * SECOND)]));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.severity), (Rule::ExhaustionNear, Severity::Critical));
    assert_eq!((pid(&finding), finding.cause), (Some(10), Some(Rule::NoConnectionReuse)));
    let Value::Number(seconds) = evidence(&finding, "seconds_to_exhaustion_estimated") else { panic!("no number") };
    assert!((seconds - 16.0).abs() < 0.8, "{seconds}");
}

#[test]
fn a_burst_is_no_forecast() {
    // 100 within the last two seconds: at that rate the ports would be gone in a quarter of a minute.
    let fills = many(owner(10, "client"), 100, 20, START, |n, who, end_ns| Connection {
        bytes_sent: 100_000,
        ..one_shot(n, who, end_ns)
    });
    let begin = [start(), small_range(1000, 0)].into_iter();
    let mut engine = engine(begin.chain(fills).chain([tick(START + 2 * SECOND)]));
    assert_eq!(rules(&mut engine), []);
    let budget = engine.snapshot().destinations().iter().next().unwrap().budget.unwrap();
    assert!(budget.seconds_to_exhaustion.is_some() && budget.latest_seconds.is_none(), "{budget:?}");
}

#[test]
fn a_rate_that_tcp_tw_reuse_sustains_exhausts_nothing() {
    let fills = many(owner(10, "client"), 200, 20, START, one_shot).into_iter();
    let begin = [start(), small_range(1000, 1)].into_iter();
    assert_eq!(rules(&mut engine(begin.chain(fills).chain([tick(START + 4 * SECOND)]))), [Rule::NoConnectionReuse]);
}

#[test]
fn a_port_that_is_bound_is_taken_from_all_destinations() {
    let proxy = owner(10, "proxy");
    let bound = |port: u16| Event::BoundConnect {
        cookie: 9_000_000 + u64::from(port),
        tuple: tuple(port, 1, 80),
        at_ns: START + SECOND,
    };
    let events = [start(), small_range(200, 0)]
        .into_iter()
        .chain((40_050..40_110).map(bound))
        .chain(stays(1..3, CensusState::Established, 40_050..40_110))
        .chain([socket_owners(START + 3 * SECOND, vec![owner_row(&proxy, CensusState::Established, 0, (1, 80), 60)])]);
    let mut engine = engine(events);
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.severity, pid(&finding)), (Rule::BindBeforeConnect, Severity::Info, Some(10)));
    let (from, to) = effect(&finding, "bind-address-no-port", "ports_bound");
    assert_eq!((from, to), (60.0, 0.0));
    // For another destination these ports count as taken.
    engine.apply(ended(Connection { tuple: tuple(40_199, 2, 80), ..one_shot(900, proxy, START + 3 * SECOND) }));
    let model = engine.snapshot();
    let budgets: Vec<_> = model.destinations().iter().map(|row| row.budget.unwrap()).collect();
    let with_established = |tuples: u32| budgets.iter().find(|budget| budget.established == tuples).unwrap();
    assert_eq!((with_established(60).bound, with_established(60).used, with_established(60).available), (0, 60, 140));
    assert_eq!((with_established(0).bound, with_established(0).used, with_established(0).available), (60, 61, 139));
}

#[test]
fn no_advice_is_a_folk_remedy() {
    for mut engine in [exhausted(0), exhausted(2)] {
        for advice in &only(&mut engine).advice {
            let command = advice.command.clone().unwrap_or_default();
            for folk in ["tcp_tw_recycle", "tcp_fin_timeout", "SO_LINGER"] {
                assert!(!command.contains(folk), "{command}");
            }
            assert!(!advice.risk.is_empty() && !advice.text.is_empty());
        }
    }
}

#[test]
fn how_the_local_side_was_chosen_is_distinguished() {
    let with = |n, binding| {
        ended(Connection { binding, bytes_sent: 100_000, ..one_shot(n, owner(10, "app"), START + n * 100 * MS) })
    };
    let address = Binding { address: true, ..Binding::default() };
    let engine = state_after([
        with(1, Binding::default()),
        with(2, address),
        with(3, Binding { port: true, ..address }),
        with(4, Binding { range: Some((50_000, 50_010)), ..Binding::default() }),
        with(5, Binding { port: true, ..Binding::default() }),
    ]);
    let shown = engine.snapshot();
    let row = shown.destinations().iter().next().unwrap();
    let pattern = &row.pattern;
    assert_eq!((pattern.bound, pattern.bound_without_port, pattern.own_range, pattern.opened), (2, 1, 1, 5));
}

#[test]
fn the_process_that_created_most_is_named() {
    // A monitor connects now and then; the application takes the ports. Its PID is higher, and its requests are large.
    let large = |n, who, end_ns| Connection { bytes_sent: 100_000, ..one_shot(n, who, end_ns) };
    let (monitor, app) = (owner(10, "monitor"), owner(5000, "app"));
    let events = |one: fn(u64, Owner, u64) -> Connection| {
        let fills = many(app, 200, 20, START, one).into_iter().chain(many(monitor, 25, 150, START, one_shot));
        let mut fills: Vec<_> = fills.collect();
        fills.sort_by_key(|event| if let Event::Connection(connection) = event { connection.end_ns } else { 0 });
        let fails = many(app, 50, 10, START + 4 * SECOND, no_port);
        [start(), small_range(225, 0)].into_iter().chain(fills).chain(fails).chain([tick(START + 5 * SECOND)])
    };
    for (one, cause) in [(one_shot as fn(u64, Owner, u64) -> Connection, Some(Rule::NoConnectionReuse)), (large, None)]
    {
        let engine = engine(events(one));
        let shown = engine.snapshot();
        let found = shown.findings();
        let reached = found.iter().find(|finding| finding.rule == Rule::ExhaustionReached).unwrap();
        assert_eq!((pid(reached), reached.cause), (Some(5000), cause), "{reached:#?}");
        // The monitor's habit is reported separately.
        let other = found.iter().find(|finding| finding.rule == Rule::NoConnectionReuse).unwrap();
        assert_eq!(pid(other), Some(10));
    }
}

#[test]
fn who_had_the_ports_is_not_forgotten() {
    let mut engine = exhausted(0);
    // Two minutes later all ports are free again, except for one open connection.
    for event in census(START + 120 * SECOND, vec![row(7, tuple(40_000, 1, 80), CensusState::Established, 0)]) {
        engine.apply(event);
    }
    engine.apply(tick(START + 125 * SECOND));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.active), (Rule::ExhaustionReached, false));
    assert!(finding.title.contains("TIME_WAIT sockets use the ports"), "{}", finding.title);
    assert_eq!(evidence(&finding, "ports_time_wait"), Value::Count(200));
    assert_eq!(engine.snapshot().destinations().iter().next().unwrap().budget.unwrap().time_wait, 0);
}

/// One census per second, each with this number of connections.
fn grows(numbers: &[u16]) -> Vec<Event> {
    let open = |at: usize, number: u16| {
        let ports = 40_000..40_000 + number;
        let rows = ports.map(|port| row(u64::from(port), tuple(port, 1, 80), CensusState::Established, 0));
        census(START + at as u64 * SECOND, rows.collect())
    };
    numbers.iter().enumerate().flat_map(|(at, number)| open(at + 1, *number)).collect()
}

#[test]
fn connections_that_are_never_closed_use_up_the_ports() {
    // Ten more each second, and none ends: the last of 4,000 ports is taken after more than six minutes.
    let begin = [start(), small_range(4000, 0)];
    let mut leak = engine(begin.into_iter().chain(grows(&[180, 190, 200, 210, 220])));
    let finding = only(&mut leak);
    assert_eq!((finding.rule, finding.severity), (Rule::ExhaustionNear, Severity::Warning));
    assert!(finding.title.contains("this is not TIME_WAIT"), "{}", finding.title);
    assert_eq!(finding.advice[0].id, "close-sockets");
    let Value::Number(seconds) = evidence(&finding, "seconds_to_exhaustion_estimated") else { panic!("no number") };
    assert!((seconds - 378.0).abs() < 1.0, "{seconds}");
    assert_eq!(evidence(&finding, "open_growth_per_s"), Value::Number(10.0));

    // Opening all at once, as after a restart, is no growth.
    let begin = [start(), small_range(4000, 0)];
    assert_eq!(rules(&mut engine(begin.into_iter().chain(grows(&[0, 0, 2000, 2000])))), []);
}

#[test]
fn timewait_sockets_of_bound_ports_are_not_taken_over() {
    let bound = |n, who, end_ns| Connection {
        binding: Binding { port: true, ..Binding::default() },
        sock_done: true,
        ..one_shot(n, who, end_ns)
    };
    let begin = [start(), small_range(1000, 1)].into_iter();
    let fills = many(owner(10, "client"), 100, 20, START, bound);
    let engine = engine(begin.chain(fills).chain([tick(START + 10 * SECOND)]));
    let budget = engine.snapshot().destinations().iter().next().unwrap().budget.unwrap();
    assert_eq!((budget.time_wait, budget.reusable, budget.available), (100, 0, 900));
    assert_eq!((budget.hold_seconds, budget.max_rate_per_s.round()), (60.0, 17.0));
}

#[test]
fn timewait_sockets_of_peers_without_timestamps_are_not_taken_over() {
    let from = |peer_timestamps| {
        move |n, who, end_ns| Connection { peer_timestamps, sock_done: true, ..one_shot(n, who, end_ns) }
    };
    let budget_with = |peer_timestamps| {
        let begin = [start(), small_range(1000, 1)].into_iter();
        let fills = many(owner(10, "client"), 100, 20, START, from(peer_timestamps));
        let engine = engine(begin.chain(fills).chain([tick(START + 10 * SECOND)]));
        engine.snapshot().destinations().iter().next().unwrap().budget.unwrap()
    };
    let with = budget_with(Some(true));
    assert_eq!((with.reusable, with.available, with.without_timestamps), (100, 1000, 0));
    assert_eq!((with.hold_seconds, with.lacks_timestamps()), (1.0, false));
    let without = budget_with(Some(false));
    assert_eq!((without.reusable, without.available, without.without_timestamps), (0, 900, 100));
    assert_eq!((without.hold_seconds, without.max_rate_per_s.round()), (60.0, 17.0));
    assert!(without.lacks_timestamps());
    assert_eq!(budget_with(None), with, "where it is not known, the sysctl decides");
}

#[test]
fn reuse_is_not_advised_where_the_peer_has_no_timestamps() {
    let fills = |peer_timestamps| {
        let from = move |n, who, end_ns| Connection { peer_timestamps, sock_done: true, ..one_shot(n, who, end_ns) };
        let events = many(owner(10, "client"), 900, 100, START, from);
        let mut engine =
            engine([start(), small_range(1000, 0)].into_iter().chain(events).chain([tick(START + 9 * SECOND)]));
        let finding = only(&mut engine);
        assert_eq!(finding.rule, Rule::ExhaustionNear);
        finding
    };
    let advises = |finding: &Finding| finding.advice.iter().any(|advice| advice.id == "tcp-tw-reuse");
    let (with, without) = (fills(Some(true)), fills(Some(false)));
    assert!(advises(&with) && !advises(&without));
    assert_eq!(evidence(&without, "ports_without_timestamps"), evidence(&without, "ports_time_wait"));
}

#[test]
fn ports_that_are_taken_over_count_for_the_rate() {
    // 100 ports are reused again and again, each more than a second after its last use.
    let again =
        |n: u64, who, end_ns| Connection { tuple: tuple(40_000 + (n % 100) as u16, 1, 80), ..one_shot(n, who, end_ns) };
    let begin = [start(), small_range(100, 1)].into_iter();
    let fills = many(owner(10, "client"), 700, 11, START, again);
    let engine = engine(begin.chain(fills).chain([tick(START + 7 * SECOND + 700 * MS)]));
    let budget = engine.snapshot().destinations().iter().next().unwrap().budget.unwrap();
    assert!((budget.rate_per_s - 90.9).abs() < 1.0, "{}", budget.rate_per_s);
    assert_eq!(budget.max_rate_per_s, 100.0);
}

#[test]
fn nearly_all_ports_are_worth_a_word_when_they_have_come_back() {
    let large = |n, who, end_ns| Connection { bytes_sent: 100_000, ..one_shot(n, who, end_ns) };
    let begin = [start(), small_range(200, 0)].into_iter();
    let fills = many(owner(10, "client"), 180, 10, START, large);
    let mut engine = engine(begin.chain(fills).chain([tick(START + 20 * SECOND)]));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.active, pid(&finding)), (Rule::ExhaustionNear, true, Some(10)));
    engine.apply(tick(START + 90 * SECOND));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.active), (Rule::ExhaustionNear, false));
    assert_eq!(evidence(&finding, "time_wait_live_peak"), Value::Count(180));
}

#[test]
fn commands_act_on_the_namespace_that_they_are_about() {
    const OTHER: u32 = 77;
    let there = |n, who, end_ns| {
        let connection = one_shot(n, who, end_ns);
        connection.with(|connection| connection.tuple.netns = OTHER)
    };
    let failed = |n, who, end_ns| {
        let connection = no_port(n, who, end_ns);
        connection.with(|connection| connection.tuple.netns = OTHER)
    };
    let Event::Kernel { facts, .. } = small_range(200, 0) else { panic!("no facts") };
    let events = |who: Owner| {
        let begin = [start(), Event::Kernel { netns: OTHER, facts: facts.clone() }].into_iter();
        let fills = many(who, 200, 10, START, there).into_iter();
        begin.chain(fills).chain(many(who, 50, 10, START + 2 * SECOND, failed)).chain([tick(START + 3 * SECOND)])
    };
    let command = |engine: &mut State| {
        let finding = only(engine);
        finding.advice.iter().find(|advice| advice.id == "tcp-tw-reuse").unwrap().command.clone().unwrap()
    };
    let client = owner(10, "client");
    assert_eq!(command(&mut engine(events(client))), "nsenter -t 10 -n sysctl -w net.ipv4.tcp_tw_reuse=1");
    // A process known to be there is better than one that may have exited.
    let shell = SocketOwner { netns: OTHER, ..owner_row(&owner(5, "init"), CensusState::Listen, 80, (0, 0), 1) };
    let mut with_process = engine(events(client).chain([socket_owners(START + 3 * SECOND, vec![shell])]));
    assert_eq!(command(&mut with_process), "nsenter -t 5 -n sysctl -w net.ipv4.tcp_tw_reuse=1");
    // If no process is known, the command searches for one; it never uses this host's own namespace.
    let child = |n: u64| Owner { key: ProcessKey { tgid: 1000 + n as u32, start_ns: START + n * 10 * MS }, ..client };
    let fills = (0..200).map(|n| ended(there(n, child(n), START + n * 10 * MS)));
    let fails = (200..250).map(|n| ended(failed(n, child(n), START + n * 10 * MS)));
    let begin = [start(), Event::Kernel { netns: OTHER, facts: facts.clone() }].into_iter();
    let mut forks = engine(begin.chain(fills).chain(fails).chain([tick(START + 3 * SECOND)]));
    let searched = command(&mut forks);
    assert!(searched.contains("nsenter -t "), "{searched}");
}

#[test]
fn a_range_of_the_sockets_own_is_not_the_namespaces() {
    let failed = |n, who, end_ns| Connection {
        binding: Binding { range: Some((50_000, 50_010)), ..Binding::default() },
        ..no_port(n, who, end_ns)
    };
    let events = many(owner(10, "client"), 50, 10, START, failed).into_iter();
    let finding = only(&mut state_after(events.chain([tick(START + SECOND)])));
    assert_eq!(finding.rule, Rule::ExhaustionReached);
    assert!(finding.title.contains("IP_LOCAL_PORT_RANGE"), "{}", finding.title);
    assert_eq!(finding.advice.len(), 1, "{:?}", finding.advice);
    assert!(finding.advice[0].command.is_none() && finding.advice[0].effect.is_empty());
    assert!(finding.evidence.iter().all(|it| !["ports_total", "verdict"].contains(&it.kind().name)));
}

#[test]
fn a_process_that_created_a_few_is_not_named_for_older_sockets() {
    // 190 of 200 are older than the trace; one process creates the rest, and another one finds no port.
    let old = (0..190).map(|n| row(7_000 + n, tuple(40_000 + n as u16, 1, 80), CensusState::TimeWait, 50_000));
    let few = many(owner(10, "few"), 10, 10, START + 2 * SECOND, |n, who, end_ns| one_shot(190 + n, who, end_ns));
    let fails = many(owner(20, "victim"), 50, 10, START + 3 * SECOND, no_port);
    let begin = [start(), small_range(200, 0)].into_iter().chain(census(START + SECOND, old.collect()));
    let finding = only(&mut engine(begin.chain(few).chain(fails).chain([tick(START + 4 * SECOND)])));
    assert_eq!((finding.rule, pid(&finding)), (Rule::ExhaustionReached, Some(20)));
    assert!(finding.title.contains("TIME_WAIT sockets use the ports"), "{}", finding.title);
}

#[test]
fn connections_younger_than_the_census_are_not_taken_for_time_wait() {
    // The last census saw no connections, and then two hundred were opened at once.
    let client = owner(10, "client");
    let begin = [start(), small_range(200, 0)].into_iter().chain(census(START + SECOND, Vec::new()));
    let fails = many(client, 50, 1, START + 2 * SECOND, no_port);
    let mut engine = engine(begin.chain(fails).chain([tick(START + 3 * SECOND)]));
    let finding = only(&mut engine);
    assert!(finding.title.contains("what has the ports is not known yet"), "{}", finding.title);
    assert_eq!((finding.advice[0].id, finding.confidence), ("trace-more", Confidence::Low));
    assert_eq!(evidence(&finding, "ports_not_seen"), Value::Count(200));
    assert!(finding.evidence.iter().all(|it| it.kind().name != "verdict"), "it was not seen: {:?}", finding.evidence);
    // The next census shows them, and connects still fail.
    let open = (40_000..40_200).map(|port| row(u64::from(port), tuple(port, 1, 80), CensusState::Established, 0));
    let events = census(START + 4 * SECOND, open.collect()).into_iter();
    for event in events.chain(many(client, 5, 10, START + 5 * SECOND, |n, who, at| no_port(100 + n, who, at))) {
        engine.apply(event);
    }
    engine.apply(tick(START + 6 * SECOND));
    let finding = only(&mut engine);
    assert_eq!(evidence(&finding, "ports_established"), Value::Count(200));
    assert_eq!(evidence(&finding, "verdict"), Value::Text("this is not TIME_WAIT".to_owned()));
}

#[test]
fn a_later_episode_is_reported_by_itself() {
    let mut engine = exhausted(0);
    assert!(only(&mut engine).title.contains("TIME_WAIT sockets use the ports"));
    // An hour later, open connections use the ports.
    let open = (40_000..40_200).map(|port| row(u64::from(port), tuple(port, 1, 80), CensusState::Established, 0));
    let hour = START + 3600 * SECOND;
    let fails = many(owner(10, "client"), 3, 10, hour + SECOND, |n, who, at| no_port(100 + n, who, at));
    for event in census(hour, open.collect()).into_iter().chain(fails).chain([tick(hour + 2 * SECOND)]) {
        engine.apply(event);
    }
    let shown = engine.snapshot();
    let reached = &shown.findings()[0];
    assert_eq!((reached.rule, reached.active), (Rule::ExhaustionReached, true));
    assert!(reached.title.contains("this is not TIME_WAIT"), "{}", reached.title);
}

#[test]
fn what_a_filter_hides_takes_ports_all_the_same() {
    let filter = Filter { pids: vec![10], ..Filter::default() };
    let mut engine = State::new(Config { filter, ..Config::default() });
    let other = many(owner(20, "other"), 200, 20, START, one_shot).into_iter();
    let shown = many(owner(10, "shown"), 5, 800, START, |n, who, end_ns| one_shot(300 + n, who, end_ns));
    let mut connections: Vec<_> = other.chain(shown).collect();
    connections.sort_by_key(|event| if let Event::Connection(connection) = event { connection.end_ns } else { 0 });
    for event in [start(), small_range(1000, 0)].into_iter().chain(connections).chain([tick(START + 4 * SECOND)]) {
        engine.apply(event);
    }
    let budget = engine.snapshot().destinations().iter().next().unwrap().budget.unwrap();
    assert!((budget.rate_per_s - 51.0).abs() < 2.0, "{}", budget.rate_per_s);
}

#[test]
fn timewait_sockets_of_bound_ports_are_not_to_be_reused() {
    let bound = |n, who, end_ns| Connection {
        binding: Binding { port: true, ..Binding::default() },
        bytes_sent: 100_000,
        ..one_shot(n, who, end_ns)
    };
    let client = owner(10, "client");
    let fills = many(client, 200, 10, START, bound).into_iter();
    let fails = many(client, 50, 10, START + 2 * SECOND, no_port).into_iter();
    let begin = [start(), small_range(200, 0)].into_iter();
    let engine = engine(begin.chain(fills).chain(fails).chain([tick(START + 3 * SECOND)]));
    let shown = engine.snapshot();
    let found = shown.findings();
    let reached = found.iter().find(|finding| finding.rule == Rule::ExhaustionReached).unwrap();
    assert_eq!(reached.advice[0].id, "bind-address-no-port");
    assert!(reached.advice.iter().all(|advice| advice.id != "tcp-tw-reuse"), "{:?}", reached.advice);
}

#[test]
fn a_restarted_process_is_still_the_cause() {
    // Its predecessors created ten thousand, which ended long ago.
    let begin = [start(), small_range(200, 0)].into_iter();
    let old = (0..50).flat_map(|n| many(owner(100 + n, "app"), 199, 10, START + u64::from(n) * 100 * SECOND, one_shot));
    let late = START + 6000 * SECOND;
    let app = owner(5000, "app");
    let fills = many(app, 200, 10, late, one_shot);
    let fails = many(app, 50, 10, late + 2 * SECOND, no_port);
    let engine = engine(begin.chain(old).chain(fills).chain(fails).chain([tick(late + 3 * SECOND)]));
    let shown = engine.snapshot();
    let found = shown.findings();
    let reached = found.iter().find(|finding| finding.rule == Rule::ExhaustionReached).unwrap();
    assert_eq!((pid(reached), reached.cause), (Some(5000), Some(Rule::NoConnectionReuse)), "{reached:#?}");
}

#[test]
fn one_socket_with_a_range_of_its_own_does_not_hide_the_others() {
    let own = |n, who, end_ns| Connection {
        binding: Binding { range: Some((50_000, 50_010)), ..Binding::default() },
        ..no_port(500 + n, who, end_ns)
    };
    let mut engine = exhausted(0);
    for event in many(owner(11, "ranged"), 2, 10, START + 3 * SECOND, own) {
        engine.apply(event);
    }
    engine.apply(tick(START + 4 * SECOND));
    let finding = only(&mut engine);
    assert!(finding.title.contains("TIME_WAIT sockets use the ports"), "{}", finding.title);
    assert_eq!(evidence(&finding, "failures_in_own_range"), Value::Count(2));
    assert!(finding.advice.iter().any(|advice| advice.id == "tcp-tw-reuse"));
}
