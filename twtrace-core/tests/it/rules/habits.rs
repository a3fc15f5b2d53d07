//! How connections are used: one-shots, pools, rhythms, resets.

use super::*;
use crate::common::*;
use twtrace_core::event::{CensusState, Connection, Owner, ProcessKey, Role, TcpState};
use twtrace_core::evidence::Value;
use twtrace_core::finding::{Rule, Severity};

#[test]
fn nothing_to_report() {
    assert_eq!(rules(&mut state_after([])), []);
    // A few connections, and some that are used for more than one request.
    let few = many(owner(10, "app"), 19, 100, START, one_shot);
    let long = many(owner(11, "app"), 50, 100, START, |n, who, end_ns| Connection {
        bytes_sent: 100_000,
        cookie: 77_000 + n,
        ..one_shot(n, who, end_ns)
    });
    assert_eq!(rules(&mut state_after(few.into_iter().chain(long).chain([tick(START + 6 * SECOND)]))), []);
}

#[test]
fn one_request_per_connection() {
    let app = owner(10, "app");
    let events = many(app, 101, 20, START, one_shot).into_iter().chain([tick(START + 3 * SECOND)]);
    let mut engine = state_after(events);
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.severity, finding.active), (Rule::NoConnectionReuse, Severity::Info, true));
    assert_eq!(pid(&finding), Some(10));
    let destination = finding.destination.unwrap();
    assert_eq!((destination.role, destination.port), (Role::Active, 80));
    assert_eq!(evidence(&finding, "connections"), Value::Count(101));
    assert_eq!(evidence(&finding, "request_bytes"), Value::Count(10));
    let (from, to) = effect(&finding, "pool-connections", "time_wait_created_per_s");
    assert!((from - 50.0).abs() < 0.5 && to == 0.0, "{from} to {to}");
    let (now, size) = effect(&finding, "pool-connections", "connections_needed");
    assert!(now < 0.001 && size == 1.0);

    // It has stopped, and is reported as past.
    engine.apply(tick(START + 30 * SECOND));
    assert!(!only(&mut engine).active);
}

#[test]
fn a_rate_that_the_range_does_not_sustain_is_more_severe() {
    // 300 in 6 s are 50/s, which use 3,000 ports in the steady state: more than half of 4,000.
    let events = many(owner(10, "app"), 300, 20, START, one_shot).into_iter();
    let mut engine =
        engine([start(), small_range(4000, 0)].into_iter().chain(events).chain([tick(START + 7 * SECOND)]));
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
    let mut engine = state_after(both());
    let finding = only(&mut engine);
    assert_eq!((finding.rule, pid(&finding)), (Rule::ServerClosesFirst, Some(20)));
    let destination = finding.destination.unwrap();
    assert_eq!((destination.role, destination.port), (Role::Passive, 80));
    let (from, to) = effect(&finding, "keep-alive", "time_wait_created_per_s");
    assert!((from - 50.0).abs() < 1.0 && to == 0.0, "{from}");

    // A client that is itself a service has its own configuration.
    let proxy = owner_row(&client, CensusState::Listen, 8080, (0, 0), 1);
    let mut engine = state_after(both().chain([socket_owners(START + 3 * SECOND, vec![proxy])]));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, pid(&finding)), (Rule::NoConnectionReuse, Some(10)));
    let (from, _) = effect(&finding, "pool-connections", "time_wait_created_per_s");
    assert!((from - 50.0).abs() < 1.0, "the sockets that the server creates count: {from}");
}

#[test]
fn of_a_servers_workers_none_stands_for_all() {
    let server = |n: u64| owner(2000 + n as u32 % 4, "nginx").parent(77, "nginx");
    let events = (0..100).map(|n| ended(served(n, server(n), START + n * 20 * MS)));
    let finding = only(&mut state_after(events.chain([tick(START + 3 * SECOND)])));
    let party = finding.process.unwrap();
    assert_eq!((finding.rule, party.process, party.processes), (Rule::ServerClosesFirst, None, 4));
    assert_eq!((party.ppid, party.parent_command, party.command), (77, comm("nginx"), comm("nginx")));
}

