//! Groups, and which row counts move to when a table is full.

use crate::common::*;
use std::collections::BTreeMap;
use twtrace_core::event::{ContainerFacts, Event, Owner, ProcessFacts};
use twtrace_core::snapshot::{GROUPINGS, GroupBy, GroupKey, Row, Snapshot};
use twtrace_core::state::{Config, Filter, Limits, State};

const T: u64 = START + SECOND;

/// A process of one program, parent, user and cgroup.
fn child(tgid: u32, name: &str) -> Owner {
    owner(tgid, name).user(33).parent(77, "loop.sh").in_cgroup(9)
}

fn one(cookie: u64, who: Owner) -> Event {
    ended(connection(cookie, who, tuple((cookie % 60_000) as u16, 1, 80), T))
}

fn facts(key: Owner, facts: ProcessFacts) -> Event {
    Event::Process { key: key.key, facts }
}

fn in_unit(unit: &str, container: Option<&str>) -> ProcessFacts {
    ProcessFacts {
        cgroup: Some(format!("/system.slice/{unit}")),
        unit: Some(unit.to_owned()),
        container: container.map(str::to_owned),
        ..ProcessFacts::default()
    }
}

fn created(snapshot: &Snapshot, by: GroupBy) -> BTreeMap<GroupKey, u64> {
    snapshot.rows(by).iter().map(|row| (row.key.clone(), row.counts.time_wait_created)).collect()
}

fn row(snapshot: &Snapshot, by: GroupBy, is: impl Fn(&GroupKey) -> bool) -> &Row {
    snapshot.rows(by).iter().find(|row| is(&row.key)).unwrap()
}

#[test]
fn a_fact_that_arrives_late_regroups_what_was_counted_before() {
    let (web, batch) = (owner(10, "python3"), owner(11, "python3"));
    let mut state = engine([start(), one(1, web), one(2, batch), one(3, batch)]);
    let before = state.snapshot();
    assert_eq!(created(&before, GroupBy::Unit), BTreeMap::from([(GroupKey::None, 3)]));
    assert_eq!(created(&before, GroupBy::Program), BTreeMap::from([(GroupKey::Program("python3".into()), 3)]));
    let of_web =
        ProcessFacts { cmdline: Some("python3 /srv/web.py".to_owned()), ..in_unit("web.service", Some("c0ffee")) };
    state.apply(facts(web, of_web));
    let after = state.snapshot();
    let expected = [(GroupKey::Named("web.service".into()), 1), (GroupKey::None, 2)];
    assert_eq!(created(&after, GroupBy::Unit), BTreeMap::from(expected));
    let expected = [(GroupKey::Named("c0ffee".into()), 1), (GroupKey::None, 2)];
    assert_eq!(created(&after, GroupBy::Container), BTreeMap::from(expected));
    let expected = [(GroupKey::Program("web.py".into()), 1), (GroupKey::Program("python3".into()), 2)];
    assert_eq!(created(&after, GroupBy::Program), BTreeMap::from(expected));
}

#[test]
fn processes_of_one_file_are_together_whatever_they_call_themselves() {
    let (worker, master) = (owner(10, "nginx: worker"), owner(11, "nginx: master"));
    let nginx = || ProcessFacts { exe: Some("/usr/sbin/nginx".to_owned()), ..ProcessFacts::default() };
    let state = engine([start(), one(1, worker), one(2, master), facts(worker, nginx()), facts(master, nginx())]);
    let expected = [(GroupKey::Named("/usr/sbin/nginx".into()), 2)];
    assert_eq!(created(&state.snapshot(), GroupBy::Exe), BTreeMap::from(expected));
}

#[test]
fn a_process_that_was_gone_is_in_the_unit_of_its_cgroup() {
    // Two processes in one cgroup; only one lived long enough to be looked up.
    let (gone, there) = (child(10, "curl"), child(11, "sleep"));
    let state = engine([start(), one(1, gone), one(2, there), facts(there, in_unit("poll.service", None))]);
    assert_eq!(
        created(&state.snapshot(), GroupBy::Unit),
        BTreeMap::from([(GroupKey::Named("poll.service".into()), 2)])
    );
}

