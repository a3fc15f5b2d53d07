//! What container runtimes say of containers, kept beside what `/proc` said of processes.
//!
//! A process shows only the id of its container. What a runtime knows of that id arrives later, or never; it is looked up
//! when a snapshot is taken, so that a name that arrives late applies to the past as well, and stays when the container
//! is gone.

use crate::containers::ContainerFacts;
use crate::table::Map;
use std::sync::Arc;

/// Containers whose facts are kept.
const CONTAINERS: usize = 8192;

/// Total size of their text, bytes.
const BYTES: usize = 8 << 20;

/// Facts of containers by the id that processes show.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerTable {
    facts: Arc<Map<Box<str>, Arc<ContainerFacts>>>,
    bytes: usize,
}

impl ContainerTable {
    /// Facts of all containers, to share with a snapshot.
    pub(crate) fn all(&self) -> &Arc<Map<Box<str>, Arc<ContainerFacts>>> {
        &self.facts
    }

    /// Keeps the latest facts of a container. When full, those that no process needs are dropped; if it is still full, new
    /// ones are too.
    pub(crate) fn insert(&mut self, id: String, facts: ContainerFacts, is_needed: impl Fn(&str) -> bool) {
        let size = id.len() + facts.text_bytes();
        let all = Arc::make_mut(&mut self.facts);
        if let Some(before) = all.remove(id.as_str()) {
            self.bytes -= id.len() + before.text_bytes();
        }
        if all.len() >= CONTAINERS || self.bytes + size > BYTES {
            all.retain(|id, _| is_needed(id));
            self.bytes = all.iter().map(|(id, facts)| id.len() + facts.text_bytes()).sum();
        }
        if all.len() < CONTAINERS && self.bytes + size <= BYTES {
            self.bytes += size;
            all.insert(id.into(), Arc::new(facts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn full_table_keeps_containers_of_processes() {
        let mut table = ContainerTable::default();
        let facts = ContainerFacts { name: some("a"), ..ContainerFacts::default() };
        for number in 0..CONTAINERS {
            table.insert(number.to_string(), facts.clone(), |_| false);
        }
        table.insert("new".to_owned(), facts.clone(), |id| id == "7");
        assert_eq!((table.facts.len(), table.bytes), (2, "7a".len() + "newa".len()));
        assert!(table.facts.contains_key("7") && table.facts.contains_key("new"));
        // New facts of a container replace the old ones.
        table.insert("new".to_owned(), ContainerFacts::default(), |_| true);
        assert_eq!((table.facts.len(), table.bytes), (2, "7a".len() + "new".len()));
        let long = ContainerFacts { name: Some("x".repeat(1 << 20)), ..ContainerFacts::default() };
        for number in 0..100 {
            table.insert(number.to_string(), long.clone(), |_| true);
            assert!(table.bytes <= BYTES);
        }
    }
}
