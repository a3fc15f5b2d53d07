//! What the engine knows, for views to read. Views never change it and never reach past it.
//!
//! Every number is exact for what was traced unless its doc says *inferred*.

use crate::attribution::Attribution;
pub use crate::counts::Counts;
use crate::failure::{FailureRow, Failures};
use crate::finding::Finding;
use crate::history::{History, Series};
use crate::input::{
    CensusState, Comm, Holder, HostFacts, KernelCounters, KernelFacts, Owner, ProcessFacts, ProcessKey, Role,
    TracingFacts, Tuple,
};
use crate::ledger::{Ledger, Map};
use crate::live::{Live, LiveSet};
use crate::pattern::Pattern;
use crate::process_facts::ProcessFactsTable;
use crate::sketch::Sketch;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Ways to group the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupBy {
    /// One row per process (tgid and start time).
    Process,
    /// One row per command name.
    Command,
    /// One row per parent process: one-shot children gather under the script that starts them.
    Parent,
    /// One row per user.
    User,
    /// One row per cgroup (container, unit).
    Cgroup,
}

/// Identity of a ledger row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupKey {
    /// A process.
    Process(ProcessKey),
    /// A command name.
    Command(Comm),
    /// A parent: its tgid and comm.
    Parent(u32, Comm),
    /// A uid.
    User(u32),
    /// A cgroup id.
    Cgroup(u64),
    /// Nobody was seen: the owner is unknown.
    Unknown,
    /// The rows that were folded together because the ledger was full.
    Other,
}

/// Identity of a destination row. For `Role::Active`, `port` is the remote service's and both addresses are set;
/// for `Role::Passive`, `port` is the local listening port and `remote_addr` is `None`. For `Role::Unknown`
/// `port` is the remote port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestKey {
    /// Network namespace.
    pub netns: u32,
    /// Role.
    pub role: Role,
    /// Local address.
    pub local_addr: IpAddr,
    /// Remote address, for active connections.
    pub remote_addr: Option<IpAddr>,
    /// See above.
    pub port: u16,
}

/// A destination, or the folded remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DestRow {
    /// One destination.
    Dest(DestKey),
    /// Rows folded together.
    Other,
}

/// A row of a ledger.
#[derive(Clone, Debug)]
pub struct Row {
    /// Own id, never used again.
    pub id: u32,
    /// Identity.
    pub key: GroupKey,
    /// The owner as last seen in an event of this row (for `Process`; for others one example).
    pub owner: Option<Owner>,
    /// Rows folded into this one (`Other` only).
    pub folded: u64,
    /// Distinct processes that contributed, counted by first appearance in this row's events; saturates and is
    /// a lower bound once the process ledger folded.
    pub processes: u64,
    /// Figures.
    pub counts: Counts,
    /// Timewait sockets made over time; empty unless the engine keeps a history.
    pub series: Series,
}

/// A row of the destination ledger.
#[derive(Clone, Debug)]
pub struct DestinationRow {
    /// Own id.
    pub id: u32,
    /// Identity.
    pub key: DestRow,
    /// Rows folded into this one.
    pub folded: u64,
    /// Figures.
    pub counts: Counts,
    /// Timewait sockets made over time; empty unless the engine keeps a history.
    pub series: Series,
    /// Full sockets that hold a port towards it, by the last census of its namespace.
    pub established: u64,
    /// Of these, ESTABLISHED for two seconds and several mean lifetimes at least, as of the last [`Engine::show`](crate::engine::Engine::show).
    pub stable: u64,
    /// Of these, with a port that bind(2) had taken before, likewise.
    pub bound: u64,
    /// Its timewait sockets that have been in FIN_WAIT2 for at least three seconds, likewise.
    pub fin_wait2_aged: u64,
    /// How its connections are used.
    pub pattern: Pattern,
    /// How long connect(2) took: from SYN_SENT to ESTABLISHED, or to the failure of the search for a port; microseconds,
    /// quantiles within 6%. The search is part of it and grows long before it fails.
    pub connect_us: Sketch,
    /// `established` over the last censuses.
    pub trend: crate::budgets::Trend,
    /// Port budget, for active destinations, as of the last [`Engine::show`](crate::engine::Engine::show).
    pub budget: Option<crate::ports::Budget>,
    /// The same as of a moment at which connects found no port.
    pub exhausted: Option<crate::ports::Budget>,
    /// That moment, nanoseconds.
    pub(crate) exhausted_ns: u64,
    /// The latest connect that found none, nanoseconds; 0 for none.
    pub(crate) no_port_ns: u64,
}

