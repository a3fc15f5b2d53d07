//! From rows to events.

use super::clock::Clock;
use super::columns::Unknown;
use super::schema::{TABLES, Table};
use super::skipped::Skipped;
use super::tables::{connections, processes, samples, sockets};
use super::tuples::Tuples;
use anyhow::{Context as _, bail};
use arrow_array::RecordBatch;
use twtrace_core::input::{CensusRow, Input, Owner};

/// Where a row is in the order of all: by the number of its event. Of rows with the same number the first are what a
/// segment repeats of its frame and of sockets, whose end may be the event of that number.
pub(super) type Order = (u64, bool);

/// What is done with rows that tell again what earlier segments told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Restated {
    /// It was told: the segment before was read.
    #[default]
    Known,
    /// It may have been in what cannot be read.
    Again,
    /// Here the reading begins.
    First,
}

/// What comes next of the rows that were taken.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// An event of which all rows were there.
    Event(Input),
    /// This table has to go on first: its rows may be of the event that would come next.
    Needs(Table),
    /// All tables are over.
    Over,
}

/// How far a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Head {
    /// Its next rows were not taken yet.
    #[default]
    Waiting,
    /// Its next row.
    Row(Order),
    /// It has no more rows in this segment.
    Over,
}

/// Processes that a segment may name, and how many numbers in a row may be missing; no segment comes near these.
const MOST_OWNERS: usize = 1 << 20;
const MOST_MISSING: usize = 1 << 16;

/// Merges the rows of the tables in the order of their events.
#[derive(Default)]
pub(super) struct Decoder {
    clock: Clock,
    /// A start was handed over.
    has_started: bool,
    /// What comes first could not be read, and the clock that it told with it: no time can be read until one comes.
    is_blind: bool,
    /// Something was left out since the census under way began: what it lacks proves nothing.
    is_census_cut: bool,
    /// Processes of the segment, by their numbers from the first on. Those whose rows could not be read are `None`.
    owners: Vec<Option<Owner>>,
    first_owner: u32,
    tuples: Tuples,
    restated: Restated,
    /// Number of the next Input.
    next_seq: u64,
    words: Words,
    readers: Readers,
    rows: [usize; TABLES],
    heads: [Head; TABLES],
    /// Rows of a census whose end was not seen yet.
    pending: Option<(u64, Pending)>,
    skipped: Skipped,
    /// Events of `connections` that were given out since the segment began.
    connections: u64,
}

#[derive(Default)]
struct Words {
    samples: samples::Dictionary,
    processes: processes::Dictionary,
    connections: connections::Dictionary,
    sockets: sockets::Dictionary,
}

#[derive(Default)]
struct Readers {
    samples: Option<samples::Reader>,
    processes: Option<processes::Reader>,
    connections: Option<connections::Reader>,
    sockets: Option<sockets::Reader>,
}

enum Pending {
    Rows(Vec<CensusRow>),
    Gone(Vec<u64>),
}

impl Pending {
    fn input(self) -> Input {
        match self {
            Self::Rows(rows) => Input::CensusRows(rows),
            Self::Gone(cookies) => Input::CensusGone(cookies),
        }
    }
}

impl Decoder {
    /// A segment begins.
    pub(super) fn begin(&mut self, first_seq: u64, restated: Restated) {
        self.clear();
        self.owners.clear();
        self.tuples.clear();
        self.restated = restated;
        self.next_seq = first_seq;
        self.connections = 0;
    }

    /// Forgets the rows that were taken.
    pub(super) fn clear(&mut self) {
        self.readers = Readers::default();
        self.heads = [Head::Waiting; TABLES];
    }

    /// How many rows of `connections` became events since the segment began.
    pub(super) fn connections(&self) -> u64 {
        self.connections
    }

    /// Notes what the segment lacks at its end.
    pub(super) fn end(&mut self, next_seq: u64) {
        if self.next_seq < next_seq {
            self.skipped.gap(next_seq - self.next_seq);
        }
    }