#[test]
fn one_shot_processes_of_a_program_and_parent_are_one_row_until_they_are_asked_for() {
    let events = (0..50).map(|n| one(u64::from(n) + 1, child(1_000 + n, "curl")));
    let server = (0..3).map(|n| one(900 + n, owner(5, "nginx")));
    let pair = (0..2).map(|n| one(950 + n, Owner { ppid: 88, ..child(2_000 + n as u32, "wget") }));
    let state = engine([start()].into_iter().chain(events).chain(server).chain(pair));
    let snapshot = state.snapshot();
    let curls = row(&snapshot, GroupBy::Process, |key| matches!(key, GroupKey::OneShots(_)));
    let GroupKey::OneShots(kin) = &curls.key else { panic!("{:?}", curls.key) };
    assert_eq!((&*kin.program, kin.ppid, curls.processes, curls.counts.time_wait_created), ("curl", 77, 50, 50));
    // Two of a kind keep separate rows.
    assert_eq!(snapshot.rows(GroupBy::Process).len(), 4);
    assert_eq!(snapshot.rows(GroupBy::Pid).len(), 53);
    assert_eq!(snapshot.members_of(GroupBy::Process, curls).count(), 50);
}

#[test]
fn what_moves_keeps_its_groups_and_the_totals() {
    let limits = Limits { rows: 16, cells: 64, ..Limits::default() };
    let one_shots = (0..500).map(|n| one(u64::from(n) + 1, child(1_000 + n, "curl")));
    let big = (0..40).map(|n| one(10_000 + n, owner(5, "nginx")));
    let events = [start()].into_iter().chain(big).chain(one_shots);
    let snapshot = engine_with(Config { limits, ..Config::default() }, events).snapshot();
    for by in GROUPINGS.iter().map(|grouping| grouping.by) {
        assert_eq!(created(&snapshot, by).values().sum::<u64>(), 540, "{by:?}");
        assert!(!created(&snapshot, by).contains_key(&GroupKey::Other), "{by:?}");
    }
    assert_eq!(created(&snapshot, GroupBy::User)[&GroupKey::User(33)], 500);
    assert_eq!(created(&snapshot, GroupBy::Command)[&GroupKey::Command(comm("curl"))], 500);
    assert_eq!(created(&snapshot, GroupBy::Parent)[&GroupKey::Parent(77, comm("loop.sh"))], 500);
    let curls = row(&snapshot, GroupBy::Process, |key| matches!(key, GroupKey::OneShots(_)));
    assert_eq!((curls.processes, curls.counts.time_wait_live), (500, 500));
}

#[test]
fn programs_that_created_most_keep_their_rows_beside_thousands_of_others() {
    const WORKERS: u32 = 450;
    let limits = Limits { rows: 512, ..Limits::default() };
    let mut cookie = 0;
    let mut state = State::new(Config { limits, ..Config::default() });
    state.apply(start());
    let mut close = |state: &mut State, who: Owner| {
        cookie += 1;
        state.apply(one(cookie, who));
    };
    for worker in 0..WORKERS {
        for _ in 0..60 {
            close(&mut state, Owner { ppid: 1, ..owner(100 + worker, "worker") });
        }
        for n in 0..60 {
            // Each has its own parent: they share only their program.
            let tgid = 100_000 + worker * 60 + n;
            close(&mut state, Owner { ppid: tgid - 1, ..owner(tgid, "curl") });
        }
    }
    let snapshot = state.snapshot();
    // A worker that has just started looks like a one-shot: what it had created by then may be with those.
    let workers = snapshot.rows(GroupBy::Pid).iter().filter(|row| row.counts.time_wait_created >= 45);
    let kept = workers.count();
    assert!((WORKERS as usize..=WORKERS as usize + 1).contains(&kept), "{kept}");
    assert!(!created(&snapshot, GroupBy::Program).contains_key(&GroupKey::Other));
    assert_eq!(created(&snapshot, GroupBy::Program)[&GroupKey::Program("curl".into())], u64::from(WORKERS) * 60);
}

#[test]
fn hostile_names_do_not_push_out_who_matters() {
    // A process that renames itself before each connection, under new PIDs.
    let limits = Limits { rows: 64, ..Limits::default() };
    let mut state = State::new(Config { limits, ..Config::default() });
    state.apply(start());
    for n in 0..5_000 {
        let name = format!("x{n}");
        for connection_of in 0..4 {
            state.apply(one(u64::from(n) * 5 + connection_of + 1, owner(1_000 + n, &name)));
        }
        state.apply(one(u64::from(n) * 5 + 5, owner(5, "victim")));
    }
    let snapshot = state.snapshot();
    assert_eq!(created(&snapshot, GroupBy::Pid)[&GroupKey::Process(owner(5, "victim").key)], 5_000);
    assert_eq!(created(&snapshot, GroupBy::Pid).values().sum::<u64>(), 25_000);
}

