//! Calls that fail, sockets that are never closed, limits, and incomplete traces.

use super::*;
use crate::common::*;
use twtrace_core::event::{CensusState, Connection, Event, KernelFacts};
use twtrace_core::evidence::Value;
use twtrace_core::finding::{Rule, Severity};

#[test]
fn no_port_is_left_to_bind() {
    let events = (0..3).map(|n| bind_failed(owner(10, "app"), 0, 98, START + n * SECOND));
    let finding = only(&mut state_after(events.chain([tick(START + 3 * SECOND)])));
    assert_eq!((finding.rule, pid(&finding)), (Rule::BoundPoolExhausted, Some(10)));
    assert_eq!((evidence(&finding, "failures"), finding.severity), (Value::Count(3), Severity::Critical));
}

#[test]
fn errors_that_are_not_time_wait() {
    let listener = row(5, tuple(80, 0, 0), CensusState::Listen, 0);
    let nowhere = twtrace_testkit::tuple(0, [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1_u16], 443).local_addr([0_u16; 8]);
    let events = census(START + SECOND, vec![listener]).into_iter().chain([
        bind_failed(owner(10, "foreign"), 8080, 99, START + 2 * SECOND),
        bind_failed(owner(11, "twice"), 80, 98, START + 2 * SECOND),
        connect_failed(owner(12, "v6"), nowhere, 99, START + 2 * SECOND),
        tick(START + 3 * SECOND),
    ]);
    let engine = state_after(events);
    let shown = engine.snapshot();
    let found = shown.findings();
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
fn a_connect_that_began_before_the_trace_is_no_evidence() {
    let failed = |at_ns| connect_failed(owner(12, "v6"), tuple(0, 1, 80).local_addr([0_u8; 4]), 99, at_ns);
    // It may have looked for a port before the hooks were there: all ports may have been in use.
    let mut early = state_after([failed(START - MS), failed(START + MS), tick(START + 2 * SECOND)]);
    assert_eq!(rules(&mut early), []);
    assert_eq!(early.snapshot().failures().iter().map(|row| row.count).sum::<u64>(), 2, "it is counted all the same");
    let mut seen = state_after([failed(START + SECOND), tick(START + 2 * SECOND)]);
    assert_eq!(rules(&mut seen), [Rule::NotTimeWait]);
}

#[test]
fn a_port_that_only_timewait_sockets_have() {
    let server = owner(10, "server");
    let events = many(server, 3, 10, START, served).into_iter();
    let bind = bind_failed(owner(11, "server"), 80, 98, START + SECOND);
    let Event::BindFailed(failed) = &bind else { panic!("no failed bind") };
    let mut failed = failed.clone();
    failed.tuple.local_addr = "0.0.0.0".parse().unwrap();
    let finding = only(&mut state_after(events.chain([Event::BindFailed(failed), tick(START + 2 * SECOND)])));
    assert_eq!((finding.rule, pid(&finding)), (Rule::PortHeldByTimeWait, Some(11)));
    assert_eq!((finding.advice[0].id, evidence(&finding, "holder_pid")), ("so-reuseaddr", 10.into()));
}

/// A bind(2) to any address and a port, which fails at a time of its own.
fn bind_any(port: u16, reuse: bool, at_ns: u64) -> Event {
    let Event::BindFailed(mut failed) = bind_failed(owner(11, "server"), port, 98, at_ns) else { panic!("no bind") };
    failed.tuple.local_addr = "0.0.0.0".parse().unwrap();
    failed.reuse = reuse;
    Event::BindFailed(failed)
}

#[test]
fn a_port_that_the_timewait_socket_of_a_client_has() {
    // The server closes a connection of its own first, and so does another program's client, from the same port.
    let mine = ended(served(1, owner(10, "server"), START));
    let client = |port: u16, at_ns| ended(connection(77, owner(12, "cl\u{1b}ient"), tuple(port, 9, 9000), at_ns));
    for reuse in [false, true] {
        let events = [mine.clone(), client(40_005, START), bind_any(40_005, reuse, START + 10 * SECOND)];
        let finding = only(&mut state_after(events.into_iter().chain([tick(START + 17 * SECOND)])));
        assert_eq!((finding.rule, pid(&finding)), (Rule::PortHeldByTimeWait, Some(11)));
        assert!(finding.title.contains("of an outgoing connection"), "{}", finding.title);
        assert_eq!(
            ["holder_pid", "holder_command", "holder_peer", "held_seconds"].map(|name| evidence(&finding, name)),
            [12.into(), "cl\u{1b}ient".to_owned().into(), "10.0.1.9:9000".to_owned().into(), Value::Number(43.0)]
        );
        let [advice] = &finding.advice[..] else { panic!("{:?}", finding.advice) };
        assert_eq!(advice.id, "reserve-port");
        assert!(advice.command.as_ref().unwrap().ends_with("ip_local_reserved_ports=40005"), "{advice:?}");
    }
    // A port that no connect chooses was bound by the client itself.
    let fixed = [client(900, START), bind_any(900, true, START + SECOND), tick(START + 2 * SECOND)];
    assert_eq!(only(&mut state_after(fixed)).advice[0].id, "fix-address");
    // Another address's socket does not prevent the bind.
    let Event::BindFailed(mut other) = bind_any(40_005, false, START + SECOND) else { panic!("no bind") };
    other.tuple.local_addr = "10.0.0.77".parse().unwrap();
    let elsewhere = [client(40_005, START), Event::BindFailed(other), tick(START + 2 * SECOND)];
    assert_eq!(rules(&mut state_after(elsewhere)), []);
}

#[test]
fn refused_timewait_sockets() {
    let refused = |n, who, end_ns| Connection {
        timewait: Some(twtrace_core::event::Timewait::Overflowed),
        bytes_sent: 100_000,
        ..one_shot(n, who, end_ns)
    };
    let events = many(owner(10, "client"), 30, 10, START, refused).into_iter();
    let mut full = match small_range(1000, 0) {
        Event::Kernel { netns, facts } => Event::Kernel { netns, facts: KernelFacts { time_wait: 1000, ..facts } },
        other => other,
    };
    let mut engine = engine([start(), full.clone()].into_iter().chain(events).chain([tick(START + SECOND)]));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, pid(&finding), finding.active), (Rule::BucketOverflow, Some(10), true));
    assert_eq!(evidence(&finding, "overflowed"), Value::Count(30));
    let (from, to) = effect(&finding, "bucket-limit", "max_tw_buckets");
    assert!(from == 1000.0 && to >= 2000.0, "{to}");
    // The count is below the limit again.
    if let Event::Kernel { facts, .. } = &mut full {
        facts.time_wait = 100;
    }
    engine.apply(full);
    assert!(!only(&mut engine).active);
}