#[test]
fn a_peer_elsewhere_that_closes_first_leaves_the_client_to_be_named() {
    let events = many(owner(10, "app"), 100, 20, START, closed_by_peer).into_iter();
    assert_eq!(rules(&mut state_after(events.chain([tick(START + 3 * SECOND)]))), [Rule::NoConnectionReuse]);
}

#[test]
fn connections_that_are_there_at_the_same_time_are_no_habit() {
    // A hundred are opened within two seconds, stay open for four, and are closed together.
    let events = (0..100).map(|n| {
        let mut pooled = one_shot(n, owner(10, "app"), START + 6 * SECOND);
        pooled.transitions[0].at_ns = START + n * 20 * MS;
        ended(pooled)
    });
    assert_eq!(rules(&mut state_after(events.chain([tick(START + 7 * SECOND)]))), []);
}

#[test]
fn a_pool_that_is_bypassed() {
    let app = owner(10, "app");
    let events = many(app, 100, 20, START, one_shot)
        .into_iter()
        .chain(stays(1..5, CensusState::Established, 50_000..50_004))
        .chain([socket_owners(START + 5 * SECOND, vec![owner_row(&app, CensusState::Established, 0, (1, 80), 4)])]);
    let finding = only(&mut state_after(events));
    assert_eq!((finding.rule, pid(&finding)), (Rule::PoolBypassed, Some(10)));
    assert_eq!(evidence(&finding, "pool_connections"), Value::Count(4));

    // The process has ended with its pool, whose connections were long-lived.
    let events = many(app, 100, 20, START, one_shot).into_iter().chain((0..4).map(|n| {
        let mut pooled = one_shot(200 + n, app, START + 7 * SECOND);
        (pooled.transitions[0].at_ns, pooled.bytes_sent) = (START + SECOND, 20_000);
        ended(pooled)
    }));
    let finding = only(&mut state_after(events.chain([tick(START + 8 * SECOND)])));
    assert_eq!((finding.rule, evidence(&finding, "pool_connections")), (Rule::PoolBypassed, Value::Count(4)));

    // Connections of other processes, or connections that have only just been opened, are no pool.
    let events = many(app, 100, 20, START, one_shot)
        .into_iter()
        .chain(stays(4..5, CensusState::Established, 50_000..50_004))
        .chain([socket_owners(START + 5 * SECOND, vec![owner_row(&app, CensusState::Established, 0, (1, 80), 4)])]);
    assert_eq!(rules(&mut state_after(events)), [Rule::NoConnectionReuse]);
    let other = owner_row(&owner(99, "app"), CensusState::Established, 0, (1, 80), 4);
    let events = many(app, 100, 20, START, one_shot)
        .into_iter()
        .chain(stays(1..5, CensusState::Established, 50_000..50_004))
        .chain([socket_owners(START + 5 * SECOND, vec![other])]);
    assert_eq!(rules(&mut state_after(events)), [Rule::NoConnectionReuse]);
}

/// A child of a script; it starts just before its connection with the same number.
fn child(n: u64, name: &str) -> Owner {
    let key = ProcessKey { tgid: 1000 + n as u32, start_ns: START + n * 50 * MS };
    Owner { key, ..owner(1000, name) }.parent(77, "loop.sh")
}

#[test]
fn a_process_for_each_request() {
    let events = (0..100).map(|n| ended(one_shot(n, child(n, "redis-cli"), START + n * 50 * MS)));
    let finding = only(&mut state_after(events.chain([tick(START + 6 * SECOND)])));
    assert_eq!(finding.rule, Rule::ForkPerRequest);
    let party = finding.process.unwrap();
    assert_eq!((party.process, party.ppid, party.parent_command), (None, 77, comm("loop.sh")));
    assert_eq!((party.processes, party.command), (100, comm("redis-cli")));
    let (from, to) = effect(&finding, "pool-connections", "time_wait_created_per_s");
    assert!((from - 20.0).abs() < 0.5 && to == 0.0, "{from}");
}

#[test]
fn health_checks_are_recognized_by_their_rhythm() {
    let events = many(owner(10, "checker"), 8, 2000, START, one_shot).into_iter();
    let finding = only(&mut state_after(events.chain([tick(START + 17 * SECOND)])));
    assert_eq!((finding.rule, finding.severity, pid(&finding)), (Rule::PeriodicChecks, Severity::Info, Some(10)));
    let Value::Number(interval) = evidence(&finding, "interval_s") else { panic!("no number") };
    assert!((interval - 2.0).abs() < 0.01, "{interval}");
    // Without a rhythm they are only a few connections.
    let uneven = |n, who, end_ns| one_shot(n, who, end_ns + n % 3 * 900 * MS);
    let events = many(owner(10, "user"), 8, 2000, START, uneven).into_iter();
    assert_eq!(rules(&mut state_after(events.chain([tick(START + 19 * SECOND)]))), []);
}

