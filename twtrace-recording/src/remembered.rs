//! What later segments repeat, within a limit.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;

/// How many of a kind are repeated. The oldest are dropped first, as in the engine.
pub(super) const REMEMBERED: usize = 16_384;

/// Limit of the repeated text, bytes. Here too, the oldest are dropped first.
const REMEMBERED_BYTES: usize = 16 << 20;

/// The latest few.
pub(super) struct Remembered<K, V> {
    values: HashMap<K, V, FixedState>,
    order: VecDeque<K>,
    text_bytes: usize,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { values: HashMap::default(), order: VecDeque::new(), text_bytes: 0 }
    }
}

/// How much memory its text takes.
pub(super) trait HasText {
    fn text_bytes(&self) -> usize;
}

impl HasText for String {
    fn text_bytes(&self) -> usize {
        self.len()
    }
}

impl<K: Hash + Eq + Clone, V: HasText> Remembered<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.text_bytes += value.text_bytes();
        match self.values.insert(key.clone(), value) {
            Some(before) => self.text_bytes -= before.text_bytes(),
            None => self.order.push_back(key),
        }
        while self.order.len() > REMEMBERED || self.text_bytes > REMEMBERED_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.text_bytes -= self.values.remove(&oldest).map_or(0, |value| value.text_bytes());
        }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.values.iter()
    }
}
