//! The connections of the workload generator, each opened and closed in a known way: opener, closer, role and outcome
//! of each must be what the generator reports, with no connection missing and none invented.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::common::traced;
use twtrace_core::classify::{Outcome, after_reset_sent, classify};
use twtrace_core::event::{Comm, Connection, Event, Hook, KernelCounters, Owner, Role, Tier, TimewaitCause, Tuple};
use twtrace_core::snapshot::Provenance;
use twtrace_probe::kernel::load::LoadOptions;
use twtrace_probe::source::kernel_source::{KernelSource, KernelSourceOptions};
use twtrace_tests::tracer::Place;
use twtrace_tests::workload::net::Namespace;
use twtrace_tests::workload::{Side, Truth, Who};

/// Stands for an owner that is unknown.
const UNKNOWN: &str = "unknown";

/// A line to compare, from the generator or from the tracer.
type Line = String;

/// A clock tick of `/proc/PID/stat`, in nanoseconds.
const TICK_NS: u64 = 10_000_000;

/// A process with everything that distinguishes it from others: its comm and PID, start time, user and parent. Without
/// BTF only PID and user are seen, and the name of the thread.
fn who(who: Option<&Who>) -> String {
    let Some(Who { pid, comm, uid, ppid, parent_comm, start_ticks }) = who else { return UNKNOWN.to_owned() };
    if without_btf() {
        return format!("[{pid}, user {uid}]");
    }
    format!("{comm}[{pid} of {start_ticks}, user {uid}, under {parent_comm}[{ppid}]]")
}

fn without_btf() -> bool {
    std::env::var("TWTRACE_BTF").is_ok_and(|value| value == "none")
}

fn owner(owner: Option<&Owner>) -> String {
    let text = |comm: &Comm| String::from_utf8_lossy(comm.bytes()).into_owned();
    let found = owner.map(|owner| Who {
        pid: owner.key.tgid,
        comm: text(&owner.comm),
        uid: owner.uid,
        ppid: owner.ppid,
        parent_comm: text(&owner.parent_comm),
        start_ticks: owner.key.start_ns / TICK_NS,
    });
    who(found.as_ref())
}

fn line(tuple: &Tuple, role: &str, opener: &str, closer: &str, outcome: &str, errno: u16) -> Line {
    // A socket that never got a port may not have got an address either.
    let local =
        if tuple.local_port == 0 { "-".to_owned() } else { format!("{}:{}", tuple.local_addr, tuple.local_port) };
    let family = if tuple.v4_mapped { " mapped" } else { "" };
    let (remote, port) = (tuple.remote_addr, tuple.remote_port);
    format!("{role} {local} -> {remote}:{port}{family} by {opener}, closed by {closer}: {outcome} {errno}")
}

fn expected(truth: &Truth, accept_seen: bool) -> Line {
    // This is strict: where inet_csk_accept is hooked, every accept is seen.
    let is_seen = match truth.side {
        Side::Passive if without_btf() => false,
        _ => accept_seen || !truth.accepted_out_of_sight,
    };
    let opener = truth.opener.as_ref().filter(|_| is_seen);
    let tuple = Tuple {
        netns: truth.netns.inode as u32,
        local_addr: truth.local.ip(),
        local_port: truth.local.port(),
        remote_addr: truth.remote.ip(),
        remote_port: truth.remote.port(),
        v4_mapped: truth.v4_mapped && !truth.early,
    };
    let role = match truth.side {
        Side::Active => "active",
        Side::Passive => "passive",
    };
    let outcome = if truth.early { "early" } else { &truth.outcome };
    line(&tuple, role, &who(opener), &who(truth.closer.as_ref()), outcome, truth.errno as u16)
}

fn seen(connection: &Connection, outcome: Outcome) -> Line {
    let role = match connection.role {
        Role::Active => "active",
        Role::Passive => "passive",
        Role::Unknown => "unknown",
    };
    let errno = match outcome {
        Outcome::ConnectFailed(errno) | Outcome::Broken(errno) => errno,
        Outcome::NoPort => libc::EADDRNOTAVAIL as u16,
        _ => 0,
    };
    let name = outcome.name();
    // What a thread of the kernel closes counts for the opener.
    let closer =
        if connection.closer.is_some_and(|closer| closer.kthread) { connection.opener } else { connection.closer };
    line(&connection.tuple, role, &owner(connection.opener.as_ref()), &owner(closer.as_ref()), name, errno)
}

/// Owners and addresses are never inferred, the outcome may be.
fn is_guess_at(expected: &Line, line: &Line) -> bool {
    let but_outcome = |line: &Line| line.rsplit_once(": ").map(|(rest, _)| rest.to_owned());
    but_outcome(expected) == but_outcome(line)
}

