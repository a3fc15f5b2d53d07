//! Who has the ports: a process that does not close its connections, or one whose connects are not answered, and its victims.

use super::*;
use crate::common::*;
use twtrace_core::event::{CensusState, Connection, Event, KernelFacts, Owner, Role, Tuple};
use twtrace_core::finding::{Rule, Severity};
use twtrace_core::state::{Config, Filter};
use twtrace_testkit::MICROSECOND_NS;

/// Two hundred connections of `holder` in a state take the whole range for five seconds; meanwhile `victim` finds no port.
fn all_taken(state: CensusState, holder: &Owner, victim: Owner) -> Vec<Event> {
    let mut events = vec![start(), small_range(200, 0)];
    events.extend(stays(0..6, state, 40_000..40_200));
    // In /proc, the start of a process is known to 10 ms.
    let rows = vec![SocketOwner { start_ns: 0, ..owner_row(holder, state, 0, (1, 80), 200) }];
    events.push(Event::SocketOwners { at_ns: START + 5 * SECOND, complete: true, rows });
    events.extend(many(victim, 20, 10, START + 5 * SECOND, no_port));
    events.push(tick(START + 6 * SECOND));
    events
}

#[test]
fn connections_that_are_never_closed_and_have_all_ports_are_one_finding() {
    let leaker = owner(10, "leaker");
    let mut events = all_taken(CensusState::CloseWait, &leaker, leaker);
    // The other ends are on this host, and wait for the leaker.
    let server = owner(20, "server");
    let others = |n: u64| Connection {
        cookie: 600_000_000 + n,
        ..connection(n, server, tuple(40_000 + n as u16, 1, 80).mirrored(), START + SECOND).usual(
            Role::Passive,
            true,
            MICROSECOND_NS,
        )
    };
    let theirs = |n: u64| row(600_000_000 + n, others(n).tuple, CensusState::TimewaitFinWait2, 50_000);
    let ours = |n: u64| {
        let port = 40_000 + n as u16;
        row(9_000_000 + u64::from(port), tuple(port, 1, 80), CensusState::CloseWait, 0)
    };
    let both = census(START + 5 * SECOND, (0..200).flat_map(|n| [ours(n), theirs(n)]).collect());
    let at = events.len() - 1;
    events.splice(at..at, (0..200).map(|n| ended(others(n))).chain(both));
    let finding = only(&mut engine(events));
    assert_eq!((finding.rule, pid(&finding)), (Rule::ExhaustionReached, Some(10)));
    assert_eq!(finding.cause, Some(Rule::CloseWaitLeak));
    assert!(finding.title.contains("CLOSE_WAIT"), "{}", finding.title);
    assert!(finding.evidence.iter().all(|evidence| evidence.kind().name != "failing_pid"), "it is its own victim");
    let [advice] = &finding.advice[..] else { panic!("more ports do not help: {:?}", finding.advice) };
    assert_eq!((advice.id, effect(&finding, "close-sockets", "close_wait")), ("close-sockets", (200.0, 0.0)));
}

#[test]
fn who_has_the_ports_is_named_and_who_finds_none_is_its_victim() {
    let (holder, victim) = (owner(10, "holder"), owner(11, "victim"));
    for state in [CensusState::Established, CensusState::CloseWait, CensusState::SynSent] {
        let finding = only(&mut engine(all_taken(state, &holder, victim)));
        assert_eq!((finding.rule, pid(&finding)), (Rule::ExhaustionReached, Some(10)), "{state:?}");
        assert_eq!(evidence(&finding, "failing_pid"), 11.into());
    }
}

#[test]
fn connects_without_an_answer_are_no_idle_connections() {
    let client = owner(10, "client");
    let finding = only(&mut engine(all_taken(CensusState::SynSent, &client, client)));
    assert!(finding.title.contains("SYN_SENT"), "{}", finding.title);
    assert_eq!((evidence(&finding, "ports_syn_sent"), evidence(&finding, "ports_close_wait")), (200.into(), 0.into()));
    let ids: Vec<&str> = finding.advice.iter().map(|advice| advice.id).collect();
    assert_eq!(ids, ["limit-connects"]);
}

