//! Who most likely closed what is older than the trace.

use twtrace_core::event::{CensusState, Event};
use twtrace_core::snapshot::{Likely, LikelyOwner};
use twtrace_testkit::{
    BuildOwner as _, MILLISECOND_NS, NETNS, SECOND_NS, START_NS, answered, census, census_row, owner, snapshot_of,
    socket_owner, socket_owners, start, tick, tuple,
};

const SERVICE: [u8; 4] = [10, 0, 1, 1];

/// Sockets of an earlier time: so many to a service, and so many of a server on a port.
fn older(to_service: u16, of_server: u16) -> Vec<Event> {
    let to = (0..to_service).map(|n| tuple(40_000 + n, SERVICE, 80));
    let of = (0..of_server).map(|n| tuple(8080, [10, 0, 2, 1], 50_000 + n));
    let listener = census_row(9_999, tuple(8080, [0, 0, 0, 0], 0), CensusState::Listen, 0);
    let row = |(n, tuple)| census_row(1_000_000 + n as u64, tuple, CensusState::TimeWait, 40_000);
    let rows = to.chain(of).enumerate().map(row).chain([listener]).collect();
    let first = [start(START_NS).event(), twtrace_testkit::kernel(twtrace_testkit::kernel_facts())];
    first.into_iter().chain(census(NETNS, START_NS + SECOND_NS, rows)).collect()
}

fn likely(events: Vec<Event>) -> Likely {
    snapshot_of(events.into_iter().chain([tick(START_NS + 5 * SECOND_NS)])).likely_owners().clone()
}

fn one(pid: u32, command: &str, sockets: u64) -> LikelyOwner {
    LikelyOwner { pid: Some(pid), command: command.to_owned(), sockets }
}

/// A listener, and a client with open connections.
fn owners() -> Event {
    let server = socket_owner(&owner(20, "server"), CensusState::Listen, tuple(8080, [0, 0, 0, 0], 0), 1);
    let mut client = socket_owner(&owner(30, "pool"), CensusState::Established, tuple(0, SERVICE, 80), 4);
    client.local_port = 0;
    socket_owners(START_NS + 2 * SECOND_NS, vec![server, client])
}

#[test]
fn without_any_hint_nothing_is_said() {
    assert_eq!(likely(older(30, 12)), Likely { owners: Vec::new(), unknown: 42 });
}

#[test]
fn a_server_has_those_on_its_port_and_who_is_connected_the_others() {
    let mut events = older(30, 12);
    events.push(owners());
    assert_eq!(likely(events), Likely { owners: vec![one(30, "pool", 30), one(20, "server", 12)], unknown: 0 });
}

#[test]
fn who_creates_such_sockets_now_has_them_by_its_share() {
    let mut events = older(30, 0);
    // One of them has a pool, and two others do what is seen.
    events.push(owners());
    for n in 0..9_u64 {
        let who = if n % 3 == 0 { owner(11, "other") } else { owner(10, "billing") };
        let at_ns = START_NS + 3 * SECOND_NS + n * MILLISECOND_NS;
        events.push(Event::Connection(Box::new(answered(n + 1, who, tuple(45_000 + n as u16, SERVICE, 80), at_ns))));
    }
    // Those that were seen are not among them.
    assert_eq!(likely(events), Likely { owners: vec![one(10, "billing", 20), one(11, "other", 10)], unknown: 0 });
}

#[test]
fn a_loop_of_short_processes_is_one() {
    let mut events = older(30, 0);
    for n in 0..10_u64 {
        let who = owner(100 + n as u32, "curl").parent(50, "cron.sh");
        let at_ns = START_NS + 3 * SECOND_NS + n * MILLISECOND_NS;
        events.push(Event::Connection(Box::new(answered(n + 1, who, tuple(45_000 + n as u16, SERVICE, 80), at_ns))));
    }
    let curls = LikelyOwner { pid: None, command: "curl".to_owned(), sockets: 30 };
    assert_eq!(likely(events), Likely { owners: vec![curls], unknown: 0 });
}
