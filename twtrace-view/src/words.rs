//! Text of headers: the host's figures, coverage and losses in words, the same in the table and on the screen.

use crate::{label, text};
use twtrace_core::event::{Hook, KernelCounters, KernelFacts, Tier};
use twtrace_core::snapshot::{Counts, DestRow, DestinationRow, Namespace, Snapshot, Summary};

/// Age from which a census no longer confirms the number of live sockets, in nanoseconds.
const STALE_CENSUS_NS: u64 = 2_000_000_000;

/// What was lost, by reason; only those that are not 0.
pub fn lost(counters: &KernelCounters) -> Vec<(&'static str, u64)> {
    [
        ("ring buffer full", counters.ring_full),
        ("owners refused", counters.parts_refused),
        ("skipped by the kernel", counters.recursion),
        ("end never seen", counters.stale),
        ("undecodable", counters.undecodable),
    ]
    .into_iter()
    .filter(|(_, lost)| *lost > 0)
    .collect()
}

/// Losses in one phrase: `lost 0`, or `lost 12: ring buffer full 10, end never seen 2`.
pub fn losses(counters: &KernelCounters) -> String {
    let lost = lost(counters);
    if lost.is_empty() {
        return "lost 0".to_owned();
    }
    let total = lost.iter().map(|(_, number)| number).sum();
    let reasons: Vec<String> =
        lost.iter().map(|(reason, number)| format!("{reason} {}", text::count(*number))).collect();
    format!("lost {}: {}", text::count(total), reasons.join(", "))
}

/// What the trace costs: `costs 0.31% of a core, 640 ns a connection in the kernel`; `None` where that is not known.
pub fn cost(summary: &Summary) -> Option<String> {
    let cost = summary.cost?;
    let mut words = format!("costs {:.2}% of a core", cost.percent());
    match cost.kernel_ns_per_connection {
        Some(ns) => words += &format!(", {} ns a connection in the kernel", text::count(ns.round() as u64)),
        None if cost.kernel_refused => words += " and what the kernel does not say",
        None => {}
    }
    Some(words)
}

/// The same with what comes before it on a line, or nothing.
pub fn and_cost(before: &str, summary: &Summary) -> String {
    cost(summary).map_or_else(String::new, |cost| format!("{before}{cost}"))
}

/// The kernel's count of TIME_WAIT sockets: `417 of at most 131,072`, and if there are other network namespaces with
/// their own figures, `9,417 in 3 network namespaces; 9,000 of at most 131,072 in web`: the one closest to its limit.
pub fn time_wait(summary: &Summary) -> String {
    let fullest = fullest(summary);
    let (count, limit) = (text::count(fullest.sockets), text::count(fullest.limit));
    if !fullest.is_one_of_several {
        return format!("{count} of at most {limit}");
    }
    let (all, namespaces) = (text::count(summary.time_wait()), kernels(summary).count());
    format!("{all} in {namespaces} network namespaces; {count} of at most {limit} in {}", fullest.namespace)
}

/// Share of the limit of TIME_WAIT sockets that is nearly all of it.
pub(crate) const NEARLY: f64 = 0.9;

/// TIME_WAIT sockets of a network namespace.
pub struct Bucket {
    /// The kernel's count.
    pub sockets: u64,
    /// `net.ipv4.tcp_max_tw_buckets`.
    pub limit: u64,
    /// Name of the namespace.
    pub namespace: String,
    /// There are others with figures of their own.
    pub is_one_of_several: bool,
}

impl Bucket {
    /// By what the kernel says of a namespace.
    pub(crate) fn of(kernel: &KernelFacts, netns: u32, summary: &Summary) -> Self {
        Self {
            sockets: kernel.time_wait,
            limit: kernel.max_tw_buckets,
            namespace: label::namespace(summary, netns),
            is_one_of_several: kernels(summary).nth(1).is_some(),
        }
    }

    /// Whether the limit is nearly reached: the kernel then creates no more of them.
    pub fn is_nearly_full(&self) -> bool {
        self.share() >= NEARLY
    }

    /// The share of the limit.
    pub fn share(&self) -> f64 {
        share(self.sockets, self.limit)
    }
}

fn share(sockets: u64, limit: u64) -> f64 {
    sockets as f64 / limit.max(1) as f64
}

/// The network namespaces with figures of their own, the tracer's first.
fn kernels(summary: &Summary) -> impl DoubleEndedIterator<Item = (u32, &KernelFacts)> {
    let own = std::iter::once((summary.host.netns, &summary.kernel));
    let others = summary.namespaces.iter().filter(|namespace| !namespace.gone && namespace.netns != summary.host.netns);
    own.chain(others.filter_map(|namespace| Some((namespace.netns, namespace.kernel.as_ref()?))))
}

