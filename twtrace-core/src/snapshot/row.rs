//! Rows, as sums over cells.

use super::groups::{GroupBy, Member};
use super::{Joined, Snapshot};
use crate::asked::Asked;
use crate::counts::Counts;
use crate::event::{Comm, Owner, ProcessFacts, ProcessKey};
use crate::history::{History, Series};
use crate::keys::{DestRow, GroupKey, Kin};
use crate::pattern::Pattern;
use crate::ports::Budget;
use crate::sketch::Sketch;
use crate::state::{Meter, ONE_SHOT, ProcessRow, TIME_WAIT_NS, program_of};
use crate::strangers::Strangers;
use crate::table::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

/// One-shot processes that are merged.
const MANY: u64 = 3;

/// A row of a grouping.
#[derive(Clone, Debug)]
pub struct Row {
    /// The same for the same key in every snapshot.
    pub id: u64,
    /// Identity.
    pub key: GroupKey,
    /// The process as last seen; for several, one of them.
    pub owner: Option<Owner>,
    /// Number of process rows that did not fit and were merged into this one.
    pub folded: u64,
    /// Distinct processes. A lower bound in the other row, where one may have been counted twice.
    pub processes: u64,
    /// Figures. Peaks of several processes follow from `series`; without it they are lower bounds, because it is
    /// unknown whether they were at the same time.
    pub counts: Counts,
    /// TIME_WAIT sockets created over time; empty unless the state keeps a history.
    pub series: Series,
    /// Of the TIME_WAIT sockets that it created, those that unrelated processes opened; none in rows of destinations.
    pub strangers: Option<Box<Strangers>>,
    /// Indices of its processes, or of its destinations.
    members: Vec<usize>,
}

impl Row {
    /// Whether peaks are lower bounds.
    pub fn is_of_several(&self) -> bool {
        self.members.len() > 1 || self.folded > 0
    }
}

/// A destination.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct DestinationRow {
    /// Its own, never used for another one.
    pub id: u32,
    /// Identity.
    pub key: DestRow,
    /// Number of destinations that did not fit and were merged into this one.
    pub folded: u64,
    /// Figures.
    pub counts: Counts,
    /// TIME_WAIT sockets created over time; empty unless the state keeps a history.
    pub series: Series,
    /// Full sockets that use a port to it, by the last census of its namespace.
    pub open: u64,
    /// Of these, ESTABLISHED for at least two seconds and several mean lifetimes.
    pub stable: u64,
    /// Of these, with a port that bind(2) had taken before.
    pub bound: u64,
    /// Its TIME_WAIT sockets that have been in substate FIN_WAIT2 for at least three seconds.
    pub fin_wait2_aged: u64,
    /// How its connections are used.
    pub pattern: Pattern,
    /// How long connect(2) took: from SYN_SENT to ESTABLISHED, or to the failure of the search for a port;
    /// microseconds, quantiles within 6%. The search is part of it and becomes slow before it fails.
    pub connect_us: Sketch,
    /// Port budget, for active destinations.
    pub budget: Option<Budget>,
    /// The budget at a moment when connects found no port.
    pub exhausted: Option<Budget>,
    /// What was asked of its ports in the last minute, where connects found none.
    pub asked: Option<Arc<Asked>>,
}

/// Processes, and what those that were merged with others are known by.
#[derive(Debug, Default)]
pub(crate) struct Selected {
    processes: HashSet<ProcessKey, FixedState>,
    /// Command and parent of one-shots.
    merged: HashSet<(Comm, u32), FixedState>,
    /// Commands of merged programs.
    programs: HashSet<Comm, FixedState>,
}

impl Selected {
    /// Whether a process is one of them.
    pub(crate) fn has(&self, process: ProcessKey, comm: Comm, ppid: u32) -> bool {
        self.processes.contains(&process) || self.merged.contains(&(comm, ppid)) || self.programs.contains(&comm)
    }
}

/// Figures that a row of one kind shares with a row of the other kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// TIME_WAIT sockets created.
    pub time_wait_created: u64,
    /// Alive now.
    pub time_wait_live: u64,
    /// Connections ended.
    pub connections: u64,
}

impl Share {
    fn add(&mut self, joined: &Joined) {
        let counts = &joined.cell.counts;
        self.time_wait_created = self.time_wait_created.saturating_add(counts.time_wait_created);
        self.time_wait_live = self.time_wait_live.saturating_add(counts.time_wait_live);
        self.connections = self.connections.saturating_add(joined.cell.connections);
    }
}

