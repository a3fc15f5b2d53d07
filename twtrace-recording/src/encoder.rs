//! From events to rows.

use super::clock::Clock;
use super::table::{TableWriter, Writing};
use super::tables::{TABLES, Table};
use arrow_array::RecordBatch;
use std::sync::Arc;
use twtrace_core::event::Event;

/// Builds rows.
pub(super) struct Encoder {
    writing: Writing,
    tables: [Box<dyn TableWriter>; TABLES],
    rows: [usize; TABLES],
}

impl Default for Encoder {
    fn default() -> Self {
        Self { writing: Writing::default(), tables: Table::writers(), rows: [0; TABLES] }
    }
}

impl Encoder {
    /// Number of the next event.
    pub(super) fn seq(&self) -> u64 {
        self.writing.seq
    }

    /// The last time that was reported, nanoseconds.
    pub(super) fn now_ns(&self) -> u64 {
        self.writing.now_ns
    }

    /// The last time that was reported, microseconds since the Unix epoch.
    pub(super) fn now_us(&self) -> i64 {
        self.writing.now_us()
    }

    /// Rows that have not been taken yet, of each table.
    pub(super) fn rows(&self) -> &[usize; TABLES] {
        &self.rows
    }

    /// Processes that this segment has named.
    pub(super) fn processes(&self) -> usize {
        self.writing.processes
    }

    /// Adds an event.
    pub(super) fn push(&mut self, event: &Event) -> anyhow::Result<()> {
        if let Some(at_ns) = time(event) {
            if let Event::Start { unix_ns, .. } = event {
                self.writing.clock = Clock::new(at_ns, *unix_ns);
                self.writing.now_ns = at_ns;
            }
            // Some records arrive late.
            self.writing.now_ns = self.writing.now_ns.max(at_ns);
        }
        let mut has_rows = false;
        for (table, rows) in self.tables.iter_mut().zip(&mut self.rows) {
            table.push(event, &mut self.writing)?;
            let before = std::mem::replace(rows, table.columns().rows());
            has_rows |= *rows > before;
        }
        // An empty piece of a census has no rows, and reports nothing.
        self.writing.seq += u64::from(has_rows);
        Ok(())
    }

    /// Takes the rows of each table that has any.
    pub(super) fn take(&mut self) -> anyhow::Result<[Option<RecordBatch>; TABLES]> {
        let mut batches = [const { None }; TABLES];
        for table in Table::ALL {
            let rows = std::mem::take(&mut self.rows[table as usize]);
            let columns = self.tables[table as usize].columns().finish()?;
            if rows > 0 {
                batches[table as usize] = Some(RecordBatch::try_new(Arc::clone(table.schema()), columns)?);
            }
        }
        Ok(batches)
    }

    /// Begins another segment, which can be read alone.
    pub(super) fn begin_segment(&mut self) -> anyhow::Result<()> {
        self.writing.tuples.clear();
        for (table, rows) in self.tables.iter_mut().zip(&mut self.rows) {
            table.begin_segment(&mut self.writing)?;
            *rows = table.columns().rows();
        }
        Ok(())
    }
}

/// The time of an event, nanoseconds.
fn time(event: &Event) -> Option<u64> {
    match event {
        Event::Connection(connection) => Some(connection.end_ns),
        Event::ConnectFailed(failed) => Some(failed.at_ns),
        Event::TimewaitEnd(end) => Some(end.at_ns),
        Event::BindFailed(failed) => Some(failed.at_ns),
        Event::Start { at_ns, .. }
        | Event::BoundConnect { at_ns, .. }
        | Event::SocketOwners { at_ns, .. }
        | Event::ResetSent { at_ns, .. }
        | Event::SocketDumpBegin { at_ns, .. }
        | Event::SocketDumpEnd { at_ns, .. }
        | Event::Tick { at_ns } => Some(*at_ns),
        Event::Cost(reading) => Some(reading.at_ns),
        Event::Counters(_)
        | Event::Kernel { .. }
        | Event::Namespace { .. }
        | Event::NamespaceGone { .. }
        | Event::NamespacesLeftOut(_)
        | Event::Process { .. }
        | Event::Container { .. }
        | Event::User { .. }
        | Event::SocketDump(_)
        | Event::SocketsRemoved(_) => None,
    }
}
