//! What the trace itself costs.

use crate::columns::{Bool, Columns, Num, Opt, Time, table};
use crate::table::{Read, Reading, TableWriter, Writing};
use anyhow::Context as _;
use arrow_array::RecordBatch;
use arrow_array::types::{UInt16Type, UInt64Type};
use twtrace_core::cost::{CostReading, KernelSample};
use twtrace_core::event::Event;

table! {
    /// One row each time that the tracer read what it had used.
    Builder, Batch {
        /// Number of its event.
        seq: Num<UInt64Type>,
        time: Time,
        time_ns: Opt<UInt16Type>,
        /// Processor time of the tracer's process since its start, user and system, nanoseconds.
        process_ns: Num<UInt64Type>,
        /// Length of the sample of the programs in the kernel that ended here, nanoseconds; null if none did.
        sample_ns: Opt<UInt64Type>,
        /// Run time of all programs in the sample, nanoseconds.
        run_ns: Opt<UInt64Type>,
        /// How often any of them ran in the sample.
        runs: Opt<UInt64Type>,
        /// Connections that ended during the sample; both ends of one on this host count.
        connections: Opt<UInt64Type>,
        /// The kernel refuses to time programs.
        kernel_refused: Bool,
    }
}

/// Writes readings.
pub(crate) type Writer = Builder;

impl TableWriter for Builder {
    fn columns(&mut self) -> &mut dyn Columns {
        self
    }

    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()> {
        let Event::Cost(reading) = event else { return Ok(()) };
        let (time, rest) = writing.clock.split(reading.at_ns);
        let sample = reading.kernel;
        self.seq.push(writing.seq);
        self.time.push(time);
        self.time_ns.push(rest);
        self.process_ns.push(reading.process_ns);
        self.sample_ns.push(sample.map(|sample| sample.over_ns));
        self.run_ns.push(sample.map(|sample| sample.run_ns));
        self.runs.push(sample.map(|sample| sample.runs));
        self.connections.push(sample.map(|sample| sample.connections));
        self.kernel_refused.push(reading.kernel_refused);
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
        let sample = |over_ns| -> Option<KernelSample> {
            let (run_ns, runs) = (self.run_ns.get(row)?, self.runs.get(row)?);
            Some(KernelSample { over_ns, run_ns, runs, connections: self.connections.get(row)? })
        };
        let kernel = self.sample_ns.get(row).map(|over_ns| sample(over_ns).context("half of a sample is missing"));
        Ok(Read::Event(Event::Cost(CostReading {
            at_ns,
            process_ns: self.process_ns.value(row),
            kernel: kernel.transpose()?,
            kernel_refused: self.kernel_refused.value(row),
        })))
    }
}