#[test]
fn each_source_address_has_ports_of_its_own() {
    let loadgen = owner(10, "loadgen");
    let from = |source: u8, port: u16| Tuple {
        local_addr: std::net::Ipv4Addr::new(10, 0, 0, source).into(),
        ..tuple(port, 1, 80)
    };
    let cookie = |source: u8, port: u16| u64::from(source) << 32 | u64::from(port);
    let all = || (11..15).flat_map(|source| (40_050..40_110).map(move |port| (source, port)));
    let bound = |(source, port)| Event::BoundConnect {
        cookie: cookie(source, port),
        tuple: from(source, port),
        at_ns: START + SECOND,
    };
    let rows =
        || all().map(|(source, port)| row(cookie(source, port), from(source, port), CensusState::Established, 0));
    let owners = (11..15).map(|source| socket_owner(&loadgen, CensusState::Established, from(source, 0), 60)).collect();
    let events = [start(), small_range(200, 0)]
        .into_iter()
        .chain(all().map(bound))
        .chain((1..3).flat_map(|second| census(START + second * SECOND, rows().collect())))
        .chain([socket_owners(START + 3 * SECOND, owners)]);
    let finding = only(&mut engine(events));
    assert_eq!((finding.rule, finding.severity, pid(&finding)), (Rule::BindBeforeConnect, Severity::Info, Some(10)));
    let figures = ["ports_bound", "ports_total", "source_addresses", "bound_connections"];
    assert_eq!(figures.map(|name| evidence(&finding, name)), [60.into(), 200.into(), 4.into(), 240.into()]);
}

/// A holder (pid 10) has bound all ports for port 9000; connects of a victim (pid 11) to port 80 fail. `is_late`: the trace
/// began after the binds.
fn bound_by_another(is_late: bool) -> Vec<Event> {
    let (holder, victim) = (owner(10, "holder"), owner(11, "victim"));
    let held = |port: u16| tuple(port, 9, 9000);
    let cookie = |port: u16| 5_000_000 + u64::from(port);
    let ports = || 40_000..40_200_u16;
    let rows = || ports().map(|port| row(cookie(port), held(port), CensusState::Established, 0));
    let bound = |port| Event::BoundConnect { cookie: cookie(port), tuple: held(port), at_ns: START };
    let row_of = |to: Tuple| socket_owner(&holder, CensusState::Established, Tuple { local_port: 0, ..to }, 200);
    let mut events = vec![start(), small_range(200, 0)];
    if !is_late {
        events.extend(ports().map(bound));
    }
    events.extend((1..4).flat_map(|second| census(START + second * SECOND, rows().collect())));
    events.push(socket_owners(START + 4 * SECOND, vec![row_of(held(1))]));
    // The holder's next bind fails as well, which is no other story.
    events.push(bind_failed(holder, 0, 98, START + 4 * SECOND));
    events.extend(many(victim, 20, 10, START + 4 * SECOND, no_port));
    events.push(tick(START + 5 * SECOND));
    events
}

#[test]
fn who_has_bound_the_ports_for_another_destination_is_named() {
    for is_late in [false, true] {
        let finding = only(&mut engine(bound_by_another(is_late)));
        assert_eq!((finding.rule, pid(&finding)), (Rule::ExhaustionReached, Some(10)), "late: {is_late}");
        assert_eq!(finding.destination.unwrap().port, 80, "where connects fail");
        assert_eq!((evidence(&finding, "failing_pid"), finding.cause), (11.into(), Some(Rule::BindBeforeConnect)));
        let figures = ["ports_bound", "ports_total", "ports_available"].map(|name| evidence(&finding, name));
        assert_eq!(figures, [200.into(), 200.into(), 0.into()]);
        assert!(finding.title.contains("has bound the local ports that another process needs"), "{}", finding.title);
        assert_eq!(
            (finding.advice[0].id, effect(&finding, "bind-address-no-port", "ports_bound")),
            ("bind-address-no-port", (200.0, 0.0))
        );
        assert!(finding.advice.iter().all(|advice| advice.id != "more-addresses"), "{:?}", finding.advice);
    }
}

