//! Each rule: what it finds in a list of Inputs, what it says of it, and what it leaves alone.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::*;
use twtrace_core::engine::Engine;
use twtrace_core::finding::{Finding, Rule, Severity, Value};
use twtrace_core::input::{
    BindFailed, Binding, CensusState, ConnectFailed, Holder, Input, KernelFacts, Life, Owner, Role, TcpState, Tuple,
};

/// Milliseconds.
const MS: u64 = 1_000_000;

/// A range of so few ports that hundreds of connections matter.
fn small_range(ports: u16, tw_reuse: u8) -> Input {
    let facts = KernelFacts {
        port_range: (40_000, 39_999 + ports),
        max_tw_buckets: 1000,
        tw_reuse,
        timestamps: Some(1),
        ..KernelFacts::default()
    };
    Input::Kernel { netns: NETNS, facts }
}

/// Connections of one process, one each so many milliseconds, from a moment on.
fn many(who: Owner, number: u64, every_ms: u64, from_ns: u64, one: impl Fn(u64, Owner, u64) -> Life) -> Vec<Input> {
    (0..number).map(|n| ended(one(n, who, from_ns + (n + 1) * every_ms * MS))).collect()
}

/// A connection that asks once, of 5 us, closed first by its opener.
fn one_shot(n: u64, who: Owner, end_ns: u64) -> Life {
    let cookie = u64::from(who.key.tgid) * 1_000_000 + n;
    life(cookie, who, tuple(40_000 + n as u16, 1, 80), end_ns)
}

/// The same in which the peer closes first.
fn closed_by_peer(n: u64, who: Owner, end_ns: u64) -> Life {
    use TcpState::{Close, CloseWait, Established, LastAck, SynSent};
    let transitions = path(&[Close, SynSent, Established, CloseWait, LastAck, Close], end_ns);
    Life { transitions, ..one_shot(n, who, end_ns) }
}

/// The other end of [`closed_by_peer`]: a server that closes first.
fn served(n: u64, who: Owner, end_ns: u64) -> Life {
    use TcpState::{Close, Established, FinWait1, FinWait2, Listen, SynRecv};
    let client = one_shot(n, who, end_ns).tuple;
    let tuple = Tuple {
        local_addr: client.remote_addr,
        local_port: client.remote_port,
        remote_addr: client.local_addr,
        remote_port: client.local_port,
        ..client
    };
    Life {
        cookie: 500_000_000 + n,
        tuple,
        role: Role::Passive,
        transitions: path(&[Listen, SynRecv, Established, FinWait1, FinWait2, Close], end_ns),
        sock_done: true,
        ..one_shot(n, who, end_ns)
    }
}

fn holder(who: &Owner, state: &str, local_port: u16, remote: (u8, u16), sockets: u64) -> Holder {
    let to = tuple(0, remote.0, remote.1);
    Holder {
        tgid: who.key.tgid,
        // As /proc tells it.
        start_ns: who.key.start_ns / 10_000_000 * 10_000_000,
        command: String::from_utf8_lossy(who.comm.bytes()).into_owned(),
        uid: who.uid,
        netns: NETNS,
        state: state.to_owned(),
        local_addr: to.local_addr,
        local_port,
        remote_addr: if local_port == 0 { to.remote_addr } else { "0.0.0.0".parse().unwrap() },
        remote_port: remote.1,
        sockets,
    }
}

fn holders(at_ns: u64, rows: Vec<Holder>) -> Input {
    Input::Holders { at_ns, complete: true, rows }
}

fn told(inputs: impl IntoIterator<Item = Input>) -> Engine {
    engine([start(), kernel()].into_iter().chain(inputs))
}

fn rules(engine: &mut Engine) -> Vec<Rule> {
    engine.show().findings().iter().map(|finding| finding.rule).collect()
}

