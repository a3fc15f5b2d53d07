//! One request per connection, to many destinations: a crawler, a prober, a service that calls each of its peers. That is one
//! habit, and reported once. Destinations whose ports it may use up are reported on their own.

use super::advice::{self, ConnectionHabit};
use super::context::{DESTINATIONS, LEAST_PER_S, MANY, Pair, RuleContext};
use super::habit::Habit;
use super::no_reuse::{self, NEARLY_ALL, Program, is_of_one_shots, replaced};
use super::periodic::is_of_rhythm;
use super::settings;
use crate::event::Role;
use crate::evidence::Evidence;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};
use crate::pattern::Pattern;
use crate::ports::TIME_WAIT_SECONDS;
use crate::snapshot::DestKey;
use crate::table::Map;
use std::collections::BTreeSet;

/// Connections per second to one destination from which an idle connection is still open when it is needed again: servers
/// close idle ones after a minute or so.
const AGAIN_PER_S: f64 = 1.0 / 60.0;

/// Below this rate, regular connections are what they seem to be: checks.
const CHECKS_PER_S: f64 = 50.0;

/// Those of all programs, except what `reported` is about and destinations that are `short` of ports.
pub(super) fn check(context: &RuleContext<'_>, reported: &[Habit], short: &BTreeSet<DestKey>) -> Vec<Habit> {
    // What a program does in another network namespace, as another container of the same image, is not the same habit.
    let mut programs: Map<(Program, u32), Vec<&Pair<'_>>> = Map::default();
    for pair in &context.pairs {
        let is_one = pair.key.role == Role::Active
            && pair.pair.pattern.opened > 0
            && is_of_one_shots(&pair.pair.pattern)
            && !short.contains(&pair.key)
            && !reported.iter().any(|habit| no_reuse::is_fork_of(habit, pair))
            && is_minor(context, pair);
        if is_one {
            programs.entry((no_reuse::program(pair), pair.key.netns)).or_default().push(pair);
        }
    }
    let mut programs: Vec<_> = programs.into_iter().collect();
    programs.sort_unstable_by_key(|(program, _)| *program);
    programs.into_iter().filter_map(|(_, pairs)| habit(context, pairs)).collect()
}

/// Whether a destination is not worth a finding of its own: it has no pool, and its ports last at this rate.
fn is_minor(context: &RuleContext<'_>, pair: &Pair<'_>) -> bool {
    pair.pair.pattern.kept_at_a_time() == 0 && pair.row.stable == 0 && share_of_ports(context, pair) <= 1.0
}

/// Of the ports of a destination, the share that a process's connections to it take if they go on at this rate.
fn share_of_ports(context: &RuleContext<'_>, pair: &Pair<'_>) -> f64 {
    let pattern = &pair.pair.pattern;
    let share = (pattern.time_wait as f64 / pattern.opened as f64).min(1.0);
    let ports = pair.row.budget.map_or(f64::INFINITY, |budget| f64::from(budget.total.max(1)));
    pattern.rate_per_s() * share * context.hold_seconds(pair.key) / ports
}