/// The namespace that is closest to its limit of TIME_WAIT sockets.
pub fn fullest(summary: &Summary) -> Bucket {
    let share = |kernel: &KernelFacts| share(kernel.time_wait, kernel.max_tw_buckets);
    // Of equal ones, the tracer's own, which is the first.
    let most = kernels(summary).rev().max_by(|(_, one), (_, other)| share(one).total_cmp(&share(other)));
    let (netns, kernel) = most.unwrap_or((summary.host.netns, &summary.kernel));
    Bucket::of(kernel, netns, summary)
}

/// Coverage in one phrase: `coverage 100.0% (n of m; k before start)`.
pub fn coverage(summary: &Summary) -> String {
    let coverage = &summary.coverage;
    if summary.census_at_ns.is_none() {
        return "coverage unknown: no census yet".to_owned();
    }
    let created = coverage.census.saturating_sub(coverage.before_start);
    if created == 0 && coverage.before_start > 0 && summary.census_complete {
        return format!(
            "coverage: all {} TIME_WAIT sockets are from before the start",
            text::count(coverage.before_start)
        );
    }
    let incomplete = if summary.census_complete { "" } else { "; census incomplete" };
    format!(
        "coverage {} ({} of {}; {} before start{incomplete})",
        text::percent(coverage.ratio()),
        text::count(coverage.attributed),
        text::count(created),
        text::count(coverage.before_start),
    )
}

/// The sign before a number of live sockets that is inferred, because no census confirms it.
pub fn live_mark(summary: &Summary) -> &'static str {
    let fresh = summary
        .census_at_ns
        .is_some_and(|at| summary.census_complete && summary.window.now_ns.saturating_sub(at) <= STALE_CENSUS_NS);
    if fresh { "" } else { "~" }
}

/// Every reason why the figures are incomplete, one line each.
pub fn warnings(summary: &Summary) -> Vec<String> {
    let mut warnings = Vec::new();
    if !lost(&summary.counters).is_empty() {
        warnings.push(format!("figures are too low: {}", losses(&summary.counters)));
    }
    let exits = summary.counters.exits_missed;
    if exits > 0 {
        let exits = text::count(exits);
        warnings.push(format!("{exits} exits of connect and accept were skipped: openers or errors may be unknown"));
    }
    let kept = summary.counters.exact_missed.saturating_add(summary.counters.evicted);
    if kept > 0 {
        let kept = text::count(kept);
        warnings.push(format!("{kept} calls were missed by the exact tier: their TIME_WAIT sockets are classified"));
    }
    // Losses of the exact tier do not matter to a lower tier, which has its own warning.
    if summary.tracing.no_btf {
        warnings.push(
            "no usable BTF: who accepts, why connections fail and how they are aborted is unknown, other ends \
             are inferred, and events that the kernel skips are not counted before 6.7"
                .to_owned(),
        );
    }
    let missed = |hook: &&Hook| {
        !summary.tracing.no_btf
            && !hook.attached
            && !matches!(hook.kind.as_str(), "fentry" | "fexit" | "kprobe" | "kretprobe")
    };
    for hook in summary.tracing.hooks.iter().filter(missed) {
        let reason = hook.reason.as_deref().unwrap_or("no reason given");
        warnings.push(format!("hook {} is missing: {}", text::clean(&hook.name), text::clean(reason)));
    }
    let refused: Vec<&Namespace> = summary.present().filter(|namespace| namespace.refused.is_some()).collect();
    if let Some(first) = refused.first() {
        let reason = first.refused.as_deref().unwrap_or_default();
        let more = if refused.len() > 1 { format!(" (and {} more)", refused.len() - 1) } else { String::new() };
        let name = label::namespace(summary, first.netns);
        warnings.push(format!("no census of network namespace {name}{more}: {}", text::clean(reason)));
    }
    if summary.namespaces_left_out > 0 {
        let left_out = text::count(summary.namespaces_left_out);
        warnings.push(format!("no census of {left_out} network namespaces: there are too many"));
    }
    if summary.totals.time_wait_untracked > 0 {
        let untracked = text::count(summary.totals.time_wait_untracked);
        warnings.push(format!("{untracked} TIME_WAIT sockets are not followed: too many exist"));
    }
    if summary.coverage.unattributed > 0 {
        let unattributed = text::count(summary.coverage.unattributed);
        warnings.push(format!("{unattributed} TIME_WAIT sockets created since the start have no known owner"));
    }
    warnings
}

/// Likely owners that are named in a line.
const LIKELY: usize = 3;

