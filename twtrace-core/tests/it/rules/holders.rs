//! Who has the ports: a process that does not close its connections, or one whose connects are not answered, and its victims.

use super::*;
use crate::common::*;
use twtrace_core::event::{CensusState, Connection, Event, Owner, Role};
use twtrace_core::finding::Rule;
use twtrace_testkit::MICROSECOND_NS;

/// Two hundred connections of `holder` in a state take the whole range for five seconds; meanwhile `victim` finds no port.
fn all_taken(state: CensusState, holder: &Owner, victim: Owner) -> Vec<Event> {
    let mut events = vec![start(), small_range(200, 0)];
    events.extend(stays(0..6, state, 40_000..40_200));
    let rows = vec![owner_row(holder, state, 0, (1, 80), 200)];
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
