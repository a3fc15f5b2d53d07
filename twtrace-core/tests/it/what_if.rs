//! What would have been with other settings.

use crate::common::*;
use twtrace_core::event::{Binding, CensusState, Event, KernelFacts, Role, TcpState};
use twtrace_core::state::{Config, Filter};
use twtrace_core::what_if::{Change, Demands, Outcome};

const MS: u64 = SECOND / 1000;

/// A range of 1,000 ports.
fn small() -> Event {
    twtrace_testkit::kernel(KernelFacts { port_range: (40_000, 40_999), tw_reuse: 0, ..kernel_facts() })
}

/// A request of a client, open for so long, to a destination.
fn request(client: u32, number: u64, begin_ns: u64, lasts_ns: u64, remote_last: u8) -> Event {
    let tuple = tuple(40_000 + (number % 1000) as u16, remote_last, 80);
    let end_ns = begin_ns + lasts_ns;
    let states = states(Role::Active, true);
    let step_ns = lasts_ns / (states.len() as u64 - 1);
    ended(connection(number, owner(client, "app"), tuple, end_ns).through(&states, step_ns))
}

/// A connect that finds no port.
fn no_port(client: u32, number: u64, at_ns: u64) -> Event {
    let mut failed = connection(number, owner(client, "app"), tuple(0, 1, 80), at_ns);
    failed.transitions = path(&[TcpState::Close, TcpState::SynSent, TcpState::Close], at_ns);
    (failed.connect_errno, failed.connect_exit, failed.established, failed.closer) = (99, true, false, None);
    ended(failed)
}

fn demands(filter: Filter, events: impl IntoIterator<Item = Event>, until_ns: u64) -> Demands {
    let mut demands = Demands::new(filter);
    for event in [start(), small()].into_iter().chain(events).chain([tick(until_ns)]) {
        demands.apply(&event);
    }
    demands
}

fn run(demands: &Demands, changes: &[&str]) -> Outcome {
    let changes: Vec<Change> = changes.iter().map(|change| change.parse().unwrap()).collect();
    demands.run(&changes)
}

/// Requests one after the other, 100 a second for so many seconds; those that found no port failed.
fn steady(seconds: u64) -> Demands {
    let at = |number: u64| START + number * 10 * MS;
    let events = (0..seconds * 100).map(|number| {
        if !(1000..=6000).contains(&number) {
            request(7, number, at(number), MS, 1)
        } else {
            no_port(7, number, at(number))
        }
    });
    demands(Filter::default(), events, START + seconds * SECOND)
}

#[test]
fn nothing_changes_without_changes() {
    let outcome = run(&steady(20), &[]);
    assert_eq!((outcome.opened, outcome.failed, outcome.time_wait_peak), (1000, 1000, 1000));
    // One that fails in the recording has its time from the end of the connect.
    assert_eq!(outcome.first_failed_ns.unwrap() / SECOND, 10);
    let fullest = outcome.fullest.unwrap();
    assert_eq!((fullest.ports, fullest.total, fullest.remote_port), (1000, 1000, 80));
    assert_eq!(steady(20).recorded_failures(), (1000, Some(10 * SECOND)));
}

#[test]
fn a_port_comes_back_after_a_minute() {
    let outcome = run(&steady(70), &[]);
    assert_eq!((outcome.opened, outcome.failed, outcome.time_wait_peak), (1999, 5001, 1000));
    let wide = run(&steady(70), &["range=1024-65535"]);
    // A minute's worth.
    assert_eq!((wide.opened, wide.failed), (7000, 0));
    assert!((5_990..=6_010).contains(&wide.time_wait_peak), "{}", wide.time_wait_peak);
}

#[test]
fn each_remedy_does_what_the_kernel_would() {
    let steady = steady(20);
    let reuse = run(&steady, &["tcp_tw_reuse=1"]);
    // The search goes round one half of the range, and takes over what is older than a second.
    assert_eq!((reuse.opened, reuse.failed), (2000, 0));
    assert!((400..=500).contains(&reuse.time_wait_peak), "{}", reuse.time_wait_peak);
    // Loopback only.
    assert_eq!(run(&steady, &["tcp_tw_reuse=2"]).failed, 1000);

    let pool = run(&steady, &["pool=1"]);
    assert_eq!((pool.opened, pool.failed, pool.time_wait_peak), (1, 0, 0));
    let kept = run(&steady, &["keep-alive=10"]);
    assert_eq!((kept.opened, kept.failed, kept.time_wait_peak), (200, 0, 200));
    let addresses = run(&steady, &["addresses=2"]);
    assert_eq!((addresses.opened, addresses.failed, addresses.time_wait_peak), (2000, 0, 2000));
    assert_eq!(addresses.fullest.unwrap().ports, 1000);
    let buckets = run(&steady, &["tcp_max_tw_buckets=100"]);
    assert_eq!((buckets.failed, buckets.time_wait_peak, buckets.overflowed), (0, 100, 1900));
    // All of them together.
    let all = run(&steady, &["keep-alive=10", "tcp_tw_reuse=1", "range=1024-65535"]);
    assert_eq!((all.opened, all.failed), (200, 0));
}

