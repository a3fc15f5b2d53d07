//! Connections of each process with each destination: one bounded table of processes times destinations.
//!
//! Every figure that can be summed is counted in one cell, so that all groupings and filters are sums over cells, and
//! totals do not change when rows move. Peaks and figures over time cannot be summed: each process and each destination
//! has its own.
//!
//! A full table moves rows into coarser ones: a process with one or two connections moves to its [`Kin`], the processes
//! that its script started; other processes and kin move to their program, and programs to the row for all others. Rows
//! with the smallest figures move first, and a program counts eight times: a row that matters is not lost behind
//! thousands that do not.

use super::facts::ProcessFactsTable;
use super::owners::{Owners, UNKNOWN};
use super::rows::{Cell, Destination, ProcessRow};
use crate::counts::Counts;
use crate::event::Owner;
use crate::history::Scale;
use crate::keys::{DestRow, GroupKey, Kin};
use crate::table::{BoundedTable, RowRef};
use std::sync::Arc;

/// A one-shot process has at most this many connections.
pub(crate) const ONE_SHOT: u64 = 2;

/// Factor on the figures of a whole program when rows have to move.
const PROGRAM: u64 = 8;

/// One in this many rows of a full table moves at a time.
const SHARE: usize = 8;

/// Rows with more than this many times the figures of the smallest row stay.
const ALIKE: u64 = 4;

/// Rows whose figures are at most this are treated alike.
const FEW: u64 = 8;

/// At most this many kin are searched before one is created.
const ALIKE_KIN: usize = 16;

/// Bounds of the tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Processes, and destinations.
    pub rows: usize,
    /// Cells: pairs of a process and a destination.
    pub cells: usize,
    /// Live TIME_WAIT sockets.
    pub live: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 8_192, cells: 32_768, live: 262_144 }
    }
}

/// The tables.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    pub(crate) owners: Owners,
    pub(crate) processes: BoundedTable<ProcessRow>,
    pub(crate) destinations: BoundedTable<Destination>,
    pub(crate) cells: BoundedTable<Cell>,
    pub(crate) facts: ProcessFactsTable,
}

impl Accounts {
    pub(crate) fn new(limits: &Limits) -> Self {
        let mut processes = BoundedTable::new(&[GroupKey::Other, GroupKey::Unknown], limits.rows);
        let unknown = processes.get_or_insert(GroupKey::Unknown).0;
        Self {
            owners: Owners::new(unknown),
            processes,
            destinations: BoundedTable::new(&[DestRow::Other], limits.rows),
            cells: BoundedTable::new(&[(RowRef::OTHER.id(), RowRef::OTHER.id())], limits.cells),
            facts: ProcessFactsTable::default(),
        }
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.owners.size() + self.processes.size() + self.destinations.size() + self.cells.size()
    }

    /// The number of an owner. It stays valid for as long as it is retained.
    pub(crate) fn number(&mut self, owner: Option<&Owner>) -> u32 {
        let Some(owner) = owner else { return UNKNOWN };
        let key = GroupKey::Process(owner.key);
        if let Some((number, row)) = self.owners.find(owner)
            && self.processes.has(row)
            && self.processes.row(row).key == key
        {
            // A process has different names before and after an exec: keep the one that was seen last.
            self.processes.row_mut(row).owner = Some(*owner);
            return number;
        }
        if !self.processes.has_room() && self.processes.find(&key).is_none() {
            self.move_processes();
        }
        let (place, is_new) = self.processes.get_or_insert(key);
        let row = self.processes.row_mut(place);
        row.owner = Some(*owner);
        if is_new {
            row.processes = 1;
            row.started_ns = (owner.key.start_ns, owner.key.start_ns);
        }
        self.owners.insert(owner, place)
    }

    /// A number for an owner whose row may have moved or been dropped in the meantime: it has its own row again.
    pub(crate) fn renumber(&mut self, number: u32) -> u32 {
        let owner = self.owners.owner(number).copied();
        self.number(owner.as_ref())
    }

    /// The row of an owner.
    pub(crate) fn process(&self, number: u32) -> RowRef {
        self.processes.resolve(self.owners.row(number))
    }