#[test]
fn sockets_that_are_never_closed() {
    let app = owner(10, "app");
    let waits = owner_row(&app, CensusState::CloseWait, 0, (1, 80), 30);
    let events = stays(1..6, CensusState::CloseWait, 50_000..50_030);
    let mut engine = state_after(events.into_iter().chain([socket_owners(START + 6 * SECOND, vec![waits])]));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, pid(&finding)), (Rule::CloseWaitLeak, Some(10)));
    assert_eq!(evidence(&finding, "close_wait"), Value::Count(30));
    // Sockets that have only just entered CLOSE_WAIT may be closed soon.
    assert_eq!(rules(&mut state_after(stays(4..6, CensusState::CloseWait, 50_000..50_030))), []);
}

/// What 30 half-closed connections leave: each client has closed, the relay (pid 10) has passed that on to port 90, and
/// nobody closes there. With `server`, that end is on this host as well.
fn half_closed(server: Option<Owner>) -> State {
    let relay = owner(10, "relay");
    let ports = 0..30_u16;
    let at = |second: u64| {
        let listens = |remote, port| tuple(0, remote, port).mirrored().without_remote();
        let mut rows = vec![row(1, listens(1, 80), CensusState::Listen, 0)];
        rows.extend(server.map(|_| row(2, listens(7, 90), CensusState::Listen, 0)));
        for n in ports.clone() {
            let (front, back) = (tuple(50_000 + n, 1, 80).mirrored(), tuple(60_000 + n, 7, 90));
            rows.push(row(1_000 + u64::from(n), front, CensusState::CloseWait, 0));
            rows.push(row(2_000 + u64::from(n), front.mirrored(), CensusState::TimewaitFinWait2, 60_000));
            rows.push(row(3_000 + u64::from(n), back, CensusState::FinWait2, 0));
            if server.is_some() {
                rows.push(row(4_000 + u64::from(n), back.mirrored(), CensusState::CloseWait, 0));
            }
        }
        census(START + second * SECOND, rows)
    };
    let addr = |remote| tuple(1, remote, 80).remote_addr;
    let mut owners = vec![
        SocketOwner { local_addr: addr(1), ..owner_row(&relay, CensusState::CloseWait, 80, (1, 80), 30) },
        owner_row(&relay, CensusState::FinWait2, 0, (7, 90), 30),
    ];
    owners.extend(server.map(|server| SocketOwner {
        local_addr: addr(7),
        ..owner_row(&server, CensusState::CloseWait, 90, (7, 90), 30)
    }));
    let opened = many(owner(9, "client"), 30, 1, START, |n, who, end_ns| Connection {
        bytes_sent: 100_000,
        ..one_shot(n, who, end_ns)
    });
    state_after(opened.into_iter().chain((1..7).flat_map(at)).chain([socket_owners(START + 6 * SECOND, owners)]))
}

