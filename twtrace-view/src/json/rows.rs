//! Rows of the JSON report.

use super::runs_in::RunsInJson;
use crate::label;
use crate::text;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use twtrace_core::counts::{FIELDS, Field, Figure};
use twtrace_core::event::{Owner, ProcessFacts, Role};
use twtrace_core::ports::Budget;
use twtrace_core::sketch::Sketch;
use twtrace_core::snapshot::{
    Counts, DestKey, DestRow, DestinationRow, GroupBy, GroupKey, PortHolder, PortState, Row, Share, Snapshot, Summary,
};
use twtrace_core::strangers::Strangers;

/// Most destinations listed with each process.
const DESTINATIONS_OF_PROCESS: usize = 16;

/// A number of seconds or the like to the microsecond: more digits mean nothing. Zero has no sign.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6 + 0.0
}

/// Destinations of a row, those with the most TIME_WAIT sockets created first; last, without a place, those that found
/// no room, together.
fn destinations_of(row: &Row, by: GroupBy, snapshot: &Snapshot) -> Vec<SharedJson> {
    let mut shares = snapshot.destinations_of(by, row);
    shares.sort_unstable_by_key(|(row, share)| {
        (row.key == DestRow::Other, std::cmp::Reverse(share.time_wait_created), row.id)
    });
    shares.into_iter().map(|(row, share)| SharedJson::of(&share, row, snapshot.summary())).collect()
}

/// Quantiles of lengths of time in milliseconds; null when there are none.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Quantiles {
    /// The median.
    p50: Option<f64>,
    /// Nine of ten are at most so long.
    p90: Option<f64>,
    /// 99 of 100 are at most so long.
    p99: Option<f64>,
}

impl Quantiles {
    /// In milliseconds, of microseconds.
    pub(crate) fn of(us: &Sketch) -> Self {
        let quantile = |share| us.quantile(share).map(|us| us as f64 / 1e3);
        Self { p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99) }
    }

    /// What they are more than others; null where either is null.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let minus = |own: Option<f64>, other: Option<f64>| Some(rounded(own? - other?));
        Self { p50: minus(self.p50, other.p50), p90: minus(self.p90, other.p90), p99: minus(self.p99, other.p99) }
    }
}

/// What every row counts, by the names of [`FIELDS`].
pub(crate) struct CountsJson<'a>(pub(crate) &'a Counts);

impl Serialize for CountsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(FIELDS.len()))?;
        for Field { name, get, .. } in FIELDS {
            match get(self.0) {
                Figure::Count(number) | Figure::Live(number) => map.serialize_entry(name, &number)?,
                Figure::Rate(per_second) => map.serialize_entry(name, &rounded(per_second))?,
                Figure::Times(times) => map.serialize_entry(name, &Quantiles::of(times))?,
                Figure::Errors(errors) => {
                    let named: BTreeMap<String, u64> =
                        errors.iter().map(|(errno, number)| (text::errno(*errno), *number)).collect();
                    map.serialize_entry(name, &named)?;
                }
            }
        }
        map.end()
    }
}

/// A row of a grouping. Fields about one process are null in rows of several.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RowJson<'a> {
    /// What the group is called; not there in rows of processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Process id in the initial PID namespace.
    pid: Option<u32>,
    /// Nanoseconds since boot at which the process started: distinguishes processes with the same PID.
    start_ns: Option<u64>,
    /// Name of the process (`comm`).
    command: Option<Cow<'a, str>>,
    /// What an operator calls it: the script, jar or pool rather than the interpreter.
    program: Option<String>,
    /// `/proc/PID/exe`.
    exe: Option<&'a str>,
    /// `/proc/PID/cmdline`, arguments joined by spaces.
    cmdline: Option<&'a str>,
    /// Process id of the parent.
    ppid: Option<u32>,
    /// Name of the parent.
    parent_command: Option<Cow<'a, str>>,
    /// User id.
    uid: Option<u32>,
    /// Its name.
    user: Option<&'a str>,
    /// Path in the cgroup hierarchy.
    cgroup: Option<&'a str>,
    #[serde(flatten)]
    runs_in: RunsInJson<'a>,
    /// systemd unit, where the cgroup has one.
    unit: Option<&'a str>,
    /// The first ancestor that has lived for a minute, by program and process id.
    ancestor: Option<&'a str>,
    /// Network namespace, by inode number, of one of its destinations.
    netns: Option<u32>,
    /// As in `namespaces`.
    netns_name: Option<String>,
    /// False in the row of those whose owner is not known.
    owner_known: bool,
    /// The rows that did not fit, together.
    other: bool,
    /// How many rows are in this one for want of room.
    folded: u64,
    /// How many processes.
    processes: u64,
    /// Of the TIME_WAIT sockets that it created, those that processes opened which have nothing to do with it; null if there
    /// are none, and in rows of destinations.
    opened_by_others: Option<OpenedByOthers<'a>>,
    #[serde(flatten)]
    counts: CountsJson<'a>,
    /// Where its connections went, at most 16, those with the most TIME_WAIT sockets created first; in rows of
    /// processes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    destinations: Option<Vec<SharedJson>>,
    /// How many destinations it has; in rows of processes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    destinations_total: Option<usize>,
}

