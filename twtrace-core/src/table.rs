//! Bounded tables: rows by key, which move into a coarser row of the same table when there are too many.

use crate::history::Scale;
use crate::recent::{Moment, Recent, Seconds};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::hash::Hash;

/// Hash map with a fixed seed: the same events are iterated in the same order.
pub(crate) type Map<K, V> = HashMap<K, V, FixedState>;

/// Where a row is, and which row it was: a slot is reused after its row has moved, an id never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowRef {
    slot: u32,
    id: u32,
}

impl RowRef {
    /// The first row, which always exists: everything that finds no other place ends up in it.
    pub(crate) const OTHER: Self = Self { slot: 0, id: 0 };

    /// The row's id.
    pub(crate) fn id(self) -> u32 {
        self.id
    }
}

/// Where rows have gone, by id.
#[derive(Debug)]
pub(crate) struct Moved {
    to: Map<u32, RowRef>,
    /// The least and the greatest id of those that have moved.
    ids: Option<(u32, u32)>,
}

impl Moved {
    fn insert(&mut self, id: u32, to: RowRef) {
        let (least, greatest) = self.ids.unwrap_or((id, id));
        self.ids = Some((least.min(id), greatest.max(id)));
        self.to.insert(id, to);
    }

    /// Where a row has gone, if it has.
    pub(crate) fn get(&self, id: u32) -> Option<RowRef> {
        // Most ids that are looked up have not moved, and rows that move together mostly have about the same age.
        let (least, greatest) = self.ids?;
        if id < least || id > greatest { None } else { self.to.get(&id).copied() }
    }
}

/// Heap memory of a row that is not idle, in bytes: sketches and errors.
const ROW_HEAP: usize = 512;

/// What a table needs of its rows.
pub(crate) trait TableRow {
    /// What identifies a row.
    type Key: Clone + Eq + Hash;
    type Gauge: Gauge;
    /// A row with nothing counted.
    fn new(id: u32, key: Self::Key) -> Self;
    fn id(&self) -> u32;
    fn key(&self) -> Self::Key;
    /// Whether it is empty. Fixed rows are shown only when they are not.
    fn is_empty(&self) -> bool;
    /// Adds another row.
    fn absorb(&mut self, other: &Self);
    /// Resets what was counted so far, and keeps what is alive.
    fn restart(&mut self);
    /// Where its rate and its peak are kept.
    fn gauge(&mut self) -> &mut Self::Gauge;
}

/// A rate and a peak.
pub(crate) trait Gauge {
    fn set_rate(&mut self, per_second: f64);
    /// One more event; `in_second` is the number of events in its second so far.
    fn happened(&mut self, at_ns: u64, in_second: u32, scale: Option<&mut Scale>);
}

#[derive(Clone, Debug)]
struct Slot<R> {
    row: R,
    recent: Recent,
    used: bool,
}

/// Rows by key, up to a limit. A caller that adds one to a full table moves others out first ([`Self::move_rows`]).
#[derive(Clone, Debug)]
pub(crate) struct BoundedTable<R: TableRow> {
    slots: Vec<Slot<R>>,
    free: Vec<u32>,
    index: Map<R::Key, RowRef>,
    /// Rows that never move: the one for all others, and the one for the unknown where there is one.
    fixed: usize,
    limit: usize,
    next_id: u32,
}

