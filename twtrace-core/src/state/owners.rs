//! Numbers for owners, so that a live socket can name two of them in eight bytes.

use crate::event::Owner;
use crate::table::{Moved, RowRef};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Number of the unknown owner.
pub(crate) const UNKNOWN: u32 = 0;

/// This many owners may be added before unreferenced ones are swept out.
const IDLE_OWNERS: usize = 16_384;

#[derive(Clone, Debug)]
struct Entry {
    owner: Option<Owner>,
    /// Live sockets and remembered connections that refer to it.
    retained: u32,
}

/// Owners by number, and the process row of each.
///
/// An owner is a process at one time: after an exec, the same process is another owner with the same row.
#[derive(Clone, Debug)]
pub(crate) struct Owners {
    entries: Vec<Entry>,
    /// The row of each. Stored separately: when rows move, all of them are scanned.
    rows: Vec<RowRef>,
    free: Vec<u32>,
    /// Numbers of the owners that new connections can be counted for. Only numbers: an owner is as large as what is
    /// kept of a live socket, and there may be one for each.
    index: HashTable<u32>,
    /// Number of owners at which the next sweep runs.
    sweep_at: usize,
}

impl Owners {
    /// With the row of the unknown owner.
    pub(crate) fn new(unknown: RowRef) -> Self {
        Self {
            entries: vec![Entry { owner: None, retained: 1 }],
            rows: vec![unknown],
            free: Vec::new(),
            index: HashTable::new(),
            sweep_at: IDLE_OWNERS,
        }
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.entries.capacity() * (size_of::<Entry>() + size_of::<RowRef>()) + self.index.allocation_size()
    }

    /// Number and row of an owner that connections can be counted for.
    pub(crate) fn find(&self, owner: &Owner) -> Option<(u32, RowRef)> {
        let is_it = |&number: &u32| self.entries[number as usize].owner.as_ref() == Some(owner);
        let number = *self.index.find(hash(owner), is_it)?;
        Some((number, self.rows[number as usize]))
    }

    /// Adds an owner that is not in the table, or whose row has moved: what was counted there stays there.
    pub(crate) fn insert(&mut self, owner: &Owner, row: RowRef) -> u32 {
        if let Some((number, _)) = self.find(owner) {
            self.unindex(owner);
            self.free_if_idle(number);
        }
        if self.index.len() >= self.sweep_at {
            self.sweep();
        }
        let entry = Entry { owner: Some(*owner), retained: 0 };
        let number = if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            self.rows[number as usize] = row;
            number
        } else {
            self.entries.push(entry);
            self.rows.push(row);
            (self.entries.len() - 1) as u32
        };
        let entries = &self.entries;
        let hash_of = |&number: &u32| entries[number as usize].owner.as_ref().map_or(0, hash);
        self.index.insert_unique(hash(owner), number, hash_of);
        number
    }

    fn unindex(&mut self, owner: &Owner) {
        let entries = &self.entries;
        let is_it = |&number: &u32| entries[number as usize].owner.as_ref() == Some(owner);
        if let Ok(found) = self.index.find_entry(hash(owner), is_it) {
            found.remove();
        }
    }

    /// Who an owner is; `None` for the unknown.
    pub(crate) fn owner(&self, number: u32) -> Option<&Owner> {
        self.entries.get(number as usize)?.owner.as_ref()
    }

    /// The row of an owner. It may be gone since a restart.
    pub(crate) fn row(&self, number: u32) -> RowRef {
        self.rows[number as usize]
    }

    /// Rows have moved.
    pub(crate) fn follow(&mut self, moved: &Moved) {
        for row in &mut self.rows {
            if let Some(to) = moved.get(row.id()) {
                *row = to;
            }
        }
    }

    /// Keeps an owner's number valid.
    pub(crate) fn retain(&mut self, number: u32) {
        self.entries[number as usize].retained += 1;
    }

    /// Releases it again.
    pub(crate) fn release(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        entry.retained -= 1;
        let is_idle = entry.retained == 0;
        let owner = entry.owner;
        if is_idle && owner.is_some_and(|owner| self.find(&owner).map(|(found, _)| found) != Some(number)) {
            self.free_if_idle(number);
        }
    }

    fn free_if_idle(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        if entry.retained == 0 && entry.owner.take().is_some() {
            self.free.push(number);
        }
    }

    /// Forgets owners that nothing refers to. Their rows stay.
    fn sweep(&mut self) {
        for number in 1..self.entries.len() as u32 {
            let entry = &self.entries[number as usize];
            if entry.retained == 0
                && let Some(owner) = entry.owner
            {
                self.unindex(&owner);
                self.free_if_idle(number);
            }
        }
        self.sweep_at = self.index.len() + IDLE_OWNERS;
    }
}

/// A hash of what distinguishes most owners.
fn hash(owner: &Owner) -> u64 {
    FixedState::default().hash_one((owner.key, owner.comm))
}