/// TIME_WAIT sockets that one process closed and unrelated ones opened.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OpenedByOthers<'a> {
    /// How many.
    sockets: u64,
    /// The process that opened most of them.
    pid: u32,
    /// Its name.
    command: Cow<'a, str>,
    /// Its user id.
    uid: u32,
}

impl<'a> OpenedByOthers<'a> {
    fn of(strangers: &'a Strangers) -> Self {
        let Strangers { opener, sockets, .. } = strangers;
        Self { sockets: *sockets, pid: opener.key.tgid, command: text::lossless(opener.comm.bytes()), uid: opener.uid }
    }
}

impl<'a> RowJson<'a> {
    pub(crate) fn of(row: &'a Row, by: GroupBy, model: &'a Snapshot) -> Self {
        let process = by.is_of_processes();
        let one = row.owner.as_ref().filter(|_| matches!(row.key, GroupKey::Process(_)));
        // What the rows of a group have in common, taken from any one of them.
        let of = |group: GroupBy| row.owner.as_ref().filter(|_| process || by == group);
        let facts = one.and_then(|owner| model.facts(owner.key));
        let cgroup = of(GroupBy::Cgroup).map(|owner| owner.cgroup);
        let cgroup_facts = facts.or_else(|| model.facts_of_cgroup(cgroup?));
        let text = |of: fn(&ProcessFacts) -> Option<&String>| facts.and_then(of).map(String::as_str);
        let cgroup = |of: fn(&ProcessFacts) -> Option<&String>| cgroup_facts.and_then(of).map(String::as_str);
        let command = of(GroupBy::Command);
        let parent = of(GroupBy::Parent);
        let uid = of(GroupBy::User).map(|owner| owner.uid);
        let mut destinations = process.then(|| destinations_of(row, by, model));
        let destinations_total = destinations.as_ref().map(Vec::len);
        if let Some(destinations) = &mut destinations {
            destinations.truncate(DESTINATIONS_OF_PROCESS);
        }
        let places = destinations.iter().flatten().map(|shared| &shared.place);
        let place = places.into_iter().find(|place| place.netns.is_some());
        let (netns, netns_name) = place.map_or((None, None), |place| (place.netns, place.netns_name.clone()));
        Self {
            name: (!process).then(|| label::group(row, model)),
            pid: pid(row),
            start_ns: one.map(|owner| owner.key.start_ns),
            command: command.map(|owner| text::lossless(owner.comm.bytes())),
            program: Some(label::program_of(row, model)).filter(|program| !program.is_empty()),
            exe: text(|facts| facts.exe.as_ref()),
            cmdline: text(|facts| facts.cmdline.as_ref()),
            ppid: parent.map(|owner| owner.ppid),
            parent_command: parent.map(parent_command),
            uid,
            user: uid.and_then(|uid| model.user_name(uid)),
            cgroup: cgroup(|facts| facts.cgroup.as_ref()),
            runs_in: RunsInJson::of(row, by, cgroup_facts, model),
            unit: cgroup(|facts| facts.unit.as_ref()),
            ancestor: text(|facts| facts.ancestor.as_ref()),
            netns,
            netns_name,
            owner_known: row.key != GroupKey::Unknown,
            other: row.key == GroupKey::Other,
            folded: row.folded,
            processes: row.processes,
            opened_by_others: row.strangers.as_deref().map(OpenedByOthers::of),
            counts: CountsJson(&row.counts),
            destinations,
            destinations_total,
        }
    }
}