#[test]
fn resets_instead_of_closes() {
    for (linger, id) in [(true, "by_so_linger"), (false, "with_unread_data")] {
        let reset = |n, who, end_ns| {
            use TcpState::{Close, Established, SynSent};
            Connection {
                transitions: path(&[Close, SynSent, Established, Close], end_ns),
                sock_linger: linger,
                closed_in_context: true,
                bytes_sent: 100_000,
                ..one_shot(n, who, end_ns)
            }
        };
        let events = many(owner(10, "client"), 40, 10, START, reset).into_iter();
        let finding = only(&mut state_after(events.chain([tick(START + SECOND)])));
        assert_eq!((finding.rule, pid(&finding)), (Rule::ResetInsteadOfClose, Some(10)));
        assert_eq!(evidence(&finding, id), Value::Count(40));
        assert!(finding.title.contains("data may be lost"));
    }
}

/// A worker of a pre-forking server, started long before.
fn worker(n: u64) -> Owner {
    owner(1000 + n as u32, "php-fpm").parent(77, "php-fpm")
}

#[test]
fn workers_that_were_started_beforehand_are_one_program() {
    // Fifty workers, two requests each: none of them has a habit by itself.
    let events = || (0..100).map(|n| ended(one_shot(n, worker(n % 50), START + n * 20 * MS)));
    let finding = only(&mut state_after(events().chain([tick(START + 3 * SECOND)])));
    let party = finding.process.unwrap();
    assert_eq!((finding.rule, party.process, party.processes), (Rule::NoConnectionReuse, None, 50));
    assert_eq!((party.ppid, party.parent_command, party.command), (77, comm("php-fpm"), comm("php-fpm")));
    assert_eq!(evidence(&finding, "connections"), Value::Count(100));
    assert_eq!(evidence(&finding, "time_wait_created"), Value::Count(100));
    let (from, _) = effect(&finding, "pool-connections", "time_wait_created_per_s");
    assert!((from - 50.0).abs() < 1.0, "{from}");

    // All were restarted just now, as after a deployment.
    let young = |n: u64| {
        let old = worker(n);
        Owner { key: ProcessKey { start_ns: START, ..old.key }, ..old }
    };
    let events = (0..100).map(|n| ended(one_shot(n, young(n % 50), START + n * 20 * MS)));
    let finding = only(&mut state_after(events.chain([tick(START + 3 * SECOND)])));
    assert_eq!((finding.rule, finding.process.unwrap().processes), (Rule::NoConnectionReuse, 50));

    // Children of init are unrelated.
    let daemon = |n: u64| Owner { ppid: 1, ..worker(n) };
    let events = (0..100).map(|n| ended(one_shot(n, daemon(n % 50), START + n * 20 * MS)));
    assert_eq!(rules(&mut state_after(events.chain([tick(START + 3 * SECOND)]))), []);
}

#[test]
fn one_that_makes_nearly_all_stands_for_its_program() {
    let most = many(worker(1), 100, 20, START, one_shot).into_iter();
    let few = many(worker(2), 3, 500, START, one_shot);
    let finding = only(&mut state_after(most.chain(few).chain([tick(START + 3 * SECOND)])));
    assert_eq!((finding.rule, pid(&finding)), (Rule::NoConnectionReuse, Some(1001)));
}

