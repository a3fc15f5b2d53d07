//! What is known at one moment, as a value: rows, groups, budgets, failures, coverage and findings.
//!
//! A [`Snapshot`] is taken from a [`State`](crate::state::State) and never changes. It is shared as an `Arc`; a view
//! that keeps the `Arc` has frozen the screen. Groups are computed on demand, once for each grouping.
//!
//! Every number is exact for what was traced unless its doc says *inferred*.

mod groups;
mod holders;
mod image;
mod likely;
mod related;
mod row;
mod sockets;
mod take;

pub use crate::containers::RunsIn;
pub use crate::counts::Counts;
use crate::event::{ContainerFacts, Owner, ProcessFacts, ProcessKey};
use crate::failure::FailureRow;
use crate::finding::Finding;
use crate::history::History;
pub use crate::keys::{DestKey, DestRow, GroupKey, Kin};
pub use crate::state::Cell;
use crate::state::ProcessRow;
use crate::strangers::Strangers;
pub use crate::summary::{
    Coverage, Ends, NamedCounts, Namespace, Provenance, SocketOwners, Substate, Summary, Totals, Waiting, Window,
};
use crate::table::Map;
pub use groups::{GROUPINGS, GroupBy, Grouping};
use holders::PortHolders;
pub use holders::{PortHolder, PortState};
pub use image::ImageError;
pub use likely::{Likely, LikelyOwner};
pub use row::{DestinationRow, Row, Share};
pub use sockets::{OwnerRef, Sockets, TimeWaitSocket};
use std::sync::{Arc, OnceLock};

/// What is known at one moment.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Snapshot {
    summary: Summary,
    processes: Vec<ProcessRow>,
    destinations: Vec<DestinationRow>,
    /// In the order of their processes.
    cells: Vec<Joined>,
    sockets: Sockets,
    lists_sockets: bool,
    history: Option<History>,
    failures: Vec<FailureRow>,
    socket_owners: SocketOwners,
    waiting: Vec<Waiting>,
    #[serde(skip)]
    findings: Vec<Finding>,
    facts: Arc<Map<ProcessKey, Arc<ProcessFacts>>>,
    cgroups: Arc<Map<u64, Arc<ProcessFacts>>>,
    containers: Arc<Map<Box<str>, Arc<ContainerFacts>>>,
    users: Arc<Map<u32, String>>,
    #[serde(skip)]
    names: OnceLock<row::Names>,
    #[serde(skip)]
    port_holders: OnceLock<PortHolders>,
    #[serde(skip)]
    likely: OnceLock<Likely>,
    #[serde(skip)]
    last_of_pid: OnceLock<Map<u32, ProcessKey>>,
    #[serde(skip)]
    users_of_destinations: OnceLock<Map<u32, Vec<(usize, Share)>>>,
    #[serde(skip)]
    groups: [OnceLock<Vec<Row>>; GROUPINGS.len()],
}

/// A cell, with the indices of its rows in the lists.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Joined {
    process: usize,
    destination: usize,
    cell: Cell,
}

impl Snapshot {
    /// Host-wide parts.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Rows of a grouping, in no particular order. The unknown and the other are among them when anything was counted
    /// there.
    pub fn rows(&self, by: GroupBy) -> &[Row] {
        self.groups[by as usize].get_or_init(|| row::group(self, by))
    }

    /// Destinations, in no particular order.
    pub fn destinations(&self) -> &[DestinationRow] {
        &self.destinations
    }

    /// Who has the ports of a destination's budget, and in which state: the ones with the most ports first, last what nobody is
    /// known to have. Those of processes are *inferred* where the last search for socket owners is older than the census.
    pub fn port_holders(&self, row: &DestinationRow) -> Vec<PortHolder> {
        self.port_holders.get_or_init(|| PortHolders::of(self)).of_row(row)
    }

    /// Who most likely closed the live TIME_WAIT sockets without a known closer. *Inferred*.
    pub fn likely_owners(&self) -> &Likely {
        self.likely.get_or_init(|| Likely::of(self))
    }

