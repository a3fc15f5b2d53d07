//! Every connection of the workload generator, each in a known way: opener, closer, role and outcome of every life
//! must be what the generator says, with none missing and none made up.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "figures for whoever runs the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;

use twtrace::source::live::{Live, LiveOptions};
use twtrace_core::connection::{Outcome, after_reset_sent, judge};
use twtrace_core::input::{Input, KernelCounters, Life, Owner, Role, Tuple};
use twtrace_core::source::Source as _;
use twtrace_tests::tracer::{PUMP, Place, program};
use twtrace_tests::workload::{Side, Truth};

/// A line that can be compared, of the generator's or of the tracer's.
type Line = String;

fn who(pid: u32, comm: &str) -> String {
    format!("{comm}[{pid}]")
}

fn owner(owner: Option<&Owner>) -> String {
    owner.map_or("nobody".to_owned(), |o| who(o.key.tgid, &String::from_utf8_lossy(o.comm.bytes())))
}

fn line(tuple: &Tuple, role: &str, opener: &str, closer: &str, outcome: &str, errno: u16) -> Line {
    // A socket that never got a port may not have got an address either.
    let local =
        if tuple.local_port == 0 { "-".to_owned() } else { format!("{}:{}", tuple.local_addr, tuple.local_port) };
    let family = if tuple.v4_mapped { " mapped" } else { "" };
    let (remote, port) = (tuple.remote_addr, tuple.remote_port);
    format!("{role} {local} -> {remote}:{port}{family} by {opener}, closed by {closer}: {outcome} {errno}")
}

fn expected(truth: &Truth) -> Line {
    let person = |who_is: &Option<twtrace_tests::workload::Who>| {
        who_is.as_ref().map_or("nobody".to_owned(), |w| who(w.pid, &w.comm))
    };
    let tuple = Tuple {
        netns: truth.netns as u32,
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
    line(&tuple, role, &person(&truth.opener), &person(&truth.closer), outcome, truth.errno as u16)
}

fn seen(life: &Life, outcome: Outcome) -> Line {
    let role = match life.role {
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
    line(&life.tuple, role, &owner(life.opener.as_ref()), &owner(life.closer.as_ref()), name, errno)
}

#[test]
fn every_life_is_told_as_it_was() {
    let mut live = Live::start(&LiveOptions::default()).unwrap();
    let place = Place::new();
    let mut generator = Command::new(program("twtrace-workload"));
    generator.arg("cases").stdout(Stdio::piped());
    let mut generator = place.spawn(generator);
    let mut output = generator.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });

    let mut inputs = Vec::new();
    while !reader.is_finished() {
        live.pump(&mut |input| inputs.push(input)).unwrap();
        thread::sleep(PUMP);
    }
    let text = reader.join().unwrap().unwrap();
    assert!(generator.wait().unwrap().success(), "the generator failed");
    live.final_pump(&mut |input| inputs.push(input)).unwrap();

    let truths: Vec<Truth> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(truths.len() > 200, "{} lives", truths.len());
    let places: BTreeSet<u32> = truths.iter().map(|truth| truth.netns as u32).collect();

    // Lines with how often each was expected, less how often it was seen.
    let mut balance: BTreeMap<Line, (i64, &str)> = BTreeMap::new();
    for truth in &truths {
        let entry = balance.entry(expected(truth)).or_default();
        entry.0 += 1;
        entry.1 = &truth.case;
    }
    let mut counted = KernelCounters::default();
    for (at, input) in inputs.iter().enumerate() {
        let line = match input {
            Input::Life(life) if places.contains(&life.tuple.netns) => {
                // A reset that follows the end belongs to it.
                let reset = inputs[at..].iter().any(|later| {
                    matches!(later, Input::ResetSent { cookie, at_ns, .. }
                        if *cookie == life.cookie && at_ns.abs_diff(life.end_ns) < 10_000_000)
                });
                let judged = judge(life).outcome;
                seen(life, after_reset_sent(judged).filter(|_| reset).unwrap_or(judged))
            }
            Input::ConnectFailed(failed) if places.contains(&failed.tuple.netns) => {
                line(&failed.tuple, "active", &owner(Some(&failed.opener)), "nobody", "early", failed.errno)
            }
            Input::Counters(counters) => {
                counted = *counters;
                continue;
            }
            _ => continue,
        };
        balance.entry(line).or_default().0 -= 1;
    }
    println!("{} lives as they were; {counted:?}", truths.len());
    let mut wrong = String::new();
    for (line, (count, case)) in balance {
        match count {
            0 => {}
            1.. => writeln!(wrong, "missing  {line}   ({case})").unwrap(),
            _ => writeln!(wrong, "made up  {line}").unwrap(),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}of {} lives; {counted:?}", truths.len());
    let lost = counted.ring_full + counted.map_full + counted.recursion + counted.stale + counted.undecodable;
    assert_eq!(lost, 0, "events were lost: {counted:?}");
}
