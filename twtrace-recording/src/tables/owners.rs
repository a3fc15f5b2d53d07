//! Owners of the open sockets: the results from `/proc/PID/fd`, joined with the census.

use crate::columns::{Bool, Columns, Num, Opt, Time, table};
use crate::dictionary::{DecodedDict, Meanings, Words};
use crate::part::Part;
use crate::table::{Read, Reading, TableWriter, Writing};
use crate::words;
use anyhow::{Context as _, anyhow};
use arrow_array::RecordBatch;
use arrow_array::types::{UInt16Type, UInt32Type, UInt64Type};
use std::net::IpAddr;
use twtrace_core::event::{CensusState, Event, SocketOwner};

table! {
    /// One row for each process and kind of socket that a search found. A search that found nothing has one row without
    /// a process.
    Builder, Rows {
        /// Number of its event, which the rows of one search share.
        seq: Num<UInt64Type>,
        /// Reported before: repeated for a reader that begins here.
        restated: Bool,
        /// When the search ended.
        time: Time,
        time_ns: Opt<UInt16Type>,
        /// The search left out no process.
        complete: Bool,
        pid: Opt<UInt32Type>,
        start_ns: Opt<UInt64Type>,
        command: Words<String>,
        uid: Opt<UInt32Type>,
        netns: Opt<UInt32Type>,
        state: Words<&'static str>,
        local_addr: Words<IpAddr>,
        local_port: Opt<UInt16Type>,
        remote_addr: Words<IpAddr>,
        remote_port: Opt<UInt16Type>,
        sockets: Num<UInt64Type>,
    }
}

impl Builder {
    fn owner(&mut self, owner: Option<&SocketOwner>) {
        self.pid.push(owner.map(|owner| owner.tgid));
        self.start_ns.push(owner.map(|owner| owner.start_ns));
        self.uid.push(owner.map(|owner| owner.uid));
        self.netns.push(owner.map(|owner| owner.netns));
        self.local_port.push(owner.map(|owner| owner.local_port));
        self.remote_port.push(owner.map(|owner| owner.remote_port));
        self.sockets.push(owner.map_or(0, |owner| owner.sockets));
        match owner.map(|owner| owner.command.as_str()) {
            Some(command) => self.command.push(command, |out| out.append_value(command)),
            None => self.command.push_null(),
        }
        self.state.push_word(owner.map(|owner| owner.state.name()));
        for (column, address) in [
            (&mut self.local_addr, owner.map(|owner| owner.local_addr)),
            (&mut self.remote_addr, owner.map(|owner| owner.remote_addr)),
        ] {
            match address {
                Some(address) => column.push(&address, |out| words::write_address(address, out)),
                None => column.push_null(),
            }
        }
    }
}

/// Writes the results of searches.
#[derive(Default)]
pub(crate) struct Writer {
    columns: Builder,
    /// The last one, which later segments repeat.
    last: Option<(u64, bool, Vec<SocketOwner>)>,
}

impl Writer {
    fn rows(&mut self, restated: bool, writing: &Writing) {
        let Some((at_ns, complete, owners)) = &self.last else { return };
        let (time, rest) = writing.clock.split(*at_ns);
        let none = owners.is_empty().then_some(None);
        for owner in owners.iter().map(Some).chain(none) {
            self.columns.seq.push(writing.seq);
            self.columns.restated.push(restated);
            self.columns.time.push(time);
            self.columns.time_ns.push(rest);
            self.columns.complete.push(*complete);
            self.columns.owner(owner);
        }
    }
}

impl TableWriter for Writer {
    fn columns(&mut self) -> &mut dyn Columns {
        &mut self.columns
    }

    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()> {
        if let Event::SocketOwners { at_ns, complete, rows } = event {
            self.last = Some((*at_ns, *complete, rows.clone()));
            self.rows(false, writing);
        }
        Ok(())
    }

    fn begin_segment(&mut self, writing: &mut Writing) -> anyhow::Result<()> {
        self.rows(true, writing);
        Ok(())
    }
}

/// What the words of this table mean.
#[derive(Default)]
pub(crate) struct Dictionary {
    command: Meanings<String>,
    state: Meanings<CensusState>,
    local_addr: Meanings<IpAddr>,
    remote_addr: Meanings<IpAddr>,
}

/// A batch that is being read.
pub(crate) struct Batch {
    rows: Rows,
    command: DecodedDict<String>,
    state: DecodedDict<CensusState>,
    local_addr: DecodedDict<IpAddr>,
    remote_addr: DecodedDict<IpAddr>,
}

impl crate::table::Batch for Batch {
    type Words = Dictionary;

    fn new(batch: &RecordBatch, words: &mut Dictionary) -> anyhow::Result<Self> {
        let mut rows = Rows::of(batch)?;
        let text = |text: &str| Some(text.to_owned());
        let address = |text: &str| text.parse().ok();
        Ok(Self {
            command: words.command.of(rows.command.take(), text),
            state: words.state.of(rows.state.take(), CensusState::of),
            local_addr: words.local_addr.of(rows.local_addr.take(), address),
            remote_addr: words.remote_addr.of(rows.remote_addr.take(), address),
            rows,
        })
    }

    fn read(&self, row: usize, reading: &mut Reading) -> anyhow::Result<Read> {
        let rows = &self.rows;
        let at_ns = reading.clock()?.moment(rows.time.value(row), rows.time_ns.get(row))?;
        let owner = rows.pid.get(row).map(|pid| self.owner(row, pid)).transpose()?;
        Ok(Read::Part(Part::Owner { at_ns, complete: rows.complete.value(row), owner }))
    }
}

impl Batch {
    fn owner(&self, row: usize, pid: u32) -> anyhow::Result<SocketOwner> {
        let rows = &self.rows;
        // An invalid address is damage, not a word of a later version.
        let address = |column: &DecodedDict<IpAddr>| {
            column.need(row).copied().map_err(|error| anyhow!("an address that is none: {error}"))
        };
        Ok(SocketOwner {
            tgid: pid,
            start_ns: rows.start_ns.get(row).context("the start of a process is missing")?,
            command: self.command.need(row)?.clone(),
            uid: rows.uid.get(row).context("a user is missing")?,
            netns: rows.netns.get(row).context("a namespace is missing")?,
            state: *self.state.need(row)?,
            local_addr: address(&self.local_addr)?,
            local_port: rows.local_port.get(row).context("a port is missing")?,
            remote_addr: address(&self.remote_addr)?,
            remote_port: rows.remote_port.get(row).context("a port is missing")?,
            sockets: rows.sockets.value(row),
        })
    }
}
