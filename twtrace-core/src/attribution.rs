//! From an owner to the rows that its connections count for.

use crate::history::Scale;
use crate::input::Owner;
use crate::ledger::{Ledger, RowRef};
use crate::model::{Counts, GroupBy, GroupKey, Row};
use foldhash::fast::FixedState;
use hashbrown::{HashSet, HashTable};
use std::hash::BuildHasher;

/// Groupings, in the order of [`GroupBy`].
const GROUPINGS: usize = 5;

/// Number of the owner that nobody is.
pub(crate) const UNKNOWN: u32 = 0;

/// Owners kept although no socket refers to them, before they are looked through.
const IDLE_OWNERS: usize = 16_384;

/// The rows of one owner, one for each grouping.
pub(crate) type Rows = [RowRef; GROUPINGS];

#[derive(Clone, Debug)]
struct Entry {
    owner: Option<Owner>,
    rows: Rows,
    /// Live sockets and memories that refer to it.
    holds: u32,
}

/// The five ledgers of processes, and the owners whose connections they count.
///
/// An owner is a process at a time: after an exec, the same process is another owner with the same process row and
/// another command row.
#[derive(Clone, Debug)]
pub(crate) struct Attribution {
    ledgers: [Ledger<Row>; GROUPINGS],
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Numbers of the owners that new connections can be counted for. Numbers alone: an owner is as large as what is
    /// kept of a live socket, and there may be one for each.
    index: HashTable<u32>,
    /// Where the owners are looked through next.
    sweep_at: usize,
}

impl Attribution {
    /// Ledgers of at most `limit` rows each.
    pub(crate) fn new(limit: usize) -> Self {
        let mut ledgers = [(); GROUPINGS].map(|()| Ledger::new(&[GroupKey::Other, GroupKey::Unknown], limit));
        let rows = ledgers.each_mut().map(|ledger| ledger.place(GroupKey::Unknown).0);
        Self {
            ledgers,
            entries: vec![Entry { owner: None, rows, holds: 1 }],
            free: Vec::new(),
            index: HashTable::new(),
            sweep_at: IDLE_OWNERS,
        }
    }

    /// The ledger of a grouping.
    pub(crate) fn ledger(&self, by: GroupBy) -> &Ledger<Row> {
        &self.ledgers[by as usize]
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        let ledgers: usize = self.ledgers.iter().map(Ledger::size).sum();
        ledgers + self.entries.capacity() * size_of::<Entry>() + self.index.allocation_size()
    }

