//! Metrics of a snapshot, for Prometheus and its kin. [`FAMILIES`] has all of them; figures of rows and kernel-side counters
//! come from the core's own tables.
//!
//! Labels name who created the sockets, by groupings that the operator chooses, and destinations. The number of series is
//! bounded: what has no series of its own is in the one whose labels are `(other)`. PIDs are never labels, for each
//! process would leave its series behind.

mod exposition;
mod families;
mod series;
#[cfg(test)]
mod tests;

use crate::{findings, label, text, words};
pub use exposition::Dialect;
use exposition::{Exposition, Kind};
pub use families::{FAMILIES, Family};
use series::{Labels, Series, Values};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use twtrace_core::counts::{FIELDS, Field, Figure};
use twtrace_core::event::COUNTERS;
use twtrace_core::finding::{Finding, Rule};
use twtrace_core::snapshot::{Counts, DestRow, DestinationRow, GroupBy, GroupKey, Row, Snapshot};

/// The label value of what has no series of its own.
pub const OTHER: &str = "(other)";

/// The label value of what has no such name.
const NONE: &str = "(none)";

/// The label value of what is not known.
const UNKNOWN: &str = "(unknown)";

/// Most findings with a series each. The counts by rule are always whole.
const FINDINGS: usize = 64;

/// Groupings that can be labels: those of which a host has few at a time.
pub const LABELS: [GroupBy; 12] = [
    GroupBy::Program,
    GroupBy::Command,
    GroupBy::Parent,
    GroupBy::User,
    GroupBy::Cgroup,
    GroupBy::Unit,
    GroupBy::Container,
    GroupBy::Image,
    GroupBy::Pod,
    GroupBy::Workload,
    GroupBy::ClusterNamespace,
    GroupBy::Exe,
];

/// What metrics to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Labels of owners.
    pub by: Vec<GroupBy>,
    /// Most series of owners, and of destinations.
    pub series: usize,
}

/// What the tracer itself costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnCost {
    /// Processor time of the process, seconds.
    pub cpu_seconds: f64,
    /// Its memory, bytes.
    pub resident_bytes: u64,
    /// It should record, and cannot any more.
    pub recording_failed: bool,
    /// Recordings that were kept because of a finding.
    pub frozen: u64,
}

/// Metrics, and what was counted before.
#[derive(Clone, Debug)]
pub struct Metrics {
    by: Vec<GroupBy>,
    owners: Series,
    destinations: Series,
    /// The largest values of [`COUNTERS`] so far, and of what was lost: one that is worked out from two readings may fall.
    counters: Vec<u64>,
    lost: u64,
}

/// Labels of destinations.
const PLACE: [&str; 4] = ["destination", "role", "source", "netns"];

/// What is exported of all rows with the same labels at this moment.
type Now = HashMap<Labels, (Values, Counts)>;

impl Metrics {
    /// None so far.
    pub fn new(options: &Options) -> Self {
        // A label that is there twice would make the page invalid.
        let mut by: Vec<GroupBy> = Vec::new();
        for label in &options.by {
            if LABELS.contains(label) && !by.contains(label) {
                by.push(*label);
            }
        }
        Self {
            by,
            owners: Series::new(options.series),
            destinations: Series::new(options.series),
            counters: vec![0; COUNTERS.len()],
            lost: 0,
        }
    }

    /// The page of a snapshot, which is newer than the last one.
    pub fn write(&mut self, snapshot: &Snapshot, cost: OwnCost, dialect: Dialect) -> String {
        let mut page = Exposition::new(dialect);
        about(snapshot, cost, &mut page);
        self.write_owners(snapshot, &mut page);
        self.write_destinations(snapshot, &mut page);
        port_failures(snapshot, &mut page);
        write_findings(snapshot, &mut page);
        self.lost = self.lost.max(words::lost(&snapshot.summary().counters).iter().map(|(_, number)| number).sum());
        coverage(snapshot, self.lost, &mut page);
        namespaces(snapshot, &mut page);
        self.write_counters(snapshot, &mut page);
        let left_out = [("owners", &self.owners), ("destinations", &self.destinations)];
        begin("series_left_out", &mut page);
        for (of, series) in left_out {
            page.sample([("of", of)], series.left_out() as f64);
        }
        page.finish()
    }

    fn write_counters(&mut self, snapshot: &Snapshot, page: &mut Exposition) {
        for (counter, most) in COUNTERS.iter().zip(&mut self.counters) {
            *most = (*most).max((counter.get)(&snapshot.summary().counters));
            let name = format!("twtrace_kernel_{}", counter.name);
            page.single(&name, Kind::Counter, counter.doc, *most as f64);
        }
    }