/// Of a connection that has no slot in the socket map and was not accepted, the role is not known.
fn is_without_role(expected: &Line, line: &Line) -> bool {
    line.strip_prefix("unknown ").is_some_and(|rest| expected.strip_prefix("passive ") == Some(rest))
}

/// Without BTF the closer may be unknown if the connection ended without a FIN of this host. A wrong closer is never
/// allowed.
fn is_unnamed(expected: &Line, line: &Line) -> bool {
    let but_closer = |line: &Line| line.rsplit_once(", closed by ").map(|(rest, _)| rest.to_owned());
    let unnamed = without_btf() && line.contains(&format!(", closed by {UNKNOWN}:"));
    unnamed && but_closer(expected) == but_closer(line)
}

#[test]
fn every_connection_is_reported_as_it_happened() {
    check(&LoadOptions::default());
}

/// The socket map has room for one connection: all others are reported in parts.
#[test]
fn connections_without_room_in_the_socket_map_are_reported_as_they_happened() {
    check(&LoadOptions { max_sockets: Some(1), ..LoadOptions::default() });
}

/// Another tracer has the same tracepoints already: on some kernels, this one's programs then run in another order.
#[test]
fn beside_an_earlier_tracer_every_connection_is_reported_as_it_happened() {
    let _earlier = KernelSource::start(&KernelSourceOptions::default()).unwrap();
    check(&LoadOptions::default());
}