/// A pair of process row and destination row, for drilling down.
#[derive(Clone, Debug)]
pub struct PairRow {
    /// Own id.
    pub id: u32,
    /// Id of the process row ([`Row::id`] in the process ledger).
    pub process: u32,
    /// Id of the destination row.
    pub destination: u32,
    /// Timewait sockets made.
    pub time_wait_made: u64,
    /// Alive now.
    pub time_wait_live: u64,
    /// Lives ended.
    pub connections: u64,
    /// How the connections are used.
    pub pattern: Pattern,
}

/// Open sockets of one kind that wait for somebody to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Towards where, or on which port.
    pub destination: DestKey,
    /// CLOSE_WAIT or FIN_WAIT2.
    pub state: CensusState,
    /// How many, by the last census.
    pub sockets: u64,
    /// Of these, those that have been so for at least three seconds.
    pub aged: u64,
    /// And for at least a minute.
    pub old: u64,
}

/// How a socket's fate or owner is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// Seen.
    Exact,
    /// Judged from fields that usually, but not always, decide it.
    Inferred,
    /// Found or put right by the census.
    Census,
}

/// Substate of a timewait socket (`tw_substate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[allow(missing_docs, reason = "RFC 9293 names")]
pub enum Substate {
    #[serde(rename = "TIME_WAIT")]
    TimeWait,
    #[serde(rename = "FIN_WAIT2")]
    FinWait2,
}

/// The short form of an owner that a live timewait socket keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerRef {
    /// Which process.
    pub key: ProcessKey,
    /// Its comm then.
    pub comm: Comm,
    /// Its uid.
    pub uid: u32,
}

/// A timewait socket alive now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveSocket {
    /// Cookie.
    pub cookie: u64,
    /// Addresses and ports.
    pub tuple: Tuple,
    /// Role.
    pub role: Role,
    /// Substate as last known.
    pub substate: Substate,
    /// When the full socket reached CLOSE and the timewait socket took over; 0 for those older than the trace.
    pub made_ns: u64,
    /// When its timer ends it, as far as known.
    pub expires_ns: u64,
    /// Process that opened the connection.
    pub opener: Option<OwnerRef>,
    /// Process that closed it: the maker.
    pub closer: Option<OwnerRef>,
    /// How its existence is known.
    pub known: Known,
    /// Older than the tracer.
    pub before_start: bool,
}

/// Figures of the last census of a namespace, or of all namespaces together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Coverage {
    /// Timewait sockets in the census.
    pub census: u64,
    /// Of these, joined to a traced closer.
    pub attributed: u64,
    /// Of these, made before the trace began, or by a close that was.
    pub before_start: u64,
    /// Of these, neither: the tracer owes an answer.
    pub unattributed: u64,
}

impl Coverage {
    /// Share attributed of those made since the start: `attributed / (census - before_start)`; 1 when there are none.
    pub fn ratio(&self) -> f64 {
        let made = self.census.saturating_sub(self.before_start);
        if made == 0 { 1.0 } else { self.attributed as f64 / made as f64 }
    }
}

/// Start and length of the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// Monotonic time of the start.
    pub start_ns: u64,
    /// Wall clock of the start, nanoseconds since the Unix epoch.
    pub start_unix_ns: i128,
    /// Monotonic time of the newest Input.
    pub now_ns: u64,
}

impl Window {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.now_ns.saturating_sub(self.start_ns) as f64 / 1e9
    }
}

/// Totals over everything traced, unaffected by folding; filters apply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Everything a row counts.
    pub counts: Counts,
    /// Lives received, before filters.
    pub lives: u64,
    /// Outcomes by stable name, before filters.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Corrections by the census or by a reset seen late, by kind.
    pub corrections: BTreeMap<&'static str, u64>,
    /// Timewait sockets that were counted as made but not followed, because too many were alive.
    pub live_untracked: u64,
    /// Rows of censuses, of full sockets and listeners, that were not counted because there were too many.
    pub open_untracked: u64,
    /// Ends of timewait sockets that the kernel told of, before filters, those made before the trace included (exact
    /// tier).
    pub ends: Ends,
}

/// Ends of timewait sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Ends {
    /// The timer ran out.
    pub expired: u64,
    /// A connect took over.
    pub reused: u64,
    /// Before its time by other means.
    pub killed: u64,
}

/// A network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// Inode number.
    pub netns: u32,
    /// What it is called; empty when that is not known. Hostile input.
    pub name: String,
    /// Kernel figures, once they were read.
    pub kernel: Option<KernelFacts>,
    /// Its last census.
    pub coverage: Coverage,
    /// When that census was taken, if any.
    pub census_at_ns: Option<u64>,
    /// Whether it was whole.
    pub census_complete: bool,
    /// Why it cannot be entered.
    pub refused: Option<String>,
    /// It does not exist any more. Its name is kept for the rows that it has.
    pub gone: bool,
}