#[test]
fn many_destinations_of_few_processes_move_the_destinations() {
    let limits = Limits { rows: 1_000, cells: 300, live: 10_000 };
    let mut state = State::new(Config { limits, ..Config::default() });
    state.apply(start());
    for n in 0..2_000_u64 {
        let who = owner(5 + (n % 4) as u32, "crawler");
        state.apply(ended(connection(n + 1, who, tuple(30_000, (n % 200) as u8, 80 + (n / 200) as u16), T)));
    }
    let snapshot = state.snapshot();
    assert_eq!(created(&snapshot, GroupBy::Pid).values().copied().collect::<Vec<_>>(), [500; 4]);
    assert!(created(&snapshot, GroupBy::Destination)[&GroupKey::Other] > 1_000);
    assert_eq!(created(&snapshot, GroupBy::Destination).values().sum::<u64>(), 2_000);
}

#[test]
fn a_filter_by_a_name_takes_rows_away_and_totals_with_them() {
    let (web, cron) = (owner(10, "python3"), child(11, "curl"));
    let elsewhere = |cookie, who| {
        let mut tuple = tuple(40_009, 1, 443);
        tuple.netns = 7;
        ended(connection(cookie, who, tuple, T))
    };
    let events = || {
        let unit = in_unit("web.service", Some("c0ffee00deadbeef"));
        let facts_of_web = ProcessFacts { cmdline: Some("python3 web.py".to_owned()), ..unit };
        let name = Event::Namespace { netns: 7, inode: 7, name: "blue".to_owned(), refused: None };
        [start(), name, one(1, web), one(2, cron), elsewhere(3, cron), facts(web, facts_of_web)]
    };
    let filtered = |filter: Filter| engine_with(Config { filter, ..Config::default() }, events()).snapshot();
    let list = |name: &str| vec![name.to_owned()];
    for filter in [
        Filter { programs: list("web.py"), ..Filter::default() },
        Filter { units: list("web.service"), ..Filter::default() },
        Filter { units: list("web"), ..Filter::default() },
        Filter { containers: list("c0ffee"), ..Filter::default() },
        Filter { units: list("web"), programs: list("web.py"), ..Filter::default() },
    ] {
        let snapshot = filtered(filter.clone());
        assert_eq!(created(&snapshot, GroupBy::Pid), BTreeMap::from([(GroupKey::Process(web.key), 1)]), "{filter:?}");
        assert_eq!(snapshot.summary().totals.counts.time_wait_created, 1, "{filter:?}");
        assert_eq!((snapshot.sockets().len(), snapshot.destinations().len()), (1, 1), "{filter:?}");
    }
    for netns in ["blue", "7"] {
        let snapshot = filtered(Filter { netns: list(netns), ..Filter::default() });
        assert_eq!(created(&snapshot, GroupBy::Netns), BTreeMap::from([(GroupKey::Netns(7), 1)]));
        assert_eq!((snapshot.sockets().len(), snapshot.summary().totals.counts.opened), (1, 1));
    }
    for no_match in
        [Filter { units: list("c0ffee"), ..Filter::default() }, Filter { containers: list("c0f"), ..Filter::default() }]
    {
        assert!(filtered(no_match).rows(GroupBy::Pid).is_empty());
    }
}

fn in_pod(name: &str) -> ContainerFacts {
    ContainerFacts {
        name: Some(name.to_owned()),
        image: Some("docker.io/library/nginx:1.25".to_owned()),
        pod: Some("web-6d4cf56db6-x7k2p".to_owned()),
        pod_namespace: Some("shop".to_owned()),
        workload: Some("web".to_owned()),
    }
}

fn said(id: &str, facts: ContainerFacts) -> Event {
    Event::Container { id: id.to_owned(), facts }
}