    /// The number of an owner. It stays valid for as long as it is held.
    pub(crate) fn number(&mut self, owner: Option<&Owner>) -> u32 {
        let Some(owner) = owner else { return UNKNOWN };
        if let Some(number) = self.find(owner) {
            let rows = self.entries[number as usize].rows;
            if self.ledgers.iter().zip(rows).all(|(ledger, row)| ledger.holds(row)) {
                return number;
            }
            // A row was folded: what was counted there stays there, what comes now gets a row of its own again.
            self.unindex(owner);
            self.release_if_idle(number);
        }
        if self.index.len() >= self.sweep_at {
            self.sweep();
        }
        let rows = self.rows_of(owner);
        let entry = Entry { owner: Some(*owner), rows, holds: 0 };
        let number = if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            number
        } else {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        };
        let entries = &self.entries;
        let hash_of = |&number: &u32| entries[number as usize].owner.as_ref().map_or(0, hash);
        self.index.insert_unique(hash(owner), number, hash_of);
        number
    }

    fn find(&self, owner: &Owner) -> Option<u32> {
        let is_it = |&number: &u32| self.entries[number as usize].owner.as_ref() == Some(owner);
        self.index.find(hash(owner), is_it).copied()
    }

    /// No new connection is counted for this number of an owner.
    fn unindex(&mut self, owner: &Owner) {
        let entries = &self.entries;
        let is_it = |&number: &u32| entries[number as usize].owner.as_ref() == Some(owner);
        if let Ok(found) = self.index.find_entry(hash(owner), is_it) {
            found.remove();
        }
    }

    fn rows_of(&mut self, owner: &Owner) -> Rows {
        let keys = [
            GroupKey::Process(owner.key),
            GroupKey::Command(owner.comm),
            GroupKey::Parent(owner.ppid, owner.parent_comm),
            GroupKey::User(owner.uid),
            GroupKey::Cgroup(owner.cgroup),
        ];
        let mut rows = [RowRef::OTHER; GROUPINGS];
        let mut new_process = false;
        for (by, key) in keys.into_iter().enumerate() {
            let (place, is_new) = self.ledgers[by].place(key);
            new_process |= by == 0 && is_new;
            let row = self.ledgers[by].row_mut(place);
            row.owner = Some(*owner);
            if is_new || new_process {
                row.processes += 1;
            }
            rows[by] = place;
        }
        rows
    }

    /// Who an owner is; `None` for the unknown.
    pub(crate) fn owner(&self, number: u32) -> Option<&Owner> {
        self.entries.get(number as usize)?.owner.as_ref()
    }

    /// Keeps an owner's number valid.
    pub(crate) fn hold(&mut self, number: u32) {
        self.entries[number as usize].holds += 1;
    }

    /// Lets it go again.
    pub(crate) fn release(&mut self, number: u32) {
        self.entries[number as usize].holds -= 1;
        let entry = &self.entries[number as usize];
        if entry.holds == 0 && entry.owner.as_ref().is_some_and(|owner| self.find(owner) != Some(number)) {
            self.release_if_idle(number);
        }
    }

    fn release_if_idle(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        if entry.holds == 0 && entry.owner.take().is_some() {
            self.free.push(number);
        }
    }

    /// Forgets owners that nothing refers to. Their rows stay.
    fn sweep(&mut self) {
        for number in 1..self.entries.len() as u32 {
            let entry = &self.entries[number as usize];
            if entry.holds == 0
                && let Some(owner) = entry.owner
            {
                self.unindex(&owner);
                self.release_if_idle(number);
            }
        }
        self.sweep_at = self.index.len() + IDLE_OWNERS;
    }

    /// Changes the figures of all rows of an owner.
    pub(crate) fn tally(&mut self, number: u32, change: impl Fn(&mut Counts)) {
        let rows = self.entries[number as usize].rows;
        for (ledger, row) in self.ledgers.iter_mut().zip(rows) {
            change(&mut ledger.row_mut(row).counts);
        }
    }

    /// Counts one made timewait socket for the rates of an owner's rows.
    pub(crate) fn tick_rate(&mut self, number: u32, at_ns: u64, mut scale: Option<&mut Scale>) {
        let rows = self.entries[number as usize].rows;
        for (ledger, row) in self.ledgers.iter_mut().zip(rows) {
            ledger.tick_rate(row, at_ns, scale.as_deref_mut());
        }
    }

    /// Works out all rates anew.
    pub(crate) fn refresh_rates(&mut self, now_ns: u64, start_ns: u64) {
        for ledger in &mut self.ledgers {
            ledger.refresh_rates(now_ns, start_ns);
        }
    }

    /// Forgets what was counted so far, and keeps what is alive.
    pub(crate) fn restart(&mut self) {
        self.ledgers.iter_mut().for_each(Ledger::restart);
        let mut seen = HashSet::with_hasher(FixedState::default());
        for entry in self.entries.iter().filter(|entry| entry.owner.is_some()) {
            let process = entry.rows[GroupBy::Process as usize];
            if !self.ledgers[GroupBy::Process as usize].holds(process) {
                // It is counted when it comes again.
                continue;
            }
            for (by, row) in entry.rows.into_iter().enumerate() {
                if self.ledgers[by].holds(row) && seen.insert((by, row, process)) {
                    self.ledgers[by].row_mut(row).processes += 1;
                }
            }
        }
    }

    /// The number of an owner whose rows may have been folded or dropped meanwhile, with rows again.
    pub(crate) fn renumber(&mut self, number: u32) -> u32 {
        let owner = self.owner(number).copied();
        self.number(owner.as_ref())
    }

    /// Id of the process row of an owner; of one that was folded, the rest's.
    pub(crate) fn process_row(&self, number: u32) -> u32 {
        let place = self.entries[number as usize].rows[GroupBy::Process as usize];
        if self.ledgers[GroupBy::Process as usize].holds(place) { place.id() } else { RowRef::OTHER.id() }
    }
}

/// By what tells most owners apart.
fn hash(owner: &Owner) -> u64 {
    FixedState::default().hash_one((owner.key, owner.comm))
}
