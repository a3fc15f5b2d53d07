//! What `/proc` said of processes.

use crate::event::{Owner, ProcessFacts, ProcessKey};
use crate::plain;
use crate::program;
use crate::table::Map;
use std::sync::Arc;

/// Processes whose facts are kept.
const PROCESSES: usize = 16_384;

/// Total size of their text, bytes. A process chooses its own command line, of up to 4 KiB.
const BYTES: usize = 16 << 20;

/// Cgroups whose facts are kept.
const CGROUPS: usize = 4096;

/// What an operator calls a process: by its command name alone when nothing else is known of it.
pub(crate) fn program_of(owner: &Owner, facts: Option<&ProcessFacts>) -> String {
    let (exe, cmdline) = facts.map_or((None, None), |facts| (facts.exe.as_deref(), facts.cmdline.as_deref()));
    program::of(&plain::lossless(owner.comm.bytes()), exe, cmdline).name
}

/// Facts by process. When full, the facts of processes without a row are dropped; if it is still full,
/// new ones are too.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessFactsTable {
    /// Shared with snapshots, and copied when something is added while a snapshot exists.
    facts: Arc<Map<ProcessKey, Arc<ProcessFacts>>>,
    /// What is known of cgroups from any process in them: most processes are gone before they can be looked up.
    cgroups: Arc<Map<u64, Arc<ProcessFacts>>>,
    bytes: usize,
}

impl ProcessFactsTable {
    pub(crate) fn get(&self, key: ProcessKey) -> Option<&ProcessFacts> {
        self.facts.get(&key).map(|facts| &**facts)
    }

    /// What an operator calls a process, as far as is known by now. Hostile input.
    pub(crate) fn program(&self, owner: &Owner) -> String {
        program_of(owner, self.get(owner.key))
    }

    /// Facts of all processes.
    pub(crate) fn processes(&self) -> &Arc<Map<ProcessKey, Arc<ProcessFacts>>> {
        &self.facts
    }

    /// Facts of all cgroups.
    pub(crate) fn cgroups(&self) -> &Arc<Map<u64, Arc<ProcessFacts>>> {
        &self.cgroups
    }

    /// The containers that any of them shows.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &str> {
        self.facts.values().chain(self.cgroups.values()).filter_map(|facts| facts.container.as_deref())
    }

    /// Keeps what a process shows about its cgroup. When full, further cgroups are not kept.
    pub(crate) fn know_cgroup(&mut self, cgroup: u64, facts: &ProcessFacts) {
        let ProcessFacts { cgroup: path, container, pod_uid, unit, .. } = facts;
        if path.is_some() && (self.cgroups.len() < CGROUPS || self.cgroups.contains_key(&cgroup)) {
            let kept = ProcessFacts {
                cgroup: path.clone(),
                container: container.clone(),
                pod_uid: pod_uid.clone(),
                unit: unit.clone(),
                ..ProcessFacts::default()
            };
            Arc::make_mut(&mut self.cgroups).insert(cgroup, Arc::new(kept));
        }
    }

    /// Adds to facts without a cgroup, as of a process that was gone, what is known of it from other processes.
    pub(crate) fn complete(&self, cgroup: u64, facts: &mut ProcessFacts) {
        if facts.cgroup.is_none()
            && let Some(known) = self.cgroups.get(&cgroup)
        {
            facts.cgroup.clone_from(&known.cgroup);
            facts.container.clone_from(&known.container);
            facts.pod_uid.clone_from(&known.pod_uid);
            facts.unit.clone_from(&known.unit);
        }
    }

    /// Keeps the latest facts of a process. `has_row` says which processes' facts are still needed.
    pub(crate) fn insert(&mut self, key: ProcessKey, facts: ProcessFacts, has_row: impl Fn(ProcessKey) -> bool) {
        let size = facts.text_bytes();
        if let Some(before) = Arc::make_mut(&mut self.facts).remove(&key) {
            self.bytes -= before.text_bytes();
        }
        if !self.has_room(size) {
            Arc::make_mut(&mut self.facts).retain(|key, _| has_row(*key));
            self.bytes = self.facts.values().map(|facts| facts.text_bytes()).sum();
        }
        if !self.has_room(size) {
            return;
        }
        self.bytes += size;
        Arc::make_mut(&mut self.facts).insert(key, Arc::new(facts));
    }

    fn has_room(&self, size: usize) -> bool {
        self.facts.len() < PROCESSES && self.bytes + size <= BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_ns: 1 }
    }

    fn facts(bytes: usize) -> ProcessFacts {
        ProcessFacts { cmdline: Some("x".repeat(bytes)), ..ProcessFacts::default() }
    }

    #[test]
    fn facts_without_a_cgroup_get_what_others_in_it_have_shown() {
        let mut table = ProcessFactsTable::default();
        let place = ProcessFacts { cgroup: Some("/a".into()), container: Some("c".into()), ..ProcessFacts::default() };
        table.know_cgroup(7, &place);
        let mut found = facts(3);
        table.complete(8, &mut found);
        assert_eq!(found, facts(3));
        table.complete(7, &mut found);
        assert_eq!((found.container.as_deref(), found.cmdline.as_deref()), (Some("c"), Some("xxx")));
        // What it says itself comes first.
        let own = ProcessFacts { cgroup: Some("/b".into()), ..ProcessFacts::default() };
        let mut found = own.clone();
        table.complete(7, &mut found);
        assert_eq!(found, own);
    }

    #[test]
    fn full_table_keeps_processes_that_have_a_row() {
        let mut table = ProcessFactsTable::default();
        for tgid in 0..PROCESSES as u32 {
            table.insert(key(tgid), facts(10), |_| false);
        }
        table.insert(key(u32::MAX), facts(10), |key| key.tgid < 5);
        assert!((0..5).chain([u32::MAX]).all(|tgid| table.get(key(tgid)).is_some()));
        assert_eq!((table.facts.len(), table.bytes), (6, 60));
    }

    #[test]
    fn long_command_lines_do_not_grow_beyond_the_bound() {
        let mut table = ProcessFactsTable::default();
        for tgid in 0..10_000 {
            table.insert(key(tgid), facts(4096), |_| true);
            assert!(table.bytes <= BYTES);
        }
        assert_eq!(table.facts.len(), BYTES / 4096);
        // New facts of a process replace the old ones.
        let mut table = ProcessFactsTable::default();
        for bytes in [4096, 10] {
            table.insert(key(1), facts(bytes), |_| true);
        }
        assert_eq!(table.bytes, 10);
    }
}
