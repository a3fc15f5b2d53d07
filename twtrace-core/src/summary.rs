//! What is known of the host, its network namespaces and the trace as a whole.
//!
//! Every number is exact for what was traced unless its doc says *inferred*.

use crate::cost::Cost;
use crate::counts::Counts;
use crate::event::{CensusState, HostFacts, KernelCounters, KernelFacts, NetFigures, TracingFacts};
use crate::keys::DestKey;
use crate::netns;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Counts by stable name.
pub type NamedCounts = BTreeMap<Cow<'static, str>, u64>;

/// Namespaces kept, including those that are gone. When full, the oldest gone one is dropped.
const NAMESPACES: usize = 2048;

/// Open sockets of one kind that wait for either side to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Waiting {
    /// The destination, or the local port.
    pub destination: DestKey,
    /// CLOSE_WAIT, FIN_WAIT2, or in the queue of a listener.
    pub state: CensusState,
    /// How many, by the last census.
    pub sockets: u64,
    /// Of these, those that have been in this state for at least three seconds.
    pub aged: u64,
    /// And for at least a minute.
    pub old: u64,
    /// For those in the queue of a listener: how many the queue takes.
    pub backlog: Option<u32>,
}

/// How a socket's fate or owner is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Provenance {
    /// Seen.
    Exact,
    /// Inferred from fields that usually, but not always, decide it.
    Inferred,
    /// Found or corrected by the census.
    Census,
}

/// Substate of a TIME_WAIT socket (`tw_substate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs, reason = "RFC 9293 names")]
pub enum Substate {
    #[serde(rename = "TIME_WAIT")]
    TimeWait,
    #[serde(rename = "FIN_WAIT2")]
    FinWait2,
}

/// Figures of the last census of a namespace, or of all namespaces together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Coverage {
    /// TIME_WAIT sockets in the census.
    pub census: u64,
    /// Of these, joined to a traced closer.
    pub attributed: u64,
    /// Of these, created before the trace began, or by a close before it.
    pub before_start: u64,
    /// Of these, neither: the tracer should have seen them.
    pub unattributed: u64,
}

impl Coverage {
    /// Attributed share of those created since the start: `attributed / (census - before_start)`; 1 when there are
    /// none.
    pub fn ratio(&self) -> f64 {
        let created = self.census.saturating_sub(self.before_start);
        if created == 0 { 1.0 } else { self.attributed as f64 / created as f64 }
    }
}

/// Start and length of the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Window {
    /// Monotonic time of the start.
    pub start_ns: u64,
    /// Wall clock of the start, nanoseconds since the Unix epoch.
    pub start_unix_ns: i128,
    /// Monotonic time of the newest event.
    pub now_ns: u64,
}

impl Window {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.now_ns.saturating_sub(self.start_ns) as f64 / 1e9
    }
}

/// Totals over everything traced, unaffected by folding; filters apply.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Everything a row counts.
    pub counts: Counts,
    /// Connections that have ended, before filters.
    pub connections: u64,
    /// Outcomes by stable name, before filters.
    pub outcomes: NamedCounts,
    /// Corrections by the census or by a reset seen late, by kind.
    pub corrections: NamedCounts,
    /// TIME_WAIT sockets that were counted as created but not tracked, because too many were alive.
    pub time_wait_untracked: u64,
    /// Census rows of full sockets and listeners that were not counted because there were too many.
    pub open_untracked: u64,
    /// Ends of TIME_WAIT sockets that the kernel reported, before filters, including sockets created before the trace
    /// (exact tier).
    pub ends: Ends,
}

/// Ends of TIME_WAIT sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ends {
    /// The timer ran out.
    pub expired: u64,
    /// A connect took over.
    pub reused: u64,
    /// Before its time by other means.
    pub ended_early: u64,
}

/// A network namespace.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Namespace {
    /// Its id ([`crate::netns`]).
    pub netns: u32,
    /// Inode number.
    pub inode: u32,
    /// Its name; empty when not known. Hostile input.
    pub name: String,
    /// Kernel figures, once they were read.
    pub kernel: Option<KernelFacts>,
    /// Its last census.
    pub coverage: Coverage,
    /// When that census was taken, if any.
    pub census_at_ns: Option<u64>,
    /// Whether that census was complete.
    pub census_complete: bool,
    /// Why it cannot be entered.
    pub refused: Option<String>,
    /// It no longer exists. Its name is kept for its rows.
    pub gone: bool,
    /// How long TIME_WAIT lasts there by the timers of its last census, seconds, if it is not a minute.
    pub(crate) measured_s: Option<u32>,
    /// Its figures when they were first read.
    pub(crate) first: NetFigures,
}

/// Host-wide parts of the model, all public and plain.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// The host.
    pub host: HostFacts,
    /// The tracer.
    pub tracing: TracingFacts,
    /// What the trace costs; `None` before it was read twice, and in a replay.
    pub cost: Option<Cost>,
    /// Kernel-side counters.
    pub counters: KernelCounters,
    /// Kernel figures of the tracer's own network namespace.
    pub kernel: KernelFacts,
    /// Known network namespaces, including those that are gone; in the order of their first mention.
    pub namespaces: Vec<Namespace>,
    /// Number of network namespaces that are not examined, because there are too many.
    pub namespaces_left_out: u64,
    /// Time.
    pub window: Window,
    /// Last census of every namespace, together.
    pub coverage: Coverage,
    /// When the oldest of these was taken, if there is any.
    pub census_at_ns: Option<u64>,
    /// Whether all were complete.
    pub census_complete: bool,
    /// Totals.
    pub totals: Totals,
    /// Kernel's count of TIME_WAIT sockets in all namespaces, one per tick, newest last, at most 120.
    pub time_wait_history: Vec<u64>,
}