#[test]
fn a_filter_keeps_the_findings_that_concern_what_it_selects() {
    let to = |net: &str, port| Filter { dests: vec![(net.parse().unwrap(), port)], ..Filter::default() };
    let pids = |pids: &[u32]| Filter { pids: pids.to_vec(), ..Filter::default() };
    let comm = |comm: &str| Filter { comms: vec![comm.as_bytes().to_vec()], ..Filter::default() };
    let program = |name: &str| Filter { programs: vec![name.to_owned()], ..Filter::default() };
    let netns = |name: &str| Filter { netns: vec![name.to_owned()], ..Filter::default() };
    let number = NETNS.to_string();
    for (filter, keeps) in [
        // The victim's destination; the victim; the holder.
        (to("10.0.1.1/32", Some(80)), true),
        (Filter { ports: vec![80], ..Filter::default() }, true),
        (pids(&[11]), true),
        (pids(&[10]), true),
        (comm("victim"), true),
        (comm("holder"), true),
        (Filter { pids: vec![11], ports: vec![80], ..Filter::default() }, true),
        (program("victim"), true),
        (program("holder"), true),
        (netns(&number), true),
        // Others.
        (to("10.0.1.1/32", Some(443)), false),
        (to("192.0.2.0/24", None), false),
        (pids(&[12]), false),
        (comm("other"), false),
        (Filter { pids: vec![11], ports: vec![443], ..Filter::default() }, false),
        (program("other"), false),
        (netns("77"), false),
    ] {
        let config = Config { filter: filter.clone(), ..Config::default() };
        let snapshot = engine_with(config, bound_by_another(true)).snapshot();
        let found: Vec<Rule> = snapshot.findings().iter().map(|finding| finding.rule).collect();
        assert_eq!(found, if keeps { vec![Rule::ExhaustionReached] } else { vec![] }, "{filter:?}");
        // Who has the ports of a destination does not depend on who asks.
        for row in snapshot.destinations().iter().filter(|row| row.budget.is_some_and(|budget| budget.bound > 0)) {
            assert_eq!(snapshot.port_holders(row)[0].pid, Some(10), "{filter:?}");
        }
    }
}

#[test]
fn ports_that_other_destinations_share_are_not_bound() {
    // Half of the range is used elsewhere, and a connect finds no port all the same: of the rest nothing is known.
    let (other, victim) = (owner(10, "other"), owner(11, "victim"));
    let rows = || (40_000..40_100).map(|port| row(u64::from(port), tuple(port, 9, 9000), CensusState::Established, 0));
    let mut events = vec![start(), small_range(200, 0)];
    events.extend((1..4).flat_map(|second| census(START + second * SECOND, rows().collect())));
    events.push(socket_owners(
        START + 4 * SECOND,
        vec![socket_owner(&other, CensusState::Established, tuple(0, 9, 9000), 100)],
    ));
    events.extend(many(victim, 20, 10, START + 4 * SECOND, no_port));
    events.push(tick(START + 5 * SECOND));
    let finding = only(&mut engine(events));
    assert_eq!((finding.rule, pid(&finding)), (Rule::ExhaustionReached, Some(11)));
    assert_eq!(evidence(&finding, "ports_bound"), 0.into());
}

/// The findings after binds that failed beside a census.
fn beside(rows: Vec<twtrace_core::event::CensusRow>, owners: Vec<SocketOwner>, port: u16) -> Finding {
    let first = census(START + SECOND, rows);
    let owners = socket_owners(START + 2 * SECOND, owners);
    let bind = bind_failed(owner(10, "server"), port, 98, START + 3 * SECOND);
    only(&mut state_after(first.into_iter().chain([owners, bind, tick(START + 4 * SECOND)])))
}

