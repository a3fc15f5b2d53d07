//! Several recordings together, as JSON.

use super::Report;
use super::fleet::{Same, Sum, Together, comparable};
use super::lines::share;
use crate::json::rows::{CountsJson, rounded};
use serde::Serialize;
use std::net::IpAddr;
use twtrace_core::event::Role;
use twtrace_core::snapshot::{Counts, GroupBy};

/// All hosts together. Figures are sums over the recordings, whatever the times of these are; peaks are the most of any
/// one row, and what is alive is of the end of each recording.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct FleetJson {
    /// Everything.
    totals: Figures,
    /// Hosts of which several recordings are of the same time: what both saw counts twice.
    counted_twice: Vec<String>,
    /// One row for each host, those that created most first.
    hosts: Vec<HostTogether>,
    /// Grouping of `rows`: that of the report, or `program` where that is of one host.
    by: &'static str,
    /// What has the same name on several hosts is one row; those that created most first.
    rows: Vec<NamedTogether>,
    /// How many rows there are, those that are not written included.
    rows_total: usize,
    /// Where connections went, and which services took them, those that created most first.
    destinations: Vec<PlaceTogether>,
    /// How many destinations there are, those that are not written included.
    destinations_total: usize,
}

/// Figures of rows of several hosts.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Figures {
    /// How many hosts have it.
    hosts: usize,
    /// Share of the TIME_WAIT sockets that all hosts created.
    share: f64,
    /// The host that created most; null when none was created.
    mostly_on: Option<MostlyOn>,
    #[serde(flatten)]
    counts: Merged,
}

/// What was counted.
#[derive(Serialize)]
#[serde(transparent)]
struct Merged(#[serde(serialize_with = "counts")] Counts);

fn counts<S: serde::Serializer>(of: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
    CountsJson(of).serialize(serializer)
}

#[cfg(test)]
impl schemars::JsonSchema for Merged {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        CountsJson::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        CountsJson::json_schema(generator)
    }
}

/// The host with the most TIME_WAIT sockets of a row.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MostlyOn {
    /// Name of the host.
    host: String,
    /// Share of the row's.
    share: f64,
}

/// A host.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct HostTogether {
    /// Name of the host.
    host: String,
    /// How many recordings are of it.
    recordings: usize,
    #[serde(flatten)]
    figures: Figures,
}

/// What has the same name on several hosts.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NamedTogether {
    /// Its name; null where there is none.
    name: Option<String>,
    /// False in the row of those whose owner is not known.
    owner_known: bool,
    /// The rows that did not fit, together.
    other: bool,
    /// How many processes.
    processes: u64,
    #[serde(flatten)]
    figures: Figures,
}

/// A destination over all hosts.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PlaceTogether {
    /// Who opened the connections; null in the row of those that did not fit.
    role: Option<Role>,
    /// Address of the peer, or that of the service on this host where it accepted.
    addr: Option<IpAddr>,
    /// Port of the service.
    port: Option<u16>,
    /// Highest share of the ports that was in use on a host at the end of its recording; null when no budget applies.
    utilization: Option<f64>,
    /// On which host.
    fullest_host: Option<String>,
    #[serde(flatten)]
    figures: Figures,
}

impl Figures {
    fn of(sum: &Sum<'_>, whole: u64) -> Self {
        Self {
            hosts: sum.hosts(),
            share: rounded(share(sum.counts.time_wait_created, whole)),
            mostly_on: sum.mostly_on().map(|(host, share)| MostlyOn { host: host.to_owned(), share: rounded(share) }),
            counts: Merged(sum.counts.clone()),
        }
    }
}

fn host((same, sum): &Together<'_>, whole: u64) -> HostTogether {
    let host = if let Same::Named(name) = same { name.clone() } else { String::new() };
    HostTogether { host, recordings: sum.recordings, figures: Figures::of(sum, whole) }
}

fn named((same, sum): &Together<'_>, whole: u64) -> NamedTogether {
    NamedTogether {
        name: if let Same::Named(name) = same { Some(name.clone()) } else { None },
        owner_known: *same != Same::Unknown,
        other: *same == Same::Other,
        processes: sum.processes,
        figures: Figures::of(sum, whole),
    }
}

fn place((same, sum): &Together<'_>, whole: u64) -> PlaceTogether {
    let place = if let Same::Place(role, addr, port) = same { Some((*role, *addr, *port)) } else { None };
    PlaceTogether {
        role: place.map(|(role, ..)| role),
        addr: place.map(|(_, addr, _)| addr),
        port: place.map(|(.., port)| port),
        utilization: sum.fullest().map(|(share, _)| rounded(share)),
        fullest_host: sum.fullest().map(|(_, host)| host.to_owned()),
        figures: Figures::of(sum, whole),
    }
}

/// All hosts together; `None` for one recording.
pub(super) fn of(report: &Report<'_>, by: GroupBy, limit: usize) -> Option<FleetJson> {
    if !report.is_of_several() {
        return None;
    }
    let totals = report.totals_together();
    let whole = totals.counts.time_wait_created;
    let by = comparable(by);
    let (rows, destinations) = (report.rows_together(by), report.destinations_together());
    Some(FleetJson {
        totals: Figures::of(&totals, whole),
        counted_twice: report.counted_twice().into_iter().map(str::to_owned).collect(),
        hosts: report.hosts_together().iter().map(|row| host(row, whole)).collect(),
        by: by.name(),
        rows_total: rows.len(),
        rows: rows.iter().take(limit).map(|row| named(row, whole)).collect(),
        destinations_total: destinations.len(),
        destinations: destinations.iter().take(limit).map(|row| place(row, whole)).collect(),
    })
}