    /// Takes the next rows of a table that has run out.
    pub(super) fn load(&mut self, table: Table, batch: &RecordBatch) -> anyhow::Result<()> {
        if self.heads[table as usize] != Head::Waiting {
            bail!("has rows that are not in order");
        }
        let (words, readers) = (&mut self.words, &mut self.readers);
        match table {
            Table::Samples => {
                readers.samples = Some(samples::Reader::new(samples::Rows::of(batch)?, &mut words.samples));
            }
            Table::Processes => {
                readers.processes = Some(processes::Reader::new(processes::Rows::of(batch)?, &mut words.processes));
            }
            Table::Connections => {
                let rows = connections::Rows::of(batch)?;
                readers.connections = Some(connections::Reader::new(rows, &mut words.connections));
            }
            Table::Sockets => {
                readers.sockets = Some(sockets::Reader::new(sockets::Rows::of(batch)?, &mut words.sockets));
            }
        }
        self.rows[table as usize] = 0;
        self.heads[table as usize] = self.head(table);
        Ok(())
    }

    /// A table that has run out has no more rows in this segment.
    pub(super) fn close(&mut self, table: Table) -> anyhow::Result<()> {
        if self.heads[table as usize] != Head::Waiting {
            bail!("has rows that are not in order");
        }
        self.heads[table as usize] = Head::Over;
        Ok(())
    }

    fn head(&self, table: Table) -> Head {
        let row = self.rows[table as usize];
        let seq = match table {
            Table::Samples => self.readers.samples.as_ref().and_then(|reader| reader.seq(row)),
            Table::Processes => self.readers.processes.as_ref().and_then(|reader| reader.seq(row)),
            Table::Connections => self.readers.connections.as_ref().and_then(|reader| reader.seq(row)),
            Table::Sockets => self.readers.sockets.as_ref().and_then(|reader| reader.seq(row)),
        };
        seq.map_or(Head::Waiting, |seq| Head::Row((seq, !(table.repeats_first() && self.is_restated(table, row)))))
    }

    /// Whether a row repeats what an earlier segment told.
    fn is_restated(&self, table: Table, row: usize) -> bool {
        match table {
            Table::Samples => self.readers.samples.as_ref().is_some_and(|reader| reader.is_restated(row)),
            Table::Processes => self.readers.processes.as_ref().is_some_and(|reader| reader.is_restated(row)),
            Table::Connections => false,
            Table::Sockets => self.readers.sockets.as_ref().is_some_and(|reader| reader.is_restated(row)),
        }
    }

    /// What was left out since this was last asked for.
    pub(super) fn take_skipped(&mut self) -> Skipped {
        std::mem::take(&mut self.skipped)
    }

    /// What was waiting for more rows, now that there are none.
    pub(super) fn finish(&mut self) -> Option<Input> {
        let (seq, pending) = self.pending.take()?;
        self.next_seq = seq.saturating_add(1);
        Some(pending.input())
    }

    /// The next event. A row that cannot be read is left out and noted; what comes after it does not depend on it.
    pub(super) fn next(&mut self) -> anyhow::Result<Next> {
        loop {
            // Of one event the rows of the earlier table come first.
            let mut first: Option<(Order, Table)> = None;
            for table in Table::ALL {
                match self.heads[table as usize] {
                    Head::Waiting => return Ok(Next::Needs(table)),
                    Head::Row(order) if first.is_none_or(|first| (order, table) < first) => {
                        first = Some((order, table));
                    }
                    Head::Row(_) | Head::Over => {}
                }
            }
            let Some((order @ (seq, _), table)) = first else {
                return Ok(self.finish().map_or(Next::Over, Next::Event));
            };
            if self.pending.as_ref().is_some_and(|(pending, _)| *pending != seq || table != Table::Sockets)
                && let Some(event) = self.finish()
            {
                return Ok(Next::Event(event));
            }
            if seq > self.next_seq {
                self.skipped.gap(seq - self.next_seq);
                self.next_seq = seq;
                self.tuples.clear();
                self.leave_out();
            }
            let row = self.rows[table as usize];
            let read = match self.row(table, row, seq) {
                Ok(read) => read,
                Err(error) => {
                    match error.downcast::<Unknown>() {
                        Ok(Unknown(word)) => self.skipped.unknown(table, &word),
                        Err(error) => {
                            self.skipped.unreadable(table, &error);
                            // Later rows may leave out addresses that this one had: better none than another's.
                            self.tuples.clear();
                        }
                    }
                    self.skip(table, row, seq);
                    self.leave_out();
                    None
                }
            };
            self.rows[table as usize] += 1;
            let next = self.head(table);
            if matches!(next, Head::Row(next) if next < order) {
                bail!("has rows that are not in order");
            }
            self.heads[table as usize] = next;
            if let Some((mut event, restated)) = read {
                match &mut event {
                    Input::Start { .. } => self.has_started = true,
                    Input::CensusBegin { .. } => self.is_census_cut = false,
                    Input::CensusEnd { complete, .. } => *complete &= !self.is_census_cut,
                    _ => {}
                }
                if !restated {
                    self.next_seq = seq.saturating_add(1);
                }
                self.connections += u64::from(table == Table::Connections);
                return Ok(Next::Event(event));
            }
        }
    }

