//! A table: converts events to rows, and back.

use super::clock::Clock;
use super::columns::Columns;
use super::numbers::Numbers;
use super::order::{Order, Orders};
use super::part::Part;
use super::tuples::Tuples;
use anyhow::{Context as _, bail};
use arrow_array::RecordBatch;
use twtrace_core::event::Event;

/// What rows refer to while they are written.
#[derive(Default)]
pub(super) struct Writing {
    /// Number of the event.
    pub(super) seq: u64,
    pub(super) clock: Clock,
    /// The last time that was reported, nanoseconds.
    pub(super) now_ns: u64,
    /// Addresses that need not be written again.
    pub(super) tuples: Tuples,
    /// Number of each process of the event in this segment. The table of processes sets it, for the tables after it.
    pub(super) opener: Option<u32>,
    pub(super) closer: Option<u32>,
    /// How many processes the segment has named.
    pub(super) processes: usize,
}

impl Writing {
    /// The last time that was reported, microseconds since the Unix epoch.
    pub(super) fn now_us(&self) -> i64 {
        self.clock.split(self.now_ns).0
    }
}

/// A table that is being written.
pub(super) trait TableWriter: Send {
    /// Its rows so far.
    fn columns(&mut self) -> &mut dyn Columns;

    /// Writes the parts of an event that belong in this table. Every table gets every event.
    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()>;

    /// Another segment begins, which can be read alone: repeats what was reported before and is still true.
    fn begin_segment(&mut self, _writing: &mut Writing) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What rows refer to while they are read.
#[derive(Default)]
pub(super) struct Reading {
    clock: Clock,
    /// The row with the clock could not be read: no time is known until the next one.
    is_blind: bool,
    pub(super) tuples: Tuples,
    pub(super) numbers: Numbers,
}

impl Reading {
    /// Fails while no time can be read.
    pub(super) fn clock(&self) -> anyhow::Result<Clock> {
        if self.is_blind {
            bail!("its time is not known: the start of the trace cannot be read");
        }
        Ok(self.clock)
    }

    /// Later times are of this clock.
    pub(super) fn set_clock(&mut self, clock: Clock) {
        (self.clock, self.is_blind) = (clock, false);
    }

    /// The clock may have been in a part that was left out.
    pub(super) fn lose_clock(&mut self) {
        self.is_blind = true;
    }
}

/// Content of a row.
pub(super) enum Read {
    /// Something that other rows refer to, not an event.
    Reference,
    /// A whole event.
    Event(Event),
    /// A part of an event. The other parts are in other rows of this table with the same number.
    Part(Part),
}

/// A batch of a table that is being read.
pub(super) trait Batch: Sized + Send {
    /// What the words of the table mean, computed once for all batches that share a dictionary.
    type Words: Default + Send;

    /// Takes the columns, which may be in any order.
    fn new(batch: &RecordBatch, words: &mut Self::Words) -> anyhow::Result<Self>;

    /// Reads a row.
    fn read(&self, row: usize, reading: &mut Reading) -> anyhow::Result<Read>;
}

/// A table that is being read.
pub(super) trait TableReader: Send {
    /// Loads the next batch, replacing the previous one.
    fn load(&mut self, batch: &RecordBatch) -> anyhow::Result<()>;

    /// Drops the batch.
    fn clear(&mut self);

    /// Position of a row of the batch; `None` when there are fewer.
    fn order(&self, row: usize) -> Option<Order>;

    /// Reads a row of the batch.
    fn read(&self, row: usize, reading: &mut Reading) -> anyhow::Result<Read>;
}

/// The reader of any table.
pub(super) struct Reader<B: Batch> {
    words: B::Words,
    batch: Option<(Orders, B)>,
}

impl<B: Batch> Default for Reader<B> {
    fn default() -> Self {
        Self { words: B::Words::default(), batch: None }
    }
}

impl<B: Batch> TableReader for Reader<B> {
    fn load(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.batch = Some((Orders::of(batch)?, B::new(batch, &mut self.words)?));
        Ok(())
    }

    fn clear(&mut self) {
        self.batch = None;
    }

    fn order(&self, row: usize) -> Option<Order> {
        self.batch.as_ref().and_then(|(orders, _)| orders.get(row))
    }

    fn read(&self, row: usize, reading: &mut Reading) -> anyhow::Result<Read> {
        let (_, batch) = self.batch.as_ref().context("there are no rows")?;
        batch.read(row, reading)
    }
}