#[test]
fn what_listens_on_the_port_of_a_bind_is_named() {
    let other = owner(20, "other");
    let listener = row(5, tuple(8080, 0, 0).without_remote(), CensusState::Listen, 0);
    let found = beside(vec![listener], vec![owner_row(&other, CensusState::Listen, 8080, (0, 0), 1)], 8080);
    assert_eq!((found.rule, pid(&found), evidence(&found, "holder_pid")), (Rule::NotTimeWait, Some(10), 20.into()));
    assert_eq!(found.title, "binds a port that another process listens on: this is not TIME_WAIT");
}

#[test]
fn a_port_that_no_process_has_open_is_the_kernels() {
    let listener = || row(5, tuple(8080, 0, 0).without_remote(), CensusState::Listen, 0);
    let other = || vec![owner_row(&owner(20, "other"), CensusState::Listen, 8080, (0, 0), 1)];
    let title = |owners: [Vec<SocketOwner>; 2], whole: bool, listed_s: u64| {
        let listed: Vec<Event> = census(START + listed_s * SECOND - 500 * MS, vec![listener()]).into_iter().collect();
        let mut events = Vec::new();
        for (second, rows) in (2..).zip(owners) {
            if second == listed_s + 1 {
                events.extend(listed.clone());
            }
            let Event::SocketOwners { at_ns, rows, .. } = socket_owners(START + second * SECOND, rows) else {
                panic!()
            };
            events.push(Event::SocketOwners { at_ns, complete: whole, rows });
        }
        events.push(bind_failed(owner(10, "server"), 8080, 98, START + 4 * SECOND));
        only(&mut state_after(events.into_iter().chain([tick(START + 5 * SECOND)]))).title
    };
    let (kernel, another) = ("binds a port that the kernel itself has", "binds a port that another socket uses");
    assert!(title([vec![], vec![]], true, 1).starts_with(kernel));
    // A search that left processes out, or that began before the socket was listed, proves nothing.
    assert!(title([vec![], vec![]], false, 1).starts_with(another));
    assert!(title([vec![], vec![]], true, 2).starts_with(another));
    assert!(title([vec![], other()], true, 1).starts_with("binds a port that another process listens on"));
}

#[test]
fn an_open_connection_that_has_the_port_of_a_bind_is_named() {
    let client = owner(20, "client");
    let open = row(5, tuple(40_000, 1, 80), CensusState::Established, 0);
    let found = beside(vec![open], vec![owner_row(&client, CensusState::Established, 0, (1, 80), 1)], 40_000);
    assert_eq!((found.rule, pid(&found), evidence(&found, "holder_pid")), (Rule::NotTimeWait, Some(10), 20.into()));
    assert_eq!(evidence(&found, "holder_peer"), "10.0.1.1:80".to_owned().into());
    assert_eq!(
        (found.title.as_str(), found.advice[0].id),
        ("cannot bind its port: an open connection has it: this is not TIME_WAIT", "reserve-port")
    );

    // A client whose port happened to be the one that it connects to.
    let itself = Tuple {
        local_addr: "127.0.0.1".parse().unwrap(),
        remote_addr: "127.0.0.1".parse().unwrap(),
        ..tuple(40_000, 1, 40_000)
    };
    let found = beside(vec![row(5, itself, CensusState::Established, 0)], Vec::new(), 40_000);
    assert_eq!(found.title, "cannot bind its port: a client that connected to itself has it: this is not TIME_WAIT");
}