/// The one finding that there is.
fn only(engine: &mut Engine) -> Finding {
    let found = engine.show().findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

fn evidence(finding: &Finding, name: &str) -> Value {
    let found = finding.evidence.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", finding.evidence)).1.clone()
}

fn pid(finding: &Finding) -> Option<u32> {
    finding.process.unwrap().process.map(|process| process.tgid)
}

fn effect(finding: &Finding, advice: &str, figure: &str) -> (f64, f64) {
    let advice = finding.advice.iter().find(|given| given.id == advice);
    let advice = advice.unwrap_or_else(|| panic!("not advised: {:?}", finding.advice));
    let effect = advice.effect.iter().find(|effect| effect.figure == figure).unwrap();
    (effect.from, effect.to)
}

#[test]
fn nothing_to_report() {
    assert_eq!(rules(&mut told([])), []);
    // A few connections, and some that are used for long.
    let few = many(owner(10, "app"), 19, 100, START, one_shot);
    let long = many(owner(11, "app"), 50, 100, START, |n, who, end_ns| Life {
        bytes_sent: 100_000,
        cookie: 77_000 + n,
        ..one_shot(n, who, end_ns)
    });
    assert_eq!(rules(&mut told(few.into_iter().chain(long).chain([tick(START + 6 * SECOND)]))), []);
}

#[test]
fn one_request_per_connection() {
    let app = owner(10, "app");
    let inputs = many(app, 101, 20, START, one_shot).into_iter().chain([tick(START + 3 * SECOND)]);
    let mut engine = told(inputs);
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.severity, finding.holds), (Rule::NoConnectionReuse, Severity::Info, true));
    assert_eq!(pid(&finding), Some(10));
    let destination = finding.destination.unwrap();
    assert_eq!((destination.role, destination.port), (Role::Active, 80));
    assert_eq!(evidence(&finding, "connections"), Value::Count(101));
    assert_eq!(evidence(&finding, "request_bytes"), Value::Count(10));
    let (from, to) = effect(&finding, "pool-connections", "time_wait_made_per_s");
    assert!((from - 50.0).abs() < 0.5 && to == 0.0, "{from} to {to}");
    let (now, size) = effect(&finding, "pool-connections", "connections_needed");
    assert!(now < 0.001 && size == 1.0);

    // It has stopped, and is told as something of the past.
    engine.apply(tick(START + 30 * SECOND));
    assert!(!only(&mut engine).holds);
}

#[test]
fn a_rate_that_the_range_does_not_bear_is_graver() {
    // 300 in 6 s are 50/s, which hold 3,000 ports in the end: more than half of 4,000.
    let inputs = many(owner(10, "app"), 300, 20, START, one_shot).into_iter();
    let mut engine =
        engine([start(), small_range(4000, 0)].into_iter().chain(inputs).chain([tick(START + 7 * SECOND)]));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.severity), (Rule::NoConnectionReuse, Severity::Warning));
}

#[test]
fn a_client_is_not_at_fault_for_a_server_that_closes() {
    let (client, server) = (owner(10, "wrk"), owner(20, "python3"));
    let both = || {
        let opened = many(client, 100, 20, START, closed_by_peer);
        opened.into_iter().chain(many(server, 100, 20, START, served)).chain([tick(START + 3 * SECOND)])
    };
    let mut engine = told(both());
    let finding = only(&mut engine);
    assert_eq!((finding.rule, pid(&finding)), (Rule::ServerClosesFirst, Some(20)));
    let destination = finding.destination.unwrap();
    assert_eq!((destination.role, destination.port), (Role::Passive, 80));
    let (from, to) = effect(&finding, "keep-alive", "time_wait_made_per_s");
    assert!((from - 50.0).abs() < 1.0 && to == 0.0, "{from}");

    // A client that is a service itself has a configuration of its own.
    let proxy = holder(&client, "listen", 8080, (0, 0), 1);
    let mut engine = told(both().chain([holders(START + 3 * SECOND, vec![proxy])]));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, pid(&finding)), (Rule::NoConnectionReuse, Some(10)));
    let (from, _) = effect(&finding, "pool-connections", "time_wait_made_per_s");
    assert!((from - 50.0).abs() < 1.0, "what the server makes of it is counted: {from}");
}

#[test]
fn a_peer_elsewhere_that_closes_first_leaves_the_client_to_be_named() {
    let inputs = many(owner(10, "app"), 100, 20, START, closed_by_peer).into_iter();
    assert_eq!(rules(&mut told(inputs.chain([tick(START + 3 * SECOND)]))), [Rule::NoConnectionReuse]);
}

/// Censuses, one a second, that show a connection again and again.
fn stays(seconds: std::ops::Range<u64>, state: CensusState, ports: std::ops::Range<u16>) -> Vec<Input> {
    let at = |second: u64| {
        let rows = ports.clone().map(|port| row(9_000_000 + u64::from(port), tuple(port, 1, 80), state, 0));
        census(START + second * SECOND, rows.collect())
    };
    seconds.flat_map(at).collect()
}