fn pid(row: &Row) -> Option<u32> {
    match row.key {
        GroupKey::Process(key) => Some(key.tgid),
        _ => None,
    }
}

fn parent_command(owner: &Owner) -> Cow<'_, str> {
    text::lossless(owner.parent_comm.bytes())
}

fn dest_key(row: &DestinationRow) -> Option<&DestKey> {
    match &row.key {
        DestRow::Dest(key) => Some(key),
        DestRow::Other => None,
    }
}

/// Where.
#[derive(Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PlaceJson {
    /// Null when it is not known.
    netns: Option<u32>,
    /// As in `namespaces`.
    netns_name: Option<String>,
    /// Who began the connections.
    role: Option<Role>,
    /// Address on this host.
    local_addr: Option<IpAddr>,
    /// Address of the peer; null when they are many, as of a service of this host.
    remote_addr: Option<IpAddr>,
    /// Port of the service: the peer's when this host connected, else that of this host.
    port: Option<u16>,
}

impl PlaceJson {
    fn of(row: &DestinationRow, summary: &Summary) -> Self {
        dest_key(row).map_or_else(Self::default, |key| Self::of_key(key, summary))
    }

    pub(crate) fn of_key(key: &DestKey, summary: &Summary) -> Self {
        let name = summary.namespace(key.netns).map(|namespace| namespace.name.clone());
        Self {
            netns: Some(summary.inode(key.netns)).filter(|inode| *inode != 0),
            netns_name: name.filter(|name| !name.is_empty()),
            role: Some(key.role),
            local_addr: Some(key.local_addr),
            remote_addr: key.remote_addr,
            port: Some(key.port),
        }
    }
}

/// A destination of one process, with that process's share.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SharedJson {
    #[serde(flatten)]
    place: PlaceJson,
    /// TIME_WAIT sockets created.
    time_wait_created: u64,
    /// TIME_WAIT sockets alive now.
    time_wait_live: u64,
    /// Connections that have ended.
    connections: u64,
}

impl SharedJson {
    fn of(pair: &Share, row: &DestinationRow, summary: &Summary) -> Self {
        Self {
            place: PlaceJson::of(row, summary),
            time_wait_created: pair.time_wait_created,
            time_wait_live: pair.time_wait_live,
            connections: pair.connections,
        }
    }
}

/// A destination.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DestinationJson<'a> {
    #[serde(flatten)]
    place: PlaceJson,
    /// Those that found no room, together.
    other: bool,
    /// How many these are.
    folded: u64,
    #[serde(flatten)]
    counts: CountsJson<'a>,
    /// Share of the ports that connect cannot choose; null when no budget applies.
    utilization: Option<f64>,
    /// Connections per second that the ports sustain, given what else uses ports now; null when no budget applies.
    max_rate_per_s: Option<f64>,
    /// Until half of the ports are in use, from when on connect takes longer; 0 if they are. Inferred from the present rate;
    /// null when that never happens, or when no budget applies.
    seconds_to_slow: Option<f64>,
    /// Inferred from the present rate; null when the ports never run out, or when no budget applies.
    seconds_to_exhaustion: Option<f64>,
    /// The same at the fastest rate that fits what was seen.
    soonest_seconds: Option<f64>,
    /// The same at the slowest rate that fits; null when the ports may never run out.
    latest_seconds: Option<f64>,
    /// What uses the ports; null when no budget applies.
    ports: Option<PortsJson>,
    /// Who has them, those with the most first, 16 at most. When connects found no port, as of then.
    port_holders: Vec<HolderJson>,
    /// How long a connection keeps its port after it was closed here.
    hold_seconds: Option<f64>,
    /// Ports taken per second of late.
    port_rate_per_s: Option<f64>,
    /// Milliseconds until connections were established.
    connect_ms: Quantiles,
    /// Full sockets that use a port to it, in any state.
    open: u64,
    /// How the local side of its connections was chosen.
    binding: BindingJson,
}

/// Holders of ports that are listed for each destination.
const HOLDERS: usize = 16;

