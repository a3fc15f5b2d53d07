//! One request per connection: a process keeps opening connections, each short and with the bytes of one request.
//!
//! The processes of one program under one parent count together: the workers of a pre-forking server.

use super::advice::{self, ConnectionHabit};
use super::context::{LEAST_PER_S, MANY, MOST, Pair, RuleContext, name};
use super::fork_per_request::is_run_for_a_request;
use super::habit::Habit;
use super::periodic::is_of_rhythm;
use super::settings;
use crate::event::{Comm, Owner, ProcessKey, Role};
use crate::evidence::Evidence;
use crate::finding::{Confidence, Finding, Rule, Severity, Subject};
use crate::pattern::Pattern;
use crate::snapshot::{DestKey, DestinationRow};
use crate::table::Map;

/// A process with at least this share of its program's connections is named for all of them.
pub(super) const NEARLY_ALL: f64 = 0.9;

/// One-shots that last longer may be in several censuses, in seconds.
const LONG_S: f64 = 1.0;

/// `GET / HTTP/1.0` and two ends of lines.
const SHORTEST_HTTP: u64 = 18;

/// PID of init, the parent of daemons that are otherwise unrelated.
const INIT: u32 = 1;

/// A process or program that opens one-shots.
pub(super) struct Churn<'a> {
    pub(super) subject: Subject,
    pub(super) key: DestKey,
    pub(super) row: &'a DestinationRow,
    pub(super) pattern: Pattern,
    pub(super) rate_per_s: f64,
    /// TIME_WAIT sockets of these connections, created at either end if it is on this host.
    pub(super) created_per_s: f64,
    /// Of these, the opener's own, which take a port.
    pub(super) ports_per_s: f64,
    pub(super) lifetime_s: f64,
    /// Longer-lived connections to the same destination, open now or earlier.
    pub(super) pool: u64,
    /// What opens another connection for each of them, whose TIME_WAIT sockets are among those created.
    pub(super) relay: Option<Owner>,
}

impl Churn<'_> {
    /// The habit that the advice is about.
    pub(super) fn habit(&self) -> ConnectionHabit {
        ConnectionHabit {
            command: self.subject.command,
            port: if self.is_http() { self.key.port } else { 0 },
            rate_per_s: self.rate_per_s,
            created_per_s: self.created_per_s,
            lifetime_s: self.lifetime_s,
            at_a_time: self.pattern.at_a_time(),
            processes: self.subject.processes,
        }
    }

    /// Whether its requests are long enough for HTTP, if the port does not say what they are.
    fn is_http(&self) -> bool {
        let mean = self.pattern.request_bytes / self.pattern.one_shots.max(1);
        mean >= SHORTEST_HTTP || settings::is_known(self.key.port)
    }

    /// The finding that such connections are, unless a rule knows more about them.
    pub(super) fn finding(&self, context: &RuleContext<'_>) -> Finding {
        Finding {
            rule: Rule::NoConnectionReuse,
            severity: severity(context, self),
            active: context.habit_goes_on(&self.pattern),
            process: Some(self.subject),
            destination: Some(self.key),
            cause: None,
            title: "opens a new connection for each request".to_owned(),
            evidence: evidence(self),
            advice: vec![advice::pool(&self.habit())],
            confidence: Confidence::Medium,
            recheck:
                "After the change the process opens hardly any new connection to this destination, and ESTABLISHED \
                      stays at the size of its pool."
                    .to_owned(),
        }
    }
}

/// One program under one parent; for children of init, each process separately.
pub(super) type Program = (u32, Comm, Option<ProcessKey>);

/// The program that a pair's process is one of.
pub(super) fn program(Pair { owner, .. }: &Pair<'_>) -> Program {
    (owner.ppid, owner.comm, (owner.ppid <= INIT).then_some(owner.key))
}

