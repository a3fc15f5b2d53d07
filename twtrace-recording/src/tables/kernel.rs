//! Kernel figures, read periodically.

use crate::columns::{Columns, Num, Opt, Shown, Text, Time, table};
use crate::table::{Read, Reading, TableWriter, Writing};
use anyhow::Context as _;
use arrow_array::RecordBatch;
use arrow_array::types::{UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use twtrace_core::event::{Event, KernelFacts, NetFigures};

table! {
    /// One row each time that a network namespace was visited.
    Builder, Batch {
        /// Number of its event.
        seq: Num<UInt64Type>,
        /// The latest reported time: the event has none of its own.
        time: Shown<Time>,
        netns: Num<UInt32Type>,
        time_wait: Num<UInt64Type>,
        time_wait_overflow: Num<UInt64Type>,
        max_tw_buckets: Num<UInt64Type>,
        tw_reuse: Num<UInt8Type>,
        port_low: Num<UInt16Type>,
        port_high: Num<UInt16Type>,
        reserved_in_range: Num<UInt32Type>,
        reserved_ports: Text,
        tw_reuse_delay_ms: Opt<UInt32Type>,
        timestamps: Opt<UInt8Type>,
        fin_timeout_s: Opt<UInt32Type>,
        time_wait_s: Opt<UInt32Type>,
        listen_overflows: Opt<UInt64Type>,
        listen_drops: Opt<UInt64Type>,
        orphans: Opt<UInt64Type>,
        aborts_on_memory: Opt<UInt64Type>,
        conntrack_count: Opt<UInt64Type>,
        conntrack_max: Opt<UInt64Type>,
        conntrack_insert_failed: Opt<UInt64Type>,
        conntrack_drop: Opt<UInt64Type>,
        conntrack_early_drop: Opt<UInt64Type>,
    }
}

/// Writes figures.
pub(crate) type Writer = Builder;

impl TableWriter for Builder {
    fn columns(&mut self) -> &mut dyn Columns {
        self
    }

    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()> {
        let Event::Kernel { netns, facts } = event else { return Ok(()) };
        self.seq.push(writing.seq);
        self.time.0.push(writing.now_us());
        self.netns.push(*netns);
        self.time_wait.push(facts.time_wait);
        self.time_wait_overflow.push(facts.time_wait_overflow);
        self.max_tw_buckets.push(facts.max_tw_buckets);
        self.tw_reuse.push(facts.tw_reuse);
        self.port_low.push(facts.port_range.0);
        self.port_high.push(facts.port_range.1);
        self.reserved_in_range.push(facts.reserved_in_range);
        self.reserved_ports.push(Some(&facts.reserved_ports));
        self.tw_reuse_delay_ms.push(facts.tw_reuse_delay_ms);
        self.timestamps.push(facts.timestamps);
        self.fin_timeout_s.push(facts.fin_timeout_s);
        self.time_wait_s.push(facts.time_wait_s);
        self.listen_overflows.push(facts.figures.listen_overflows);
        self.listen_drops.push(facts.figures.listen_drops);
        self.orphans.push(facts.figures.orphans);
        self.aborts_on_memory.push(facts.figures.aborts_on_memory);
        self.conntrack_count.push(facts.figures.conntrack_count);
        self.conntrack_max.push(facts.figures.conntrack_max);
        self.conntrack_insert_failed.push(facts.figures.conntrack_insert_failed);
        self.conntrack_drop.push(facts.figures.conntrack_drop);
        self.conntrack_early_drop.push(facts.figures.conntrack_early_drop);
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
        let facts = KernelFacts {
            time_wait: self.time_wait.value(row),
            time_wait_overflow: self.time_wait_overflow.value(row),
            max_tw_buckets: self.max_tw_buckets.value(row),
            tw_reuse: self.tw_reuse.value(row),
            port_range: (self.port_low.value(row), self.port_high.value(row)),
            reserved_in_range: self.reserved_in_range.value(row),
            reserved_ports: self.reserved_ports.owned(row).context("the reserved ports are missing")?,
            tw_reuse_delay_ms: self.tw_reuse_delay_ms.get(row),
            timestamps: self.timestamps.get(row),
            fin_timeout_s: self.fin_timeout_s.get(row),
            time_wait_s: self.time_wait_s.get(row),
            figures: Box::new(NetFigures {
                listen_overflows: self.listen_overflows.get(row),
                listen_drops: self.listen_drops.get(row),
                orphans: self.orphans.get(row),
                aborts_on_memory: self.aborts_on_memory.get(row),
                conntrack_count: self.conntrack_count.get(row),
                conntrack_max: self.conntrack_max.get(row),
                conntrack_insert_failed: self.conntrack_insert_failed.get(row),
                conntrack_drop: self.conntrack_drop.get(row),
                conntrack_early_drop: self.conntrack_early_drop.get(row),
            }),
        };
        Ok(Read::Event(Event::Kernel { netns: self.netns.value(row), facts }))
    }
}