impl<R: TableRow> BoundedTable<R> {
    /// A table of at most `limit` rows besides the fixed ones, the first of which is [`RowRef::OTHER`].
    pub(crate) fn new(fixed: &[R::Key], limit: usize) -> Self {
        let mut table = Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: Map::default(),
            fixed: fixed.len(),
            limit: limit.max(8),
            next_id: 0,
        };
        for key in fixed {
            table.insert(key.clone());
        }
        table
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.slots.len() * (size_of::<Slot<R>>() + ROW_HEAP) + self.index.allocation_size()
    }

    /// Rows besides the fixed ones.
    pub(crate) fn len(&self) -> usize {
        self.index.len() - self.fixed
    }

    /// Whether another row fits.
    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.limit
    }

    fn insert(&mut self, key: R::Key) -> RowRef {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let slot = Slot { row: R::new(id, key.clone()), recent: Recent::default(), used: true };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at as usize] = slot;
            at
        } else {
            if self.slots.len() == self.slots.capacity() {
                // Never beyond the bound, as doubling would.
                let most = (self.limit + self.fixed).saturating_sub(self.slots.len()).max(1);
                self.slots.reserve_exact(most.min(self.slots.len().max(8)));
            }
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        };
        let place = RowRef { slot: at, id };
        self.index.insert(key, place);
        place
    }

    /// The row of a key, created if there is none, and whether it was.
    pub(crate) fn get_or_insert(&mut self, key: R::Key) -> (RowRef, bool) {
        match self.index.get(&key) {
            Some(place) => (*place, false),
            None => (self.insert(key), true),
        }
    }

    /// The row of a key, if it has one.
    pub(crate) fn find(&self, key: &R::Key) -> Option<RowRef> {
        self.index.get(key).copied()
    }

    /// Whether a row is still there.
    pub(crate) fn has(&self, place: RowRef) -> bool {
        self.slots.get(place.slot as usize).is_some_and(|slot| slot.used && slot.row.id() == place.id)
    }

    /// The same place, or [`RowRef::OTHER`] when the row is gone.
    pub(crate) fn resolve(&self, place: RowRef) -> RowRef {
        if self.has(place) { place } else { RowRef::OTHER }
    }

    /// A row.
    pub(crate) fn row(&self, place: RowRef) -> &R {
        &self.slots[self.resolve(place).slot as usize].row
    }

    /// A row, to change.
    pub(crate) fn row_mut(&mut self, place: RowRef) -> &mut R {
        let at = self.resolve(place).slot as usize;
        &mut self.slots[at].row
    }

    /// Counts one event for the rate of a row.
    pub(crate) fn tick_rate(&mut self, place: RowRef, at_ns: u64, scale: Option<&mut Scale>) {
        let at = self.resolve(place).slot as usize;
        let Slot { row, recent, .. } = &mut self.slots[at];
        row.gauge().happened(at_ns, recent.add(at_ns), scale);
    }

    /// Computes all rates again.
    pub(crate) fn refresh_rates(&mut self, now_ns: u64, start_ns: u64) {
        let moment = Moment::of(now_ns, start_ns);
        for slot in self.slots.iter_mut().filter(|slot| slot.used) {
            let rate = slot.recent.rate(moment);
            slot.row.gauge().set_rate(rate);
        }
    }

    /// Rows that are shown, in no particular order: fixed ones only when they are not empty, or `has` says so.
    pub(crate) fn shown(&self, has: impl Fn(&R) -> bool) -> impl Iterator<Item = &R> {
        let shown = move |(at, slot): &(usize, &Slot<R>)| {
            slot.used && (*at >= self.fixed || !slot.row.is_empty() || has(&slot.row))
        };
        self.slots.iter().enumerate().filter(shown).map(|(_, slot)| &slot.row)
    }

    /// The same.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &R> {
        self.shown(|_| false)
    }

    /// Rows that may move, and where they are.
    pub(crate) fn movable(&self) -> impl Iterator<Item = (RowRef, &R)> {
        let slots = (0..).zip(&self.slots).skip(self.fixed).filter(|(_, slot)| slot.used);
        slots.map(|(at, slot)| (RowRef { slot: at, id: slot.row.id() }, &slot.row))
    }

    /// All rows, with what was counted for their rate in each of the last complete seconds.
    pub(crate) fn rows_and_seconds(&self, now_ns: u64) -> impl Iterator<Item = (&R, Seconds)> {
        let used = self.slots.iter().filter(|slot| slot.used);
        used.map(move |slot| (&slot.row, slot.recent.seconds(now_ns)))
    }

    /// All rows, to change.
    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.slots.iter_mut().filter(|slot| slot.used).map(|slot| &mut slot.row)
    }

    /// Resets what was counted so far. Rows with nothing alive are dropped; remaining references to them resolve to
    /// [`RowRef::OTHER`].
    pub(crate) fn restart(&mut self) {
        for (at, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.used) {
            slot.row.restart();
            slot.recent = Recent::default();
            if at >= self.fixed && slot.row.is_empty() {
                slot.used = false;
                self.index.remove(&slot.row.key());
                self.free.push(at as u32);
            }
        }
    }

    /// Moves rows into the rows of other keys, which are created where they do not exist.
    pub(crate) fn move_rows(&mut self, moves: &[(RowRef, R::Key)]) -> Moved {
        let mut moved = Moved { to: Map::with_capacity_and_hasher(moves.len(), Default::default()), ids: None };
        for (from, key) in moves {
            let slot = &mut self.slots[from.slot as usize];
            let own_key = slot.row.key();
            self.index.remove(&own_key);
            // Moved out and not copied: a row owns heap memory.
            let row = std::mem::replace(&mut slot.row, R::new(from.id, own_key));
            let recent = slot.recent;
            slot.used = false;
            self.free.push(from.slot);
            let to = self.get_or_insert(key.clone()).0;
            let slot = &mut self.slots[to.slot as usize];
            slot.row.absorb(&row);
            slot.recent.merge(&recent);
            moved.insert(from.id, to);
        }
        for (from, _) in moves {
            // Its target may have moved as well.
            let mut on = None;
            let mut to = moved.get(from.id).unwrap_or(*from);
            while let Some(next) = moved.get(to.id) {
                (to, on) = (next, Some(next));
            }
            if let Some(on) = on {
                moved.insert(from.id, on);
            }
        }
        moved
    }
}
