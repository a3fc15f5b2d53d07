//! The audit, tested with lists of Events.

use crate::common::{NETNS, connection, owner, tuple};
use twtrace_core::audit::{Audit, Reading, Verdict};
use twtrace_core::event::{Event, Tier, TimewaitCause};
use twtrace_testkit::BuildConnection as _;

const MS: u64 = 1_000_000;
const FIRST: Reading =
    Reading { before_ns: 100 * MS, after_ns: 101 * MS, timers: 7, recycled: 1, overflow: 0, time_wait: 50 };

fn reading(timers: u64, recycled: u64, time_wait: u64) -> Reading {
    Reading { before_ns: 900 * MS, after_ns: 901 * MS, timers, recycled, overflow: 0, time_wait }
}

fn created(at_ms: u64) -> Event {
    connection(at_ms, owner(1, "a"), tuple(40_000, 1, 80), at_ms * MS).event()
}

fn ended(cause: TimewaitCause, at_ms: u64) -> Event {
    twtrace_testkit::timewait_end(1, tuple(40_000, 1, 80), cause, at_ms * MS)
}

fn verdict(tier: Tier, events: &[Event], last: Reading, late: &[Event]) -> Verdict {
    let mut audit = Audit::new(NETNS, tier, FIRST);
    events.iter().for_each(|event| audit.apply(event));
    audit.end(last);
    late.iter().for_each(|event| audit.apply(event));
    audit.verdict()
}

#[test]
fn what_lies_between_the_readings_is_compared() {
    use TimewaitCause::{EndedEarly, Expired, Reused};
    let events =
        [created(50), created(200), created(300), ended(Reused, 350), ended(Expired, 400), ended(EndedEarly, 500)];
    let late = [created(700), created(950)];
    // Three created, three ended, one of them reused. The first creation is before the readings, the last is after.
    let counted_at_start = verdict(Tier::Exact, &events, reading(10, 2, 50), &late);
    assert!(counted_at_start.agrees, "{counted_at_start:?}");
    assert_eq!((counted_at_start.lines[0].name, counted_at_start.lines[0].slack), ("created", 0));
    let counted_at_end = verdict(Tier::Exact, &events, reading(8, 2, 50), &late);
    assert!(counted_at_end.agrees && counted_at_end.lines[0].name == "expired", "{counted_at_end:?}");
    for wrong in [reading(9, 2, 50), reading(10, 3, 50), reading(10, 2, 51)] {
        assert!(!verdict(Tier::Exact, &events, wrong, &late).agrees, "{wrong:?}");
    }
}

#[test]
fn what_is_close_to_a_reading_may_be_on_either_side() {
    let events = [created(101), created(300)];
    let late = [created(900)];
    for timers in 7..=10 {
        let result = verdict(Tier::Exact, &events, reading(timers, 1, 51), &late);
        assert_eq!((result.lines[0].slack, result.lines[0].agrees), (2, true), "{result:?}");
    }
    assert!(!verdict(Tier::Exact, &events, reading(11, 1, 51), &late).agrees);
}

#[test]
fn lower_tiers_compare_what_they_see() {
    let result = verdict(Tier::Cookie, &[created(300)], reading(8, 9, 99), &[]);
    assert!(result.agrees, "{result:?}");
    let unseen: Vec<&str> = result.lines.iter().filter(|line| line.traced.is_none()).map(|line| line.name).collect();
    assert_eq!(unseen, ["reused", "alive"]);
    assert!(!verdict(Tier::Cookie, &[created(300)], reading(11, 1, 50), &[]).agrees);
}

#[test]
fn where_timers_are_counted_as_they_run_out_the_table_shows_what_was_created() {
    // Three created; meanwhile five older ones expired and one was reused.
    let events = [created(200), created(300), created(400)];
    let result = verdict(Tier::Cookie, &events, reading(7 + 5, 2, 50 + 3 - 5 - 1), &[]);
    assert!(result.agrees, "{result:?}");
    assert_eq!((result.lines[0].name, result.lines[0].kernel, result.lines[0].traced), ("created", 3, Some(3)));
    assert!(result.lines[0].counter.starts_with("sockstat tw"));
    assert!(!verdict(Tier::Cookie, &events[1..], reading(7 + 5, 2, 50 + 3 - 5 - 1), &[]).agrees);
}

#[test]
fn ends_that_no_program_saw_may_have_been_either() {
    use twtrace_core::event::TcpState::{FinWait1, LastAck};
    let unseen = |from, at_ms| {
        let mut connection = connection(at_ms, owner(1, "a"), tuple(40_000, 1, 80), at_ms * MS);
        connection.end_unseen = true;
        connection.timewait = None;
        connection.transitions.last_mut().unwrap().to = from;
        Event::Connection(Box::new(connection))
    };
    let audited = |from| {
        let mut last = reading(7, 1, 50);
        last.overflow = 1;
        verdict(Tier::Cookie, &[unseen(from, 300)], last, &[])
    };
    // It is taken for a TIME_WAIT socket, and was an overflow.
    let result = audited(FinWait1);
    let line = &result.lines[0];
    assert_eq!((line.kernel, line.traced, line.inferred, line.agrees), (0, Some(1), 1, true), "{result:?}");
    assert!(result.agrees, "{result:?}");
    // Where the peer closed first there is none.
    let result = audited(LastAck);
    assert_eq!((result.lines[0].inferred, result.lines[1].agrees), (0, false), "{result:?}");
}

#[test]
fn other_namespaces_are_left_alone() {
    let mut elsewhere = connection(1, owner(1, "a"), tuple(40_000, 1, 80), 300 * MS);
    elsewhere.tuple.netns = NETNS + 1;
    assert!(verdict(Tier::Exact, &[Event::Connection(Box::new(elsewhere))], reading(7, 1, 50), &[]).agrees);
}
