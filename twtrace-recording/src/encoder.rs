//! From Inputs to rows.

use super::clock::Clock;
use super::schema::{TABLES, Table};
use super::tables::connections::Connections;
use super::tables::processes::Processes;
use super::tables::samples::Samples;
use super::tables::sockets::{At, Sockets};
use super::tuples::Tuples;
use arrow_array::{ArrayRef, RecordBatch};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use twtrace_core::input::{Input, Owner, ProcessFacts, ProcessKey, Tuple};

/// Processes, users and bound sockets that are told once more in later segments. The oldest are forgotten first, as the
/// engine does.
const REMEMBERED: usize = 16_384;

/// Text of what is remembered of processes, bytes. The oldest are forgotten first here too.
const REMEMBERED_BYTES: usize = 16 << 20;

/// Builds rows.
#[derive(Default)]
pub(super) struct Encoder {
    clock: Clock,
    now_ns: u64,
    seq: u64,
    /// Number of the segment's first Input.
    first_seq: u64,
    samples: Samples,
    processes: Processes,
    connections: Connections,
    sockets: Sockets,
    rows: [usize; TABLES],
    owners: HashMap<Owner, u32, FixedState>,
    next_owner: u32,
    tuples: Tuples,
    told: Told,
}

/// What later segments must tell again.
#[derive(Default)]
struct Told {
    start: Option<Input>,
    namespaces: BTreeMap<u32, Input>,
    left_out: Option<Input>,
    holders: Option<Input>,
    /// Sockets that had a port before they connected and may still be open, by cookie, with when they connected. Those
    /// without a cookie are not told again: nobody could say when they are over.
    bound: BTreeMap<u64, (Tuple, u64)>,
    users: Remembered<u32, String>,
    /// With the number of the Input that told them last.
    facts: Remembered<ProcessKey, (u64, ProcessFacts)>,
}

impl Told {
    fn bound(&mut self, cookie: u64, tuple: &Tuple, at_ns: u64) {
        if cookie == 0 {
            return;
        }
        self.bound.insert(cookie, (*tuple, at_ns));
        if self.bound.len() > REMEMBERED {
            // The kernel numbers sockets in order.
            self.bound.pop_first();
        }
    }
}

/// The last few.
struct Remembered<K, V> {
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
trait HasText {
    fn text_bytes(&self) -> usize;
}

impl HasText for String {
    fn text_bytes(&self) -> usize {
        self.len()
    }
}

impl HasText for (u64, ProcessFacts) {
    fn text_bytes(&self) -> usize {
        self.1.text_bytes()
    }
}

impl<K: std::hash::Hash + Eq + Copy, V: HasText> Remembered<K, V> {
    fn insert(&mut self, key: K, value: V) {
        self.text_bytes += value.text_bytes();
        match self.values.insert(key, value) {
            Some(before) => self.text_bytes -= before.text_bytes(),
            None => self.order.push_back(key),
        }
        while self.order.len() > REMEMBERED || self.text_bytes > REMEMBERED_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.text_bytes -= self.values.remove(&oldest).map_or(0, |value| value.text_bytes());
        }
    }
}

impl Encoder {
    /// Number of the next Input.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// The last time that was told, nanoseconds.
    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The last time that was told, microseconds since the Unix epoch.
    pub(super) fn now_us(&self) -> i64 {
        self.clock.split(self.now_ns).0
    }

    /// Rows that were not taken yet, of each table.
    pub(super) fn rows(&self) -> &[usize; TABLES] {
        &self.rows
    }

    /// Processes that this segment has named.
    pub(super) fn owners(&self) -> usize {
        self.owners.len()
    }

    /// Takes an Input.
    pub(super) fn push(&mut self, input: &Input) -> anyhow::Result<()> {
        if let Some(at_ns) = time(input) {
            if let Input::Start { unix_ns, .. } = input {
                self.clock = Clock::new(at_ns, *unix_ns);
                self.now_ns = at_ns;
            }
            // Some records come late.
            self.now_ns = self.now_ns.max(at_ns);
        }
        let at = self.at();
        match input {
            Input::Life(life) => {
                let opener = life.opener.as_ref().map(|owner| (self.owner(owner), owner));
                let closer = life.closer.as_ref().map(|owner| (self.owner(owner), owner));
                self.connections.life(at.seq, at.clock, life, opener, closer);
                self.tuples.insert(life.cookie, &life.tuple);
                self.told.bound.remove(&life.cookie);
                self.count(Table::Connections, 1);
            }
            Input::ConnectFailed(failed) => {
                let opener = self.owner(&failed.opener);
                self.connections.connect_failed(at.seq, at.clock, failed, opener);
                self.count(Table::Connections, 1);
            }
            Input::BindFailed(failed) => {
                let owner = self.owner(&failed.owner);
                self.connections.bind_failed(at.seq, at.clock, failed, owner);
                self.count(Table::Connections, 1);
            }
            Input::BoundConnect { cookie, tuple, at_ns } => {
                self.sockets.bound_connect(at, *cookie, (tuple, *at_ns), false, &mut self.tuples);
                self.told.bound(*cookie, tuple, *at_ns);
                self.count(Table::Sockets, 1);
            }
            Input::ResetSent { cookie, tuple, at_ns } => {
                self.sockets.reset(at, *cookie, tuple, *at_ns, &mut self.tuples);
                self.count(Table::Sockets, 1);
            }
            Input::TimewaitEnd(end) => {
                self.sockets.end(at, end, &mut self.tuples);
                self.count(Table::Sockets, 1);
            }
            Input::CensusRows(rows) => {
                rows.iter().for_each(|row| self.sockets.census_row(at, row, &mut self.tuples));
                self.count(Table::Sockets, rows.len());
                if rows.is_empty() {
                    return Ok(());
                }
            }
            Input::CensusGone(cookies) => {
                for cookie in cookies {
                    self.sockets.gone(at, *cookie);
                    self.told.bound.remove(cookie);
                }
                self.count(Table::Sockets, cookies.len());
                if cookies.is_empty() {
                    return Ok(());
                }
            }
            Input::Process { key, facts } => {
                self.processes.process(at.seq, *key, facts, false);
                self.told.facts.insert(*key, (at.seq, facts.clone()));
                self.count(Table::Processes, 1);
            }
            Input::User { uid, name } => {
                self.processes.user(at.seq, *uid, name, false);
                self.told.users.insert(*uid, name.clone());
                self.count(Table::Processes, 1);
            }
            Input::Start { .. }
            | Input::Counters(_)
            | Input::Kernel { .. }
            | Input::Namespace { .. }
            | Input::NamespaceGone { .. }
            | Input::NamespacesLeftOut(_)
            | Input::CensusBegin { .. }
            | Input::CensusEnd { .. }
            | Input::Holders { .. }
            | Input::Tick { .. } => {
                self.samples.sample(at, input, false)?;
                self.remember(input);
                self.count(Table::Samples, 1);
            }
        }
        self.seq += 1;
        Ok(())
    }

