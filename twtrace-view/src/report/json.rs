//! The report as JSON: one object on one line, with the names that `top --json` has.
//!
//! What is about a whole host is in `recordings`; rows of all recordings are in one list, each with its `host` and
//! `recording`. With several recordings, `fleet` has the sums over all of them.

use super::fleet_json::{self, FleetJson};
use super::lines::{self, Line, Subject};
use super::{Part, Report};
use crate::json::findings::{FailureJson, FindingJson};
use crate::json::rows::{DestinationJson, RowJson, rounded};
use crate::json::{self as top, Groups};
use crate::text;
use crate::timeline::{Point, Timeline};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, Write};
use twtrace_core::recording::Loss;
use twtrace_core::snapshot::{Counts, GroupBy};

/// What `twtrace report --format json` writes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ReportJson<'a> {
    /// Version of this form.
    #[cfg_attr(test, schemars(extend("const" = top::SCHEMA)))]
    schema: u32,
    /// The recordings, and everything about the host of each.
    recordings: Vec<RecordingJson<'a>>,
    /// All hosts together, where there are several recordings.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<FleetJson>,
    /// Processes of all recordings; those that did one thing and ended are one row for each script, unless each was
    /// asked for.
    processes: Vec<OfPart<'a, WithMeans<RowJson<'a>>>>,
    /// How many rows there are, those that are not written included.
    processes_total: usize,
    /// Rows of another grouping, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Groups<OfPart<'a, WithMeans<RowJson<'a>>>>>,
    /// Where connections went, and which services took them.
    destinations: Vec<OfPart<'a, WithMeans<DestinationJson<'a>>>>,
    /// How many destinations there are, those that are not written included.
    destinations_total: usize,
    /// What happened when.
    timeline: Vec<OfPart<'a, PointJson>>,
    /// Calls that failed because there was no free address or port, the most frequent first.
    failures: Vec<OfPart<'a, FailureJson>>,
    /// What is wrong, the most severe first.
    findings: Vec<OfPart<'a, FindingJson<'a>>>,
}

/// One recording and everything about its host.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RecordingJson<'a> {
    /// Path of the recording.
    recording: Cow<'a, str>,
    /// Its identity, which stays when it is moved.
    id: &'a str,
    /// First moment that can be read, RFC 3339; `window` is what this report is of.
    start: String,
    /// Last moment that can be read, RFC 3339.
    end: String,
    /// Rows of its table of connections.
    connections: u64,
    /// Rows that cannot be read; where `lost_more` is set these are at least so many.
    connections_lost: u64,
    /// More was lost than `connections_lost` says.
    lost_more: bool,
    /// Its size on disk.
    bytes: u64,
    /// It was ended as it should be.
    finished: bool,
    /// Parts that it dropped to stay within its limit.
    segments_dropped: u64,
    /// What could not be read, on opening and on the way.
    losses: &'a [Loss],
    /// Where it was recorded.
    host: top::Host<'a>,
    /// Which time this report is of.
    window: top::Window,
    /// How it was traced.
    tracing: top::Tracing<'a>,
    /// Figures and sysctls of the tracer's own network namespace.
    kernel: top::Kernel<'a>,
    /// Each network namespace that was found.
    namespaces: Vec<top::NamespaceJson<'a>>,
    /// Further network namespaces, which are not visited because there are too many.
    namespaces_left_out: u64,
    /// What the censuses of all network namespaces came to.
    coverage: top::Coverage,
    /// All rows together.
    totals: WithMeans<top::Totals<'a>>,
}

/// Which recording it is from.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "{R}OfRecording"))]
struct OfPart<'a, R> {
    /// Name of the host.
    host: &'a str,
    /// Path of the recording.
    recording: Cow<'a, str>,
    #[serde(flatten)]
    row: R,
}

/// Figures that need the whole length of a recording.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "{R}WithMeans"))]
struct WithMeans<R> {
    #[serde(flatten)]
    row: R,
    /// TIME_WAIT sockets created per second.
    mean_per_s: f64,
    /// Share of the TIME_WAIT sockets that the host created, filters applied.
    share: f64,
    /// Payload both ways; null when no connection was established since the trace began.
    bytes_per_connection: Option<f64>,
}

/// One bucket of time.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PointJson {
    /// Its begin, RFC 3339.
    time: String,
    /// Its length.
    seconds: f64,
    /// TIME_WAIT sockets created.
    time_wait_created: u64,
    /// TIME_WAIT sockets that were due and refused.
    time_wait_overflow: u64,
    /// Connections that ended.
    connections: u64,
    /// Calls of connect and bind that failed.
    errors: u64,
    /// Most by the kernel's count, in all namespaces and unfiltered; null when it was not read.
    kernel_time_wait: Option<u64>,
    /// Most that were followed.
    time_wait_live: u64,
}