#[test]
fn a_fixed_source_port_waits_for_its_last_connection() {
    let client = owner(20, "client");
    let binding = twtrace_core::event::Binding { port: true, address: false, range: None };
    let first = one_shot(1, client, START + SECOND).bound(binding);
    let again = Connection {
        connect_errno: 99,
        connect_exit: true,
        established: false,
        closer: None,
        cookie: 77,
        ..one_shot(1, client, START + 2 * SECOND)
            .bound(binding)
            .through(&[TcpState::Close, TcpState::SynSent, TcpState::Close], MICROSECOND_NS)
    };
    let found = only(&mut state_after([ended(first), ended(again), tick(START + 3 * SECOND)]));
    assert_eq!(
        (found.rule, pid(&found), evidence(&found, "holder_pid")),
        (Rule::PortHeldByTimeWait, Some(20), 20.into())
    );
    assert_eq!((found.advice[0].id, evidence(&found, "errno")), ("any-source-port", "EADDRNOTAVAIL".to_owned().into()));
    assert_eq!(evidence(&found, "held_seconds"), Value::Number(58.0));
}

#[test]
fn a_pool_of_privileged_ports_is_one_finding() {
    let listeners =
        (665..700).map(|port| row(u64::from(port), tuple(port, 0, 0).without_remote(), CensusState::Bound, 0));
    let mount = owner(10, "mount.nfs");
    let binds = (665..700).map(|port| bind_failed(mount, port, 98, START + 2 * SECOND));
    let first = census(START + SECOND, listeners.collect());
    let found = only(&mut state_after(first.into_iter().chain(binds).chain([tick(START + 3 * SECOND)])));
    assert_eq!((found.rule, pid(&found), found.destination), (Rule::PortHeldByTimeWait, Some(10), None));
    assert_eq!((evidence(&found, "ports_tried"), found.advice[0].id), (35.into(), "other-ports"));
}

#[test]
fn ports_are_listed_by_holder_and_state() {
    let (app, pool, mailer) = (owner(20, "app"), owner(21, "pool"), owner(22, "mailer"));
    let binding = twtrace_core::event::Binding { port: true, address: false, range: None };
    let bound = |n: u64, who, end_ns| {
        let port = 41_000 + n as u16;
        Connection { tuple: tuple(port, 2, 25), ..one_shot(n, who, end_ns) }.bound(binding)
    };
    let mut events = vec![small_range(2000, 0)];
    events.extend(many(app, 300, 1, START, one_shot));
    events.extend(many(mailer, 50, 1, START, bound));
    let mut rows: Vec<_> =
        (0..300).map(|n| row(20_000_000 + n, tuple(40_000 + n as u16, 1, 80), CensusState::TimeWait, 50_000)).collect();
    rows.extend((0..50).map(|n| row(22_000_000 + n, tuple(41_000 + n as u16, 2, 25), CensusState::TimeWait, 50_000)));
    // From before the trace, and open connections of a process of which nothing else was seen.
    rows.extend((0..7).map(|n| row(500 + n, tuple(41_500 + n as u16, 1, 80), CensusState::TimeWait, 5_000)));
    rows.extend((0..40).map(|n| row(600 + n, tuple(41_600 + n as u16, 1, 80), CensusState::Established, 0)));
    rows.extend((0..3).map(|n| row(700 + n, tuple(41_700 + n as u16, 1, 80), CensusState::FinWait1, 0)));
    events.extend(census(START + 2 * SECOND, rows));
    events.push(socket_owners(START + 2 * SECOND, vec![owner_row(&pool, CensusState::Established, 0, (1, 80), 40)]));
    events.push(tick(START + 3 * SECOND));
    let snapshot = state_after(events).snapshot();
    let to = |port: u16| {
        let is_it = |row: &&twtrace_core::snapshot::DestinationRow| matches!(row.key, twtrace_core::snapshot::DestRow::Dest(key) if key.port == port);
        let row = snapshot.destinations().iter().find(is_it).unwrap();
        let holders = snapshot.port_holders(row);
        holders.iter().map(|one| (one.pid, one.state.name(), one.ports, one.is_looked_up)).collect::<Vec<_>>()
    };
    assert_eq!(
        to(80),
        [
            (Some(20), "TIME_WAIT", 300, false),
            // For another destination.
            (Some(22), "bound", 50, false),
            (Some(21), "ESTABLISHED", 40, true),
            (None, "closing", 3, false),
            (None, "TIME_WAIT", 7, false),
        ]
    );
    assert_eq!(to(25), [(Some(22), "TIME_WAIT", 50, false)]);
}