    fn write_owners(&mut self, snapshot: &Snapshot, page: &mut Exposition) {
        let names: Vec<&str> = self.by.iter().map(|by| by.name()).collect();
        let mut now = Now::new();
        // Those without a row of their own are in no series.
        for row in snapshot.rows(GroupBy::Process).iter().filter(|row| row.key != GroupKey::Other) {
            let mut labels: Labels = self.by.iter().map(|by| owner_label(row, *by, snapshot)).collect();
            // A process may call itself that.
            if !labels.is_empty() && labels.iter().all(|label| label == OTHER) {
                labels[0].push('\'');
            }
            join(&mut now, labels, &row.counts);
        }
        rows(&mut self.owners, now, snapshot, ("", &names), page);
    }

    fn write_destinations(&mut self, snapshot: &Snapshot, page: &mut Exposition) {
        let mut now = Now::new();
        let mut of: BTreeMap<Labels, &DestinationRow> = BTreeMap::new();
        for row in snapshot.destinations() {
            let Some(labels) = place_labels(row, snapshot) else { continue };
            of.entry(labels.clone()).or_insert(row);
            join(&mut now, labels, &row.counts);
        }
        rows(&mut self.destinations, now, snapshot, ("destination_", &PLACE), page);
        let own: Vec<(&Labels, &DestinationRow)> =
            self.destinations.labels().filter_map(|labels| Some((labels, *of.get(labels)?))).collect();
        for (name, value) in BUDGET {
            begin(name, page);
            for (labels, row) in &own {
                if let Some(value) = value(row) {
                    page.sample(named(&PLACE, labels), value);
                }
            }
        }
    }
}

