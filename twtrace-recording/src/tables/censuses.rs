//! Begin and end of each census; its sockets are in `sockets`.

use crate::columns::{Bool, Columns, Num, Opt, Time, table};
use crate::dictionary::{DecodedDict, Meanings, Words};
use crate::table::{Read, Reading, TableWriter, Writing};
use arrow_array::RecordBatch;
use arrow_array::types::{UInt16Type, UInt32Type, UInt64Type};
use twtrace_core::event::Event;

table! {
    /// One row for the beginning of a census, and one for its end.
    Builder, Rows {
        /// Number of its event.
        seq: Num<UInt64Type>,
        time: Time,
        time_ns: Opt<UInt16Type>,
        kind: Words<&'static str>,
        /// The namespace of the census. That of an end is not read back.
        netns: Num<UInt32Type>,
        /// Of a beginning: all sockets are listed. Of an end: the kernel's answer was not interrupted.
        complete: Bool,
    }
}

/// Writes beginnings and ends.
#[derive(Default)]
pub(crate) struct Writer {
    columns: Builder,
    /// Of the running census.
    netns: u32,
}

impl TableWriter for Writer {
    fn columns(&mut self) -> &mut dyn Columns {
        &mut self.columns
    }

    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()> {
        let (kind, at_ns, complete) = match event {
            Event::SocketDumpBegin { netns, at_ns, whole } => {
                self.netns = *netns;
                ("begin", *at_ns, *whole)
            }
            Event::SocketDumpEnd { at_ns, complete } => ("end", *at_ns, *complete),
            _ => return Ok(()),
        };
        let (time, rest) = writing.clock.split(at_ns);
        let columns = &mut self.columns;
        columns.seq.push(writing.seq);
        columns.time.push(time);
        columns.time_ns.push(rest);
        columns.kind.push_word(Some(kind));
        columns.netns.push(self.netns);
        columns.complete.push(complete);
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Begin,
    End,
}

/// What the words of this table mean.
#[derive(Default)]
pub(crate) struct Dictionary {
    kind: Meanings<Kind>,
}

/// A batch that is being read.
pub(crate) struct Batch {
    rows: Rows,
    kind: DecodedDict<Kind>,
}

impl crate::table::Batch for Batch {
    type Words = Dictionary;

    fn new(batch: &RecordBatch, words: &mut Dictionary) -> anyhow::Result<Self> {
        let mut rows = Rows::of(batch)?;
        let kind = words.kind.of(rows.kind.take(), |word| match word {
            "begin" => Some(Kind::Begin),
            "end" => Some(Kind::End),
            _ => None,
        });
        Ok(Self { rows, kind })
    }

    fn read(&self, row: usize, reading: &mut Reading) -> anyhow::Result<Read> {
        let rows = &self.rows;
        let at_ns = reading.clock()?.moment(rows.time.value(row), rows.time_ns.get(row))?;
        let complete = rows.complete.value(row);
        Ok(Read::Event(match self.kind.need(row)? {
            Kind::Begin => Event::SocketDumpBegin { netns: rows.netns.value(row), at_ns, whole: complete },
            Kind::End => Event::SocketDumpEnd { at_ns, complete },
        }))
    }
}