#[test]
fn a_sysctl_says_how_long_it_lasts_and_how_it_is_set_for_good() {
    const POD: u32 = 77;
    let client = owner(10, "client");
    let risk = |netns: u32, cgroup: &str, container: Option<&str>| {
        let there = |n, who, end_ns| one_shot(n, who, end_ns).with(|connection| connection.tuple.netns = netns);
        let failed = |n, who, end_ns| no_port(n, who, end_ns).with(|connection| connection.tuple.netns = netns);
        let Event::Kernel { facts, .. } = small_range(200, 0) else { panic!("no facts") };
        let facts_of = twtrace_core::event::ProcessFacts {
            cgroup: Some(cgroup.to_owned()),
            container: container.map(str::to_owned),
            ..twtrace_testkit::process_facts("client")
        };
        let events = [start(), Event::Kernel { netns, facts }].into_iter().chain(many(client, 200, 10, START, there));
        let events = events.chain([twtrace_testkit::process(&client, facts_of)]);
        let failed = many(client, 50, 10, START + 2 * SECOND, failed);
        let found = only(&mut engine(events.chain(failed).chain([tick(START + 3 * SECOND)])));
        found.advice.iter().find(|advice| advice.id == "tcp-tw-reuse").unwrap().risk.clone()
    };
    for (netns, cgroup, container, says) in [
        (NETNS, "/system.slice/app.service", None, "Gone at the next boot: put `net.ipv4.tcp_tw_reuse = 1` into"),
        (POD, "/kubepods/burstable/pod1/abc", Some("abc"), "the pod's securityContext.sysctls"),
        (POD, "/kubepods/burstable/pod1/abc", Some("abc"), "--allowed-unsafe-sysctls"),
        (POD, "/docker/abc", Some("abc"), "`docker run --sysctl net.ipv4.tcp_tw_reuse=\"1\"`"),
        (POD, "/user.slice", None, "Gone with this network namespace."),
    ] {
        let risk = risk(netns, cgroup, container);
        assert!(risk.contains(says) && risk.contains("Behind a source NAT"), "{risk}");
    }
}

/// 48 connections/s for 70 s, which keep more than half of 5,000 ports in TIME_WAIT and never all of them. From the 1,000th
/// on, a connect takes `us` microseconds.
fn half_of_the_ports(us: u64) -> State {
    let client = owner(10, "client");
    let one = |n: u64, who, end_ns| {
        let step = if n < 1000 { 10 } else { us };
        one_shot(n % 5000, who, end_ns).usual(Role::Active, true, step * MICROSECOND_NS)
    };
    let one = |n, who, end_ns| Connection { cookie: 10_000_000 + n, ..one(n, who, end_ns) };
    let begin = [start(), small_range(5000, 0)].into_iter();
    engine(begin.chain(many(client, 3360, 21, START, one)).chain([tick(START + 71 * SECOND)]))
}

#[test]
fn connect_is_slow_when_half_of_the_ports_are_in_use() {
    let finding = only(&mut half_of_the_ports(2000));
    assert_eq!((finding.rule, pid(&finding)), (Rule::SlowConnect, Some(10)));
    // Its cause is named with it, and its remedy comes first.
    assert_eq!((finding.cause, finding.advice[0].id), (Some(Rule::NoConnectionReuse), "pool-connections"));
    assert!(matches!(evidence(&finding, "connect_ms_p50"), Value::Number(ms) if (1.9..2.1).contains(&ms)));
    // A connect that finds its port at once is not slow.
    assert_eq!(only(&mut half_of_the_ports(15)).rule, Rule::NoConnectionReuse);
}

