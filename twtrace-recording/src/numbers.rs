//! Processes by the numbers that a segment gives them.

use anyhow::bail;
use twtrace_core::event::Owner;

/// Processes that a segment may name, and how many consecutive numbers may be missing; more than any segment has.
const MOST: usize = 1 << 20;
const MOST_MISSING: usize = 1 << 16;

/// The processes that a segment has named so far.
#[derive(Default)]
pub(super) struct Numbers {
    /// From the first number on. Processes whose rows could not be read are `None`.
    owners: Vec<Option<Owner>>,
    first: u32,
}

impl Numbers {
    /// Another segment begins.
    pub(super) fn clear(&mut self) {
        self.owners.clear();
    }

    /// Adds the next one.
    pub(super) fn insert(&mut self, number: u32, owner: Owner) -> anyhow::Result<()> {
        if self.owners.is_empty() {
            self.first = number;
        }
        let at = number.wrapping_sub(self.first) as usize;
        if at < self.owners.len() || at >= MOST.min(self.owners.len() + MOST_MISSING) {
            bail!("the number of a process is not in order");
        }
        // The rows in between could not be read.
        self.owners.resize(at, None);
        self.owners.push(Some(owner));
        Ok(())
    }

    /// The process with this number.
    pub(super) fn get(&self, number: u32) -> Option<Owner> {
        self.owners.get(number.wrapping_sub(self.first) as usize).copied().flatten()
    }
}