    fn at(&self) -> At {
        At { seq: self.seq, clock: self.clock, now_ns: self.now_ns }
    }

    fn count(&mut self, table: Table, rows: usize) {
        self.rows[table as usize] += rows;
    }

    fn remember(&mut self, input: &Input) {
        match input {
            Input::Start { .. } => self.told.start = Some(input.clone()),
            Input::Namespace { netns, .. }
                if self.told.namespaces.len() < REMEMBERED || self.told.namespaces.contains_key(netns) =>
            {
                self.told.namespaces.insert(*netns, input.clone());
            }
            Input::NamespaceGone { netns } => {
                self.told.namespaces.remove(netns);
                self.told.bound.retain(|_, (tuple, _)| tuple.netns != *netns);
            }
            Input::Holders { .. } => self.told.holders = Some(input.clone()),
            Input::NamespacesLeftOut(_) => self.told.left_out = Some(input.clone()),
            _ => {}
        }
    }

    /// What the segment calls a process. The first time it is written down.
    fn owner(&mut self, owner: &Owner) -> u32 {
        if let Some(id) = self.owners.get(owner) {
            return *id;
        }
        let id = self.next_owner;
        // A segment is over long before numbers come round.
        self.next_owner = self.next_owner.wrapping_add(1);
        self.owners.insert(*owner, id);
        self.processes.owner(self.seq, id, owner);
        self.count(Table::Processes, 1);
        if let Some((told, facts)) = self.told.facts.values.get_mut(&owner.key)
            && *told < self.first_seq
        {
            self.processes.process(self.seq, owner.key, facts, true);
            *told = self.seq;
            self.count(Table::Processes, 1);
        }
        id
    }

    /// Takes the rows of each table, unless it has none.
    pub(super) fn take(&mut self) -> anyhow::Result<[Option<RecordBatch>; TABLES]> {
        let rows = std::mem::take(&mut self.rows);
        let batch = |table: Table, columns: Vec<ArrayRef>| {
            let batch = || RecordBatch::try_new(Arc::clone(table.schema()), columns);
            (rows[table as usize] > 0).then(batch).transpose()
        };
        Ok([
            batch(Table::Samples, self.samples.finish()?)?,
            batch(Table::Processes, self.processes.finish()?)?,
            batch(Table::Connections, self.connections.finish()?)?,
            batch(Table::Sockets, self.sockets.finish()?)?,
        ])
    }

    /// Begins another segment, which stands alone: what was told before and still holds is told again.
    pub(super) fn begin_segment(&mut self) -> anyhow::Result<()> {
        self.first_seq = self.seq;
        self.owners.clear();
        self.tuples.clear();
        let at = self.at();
        let told = std::mem::take(&mut self.told);
        let frame = told.start.iter().chain(&told.left_out).chain(told.namespaces.values());
        for input in frame.chain(&told.holders) {
            self.samples.sample(at, input, true)?;
            self.count(Table::Samples, 1);
        }
        for (uid, name) in &told.users.values {
            self.processes.user(at.seq, *uid, name, true);
            self.count(Table::Processes, 1);
        }
        for (cookie, (tuple, at_ns)) in &told.bound {
            self.sockets.bound_connect(at, *cookie, (tuple, *at_ns), true, &mut self.tuples);
            self.count(Table::Sockets, 1);
        }
        self.told = told;
        Ok(())
    }
}

/// The time that an Input tells, nanoseconds.
fn time(input: &Input) -> Option<u64> {
    match input {
        Input::Life(life) => Some(life.end_ns),
        Input::ConnectFailed(failed) => Some(failed.at_ns),
        Input::TimewaitEnd(end) => Some(end.at_ns),
        Input::BindFailed(failed) => Some(failed.at_ns),
        Input::Start { at_ns, .. }
        | Input::BoundConnect { at_ns, .. }
        | Input::Holders { at_ns, .. }
        | Input::ResetSent { at_ns, .. }
        | Input::CensusBegin { at_ns, .. }
        | Input::CensusEnd { at_ns, .. }
        | Input::Tick { at_ns } => Some(*at_ns),
        Input::Counters(_)
        | Input::Kernel { .. }
        | Input::Namespace { .. }
        | Input::NamespaceGone { .. }
        | Input::NamespacesLeftOut(_)
        | Input::Process { .. }
        | Input::User { .. }
        | Input::CensusRows(_)
        | Input::CensusGone(_) => None,
    }
}