impl Joined {
    /// Whether nothing was counted: neither for the process that closed nor for the one that opened or accepted.
    fn is_nothing(&self) -> bool {
        self.cell.connections == 0 && self.cell.counts.is_empty()
    }
}

/// What is computed for each process row, for all groupings.
#[derive(Debug)]
pub(super) struct Names {
    programs: Vec<Option<Arc<str>>>,
    /// It is one of many processes with one or two connections each.
    one_shots: Vec<bool>,
}

impl Names {
    fn of(snapshot: &Snapshot) -> Self {
        let programs: Vec<_> = snapshot.processes.iter().map(|row| snapshot.program(row)).collect();
        let kin: Vec<Option<Kin>> = snapshot
            .processes
            .iter()
            .zip(&programs)
            .map(|(row, program)| {
                let is_one = matches!(row.key, GroupKey::Process(_)) && row.meter.connections <= ONE_SHOT;
                let is_some = matches!(row.key, GroupKey::OneShots(_));
                let owner = row.owner.as_ref().filter(|_| is_one || is_some)?;
                Some(Kin::of(owner, Arc::clone(program.as_ref()?)))
            })
            .collect();
        let mut numbers: Map<&Kin, u64> = Map::default();
        for (row, kin) in snapshot.processes.iter().zip(&kin) {
            if let Some(kin) = kin {
                *numbers.entry(kin).or_default() += row.processes;
            }
        }
        let one_shots = kin.iter().map(|kin| kin.as_ref().is_some_and(|kin| numbers[kin] >= MANY)).collect();
        Self { programs, one_shots }
    }
}

impl Snapshot {
    /// Whether a process is one of many with a connection or two each.
    pub(super) fn is_one_shot(&self, process: usize) -> bool {
        self.names().one_shots.get(process).copied().unwrap_or(false)
    }

    fn names(&self) -> &Names {
        self.names.get_or_init(|| Names::of(self))
    }

    /// What is known of a row's process, or else of its cgroup.
    pub(super) fn facts_of(&self, row: &ProcessRow) -> Option<&ProcessFacts> {
        let owner = row.owner.as_ref()?;
        self.facts(owner.key).or_else(|| self.facts_of_cgroup(owner.cgroup))
    }

    /// The processes of its rows.
    pub(crate) fn selected(&self) -> Selected {
        let mut selected = Selected::default();
        for row in &self.processes {
            match &row.key {
                GroupKey::Process(key) => _ = selected.processes.insert(*key),
                GroupKey::OneShots(kin) => _ = selected.merged.insert((kin.comm, kin.ppid)),
                _ => _ = row.owner.map(|owner| selected.programs.insert(owner.comm)),
            }
        }
        selected
    }

    /// What an operator calls the program of a row.
    pub(super) fn program(&self, row: &ProcessRow) -> Option<Arc<str>> {
        match &row.key {
            GroupKey::Process(key) => Some(program_of(row.owner.as_ref()?, self.facts(*key)).into()),
            GroupKey::OneShots(kin) => Some(Arc::clone(&kin.program)),
            GroupKey::Program(program) => Some(Arc::clone(program)),
            _ => None,
        }
    }

    fn key(&self, by: GroupBy, process: usize, destination: &DestRow) -> GroupKey {
        let row = &self.processes[process];
        let names = self.names();
        let member = Member {
            owner: row.owner.as_ref(),
            program: names.programs[process].as_ref(),
            runs_in: self.runs_in(self.facts_of(row)),
            is_one_shot: names.one_shots[process] || matches!(row.key, GroupKey::OneShots(_)),
            is_moved: !matches!(row.key, GroupKey::Process(_)),
            destination,
        };
        let unknown = if row.key == GroupKey::Unknown { GroupKey::Unknown } else { GroupKey::Other };
        (by.grouping().key)(&member).unwrap_or(unknown)
    }

    /// Destinations of a row, in no particular order.
    pub fn destinations_of(&self, by: GroupBy, row: &Row) -> Vec<(&DestinationRow, Share)> {
        let mut shares: BTreeMap<usize, Share> = BTreeMap::new();
        self.each_cell_of(by, row, |joined| {
            if !joined.is_nothing() {
                shares.entry(joined.destination).or_default().add(joined);
            }
        });
        shares.into_iter().map(|(at, share)| (&self.destinations[at], share)).collect()
    }