    /// The row of a destination.
    pub(crate) fn destination(&mut self, key: DestRow) -> RowRef {
        if let Some(place) = self.destinations.find(&key) {
            return place;
        }
        if !self.destinations.has_room() {
            self.move_destinations();
        }
        self.destinations.get_or_insert(key).0
    }

    fn cell_key(&self, number: u32, destination: RowRef) -> (u32, u32) {
        (self.process(number).id(), self.destinations.resolve(destination).id())
    }

    /// The cell of an owner and a destination. It is valid until the next call, which may move rows.
    pub(crate) fn cell(&mut self, number: u32, destination: RowRef) -> RowRef {
        loop {
            let key = self.cell_key(number, destination);
            if let Some(cell) = self.cells.find(&key) {
                return cell;
            }
            if self.cells.has_room() {
                return self.cells.get_or_insert(key).0;
            }
            if !self.make_room() {
                // With hardly any rows left, there is nothing to move, and the number of rows is the bound.
                let key = self.cell_key(number, destination);
                return self.cells.get_or_insert(key).0;
            }
        }
    }

    /// A cell that was looked up before, wherever it is now.
    pub(crate) fn cell_again(&mut self, cell: RowRef, number: u32, destination: RowRef) -> RowRef {
        if self.cells.has(cell) { cell } else { self.cell(number, destination) }
    }

    /// Changes the figures of an owner with a destination.
    pub(crate) fn add(&mut self, number: u32, destination: RowRef, change: impl FnOnce(&mut Counts)) -> RowRef {
        let cell = self.cell(number, destination);
        change(&mut self.cells.row_mut(cell).counts);
        cell
    }

    /// A process took part in a connection that has ended, or in a call that failed.
    pub(crate) fn took_part(&mut self, number: u32) {
        let place = self.process(number);
        self.processes.row_mut(place).meter.connections += 1;
    }

    /// Counts one created TIME_WAIT socket for rates and peaks.
    pub(crate) fn created(
        &mut self,
        (number, destination, cell): (u32, RowRef, RowRef),
        at_ns: u64,
        mut scale: Option<&mut Scale>,
    ) {
        let process = self.process(number);
        self.processes.row_mut(process).meter.created += 1;
        self.processes.tick_rate(process, at_ns, scale.as_deref_mut());
        self.destinations.row_mut(destination).meter.created += 1;
        self.destinations.tick_rate(destination, at_ns, scale);
        self.cells.tick_rate(cell, at_ns, None);
    }

    /// Computes all rates again.
    pub(crate) fn refresh_rates(&mut self, now_ns: u64, start_ns: u64) {
        self.processes.refresh_rates(now_ns, start_ns);
        self.destinations.refresh_rates(now_ns, start_ns);
        self.cells.refresh_rates(now_ns, start_ns);
    }

    /// Resets what was counted so far, and keeps what is alive.
    pub(crate) fn restart(&mut self) {
        self.processes.restart();
        self.destinations.restart();
        self.cells.restart();
    }

    /// Moves rows of the longer table, because there are too many cells. `false` when that frees none.
    fn make_room(&mut self) -> bool {
        let before = self.cells.len();
        if self.processes.len() >= self.destinations.len() {
            self.move_processes();
        } else {
            self.move_destinations();
        }
        self.cells.len() < before
    }

    /// Moves the processes that matter least, until one more fits.
    fn move_processes(&mut self) {
        loop {
            let costs = self.processes.movable().map(|(place, row)| (cost(row), row.id, place)).collect();
            let mut alike = Vec::new();
            let moves: Vec<_> = least(costs, self.processes.len() / SHARE)
                .into_iter()
                .map(|place| (place, self.coarser(self.processes.row(place), &mut alike)))
                .collect();
            if moves.is_empty() {
                return;
            }
            let moved = self.processes.move_rows(&moves);
            self.owners.follow(&moved);
            self.move_cells(|process, destination| Some((moved.get(process)?.id(), destination)));
            if self.processes.has_room() {
                return;
            }
        }
    }

