//! The rows of a recording, table by table, decoded ahead on their own thread.

use super::decoder::Restated;
use super::dir::RecordingDir;
use super::guard::guarded;
use super::open_segment::{OpenSegment, OpenSegmentBatches};
use super::order::{Order, Orders};
use super::schema::Form;
use super::sealed::{Columns, Sealed};
use super::tables::Table;
use super::{Loss, is_missing, loss};
use anyhow::{Context as _, bail};
use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Parts that are decoded ahead, up to a few megabytes each.
const AHEAD: usize = 8;

/// How to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Maximum number of rows of a table that are decoded at once. It does not change what is read.
    pub batch_rows: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { batch_rows: 16_384 }
    }
}

/// A segment to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(super) segment: u32,
    /// Sealed; if false, it may be sealed by the time that it is read.
    pub(super) sealed: bool,
    /// Rows of `connections` that it should have.
    pub(super) connections: u64,
    /// Wall clock of its first moment, microseconds since the Unix epoch.
    pub(super) first_us: i64,
}

/// What the thread sends.
///
/// Between `Segment` and `End` each table has its own run of `Rows`, closed by `Over`. The batches of the tables end at
/// different events, and a batch may end in the middle of one. So batches are not aligned here: the decoder merges the
/// tables row by row and waits for the table that has run out. The thread sends the batch of the table that runs out
/// first, which is the one that the decoder waits for.
pub(super) enum Part {
    /// A segment begins, with this number of rows of `connections`.
    Segment { segment: u32, first_seq: u64, restated: Restated, connections: u64 },
    /// The next rows of a table.
    Rows(Table, RecordBatch),
    /// The table has no more rows in this segment.
    Over(Table),
    /// The segment has ended, with the number of the event that comes next.
    End { next_seq: u64 },
    /// The rest of the segment cannot be read, or none of it: then `unopened` rows of `connections` are lost.
    Lost { loss: Loss, unopened: u64 },
}

