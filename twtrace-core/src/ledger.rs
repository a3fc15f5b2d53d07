//! Bounded aggregation: rows by key, with the smallest folded into a visible rest when there are too many.

use crate::budgets::Trend;
use crate::history::{Scale, Series};
use crate::model::{Counts, DestRow, DestinationRow, GroupKey, PairRow, Row};
use crate::pattern::Pattern;
use crate::recent::{Recent, Seconds, Ticks};
use crate::sketch::Sketch;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use std::hash::Hash;

/// Hash map with a fixed seed: the same inputs are iterated in the same order.
pub(crate) type Map<K, V> = HashMap<K, V, FixedState>;

/// Where a row is, and which it was: a slot is used again after its row was folded, an id never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowRef {
    slot: u32,
    id: u32,
}

impl RowRef {
    /// The folded rest, which always exists.
    pub(crate) const OTHER: Self = Self { slot: 0, id: 0 };

    /// The row's id.
    pub(crate) fn id(self) -> u32 {
        self.id
    }
}

/// What a row has on the heap besides, in bytes: sketches and errors of one that is not idle.
const ROW_HEAP: usize = 512;

/// What a ledger needs of its rows.
pub(crate) trait LedgerRow {
    /// What makes two rows the same.
    type Key: Copy + Eq + Hash;
    /// What its rate is taken from: [`Recent`], or nothing where it has none.
    type Recent: Ticks;
    /// A row with nothing counted.
    fn new(id: u32, key: Self::Key) -> Self;
    fn id(&self) -> u32;
    fn key(&self) -> Self::Key;
    /// Whether anything is in it. The rest is shown only then.
    fn is_empty(&self) -> bool;
    /// How much would be missed: by what it counted in all, and at its present rate in the next minute.
    fn weight(&self) -> u64;
    /// Takes in another row.
    fn absorb(&mut self, other: &Self);
    /// Forgets what was counted so far, and keeps what is alive.
    fn restart(&mut self);
    fn set_rate(&mut self, per_second: f64);
    /// One more event, at a time that had so many within its second.
    fn happened(&mut self, at_ns: u64, in_second: u32, scale: Option<&mut Scale>);
}

#[derive(Clone, Debug)]
struct Slot<R: LedgerRow> {
    row: R,
    recent: R::Recent,
    used: bool,
}

/// Rows by key. Full: the eighth that counted least is folded into the rest. Whether a row has live sockets says nothing:
/// a process that exits after its one connection has one for a minute, and one that made thousands may have none.
#[derive(Clone, Debug)]
pub(crate) struct Ledger<R: LedgerRow> {
    slots: Vec<Slot<R>>,
    free: Vec<u32>,
    index: Map<R::Key, RowRef>,
    /// Rows that are never folded: the rest, and the unknown where there is one.
    fixed: usize,
    limit: usize,
    next_id: u32,
    /// How often rows were folded.
    folds: u64,
}