#[test]
fn bursts_need_as_many_connections_as_requests_at_a_time() {
    let burst = |at_ns: u64, first: u64| (0..50).map(move |number| request(7, first + number, at_ns, 100 * MS, 1));
    let events = (0..4).flat_map(|number| burst(START + number * 2 * SECOND, number * 50));
    let bursts = demands(Filter::default(), events, START + 10 * SECOND);
    assert_eq!(run(&bursts, &[]).time_wait_peak, 200);
    // Twenty stay, thirty are opened each time.
    let pool = run(&bursts, &["pool=20"]);
    assert_eq!((pool.opened, pool.time_wait_peak), (20 + 4 * 30, 4 * 30));
    assert_eq!(run(&bursts, &["pool=50"]).opened, 50);
    // With ten at a time, each burst takes five times as long.
    let limited = run(&bursts, &["limit=10", "pool=10"]);
    assert_eq!((limited.opened, limited.time_wait_peak, limited.fullest.unwrap().ports), (10, 0, 10));
}

#[test]
fn bound_ports_are_taken_for_every_destination() {
    let bound = |number: u64| {
        let at_ns = START + number * 10 * MS;
        let tuple = tuple(40_000 + (number % 1000) as u16, 1 + (number % 2) as u8, 80);
        let binding = Binding { port: true, address: true, range: None };
        ended(connection(number, owner(7, "mailer"), tuple, at_ns).bound(binding))
    };
    let refused = |at_ns| twtrace_testkit::bind_failed(owner(7, "mailer"), tuple(0, 1, 80), 98, false, at_ns);
    let victim = |at_ns| request(8, 5000, at_ns, MS, 3);
    let events = (0..1000).map(bound).chain([refused(START + 11 * SECOND), victim(START + 12 * SECOND)]);
    let bound = demands(Filter::default(), events, START + 20 * SECOND);
    let outcome = run(&bound, &[]);
    assert_eq!((outcome.opened, outcome.failed), (1000, 2));
    // tcp_tw_reuse does not apply to them.
    assert_eq!(run(&bound, &["tcp_tw_reuse=1"]).failed, 2);
    assert_eq!(run(&bound, &["range=1024-65535"]).failed, 0);
    assert_eq!(run(&bound, &["pool=1"]).opened, 3);
}

#[test]
fn both_ends_of_a_connection_are_one_request() {
    // The server closes first: the TIME_WAIT sockets are its own.
    let pair = |number: u64| {
        let (client, server) = (owner(7, "app"), owner(8, "server"));
        let at_ns = START + number * 10 * MS;
        let of_client = tuple(40_000 + number as u16, 1, 80);
        let of_server = twtrace_core::event::Tuple {
            local_addr: of_client.remote_addr,
            local_port: of_client.remote_port,
            remote_addr: of_client.local_addr,
            remote_port: of_client.local_port,
            ..of_client
        };
        let accepted = connection(2 * number, server, of_server, at_ns).usual(Role::Passive, true, 1_000);
        let opened = connection(2 * number + 1, client, of_client, at_ns + 1).usual(Role::Active, false, 1_000);
        // Either may be reported first.
        if number.is_multiple_of(2) { [ended(accepted), ended(opened)] } else { [ended(opened), ended(accepted)] }
    };
    let pairs = demands(Filter::default(), (0..200).flat_map(pair), START + 10 * SECOND);
    let outcome = run(&pairs, &[]);
    assert_eq!((outcome.opened, outcome.time_wait_peak), (200, 200));
    assert_eq!(outcome.fullest.unwrap().ports, 1);
    let kept = run(&pairs, &["keep-alive=50"]);
    assert_eq!((kept.opened, kept.time_wait_peak), (4, 4));
}

#[test]
fn what_was_there_before_the_trace_keeps_its_ports() {
    let row = |cookie, port, state, expires_ms| row(cookie, tuple(port, 1, 80), state, expires_ms);
    let rows = (0..400).map(|number| row(number + 1, 40_000 + number as u16, CensusState::TimeWait, 30_000));
    let open = (400..900).map(|number| row(number + 1, 40_000 + number as u16, CensusState::Established, 0));
    let events = census(START + SECOND / 10, rows.chain(open).collect());
    let later = (0..200).map(|number| {
        let at_ns = START + SECOND + number * 10 * MS;
        if number < 100 { request(7, 10_900 + number, at_ns, MS, 1) } else { no_port(7, number, at_ns) }
    });
    // After half a minute the 400 have their ports back.
    let last = (0..200).map(|number| request(7, 20_000 + number, START + 40 * SECOND + number * 10 * MS, MS, 1));
    let before = demands(Filter::default(), events.into_iter().chain(later).chain(last), START + 50 * SECOND);
    let outcome = run(&before, &[]);
    assert_eq!((outcome.opened, outcome.failed, outcome.time_wait_peak), (300, 100, 500));
}