#[test]
fn connections_that_are_there_at_the_same_time_are_no_habit() {
    // A hundred are opened within two seconds, stay for four, and are closed together.
    let inputs = (0..100).map(|n| {
        let mut pooled = one_shot(n, owner(10, "app"), START + 6 * SECOND);
        pooled.transitions[0].at_ns = START + n * 20 * MS;
        ended(pooled)
    });
    assert_eq!(rules(&mut told(inputs.chain([tick(START + 7 * SECOND)]))), []);
}

#[test]
fn a_pool_that_is_bypassed() {
    let app = owner(10, "app");
    let inputs = many(app, 100, 20, START, one_shot)
        .into_iter()
        .chain(stays(1..5, CensusState::Established, 50_000..50_004))
        .chain([holders(START + 5 * SECOND, vec![holder(&app, "established", 0, (1, 80), 4)])]);
    let finding = only(&mut told(inputs));
    assert_eq!((finding.rule, pid(&finding)), (Rule::PoolBypassed, Some(10)));
    assert_eq!(evidence(&finding, "pool_connections"), Value::Count(4));

    // It has ended with its pool, whose connections had lasted.
    let inputs = many(app, 100, 20, START, one_shot).into_iter().chain((0..4).map(|n| {
        let mut pooled = one_shot(200 + n, app, START + 7 * SECOND);
        (pooled.transitions[0].at_ns, pooled.bytes_sent) = (START + SECOND, 20_000);
        ended(pooled)
    }));
    let finding = only(&mut told(inputs.chain([tick(START + 8 * SECOND)])));
    assert_eq!((finding.rule, evidence(&finding, "pool_connections")), (Rule::PoolBypassed, Value::Count(4)));

    // Connections of others, or such as have only just been opened, are no pool.
    let inputs = many(app, 100, 20, START, one_shot)
        .into_iter()
        .chain(stays(4..5, CensusState::Established, 50_000..50_004))
        .chain([holders(START + 5 * SECOND, vec![holder(&app, "established", 0, (1, 80), 4)])]);
    assert_eq!(rules(&mut told(inputs)), [Rule::NoConnectionReuse]);
    let other = holder(&owner(99, "app"), "established", 0, (1, 80), 4);
    let inputs = many(app, 100, 20, START, one_shot)
        .into_iter()
        .chain(stays(1..5, CensusState::Established, 50_000..50_004))
        .chain([holders(START + 5 * SECOND, vec![other])]);
    assert_eq!(rules(&mut told(inputs)), [Rule::NoConnectionReuse]);
}

#[test]
fn a_process_for_each_request() {
    let child = |n: u64| Owner { ppid: 77, parent_comm: comm("loop.sh"), ..owner(1000 + n as u32, "redis-cli") };
    let inputs = (0..100).map(|n| ended(one_shot(n, child(n), START + n * 50 * MS)));
    let finding = only(&mut told(inputs.chain([tick(START + 6 * SECOND)])));
    assert_eq!(finding.rule, Rule::ForkPerRequest);
    let party = finding.process.unwrap();
    assert_eq!((party.process, party.ppid, party.parent_command), (None, 77, comm("loop.sh")));
    assert_eq!((party.processes, party.command), (100, comm("redis-cli")));
    let (from, to) = effect(&finding, "pool-connections", "time_wait_made_per_s");
    assert!((from - 20.0).abs() < 0.5 && to == 0.0, "{from}");
}

#[test]
fn health_checks_are_told_by_their_rhythm() {
    let inputs = many(owner(10, "checker"), 8, 2000, START, one_shot).into_iter();
    let finding = only(&mut told(inputs.chain([tick(START + 17 * SECOND)])));
    assert_eq!((finding.rule, finding.severity, pid(&finding)), (Rule::PeriodicChecks, Severity::Info, Some(10)));
    let Value::Number(interval) = evidence(&finding, "interval_s") else { panic!("no number") };
    assert!((interval - 2.0).abs() < 0.01, "{interval}");
    // Without a rhythm they are just a few connections.
    let uneven = |n, who, end_ns| one_shot(n, who, end_ns + n % 3 * 900 * MS);
    let inputs = many(owner(10, "user"), 8, 2000, START, uneven).into_iter();
    assert_eq!(rules(&mut told(inputs.chain([tick(START + 19 * SECOND)]))), []);
}