    /// Figures of single processes with single destinations; rows that stand for several processes are left out.
    pub fn cells(&self) -> impl Iterator<Item = (&Owner, &DestinationRow, &Cell)> {
        self.cells.iter().filter_map(|joined| {
            let process = &self.processes[joined.process];
            let owner = process.owner.as_ref().filter(|_| matches!(process.key, GroupKey::Process(_)))?;
            Some((owner, &self.destinations[joined.destination], &joined.cell))
        })
    }

    /// Figures of merged one-shot processes with single destinations: an example process, the number of processes, and
    /// when the first and the last of them started, nanoseconds since boot.
    pub fn one_shot_cells(&self) -> impl Iterator<Item = (&Owner, &DestinationRow, &Cell, u64, (u64, u64))> {
        self.cells.iter().filter_map(|joined| {
            let process = &self.processes[joined.process];
            let owner = process.owner.as_ref().filter(|_| matches!(process.key, GroupKey::OneShots(_)))?;
            let row = &self.destinations[joined.destination];
            Some((owner, row, &joined.cell, process.processes, process.started_ns))
        })
    }

    /// Live TIME_WAIT sockets; empty unless they were requested.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Whether they were requested.
    pub fn lists_sockets(&self) -> bool {
        self.lists_sockets
    }

    /// Figures over time; `None` unless the state keeps a history.
    pub fn history(&self) -> Option<&History> {
        self.history.as_ref()
    }

    /// Calls that failed because there was no address or port, in no particular order.
    pub fn failures(&self) -> &[FailureRow] {
        &self.failures
    }

    /// Which processes own open sockets.
    pub fn socket_owners(&self) -> &SocketOwners {
        &self.socket_owners
    }

    /// Open sockets that wait for either side to close, the most numerous kinds first; at most 256 kinds.
    pub fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// What is wrong, the most severe first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The same with other findings, for tests of views.
    pub fn with_findings(self, findings: Vec<Finding>) -> Self {
        Self { findings, ..self }
    }

    /// What `/proc` said of a process.
    pub fn facts(&self, key: ProcessKey) -> Option<&ProcessFacts> {
        self.facts.get(&key).map(|facts| &**facts)
    }

    /// The same of the process that had a PID last.
    pub fn facts_of_pid(&self, tgid: u32) -> Option<&ProcessFacts> {
        let last = self.last_of_pid.get_or_init(|| {
            let mut last: Map<u32, ProcessKey> = Map::default();
            for key in self.facts.keys() {
                let found = last.entry(key.tgid).or_insert(*key);
                *found = (*found).max(*key);
            }
            last
        });
        self.facts(*last.get(&tgid)?)
    }

    /// Of the TIME_WAIT sockets that a process created, those that unrelated processes opened, and how many it created.
    pub fn strangers(&self, key: ProcessKey) -> Option<(&Strangers, u64)> {
        let mut with = self.processes.iter().filter_map(|row| Some((row.strangers.as_deref()?, row)));
        let (strangers, row) = with.find(|(_, row)| row.owner.is_some_and(|owner| owner.key == key))?;
        Some((strangers, row.meter.created))
    }

    /// What is known of a cgroup from any of its processes.
    pub fn facts_of_cgroup(&self, cgroup: u64) -> Option<&ProcessFacts> {
        self.cgroups.get(&cgroup).map(|facts| &**facts)
    }

    /// What a runtime said of the container that these facts show.
    pub fn container_of(&self, facts: Option<&ProcessFacts>) -> Option<&ContainerFacts> {
        self.containers.get(facts?.container.as_deref()?).map(|said| &**said)
    }

    /// Where a process of these facts runs.
    pub fn runs_in<'a>(&'a self, facts: Option<&'a ProcessFacts>) -> RunsIn<'a> {
        RunsIn { facts, container: self.container_of(facts) }
    }

    /// A user's name.
    pub fn user_name(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }
}