/// A figure of a port budget; `None` where there is no budget.
type Ports = (&'static str, fn(&DestinationRow) -> Option<f64>);

/// Figures of port budgets, by the names of their families. What never happens is infinitely far.
const BUDGET: [Ports; 7] = [
    ("ports", |row| Some(row.budget?.total.into())),
    ("ports_used", |row| Some(row.budget?.used.into())),
    ("ports_available", |row| Some(row.budget?.available.into())),
    ("ports_taken_per_second", |row| Some(row.budget?.rate_per_s)),
    ("sustainable_connections_per_second", |row| Some(row.budget?.max_rate_per_s)),
    ("slow_connect_seconds", |row| Some(row.budget?.seconds_to_slow.unwrap_or(f64::INFINITY))),
    ("exhaustion_seconds", |row| Some(row.budget?.seconds_to_exhaustion.unwrap_or(f64::INFINITY))),
];

/// Adds a row to those with the same labels.
fn join(now: &mut Now, labels: Labels, counts: &Counts) {
    let (values, gauges) = now.entry(labels).or_default();
    values.add(&values_of(counts));
    for field in FIELDS.iter().filter(|field| !field.is_total) {
        (field.merge)(gauges, counts);
    }
}

/// The figures that are counters.
fn values_of(counts: &Counts) -> Values {
    let count = |field: &Field| match (field.get)(counts) {
        Figure::Count(number) if field.is_total => Some(number),
        _ => None,
    };
    Values { counts: FIELDS.iter().filter_map(count).collect(), errors: counts.errors.clone() }
}

/// The families of rows: one for each figure.
fn rows(series: &mut Series, now: Now, snapshot: &Snapshot, (prefix, names): (&str, &[&str]), page: &mut Exposition) {
    let mut gauges = HashMap::new();
    let mut values = HashMap::new();
    for (labels, (own, counts)) in now {
        values.insert(labels.clone(), own);
        gauges.insert(labels, counts);
    }
    let summary = snapshot.summary();
    let total = &summary.totals.counts;
    series.update(summary.window.now_ns, values, &values_of(total));
    let mut number = 0;
    let other: Labels = names.iter().map(|_| OTHER.to_owned()).collect();
    for field in FIELDS {
        let name = format!("twtrace_{prefix}{}", metric_name(field));
        match (field.get)(total) {
            Figure::Count(_) if field.is_total => {
                page.family(&name, Kind::Counter, field.doc);
                let values = series.values().map(|(labels, values)| (labels, values.counts[number]));
                let rest = series.other().counts.get(number).copied().unwrap_or(0);
                for (labels, value) in values.chain((!names.is_empty()).then_some((&other, rest))) {
                    page.sample(named(names, labels), value as f64);
                }
                number += 1;
            }
            Figure::Errors(_) => {
                page.family(&name, Kind::Counter, field.doc);
                let all = series.values().chain((!names.is_empty()).then_some((&other, series.other())));
                for (labels, values) in all {
                    for (errno, value) in &values.errors {
                        let errno = text::errno(*errno);
                        page.sample(named(names, labels).chain([("errno", errno.as_str())]), *value as f64);
                    }
                }
            }
            Figure::Live(_) | Figure::Count(_) => {
                page.family(&name, Kind::Gauge, field.doc);
                for labels in series.labels() {
                    let value = gauges.get(labels).map_or(0.0, |counts| (field.get)(counts).size());
                    page.sample(named(names, labels), value);
                }
                if !names.is_empty() {
                    let mut rest = Counts::default();
                    let own: std::collections::HashSet<&Labels> = series.labels().collect();
                    gauges
                        .iter()
                        .filter(|(labels, _)| !own.contains(labels))
                        .for_each(|(_, counts)| (field.merge)(&mut rest, counts));
                    page.sample(named(names, &other), (field.get)(&rest).size());
                }
            }
            // Queries work them out over any time, from counters.
            Figure::Rate(_) | Figure::Times(_) => {}
        }
    }
}

/// The name of a figure in metrics, where units are written out.
pub fn metric_name(field: &Field) -> String {
    match field.name.strip_suffix("_per_s") {
        Some(name) => format!("{name}_per_second"),
        None => field.name.to_owned(),
    }
}

fn named<'a>(names: &'a [&'a str], labels: &'a Labels) -> impl Iterator<Item = (&'a str, &'a str)> {
    names.iter().copied().zip(labels.iter().map(String::as_str))
}

/// A label of who created sockets.
fn owner_label(row: &Row, by: GroupBy, snapshot: &Snapshot) -> String {
    let Some(owner) = &row.owner else {
        // Rows of a program that were merged have no user any more.
        let program = label::program_of(row, snapshot);
        return if by == GroupBy::Program && !program.is_empty() {
            text::clean(&program).into_owned()
        } else {
            UNKNOWN.to_owned()
        };
    };
    let runs_in = label::runs_in(owner, snapshot);
    let facts = runs_in.facts;
    let name = |name: Option<&String>| name.map_or_else(|| NONE.to_owned(), |name| text::clean(name).into_owned());
    let place =
        |name: Option<Cow<'_, str>>| name.map_or_else(|| NONE.to_owned(), |name| text::clean(&name).into_owned());
    match by {
        GroupBy::Program => text::clean(&label::program_of(row, snapshot)).into_owned(),
        GroupBy::Command => label::command(&owner.comm).into_owned(),
        GroupBy::Parent => label::command(&owner.parent_comm).into_owned(),
        GroupBy::User => label::user(owner.uid, snapshot),
        GroupBy::Cgroup => name(facts.and_then(|facts| facts.cgroup.as_ref())),
        GroupBy::Unit => name(facts.and_then(|facts| facts.unit.as_ref())),
        GroupBy::Container => place(runs_in.container()),
        GroupBy::Image => place(runs_in.image()),
        GroupBy::Pod => place(runs_in.pod()),
        GroupBy::Workload => place(runs_in.workload()),
        GroupBy::ClusterNamespace => place(runs_in.cluster_namespace()),
        GroupBy::Exe => name(facts.and_then(|facts| facts.exe.as_ref())),
        // Others have too many values.
        GroupBy::Process | GroupBy::Pid | GroupBy::Ancestor | GroupBy::Netns | GroupBy::Destination => String::new(),
    }
}

/// The labels of a destination; `None` for those that found no room.
fn place_labels(row: &DestinationRow, snapshot: &Snapshot) -> Option<Labels> {
    let DestRow::Dest(key) = &row.key else { return None };
    let netns = label::namespace(snapshot.summary(), key.netns);
    Some(vec![label::place(key), label::role(key.role).to_owned(), key.local_addr.to_string(), netns])
}

/// Begins a family of [`FAMILIES`].
fn begin(name: &str, page: &mut Exposition) {
    if let Some(family) = FAMILIES.iter().find(|family| family.name == name) {
        page.family(&format!("twtrace_{name}"), family.kind(), family.doc);
    }
}

fn single(name: &str, value: f64, page: &mut Exposition) {
    begin(name, page);
    page.sample([], value);
}

fn about(snapshot: &Snapshot, cost: OwnCost, page: &mut Exposition) {
    let summary = snapshot.summary();
    begin("build_info", page);
    let tier = words::tier(summary.tracing.tier);
    page.sample([("version", env!("CARGO_PKG_VERSION")), ("tier", tier), ("kernel", &summary.host.kernel)], 1.0);
    single("traced_seconds", summary.window.seconds(), page);
    let kernel = summary.cost.and_then(|cost| cost.kernel_percent).map(|percent| percent / 100.0);
    let each = summary.cost.and_then(|cost| cost.kernel_ns_per_connection).map(|ns| ns / 1e9);
    for (name, value) in [("kernel_core_ratio", kernel), ("kernel_seconds_per_connection", each)] {
        begin(name, page);
        value.into_iter().for_each(|value| page.sample([], value));
    }
    single("connections", summary.totals.connections as f64, page);
    single("recording_failed", f64::from(u8::from(cost.recording_failed)), page);
    single("frozen_recordings", cost.frozen as f64, page);
    let standard = [
        ("process_cpu_seconds", Kind::Counter, "Processor time of the tracer, seconds.", cost.cpu_seconds),
        ("process_resident_memory_bytes", Kind::Gauge, "Memory of the tracer, bytes.", cost.resident_bytes as f64),
    ];
    for (name, kind, help, value) in standard {
        page.single(name, kind, help, value);
    }
}

fn port_failures(snapshot: &Snapshot, page: &mut Exposition) {
    let mut by: BTreeMap<(&str, u16, &str), u64> = BTreeMap::new();
    for row in snapshot.failures() {
        let call = crate::failures::call(row.call);
        *by.entry((call, row.errno, row.cause.name())).or_default() += row.count;
    }
    begin("port_failures", page);
    for ((call, errno, cause), count) in by {
        let errno = text::errno(errno);
        page.sample([("call", call), ("errno", errno.as_str()), ("cause", cause)], count as f64);
    }
}

fn write_findings(snapshot: &Snapshot, page: &mut Exposition) {
    let active = || snapshot.findings().iter().filter(|finding| finding.active);
    begin("findings", page);
    for rule in Rule::ALL {
        let number = active().filter(|finding| finding.rule == *rule).count();
        page.sample([("finding", rule.name())], number as f64);
    }
    begin("finding", page);
    let mut series: BTreeMap<Labels, u64> = BTreeMap::new();
    for finding in findings::sorted(snapshot.findings()).into_iter().filter(|finding| finding.active).take(FINDINGS) {
        *series.entry(finding_labels(finding, snapshot)).or_default() += 1;
    }
    for (labels, number) in &series {
        page.sample(named(&["finding", "severity", "program", "destination"], labels), *number as f64);
    }
}

fn finding_labels(finding: &Finding, snapshot: &Snapshot) -> Labels {
    let program = finding.process.as_ref().map_or_else(String::new, |subject| {
        let facts = subject.process.and_then(|key| snapshot.facts(key));
        label::program_of_command(&text::lossless(subject.command.bytes()), facts)
    });
    let place = finding.destination.as_ref().map_or_else(String::new, label::place);
    let severity = findings::severity(finding.severity).to_lowercase();
    vec![finding.rule.name().to_owned(), severity, program, place]
}

fn coverage(snapshot: &Snapshot, lost: u64, page: &mut Exposition) {
    let summary = snapshot.summary();
    let coverage = &summary.coverage;
    begin("census_sockets", page);
    let owners =
        [("known", coverage.attributed), ("before_start", coverage.before_start), ("unknown", coverage.unattributed)];
    for (owner, sockets) in owners {
        page.sample([("owner", owner)], sockets as f64);
    }
    single("coverage_ratio", coverage.ratio(), page);
    if let Some(at_ns) = summary.census_at_ns {
        single("census_age_seconds", summary.window.now_ns.saturating_sub(at_ns) as f64 / 1e9, page);
    }
    single("lost", lost as f64, page);
}

fn namespaces(snapshot: &Snapshot, page: &mut Exposition) {
    let summary = snapshot.summary();
    let mut all: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    // The tracer's own is always there, the others by name; of two with the same name, the fuller one.
    for namespace in summary.present() {
        let Some(kernel) = summary.kernel_of(namespace.netns) else { continue };
        let of = all.entry(label::namespace(summary, namespace.netns)).or_default();
        *of = (*of).max((kernel.time_wait, kernel.max_tw_buckets));
    }
    let mut all: Vec<(String, (u64, u64))> = all.into_iter().collect();
    all.sort_by_key(|(_, (sockets, _))| std::cmp::Reverse(*sockets));
    all.truncate(NAMESPACES);
    for (name, figure) in [("netns_time_wait", 0), ("netns_time_wait_max", 1)] {
        begin(name, page);
        for (netns, figures) in &all {
            page.sample([("netns", netns.as_str())], [figures.0, figures.1][figure] as f64);
        }
    }
    single("time_wait", summary.time_wait() as f64, page);
}

/// Most network namespaces with a series each, those with the most TIME_WAIT sockets.
const NAMESPACES: usize = 64;
