//! No local port is left towards a destination, or none will be before long.

use super::advice;
use super::case::Case;
use super::not_time_wait::party;
use crate::failure::{Cause, FailureRow};
use crate::finding::{Advice, Confidence, Evidence, Finding, Party, Rule, Severity, Value};
use crate::ledger::Map;
use crate::model::{DestKey, DestinationRow};
use crate::ports::Budget;

/// What lies further ahead is no emergency, in seconds.
const NEAR_S: f64 = 600.0;

/// What leaves a minute or less is one.
const IMMINENT_S: f64 = 60.0;

/// Timewait sockets, or connections that were opened, by which a rate is more than a guess.
const ENOUGH: u32 = 20;

/// Failures towards one destination.
#[derive(Default)]
struct Reached<'a> {
    count: u64,
    first_ns: u64,
    last_ns: u64,
    in_own_range: bool,
    worst: Option<&'a FailureRow>,
}

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut reached: Map<DestKey, Reached<'_>> = Map::default();
    let exhausted = |cause| matches!(cause, Cause::DestinationExhausted | Cause::SocketRangeExhausted);
    for row in case.model.failures().filter(|row| exhausted(row.cause)) {
        let Some(key) = row.destination else { continue };
        let none = Reached { first_ns: row.first_ns, ..Reached::default() };
        let failed = reached.entry(key).or_insert(none);
        failed.count += row.count;
        failed.first_ns = failed.first_ns.min(row.first_ns);
        failed.last_ns = failed.last_ns.max(row.last_ns);
        failed.in_own_range |= row.cause == Cause::SocketRangeExhausted;
        let rank = |row: &FailureRow| (row.count, row.process);
        if failed.worst.is_none_or(|worst| rank(row) > rank(worst)) {
            failed.worst = Some(row);
        }
    }
    let mut found = Vec::new();
    for (key, row) in &case.destinations {
        match reached.get(key) {
            Some(failed) => found.push(fails(case, *key, row, failed)),
            None => found.extend(row.budget.and_then(|budget| near(case, *key, row, &budget))),
        }
    }
    found
}

/// What has the ports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Culprit {
    TimeWait,
    Open,
    Bound,
}

fn culprit(budget: &Budget) -> Culprit {
    let open = budget.established + budget.other;
    let most = budget.time_wait.max(open).max(budget.bound);
    if most == budget.time_wait {
        Culprit::TimeWait
    } else if most == open {
        Culprit::Open
    } else {
        Culprit::Bound
    }
}

/// Whoever has most of the ports: made the timewait sockets, or opened most connections.
fn maker(case: &Case<'_>, key: DestKey) -> Option<Party> {
    let rank = |pair: &&super::case::Pair<'_>| (pair.pair.time_wait_live, pair.pair.time_wait_made, pair.owner.key);
    let most = case.pairs_of(key).max_by_key(rank)?;
    (most.pair.time_wait_made > 0).then(|| Party::of(most.owner))
}

fn split(row: &DestinationRow, budget: &Budget) -> Vec<Evidence> {
    let mut evidence = vec![
        ("ports_total", Value::Count(budget.total.into())),
        ("ports_time_wait", Value::Count(budget.time_wait.into())),
        ("ports_established", Value::Count(budget.established.into())),
        ("ports_other", Value::Count(budget.other.into())),
        ("ports_bound", Value::Count(budget.bound.into())),
        ("ports_available", Value::Count(budget.available.into())),
        ("port_rate_per_s", Value::Number(budget.rate_per_s)),
        ("max_rate_per_s", Value::Number(budget.max_rate_per_s)),
        ("hold_seconds", Value::Number(budget.hold_seconds)),
    ];
    let latency = row.connect_us.quantile(0.99).map(|us| ("connect_ms_p99", Value::Number(us as f64 / 1e3)));
    evidence.extend(latency);
    evidence
}

/// Advice by what has the ports.
fn advice(case: &Case<'_>, key: DestKey, budget: &Budget, party: Option<&Party>) -> Vec<Advice> {
    let mut first = match culprit(budget) {
        Culprit::TimeWait => Vec::new(),
        Culprit::Open => vec![advice::plain(
            "close-sockets",
            "Bound the number of open connections, and close those that idle: they have the ports, and TIME_WAIT has not.",
            "What is closed here first holds its port for another minute.",
        )],
        Culprit::Bound => vec![advice::bind_address_no_port(budget.bound.into())],
    };
    first.extend(advice::room(case, key, budget, party));
    first
}