    /// Moves destinations of least weight to the row for all others.
    fn move_destinations(&mut self) {
        let weights = self.destinations.movable().map(|(place, row)| (row.weight(), row.id, place)).collect();
        let least = least(weights, self.destinations.len() / SHARE);
        let moves: Vec<_> = least.into_iter().map(|place| (place, DestRow::Other)).collect();
        let moved = self.destinations.move_rows(&moves);
        self.move_cells(|process, destination| Some((process, moved.get(destination)?.id())));
    }

    /// Moves the cells for which `to` gives another key.
    fn move_cells(&mut self, to: impl Fn(u32, u32) -> Option<(u32, u32)>) {
        let cells = self.cells.movable();
        let moves: Vec<_> =
            cells.filter_map(|(place, cell)| Some((place, to(cell.process, cell.destination)?))).collect();
        self.cells.move_rows(&moves);
    }

    /// The key that a row moves to. For `alike` see [`Self::kin`].
    fn coarser(&self, row: &ProcessRow, alike: &mut Vec<Arc<Kin>>) -> GroupKey {
        match (&row.key, &row.owner) {
            (GroupKey::OneShots(kin), _) => GroupKey::Program(Arc::clone(&kin.program)),
            (GroupKey::Process(_), Some(owner)) if is_one_shot(row) => GroupKey::OneShots(self.kin(owner, alike)),
            (GroupKey::Process(_), Some(owner)) => GroupKey::Program(self.facts.program(owner).into()),
            _ => GroupKey::Other,
        }
    }

    /// The kin of a process. Most processes that a script starts are gone before anything is known of them, and many
    /// move together: `alike` has some of their kin, which are then not created again.
    fn kin(&self, owner: &Owner, alike: &mut Vec<Arc<Kin>>) -> Arc<Kin> {
        let is_known = self.facts.get(owner.key).is_some();
        if !is_known && let Some(kin) = alike.iter().find(|kin| kin.has(owner)) {
            return Arc::clone(kin);
        }
        let kin = Arc::new(Kin::of(owner, self.facts.program(owner).into()));
        if !is_known && alike.len() < ALIKE_KIN {
            alike.push(Arc::clone(&kin));
        }
        kin
    }
}

impl Kin {
    /// The kin of a process and its program.
    pub(crate) fn of(owner: &Owner, program: Arc<str>) -> Self {
        let Owner { comm, ppid, parent_comm, uid, cgroup, .. } = *owner;
        Self { program, comm, ppid, parent_comm, uid, cgroup }
    }

    /// Whether a process belongs to it, apart from the program.
    fn has(&self, owner: &Owner) -> bool {
        let Owner { comm, ppid, parent_comm, uid, cgroup, .. } = *owner;
        (self.cgroup, self.ppid, self.uid, self.comm, self.parent_comm) == (cgroup, ppid, uid, comm, parent_comm)
    }
}

/// Whether a row is a process with at most two connections.
pub(crate) fn is_one_shot(row: &ProcessRow) -> bool {
    matches!(row.key, GroupKey::Process(_)) && row.meter.connections <= ONE_SHOT
}

/// What is lost when a row moves.
fn cost(row: &ProcessRow) -> u64 {
    match row.key {
        GroupKey::Process(_) if is_one_shot(row) => 0,
        GroupKey::Program(_) => row.meter.weight().saturating_mul(PROGRAM),
        _ => row.meter.weight(),
    }
}

/// At most `many` of the rows with the least weight, and none that weighs far more than the lightest. In order of age,
/// so that the result does not depend on how they were selected.
fn least(mut all: Vec<(u64, u32, RowRef)>, many: usize) -> Vec<RowRef> {
    let many = many.max(1).min(all.len());
    if many == 0 {
        return Vec::new();
    }
    all.select_nth_unstable_by_key(many - 1, |(weight, id, _)| (*weight, *id));
    all.truncate(many);
    let most = all.iter().map(|(weight, ..)| *weight).min().unwrap_or(0).saturating_mul(ALIKE).max(FEW);
    all.retain(|(weight, ..)| *weight <= most);
    all.sort_unstable_by_key(|(_, id, _)| *id);
    all.into_iter().map(|(_, _, place)| place).collect()
}