/// Ports of one state that one process has.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct HolderJson {
    /// PID; null for those that no process is known to have: orphans, and TIME_WAIT sockets from before the trace.
    pid: Option<u32>,
    /// Its command; null likewise.
    command: Option<String>,
    /// `bound`: by bind(2), for a connection to another destination or for none.
    state: PortState,
    /// How many.
    ports: u64,
    /// Found in `/proc` by the last search for socket owners, not seen in the trace.
    looked_up: bool,
}

impl HolderJson {
    fn of(holder: &PortHolder) -> Self {
        Self {
            pid: holder.pid,
            command: holder.pid.map(|_| holder.command.clone()),
            state: holder.state,
            ports: holder.ports,
            looked_up: holder.is_looked_up,
        }
    }
}

/// How many connections had their local side chosen by other means than connect(2) alone.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct BindingJson {
    /// Open ones whose port bind(2) had taken.
    open_with_port: u64,
    /// Ended ones, likewise.
    with_port: u32,
    /// Ended ones with an address and no port: IP_BIND_ADDRESS_NO_PORT.
    address_without_port: u32,
    /// Ended ones with a port range of their own: IP_LOCAL_PORT_RANGE.
    own_port_range: u32,
}

/// The ports of a budget by who has them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PortsJson {
    /// Ports of the range, reserved ones taken off.
    total: u32,
    /// Ports of the range that are reserved, which `total` does not have.
    reserved: u32,
    /// Ports that are bound, so that no connect chooses them for any destination; those with a connection to this one
    /// excepted.
    bound: u32,
    /// Connections in ESTABLISHED, by the last census.
    established: u32,
    /// Connections in other states, without TIME_WAIT sockets, by the last census.
    other: u32,
    /// Of `other`, those in CLOSE_WAIT.
    close_wait: u32,
    /// Of `other`, those in SYN_SENT.
    syn_sent: u32,
    /// TIME_WAIT sockets of both substates.
    time_wait: u32,
    /// Of these, those in FIN_WAIT2.
    fin_wait2: u32,
    /// Of `time_wait`, those that a connect may take over now. Inferred from their timers.
    reusable: u32,
    /// Of `time_wait`, those whose peer sent no timestamps: `tcp_tw_reuse` changes nothing for them.
    without_timestamps: u32,
    /// All of these: `bound + established + other + time_wait`.
    used: u32,
    /// What connect can choose: `total - used + reusable`.
    available: u32,
}

impl PortsJson {
    fn of(budget: &Budget) -> Self {
        Self {
            total: budget.total,
            reserved: budget.reserved,
            bound: budget.bound,
            established: budget.established,
            other: budget.other,
            close_wait: budget.close_wait,
            syn_sent: budget.syn_sent,
            time_wait: budget.time_wait,
            fin_wait2: budget.fin_wait2,
            reusable: budget.reusable,
            without_timestamps: budget.without_timestamps,
            used: budget.used,
            available: budget.available,
        }
    }
}

impl<'a> DestinationJson<'a> {
    pub(crate) fn of(row: &'a DestinationRow, snapshot: &Snapshot) -> Self {
        let budget = row.budget.as_ref();
        Self {
            place: PlaceJson::of(row, snapshot.summary()),
            other: row.key == DestRow::Other,
            folded: row.folded,
            counts: CountsJson(&row.counts),
            utilization: budget.map(|budget| rounded(budget.utilization)),
            max_rate_per_s: budget.map(|budget| rounded(budget.max_rate_per_s)),
            seconds_to_exhaustion: budget.and_then(|budget| budget.seconds_to_exhaustion).map(rounded),
            soonest_seconds: budget.and_then(|budget| budget.soonest_seconds).map(rounded),
            seconds_to_slow: budget.and_then(|budget| budget.seconds_to_slow).map(rounded),
            latest_seconds: budget.and_then(|budget| budget.latest_seconds).map(rounded),
            ports: budget.map(PortsJson::of),
            port_holders: snapshot.port_holders(row).iter().take(HOLDERS).map(HolderJson::of).collect(),
            hold_seconds: budget.map(|budget| rounded(budget.hold_seconds)),
            port_rate_per_s: budget.map(|budget| rounded(budget.rate_per_s)),
            connect_ms: Quantiles::of(&row.connect_us),
            open: row.open,
            binding: BindingJson {
                open_with_port: row.bound,
                with_port: row.pattern.bound,
                address_without_port: row.pattern.bound_without_port,
                own_port_range: row.pattern.own_range,
            },
        }
    }
}