impl Summary {
    /// A namespace, if anything is known of it.
    pub fn namespace(&self, netns: u32) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.netns == netns)
    }

    /// Inode number of a namespace, 0 when it is not known. Two that existed one after the other may have the same.
    pub fn inode(&self, netns: u32) -> u32 {
        self.namespace(netns).map_or(if netns::is_inode(netns) { netns } else { 0 }, |namespace| namespace.inode)
    }

    /// The same number, except for 0, which means unknown: where only one namespace exists, it is that one. *Inferred*:
    /// another one may have appeared.
    pub(crate) fn place_of(&self, netns: u32) -> u32 {
        if netns == 0 && self.present().all(|namespace| namespace.netns == self.host.netns) {
            self.host.netns
        } else {
            netns
        }
    }

    /// Figures and sysctls of a namespace, once they were read.
    pub fn kernel_of(&self, netns: u32) -> Option<&KernelFacts> {
        let netns = self.place_of(netns);
        // Most rows are in the tracer's own.
        if netns == self.host.netns {
            return Some(&self.kernel);
        }
        self.namespace(netns)?.kernel.as_ref()
    }

    /// What else is counted in a namespace: counters since the trace first read them.
    pub fn figures_of(&self, netns: u32) -> NetFigures {
        let namespace = self.namespace(self.place_of(netns));
        let figures = namespace.and_then(|of| Some(of.kernel.as_ref()?.figures.since(&of.first)));
        figures.unwrap_or_default()
    }

    /// How long a TIME_WAIT socket lasts there.
    pub(crate) fn time_wait_ns(&self, netns: u32) -> u64 {
        self.kernel_of(netns).unwrap_or(&self.kernel).time_wait_ns()
    }

    /// What the timers of a census say about that, in seconds; `None` for a minute.
    pub(crate) fn measure(&mut self, netns: u32, seconds: Option<u32>) {
        let is_own = netns == self.host.netns;
        let Some(namespace) = self.namespaces.iter_mut().find(|namespace| namespace.netns == netns) else { return };
        let before = std::mem::replace(&mut namespace.measured_s, seconds);
        let own = is_own.then_some(&mut self.kernel);
        for kernel in own.into_iter().chain(namespace.kernel.as_mut()) {
            // The kernel's own sysctl is the better witness.
            if kernel.time_wait_s == before {
                kernel.time_wait_s = seconds;
            }
        }
    }

    /// Namespaces that exist, as far as is known.
    pub fn present(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter().filter(|namespace| !namespace.gone)
    }

    /// The kernel's count of TIME_WAIT sockets in all namespaces together.
    pub fn time_wait(&self) -> u64 {
        let others = self.present().filter(|namespace| namespace.netns != self.host.netns);
        let counts = others.filter_map(|namespace| Some(namespace.kernel.as_ref()?.time_wait));
        counts.fold(self.kernel.time_wait, u64::saturating_add)
    }

    /// The entry of a namespace; `None` when there are too many.
    pub(crate) fn place_namespace(&mut self, netns: u32) -> Option<&mut Namespace> {
        let all = &mut self.namespaces;
        let at = match all.iter().position(|namespace| namespace.netns == netns) {
            Some(at) => at,
            None => {
                if all.len() >= NAMESPACES {
                    let oldest = all.iter().position(|namespace| namespace.gone)?;
                    all.remove(oldest);
                }
                all.push(Namespace { netns, inode: netns, ..Namespace::default() });
                all.len() - 1
            }
        };
        all.get_mut(at)
    }

    /// A namespace was found, or its name or reachability changed.
    pub(crate) fn name(&mut self, netns: u32, inode: u32, name: String, refused: Option<String>) {
        if let Some(namespace) = self.place_namespace(netns) {
            if namespace.gone {
                // It was not found for a while, or this trace knows namespaces by inode numbers alone.
                *namespace = Namespace { netns, ..Namespace::default() };
            }
            namespace.inode = inode;
            namespace.name = name;
            namespace.refused = refused;
        }
    }

    /// A namespace is gone.
    pub(crate) fn forget(&mut self, netns: u32) {
        if let Some(namespace) = self.namespaces.iter_mut().find(|namespace| namespace.netns == netns) {
            let name = std::mem::take(&mut namespace.name);
            // Its sysctls are still needed for the budgets of its rows.
            let kernel = namespace.kernel.take();
            let inode = namespace.inode;
            *namespace = Namespace { netns, inode, name, kernel, gone: true, ..Namespace::default() };
        }
        self.sum_up();
    }

    /// Adds up the censuses of all namespaces.
    pub(crate) fn sum_up(&mut self) {
        let mut coverage = Coverage::default();
        let mut oldest = None;
        let mut complete = true;
        for namespace in self.present() {
            let Some(at_ns) = namespace.census_at_ns else { continue };
            // Where there is nothing in TIME_WAIT, nobody asks how old that news is.
            let matters = namespace.netns == self.host.netns || namespace.coverage.census > 0;
            if matters || oldest.is_none() {
                oldest = Some(oldest.map_or(at_ns, |oldest: u64| oldest.min(at_ns)));
            }
            complete &= namespace.census_complete;
            coverage.census += namespace.coverage.census;
            coverage.attributed += namespace.coverage.attributed;
            coverage.before_start += namespace.coverage.before_start;
            coverage.unattributed += namespace.coverage.unattributed;
        }
        self.coverage = coverage;
        self.census_at_ns = oldest;
        self.census_complete = complete && oldest.is_some();
    }
}

/// Which processes own open sockets, by the last search.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SocketOwners {
    /// When it ended; `None` before the first.
    pub at_ns: Option<u64>,
    /// No process was left out.
    pub complete: bool,
    /// What it found.
    pub rows: Vec<crate::event::SocketOwner>,
}
