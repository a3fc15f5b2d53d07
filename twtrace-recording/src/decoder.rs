//! From rows to events.

use super::dictionary::Unknown;
use super::order::{Order, is_restated};
use super::skipped::Skipped;
use super::table::{Read, Reading, TableReader};
use super::tables::{TABLES, Table};
use anyhow::bail;
use arrow_array::RecordBatch;
use twtrace_core::event::Event;

/// How to treat rows that repeat what earlier segments reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Restated {
    /// Already reported: the segment before was read.
    #[default]
    Known,
    /// It may have been in a part that cannot be read.
    Again,
    /// Reading begins here.
    First,
}

/// What the rows so far give next.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and nearly always with an event")]
pub(super) enum Next {
    /// An event that has all of its rows.
    Event(Event),
    /// This table has to continue first: its rows may belong to the event that would come next.
    Needs(Table),
    /// All tables have ended.
    Over,
}

/// Position in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Head {
    /// Its next rows have not been loaded yet.
    #[default]
    Waiting,
    /// Its next row.
    Row(Order),
    /// It has no more rows in this segment.
    Over,
}

/// The row that comes first, of all tables.
enum First {
    Row(Order, Table),
    /// Unknown: this table has to continue.
    Needs(Table),
    Over,
}

/// An event that still collects its rows, and their position.
struct Pending {
    order: Order,
    table: Table,
    event: Event,
}

/// Merges the rows of the tables in the order of their events.
pub(super) struct Decoder {
    reading: Reading,
    tables: [Box<dyn TableReader>; TABLES],
    rows: [usize; TABLES],
    heads: [Head; TABLES],
    /// The table whose row came first when all were compared, and the first row of the others: until that one, rows of the
    /// same table follow each other, and are not compared.
    run: Option<(Table, Option<(Order, Table)>)>,
    restated: Restated,
    /// A start was returned.
    has_started: bool,
    /// Something was left out since the running census began: absence from it proves nothing.
    is_census_cut: bool,
    /// Position of the last row that was left out.
    left_out: Option<Order>,
    /// Number of the next event.
    next_seq: u64,
    pending: Option<Pending>,
    skipped: Skipped,
    /// Events of `connections` that were returned since the segment began.
    connections: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            reading: Reading::default(),
            tables: Table::readers(),
            rows: [0; TABLES],
            heads: [Head::Waiting; TABLES],
            run: None,
            restated: Restated::default(),
            has_started: false,
            is_census_cut: false,
            left_out: None,
            next_seq: 0,
            pending: None,
            skipped: Skipped::default(),
            connections: 0,
        }
    }
}

impl Decoder {
    /// A segment begins.
    pub(super) fn begin(&mut self, first_seq: u64, restated: Restated) {
        self.clear();
        self.reading.numbers.clear();
        self.reading.tuples.clear();
        self.restated = restated;
        self.next_seq = first_seq;
        self.connections = 0;
    }

    /// Drops the loaded rows.
    pub(super) fn clear(&mut self) {
        self.tables.iter_mut().for_each(|table| table.clear());
        self.heads = [Head::Waiting; TABLES];
        self.run = None;
    }

    /// How many rows of `connections` became events since the segment began.
    pub(super) fn connections(&self) -> u64 {
        self.connections
    }

    /// Records what is missing at the end of the segment.
    pub(super) fn end(&mut self, next_seq: u64) {
        if self.next_seq < next_seq {
            self.skipped.gap(next_seq - self.next_seq);
        }
    }

    /// Loads the next rows of a table that has run out.
    pub(super) fn load(&mut self, table: Table, batch: &RecordBatch) -> anyhow::Result<()> {
        if self.heads[table as usize] != Head::Waiting {
            bail!("has rows that are not in order");
        }
        self.tables[table as usize].load(batch)?;
        self.rows[table as usize] = 0;
        self.heads[table as usize] = self.head(table);
        self.run = None;
        Ok(())
    }

    /// A table that has run out has no more rows in this segment.
    pub(super) fn close(&mut self, table: Table) -> anyhow::Result<()> {
        if self.heads[table as usize] != Head::Waiting {
            bail!("has rows that are not in order");
        }
        self.heads[table as usize] = Head::Over;
        self.run = None;
        Ok(())
    }

    fn head(&self, table: Table) -> Head {
        self.tables[table as usize].order(self.rows[table as usize]).map_or(Head::Waiting, Head::Row)
    }

    /// What was left out since the last call.
    pub(super) fn take_skipped(&mut self) -> Skipped {
        std::mem::take(&mut self.skipped)
    }

    /// The event that was waiting for more rows, now that there are none.
    pub(super) fn finish(&mut self) -> Option<Event> {
        let Pending { order, table, event } = self.pending.take()?;
        Some(self.give(event, order, table))
    }