impl PointJson {
    fn of(point: &Point<'_>) -> Self {
        Self {
            time: text::rfc3339(point.unix_ns),
            seconds: rounded(point.seconds),
            time_wait_created: point.moment.created,
            time_wait_overflow: point.moment.overflowed,
            connections: point.moment.connections,
            errors: point.moment.errors(),
            kernel_time_wait: point.moment.kernel_time_wait,
            time_wait_live: point.moment.live,
        }
    }
}

impl<'a, R> OfPart<'a, R> {
    fn new(part: &'a Part<'a>, row: R) -> Self {
        let host = part.model.summary().host.hostname.as_str();
        Self { host, recording: part.info.path.to_string_lossy(), row }
    }
}

fn with_means<R>(row: R, counts: &Counts, part: &Part<'_>) -> WithMeans<R> {
    let whole = part.model.summary().totals.counts.time_wait_created;
    WithMeans {
        row,
        mean_per_s: rounded(lines::mean_per_s(counts, part)),
        share: lines::share(counts.time_wait_created, whole),
        bytes_per_connection: lines::bytes_per_connection(counts).map(rounded),
    }
}

/// Writes the report and a line's end.
///
/// # Errors
/// The output cannot be written to.
pub fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let limit = report.options.top.unwrap_or(usize::MAX);
    let rows = |group: GroupBy| {
        let (lines, total) = report.lines(group, limit);
        (lines.iter().filter_map(|line| row(line, group)).collect::<Vec<_>>(), total)
    };
    let processes = if report.options.by == GroupBy::Pid { GroupBy::Pid } else { GroupBy::Process };
    let (processes, processes_total) = rows(processes);
    let groups = report.options.by.group().filter(|by| !by.is_of_processes()).map(|by| {
        let (rows, total) = rows(by);
        Groups { by: by.name(), total, rows }
    });
    let (destinations, destinations_total) = report.lines(GroupBy::Destination, limit);
    let timeline = report.parts.iter().flat_map(|part| {
        let points = Timeline::of(part.model).points;
        points.iter().map(|point| OfPart::new(part, PointJson::of(point))).collect::<Vec<_>>()
    });
    let report = ReportJson {
        schema: top::SCHEMA,
        recordings: report.parts.iter().map(recording).collect(),
        fleet: fleet_json::of(report, report.options.by, limit),
        processes,
        processes_total,
        groups,
        destinations: destinations.iter().filter_map(destination).collect(),
        destinations_total,
        timeline: timeline.collect(),
        failures: report.parts.iter().flat_map(failures).collect(),
        findings: report.parts.iter().flat_map(findings).collect(),
    };
    top::write_plain(&report, out)
}

fn failures<'a>(part: &'a Part<'a>) -> Vec<OfPart<'a, FailureJson>> {
    top::findings::failures(part.model).into_iter().map(|row| OfPart::new(part, row)).collect()
}

fn findings<'a>(part: &'a Part<'a>) -> Vec<OfPart<'a, FindingJson<'a>>> {
    part.model.findings().iter().map(|finding| OfPart::new(part, FindingJson::of(finding, part.model))).collect()
}

fn row<'a>(line: &Line<'a>, by: GroupBy) -> Option<OfPart<'a, WithMeans<RowJson<'a>>>> {
    let Subject::Group(row) = line.subject else { return None };
    let row = RowJson::of(row, by, line.part.model);
    Some(OfPart::new(line.part, with_means(row, line.counts(), line.part)))
}

fn destination<'a>(line: &Line<'a>) -> Option<OfPart<'a, WithMeans<DestinationJson<'a>>>> {
    let Subject::Destination(row) = line.subject else { return None };
    let row = DestinationJson::of(row, line.part.model);
    Some(OfPart::new(line.part, with_means(row, line.counts(), line.part)))
}

fn recording<'a>(part: &'a Part<'a>) -> RecordingJson<'a> {
    let (info, summary) = (part.info, part.model.summary());
    RecordingJson {
        recording: info.path.to_string_lossy(),
        id: &info.id,
        start: text::rfc3339(info.start_unix_ns),
        end: text::rfc3339(info.end_unix_ns),
        connections: info.connections,
        connections_lost: info.connections_lost,
        lost_more: info.lost_more,
        bytes: info.bytes,
        finished: info.finished,
        segments_dropped: info.segments_dropped,
        losses: &info.losses,
        host: top::host(&summary.host),
        window: top::window(summary),
        tracing: top::tracing(summary),
        kernel: top::kernel(&summary.kernel),
        namespaces: summary.namespaces.iter().map(|namespace| top::of_namespace(namespace, summary)).collect(),
        namespaces_left_out: summary.namespaces_left_out,
        coverage: top::coverage(summary),
        totals: with_means(top::totals(summary), &summary.totals.counts, part),
    }
}