/// All of them, whatever may explain them, except those that are reported already.
pub(super) fn churns<'a>(context: &RuleContext<'a>, reported: &[Habit]) -> Vec<(Churn<'a>, bool)> {
    let mut programs: Map<(DestKey, Program), Vec<&Pair<'a>>> = Map::default();
    for pair in &context.pairs {
        let pattern = &pair.pair.pattern;
        let is_reported = || reported.iter().any(|habit| is_fork_of(habit, pair) || habit.is_about(pair));
        if pair.key.role == Role::Active && pattern.opened > 0 && is_of_one_shots(pattern) && !is_reported() {
            programs.entry((pair.key, program(pair))).or_default().push(pair);
        }
    }
    let mut programs: Vec<_> = programs.into_iter().collect();
    programs.sort_unstable_by_key(|(program, _)| *program);
    programs.into_iter().filter_map(|(_, pairs)| churn(context, pairs)).collect()
}

pub(super) fn is_of_one_shots(pattern: &Pattern) -> bool {
    pattern.one_shots as f64 >= MOST * pattern.opened as f64
}

/// Whether a pair's process is one of those that a finding about processes for each request is about.
pub(super) fn is_fork_of(habit: &Habit, pair: &Pair<'_>) -> bool {
    let finding = &habit.finding;
    let is_it = |subject: Subject| (subject.ppid, subject.parent_command) == (pair.owner.ppid, pair.owner.parent_comm);
    finding.rule == Rule::ForkPerRequest
        && finding.destination == Some(pair.key)
        && is_run_for_a_request(pair)
        && finding.process.is_some_and(is_it)
}

/// The churn of a program's processes, and whether they are at fault.
fn churn<'a>(context: &RuleContext<'a>, mut pairs: Vec<&Pair<'a>>) -> Option<(Churn<'a>, bool)> {
    let opened: u64 = pairs.iter().map(|pair| pair.pair.pattern.opened).sum();
    let most = *pairs.iter().max_by_key(|pair| (pair.pair.pattern.opened, pair.owner.key))?;
    if most.pair.pattern.opened as f64 >= NEARLY_ALL * opened as f64 {
        pairs = vec![most];
    }
    let mut pattern = most.pair.pattern;
    for other in pairs.iter().filter(|other| other.owner.key != most.owner.key) {
        pattern.absorb(&other.pair.pattern);
    }
    let (rate_per_s, lifetime_s) = (pattern.rate_per_s(), pattern.lifetime_s());
    let habit = replaced(pattern.opened, rate_per_s, lifetime_s)
        && pattern.opened >= MANY
        && rate_per_s >= LEAST_PER_S
        && !is_of_rhythm(&most.row.pattern, rate_per_s);
    if !habit {
        return None;
    }
    let created = pattern.time_wait as f64;
    let per_s = |created: f64| rate_per_s * (created / pattern.opened as f64).min(1.0);
    let established: u64 = pairs.iter().map(|pair| context.established(pair.owner.key, pair.key)).sum();
    // Long one-shots, which the search for socket owners finds as well, look like connections that are kept.
    let is_long = lifetime_s >= LONG_S && context.habit_goes_on(&pattern);
    let one_shots = if is_long { rate_per_s * lifetime_s } else { 0.0 };
    let subject = if let [one] = pairs.as_slice() {
        Subject::of(one.owner)
    } else {
        Subject { process: None, processes: pairs.len() as u64, ..Subject::of(most.owner) }
    };
    let at_fault = pairs.iter().any(|pair| context.is_to_blame(pair.owner.key, most.key, &pattern));
    let churn = Churn {
        subject,
        key: most.key,
        row: most.row,
        rate_per_s,
        created_per_s: per_s(created + context.created_by_local_peer(most.key, pattern.opened)),
        ports_per_s: per_s(created),
        lifetime_s,
        relay: None,
        // The pool may have ended with the process.
        pool: established.saturating_sub(one_shots as u64).min(most.row.stable).max(pattern.kept_at_a_time()),
        pattern,
    };
    Some((churn, at_fault))
}

/// Whether connections replaced each other, unlike those of a pool, which are mostly open at the same time and closed
/// together at the end.
pub(super) fn replaced(connections: u64, rate_per_s: f64, lifetime_s: f64) -> bool {
    connections as f64 >= 3.0 * rate_per_s * lifetime_s
}

pub(super) fn check(context: &RuleContext<'_>, churns: &[(Churn<'_>, bool)]) -> Vec<Habit> {
    let found = churns.iter().filter(|(churn, at_fault)| churn.pool == 0 && *at_fault);
    found.map(|(churn, _)| Habit::of(finding(context, churn), churn.pattern.time_wait)).collect()
}