    /// All figures of a row with each of its destinations, in no particular order. Peaks are lower bounds.
    pub fn counts_by_destination(&self, by: GroupBy, row: &Row) -> Vec<(&DestinationRow, Counts)> {
        let mut sums: BTreeMap<usize, Counts> = BTreeMap::new();
        self.each_cell_of(by, row, |joined| sums.entry(joined.destination).or_default().absorb(&joined.cell.counts));
        let some = sums.into_iter().filter(|(_, counts)| !counts.is_empty());
        some.map(|(at, counts)| (&self.destinations[at], counts)).collect()
    }

    /// The figures of a row with the destinations that are wanted. Peaks are lower bounds.
    pub fn counts_in(&self, by: GroupBy, row: &Row, is_wanted: impl Fn(&DestinationRow) -> bool) -> Counts {
        let mut counts = Counts::default();
        self.each_cell_of(by, row, |joined| {
            if is_wanted(&self.destinations[joined.destination]) {
                counts.absorb(&joined.cell.counts);
            }
        });
        counts
    }

    fn each_cell_of(&self, by: GroupBy, row: &Row, mut add: impl FnMut(&Joined)) {
        if by.is_of_destinations() {
            let is_member = marks(&row.members, self.destinations.len());
            self.cells.iter().filter(|joined| is_member[joined.destination]).for_each(add);
        } else {
            for process in &row.members {
                let first = self.cells.partition_point(|joined| joined.process < *process);
                self.cells[first..].iter().take_while(|joined| joined.process == *process).for_each(&mut add);
            }
        }
    }

    /// Rows of processes that share figures with a destination, in no particular order.
    pub fn processes_of(&self, destination: u32) -> Vec<(&Row, Share)> {
        let rows = self.rows(GroupBy::Process);
        let users = self.users_of_destinations.get_or_init(|| self.find_users());
        users.get(&destination).into_iter().flatten().map(|(row, share)| (&rows[*row], *share)).collect()
    }

    /// For each destination, by its id, the places of the rows of processes that use it, in their order.
    fn find_users(&self) -> Map<u32, Vec<(usize, Share)>> {
        let mut row_of = vec![None; self.processes.len()];
        for (at, row) in self.rows(GroupBy::Process).iter().enumerate() {
            row.members.iter().for_each(|process| row_of[*process] = Some(at));
        }
        let mut users: Map<u32, BTreeMap<usize, Share>> = Map::default();
        for joined in self.cells.iter().filter(|joined| !joined.is_nothing()) {
            if let Some(row) = row_of[joined.process] {
                let id = self.destinations[joined.destination].id;
                users.entry(id).or_default().entry(row).or_default().add(joined);
            }
        }
        users.into_iter().map(|(id, shares)| (id, shares.into_iter().collect())).collect()
    }

    /// All figures of those rows with the destination, in no particular order. Peaks are lower bounds.
    pub fn counts_by_process(&self, destination: u32) -> Vec<(&Row, Counts)> {
        let rows = self.processes_of(destination).into_iter();
        let counts = |row| self.counts_in(GroupBy::Process, row, |to| to.id == destination);
        rows.map(|(row, _)| (row, counts(row))).filter(|(_, counts)| !counts.is_empty()).collect()
    }

    /// For each row of a grouping, in their order, whether any of these rows of processes is in it.
    pub fn have_any_of(&self, by: GroupBy, members: &[&Row]) -> Vec<bool> {
        let processes: Vec<usize> = members.iter().flat_map(|row| row.members.iter().copied()).collect();
        let is_one = marks(&processes, self.processes.len());
        let is_in = if by.is_of_destinations() {
            let cells = self.cells.iter().filter(|joined| is_one[joined.process]);
            marks(&cells.map(|joined| joined.destination).collect::<Vec<_>>(), self.destinations.len())
        } else {
            is_one
        };
        self.rows(by).iter().map(|row| row.members.iter().any(|member| is_in[*member])).collect()
    }

    /// The rows of single processes that are in a row of another grouping.
    pub fn members_of<'a>(&'a self, by: GroupBy, row: &'a Row) -> impl Iterator<Item = &'a Row> {
        let is_in: Vec<bool> = if by.is_of_destinations() {
            let is_member = marks(&row.members, self.destinations.len());
            let cells = self.cells.iter().filter(|joined| is_member[joined.destination]);
            marks(&cells.map(|joined| joined.process).collect::<Vec<_>>(), self.processes.len())
        } else {
            marks(&row.members, self.processes.len())
        };
        self.rows(by.members()).iter().filter(move |row| row.members.iter().any(|member| is_in[*member]))
    }
}

/// Which of `number` indices are among the members.
fn marks(members: &[usize], number: usize) -> Vec<bool> {
    let mut marks = vec![false; number];
    members.iter().for_each(|member| marks[*member] = true);
    marks
}