#[test]
fn a_request_that_takes_long_makes_no_pool() {
    let app = owner(10, "app");
    let mut slow = one_shot(900, app, START + 7 * SECOND);
    slow.transitions[0].at_ns = START + SECOND;
    let events = many(app, 300, 20, START, one_shot).into_iter().chain([ended(slow), tick(START + 8 * SECOND)]);
    assert_eq!(rules(&mut state_after(events)), [Rule::NoConnectionReuse]);

    // Nor are connections a pool if they last as long as the others.
    let slow = |n, who, end_ns| {
        let mut slow = one_shot(n, who, end_ns);
        slow.transitions[0].at_ns = end_ns - 3 * SECOND;
        slow
    };
    let events = many(app, 300, 500, START + 3 * SECOND, slow)
        .into_iter()
        .chain(stays(150..153, CensusState::Established, 50_000..50_004))
        .chain([socket_owners(START + 153 * SECOND, vec![owner_row(&app, CensusState::Established, 0, (1, 80), 4)])])
        .chain([tick(START + 154 * SECOND)]);
    let found = rules(&mut state_after(events));
    assert!(!found.contains(&Rule::PoolBypassed), "{found:?}");
}

#[test]
fn a_rate_is_that_of_the_load_and_not_of_the_trace() {
    // One connection at night, and 50 per second at noon.
    let app = owner(10, "app");
    let noon = START + 40_000 * SECOND;
    let early = many(app, 1, 20, START, one_shot).into_iter();
    let events = early.chain(many(app, 1000, 20, noon, one_shot)).chain([tick(noon + 21 * SECOND)]);
    let mut engine = state_after(events);
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.active), (Rule::NoConnectionReuse, true));
    let (from, _) = effect(&finding, "pool-connections", "time_wait_created_per_s");
    assert!((from - 50.0).abs() < 1.0, "{from}");
    // One connection every four seconds does not continue that load.
    for n in 0..10 {
        let one = one_shot(5000 + n, app, noon + (25 + 4 * n) * SECOND);
        engine.apply(ended(one));
    }
    assert!(!only(&mut engine).active);
}

#[test]
fn a_poller_is_recognized_by_its_rhythm_whatever_its_rate() {
    let events = many(owner(10, "poller"), 40, 500, START, one_shot).into_iter();
    assert_eq!(rules(&mut state_after(events.chain([tick(START + 21 * SECOND)]))), [Rule::PeriodicChecks]);
}

#[test]
fn resets_that_lose_nothing_are_no_finding() {
    use TcpState::{Close, Established, SynSent};
    let check = |n, who, end_ns| Connection {
        transitions: path(&[Close, SynSent, Established, Close], end_ns),
        sock_linger: true,
        closed_in_context: true,
        bytes_sent: 0,
        bytes_received: 0,
        ..one_shot(n, who, end_ns + n % 7 * 200 * MS)
    };
    let events = many(owner(10, "haproxy"), 40, 500, START, check).into_iter();
    let found = rules(&mut state_after(events.chain([tick(START + 23 * SECOND)])));
    assert!(!found.contains(&Rule::ResetInsteadOfClose), "{found:?}");
}

#[test]
fn a_flood_in_addition_to_a_rhythm_is_a_flood() {
    // One check per second for an hour, and for twenty seconds another process with 100 connections per second.
    let checks = many(owner(10, "checker"), 3600, 1000, START, one_shot).into_iter();
    let flood = many(owner(20, "app"), 2000, 10, START + 3600 * SECOND, one_shot);
    let engine = state_after(checks.chain(flood).chain([tick(START + 3621 * SECOND)]));
    let shown = engine.snapshot();
    let found = shown.findings();
    assert!(found.iter().any(|it| it.rule == Rule::NoConnectionReuse && pid(it) == Some(20)), "{found:#?}");
}

#[test]
fn one_long_request_a_day_is_no_pool() {
    let app = owner(10, "app");
    let mut upload = one_shot(5000, app, START + 3 * SECOND);
    (upload.transitions[0].at_ns, upload.bytes_sent) = (START + SECOND, 9_000);
    let events = [ended(upload)].into_iter().chain(many(app, 1000, 20, START + 3 * SECOND, one_shot));
    assert_eq!(rules(&mut state_after(events.chain([tick(START + 24 * SECOND)]))), [Rule::NoConnectionReuse]);
}

#[test]
fn a_few_that_come_together_are_no_load() {
    // Twenty in a day, five of them within a second.
    let spread =
        many(owner(10, "agent"), 15, 5_000_000, START, |n, who, at| one_shot(n, who, at + n % 3 * 900_000 * MS));
    let together = many(owner(10, "agent"), 5, 200, START + 80_000 * SECOND, |n, who, at| one_shot(100 + n, who, at));
    assert_eq!(rules(&mut state_after(spread.into_iter().chain(together).chain([tick(START + 80_002 * SECOND)]))), []);
}