/// Who most likely closed the TIME_WAIT sockets that the trace has not seen to close, most of which are older; `None` if
/// there are none, or nothing suggests an owner.
pub fn unseen(snapshot: &Snapshot) -> Option<String> {
    let likely = Some(snapshot.likely_owners()).filter(|likely| !likely.owners.is_empty())?;
    let named = likely.owners.iter().take(LIKELY).map(|owner| {
        let name = match owner.pid {
            Some(pid) => label::program_and_pid(&owner.command, pid, snapshot.facts_of_pid(pid)),
            None => format!("processes of {}", text::clean(&owner.command)),
        };
        format!("{name} ~{}", text::count(owner.sockets))
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let rest: u64 = likely.owners.iter().skip(LIKELY).map(|owner| owner.sockets).sum();
    let rest = if rest > 0 { format!(", others ~{}", text::count(rest)) } else { String::new() };
    let unknown =
        if likely.unknown > 0 { format!("; no hint for {}", text::count(likely.unknown)) } else { String::new() };
    let all = text::count(likely.sockets() + likely.unknown);
    Some(format!("not seen to close {all}, most likely closed by {named}{rest}{unknown}"))
}

/// How TIME_WAIT sockets have ended, and those that overflowed; empty when there are none.
pub fn ends(counts: &Counts) -> String {
    let named = [
        (counts.time_wait_expired, "expired"),
        (counts.time_wait_reused, "reused"),
        (counts.time_wait_ended_early, "ended early"),
        (counts.time_wait_overflow, "overflowed"),
    ];
    let known = named.into_iter().filter(|(count, _)| *count > 0);
    known.map(|(count, name)| format!("{} {name}", text::count(count))).collect::<Vec<_>>().join(", ")
}

/// The tier in a word, with what it means for the figures.
pub fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Exact => "exact",
        Tier::Cookie => "cookie",
        Tier::Tuple => "tuple",
    }
}

/// The local port range: `32768-60999 (28,232 ports)`, without the reserved ports.
pub fn port_range(kernel: &KernelFacts) -> String {
    let (low, high) = kernel.port_range;
    if high == 0 {
        return "unknown".to_owned();
    }
    let total = (u64::from(high) + 1).saturating_sub(u64::from(low)).saturating_sub(kernel.reserved_in_range.into());
    format!("{low}-{high} ({} ports)", text::count(total))
}

/// The local ports in one phrase: the range, and the destination that is closest to running out of them. The range is that
/// of its network namespace, which is named if it is not the tracer's own.
pub fn ports(snapshot: &Snapshot) -> String {
    let summary = snapshot.summary();
    let Some(row) = tightest(snapshot.destinations().iter()) else { return port_range(&summary.kernel) };
    let netns = match row.key {
        DestRow::Dest(key) => key.netns,
        DestRow::Other => summary.host.netns,
    };
    let range = port_range(summary.kernel_of(netns).unwrap_or(&summary.kernel));
    let is_own = netns == 0 || netns == summary.host.netns;
    let whose = if is_own { String::new() } else { format!(" in {}", label::namespace(summary, netns)) };
    format!("{range}{whose}  tightest {}", tightness(row))
}

/// The destination that is closest to running out of ports.
pub fn tightest<'a>(rows: impl Iterator<Item = &'a DestinationRow>) -> Option<&'a DestinationRow> {
    rows.filter(|row| row.budget.is_some_and(|budget| budget.used > 0)).max_by(|a, b| {
        let utilization = |row: &DestinationRow| row.budget.map_or(0.0, |budget| budget.utilization);
        utilization(a).total_cmp(&utilization(b)).then(b.id.cmp(&a.id))
    })
}

