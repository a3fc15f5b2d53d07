//! Kernels without BTF: what cannot be observed is inferred, or unknown.

use crate::common::*;
use twtrace_core::classify::{Outcome, classify};
use twtrace_core::event::{CensusState, Connection, Event, KernelFacts, TcpState};
use twtrace_core::snapshot::{Provenance, Substate};
use twtrace_core::state::State;

const T: u64 = START + SECOND;

fn start_without_btf() -> Event {
    twtrace_testkit::start(START).unix(0).without_btf().event()
}

/// A connection with only states, times, ports and addresses known.
fn bare(states: &[TcpState]) -> Connection {
    let mut bare = connection(0, owner(10, "a"), tuple(40_000, 1, 80).in_namespace(0), T);
    bare.transitions = path(states, T);
    (bare.no_fields, bare.sock_dead) = (true, false);
    bare
}

fn closed() -> Connection {
    use TcpState::{Close, Established, FinWait1, FinWait2, SynSent};
    bare(&[Close, SynSent, Established, FinWait1, FinWait2, Close])
}

fn apply(engine: &mut State, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| engine.apply(event));
}

#[test]
fn every_end_is_inferred() {
    use TcpState::{Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynSent};
    let mut waited = closed();
    waited.transitions[4].at_ns += 1_000_000;
    let mut portless = bare(&[Close, SynSent, Close]);
    portless.tuple.local_port = 0;
    for (connection, outcome) in [
        (closed(), Outcome::TimeWait(Substate::FinWait2)),
        (waited, Outcome::TimeWait(Substate::TimeWait)),
        (bare(&[Established, FinWait1, Closing, Close]), Outcome::TimeWait(Substate::TimeWait)),
        (bare(&[Established, CloseWait, LastAck, Close]), Outcome::PassiveClose),
        (bare(&[Close, SynSent, Close]), Outcome::Unknown),
        (portless, Outcome::NoPort),
        (bare(&[SynSent, Established, Close]), Outcome::Unknown),
        (bare(&[Established, FinWait1, Close]), Outcome::Unknown),
        (bare(&[FinWait2, Close]), Outcome::TimeWait(Substate::FinWait2)),
    ] {
        let classified = classify(&connection);
        assert_eq!(
            (classified.outcome, classified.known),
            (outcome, Provenance::Inferred),
            "{:?}",
            connection.transitions
        );
    }
}

#[test]
fn a_census_finds_sockets_whose_namespace_is_not_known() {
    let mut engine = State::new(Default::default());
    apply(&mut engine, [start_without_btf(), ended(closed())]);
    let there = tuple(40_000, 1, 80);
    apply(&mut engine, census_of(NETNS + 1, T + SECOND, vec![row(77, there, CensusState::TimeWait, 59_000)]));
    let shown = engine.snapshot();
    let live: Vec<_> = shown.sockets().iter().collect();
    assert_eq!(live.len(), 1);
    assert_eq!((live[0].tuple.netns, live[0].known), (NETNS + 1, Provenance::Census));
    assert_eq!(live[0].closer.unwrap().key.tgid, 10);
    assert_eq!(engine.summary().coverage.attributed, 1);
}

#[test]
fn where_there_is_one_namespace_it_is_that() {
    let mut engine = State::new(Default::default());
    let facts = KernelFacts { port_range: (40_000, 40_099), ..KernelFacts::default() };
    apply(&mut engine, [start_without_btf(), twtrace_testkit::kernel(facts), ended(closed()), tick(T + SECOND)]);
    let budget =
        |engine: &mut State| engine.snapshot().destinations().iter().next().unwrap().budget.map(|budget| budget.total);
    assert_eq!(budget(&mut engine), Some(100));
    // A complete census of that namespace lacks the socket: it was only inferred and never created.
    apply(&mut engine, census_of(NETNS, T + 2 * SECOND, vec![]));
    assert_eq!(engine.summary().totals.counts.time_wait_live, 0);
    // With a second namespace, the namespace stays unknown.
    let second = twtrace_testkit::namespace(NETNS + 1, "b");
    let mut engine = State::new(Default::default());
    let facts = KernelFacts { port_range: (40_000, 40_099), ..KernelFacts::default() };
    apply(&mut engine, [start_without_btf(), second, twtrace_testkit::kernel(facts), ended(closed())]);
    apply(&mut engine, census_of(NETNS, T + 2 * SECOND, vec![]));
    assert_eq!(budget(&mut engine), None);
    assert_eq!(engine.summary().totals.counts.time_wait_live, 1);
}