/// connect(2) that found no port.
fn no_port(n: u64, who: Owner, end_ns: u64) -> Life {
    use TcpState::{Close, SynSent};
    Life {
        cookie: 800_000_000 + n,
        tuple: tuple(0, 1, 80),
        transitions: path(&[Close, SynSent, Close], end_ns),
        connect_errno: 99,
        connect_exit: true,
        established: false,
        closer: None,
        ..one_shot(n, who, end_ns)
    }
}

fn exhausted(tw_reuse: u8) -> Engine {
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
    assert_eq!((finding.rule, finding.severity, finding.holds), (Rule::ExhaustionReached, Severity::Critical, true));
    assert_eq!((pid(&finding), finding.cause), (Some(10), Some(Rule::NoConnectionReuse)));
    assert_eq!(evidence(&finding, "failures"), Value::Count(50));
    assert_eq!(evidence(&finding, "ports_time_wait"), Value::Count(200));
    assert_eq!(evidence(&finding, "ports_available"), Value::Count(0));
    assert_eq!(finding.advice[0].id, "pool-connections", "to remove the cause comes first");
    // 200 ports, each free again after a second.
    let (from, to) = effect(&finding, "tcp-tw-reuse", "max_rate_per_s");
    assert!((from - 200.0 / 60.0).abs() < 0.01 && to == 200.0, "{from} to {to}");
    let (from, to) = effect(&finding, "wider-port-range", "ports_total");
    assert_eq!((from, to), (200.0, 64_512.0));
    let reuse = finding.advice.iter().find(|advice| advice.id == "tcp-tw-reuse").unwrap();
    assert_eq!(reuse.command.as_deref(), Some("sysctl -w net.ipv4.tcp_tw_reuse=1"));
    engine.apply(tick(START + 20 * SECOND));
    let finding = only(&mut engine);
    assert_eq!((finding.severity, finding.holds), (Severity::Warning, false), "it is over");
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
    let inputs = [start(), small_range(200, 0)].into_iter().chain(census(START + SECOND, open.collect())).chain(many(
        client,
        50,
        10,
        START + 2 * SECOND,
        no_port,
    ));
    let finding = only(&mut engine(inputs.chain([tick(START + 3 * SECOND)])));
    assert_eq!((finding.rule, pid(&finding)), (Rule::ExhaustionReached, Some(10)));
    assert_eq!(evidence(&finding, "verdict"), Value::Text("this is not TIME_WAIT".to_owned()));
    assert_eq!(finding.advice[0].id, "close-sockets");
}

#[test]
fn exhaustion_is_near() {
    // 50/s for four seconds: 200 of 1,000 ports are taken, and the rest lasts for 16 s.
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
    let fills = many(owner(10, "client"), 100, 20, START, |n, who, end_ns| Life {
        bytes_sent: 100_000,
        ..one_shot(n, who, end_ns)
    });
    let begin = [start(), small_range(1000, 0)].into_iter();
    let mut engine = engine(begin.chain(fills).chain([tick(START + 2 * SECOND)]));
    assert_eq!(rules(&mut engine), []);
    let budget = engine.show().destinations().next().unwrap().budget.unwrap();
    assert!(budget.seconds_to_exhaustion.is_some() && budget.latest_seconds.is_none(), "{budget:?}");
}

#[test]
fn a_rate_that_tcp_tw_reuse_bears_exhausts_nothing() {
    let fills = many(owner(10, "client"), 200, 20, START, one_shot).into_iter();
    let begin = [start(), small_range(1000, 1)].into_iter();
    assert_eq!(rules(&mut engine(begin.chain(fills).chain([tick(START + 4 * SECOND)]))), [Rule::NoConnectionReuse]);
}

