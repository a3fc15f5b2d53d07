//! What a connection costs from its record in the ring to the figures: decodes and applies as many records as asked for,
//! of one load. The same arguments do the same. Instructions of each connection are the difference of two runs, in which
//! the start cancels out:
//!
//! ```text
//! cargo build --release -p twtrace-core --example cost
//! for n in 100000 200000; do
//!     valgrind --tool=callgrind --callgrind-out-file=/tmp/cost.$n target/release/examples/cost same $n
//! done
//! ```
//!
//! `(Ir of the second - Ir of the first) / 100000`. Where they go: `callgrind_annotate /tmp/cost.200000`.
//!
//! Loads:
//!
//! - `same`: 20 processes, 64 destinations, each connection opened and closed by one process
//! - `handed`: the same with another process that closes
//! - `one-shot`: a process for each connection, as of a script that calls curl
//! - `ends`: as `same`, and each TIME_WAIT socket ends later with a record of its own

use std::process::ExitCode;
use twtrace_common::{
    ConnFlags, ConnRecord, Owner, SmallRecord, SockFlags, Tuple, WIRE_VERSION, cause, kind, role, tcp_state,
};
use twtrace_core::decode::Decoder;
use twtrace_core::event::{KernelFacts, Tier};
use twtrace_core::state::{Config, State};
use twtrace_testkit::chance::Chance;
use twtrace_testkit::{NETNS, SECOND_NS, kernel, kernel_facts, start, tick};
use zerocopy::IntoBytes as _;

const START_NS: u64 = 86_400 * SECOND_NS;
/// Between the ends of two connections: 10,000 of them in a second.
const STEP_NS: u64 = 100_000;
/// Records between two ticks, which are a tenth of a second apart then.
const TICK: u64 = 1000;
/// TIME_WAIT sockets alive at a time, in the load that ends them.
const ALIVE: u64 = 20_000;

/// Which connections there are.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    Same,
    Handed,
    OneShot,
    Ends,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let load = match args.next().as_deref() {
        Some("same") => Load::Same,
        Some("handed") => Load::Handed,
        Some("one-shot") => Load::OneShot,
        Some("ends") => Load::Ends,
        _ => return ExitCode::FAILURE,
    };
    let Some(connections) = args.next().and_then(|number| number.parse().ok()) else { return ExitCode::FAILURE };
    run(load, connections)
}

fn run(load: Load, connections: u64) -> ExitCode {
    let mut decoder = Decoder::default();
    let mut state = State::new(Config::default());
    let tier = if load == Load::Ends { Tier::Exact } else { Tier::default() };
    state.apply(start(START_NS).unix(0).host(&format!("wire-{WIRE_VERSION}"), "", "").tier(tier).event());
    state.apply(kernel(KernelFacts { max_tw_buckets: 262_144, ..kernel_facts() }));

    let mut record = template();
    let mut chance = Chance::default();
    for number in 0..connections {
        fill(&mut record, load, number, chance.next());
        let Ok(Some(event)) = decoder.decode(record.as_bytes()) else { return ExitCode::FAILURE };
        state.apply(event);
        if load == Load::Ends
            && let Some(number) = number.checked_sub(ALIVE)
        {
            let Ok(Some(event)) = decoder.decode(end(&record, number).as_bytes()) else { return ExitCode::FAILURE };
            state.apply(event);
        }
        if number % TICK == TICK - 1 {
            state.apply(tick(record.end_ns));
        }
    }
    let is_whole = state.summary().totals.counts.time_wait_created == connections;
    if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What all records have: a connection that this host opened and closed first.
fn template() -> ConnRecord {
    use tcp_state::{CLOSE, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, SYN_SENT};
    let mut record = ConnRecord {
        role: role::ACTIVE,
        transitions: 5,
        flags: ConnFlags::ESTABLISHED,
        sk_flags: SockFlags::DEAD,
        bytes_sent: 200,
        bytes_received: 4000,
        ..ConnRecord::EMPTY
    };
    record.tuple = Tuple { family: 2, netns: NETNS, ..Tuple::NONE };
    record.tuple.local_addr[..4].copy_from_slice(&[10, 0, 0, 5]);
    record.old_states[..5].copy_from_slice(&[CLOSE, SYN_SENT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2]);
    record.new_states[..5].copy_from_slice(&[SYN_SENT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE]);
    record
}

/// What distinguishes the records.
fn fill(record: &mut ConnRecord, load: Load, number: u64, chance: u64) {
    let end_ns = START_NS + (number + 1) * STEP_NS;
    let times = [2_000_000, 1_500_000, 900_000, 400_000, 0].map(|before| end_ns - before);
    record.times_ns[..5].copy_from_slice(&times);
    record.end_ns = end_ns;
    record.cookie = 4096 + number;
    let service = (chance >> 8) as u8 % 64;
    record.tuple.remote_addr[..4].copy_from_slice(&[10, 1, 0, service]);
    record.tuple.remote_port = 8000 + u16::from(service);
    record.tuple.local_port = 32_768 + (number % 28_000) as u16;
    let process = (chance >> 32) as u32 % 20;
    record.opener = match load {
        Load::OneShot => owner(10_000 + number as u32, b"curl"),
        _ => owner(2000 + process, b"worker"),
    };
    record.closer = match load {
        Load::Handed => owner(3000 + process, b"closer"),
        _ => record.opener,
    };
    record.opener_seal = record.opener.seal(record.sk, record.cookie);
}

fn owner(tgid: u32, command: &[u8]) -> Owner {
    let mut owner = Owner { tgid, uid: 1000, ppid: 1, start_ns: u64::from(tgid) * 1_000_003, ..Owner::NONE };
    owner.cgroup = 100 + u64::from(tgid % 9);
    owner.comm[..command.len()].copy_from_slice(command);
    owner.parent_comm[..4].copy_from_slice(b"init");
    owner
}

/// The end of the TIME_WAIT socket of an earlier connection. Only its cookie says which.
fn end(record: &ConnRecord, number: u64) -> SmallRecord {
    SmallRecord {
        kind: kind::TIMEWAIT_END,
        cause: cause::EXPIRED,
        substate: tcp_state::TIME_WAIT,
        cookie: 4096 + number,
        at_ns: record.end_ns,
        tuple: record.tuple,
        ..SmallRecord::EMPTY
    }
}