#[test]
fn only_what_the_filter_selects_is_changed_and_counted() {
    let at = |number: u64| START + number * 10 * MS;
    let events = (0..800).map(|number| request(7 + (number % 2) as u32, number, at(number), MS, 1));
    let filter = Filter { pids: vec![7], ..Filter::default() };
    let demands = demands(filter, events, START + 20 * SECOND);
    let outcome = run(&demands, &["pool=1"]);
    // The other process takes its ports as before.
    assert_eq!((outcome.opened, outcome.failed, outcome.time_wait_peak), (1, 0, 0));
    assert_eq!(run(&demands, &[]).time_wait_peak, 400);
    assert_eq!(run(&demands, &[]).fullest.unwrap().ports, 799);
}

#[test]
fn the_forecast_by_seconds_agrees_with_the_model_of_each_connect() {
    use twtrace_core::asked::{Asked, SECONDS};
    // Connects in each second, again and again: steady, a burst, two bursts, a saw.
    let patterns: [&[u32]; 4] = [&[30], &[400, 0, 0, 0, 0], &[0, 700, 0, 100, 0, 0], &[10, 20, 30, 40, 50, 60]];
    for pattern in patterns {
        let of = |second: u64| u64::from(pattern[second as usize % pattern.len()]);
        let load = |seconds: u64| {
            let at = (0..seconds).flat_map(|second| {
                let step = SECOND / of(second).max(1);
                (0..of(second)).map(move |number| START + second * SECOND + number * step)
            });
            let events = at.enumerate().map(|(number, at_ns)| request(7, number as u64, at_ns, MS / 10, 1));
            demands(Filter::default(), events, START + seconds * SECOND)
        };
        let (first, both) = (load(60), load(120));
        for (change, total, hold_s) in [
            ("range=40000-40199", 200, 60.0),
            ("range=40000-40999", 1000, 60.0),
            ("range=40000-41999", 2000, 60.0),
            ("tcp_tw_reuse=1", 1000, 1.0),
        ] {
            let expected = (run(&both, &[change]).failed - run(&first, &[change]).failed) as f64 / 60.0;
            // What a tracer has seen in a minute of 1,000 ports that come back after a minute.
            let mut asked = Asked { taken: [0; SECONDS], refused: [0; SECONDS], standing: 0, total: 1000 };
            let mut left = 1000;
            for age in (0..SECONDS).rev() {
                let wanted = of((SECONDS - 1 - age) as u64) as u32;
                asked.taken[age] = wanted.min(left);
                asked.refused[age] = wanted - asked.taken[age];
                left -= asked.taken[age];
            }
            let forecast = asked.refused_with(total, hold_s);
            let tolerance = 0.1 * expected.max(1.0);
            assert!((forecast - expected).abs() <= tolerance, "{pattern:?}, {change}: {forecast} and not {expected}");
        }
    }
}

#[test]
fn a_filter_by_name_selects_requests_and_changes_those_alone() {
    // Two programs, 20 requests a second each; and one-shots of a third.
    let app = |number: u64| request(7, number, START + number * 50 * MS, MS, 1);
    let named = |number: u64| {
        let Event::Connection(mut connection) = request(8, 10_000 + number, START + number * 50 * MS, MS, 2) else {
            panic!("no connection")
        };
        let other = owner(8, "other");
        (connection.opener, connection.closer) = (Some(other), Some(other));
        Event::Connection(connection)
    };
    let events = || [start(), small()].into_iter().chain((0..200).flat_map(|n| [app(n), named(n)]));
    let opened = |filter: Filter, change: &[&str]| {
        let mut demands = Demands::new(filter.clone());
        events().chain([tick(START + 20 * SECOND)]).for_each(|event| demands.apply(&event));
        let config = Config { filter, ..Config::default() };
        demands.select(&engine_with(config, events().chain([tick(START + 20 * SECOND)])).snapshot());
        (demands.recorded_connections(), run(&demands, change).opened)
    };
    let program = |name: &str| Filter { programs: vec![name.to_owned()], ..Filter::default() };
    let netns = |name: u32| Filter { netns: vec![name.to_string()], ..Filter::default() };
    assert_eq!(opened(Filter::default(), &["pool=1"]), (400, 2));
    assert_eq!(opened(program("other"), &["pool=1"]), (200, 1));
    assert_eq!(opened(program("other"), &[]), (200, 200));
    assert_eq!(opened(program("none"), &["pool=1"]), (0, 0));
    assert_eq!(opened(netns(NETNS), &["pool=1"]), (400, 2));
    assert_eq!(opened(netns(5), &["pool=1"]), (0, 0));
}