#[test]
fn who_opened_what_a_finding_is_about_is_named() {
    let (opener, closer) = (owner(30, "broker").user(1000).parent(1, "systemd"), owner(10, "app").user(0));
    let passed_on = |n, who, end_ns| Connection { opener: Some(opener), ..one_shot(n, who, end_ns) };
    let events = many(closer, 101, 20, START, passed_on).into_iter().chain([tick(START + 3 * SECOND)]);
    let mut engine = state_after(events);
    let shown = engine.snapshot();
    let (strangers, created) = shown.strangers(closer.key).unwrap();
    assert_eq!((strangers.sockets, created, strangers.opener.key), (101, 101, opener.key));
    let finding = only(&mut engine);
    assert_eq!(pid(&finding), Some(30), "the one that opens them is the cause");
    assert_eq!(evidence(&finding, "time_wait_created"), Value::Count(101));
    assert_eq!(evidence(&finding, "closed_by_pid"), Value::Count(10));
    assert_eq!(evidence(&finding, "closed_by_command"), Value::Text("app".into()));
    // A process that closes what it opened itself is alone.
    let engine = state_after(many(closer, 101, 20, START, one_shot).into_iter().chain([tick(START + 3 * SECOND)]));
    assert!(engine.snapshot().strangers(closer.key).is_none());
}

/// A one-shot to one of many destinations, in turn.
fn to_many(number: u64) -> impl Fn(u64, Owner, u64) -> Connection {
    move |n, who, end_ns| Connection {
        tuple: tuple(40_000 + n as u16, 1 + (n % number) as u8, 80),
        ..one_shot(n, who, end_ns)
    }
}

#[test]
fn many_destinations_are_one_habit() {
    let who = owner(10, "checker");
    let found = only(&mut state_after(many(who, 600, 5, START, to_many(30))));
    assert_eq!((found.rule, found.severity, pid(&found)), (Rule::NoConnectionReuse, Severity::Info, Some(10)));
    assert_eq!((found.destination, found.title.contains("many destinations")), (None, true));
    assert_eq!((evidence(&found, "destinations"), evidence(&found, "connections")), (30.into(), 600.into()));
    let Value::Number(rate) = evidence(&found, "rate_per_s") else { panic!() };
    assert!((190.0..=210.0).contains(&rate), "{rate}");
    let Value::Number(live) = evidence(&found, "time_wait_at_this_rate_estimated") else { panic!() };
    assert!((11_400.0..=12_600.0).contains(&live), "{live}");
    assert_eq!(effect(&found, "pool-connections", "connections_needed").1, 30.0);
    // A few are findings of their own: each has advice of its own.
    let mut few = state_after(many(who, 600, 5, START, to_many(5)));
    assert_eq!(rules(&mut few), [Rule::NoConnectionReuse; 5]);
}

#[test]
fn of_many_destinations_one_that_runs_out_of_ports_is_reported_by_itself() {
    let who = owner(10, "crawler");
    let main = |n, who, end_ns| {
        let apart = Connection { tuple: tuple(40_000 + n as u16, 99, 80), ..one_shot(n, who, end_ns) };
        Connection { cookie: 90_000_000 + n, ..apart }
    };
    // 50/s to one of them, as in `exhaustion_is_near`, and 3.3/s to each of the others.
    let mut events = vec![start(), small_range(1000, 0)];
    for n in 0..40 {
        let from_ns = START + n * 100 * MS;
        events.extend(many(who, 10, 10, from_ns, |k, who, end_ns| to_many(30)(10 * n + k, who, end_ns)));
        events.extend(many(who, 5, 20, from_ns, |k, who, end_ns| main(5 * n + k, who, end_ns)));
    }
    events.push(tick(START + 4 * SECOND));
    let engine = engine(events);
    let shown = engine.snapshot();
    let found: Vec<_> =
        shown.findings().iter().map(|found| (found.rule, found.destination.map(|to| to.port))).collect();
    assert_eq!(found, [(Rule::ExhaustionNear, Some(80)), (Rule::NoConnectionReuse, None)], "{:#?}", shown.findings());
    assert_eq!(shown.findings()[0].cause, Some(Rule::NoConnectionReuse));
    assert_eq!(evidence(&shown.findings()[1], "destinations"), 30.into());
}

