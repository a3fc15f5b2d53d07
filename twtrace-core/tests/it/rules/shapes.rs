//! Shapes of traffic: large and slow requests, bursts, pools that are too small, clients that ask a server to close.

use super::*;
use crate::common::*;
use twtrace_core::event::{CensusState, Connection, Owner, Role};
use twtrace_core::evidence::Value;
use twtrace_core::finding::{Finding, Rule, Severity};

/// A connection that lasts so long, milliseconds, with one request of so many bytes in so many segments.
fn lasting(ms: u64, bytes: u64, segments: u16) -> impl Fn(u64, Owner, u64) -> Connection {
    move |n, who, end_ns| {
        let mut one = one_shot(n, who, end_ns);
        one.transitions[0].at_ns = end_ns - ms * MS;
        (one.bytes_sent, one.request_segments) = (bytes, Some(segments));
        one
    }
}

fn count(finding: &Finding, name: &str) -> u64 {
    let Value::Count(count) = evidence(finding, name) else { panic!("{name}") };
    count
}

fn number(finding: &Finding, name: &str) -> f64 {
    let Value::Number(number) = evidence(finding, name) else { panic!("{name}") };
    number
}

#[test]
fn a_large_request_for_each_connection_is_churn() {
    let app = owner(10, "shipper");
    let after = |one: &dyn Fn(u64, Owner, u64) -> Connection| {
        state_after(many(app, 100, 25, START + SECOND, one).into_iter().chain([tick(START + 4 * SECOND)]))
    };
    // Of 64 KiB each: 46 segments on Ethernet, two on the loopback device.
    for segments in [46, 2] {
        let finding = only(&mut after(&lasting(20, 65_536, segments)));
        assert_eq!((finding.rule, count(&finding, "request_bytes")), (Rule::NoConnectionReuse, 65_536));
    }
    // Two hundred requests on each connection: as many segments.
    assert_eq!(rules(&mut after(&lasting(20, 20_000, 200))), []);
    // Segments that are sent again are no further requests.
    let lossy = |n, who, end_ns| Connection { retransmits: 40, ..lasting(20, 65_536, 95)(n, who, end_ns) };
    assert_eq!(rules(&mut after(&lossy)), [Rule::NoConnectionReuse]);
}

#[test]
fn a_slow_request_for_each_connection_is_churn() {
    let app = owner(10, "reports");
    let after = |one: &dyn Fn(u64, Owner, u64) -> Connection| {
        state_after(many(app, 600, 100, START + 6 * SECOND, one).into_iter().chain([tick(START + 67 * SECOND)]))
    };
    let finding = only(&mut after(&lasting(6000, 300, 1)));
    assert_eq!((finding.rule, finding.severity), (Rule::NoConnectionReuse, Severity::Info));
    assert_eq!(count(&finding, "at_a_time"), 60, "10 per second, for 6 s each");
    assert_eq!(effect(&finding, "pool-connections", "connections_needed").1, 60.0);
    // The same time with ten requests is keep-alive.
    assert_eq!(rules(&mut after(&lasting(6000, 3000, 10))), []);
    // A connection that stays for two minutes with one request is idle for most of them.
    let idle = many(app, 600, 200, START + 120 * SECOND, lasting(120_000, 300, 1)).into_iter();
    assert_eq!(rules(&mut state_after(idle.chain([tick(START + 241 * SECOND)]))), []);
}

#[test]
fn the_peak_and_not_the_mean_sizes_a_pool() {
    // Ten at a time, then a pause of half a second.
    let ten = |n: u64, who, end_ns| {
        let begun = end_ns / (500 * MS) * (500 * MS);
        let mut one = one_shot(n, who, begun + 50 * MS);
        one.transitions[0].at_ns = begun;
        one
    };
    let finding = only(&mut state_after(many(owner(10, "app"), 400, 50, START + SECOND, ten)));
    assert_eq!((finding.rule, count(&finding, "at_a_time")), (Rule::NoConnectionReuse, 10));
    assert!(finding.advice[0].text.contains("a pool of 10 carries"), "{}", finding.advice[0].text);
}