impl<R: LedgerRow> Ledger<R> {
    /// A ledger of at most `limit` rows besides the fixed ones, the first of which is the rest.
    pub(crate) fn new(fixed: &[R::Key], limit: usize) -> Self {
        let mut ledger = Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: Map::default(),
            fixed: fixed.len(),
            limit: limit.max(8),
            next_id: 0,
            folds: 0,
        };
        for key in fixed {
            ledger.insert(*key);
        }
        ledger
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.slots.len() * (size_of::<Slot<R>>() + ROW_HEAP) + self.index.allocation_size()
    }

    fn insert(&mut self, key: R::Key) -> RowRef {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let slot = Slot { row: R::new(id, key), recent: R::Recent::default(), used: true };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at as usize] = slot;
            at
        } else {
            if self.slots.len() == self.slots.capacity() {
                // Never beyond the bound, which doubling would be.
                let most = (self.limit + self.fixed).saturating_sub(self.slots.len());
                self.slots.reserve_exact(most.min(self.slots.len().max(8)));
            }
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        };
        let place = RowRef { slot: at, id };
        self.index.insert(key, place);
        place
    }

    /// The row of a key, made if there is none, and whether it was.
    pub(crate) fn place(&mut self, key: R::Key) -> (RowRef, bool) {
        if let Some(place) = self.index.get(&key) {
            return (*place, false);
        }
        if self.index.len() - self.fixed >= self.limit {
            self.fold();
        }
        (self.insert(key), true)
    }

    /// The row of a key, if it has one.
    pub(crate) fn find(&self, key: &R::Key) -> Option<RowRef> {
        self.index.get(key).copied()
    }

    /// Whether a row is still there, and was not folded.
    pub(crate) fn holds(&self, place: RowRef) -> bool {
        self.slots.get(place.slot as usize).is_some_and(|slot| slot.used && slot.row.id() == place.id)
    }

    /// A row; of one that was folded, the rest.
    pub(crate) fn row_mut(&mut self, place: RowRef) -> &mut R {
        let at = if self.holds(place) { place.slot as usize } else { 0 };
        &mut self.slots[at].row
    }

    /// Counts one event for the rate of a row.
    pub(crate) fn tick_rate(&mut self, place: RowRef, at_ns: u64, scale: Option<&mut Scale>) {
        let at = if self.holds(place) { place.slot as usize } else { 0 };
        let Slot { row, recent, .. } = &mut self.slots[at];
        row.happened(at_ns, recent.add(at_ns), scale);
    }

    /// Works out all rates anew.
    pub(crate) fn refresh_rates(&mut self, now_ns: u64, start_ns: u64) {
        for slot in self.slots.iter_mut().filter(|slot| slot.used) {
            let rate = slot.recent.rate(now_ns, start_ns);
            slot.row.set_rate(rate);
        }
    }

    /// How often rows were folded.
    pub(crate) fn folds(&self) -> u64 {
        self.folds
    }

    /// Ids of all rows.
    pub(crate) fn ids(&self) -> HashSet<u32, FixedState> {
        self.slots.iter().filter(|slot| slot.used).map(|slot| slot.row.id()).collect()
    }

    /// Rows that are shown, in no particular order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &R> {
        let shown = |(at, slot): &(usize, &Slot<R>)| slot.used && (*at >= self.fixed || !slot.row.is_empty());
        self.slots.iter().enumerate().filter(shown).map(|(_, slot)| &slot.row)
    }

    /// All rows, with what was counted for their rate in each of the last seconds that are over.
    pub(crate) fn rows_and_seconds(&self, now_ns: u64) -> impl Iterator<Item = (&R, Seconds)> {
        let used = self.slots.iter().filter(|slot| slot.used);
        used.map(move |slot| (&slot.row, slot.recent.seconds(now_ns)))
    }

    /// All rows, to change.
    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.slots.iter_mut().filter(|slot| slot.used).map(|slot| &mut slot.row)
    }

    /// Forgets what was counted so far. Rows of which nothing is alive are dropped; what still refers to them is told
    /// the rest, as with folded ones.
    pub(crate) fn restart(&mut self) {
        for (at, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.used) {
            slot.row.restart();
            slot.recent = R::Recent::default();
            if at >= self.fixed && slot.row.is_empty() {
                slot.used = false;
                self.index.remove(&slot.row.key());
                self.free.push(at as u32);
            }
        }
    }

    fn fold(&mut self) {
        let mut candidates: Vec<(u64, u32, u32)> = self
            .slots
            .iter()
            .enumerate()
            .skip(self.fixed)
            .filter(|(_, slot)| slot.used)
            .map(|(at, slot)| (slot.row.weight(), slot.row.id(), at as u32))
            .collect();
        let many = (self.limit / 8).max(1).min(candidates.len());
        if many == 0 {
            return;
        }
        candidates.select_nth_unstable(many - 1);
        candidates.truncate(many);
        // In order of age, so that the result does not depend on how the selection left them.
        candidates.sort_unstable_by_key(|candidate| candidate.1);
        self.fold_slots(candidates.into_iter().map(|candidate| candidate.2));
    }

    /// Folds the rows that are no use on their own.
    pub(crate) fn fold_if(&mut self, useless: impl Fn(&R) -> bool) {
        let slots = self.slots.iter().enumerate().skip(self.fixed);
        let chosen: Vec<u32> =
            slots.filter(|(_, slot)| slot.used && useless(&slot.row)).map(|(at, _)| at as u32).collect();
        self.fold_slots(chosen.into_iter());
    }

    fn fold_slots(&mut self, chosen: impl Iterator<Item = u32>) {
        self.folds += 1;
        let (rest, others) = self.slots.split_at_mut(1);
        for at in chosen {
            let slot = &mut others[at as usize - 1];
            rest[0].row.absorb(&slot.row);
            rest[0].recent.merge(&slot.recent);
            slot.used = false;
            self.index.remove(&slot.row.key());
            self.free.push(at);
        }
    }
}