#[test]
fn half_closed_connections_through_a_relay_are_the_fault_of_the_end_that_does_not_close() {
    // It is on this host: one finding, about it.
    let finding = only(&mut half_closed(Some(owner(20, "server"))));
    assert_eq!((finding.rule, pid(&finding)), (Rule::CloseWaitLeak, Some(20)));
    assert_eq!(evidence(&finding, "relayed_by"), "relay[10]".to_owned().into());
    // It is not: the relay is named for what it waits for, and not for a leak of its own.
    let finding = only(&mut half_closed(None));
    assert_eq!((finding.rule, pid(&finding)), (Rule::FinWait2PileUp, Some(10)));
    assert!(finding.title.contains("its backend does not close"), "{}", finding.title);
    assert_eq!((finding.advice[0].id, finding.destination.unwrap().port), ("let-peer-close", 90));
}

#[test]
fn peers_that_do_not_close() {
    let events = many(owner(10, "app"), 30, 1, START, |n, who, end_ns| Connection {
        bytes_sent: 100_000,
        ..one_shot(n, who, end_ns)
    });
    let rows =
        || (0..30).map(|n| row(10_000_000 + n, tuple(40_000 + n as u16, 1, 80), CensusState::TimewaitFinWait2, 50_000));
    let events = events.into_iter().chain(census(START + 5 * SECOND, rows().collect()));
    let finding = only(&mut state_after(events));
    assert_eq!((finding.rule, pid(&finding)), (Rule::FinWait2PileUp, Some(10)));
    assert_eq!(evidence(&finding, "fin_wait2"), Value::Count(30));
}

#[test]
fn losses_are_an_incomplete_trace() {
    let finding = only(&mut state_after([lost(10)]));
    assert_eq!((finding.rule, finding.process), (Rule::IncompleteTrace, None));
    assert_eq!(evidence(&finding, "lost"), Value::Count(10));
}

#[test]
fn names_are_found_again() {
    for &rule in Rule::ALL {
        assert_eq!(rule.name().parse(), Ok(rule));
    }
}

#[test]
fn a_pool_whose_connections_the_server_closed_is_no_leak_yet() {
    let mut engine = state_after(stays(1..6, CensusState::CloseWait, 50_000..50_030));
    assert_eq!(only(&mut engine).severity, Severity::Info);
    // After a minute it is a leak.
    for event in stays(6..66, CensusState::CloseWait, 50_000..50_030) {
        engine.apply(event);
    }
    assert_eq!(only(&mut engine).severity, Severity::Warning);
}

#[test]
fn trying_one_port_after_the_other_is_no_emergency() {
    let listeners = (0..6).map(|n| row(5 + n, tuple(8880 + n as u16, 0, 0), CensusState::Listen, 0));
    let failed = |port: u16| bind_failed(owner(11, "dev"), port, 98, START + 2 * SECOND);
    let events = census(START + SECOND, listeners.collect()).into_iter().chain((8880..8886).map(failed));
    let finding = only(&mut state_after(events.chain([tick(START + 3 * SECOND)])));
    assert_eq!((finding.severity, evidence(&finding, "failures")), (Severity::Warning, Value::Count(6)));
}

#[test]
fn a_listener_that_does_not_accept() {
    let server = owner(10, "server");
    // Twenty-five clients, of which five have hung up; their ends are on this host.
    let queued = |n: u16, state| row(100 + u64::from(n), tuple(40_000 + n, 1, 80).mirrored(), state, 0);
    let client = |n: u16| row(200 + u64::from(n), tuple(40_000 + n, 1, 80), CensusState::FinWait2, 0);
    let listener = |backlog| {
        let at = tuple(0, 1, 80).mirrored().without_remote();
        twtrace_core::event::CensusRow { backlog, ..row(1, at, CensusState::Listen, 0) }
    };
    let at = |second: u64, backlog: u32| {
        let mut rows: Vec<_> = (0..20).map(|n| queued(n, CensusState::Queued)).collect();
        rows.extend((20..25).map(|n| queued(n, CensusState::QueuedCloseWait)));
        rows.extend((0..25).map(client));
        rows.push(listener(backlog));
        census(START + second * SECOND, rows)
    };
    let listens = SocketOwner {
        local_addr: tuple(0, 1, 80).remote_addr,
        ..owner_row(&server, CensusState::Listen, 80, (0, 0), 1)
    };
    for (backlog, severity) in [(128, Severity::Warning), (24, Severity::Critical)] {
        let owners = socket_owners(START + 6 * SECOND, vec![listens.clone()]);
        let finding = only(&mut state_after((1..7).flat_map(|second| at(second, backlog)).chain([owners])));
        assert_eq!((finding.rule, finding.severity, pid(&finding)), (Rule::NotAccepting, severity, Some(10)));
        let figures = ["queued", "queued_for_3_s", "queued_hung_up", "backlog"].map(|name| evidence(&finding, name));
        assert_eq!(figures, [25.into(), 25.into(), 5.into(), u64::from(backlog).into()]);
    }
    // Those that came just now may be accepted yet.
    assert_eq!(rules(&mut state_after((5..7).flat_map(|second| at(second, 128)))), []);
}
