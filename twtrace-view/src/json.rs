//! The report as JSON: one object on one line. Its field names are an interface; fields may be added, never renamed.
//!
//! Text is whole, as the kernel or the process has it, except that bytes that are not UTF-8 become `\xff`. Characters
//! that a terminal could act on are written as JSON's own escapes.

pub(super) mod findings;
pub(super) mod rows;
mod runs_in;
#[cfg(test)]
mod tests;

use crate::order::{self, Sort};
use crate::text;
use findings::{FailureJson, FindingJson};
use rows::{DestinationJson, RowJson};
use serde::Serialize;
use std::io::{self, Write};
use twtrace_core::cost::Cost;
use twtrace_core::event::{HostFacts, KernelCounters, KernelFacts, NetFigures, Tier};
pub use twtrace_core::plain::PlainJson;
use twtrace_core::snapshot::{Ends, GroupBy, LikelyOwner, NamedCounts, Namespace, Snapshot, Summary};

/// Version of the form. It changes when a field is renamed, removed or means something else.
pub const SCHEMA: u32 = 1;

/// What to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Another grouping than processes, added as `groups`.
    pub by: GroupBy,
    /// Order of all rows.
    pub sort: Sort,
    /// Most rows of each list.
    pub limit: Option<usize>,
}

/// What `twtrace top --json` and `twtrace replay --once --json` write.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Report<'a> {
    /// Version of this form.
    #[cfg_attr(test, schemars(extend("const" = SCHEMA)))]
    schema: u32,
    /// Where it was traced.
    host: Host<'a>,
    /// Which time it is of.
    window: Window,
    /// How it was traced.
    tracing: Tracing<'a>,
    /// Figures and sysctls of the tracer's own network namespace.
    kernel: Kernel<'a>,
    /// Each network namespace that was found.
    namespaces: Vec<NamespaceJson<'a>>,
    /// Further network namespaces, which are not visited because there are too many.
    namespaces_left_out: u64,
    /// What the censuses of all network namespaces came to.
    coverage: Coverage,
    /// All rows together, those that are not written included.
    totals: Totals<'a>,
    /// Processes; those that did one thing and ended are one row for each script, unless each was asked for.
    processes: Vec<RowJson<'a>>,
    /// How many rows there are, those that are not written included.
    processes_total: usize,
    /// Rows of another grouping, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Groups<RowJson<'a>>>,
    /// Where connections went, and which services of this host took them.
    destinations: Vec<DestinationJson<'a>>,
    /// How many destinations there are, those that are not written included.
    destinations_total: usize,
    /// Who most likely closed the live TIME_WAIT sockets without a known closer, as those from before the trace. Inferred,
    /// and in no other figure.
    likely_owners: LikelyJson,
    /// Calls that failed because there was no free address or port, the most frequent first.
    failures: Vec<FailureJson>,
    /// What is wrong, the most severe first.
    findings: Vec<FindingJson<'a>>,
}

/// Likely owners of TIME_WAIT sockets.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LikelyJson {
    /// Those with the most sockets first.
    owners: Vec<LikelyOwnerJson>,
    /// Sockets of which nothing suggests an owner.
    unknown: u64,
}

/// A likely owner.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LikelyOwnerJson {
    /// PID; null if there are several processes.
    pid: Option<u32>,
    /// Command.
    command: String,
    /// TIME_WAIT sockets.
    sockets: u64,
}

impl LikelyJson {
    fn of(snapshot: &Snapshot) -> Self {
        let likely = snapshot.likely_owners();
        let owner = |owner: &LikelyOwner| LikelyOwnerJson {
            pid: owner.pid,
            command: owner.command.clone(),
            sockets: owner.sockets,
        };
        Self { owners: likely.owners.iter().map(owner).collect(), unknown: likely.unknown }
    }
}

/// A host.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Host<'a> {
    /// Its name.
    hostname: &'a str,
    /// Kernel release.
    kernel: &'a str,
    /// `/proc/sys/kernel/random/boot_id`.
    boot_id: &'a str,
    /// Inode number of the tracer's own network namespace.
    netns: u32,
}

/// A time.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Window {
    /// Its begin, RFC 3339.
    start: String,
    /// Its end, RFC 3339.
    end: String,
    /// Its length.
    seconds: f64,
}

/// How it was traced.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Tracing<'a> {
    /// Tier in force.
    tier: Tier,
    /// Each hook of the kernel and what became of it.
    hooks: &'a [twtrace_core::event::Hook],
    /// Sockets are distinguished by namespace and tuple, because there are no cookies.
    by_tuple: bool,
    /// There is no BTF: namespaces, errors and flags of sockets are not seen.
    no_btf: bool,
    /// Records that the kernel side wrote.
    events: u64,
    /// What was lost.
    lost: Lost,
    /// What the trace costs; `null` in the first second, and in a replay.
    cost: Option<&'a Cost>,
    /// What the tracer counted of itself.
    kernel_counters: &'a KernelCounters,
}

