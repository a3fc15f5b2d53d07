//! All rows of a recording in the order of their Inputs, decoded ahead on a thread of its own.

use super::decoder::{Restated, Window};
use super::guard::guarded;
use super::place::Place;
use super::schema::{Form, TABLES, Table};
use super::sealed::{Columns, Sealed};
use super::tail::{Tail, TailBatches};
use super::{Loss, is_missing};
use anyhow::{Context as _, bail};
use arrow_array::{RecordBatch, UInt64Array};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Windows that are decoded ahead, a few megabytes each.
const AHEAD: usize = 4;

/// A segment that is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(super) segment: u32,
    /// Sealed; else it may be by the time that it is read.
    pub(super) sealed: bool,
}

/// What the thread hands over.
pub(super) enum Part {
    /// A segment begins.
    Segment { segment: u32, first_seq: u64, restated: Restated },
    /// Its next rows.
    Window(Box<Window>),
    /// It is over, with the number of the Input that comes next.
    End { next_seq: u64 },
    /// It cannot be read any further.
    Lost(Loss),
}

/// Starts to read.
pub(super) fn start(place: Arc<Place>, id: String, plan: Vec<Planned>) -> io::Result<Receiver<Part>> {
    let (parts, receiver) = sync_channel(AHEAD);
    thread::Builder::new().name("read".to_owned()).spawn(move || {
        let mut next_seq = None;
        for planned in plan {
            let lost = match Segment::open(&place, &id, planned, Columns::Read) {
                Ok(segment) => segment.read(&mut next_seq, &parts),
                Err(loss) => Err(loss),
            };
            let heard = match lost {
                Ok(heard) => heard,
                Err(loss) => parts.send(Part::Lost(loss)).is_ok(),
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
    /// Inputs from here on are not all in it.
    pub(super) end_seq: u64,
    pub(super) columns: [Source; TABLES],
}

/// One table of it.
pub(super) struct Source {
    batches: Batches,
    /// Rows that were decoded and not handed over.
    rest: Option<RecordBatch>,
    last_seq: u64,
    is_over: bool,
}

enum Batches {
    Parquet(ParquetRecordBatchReader),
    Tail(Box<TailBatches>),
}

impl Batches {
    fn next(&mut self) -> anyhow::Result<Option<RecordBatch>> {
        guarded(|| match self {
            Self::Parquet(reader) => Ok(reader.next().transpose()?),
            Self::Tail(batches) => batches.next(),
        })
    }
}

/// Opens all tables of a segment.
fn each<T>(form: Form, segment: u32, open: impl Fn(Table) -> anyhow::Result<T>) -> Result<[T; TABLES], (bool, Loss)> {
    let one = |table: Table| {
        guarded(|| open(table)).map_err(|error| (is_missing(&error), Loss::new(table.file(segment, form), &error)))
    };
    let [first, second, third, fourth] = Table::ALL;
    Ok([one(first)?, one(second)?, one(third)?, one(fourth)?])
}

impl Segment {
    pub(super) fn open(place: &Place, id: &str, planned: Planned, which: Columns) -> Result<Self, Loss> {
        let number = planned.segment;
        if !planned.sealed {
            match each(Form::Arrows, number, |table| Tail::open(place, Some(id), table, number)) {
                Ok(tails) => {
                    let end_seq = tails.iter().map(Tail::next_seq).min().unwrap_or(0);
                    let first_seq = tails[0].label.first_seq;
                    let columns = tails.map(|tail| Source::new(Batches::Tail(Box::new(tail.batches()))));
                    return Ok(Self { number, form: Form::Arrows, first_seq, end_seq, columns });
                }
                // It was sealed meanwhile.
                Err((true, _)) => {}
                Err((false, loss)) => return Err(loss),
            }
        }
        let sealed = each(Form::Parquet, number, |table| {
            let sealed = Sealed::open(place, Some(id), table, number)?;
            let end = sealed.label.end.context("does not say where it ends")?;
            Ok((sealed.label.first_seq, end.next_seq, Source::new(Batches::Parquet(sealed.batches(which)?))))
        });
        let sealed = sealed.map_err(|(is_missing, loss)| {
            if is_missing { Loss { what: "was dropped meanwhile".to_owned(), ..loss } } else { loss }
        })?;
        let (first_seq, end_seq) = (sealed[0].0, sealed[0].1);
        Ok(Self { number, form: Form::Parquet, first_seq, end_seq, columns: sealed.map(|(.., source)| source) })
    }

    /// Hands over all of it. `next_seq` is the number of the Input that should come next, once one was read.
    /// `Ok(false)` when nobody listens any more.
    fn read(mut self, next_seq: &mut Option<u64>, parts: &SyncSender<Part>) -> Result<bool, Loss> {
        let restated = match *next_seq {
            None if self.first_seq == 0 => Restated::Known,
            None => Restated::First,
            Some(next) if next == self.first_seq => Restated::Known,
            Some(_) => Restated::Again,
        };
        // Should it not be read to its end, what comes next is not what should.
        *next_seq = Some(u64::MAX);
        let begin = Part::Segment { segment: self.number, first_seq: self.first_seq, restated };
        if parts.send(begin).is_err() {
            return Ok(false);
        }
        while let Some(window) = self.window()? {
            if parts.send(Part::Window(Box::new(window))).is_err() {
                return Ok(false);
            }
        }
        *next_seq = Some(self.end_seq);
        Ok(parts.send(Part::End { next_seq: self.end_seq }).is_ok())
    }

    /// The next rows of all tables, up to where every table is known.
    fn window(&mut self) -> Result<Option<Window>, Loss> {
        let (number, form) = (self.number, self.form);
        let lost = |table: Table, error: &anyhow::Error| Loss::new(table.file(number, form), error);
        for (table, source) in Table::ALL.into_iter().zip(&mut self.columns) {
            source.fill().map_err(|error| lost(table, &error))?;
        }
        let Some(last) = self.end_seq.checked_sub(1) else { return Ok(None) };
        let known = self.columns.iter().filter(|source| !source.is_over).map(|source| source.last_seq);
        let until = known.min().map_or(last, |known| known.min(last));
        let mut window = Window::default();
        for (table, source) in Table::ALL.into_iter().zip(&mut self.columns) {
            window[table as usize] = source.take(until).map_err(|error| lost(table, &error))?;
        }
        let is_over = until == last || self.columns.iter().all(|source| source.is_over && source.rest.is_none());
        if is_over {
            // Nothing is left that could be asked for.
            self.end_seq = self.end_seq.max(1);
            for source in &mut self.columns {
                source.is_over = true;
                source.rest = None;
            }
        }
        Ok(window.iter().any(Option::is_some).then_some(window))
    }
}

impl Source {
    fn new(batches: Batches) -> Self {
        Self { batches, rest: None, last_seq: 0, is_over: false }
    }

    /// Decodes more when there is nothing left.
    pub(super) fn fill(&mut self) -> anyhow::Result<()> {
        while self.rest.is_none() && !self.is_over {
            let Some(batch) = self.batches.next()? else {
                self.is_over = true;
                break;
            };
            let seqs = seqs(&batch)?.values();
            let Some((first, last)) = seqs.first().zip(seqs.last()) else { continue };
            if *first < self.last_seq || !seqs.is_sorted() {
                bail!("has rows that are not in order");
            }
            self.last_seq = *last;
            self.rest = Some(batch);
        }
        Ok(())
    }

    /// Takes the rows up to an Input.
    pub(super) fn take(&mut self, until: u64) -> anyhow::Result<Option<RecordBatch>> {
        let Some(batch) = self.rest.take() else { return Ok(None) };
        let count = seqs(&batch)?.values().partition_point(|seq| *seq <= until);
        if count < batch.num_rows() {
            self.rest = Some(batch.slice(count, batch.num_rows() - count));
        }
        Ok((count > 0).then(|| batch.slice(0, count)))
    }
}

fn seqs(batch: &RecordBatch) -> anyhow::Result<&UInt64Array> {
    let column = batch.column_by_name("seq").context("has no column seq")?;
    column.as_any().downcast_ref().context("has a column seq of another type")
}