/// Sums the cells of each group.
pub(super) fn group(snapshot: &Snapshot, by: GroupBy) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut places: Map<GroupKey, usize> = Map::default();
    let mut place = |rows: &mut Vec<Row>, key: GroupKey| {
        *places.entry(key).or_insert_with_key(|key| {
            rows.push(Row {
                id: FixedState::default().hash_one(key),
                key: key.clone(),
                owner: None,
                folded: 0,
                processes: 0,
                counts: Counts::default(),
                series: Series::default(),
                strangers: None,
                members: Vec::new(),
            });
            rows.len() - 1
        })
    };
    if by.is_of_destinations() {
        let mut processes: Vec<Vec<usize>> = Vec::new();
        let mut is_placed = vec![false; snapshot.destinations.len()];
        for joined in &snapshot.cells {
            let key = snapshot.key(by, joined.process, &snapshot.destinations[joined.destination].key);
            let at = place(&mut rows, key);
            rows[at].counts.absorb(&joined.cell.counts);
            // Each destination is in one row.
            if !std::mem::replace(&mut is_placed[joined.destination], true) {
                rows[at].members.push(joined.destination);
            }
            processes.resize(rows.len(), Vec::new());
            if processes[at].last() != Some(&joined.process) {
                processes[at].push(joined.process);
            }
        }
        for (row, processes) in rows.iter_mut().zip(&processes) {
            let members: Vec<&DestinationRow> =
                row.members.iter().map(|member| &snapshot.destinations[*member]).collect();
            row.folded = members.iter().map(|member| member.folded).sum();
            row.processes = processes.iter().map(|process| snapshot.processes[*process].processes).sum();
            for member in &members {
                row.counts.created_peak_per_s = row.counts.created_peak_per_s.max(member.counts.created_peak_per_s);
                row.counts.time_wait_live_peak = row.counts.time_wait_live_peak.max(member.counts.time_wait_live_peak);
                row.series.merge(&member.series);
            }
        }
        peaks(&mut rows, snapshot.history());
        return rows;
    }
    // Cells are in process order.
    let mut cells = snapshot.cells.iter().peekable();
    for (process, of) in snapshot.processes.iter().enumerate() {
        let at = place(&mut rows, snapshot.key(by, process, &DestRow::Other));
        let row = &mut rows[at];
        while let Some(joined) = cells.next_if(|joined| joined.process == process) {
            row.counts.absorb(&joined.cell.counts);
        }
        row.owner = of.owner.or(row.owner);
        Strangers::absorb(&mut row.strangers, of.strangers.as_deref());
        row.folded += of.folded;
        row.processes += of.processes;
        row.members.push(process);
        of.meter.show(&mut row.counts, &mut row.series);
    }
    peaks(&mut rows, snapshot.history());
    rows
}

/// Peaks of several processes, from what they created over time. *Inferred*: each TIME_WAIT socket is assumed to live
/// for a minute.
fn peaks(rows: &mut [Row], history: Option<&History>) {
    let Some(history) = history else { return };
    let width_s = history.bucket_ns() as f64 / 1e9;
    let minute = ((TIME_WAIT_NS as f64 / 1e9 / width_s).round() as usize).max(1);
    // The share of a bucket that counts when it is wider than a minute.
    let share = (TIME_WAIT_NS as f64 / 1e9 / width_s).min(1.0);
    for row in rows.iter_mut().filter(|row| row.is_of_several()) {
        let values = row.series.values(history);
        let most = f64::from(values.iter().copied().max().unwrap_or(0)) / width_s.max(1.0);
        let mut sum = 0_u64;
        let mut alive = 0_u64;
        for (at, value) in values.iter().enumerate() {
            sum += u64::from(*value);
            sum -= at.checked_sub(minute).map_or(0, |gone| u64::from(values[gone]));
            alive = alive.max(sum);
        }
        let counts = &mut row.counts;
        counts.created_peak_per_s = counts.created_peak_per_s.max(most.ceil() as u64);
        counts.time_wait_live_peak = counts.time_wait_live_peak.max((alive as f64 * share) as u64);
    }
}

impl Meter {
    /// Adds what is not a sum over cells.
    pub(super) fn show(&self, counts: &mut Counts, series: &mut Series) {
        counts.created_peak_per_s = counts.created_peak_per_s.max(self.peak_per_s);
        counts.time_wait_live_peak = counts.time_wait_live_peak.max(self.live_peak).max(counts.time_wait_live);
        series.merge(&self.series);
    }
}
