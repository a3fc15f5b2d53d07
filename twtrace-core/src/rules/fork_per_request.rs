//! Many short-lived processes under one parent, with one or two connections each.

use super::advice::{self, ConnectionHabit};
use super::context::{LEAST_PER_S, MANY, MOST, Pair, RuleContext};
use super::habit::Habit;
use super::no_reuse::replaced;
use super::periodic::is_of_rhythm;
use crate::event::{Comm, Role};
use crate::evidence::Evidence;
use crate::finding::{Confidence, Finding, Rule, Severity, Subject};
use crate::pattern::{Pattern, WINDOW_NS};
use crate::snapshot::{DestKey, DestRow};
use crate::table::Map;

/// Maximum number of connections of a process that runs for one request.
const FEW: u64 = 3;

/// Number of processes that counts as a habit.
const PROCESSES: u64 = 10;

/// How soon after its start such a process connects, nanoseconds.
const AT_ONCE_NS: u64 = 2_000_000_000;

#[derive(Default)]
struct Group {
    pattern: Pattern,
    processes: u64,
    /// Number of processes by command, and one example of each.
    commands: Map<Comm, (u64, Subject)>,
    /// When the first and the last of them started.
    started_ns: Option<(u64, u64)>,
    /// Usage pattern of all connections of the destination.
    of_destination: Pattern,
    /// Connections by the window in which they began: one process has too few to show the peak of the whole group.
    windows: Map<u64, u64>,
}

/// Whether a process appears to have been run for the few connections that it has. (Its start time includes time in
/// suspend, connection times do not: on a host that was suspended, every process with so few connections qualifies.)
pub(super) fn is_run_for_a_request(Pair { pair, owner, .. }: &Pair<'_>) -> bool {
    let soon = pair.pattern.first_ns.saturating_sub(owner.key.start_ns) <= AT_ONCE_NS;
    (1..=FEW).contains(&pair.pattern.opened) && soon
}

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Habit> {
    let mut groups: Map<(u32, Comm, DestKey), Group> = Map::default();
    let run = context.pairs.iter().filter(|pair| pair.key.role == Role::Active && is_run_for_a_request(pair));
    for Pair { pair, owner, row, key } in run {
        let group = groups.entry((owner.ppid, owner.parent_comm, *key)).or_default();
        group.pattern.absorb(&pair.pattern);
        group.processes += 1;
        group.of_destination = row.pattern;
        let of_command = group.commands.entry(owner.comm).or_insert((0, Subject::of(owner)));
        of_command.0 += 1;
        let (first, last) = group.started_ns.unwrap_or((u64::MAX, 0));
        group.started_ns = Some((first.min(owner.key.start_ns), last.max(owner.key.start_ns)));
        *group.windows.entry(pair.pattern.first_ns / WINDOW_NS).or_default() += pair.pattern.opened;
    }
    // Processes that did not fit into the table as separate rows are grouped already.
    for (owner, row, cell, processes, (first_ns, last_ns)) in context.snapshot.one_shot_cells() {
        let DestRow::Dest(key) = row.key else { continue };
        if key.role != Role::Active || cell.pattern.opened == 0 {
            continue;
        }
        let group = groups.entry((owner.ppid, owner.parent_comm, key)).or_default();
        group.pattern.absorb(&cell.pattern);
        group.processes += processes;
        group.of_destination = row.pattern;
        group.commands.entry(owner.comm).or_insert((0, Subject::of(owner))).0 += processes;
        let (first, last) = group.started_ns.unwrap_or((u64::MAX, 0));
        group.started_ns = Some((first.min(first_ns), last.max(last_ns)));
    }
    let mut all: Vec<_> = groups.into_iter().collect();
    all.sort_unstable_by_key(|((ppid, comm, key), _)| (*key, *ppid, *comm));
    all.into_iter().filter_map(|((_, _, key), group)| finding(context, key, &group)).collect()
}

fn finding(context: &RuleContext<'_>, key: DestKey, group: &Group) -> Option<Habit> {
    let pattern = &group.pattern;
    let most = group
        .windows
        .values()
        .max()
        .filter(|most| **most >= MANY)
        .map_or(0.0, |most| *most as f64 / (WINDOW_NS as f64 / 1e9));
    let rate_per_s = pattern.rate_per_s().max(most);
    // Workers that were all started in advance belong to a service.
    let span_ns = |(first, last): (u64, u64)| last.saturating_sub(first);
    let one_by_one =
        group.started_ns.map_or(0, span_ns).saturating_mul(2) >= pattern.last_ns.saturating_sub(pattern.first_ns);
    let habit = one_by_one
        && !is_of_rhythm(&group.of_destination, rate_per_s)
        && replaced(pattern.opened, rate_per_s, pattern.lifetime_s())
        && group.processes >= PROCESSES
        && pattern.opened >= MANY
        && rate_per_s >= LEAST_PER_S
        && pattern.one_shots as f64 >= MOST * pattern.opened as f64;
    if !habit {
        return None;
    }
    let (_, subject) = group.commands.values().max_by_key(|(number, subject)| (*number, subject.command))?;
    let subject = Subject { process: None, processes: group.processes, ..*subject };
    // Sockets created at either end, if it is on this host.
    let created = pattern.time_wait as f64 + context.created_by_local_peer(key, pattern.opened);
    let created_per_s = rate_per_s * (created / pattern.opened as f64).min(1.0);
    let lifetime_s = pattern.lifetime_s();
    let finding = Finding {
        rule: Rule::ForkPerRequest,
        severity: Severity::Info,
        active: context.habit_goes_on(pattern),
        process: Some(subject),
        destination: Some(key),
        cause: None,
        title: "runs a process with a connection of its own for each request".to_owned(),
        evidence: vec![
            Evidence::Processes(group.processes),
            Evidence::Connections(pattern.opened),
            Evidence::RatePerS(rate_per_s),
            Evidence::LifetimeMs(lifetime_s * 1e3),
            Evidence::RequestBytes(pattern.request_bytes / pattern.one_shots.max(1)),
            Evidence::TimeWaitCreated(pattern.time_wait),
        ],
        advice: vec![advice::one_process(&ConnectionHabit {
            command: subject.command,
            port: key.port,
            rate_per_s,
            created_per_s,
            lifetime_s,
            at_a_time: pattern.at_a_time(),
            // One process takes the place of all.
            processes: 1,
        })],
        // Orphans are children of init, like all other orphans.
        confidence: if subject.ppid > 1 { Confidence::Medium } else { Confidence::Low },
        recheck: "After the change there is one long-running process with one connection.".to_owned(),
    };
    Some(Habit::of(finding, pattern.time_wait))
}