#[test]
fn bursts_are_limited_and_not_pooled() {
    // Each ten seconds, 300 begin within 0.3 s and last as long.
    let burst = |n: u64, who, _| {
        let begun = START + SECOND + n / 300 * 10 * SECOND + n % 300 * MS;
        let mut one = one_shot(n, who, begun + 300 * MS);
        one.transitions[0].at_ns = begun;
        one
    };
    let mut engine = state_after(many(owner(10, "fanout"), 1200, 1, START, burst));
    engine.apply(tick(START + 38 * SECOND));
    let finding = only(&mut engine);
    assert_eq!((finding.rule, finding.active), (Rule::NoConnectionReuse, true), "the next one comes in three seconds");
    assert_eq!(count(&finding, "burst_connections"), 300);
    assert!((number(&finding, "burst_seconds") - 0.299).abs() < 0.01);
    assert!((number(&finding, "quiet_seconds") - 9.7).abs() < 0.01);
    assert!(count(&finding, "at_a_time") > 250);
    assert!((number(&finding, "rate_per_s") - 30.0).abs() < 0.5, "the mean: 300 each 10 s");
    let advice = &finding.advice[0];
    assert_eq!(advice.id, "limit-connects");
    let (from, to) = effect(&finding, "limit-connects", "connections_needed");
    assert!(from > 250.0 && to == 18.0, "{from} to {to}: 300 of 0.3 s each, in half of the time");

    // A batch of 50 each hour is none.
    let batch = |n: u64, who, _| one_shot(n, who, START + n / 50 * 3600 * SECOND + n % 50 * MS);
    let hours = many(owner(10, "batch"), 500, 1, START, batch).into_iter();
    assert_eq!(rules(&mut state_after(hours.chain([tick(START + 32_401 * SECOND)]))), []);
}

#[test]
fn a_pool_that_is_too_small() {
    let app = owner(10, "app");
    // Ten are kept; twenty more are open at a time, for 30 ms each.
    let pool = || {
        stays(1..5, CensusState::Established, 50_000..50_010)
            .into_iter()
            .chain([socket_owners(START + 5 * SECOND, vec![owner_row(&app, CensusState::Established, 0, (1, 80), 18)])])
    };
    let twenty = |n: u64, who, end_ns| lasting(30, 100, 1)(n, who, START + SECOND + n / 20 * 80 * MS + (end_ns & 1));
    let finding = only(&mut state_after(many(app, 1000, 1, START, twenty).into_iter().chain(pool())));
    assert_eq!((finding.rule, pid(&finding)), (Rule::PoolTooSmall, Some(10)));
    assert_eq!((count(&finding, "pool_connections"), count(&finding, "at_a_time")), (10, 20));
    assert!(finding.advice[0].text.contains("at least 30 idle"), "{}", finding.advice[0].text);
    // One other at a time is a code path of its own.
    let one = |n: u64, who, _| lasting(30, 100, 1)(n, who, START + SECOND + n * 40 * MS);
    let finding = only(&mut state_after(many(app, 100, 1, START, one).into_iter().chain(pool())));
    assert_eq!((finding.rule, count(&finding, "pool_connections")), (Rule::PoolBypassed, 10));
}

/// A client whose server, of that name, closes each of its connections first.
fn asks(server: &str) -> Vec<Event> {
    let (client, server) = (owner(10, "ab"), owner(20, server));
    let both = |n| {
        let end_ns = START + (n + 1) * 20 * MS;
        [ended(served(n, server, end_ns)), ended(closed_by_peer(n, client, end_ns))]
    };
    (0..100).flat_map(both).chain([tick(START + 3 * SECOND)]).collect()
}