#[test]
fn a_port_that_is_bound_is_taken_from_all_destinations() {
    let proxy = owner(10, "proxy");
    let bound = |port: u16| Input::BoundConnect {
        cookie: 9_000_000 + u64::from(port),
        tuple: tuple(port, 1, 80),
        at_ns: START + SECOND,
    };
    let inputs = [start(), small_range(200, 0)]
        .into_iter()
        .chain((40_050..40_110).map(bound))
        .chain(stays(1..3, CensusState::Established, 40_050..40_110))
        .chain([holders(START + 3 * SECOND, vec![holder(&proxy, "established", 0, (1, 80), 60)])]);
    let mut engine = engine(inputs);
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.severity, pid(&finding)), (Rule::BindBeforeConnect, Severity::Info, Some(10)));
    let (from, to) = effect(&finding, "bind-address-no-port", "ports_bound");
    assert_eq!((from, to), (60.0, 0.0));
    // For another destination these ports are as good as taken.
    engine.apply(ended(Life { tuple: tuple(40_199, 2, 80), ..one_shot(900, proxy, START + 3 * SECOND) }));
    let model = engine.show();
    let budgets: Vec<_> = model.destinations().map(|row| row.budget.unwrap()).collect();
    let towards = |tuples: u32| budgets.iter().find(|budget| budget.established == tuples).unwrap();
    assert_eq!((towards(60).bound, towards(60).used, towards(60).available), (0, 60, 140));
    assert_eq!((towards(0).bound, towards(0).used, towards(0).available), (60, 61, 139));
}

fn bind_failed(who: Owner, port: u16, errno: u16, at_ns: u64) -> Input {
    let tuple = Tuple { remote_addr: "0.0.0.0".parse().unwrap(), ..tuple(port, 0, 0) };
    Input::BindFailed(Box::new(BindFailed { owner: who, tuple, errno, reuse: false, at_ns }))
}

#[test]
fn no_port_is_left_to_bind() {
    let inputs = (0..3).map(|n| bind_failed(owner(10, "app"), 0, 98, START + n * SECOND));
    let finding = only(&mut told(inputs.chain([tick(START + 3 * SECOND)])));
    assert_eq!((finding.rule, pid(&finding)), (Rule::BoundPoolExhausted, Some(10)));
    assert_eq!((evidence(&finding, "failures"), finding.severity), (Value::Count(3), Severity::Critical));
}

#[test]
fn errors_that_are_not_time_wait() {
    let listener = row(5, tuple(80, 0, 0), CensusState::Listen, 0);
    let no_source = ConnectFailed {
        opener: owner(12, "v6"),
        tuple: Tuple {
            local_addr: "::".parse().unwrap(),
            remote_addr: "2001:db8::1".parse().unwrap(),
            ..tuple(0, 0, 443)
        },
        errno: 99,
        at_ns: START + 2 * SECOND,
    };
    let inputs = census(START + SECOND, vec![listener]).into_iter().chain([
        bind_failed(owner(10, "foreign"), 8080, 99, START + 2 * SECOND),
        bind_failed(owner(11, "twice"), 80, 98, START + 2 * SECOND),
        Input::ConnectFailed(Box::new(no_source)),
        tick(START + 3 * SECOND),
    ]);
    let mut engine = told(inputs);
    let found = engine.show().findings();
    let reasons: Vec<_> = found.iter().map(|finding| (pid(finding), evidence(finding, "reason"))).collect();
    let reason = |pid, name: &str| (Some(pid), Value::Text(name.to_owned()));
    assert_eq!(reasons.len(), 3);
    for expected in [reason(10, "foreign_source"), reason(11, "port_in_use"), reason(12, "no_source")] {
        assert!(reasons.contains(&expected), "{expected:?} is not in {reasons:?}");
    }
    for finding in found {
        assert_eq!(finding.rule, Rule::NotTimeWait);
        assert_eq!(evidence(finding, "verdict"), Value::Text("this is not TIME_WAIT".to_owned()));
    }
}

#[test]
fn a_port_that_only_timewait_sockets_have() {
    let server = owner(10, "server");
    let inputs = many(server, 3, 10, START, served).into_iter();
    let bind = bind_failed(owner(11, "server"), 80, 98, START + SECOND);
    let Input::BindFailed(failed) = &bind else { panic!("no failed bind") };
    let mut failed = failed.clone();
    failed.tuple.local_addr = "0.0.0.0".parse().unwrap();
    let finding = only(&mut told(inputs.chain([Input::BindFailed(failed), tick(START + 2 * SECOND)])));
    assert_eq!((finding.rule, pid(&finding)), (Rule::PortHeldByTimeWait, Some(11)));
}