    /// An event was left out.
    fn leave_out(&mut self) {
        self.is_census_cut = true;
        self.is_blind |= !self.has_started;
    }

    /// Passes over an Input that cannot be read, for which nothing else is missing.
    fn skip(&mut self, table: Table, row: usize, seq: u64) {
        if !self.is_restated(table, row) {
            self.next_seq = self.next_seq.max(seq.saturating_add(1));
        }
    }

    /// Reads one row. Not every one is an Input; one that is may have been told before.
    fn row(&mut self, table: Table, row: usize, seq: u64) -> anyhow::Result<Option<(Input, bool)>> {
        let gone = "there are no rows";
        Ok(match table {
            Table::Samples => {
                let sample = self.readers.samples.as_ref().context(gone)?.sample(row, self.clock)?;
                match sample.clock {
                    Some(clock) => (self.clock, self.is_blind) = (clock, false),
                    None => self.has_a_clock()?,
                }
                let is_start = matches!(sample.input, Input::Start { .. });
                (!sample.restated || self.is_wanted(is_start)).then_some((sample.input, sample.restated))
            }
            Table::Processes => match self.readers.processes.as_ref().context(gone)?.told(row)? {
                processes::Told::Owner(id, owner) => {
                    if self.owners.is_empty() {
                        self.first_owner = id;
                    }
                    let at = id.wrapping_sub(self.first_owner) as usize;
                    if at < self.owners.len() || at >= MOST_OWNERS.min(self.owners.len() + MOST_MISSING) {
                        bail!("the number of a process is not in order");
                    }
                    // In between were rows that could not be read.
                    self.owners.resize(at, None);
                    self.owners.push(Some(owner));
                    None
                }
                processes::Told::Input(input, restated) => {
                    (!restated || self.is_wanted(false)).then_some((input, restated))
                }
            },
            Table::Connections => {
                self.has_a_clock()?;
                let reader = self.readers.connections.as_ref().context(gone)?;
                let (owners, first) = (&self.owners, self.first_owner);
                let owner = |id: u32| owners.get(id.wrapping_sub(first) as usize).copied().flatten();
                Some((reader.input(row, self.clock, &mut self.tuples, owner)?, false))
            }
            Table::Sockets => {
                self.has_a_clock()?;
                let sockets = self.readers.sockets.as_ref().context(gone)?;
                match sockets.told(row, self.clock, &mut self.tuples)? {
                    sockets::Told::Whole(input) => {
                        let restated = sockets.is_restated(row);
                        (!restated || self.is_wanted(false)).then_some((input, restated))
                    }
                    sockets::Told::Row(row) => {
                        match &mut self.pending {
                            Some((_, Pending::Rows(rows))) => rows.push(row),
                            Some(_) => bail!("rows of one Input differ"),
                            None => self.pending = Some((seq, Pending::Rows(vec![row]))),
                        }
                        None
                    }
                    sockets::Told::Gone(cookie) => {
                        match &mut self.pending {
                            Some((_, Pending::Gone(cookies))) => cookies.push(cookie),
                            Some(_) => bail!("rows of one Input differ"),
                            None => self.pending = Some((seq, Pending::Gone(vec![cookie]))),
                        }
                        None
                    }
                }
            }
        })
    }

    /// Fails while no time can be read.
    fn has_a_clock(&self) -> anyhow::Result<()> {
        if self.is_blind {
            bail!("its time is not known: the start of the trace cannot be read");
        }
        Ok(())
    }

    fn is_wanted(&self, is_start: bool) -> bool {
        match self.restated {
            Restated::Known => false,
            Restated::Again => !is_start || !self.has_started,
            Restated::First => true,
        }
    }
}