fn happened(counts: &mut Counts, series: &mut Series, at_ns: u64, in_second: u32, scale: Option<&mut Scale>) {
    counts.peak_per_s = counts.peak_per_s.max(in_second.into());
    if let Some(scale) = scale {
        series.add(scale, at_ns);
    }
}

impl LedgerRow for Row {
    type Key = GroupKey;
    type Recent = Recent;

    fn new(id: u32, key: GroupKey) -> Self {
        Self { id, key, owner: None, folded: 0, processes: 0, counts: Counts::default(), series: Series::default() }
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn key(&self) -> GroupKey {
        self.key
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn weight(&self) -> u64 {
        self.counts.weight()
    }

    fn absorb(&mut self, other: &Self) {
        self.folded += 1 + other.folded;
        self.processes += other.processes;
        self.counts.absorb(&other.counts);
        self.series.merge(&other.series);
    }

    fn restart(&mut self) {
        // Whoever owns what is alive is counted anew by the attribution.
        (self.folded, self.processes, self.series) = (0, 0, Series::default());
        self.counts.restart();
    }

    fn happened(&mut self, at_ns: u64, in_second: u32, scale: Option<&mut Scale>) {
        happened(&mut self.counts, &mut self.series, at_ns, in_second, scale);
    }

    fn set_rate(&mut self, per_second: f64) {
        self.counts.rate_per_s = per_second;
    }
}

impl LedgerRow for DestinationRow {
    type Key = DestRow;
    type Recent = Recent;

    fn new(id: u32, key: DestRow) -> Self {
        Self {
            id,
            key,
            folded: 0,
            counts: Counts::default(),
            series: Series::default(),
            established: 0,
            stable: 0,
            bound: 0,
            fin_wait2_aged: 0,
            pattern: Pattern::default(),
            connect_us: Sketch::default(),
            trend: Trend::default(),
            budget: None,
            exhausted: None,
            exhausted_ns: 0,
            no_port_ns: 0,
        }
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn key(&self) -> DestRow {
        self.key
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn weight(&self) -> u64 {
        // Open connections would be missed as well.
        self.counts.weight().saturating_add(self.established)
    }

    fn absorb(&mut self, other: &Self) {
        self.folded += 1 + other.folded;
        self.counts.absorb(&other.counts);
        self.pattern.absorb(&other.pattern);
        self.connect_us.merge(&other.connect_us);
        self.series.merge(&other.series);
    }

    fn restart(&mut self) {
        (self.folded, self.series) = (0, Series::default());
        (self.pattern, self.connect_us) = (Pattern::default(), Sketch::default());
        (self.exhausted, self.exhausted_ns, self.no_port_ns) = (None, 0, 0);
        self.counts.restart();
    }

    fn happened(&mut self, at_ns: u64, in_second: u32, scale: Option<&mut Scale>) {
        happened(&mut self.counts, &mut self.series, at_ns, in_second, scale);
    }

    fn set_rate(&mut self, per_second: f64) {
        self.counts.rate_per_s = per_second;
    }
}

impl LedgerRow for PairRow {
    /// Ids of the process row and of the destination row.
    type Key = (u32, u32);
    type Recent = ();

    fn new(_id: u32, (process, destination): (u32, u32)) -> Self {
        Self {
            id: _id,
            process,
            destination,
            time_wait_made: 0,
            time_wait_live: 0,
            connections: 0,
            pattern: Pattern::default(),
        }
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn key(&self) -> (u32, u32) {
        (self.process, self.destination)
    }

    fn is_empty(&self) -> bool {
        self.time_wait_made + self.time_wait_live + self.connections == 0
    }

    fn weight(&self) -> u64 {
        self.time_wait_made.saturating_add(self.connections)
    }

    fn absorb(&mut self, other: &Self) {
        self.time_wait_made += other.time_wait_made;
        self.time_wait_live += other.time_wait_live;
        self.connections += other.connections;
        self.pattern.absorb(&other.pattern);
    }

    fn restart(&mut self) {
        (self.time_wait_made, self.connections, self.pattern) = (0, 0, Pattern::default());
    }

    fn set_rate(&mut self, _per_second: f64) {}

    fn happened(&mut self, _at_ns: u64, _in_second: u32, _scale: Option<&mut Scale>) {}
}