#[test]
fn a_server_that_is_asked_to_close_is_not_at_fault() {
    // By its name, it keeps connections open, unless it is configured otherwise: both ends are named.
    let finding = only(&mut state_after(asks("nginx")));
    assert_eq!((finding.rule, pid(&finding)), (Rule::NoConnectionReuse, Some(10)));
    assert_eq!(
        (count(&finding, "server_pid"), evidence(&finding, "server_command")),
        (20, Value::Text("nginx".into()))
    );
    assert_eq!(finding.advice.iter().map(|advice| advice.id).collect::<Vec<_>>(), ["pool-connections", "keep-alive"]);

    // Another client's connections to the same port last: it is the clients of these that ask it to close.
    let other = |n: u64| {
        let mut kept = served(1000 + n, owner(20, "server"), START + 3 * SECOND);
        kept.transitions[0].at_ns = START + SECOND;
        (kept.bytes_received, kept.request_segments) = (50_000, Some(500));
        ended(kept)
    };
    let finding = only(&mut state_after((0..3).map(other).chain(asks("server"))));
    assert_eq!((finding.rule, pid(&finding)), (Rule::NoConnectionReuse, Some(10)));
    assert_eq!(finding.advice.iter().map(|advice| advice.id).collect::<Vec<_>>(), ["pool-connections"]);

    // Clients elsewhere: what decides is the same.
    let of_server = |name: &str| (0..100).map(|n| served(n, owner(20, name), START + n * 20 * MS)).map(ended).collect();
    let with = |events: Vec<Event>| only(&mut state_after(events.into_iter().chain([tick(START + 3 * SECOND)])));
    let ids = |finding: &Finding| finding.advice.iter().map(|advice| advice.id).collect::<Vec<_>>();
    let finding = with(of_server("apache2"));
    assert_eq!((finding.rule, ids(&finding)), (Rule::ServerClosesFirst, vec!["keep-alive-clients", "keep-alive"]));
    let finding = with((0..3).map(other).chain(of_server("server")).collect());
    assert_eq!((finding.rule, ids(&finding)), (Rule::ServerClosesFirst, vec!["keep-alive-clients"]));
    let finding = with(of_server("server"));
    assert_eq!((finding.rule, ids(&finding)), (Rule::ServerClosesFirst, vec!["keep-alive"]));
}

#[test]
fn regular_checks_that_end_with_a_reset_are_harmless_and_said_so() {
    use TcpState::{Close, Established, SynSent};
    let check = |n, who, end_ns| Connection {
        transitions: path(&[Close, SynSent, Established, Close], end_ns),
        sock_linger: true,
        closed_in_context: true,
        bytes_sent: 80,
        bytes_received: 200,
        ..one_shot(n, who, end_ns)
    };
    let events = many(owner(10, "haproxy"), 40, 2000, START, check).into_iter();
    let state = state_after(events.chain([tick(START + 81 * SECOND)]));
    let snapshot = state.snapshot();
    let severe: Vec<_> = snapshot.findings().iter().filter(|one| one.severity > Severity::Info).collect();
    assert!(severe.is_empty(), "{severe:#?}");
    let [checks] = snapshot.findings() else { panic!("{:#?}", snapshot.findings()) };
    assert_eq!((checks.rule, evidence(checks, "aborts")), (Rule::PeriodicChecks, 40.into()));
    assert!(checks.title.contains("harmless if it has read the answer"), "{}", checks.title);
}

#[test]
fn a_process_that_connects_to_itself_is_no_relay() {
    let app = owner(10, "app");
    let client = |n: u64, end_ns| one_shot(n, app, end_ns).bytes(100, 300);
    let server = |n: u64, end_ns| {
        let tuple = one_shot(n, app, end_ns).tuple.mirrored();
        connection(700_000_000 + n, app, tuple, end_ns).usual(Role::Passive, false, 1_000).bytes(300, 100)
    };
    let both = |n: u64| {
        let end_ns = START + n * 20 * MS;
        [ended(server(n, end_ns)), ended(client(n, end_ns + 1))]
    };
    let found = only(&mut state_after((1..200).flat_map(both).chain([tick(START + 5 * SECOND)])));
    assert_eq!((found.rule, pid(&found)), (Rule::NoConnectionReuse, Some(10)));
}