/// What was lost: events by the reason for it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Lost {
    /// Records that the full ring buffer refused.
    ring_full: u64,
    /// Openers and closers of connections without room in the socket map that the full ring buffer refused.
    parts_refused: u64,
    /// Transitions that the kernel kept from the programs.
    recursion: u64,
    /// Connections whose end was never seen.
    stale: u64,
    /// Records that could not be read.
    undecodable: u64,
}

/// Figures and sysctls of a network namespace.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Kernel<'a> {
    /// TIME_WAIT sockets of both substates (`tw` of `/proc/net/sockstat`).
    time_wait: u64,
    /// `TCPTimeWaitOverflow` since boot.
    time_wait_overflow: u64,
    /// `net.ipv4.tcp_max_tw_buckets`.
    max_tw_buckets: u64,
    /// `net.ipv4.tcp_tw_reuse`.
    tw_reuse: u8,
    /// `net.ipv4.ip_local_port_range`, both inclusive.
    port_range: [u16; 2],
    /// `net.ipv4.ip_local_reserved_ports` as it is written.
    reserved_ports: &'a str,
    /// How many ports of the range these are.
    reserved_in_range: u32,
    /// What else is counted there.
    figures: NetFigures,
}

/// A network namespace.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NamespaceJson<'a> {
    /// Inode number.
    netns: u32,
    /// `ip netns` name, else container, else PID; null when it is not known.
    name: Option<&'a str>,
    /// It was there and is not any more.
    gone: bool,
    /// Why there is no census of it.
    refused: Option<&'a str>,
    /// Null when its figures were not read.
    kernel: Option<Kernel<'a>>,
    /// What its census came to.
    coverage: Coverage,
}

/// Result of a census: of one network namespace, or of all.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Coverage {
    /// TIME_WAIT sockets in the census.
    census: u64,
    /// Of these, those with an owner.
    attributed: u64,
    /// Of these, those that are older than the trace.
    before_start: u64,
    /// Of these, neither.
    unattributed: u64,
    /// Share attributed of those created since the start; 1 when there are none.
    ratio: f64,
    /// Everything was in the census.
    complete: bool,
    /// Seconds since the census was taken; null before the first.
    census_age_s: Option<f64>,
}

/// All rows together.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Totals<'a> {
    #[serde(flatten)]
    counts: rows::CountsJson<'a>,
    /// Connections that have ended, before filters.
    connections: u64,
    /// How many connections ended in which way, before filters.
    outcomes: &'a NamedCounts,
    /// Corrections by the census, or by a reset that was seen late, by kind.
    corrections: &'a NamedCounts,
    /// `census`: a recent census confirms the numbers of live sockets; `inferred`: the last census is older.
    #[cfg_attr(test, schemars(extend("enum" = ["census", "inferred"])))]
    live_known: &'static str,
    /// Created, but not followed, because too many are alive.
    time_wait_untracked: u64,
    /// Ends of TIME_WAIT sockets that the kernel reported, before filters; null below the exact tier.
    ends: Option<Ends>,
}

/// Rows of a grouping.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "GroupsOf{R}"))]
pub(super) struct Groups<R> {
    /// What they are grouped by.
    #[cfg_attr(test, schemars(extend("enum" = groupings())))]
    pub(super) by: &'static str,
    /// How many rows there are, those that are not written included.
    pub(super) total: usize,
    /// The rows.
    pub(super) rows: Vec<R>,
}

/// Names of all groupings.
#[cfg(test)]
pub(super) fn groupings() -> Vec<&'static str> {
    twtrace_core::snapshot::GROUPINGS.iter().map(|grouping| grouping.name).collect()
}

/// The findings alone, and where and when they were found.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Findings<'a> {
    /// Version of this form.
    #[cfg_attr(test, schemars(extend("const" = SCHEMA)))]
    schema: u32,
    /// Where it was traced.
    host: Host<'a>,
    /// Which time it is of.
    window: Window,
    /// What is wrong, the most severe first.
    findings: Vec<FindingJson<'a>>,
}

/// Writes the findings as one line.
///
/// # Errors
/// The output cannot be written to.
pub fn write_findings(model: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let summary = model.summary();
    let findings = model.findings().iter().map(|finding| FindingJson::of(finding, model)).collect();
    let report = Findings { schema: SCHEMA, host: host(&summary.host), window: window(summary), findings };
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)
}

/// Writes one report and a line's end.
///
/// # Errors
/// The output cannot be written to.
pub fn write(model: &Snapshot, options: Options, out: &mut dyn Write) -> io::Result<()> {
    write_plain(&report(model, options), out)
}

/// Writes one object and a line's end, with nothing in it that a terminal could act on.
///
/// # Errors
/// The output cannot be written to.
pub(super) fn write_plain(report: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    // The conversion keeps the output's own error, such as a broken pipe.
    serde_json::to_writer(PlainJson::new(&mut *out), report).map_err(io::Error::from)?;
    writeln!(out)
}

