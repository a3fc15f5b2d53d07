//! Ticks.

use crate::columns::{Columns, Num, Opt, Time, table};
use crate::table::{Read, Reading, TableWriter, Writing};
use arrow_array::RecordBatch;
use arrow_array::types::{UInt16Type, UInt64Type};
use twtrace_core::event::Event;

table! {
    /// One row per tick.
    Builder, Batch {
        /// Number of its event.
        seq: Num<UInt64Type>,
        time: Time,
        time_ns: Opt<UInt16Type>,
    }
}

/// Writes ticks.
pub(crate) type Writer = Builder;

impl TableWriter for Builder {
    fn columns(&mut self) -> &mut dyn Columns {
        self
    }

    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()> {
        if let Event::Tick { at_ns } = event {
            let (time, rest) = writing.clock.split(*at_ns);
            self.seq.push(writing.seq);
            self.time.push(time);
            self.time_ns.push(rest);
        }
        Ok(())
    }
}

impl crate::table::Batch for Batch {
    type Words = ();

    fn new(batch: &RecordBatch, (): &mut ()) -> anyhow::Result<Self> {
        Self::of(batch)
    }

    fn read(&self, row: usize, reading: &mut Reading) -> anyhow::Result<Read> {
        let at_ns = reading.clock()?.moment(self.time.value(row), self.time_ns.get(row))?;
        Ok(Read::Event(Event::Tick { at_ns }))
    }
}