#[test]
fn checks_of_many_destinations_are_one_finding() {
    let who = owner(10, "kubelet");
    let found = only(&mut state_after(many(who, 400, 50, START, to_many(20))));
    assert_eq!((found.rule, found.destination, pid(&found)), (Rule::PeriodicChecks, None, Some(10)));
    assert_eq!((evidence(&found, "destinations"), evidence(&found, "connections")), (20.into(), 400.into()));
}

/// A client of another host or of this one, a process in the middle, and its backend on port 9000, each with `number`
/// connections. The front's payload is larger by `more`: asked and answered.
fn through(middle: Owner, client: Option<Owner>, more: (u64, u64), number: u64) -> Vec<Event> {
    let mut events = Vec::new();
    for n in 0..number {
        let at_ns = START + (n + 1) * 20 * MS;
        let (port, back_port) = (30_000 + n as u16, 45_000 + n as u16);
        let front = tuple(port, 5, 9001);
        let sized = |connection: Connection, (sent, received): (u64, u64)| Connection {
            bytes_sent: sent,
            bytes_received: received,
            ..connection
        };
        let (asked, answered) = (100 + more.0, 400 + more.1);
        if let Some(client) = client {
            events.push(ended(sized(connection(7_000_000 + n, client, front, at_ns), (asked, answered))));
        }
        let accepted =
            connection(8_000_000 + n, middle, front.mirrored(), at_ns).usual(Role::Passive, false, MICROSECOND_NS);
        events.push(ended(sized(accepted, (answered, asked))));
        let back = connection(9_000_000 + n, middle, tuple(back_port, 9, 9000), at_ns);
        events.push(ended(sized(back, (100, 400))));
    }
    events.push(tick(START + number * 20 * MS));
    events
}

#[test]
fn a_relay_cannot_pool() {
    let (relay, client) = (owner(20, "relay"), owner(21, "frontclient"));
    for more in [(0, 0), (5, 0), (600, 2_000)] {
        // Its clients are elsewhere.
        let found = only(&mut state_after(through(relay, None, more, 100)));
        assert_eq!(
            (found.rule, pid(&found), found.destination.unwrap().port),
            (Rule::Relay, Some(20), 9000),
            "{more:?}"
        );
        assert_eq!(evidence(&found, "accepted"), 100.into());
        assert_eq!(found.advice[0].id, "keep-alive-clients");
        assert!(found.advice.iter().all(|advice| advice.id != "pool-connections"));
        // They are here: it is theirs.
        let found = only(&mut state_after(through(relay, Some(client), more, 100)));
        assert_eq!((found.rule, pid(&found)), (Rule::NoConnectionReuse, Some(21)), "{more:?}");
        assert_eq!(found.destination.unwrap().port, 9001);
    }
}

#[test]
fn dockers_proxy_can_be_switched_off() {
    let ids = |name: &str| {
        let found = only(&mut state_after(through(owner(20, name), None, (0, 0), 100)));
        found.advice.iter().map(|advice| advice.id).collect::<Vec<_>>()
    };
    assert_eq!(ids("docker-proxy")[..2], ["keep-alive-clients", "no-userland-proxy"]);
    assert!(!ids("relay").contains(&"no-userland-proxy"));
}

#[test]
fn a_service_that_asks_another_one_for_each_request_is_no_relay() {
    // What it answers is not what it was answered; and what it asks is not what it was asked.
    for more in [(0, 9_000), (0, 100), (300, 0), (4_000, 1_000)] {
        let found = only(&mut state_after(through(owner(20, "app"), None, more, 100)));
        assert_eq!((found.rule, pid(&found)), (Rule::NoConnectionReuse, Some(20)), "{more:?}");
    }
}

#[test]
fn a_relay_that_runs_out_of_ports_is_the_victim_of_its_clients() {
    let relay = owner(20, "relay");
    let events = through(relay, None, (0, 0), 190);
    let mut engine = engine([start(), small_range(200, 0)].into_iter().chain(events));
    let found = only(&mut engine);
    assert_eq!((found.rule, pid(&found), found.cause), (Rule::ExhaustionNear, Some(20), Some(Rule::Relay)));
    assert_eq!(found.advice[0].id, "keep-alive-clients");
}