fn habit(context: &RuleContext<'_>, mut pairs: Vec<&Pair<'_>>) -> Option<Habit> {
    let all: u64 = pairs.iter().map(|pair| pair.pair.pattern.opened).sum();
    // One destination with most of the connections is a habit of its own.
    let mut opened: Map<DestKey, u64> = Map::default();
    for pair in &pairs {
        *opened.entry(pair.key).or_default() += pair.pair.pattern.opened;
    }
    pairs.retain(|pair| opened.get(&pair.key).is_some_and(|opened| 2 * opened <= all));
    pairs.retain(|pair| context.is_to_blame(pair.owner.key, pair.key, &pair.pair.pattern));
    let keys: BTreeSet<DestKey> = pairs.iter().map(|pair| pair.key).collect();
    let places: BTreeSet<_> = keys.iter().map(|key| (key.remote_addr, key.port)).collect();
    if places.len() < DESTINATIONS {
        return None;
    }
    let mut pattern = Pattern::default();
    let mut created_by_peers = 0.0;
    for pair in &pairs {
        pattern.absorb(&pair.pair.pattern);
        created_by_peers += context.created_by_local_peer(pair.key, pair.pair.pattern.opened);
    }
    let created = pattern.time_wait as f64;
    let (rate_per_s, lifetime_s) = (pattern.rate_per_s(), pattern.lifetime_s());
    if !replaced(pattern.opened, rate_per_s, lifetime_s) || pattern.opened < MANY || rate_per_s < LEAST_PER_S {
        return None;
    }
    let regular = pairs.iter().filter(|pair| is_of_rhythm(&pair.row.pattern, pair.pair.pattern.rate_per_s())).count();
    if 2 * regular > pairs.len() && rate_per_s < CHECKS_PER_S {
        return None;
    }
    let created_per_s = rate_per_s * ((created + created_by_peers) / pattern.opened as f64).min(1.0);
    let mut evidence = vec![Evidence::Destinations(places.len() as u64)];
    evidence.extend(no_reuse::figures(&pattern, rate_per_s, lifetime_s));
    let live = created / pattern.opened as f64 * rate_per_s * TIME_WAIT_SECONDS;
    evidence.push(Evidence::TimeWaitAtThisRate(live));
    let subject = subject(&pairs, pattern.opened)?;
    let finding = Finding {
        rule: Rule::NoConnectionReuse,
        severity: if pairs.iter().any(|pair| share_of_ports(context, pair) > 0.5) {
            Severity::Warning
        } else {
            Severity::Info
        },
        active: context.habit_goes_on(&pattern),
        process: Some(subject),
        destination: None,
        cause: None,
        title: "opens a new connection for each request, to many destinations".to_owned(),
        evidence,
        advice: vec![reuse(&places, &subject, rate_per_s, created_per_s, lifetime_s)],
        confidence: Confidence::Medium,
        recheck: "After the change the process opens hardly any new connections.".to_owned(),
    };
    Some(Habit { finding, created: pattern.time_wait, destinations: keys.into_iter().collect() })
}

/// The process with nearly all of the connections, or the program.
fn subject(pairs: &[&Pair<'_>], opened: u64) -> Option<Subject> {
    let mut processes: Map<_, (u64, &Pair<'_>)> = Map::default();
    for pair in pairs {
        processes.entry(pair.owner.key).or_insert((0, pair)).0 += pair.pair.pattern.opened;
    }
    let (most, pair) = processes.values().max_by_key(|(opened, pair)| (*opened, pair.owner.key))?;
    let subject = Subject::of(pair.owner);
    let is_alone = *most as f64 >= NEARLY_ALL * opened as f64;
    Some(if is_alone { subject } else { Subject { process: None, processes: processes.len() as u64, ..subject } })
}

fn reuse(
    places: &BTreeSet<(Option<std::net::IpAddr>, u16)>,
    subject: &Subject,
    rate_per_s: f64,
    created_per_s: f64,
    lifetime_s: f64,
) -> Advice {
    let number = places.len() as f64;
    if rate_per_s / number < AGAIN_PER_S {
        return advice::plain(
            "slow-down",
            "No change is needed: to each destination there are so few connections that none could be used again.",
            "None.",
        );
    }
    // The setting depends on the protocol, if all use the same.
    let ports: BTreeSet<u16> = places.iter().map(|(_, port)| *port).collect();
    let port = if ports.len() == 1 { ports.first().copied().unwrap_or(0) } else { 0 };
    let habit = ConnectionHabit {
        command: subject.command,
        port,
        rate_per_s,
        created_per_s,
        lifetime_s,
        at_a_time: 0,
        processes: 1,
    };
    let mut advice = advice::pool(&habit);
    advice.command = Some(settings::hosts(&subject.command, port, number));
    advice.text = format!("Keep one connection to each destination open, and use it again: {number} in all.");
    advice.effect = vec![
        advice::effect("time_wait_created_per_s", created_per_s, 0.0),
        advice::effect("connections_needed", rate_per_s * lifetime_s, number),
    ];
    advice
}