    /// The next event. A row that cannot be read is left out and counted; no later row depends on it.
    pub(super) fn next(&mut self) -> anyhow::Result<Next> {
        loop {
            let (order, table) = match self.first() {
                First::Row(order, table) => (order, table),
                First::Needs(table) => return Ok(Next::Needs(table)),
                First::Over => return Ok(self.finish().map_or(Next::Over, Next::Event)),
            };
            if self.pending.as_ref().is_some_and(|pending| (pending.order, pending.table) != (order, table))
                && let Some(event) = self.finish()
            {
                return Ok(Next::Event(event));
            }
            let (seq, _) = order;
            if seq > self.next_seq {
                self.skipped.gap(seq - self.next_seq);
                self.next_seq = seq;
                self.reading.tuples.clear();
                self.leave_out();
            }
            let read = match self.row(table, order) {
                Ok(read) => read,
                Err(error) => {
                    match error.downcast::<Unknown>() {
                        Ok(Unknown(word)) => self.skipped.unknown(table, &word),
                        Err(error) => {
                            self.skipped.unreadable(table, &error);
                            // Later rows may omit addresses that this row had: no address is better than another
                            // socket's.
                            self.reading.tuples.clear();
                        }
                    }
                    self.skip(order);
                    self.leave_out();
                    None
                }
            };
            self.rows[table as usize] += 1;
            let next = self.head(table);
            if matches!(next, Head::Row(next) if next < order) {
                bail!("has rows that are not in order");
            }
            self.heads[table as usize] = next;
            if let Some(event) = read {
                return Ok(Next::Event(self.give(event, order, table)));
            }
        }
    }

    /// The row that comes first. Of one event, the rows of the earlier table do.
    fn first(&mut self) -> First {
        if let Some((table, others)) = self.run
            && let Head::Row(order) = self.heads[table as usize]
            && others.is_none_or(|others| (order, table) < others)
        {
            return First::Row(order, table);
        }
        let (mut first, mut second): (Option<(Order, Table)>, _) = (None, None);
        for table in Table::ALL {
            match self.heads[table as usize] {
                Head::Waiting => return First::Needs(table),
                Head::Row(order) if first.is_none_or(|first| (order, table) < first) => {
                    (first, second) = (Some((order, table)), first);
                }
                Head::Row(order) if second.is_none_or(|second| (order, table) < second) => {
                    second = Some((order, table));
                }
                Head::Row(_) | Head::Over => {}
            }
        }
        let Some((order, table)) = first else { return First::Over };
        self.run = Some((table, second));
        First::Row(order, table)
    }

    /// Reads one row. Not every row is an event.
    fn row(&mut self, table: Table, order: Order) -> anyhow::Result<Option<Event>> {
        let read = self.tables[table as usize].read(self.rows[table as usize], &mut self.reading)?;
        if is_restated(order) && !self.is_wanted(matches!(read, Read::Event(Event::Start { .. }))) {
            return Ok(None);
        }
        Ok(match read {
            Read::Reference => None,
            Read::Event(event) => Some(event),
            Read::Part(part) => {
                match &mut self.pending {
                    Some(pending) => part.add_to(&mut pending.event)?,
                    None => self.pending = Some(Pending { order, table, event: part.begin() }),
                }
                None
            }
        })
    }

    /// Returns an event. An event with a part left out does not claim to be complete.
    fn give(&mut self, mut event: Event, order: Order, table: Table) -> Event {
        match &mut event {
            Event::Start { .. } => self.has_started = true,
            Event::SocketDumpBegin { .. } => self.is_census_cut = false,
            Event::SocketDumpEnd { complete, .. } => *complete &= !self.is_census_cut,
            Event::SocketOwners { complete, .. } => *complete &= self.left_out != Some(order),
            _ => {}
        }
        if !is_restated(order) {
            self.next_seq = order.0.saturating_add(1);
        }
        self.connections += u64::from(table == Table::Connections);
        event
    }

    /// Something was left out.
    fn leave_out(&mut self) {
        self.is_census_cut = true;
        if !self.has_started {
            self.reading.lose_clock();
        }
    }

    /// Skips a row that cannot be read, and nothing else is missing because of it.
    fn skip(&mut self, order: Order) {
        self.left_out = Some(order);
        if !is_restated(order) {
            self.next_seq = self.next_seq.max(order.0.saturating_add(1));
        }
    }

    fn is_wanted(&self, is_start: bool) -> bool {
        match self.restated {
            Restated::Known => false,
            Restated::Again => !is_start || !self.has_started,
            Restated::First => true,
        }
    }
}