/// Host-wide parts of the model, all public and plain.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The host.
    pub host: HostFacts,
    /// The tracer.
    pub tracing: TracingFacts,
    /// Kernel-side counters.
    pub counters: KernelCounters,
    /// Kernel figures of the tracer's own network namespace.
    pub kernel: KernelFacts,
    /// Network namespaces that are known, those that are gone included; in the order of their first mention.
    pub namespaces: Vec<Namespace>,
    /// Network namespaces that nobody looks into, because there are too many.
    pub namespaces_left_out: u64,
    /// Time.
    pub window: Window,
    /// Last census of every namespace, together.
    pub coverage: Coverage,
    /// When the oldest of these was taken, if there is any.
    pub census_at_ns: Option<u64>,
    /// Whether all were whole.
    pub census_complete: bool,
    /// Totals.
    pub totals: Totals,
    /// Kernel's count of timewait sockets in all namespaces, one per tick, newest last, at most 120.
    pub time_wait_history: Vec<u64>,
}

/// Read-only state.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) summary: Summary,
    pub(crate) attribution: Attribution,
    pub(crate) destinations: Ledger<DestinationRow>,
    pub(crate) pairs: Ledger<PairRow>,
    /// Folds of processes and destinations that the pairs follow.
    pub(crate) folds: u64,
    pub(crate) live: LiveSet,
    pub(crate) facts: ProcessFactsTable,
    pub(crate) users: Map<u32, String>,
    pub(crate) history: Option<History>,
    /// What was counted before is forgotten.
    pub(crate) counted_from_ns: u64,
    pub(crate) failures: Failures,
    pub(crate) holders: Holders,
    pub(crate) findings: Vec<Finding>,
    pub(crate) waiting: Vec<Waiting>,
}

/// Who holds open sockets, by the last search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holders {
    /// When it ended; `None` before the first.
    pub at_ns: Option<u64>,
    /// No process had to be left out.
    pub complete: bool,
    /// What it found.
    pub rows: Vec<Holder>,
}

impl Model {
    /// Host-wide parts.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Rows of one grouping, in no particular order; the unknown and the folded row come with them when anything was
    /// counted there.
    pub fn rows(&self, by: GroupBy) -> impl Iterator<Item = &Row> {
        self.attribution.ledger(by).rows()
    }

    /// Destinations, in no particular order.
    pub fn destinations(&self) -> impl Iterator<Item = &DestinationRow> {
        self.destinations.rows()
    }

    /// Pairs of process row and destination row. Past the bound of a ledger, those of folded rows are together in the
    /// pair of the two `Other` rows.
    pub fn pairs(&self) -> impl Iterator<Item = &PairRow> {
        self.pairs.rows()
    }

    /// Live timewait sockets that pass the filter.
    pub fn live_sockets(&self) -> impl Iterator<Item = LiveSocket> + '_ {
        self.live.iter().filter(|live| live.shown).map(|live| self.live_socket(live))
    }

    fn live_socket(&self, live: &Live) -> LiveSocket {
        let reference = |number| {
            self.attribution.owner(number).map(|owner| OwnerRef { key: owner.key, comm: owner.comm, uid: owner.uid })
        };
        LiveSocket {
            cookie: live.cookie,
            tuple: live.tuple,
            role: live.role,
            substate: live.substate,
            made_ns: live.made_ns,
            expires_ns: live.expires_ns,
            opener: reference(live.opener),
            closer: reference(live.closer),
            known: live.known,
            before_start: live.before_start,
        }
    }

    /// Figures over time; `None` unless the engine keeps a history.
    pub fn history(&self) -> Option<&History> {
        self.history.as_ref()
    }

    /// Calls that failed for want of an address or a port, in no particular order.
    pub fn failures(&self) -> impl Iterator<Item = &FailureRow> {
        self.failures.rows()
    }

    /// Who holds open sockets.
    pub fn holders(&self) -> &Holders {
        &self.holders
    }

    /// Open sockets that wait for somebody to close, most of them first, as of the last
    /// [`Engine::show`](crate::engine::Engine::show); at most 256 kinds.
    pub fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// What is wrong, the gravest first, as of the last [`Engine::show`](crate::engine::Engine::show).
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What `/proc` said of a process.
    pub fn facts(&self, key: ProcessKey) -> Option<&ProcessFacts> {
        self.facts.get(key)
    }

    /// A user's name.
    pub fn user_name(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }
}