fn report(model: &Snapshot, options: Options) -> Report<'_> {
    let summary = model.summary();
    let limit = options.limit.unwrap_or(usize::MAX);
    let list = |by| {
        let rows = order::of_snapshot(model, by, options.sort);
        let total = rows.len();
        (rows.into_iter().take(limit).map(|row| RowJson::of(row, by, model)).collect::<Vec<_>>(), total)
    };
    // One-shot processes separately only if that was requested.
    let processes = if options.by == GroupBy::Pid { GroupBy::Pid } else { GroupBy::Process };
    let (processes, processes_total) = list(processes);
    let groups = options.by.group().filter(|by| !by.is_of_processes()).map(|by| {
        let (rows, total) = list(by);
        Groups { by: options.by.name(), total, rows }
    });
    let destinations = order::destinations(model.destinations().iter(), options.sort, model);
    let destinations_total = destinations.len();
    Report {
        schema: SCHEMA,
        host: host(&summary.host),
        window: window(summary),
        tracing: tracing(summary),
        kernel: kernel(&summary.kernel),
        namespaces: summary.namespaces.iter().map(|namespace| of_namespace(namespace, summary)).collect(),
        namespaces_left_out: summary.namespaces_left_out,
        coverage: coverage(summary),
        totals: totals(summary),
        processes,
        processes_total,
        groups,
        destinations: destinations.into_iter().take(limit).map(|row| DestinationJson::of(row, model)).collect(),
        destinations_total,
        likely_owners: LikelyJson::of(model),
        failures: findings::failures(model),
        findings: model.findings().iter().map(|finding| FindingJson::of(finding, model)).collect(),
    }
}

pub(super) fn host(host: &HostFacts) -> Host<'_> {
    Host { hostname: &host.hostname, kernel: &host.kernel, boot_id: &host.boot_id, netns: host.netns }
}

pub(super) fn window(summary: &Summary) -> Window {
    let window = &summary.window;
    let seconds = window.seconds();
    let passed = i128::from(window.now_ns.saturating_sub(window.start_ns));
    Window {
        start: text::rfc3339(window.start_unix_ns),
        end: text::rfc3339(window.start_unix_ns + passed),
        seconds: rows::rounded(seconds),
    }
}

pub(super) fn tracing(summary: &Summary) -> Tracing<'_> {
    let counters = &summary.counters;
    Tracing {
        tier: summary.tracing.tier,
        hooks: &summary.tracing.hooks,
        by_tuple: summary.tracing.by_tuple,
        no_btf: summary.tracing.no_btf,
        events: counters.records,
        lost: Lost {
            ring_full: counters.ring_full,
            parts_refused: counters.parts_refused,
            recursion: counters.recursion,
            stale: counters.stale,
            undecodable: counters.undecodable,
        },
        cost: summary.cost.as_ref(),
        kernel_counters: counters,
    }
}

pub(super) fn kernel(kernel: &KernelFacts) -> Kernel<'_> {
    Kernel {
        time_wait: kernel.time_wait,
        time_wait_overflow: kernel.time_wait_overflow,
        max_tw_buckets: kernel.max_tw_buckets,
        tw_reuse: kernel.tw_reuse,
        port_range: kernel.port_range.into(),
        reserved_ports: &kernel.reserved_ports,
        reserved_in_range: kernel.reserved_in_range,
        figures: *kernel.figures,
    }
}

pub(super) fn of_namespace<'a>(namespace: &'a Namespace, summary: &Summary) -> NamespaceJson<'a> {
    NamespaceJson {
        netns: namespace.inode,
        name: Some(namespace.name.as_str()).filter(|name| !name.is_empty()),
        gone: namespace.gone,
        refused: namespace.refused.as_deref(),
        kernel: namespace.kernel.as_ref().map(kernel),
        coverage: census(&namespace.coverage, namespace.census_at_ns, namespace.census_complete, summary),
    }
}

pub(super) fn coverage(summary: &Summary) -> Coverage {
    census(&summary.coverage, summary.census_at_ns, summary.census_complete, summary)
}

fn census(
    coverage: &twtrace_core::snapshot::Coverage,
    census_at_ns: Option<u64>,
    complete: bool,
    summary: &Summary,
) -> Coverage {
    let age_ns = census_at_ns.map(|at| summary.window.now_ns.saturating_sub(at));
    Coverage {
        census: coverage.census,
        attributed: coverage.attributed,
        before_start: coverage.before_start,
        unattributed: coverage.unattributed,
        ratio: coverage.ratio(),
        complete,
        census_age_s: age_ns.map(|age| rows::rounded(age as f64 / 1e9)),
    }
}

pub(super) fn totals(summary: &Summary) -> Totals<'_> {
    let totals = &summary.totals;
    Totals {
        counts: rows::CountsJson(&totals.counts),
        connections: totals.connections,
        outcomes: &totals.outcomes,
        corrections: &totals.corrections,
        live_known: if crate::words::live_mark(summary).is_empty() { "census" } else { "inferred" },
        time_wait_untracked: totals.time_wait_untracked,
        ends: (summary.tracing.tier == Tier::Exact).then_some(totals.ends),
    }
}