fn check(options: &LoadOptions) {
    let has_no_room = options.max_sockets == Some(1);
    let mut live = KernelSource::start(&KernelSourceOptions { load: options.clone(), ..Default::default() }).unwrap();
    if std::env::var("TWTRACE_FUNCTIONS").is_ok_and(|functions| functions == "kprobe") {
        let by_kprobe = |hook: &&Hook| hook.attached && ["kprobe", "kretprobe"].contains(&hook.kind.as_str());
        let kprobes = live.hooks().iter().filter(by_kprobe).count();
        assert_eq!((live.tier(), kprobes), (Tier::Exact, 3), "kprobes were asked for: {:#?}", live.hooks());
    }
    let place = Place::new();
    let (text, events) = traced(&mut live, &place, "cases");

    let all = text.lines().map(|line| serde_json::from_str::<Truth>(line).unwrap());
    let (left_out, mut truths): (Vec<Truth>, Vec<Truth>) = all.partition(|truth| truth.left_out);
    let ends = |tuple: &Tuple| {
        let mut ends = [(tuple.local_addr, tuple.local_port), (tuple.remote_addr, tuple.remote_port)];
        ends.sort_unstable();
        ends
    };
    let ends_of = |truth: &Truth| {
        let mut ends = [truth.local, truth.remote].map(|end| (end.ip().to_canonical(), end.port()));
        ends.sort_unstable();
        ends
    };
    let is_left_out = |tuple: &Tuple| {
        let same = |truth: &Truth| [0, truth.netns.inode as u32].contains(&tuple.netns);
        left_out.iter().any(|truth| same(truth) && ends_of(truth) == ends(tuple))
    };
    // Another attempt with the same addresses, reported before the race was noticed.
    let beside = |truth: &Truth| {
        left_out.iter().any(|other| other.netns.inode == truth.netns.inode && ends_of(other) == ends_of(truth))
    };
    truths.retain(|truth| !beside(truth));
    assert!(truths.len() > 200, "{} connections", truths.len());
    // Inode numbers of namespaces are reused, so what ended before the generator was there belongs to another
    // namespace.
    let mut places: BTreeMap<u32, u64> = BTreeMap::new();
    for Namespace { inode, since_ns } in truths.iter().map(|truth| truth.netns) {
        let since = places.entry(inode as u32).or_insert(since_ns);
        *since = since_ns.min(*since);
    }
    let ours = |netns: u32, end_ns: u64| places.get(&netns).is_some_and(|&since_ns| end_ns >= since_ns);
    // Without BTF no record has its namespace. Then ours are those that have our addresses or one of our processes.
    let pids: Vec<u32> =
        truths.iter().flat_map(|truth| [&truth.opener, &truth.closer]).flatten().map(|who| who.pid).collect();
    let has_our_pid = |owner: &Option<Owner>| owner.is_some_and(|owner| pids.contains(&owner.key.tgid));
    let is_ours = |connection: &Connection| match connection.tuple.netns {
        0 => {
            let known = truths.iter().any(|truth| ends_of(truth) == ends(&connection.tuple));
            known || has_our_pid(&connection.opener) || has_our_pid(&connection.closer)
        }
        netns => ours(netns, connection.end_ns),
    };
    // By tuple: on kernels without cookies for tracers, all cookies are 0.
    let mut resets: BTreeMap<(u32, u16, u16), Vec<u64>> = BTreeMap::new();
    let key = |tuple: &Tuple| (tuple.netns, tuple.local_port, tuple.remote_port);
    for event in &events {
        if let Event::ResetSent { tuple, at_ns, .. } = event {
            resets.entry(key(tuple)).or_default().push(*at_ns);
        }
    }

    let accept_seen = live.hooks().iter().any(|hook| hook.name == "inet_csk_accept" && hook.attached);
    assert!(!without_btf() || live.hooks().iter().any(|hook| hook.kind == "tracepoint" && hook.attached));
    let visible = truths.iter().filter(|truth| !(truth.early && without_btf()));
    let mut open: Vec<(Line, &Truth)> = visible.map(|truth| (expected(truth, accept_seen), truth)).collect();
    let mut counted = KernelCounters::default();
    let mut wrong = String::new();
    let (mut inferred, mut unexpected) = ([0_u32; 2], Vec::new());
    for event in &events {
        let (line, known) = match event {
            Event::Connection(connection) if is_ours(connection) && !is_left_out(&connection.tuple) => {
                // A reset that follows the end belongs to it.
                let follows = |at_ns: &u64| (connection.end_ns..connection.end_ns + 10_000_000).contains(at_ns);
                let reset = resets.get(&key(&connection.tuple)).is_some_and(|times| times.iter().any(follows));
                let classified = classify(connection);
                let after = after_reset_sent(classified.outcome).filter(|_| reset);
                // A reset that was seen is no guess.
                let known = if after.is_some() { Provenance::Exact } else { classified.known };
                (seen(connection, after.unwrap_or(classified.outcome)), known)
            }
            Event::ConnectFailed(failed) if ours(failed.tuple.netns, failed.at_ns) => {
                let opener = owner(Some(&failed.opener));
                (line(&failed.tuple, "active", &opener, UNKNOWN, "early", failed.errno), Provenance::Exact)
            }
            Event::Counters(counters) => {
                counted = *counters;
                continue;
            }
            _ => continue,
        };
        let fits = |expected: &Line| *expected == line || has_no_room && is_without_role(expected, &line);
        match open.iter().position(|(expected, _)| fits(expected)) {
            Some(at) => {
                open.swap_remove(at);
                inferred[0] += u32::from(known == Provenance::Inferred);
            }
            None => unexpected.push((line, known)),
        }
    }
    // The most specific lines first: two sockets may have had the same addresses.
    for fits in [is_guess_at, is_unnamed] {
        unexpected.retain(|(line, known)| {
            let guess = Some(known).filter(|known| **known == Provenance::Inferred);
            let Some(at) = guess.and_then(|_| open.iter().position(|(expected, _)| fits(expected, line))) else {
                return true;
            };
            let (expected, _) = open.swap_remove(at);
            let outcome = |line: &Line| line.rsplit_once(": ").map(|(_, outcome)| outcome.to_owned());
            inferred[usize::from(outcome(&expected) != outcome(line))] += 1;
            false
        });
    }
    for (line, _) in unexpected {
        writeln!(wrong, "invented {line}").unwrap();
    }
    for (line, truth) in open {
        writeln!(wrong, "missing  {line}   ({})", truth.case).unwrap();
    }
    assert!(wrong.is_empty(), "\n{wrong}of {} connections; {counted:?}", truths.len());
    let tier = live.tier();
    assert!(left_out.len() < 10, "races are rare: {left_out:?}");
    println!(
        "figures: tier {tier:?}: {} connections right, {} of {} inferred outcomes right; {counted:?}",
        truths.len(),
        inferred[0],
        inferred[0] + inferred[1]
    );
    if tier == Tier::Exact {
        for truth in truths.iter().filter(|truth| truth.timewait_cut_short) {
            let killed = events.iter().any(|event| match event {
                Event::TimewaitEnd(end) => {
                    (end.tuple.netns, end.tuple.local_port) == (truth.netns.inode as u32, truth.local.port())
                        && end.cause == TimewaitCause::EndedEarly
                }
                _ => false,
            });
            assert!(killed, "no event reports that the TIME_WAIT socket of {} ended early", truth.case);
        }
    }
    let lost = counted.ring_full + counted.parts_refused + counted.recursion + counted.stale + counted.undecodable;
    assert_eq!(lost, 0, "events were lost: {counted:?}");
    let resets = events.iter().filter(|event| matches!(event, Event::ResetSent { .. })).count() as u64;
    assert_eq!(counted.resets_after_close, resets, "each has its record");
}
