//! One finding for many destinations.

use super::*;

/// A server that has no ports left to any of its backends has one problem.
#[test]
fn the_same_for_many_destinations_is_one_finding() {
    let who = owner(10, "crawler");
    let to = |n: u64| if n % 13 == 12 { 5 } else { 1 + (n % 13) as u8 };
    let fails = |n: u64, who, end_ns| Connection { tuple: tuple(0, to(n), 80), ..no_port(n, who, end_ns) };
    let mut events = vec![small_range(20, 0)];
    // Each has used all of its ports.
    let takes = |n: u64, who, end_ns| Connection {
        tuple: tuple(40_000 + (n / 12 % 20) as u16, 1 + (n % 12) as u8, 80),
        ..one_shot(n, who, end_ns)
    };
    events.extend(many(who, 240, 4, START, takes));
    events.extend(many(who, 240, 10, START + SECOND, fails));
    let found = state_after(events.into_iter().chain([tick(START + 4 * SECOND)])).snapshot().findings().to_vec();
    let reached: Vec<_> = found.iter().filter(|one| one.rule == Rule::ExhaustionReached).collect();
    let [one] = &reached[..] else { panic!("{found:#?}") };
    assert_eq!((pid(one), evidence(one, "destinations")), (Some(10), 12.into()));
    assert!(one.title.contains("; the same for 11 other destinations"), "{}", one.title);
    // One of them fails twice as often as the others.
    assert_eq!(one.destination.unwrap().remote_addr.unwrap().to_string(), "10.0.1.5", "{one:#?}");
    let (from, to) = effect(one, "wider-port-range", "connect_failures_per_s");
    assert!(from > 60.0 && to == 0.0, "{from} -> {to}");
}