#[test]
fn many_processes_that_look_for_a_privileged_port_are_one_finding_with_their_cause() {
    // A script runs a program 60 times; each run tries more ports, and connects from the first free one.
    let events = (0..60_u64).flat_map(|n| {
        let at_ns = START + n * 20 * MS;
        let run = owner(1000 + n as u32, "rpcinfo").started(at_ns).parent(77, "bash");
        let taken = (0..n as u16).map(move |port| bind_failed(run, 700 + port, 98, at_ns + MS));
        let from = tuple(700 + n as u16, 1, 111);
        taken.chain([ended(connection(9_000_000 + n, run, from, at_ns + 2 * MS))])
    });
    let found = only(&mut state_after(events.chain([tick(START + 2 * SECOND)])));
    assert_eq!((found.rule, found.cause), (Rule::PortHeldByTimeWait, Some(Rule::ForkPerRequest)));
    let process = found.process.unwrap();
    assert_eq!((process.process, process.processes, process.ppid), (None, 59, 77));
    assert_eq!(found.advice.iter().map(|advice| advice.id).collect::<Vec<_>>(), ["pool-connections", "other-ports"]);
    assert_eq!(evidence(&found, "ports_tried"), 59.into());
}

#[test]
fn timestamps_that_are_off_on_this_host_are_not_blamed_on_the_peer() {
    let off = match small_range(200, 1) {
        Event::Kernel { netns, facts } => Event::Kernel { netns, facts: KernelFacts { timestamps: Some(0), ..facts } },
        other => other,
    };
    let client = owner(10, "client");
    let without = |n, who, end_ns| Connection { peer_timestamps: Some(false), ..one_shot(n, who, end_ns) };
    let fills = many(client, 200, 10, START, without).into_iter();
    let fails = many(client, 50, 10, START + 2 * SECOND, no_port);
    let found =
        only(&mut engine([start(), off].into_iter().chain(fills).chain(fails).chain([tick(START + 3 * SECOND)])));
    assert!(found.title.contains("TCP timestamps are off here"), "{}", found.title);
    let ids: Vec<_> = found.advice.iter().map(|advice| advice.id).collect();
    assert!(ids.contains(&"tcp-timestamps") && !ids.contains(&"tcp-tw-reuse"), "{ids:?}");
    // Where connects fail, fewer of them are the effect.
    assert_eq!(effect(&found, "pool-connections", "connect_failures_per_s").1, 0.0);
}

#[test]
fn servers_whose_ports_are_taken_look_for_no_privileged_port() {
    let ports = [110, 143, 993, 995];
    let listeners = ports.map(|port| row(u64::from(port), tuple(port, 0, 0).without_remote(), CensusState::Listen, 0));
    let dovecot = owner(10, "dovecot");
    let binds = ports.map(|port| bind_failed(dovecot, port, 98, START + 2 * SECOND));
    let first = census(START + SECOND, listeners.to_vec());
    let found = only(&mut state_after(first.into_iter().chain(binds).chain([tick(START + 3 * SECOND)])));
    assert_eq!((found.rule, evidence(&found, "reason")), (Rule::NotTimeWait, "port_in_use".to_owned().into()));
}

#[test]
fn findings_of_a_part_of_a_recording_are_those_of_that_part() {
    for filter in [Filter::default(), Filter { pids: vec![10], ..Filter::default() }] {
        let client = owner(10, "client");
        let mut events = vec![start(), small_range(200, 0)];
        events.extend(many(client, 20, 10, START, no_port));
        let mut engine = engine_with(Config { filter, ..Config::default() }, events);
        assert_eq!(rules(&mut engine), [Rule::ExhaustionReached]);
        engine.count_from_now();
        engine.apply(tick(START + 2 * SECOND));
        assert_eq!(rules(&mut engine), []);
    }
}
