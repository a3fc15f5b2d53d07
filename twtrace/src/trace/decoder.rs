//! From rows to Inputs.

use super::clock::Clock;
use super::columns::Unknown;
use super::schema::{TABLES, Table};
use super::tables::{connections, processes, samples, sockets};
use super::tuples::Tuples;
use super::unknown::Skipped;
use anyhow::{Context as _, bail};
use arrow_array::RecordBatch;
use twtrace_core::input::{CensusRow, Input, Owner};

/// Rows of all tables between two numbers of Inputs.
pub(super) type Window = [Option<RecordBatch>; TABLES];

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

/// Reads rows in the order of their Inputs.
#[derive(Default)]
pub(super) struct Decoder {
    clock: Clock,
    /// Processes of the segment, and the number of the first.
    owners: Vec<Owner>,
    first_owner: u32,
    tuples: Tuples,
    restated: Restated,
    /// Number of the next Input.
    next_seq: u64,
    words: Words,
    readers: Readers,
    rows: [usize; TABLES],
    /// Each table's next row.
    heads: [Option<Head>; TABLES],
    /// Rows of a census whose end was not seen yet.
    pending: Option<(u64, Pending)>,
    skipped: Skipped,
}

/// Where a row is in the order of all: by the number of its Input. Of those with the same number the first are what a
/// segment tells again of its frame and of sockets, whose end may be the Input of that number.
type Head = (u64, bool);

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
    }

    /// Forgets the rows that were taken.
    pub(super) fn clear(&mut self) {
        self.readers = Readers::default();
        self.heads = [None; TABLES];
    }

    /// Whether all that a segment should have was there.
    pub(super) fn check_end(&self, next_seq: u64) -> anyhow::Result<()> {
        if self.next_seq != next_seq {
            bail!("lacks rows at its end");
        }
        Ok(())
    }

    /// Takes the next rows of the segment.
    pub(super) fn load(&mut self, window: Window) -> anyhow::Result<()> {
        let words = &mut self.words;
        let [samples, processes, connections, sockets] = window;
        let rows = |batch: RecordBatch| samples::Rows::of(&batch).context("the table of samples");
        let samples = samples.map(rows).transpose()?;
        self.readers.samples = samples.map(|rows| samples::Reader::new(rows, &mut words.samples));
        let rows = |batch: RecordBatch| processes::Rows::of(&batch).context("the table of processes");
        let processes = processes.map(rows).transpose()?;
        self.readers.processes = processes.map(|rows| processes::Reader::new(rows, &mut words.processes));
        let rows = |batch: RecordBatch| connections::Rows::of(&batch).context("the table of connections");
        let connections = connections.map(rows).transpose()?;
        self.readers.connections = connections.map(|rows| connections::Reader::new(rows, &mut words.connections));
        let rows = |batch: RecordBatch| sockets::Rows::of(&batch).context("the table of sockets");
        let sockets = sockets.map(rows).transpose()?;
        self.readers.sockets = sockets.map(|rows| sockets::Reader::new(rows, &mut words.sockets));
        self.rows = [0; TABLES];
        for table in Table::ALL {
            self.heads[table as usize] = self.head(table);
        }
        Ok(())
    }

    fn head(&self, table: Table) -> Option<Head> {
        let row = self.rows[table as usize];
        Some(match table {
            Table::Samples => {
                let samples = self.readers.samples.as_ref()?;
                (samples.seq(row)?, !samples.is_restated(row))
            }
            Table::Processes => (self.readers.processes.as_ref()?.seq(row)?, true),
            Table::Connections => (self.readers.connections.as_ref()?.seq(row)?, true),
            Table::Sockets => {
                let sockets = self.readers.sockets.as_ref()?;
                (sockets.seq(row)?, !sockets.is_restated(row))
            }
        })
    }

    /// Rows of kinds that this version does not know, since they were last asked for.
    pub(super) fn take_skipped(&mut self) -> Skipped {
        std::mem::take(&mut self.skipped)
    }

    /// What was waiting for more rows, now that there are none.
    pub(super) fn finish(&mut self) -> Option<Input> {
        let (seq, pending) = self.pending.take()?;
        self.next_seq = seq.saturating_add(1);
        Some(pending.input())
    }

    /// The next Input of the rows that were taken; `None` when there is none, though one may wait for more rows.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Input>> {
        loop {
            // Of one Input the rows of the earlier table come first.
            let heads = Table::ALL.into_iter().filter_map(|table| Some((self.heads[table as usize]?, table)));
            let Some(((seq, _), table)) = heads.min() else { return Ok(None) };
            if let Some((pending, _)) = self.pending
                && (pending != seq || table != Table::Sockets)
            {
                return Ok(self.finish());
            }
            if seq > self.next_seq {
                bail!("rows are missing before row {} of {}", self.rows[table as usize], table.name());
            }
            let row = self.rows[table as usize];
            let input = match self.row(table, row, seq) {
                Err(error) if error.is::<Unknown>() => {
                    let Unknown(word) = error.downcast()?;
                    self.skipped.add(table, &word);
                    self.skip(table, row, seq);
                    None
                }
                read => read.with_context(|| format!("row {row} of {}", table.name()))?,
            };
            self.rows[table as usize] += 1;
            let next = self.head(table);
            if next.is_some_and(|(next, _)| next < seq) {
                bail!("rows of {} are not in order", table.name());
            }
            self.heads[table as usize] = next;
            if let Some((input, restated)) = input {
                if !restated {
                    self.next_seq = seq.saturating_add(1);
                }
                return Ok(Some(input));
            }
        }
    }

    /// Passes over an Input that cannot be read, for which nothing else is missing.
    fn skip(&mut self, table: Table, row: usize, seq: u64) {
        let restated = match table {
            Table::Samples => self.readers.samples.as_ref().is_some_and(|reader| reader.is_restated(row)),
            Table::Processes => self.readers.processes.as_ref().is_some_and(|reader| reader.is_restated(row)),
            Table::Connections => false,
            Table::Sockets => self.readers.sockets.as_ref().is_some_and(|reader| reader.is_restated(row)),
        };
        if !restated {
            self.next_seq = self.next_seq.max(seq.saturating_add(1));
        }
    }

    /// Reads one row. Not every one is an Input; one that is may have been told before.
    fn row(&mut self, table: Table, row: usize, seq: u64) -> anyhow::Result<Option<(Input, bool)>> {
        let gone = "there are no rows";
        Ok(match table {
            Table::Samples => {
                let sample = self.readers.samples.as_ref().context(gone)?.sample(row, self.clock)?;
                self.clock = sample.clock.unwrap_or(self.clock);
                let is_start = matches!(sample.input, Input::Start { .. });
                (!sample.restated || self.is_wanted(is_start)).then_some((sample.input, sample.restated))
            }
            Table::Processes => match self.readers.processes.as_ref().context(gone)?.told(row)? {
                processes::Told::Owner(id, owner) => {
                    if self.owners.is_empty() {
                        self.first_owner = id;
                    }
                    if id.wrapping_sub(self.first_owner) as usize != self.owners.len() {
                        bail!("processes are not in order");
                    }
                    self.owners.push(owner);
                    None
                }
                processes::Told::Input(input, restated) => {
                    (!restated || self.is_wanted(false)).then_some((input, restated))
                }
            },
            Table::Connections => {
                let reader = self.readers.connections.as_ref().context(gone)?;
                let (owners, first) = (&self.owners, self.first_owner);
                let owner = |id: u32| owners.get(id.wrapping_sub(first) as usize).copied();
                Some((reader.input(row, self.clock, &mut self.tuples, owner)?, false))
            }
            Table::Sockets => {
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

    fn is_wanted(&self, is_start: bool) -> bool {
        match self.restated {
            Restated::Known => false,
            Restated::Again => !is_start,
            Restated::First => true,
        }
    }
}