/// That destination in a phrase: `84.0% used, full in ~42s: 10.0.0.1:5432`. The address comes last: if there is not
/// enough room, the figures stay.
pub fn tightness(row: &DestinationRow) -> String {
    let budget = row.budget.unwrap_or_default();
    let full = match budget.seconds_to_exhaustion {
        _ if budget.available == 0 => ", FULL".to_owned(),
        Some(seconds) => format!(", full in ~{}", text::seconds(seconds)),
        None => String::new(),
    };
    format!("{} used{full}: {}", text::percent(budget.utilization), label::destination(&row.key, row.folded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use twtrace_core::cost::Cost;
    use twtrace_core::event::Hook;
    use twtrace_core::snapshot::{Coverage, Window};

    #[test]
    fn cost_is_said_as_far_as_it_is_known() {
        let with = |cost| and_cost("; ", &Summary { cost, ..Summary::default() });
        assert_eq!(with(None), "");
        let cost = Cost { process_percent: 0.3, kernel_refused: true, ..Cost::default() };
        assert_eq!(with(Some(cost)), "; costs 0.30% of a core and what the kernel does not say");
        let cost = Cost {
            process_percent: 0.3,
            kernel_percent: Some(0.014),
            kernel_ns_per_connection: Some(1640.4),
            kernel_connections: 85,
            kernel_refused: false,
        };
        assert_eq!(with(Some(cost)), "; costs 0.31% of a core, 1,640 ns a connection in the kernel");
    }

    #[test]
    fn losses_have_reasons() {
        assert_eq!(losses(&KernelCounters::default()), "lost 0");
        let counters = KernelCounters { ring_full: 1000, undecodable: 2, ..KernelCounters::default() };
        assert_eq!(losses(&counters), "lost 1,002: ring buffer full 1,000, undecodable 2");
    }

    #[test]
    fn coverage_is_not_claimed_without_a_census() {
        let mut summary = Summary::default();
        assert_eq!(coverage(&summary), "coverage unknown: no census yet");
        summary.census_at_ns = Some(1);
        summary.coverage = Coverage { census: 30, attributed: 19, before_start: 10, unattributed: 1 };
        assert_eq!(coverage(&summary), "coverage 95.0% (19 of 20; 10 before start; census incomplete)");
        summary.census_complete = true;
        assert_eq!(coverage(&summary), "coverage 95.0% (19 of 20; 10 before start)");
        // Nothing is known of these, and nothing can be.
        summary.coverage = Coverage { census: 10, attributed: 0, before_start: 10, unattributed: 0 };
        assert_eq!(coverage(&summary), "coverage: all 10 TIME_WAIT sockets are from before the start");
    }

    #[test]
    fn the_namespace_closest_to_its_limit_is_named() {
        let facts = |time_wait, max_tw_buckets| KernelFacts { time_wait, max_tw_buckets, ..KernelFacts::default() };
        let mut summary = Summary { kernel: facts(400, 131_072), ..Summary::default() };
        summary.host.netns = 1;
        assert_eq!(time_wait(&summary), "400 of at most 131,072");
        for (netns, name, kernel) in [(2, "web", facts(900, 1000)), (3, "db", facts(5000, 131_072))] {
            let mut namespace = Namespace::default();
            (namespace.netns, namespace.name, namespace.kernel) = (netns, name.to_owned(), Some(kernel));
            summary.namespaces.push(namespace);
        }
        assert_eq!(time_wait(&summary), "6,300 in 3 network namespaces; 900 of at most 1,000 in web");
    }

    #[test]
    fn live_numbers_are_marked_when_no_census_confirms_them() {
        let mut summary = Summary { census_complete: true, ..Summary::default() };
        assert_eq!(live_mark(&summary), "~");
        summary.census_at_ns = Some(5);
        summary.window = Window { now_ns: 1_000_000_005, ..Window::default() };
        assert_eq!(live_mark(&summary), "");
        summary.window.now_ns = 2_000_000_006;
        assert_eq!(live_mark(&summary), "~");
        summary.window.now_ns = 5;
        summary.census_complete = false;
        assert_eq!(live_mark(&summary), "~");
    }

    #[test]
    fn what_is_missing_is_listed() {
        let mut summary = Summary::default();
        assert_eq!(warnings(&summary), Vec::<String>::new());
        summary.counters = KernelCounters {
            parts_refused: 3,
            exact_missed: 1,
            exits_missed: 4,
            evicted: 1,
            ..KernelCounters::default()
        };
        summary.coverage.unattributed = 2;
        let reason = Some("no\ntracefs".to_owned());
        summary.tracing.hooks = vec![
            Hook { name: "a".to_owned(), kind: "tp_btf".to_owned(), attached: true, reason: None },
            Hook { name: "b".to_owned(), kind: "tracepoint".to_owned(), attached: false, reason },
            Hook { name: "c".to_owned(), kind: "kretprobe".to_owned(), attached: false, reason: None },
        ];
        assert_eq!(
            warnings(&summary),
            [
                "figures are too low: lost 3: owners refused 3",
                "4 exits of connect and accept were skipped: openers or errors may be unknown",
                "2 calls were missed by the exact tier: their TIME_WAIT sockets are classified",
                "hook b is missing: no\\ntracefs",
                "2 TIME_WAIT sockets created since the start have no known owner",
            ]
        );
    }

    #[test]
    fn ports_are_counted_inclusively() {
        let kernel = KernelFacts { reserved_in_range: 2, ..twtrace_testkit::kernel_facts() };
        assert_eq!(port_range(&kernel), "32768-60999 (28,230 ports)");
        assert_eq!(port_range(&KernelFacts::default()), "unknown");
    }
}