#[test]
fn refused_timewait_sockets() {
    let refused = |n, who, end_ns| Life {
        timewait: Some(twtrace_core::input::Timewait::Refused),
        bytes_sent: 100_000,
        ..one_shot(n, who, end_ns)
    };
    let inputs = many(owner(10, "client"), 30, 10, START, refused).into_iter();
    let mut full = match small_range(1000, 0) {
        Input::Kernel { netns, facts } => Input::Kernel { netns, facts: KernelFacts { time_wait: 1000, ..facts } },
        other => other,
    };
    let mut engine = engine([start(), full.clone()].into_iter().chain(inputs).chain([tick(START + SECOND)]));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, pid(&finding), finding.holds), (Rule::BucketOverflow, Some(10), true));
    assert_eq!(evidence(&finding, "refused"), Value::Count(30));
    let (from, to) = effect(&finding, "bucket-limit", "max_tw_buckets");
    assert!(from == 1000.0 && to >= 2000.0, "{to}");
    // There is room again.
    if let Input::Kernel { facts, .. } = &mut full {
        facts.time_wait = 100;
    }
    engine.apply(full);
    assert!(!only(&mut engine).holds);
}

#[test]
fn resets_instead_of_closes() {
    for (linger, id) in [(true, "by_so_linger"), (false, "with_unread_data")] {
        let reset = |n, who, end_ns| {
            use TcpState::{Close, Established, SynSent};
            Life {
                transitions: path(&[Close, SynSent, Established, Close], end_ns),
                sock_linger: linger,
                closed_in_context: true,
                bytes_sent: 100_000,
                ..one_shot(n, who, end_ns)
            }
        };
        let inputs = many(owner(10, "client"), 40, 10, START, reset).into_iter();
        let finding = only(&mut told(inputs.chain([tick(START + SECOND)])));
        assert_eq!((finding.rule, pid(&finding)), (Rule::ResetInsteadOfClose, Some(10)));
        assert_eq!(evidence(&finding, id), Value::Count(40));
        assert!(finding.title.contains("data may be lost"));
    }
}

#[test]
fn sockets_that_nobody_closes() {
    let app = owner(10, "app");
    let waits = holder(&app, "close_wait", 0, (1, 80), 30);
    let inputs = stays(1..6, CensusState::CloseWait, 50_000..50_030);
    let mut engine = told(inputs.into_iter().chain([holders(START + 6 * SECOND, vec![waits])]));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, pid(&finding)), (Rule::CloseWaitLeak, Some(10)));
    assert_eq!(evidence(&finding, "close_wait"), Value::Count(30));
    // Others that have been so for a moment are on their way.
    assert_eq!(rules(&mut told(stays(4..6, CensusState::CloseWait, 50_000..50_030))), []);
}

#[test]
fn peers_that_do_not_close() {
    let inputs =
        many(owner(10, "app"), 30, 1, START, |n, who, end_ns| Life { bytes_sent: 100_000, ..one_shot(n, who, end_ns) });
    let rows =
        || (0..30).map(|n| row(10_000_000 + n, tuple(40_000 + n as u16, 1, 80), CensusState::TimewaitFinWait2, 50_000));
    let inputs = inputs.into_iter().chain(census(START + 5 * SECOND, rows().collect()));
    let finding = only(&mut told(inputs));
    assert_eq!((finding.rule, pid(&finding)), (Rule::FinWait2PileUp, Some(10)));
    assert_eq!(evidence(&finding, "fin_wait2"), Value::Count(30));
}

#[test]
fn losses_are_doubts() {
    let finding = only(&mut told([lost(10)]));
    assert_eq!((finding.rule, finding.process), (Rule::TracerDoubts, None));
    assert_eq!(evidence(&finding, "lost"), Value::Count(10));
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
fn names_are_found_again() {
    for rule in Rule::ALL {
        assert_eq!(Rule::of(rule.name()), Some(rule));
    }
}

#[test]
fn how_the_local_side_was_chosen_is_told_apart() {
    let with = |n, binding| {
        ended(Life { binding, bytes_sent: 100_000, ..one_shot(n, owner(10, "app"), START + n * 100 * MS) })
    };
    let address = Binding { address: true, ..Binding::default() };
    let mut engine = told([
        with(1, Binding::default()),
        with(2, address),
        with(3, Binding { port: true, ..address }),
        with(4, Binding { range: Some((50_000, 50_010)), ..Binding::default() }),
        with(5, Binding { port: true, ..Binding::default() }),
    ]);
    let row = engine.show().destinations().next().unwrap();
    let pattern = &row.pattern;
    assert_eq!((pattern.bound, pattern.bound_without_port, pattern.own_range, pattern.opened), (2, 1, 1, 5));
}