fn finding(context: &RuleContext<'_>, churn: &Churn<'_>) -> Finding {
    let mut finding = churn.finding(context);
    let burst = churn.pattern.burst();
    if let Some(burst) = burst {
        finding.title.push_str(", many at once and then none");
        finding.advice = vec![advice::at_a_time(&churn.habit(), burst)];
    }
    if let (Some(relay), Some(first)) = (&churn.relay, finding.advice.first_mut()) {
        first.text.push_str(" The relay between opens another connection for each of them: those are in the effect.");
        finding.evidence.push(Evidence::RelayPid(relay.key.tgid.into()));
        finding.evidence.push(Evidence::RelayCommand(name(relay)));
    }
    if let Some(server) = context.server_of(churn.key)
        && context.is_closed_by_local_peer(churn.key, &churn.pattern)
    {
        let keeps = context.server_keeps(churn.key);
        if burst.is_none() {
            let why = if keeps { ", probably because it is asked to" } else { "" };
            finding.title.push_str(&format!(", and the server closes it{why}"));
        }
        if keeps
            && churn.is_http()
            && let Some(first) = finding.advice.first_mut()
        {
            first.text.push_str(" A request with `Connection: close`, or of HTTP/1.0, asks the server to close.");
        }
        finding.evidence.push(Evidence::ServerPid(server.key.tgid.into()));
        finding.evidence.push(Evidence::ServerCommand(name(server)));
        // Where it keeps other connections open, it is not the server's configuration.
        if !context.server_keeps_others(churn.key) {
            let keep_alive = advice::keep_alive(&server.comm, churn.created_per_s);
            finding.advice.push(if keeps { advice::if_nobody_asks(keep_alive) } else { keep_alive });
        }
    } else if burst.is_none() && churn.pattern.at_a_time() >= advice::SEVERAL {
        // Those that a small pool keeps for a while look the same.
        finding.title =
            "opens a new connection for nearly each request: it has no pool, or one that keeps too few".to_owned();
    }
    finding
}

/// By the effect on ports: there is no danger while the range sustains the rate with room to spare.
fn severity(context: &RuleContext<'_>, churn: &Churn<'_>) -> Severity {
    let keeps_s = context.hold_seconds(churn.key);
    let total = churn.row.budget.map_or(f64::INFINITY, |budget| f64::from(budget.total.max(1)));
    // A habit that has ended takes no more ports than it created sockets.
    let most = if context.habit_goes_on(&churn.pattern) { f64::INFINITY } else { churn.pattern.time_wait as f64 };
    if (churn.ports_per_s * keeps_s).min(most) > 0.5 * total { Severity::Warning } else { Severity::Info }
}

/// The evidence of a habit.
fn evidence(churn: &Churn<'_>) -> Vec<Evidence> {
    let mut evidence = figures(&churn.pattern, churn.rate_per_s, churn.lifetime_s);
    if churn.subject.process.is_none() {
        evidence.insert(0, Evidence::Processes(churn.subject.processes));
    }
    evidence
}

/// Of connections with that pattern.
pub(super) fn figures(pattern: &Pattern, rate_per_s: f64, lifetime_s: f64) -> Vec<Evidence> {
    let one_shots = pattern.one_shots.max(1);
    let mut figures = Vec::new();
    if let Some(burst) = pattern.burst() {
        figures.extend([
            Evidence::BurstConnections(burst.connections),
            Evidence::BurstSeconds(burst.seconds),
            Evidence::QuietSeconds(burst.quiet_s),
        ]);
    }
    figures.extend(Some(pattern.at_a_time()).filter(|most| *most > 1).map(Evidence::AtATime));
    figures.extend([
        Evidence::Connections(pattern.opened),
        Evidence::OneRequestConnections(pattern.one_shots),
        Evidence::RatePerS(rate_per_s),
        Evidence::LifetimeMs(lifetime_s * 1e3),
        Evidence::RequestBytes(pattern.request_bytes / one_shots),
        Evidence::ResponseBytes(pattern.response_bytes / one_shots),
        Evidence::ClosedFirst(pattern.closed_first),
        Evidence::TimeWaitCreated(pattern.time_wait),
    ]);
    figures
}