/// Starts to read.
pub(super) fn start(
    place: Arc<RecordingDir>,
    id: String,
    plan: Vec<Planned>,
    options: ReadOptions,
) -> io::Result<Receiver<Part>> {
    let (parts, receiver) = sync_channel(AHEAD);
    thread::Builder::new().name("read".to_owned()).spawn(move || {
        let mut next_seq = None;
        for planned in plan {
            let lost = match Segment::open(&place, &id, planned, Columns::Read, options) {
                Ok(segment) => segment.read(&mut next_seq, &parts).map_err(|loss| (loss, 0)),
                Err(loss) => Err((loss, planned.connections)),
            };
            let heard = match lost {
                Ok(heard) => heard,
                Err((loss, unopened)) => {
                    // What comes next is not what was expected.
                    next_seq = next_seq.map(|_| u64::MAX);
                    parts.send(Part::Lost { loss, unopened }).is_ok()
                }
            };
            if !heard {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// A segment that is being read.
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) form: Form,
    pub(super) first_seq: u64,
    /// Events from here on are not fully in it.
    pub(super) end_seq: u64,
    /// Rows of `connections` below that.
    connections: u64,
    /// Of each table.
    pub(super) columns: Vec<Source>,
}

/// One table of it.
pub(super) struct Source {
    table: Table,
    batches: Batches,
    /// The last row that was sent.
    last: Order,
    is_over: bool,
    /// A batch is sent in pieces of at most this many rows.
    batch_rows: usize,
    /// The rest of a batch.
    rest: Option<RecordBatch>,
}

enum Batches {
    Parquet(ParquetRecordBatchReader),
    OpenSegment(Box<OpenSegmentBatches>),
}

impl Batches {
    fn next(&mut self) -> anyhow::Result<Option<RecordBatch>> {
        guarded(|| match self {
            Self::Parquet(reader) => Ok(reader.next().transpose()?),
            Self::OpenSegment(batches) => batches.next(),
        })
    }
}

/// Opens all tables of a segment.
fn each<T>(form: Form, segment: u32, open: impl Fn(Table) -> anyhow::Result<T>) -> Result<Vec<T>, (bool, Loss)> {
    let one = |table: Table| {
        guarded(|| open(table)).map_err(|error| (is_missing(&error), loss(table.file(segment, form), &error)))
    };
    Table::ALL.into_iter().map(one).collect()
}

impl Segment {
    pub(super) fn open(
        place: &RecordingDir,
        id: &str,
        planned: Planned,
        which: Columns,
        options: ReadOptions,
    ) -> Result<Self, Loss> {
        let number = planned.segment;
        if !planned.sealed {
            match each(Form::Arrows, number, |table| OpenSegment::open(place, Some(id), table, number)) {
                Ok(tails) => {
                    let end_seq = tails.iter().map(OpenSegment::next_seq).min().unwrap_or(0);
                    let connections = tails[Table::Connections as usize].rows_below(end_seq);
                    let first_seq = tails[0].label.first_seq;
                    let source = |tail: OpenSegment| {
                        Source::new(tail.table, Batches::OpenSegment(Box::new(tail.batches())), options.batch_rows)
                    };
                    let columns = tails.into_iter().map(source).collect();
                    return Ok(Self { number, form: Form::Arrows, first_seq, end_seq, connections, columns });
                }
                // It was sealed meanwhile.
                Err((true, _)) => {}
                Err((false, loss)) => return Err(loss),
            }
        }
        let sealed = each(Form::Parquet, number, |table| {
            let sealed = Sealed::open(place, Some(id), table, number)?;
            let end = sealed.label.end.context("does not say where it ends")?;
            let (first_seq, rows) = (sealed.label.first_seq, sealed.rows());
            let batches = Batches::Parquet(sealed.batches(which, options.batch_rows)?);
            Ok((first_seq, end.next_seq, rows, Source::new(table, batches, options.batch_rows)))
        });
        let sealed = sealed.map_err(|(is_missing, loss)| {
            if is_missing { Loss { what: "was dropped meanwhile".to_owned(), ..loss } } else { loss }
        })?;
        let (first_seq, end_seq) = (sealed[0].0, sealed[0].1);
        let connections = sealed[Table::Connections as usize].2;
        let columns = sealed.into_iter().map(|(.., source)| source).collect();
        Ok(Self { number, form: Form::Parquet, first_seq, end_seq, connections, columns })
    }

    /// Sends all of it. `next_seq` is the number of the event expected next, once one was read.
    /// `Ok(false)` when the receiver is gone.
    fn read(mut self, next_seq: &mut Option<u64>, parts: &SyncSender<Part>) -> Result<bool, Loss> {
        let restated = match *next_seq {
            None if self.first_seq == 0 => Restated::Known,
            None => Restated::First,
            Some(next) if next == self.first_seq => Restated::Known,
            Some(_) => Restated::Again,
        };
        *next_seq = Some(self.end_seq);
        let begin =
            Part::Segment { segment: self.number, first_seq: self.first_seq, restated, connections: self.connections };
        if parts.send(begin).is_err() {
            return Ok(false);
        }
        // Each table's first rows, then those of the table that runs out first.
        let mut waiting: Vec<Table> = Table::ALL.into_iter().rev().collect();
        while let Some(table) = waiting.pop().or_else(|| self.runs_out_first()) {
            let end_seq = self.end_seq;
            let batch = self.columns[table as usize]
                .next(end_seq)
                .map_err(|error| loss(table.file(self.number, self.form), &error))?;
            let part = match batch {
                Some(batch) => Part::Rows(table, batch),
                None => Part::Over(table),
            };
            if parts.send(part).is_err() {
                return Ok(false);
            }
        }
        Ok(parts.send(Part::End { next_seq: self.end_seq }).is_ok())
    }

    /// The table whose last sent row comes before those of the others.
    fn runs_out_first(&self) -> Option<Table> {
        let open = self.columns.iter().filter(|source| !source.is_over);
        open.map(|source| (source.last, source.table)).min().map(|(_, table)| table)
    }
}

impl Source {
    fn new(table: Table, batches: Batches, batch_rows: usize) -> Self {
        Self { table, batches, last: (0, false), is_over: false, batch_rows: batch_rows.max(1), rest: None }
    }

    /// The next rows of events below a number; `None` at the end.
    pub(super) fn next(&mut self, end_seq: u64) -> anyhow::Result<Option<RecordBatch>> {
        while !self.is_over {
            let batch = match self.rest.take() {
                Some(rest) => rest,
                None => match self.batches.next()? {
                    Some(batch) if Orders::of(&batch)?.seqs().is_sorted() => batch,
                    Some(_) => bail!("has rows that are not in order"),
                    None => break,
                },
            };
            let orders = Orders::of(&batch)?;
            if orders.seqs().is_empty() {
                continue;
            }
            // Rows that only some of the tables have are not used.
            let rows = orders.seqs().partition_point(|seq| *seq < end_seq).min(self.batch_rows);
            let (Some(first), Some(last)) = (orders.get(0), rows.checked_sub(1).and_then(|last| orders.get(last)))
            else {
                break;
            };
            if first < self.last || last < first {
                bail!("has rows that are not in order");
            }
            self.last = last;
            if rows < batch.num_rows() {
                self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
            }
            return Ok(Some(batch.slice(0, rows)));
        }
        (self.is_over, self.rest) = (true, None);
        Ok(None)
    }
}