#[test]
fn name_of_a_container_that_arrives_late_regroups_what_was_counted_before() {
    let (api, proxy, cron) = (owner(10, "api"), owner(11, "proxy"), owner(12, "cron"));
    let id = |id: &str| ProcessFacts { pod_uid: Some("61d1".to_owned()), ..in_unit("a.scope", Some(id)) };
    let counted = [
        start(),
        one(1, api),
        one(2, api),
        one(3, proxy),
        one(4, cron),
        facts(api, id("aaaa")),
        facts(proxy, id("bbbb")),
    ];
    let mut state = engine(counted);
    let named = |name: &str| GroupKey::Named(name.into());
    let before = state.snapshot();
    let expected = [(named("aaaa"), 2), (named("bbbb"), 1), (GroupKey::None, 1)];
    assert_eq!(created(&before, GroupBy::Container), BTreeMap::from(expected));
    assert_eq!(created(&before, GroupBy::Pod), BTreeMap::from([(named("61d1"), 3), (GroupKey::None, 1)]));
    assert_eq!(created(&before, GroupBy::Image), BTreeMap::from([(GroupKey::None, 4)]));
    state.apply(said("aaaa", in_pod("api")));
    state.apply(said("bbbb", in_pod("proxy")));
    let after = state.snapshot();
    let pod = "shop/web-6d4cf56db6-x7k2p";
    for (by, expected) in [
        (GroupBy::Container, vec![(format!("{pod}/api"), 2), (format!("{pod}/proxy"), 1)]),
        (GroupBy::Pod, vec![(pod.to_owned(), 3)]),
        (GroupBy::Image, vec![("docker.io/library/nginx:1.25".to_owned(), 3)]),
        (GroupBy::Workload, vec![("shop/web".to_owned(), 3)]),
        (GroupBy::ClusterNamespace, vec![("shop".to_owned(), 3)]),
    ] {
        let expected = expected.iter().map(|(name, number)| (named(name), *number));
        assert_eq!(created(&after, by), expected.chain([(GroupKey::None, 1)]).collect(), "{by:?}");
    }
    // A network namespace that is named after a container belongs to its pod.
    for (netns, id) in [(7, "aaaa"), (8, "cccc")] {
        state.apply(Event::Namespace { netns, inode: netns, name: id.to_owned(), refused: None });
    }
    state.apply(said("cccc", ContainerFacts { name: Some("db1".to_owned()), ..ContainerFacts::default() }));
    let name = |netns| state.summary().namespace(netns).unwrap().name.as_str();
    assert_eq!((name(7), name(8)), (pod, "db1"));
    // A recording that begins here knows it too.
    let mut later = engine(state.preface());
    later.apply(one(5, api));
    assert_eq!(created(&later.snapshot(), GroupBy::Workload), BTreeMap::from([(named("shop/web"), 1)]));
}

#[test]
fn filters_of_containers_match_names_ids_images_pods_and_workloads() {
    let (api, cron) = (owner(10, "api"), owner(12, "cron"));
    let id = "3f1ce9b7a4d2";
    let shown = ProcessFacts { pod_uid: Some("61d1e0b4".to_owned()), ..in_unit("a.scope", Some(id)) };
    let events = || [start(), one(1, api), one(2, cron), facts(api, shown.clone()), said(id, in_pod("api"))];
    let list = |name: &str| vec![name.to_owned()];
    let containers = |name: &str| Filter { containers: list(name), ..Filter::default() };
    let images = |name: &str| Filter { images: list(name), ..Filter::default() };
    let pods = |name: &str| Filter { pods: list(name), ..Filter::default() };
    let workloads = |name: &str| Filter { workloads: list(name), ..Filter::default() };
    let namespaces = |name: &str| Filter { cluster_namespaces: list(name), ..Filter::default() };
    for (filter, passes) in [
        (containers("api"), true),
        (containers("shop/web-6d4cf56db6-x7k2p/api"), true),
        (containers("3f1ce9"), true),
        (containers("proxy"), false),
        (images("nginx"), true),
        (images("nginx:1.24"), false),
        (pods("web-6d4cf56db6-x7k2p"), true),
        (pods("shop/web-6d4cf56db6-x7k2p"), true),
        (pods("61d1e0b4"), true),
        (pods("web"), false),
        (workloads("web"), true),
        (workloads("shop/web"), true),
        (workloads("shop"), false),
        (namespaces("shop"), true),
        (namespaces("web"), false),
    ] {
        let snapshot = engine_with(Config { filter: filter.clone(), ..Config::default() }, events()).snapshot();
        assert_eq!(snapshot.rows(GroupBy::Pid).len(), usize::from(passes), "{filter:?}");
        assert_eq!(snapshot.sockets().len(), usize::from(passes), "{filter:?}");
    }
}