fn fails(case: &Case<'_>, key: DestKey, row: &DestinationRow, failed: &Reached<'_>) -> Finding {
    let seconds = failed.last_ns.saturating_sub(failed.first_ns) as f64 / 1e9;
    let per_s = if seconds > 0.0 { failed.count.saturating_sub(1) as f64 / seconds } else { 0.0 };
    let holds = case.goes_on(failed.last_ns, 0.0);
    let budget = row.budget.unwrap_or_default();
    let known = row.budget.is_some();
    let what = if known { culprit(&budget) } else { Culprit::TimeWait };
    let victim = failed.worst.and_then(|row| party(case, row));
    let process = if what == Culprit::TimeWait { maker(case, key).or(victim) } else { victim };
    let title = match what {
        _ if failed.in_own_range => "finds no port within the socket's own IP_LOCAL_PORT_RANGE: connect(2) fails",
        Culprit::TimeWait => "finds no local port: connect(2) fails, timewait sockets have the ports",
        Culprit::Open => {
            "finds no local port: connect(2) fails, open connections have the ports: this is not TIME_WAIT"
        }
        Culprit::Bound => "finds no local port: connect(2) fails, bound sockets have the ports: this is not TIME_WAIT",
    };
    let mut evidence = vec![
        ("failures", Value::Count(failed.count)),
        ("failures_per_s", Value::Number(per_s)),
        ("errno", Value::Text("EADDRNOTAVAIL".to_owned())),
    ];
    if let Some(victim) = victim.and_then(|victim| victim.process)
        && process.and_then(|party| party.process) != Some(victim)
    {
        evidence.push(("failing_pid", Value::Count(victim.tgid.into())));
    }
    if known {
        evidence.extend(split(row, &budget));
    }
    if what != Culprit::TimeWait {
        evidence.push(("verdict", Value::Text("this is not TIME_WAIT".to_owned())));
    }
    Finding {
        rule: Rule::ExhaustionReached,
        severity: if holds { Severity::Critical } else { Severity::Warning },
        holds,
        process,
        destination: Some(key),
        cause: None,
        title: title.to_owned(),
        evidence,
        advice: if known { advice(case, key, &budget, process.as_ref()) } else { Vec::new() },
        confidence: Confidence::High,
        recheck: "After the change connect(2) fails no more, and ports are left at the peak of the load.".to_owned(),
    }
}

fn near(case: &Case<'_>, key: DestKey, row: &DestinationRow, budget: &Budget) -> Option<Finding> {
    let seconds = budget.seconds_to_exhaustion?;
    let enough = budget.time_wait >= ENOUGH || budget.established >= ENOUGH;
    // Unless it comes within the whole band of error it is no forecast, but for ports that are nearly gone.
    let sure = budget.latest_seconds.is_some();
    if seconds > NEAR_S || !enough || !(sure || budget.utilization >= 0.8) {
        return None;
    }
    let process = maker(case, key);
    let mut evidence = vec![
        ("seconds_to_exhaustion_estimated", Value::Number(seconds)),
        ("soonest_seconds_estimated", Value::Number(budget.soonest_seconds.unwrap_or(0.0))),
    ];
    evidence.extend(budget.latest_seconds.map(|latest| ("latest_seconds_estimated", Value::Number(latest))));
    evidence.extend(split(row, budget));
    let title = match culprit(budget) {
        Culprit::TimeWait => "takes local ports faster than they come back",
        Culprit::Open => "opens connections and does not close them: local ports run out, and this is not TIME_WAIT",
        Culprit::Bound => "binds ports faster than they come back: this is not TIME_WAIT",
    };
    Some(Finding {
        rule: Rule::ExhaustionNear,
        severity: if seconds <= IMMINENT_S { Severity::Critical } else { Severity::Warning },
        holds: true,
        process,
        destination: Some(key),
        cause: None,
        title: title.to_owned(),
        evidence,
        advice: advice(case, key, budget, process.as_ref()),
        confidence: if sure { Confidence::High } else { Confidence::Medium },
        recheck: "After the change the forecast says never, at the peak of the load.".to_owned(),
    })
}
