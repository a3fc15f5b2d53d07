//! Counters of the trace. The columns are the list of counters.

use crate::columns::{Columns, Num, Opt, Shown, Time, table};
use crate::table::{Read, Reading, TableWriter, Writing};
use arrow_array::RecordBatch;
use arrow_array::types::UInt64Type;
use twtrace_core::event::{Event, KernelCounters};

/// The table, with a column for each counter.
macro_rules! define {
    (kernel { $($(#[$_doc:meta])* $name:ident,)* } user { $($(#[$_user_doc:meta])* $user:ident,)* }) => {
        table! {
            /// One row each time that all counters were read.
            Builder, Batch {
                /// Number of its event.
                seq: Num<UInt64Type>,
                /// The latest reported time: the event has none of its own.
                time: Shown<Time>,
                // Never null. But counters come and go: a reader of one that the writer did not have finds no column.
                $($name: Opt<UInt64Type>,)*
                $($user: Opt<UInt64Type>,)*
            }
        }

        impl Builder {
            fn counters(&mut self, counters: &KernelCounters) {
                $(self.$name.push(Some(counters.$name));)*
                $(self.$user.push(Some(counters.$user));)*
            }
        }

        impl Batch {
            fn counters(&self, row: usize) -> KernelCounters {
                // A counter that the writer did not have counted nothing.
                KernelCounters {
                    $($name: self.$name.get(row).unwrap_or_default(),)*
                    $($user: self.$user.get(row).unwrap_or_default(),)*
                }
            }
        }
    };
}
twtrace_common::for_each_counter!(define);

/// Writes counters.
pub(crate) type Writer = Builder;

impl TableWriter for Builder {
    fn columns(&mut self) -> &mut dyn Columns {
        self
    }

    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()> {
        if let Event::Counters(counters) = event {
            self.seq.push(writing.seq);
            self.time.0.push(writing.now_us());
            self.counters(counters);
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
        // It needs no clock itself, but without one nothing is known about a trace.
        reading.clock()?;
        Ok(Read::Event(Event::Counters(self.counters(row))))
    }
}
