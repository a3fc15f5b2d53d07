//! Sockets: what censuses saw of them, and how they ended after their connection had ended.

use crate::columns::{Bool, Columns, Flag, Num, Opt, Time, table};
use crate::dictionary::{DecodedDict, Meanings, Words};
use crate::part::Part;
use crate::remembered::REMEMBERED;
use crate::table::{Read, Reading, TableWriter, Writing};
use crate::tuples::{Addresses, TupleColumns, TupleRows, take_tuple};
use crate::words;
use anyhow::Context as _;
use arrow_array::RecordBatch;
use arrow_array::types::{UInt16Type, UInt32Type, UInt64Type};
use std::collections::BTreeMap;
use std::net::IpAddr;
use twtrace_core::event::{CensusRow, CensusState, Event, TimewaitCause, TimewaitEnd, Tuple};

table! {
    /// One row for each fact learned about a socket.
    Builder, Rows {
        /// Number of its event, which rows of one census share.
        seq: Num<UInt64Type>,
        /// Reported before: repeated for a reader that begins here.
        restated: Bool,
        /// When it happened; for a census, when it was taken.
        time: Time,
        time_ns: Opt<UInt16Type>,
        kind: Words<&'static str>,
        cookie: Num<UInt64Type>,
        state: Words<&'static str>,
        expires_ms: Opt<UInt32Type>,
        backlog: Opt<UInt32Type>,
        cause: Words<&'static str>,
        /// Addresses are left out when they are those of the last row of this cookie, here or in `connections`.
        netns: Opt<UInt32Type>,
        local_addr: Words<IpAddr>,
        local_port: Opt<UInt16Type>,
        remote_addr: Words<IpAddr>,
        remote_port: Opt<UInt16Type>,
        v4_mapped: Flag,
    }
}

/// What a row has in addition to its time. At first, everything is missing.
#[derive(Clone, Copy, Default)]
struct Row<'a> {
    kind: &'static str,
    cookie: u64,
    state: Option<CensusState>,
    expires_ms: Option<u32>,
    backlog: Option<u32>,
    cause: Option<TimewaitCause>,
    tuple: Option<&'a Tuple>,
}

impl Builder {
    fn row(&mut self, at_ns: u64, row: Row<'_>, restated: bool, writing: &mut Writing) {
        let (time, rest) = writing.clock.split(at_ns);
        self.seq.push(writing.seq);
        self.restated.push(restated);
        self.time.push(time);
        self.time_ns.push(rest);
        self.kind.push_word(Some(row.kind));
        self.cookie.push(row.cookie);
        self.state.push_word(row.state.map(CensusState::name));
        self.expires_ms.push(row.expires_ms);
        self.backlog.push(row.backlog);
        self.cause.push_word(row.cause.map(words::cause));
        let known = &mut writing.tuples;
        let tuple = row.tuple.filter(|tuple| known.get(row.cookie) != Some(*tuple));
        if let Some(tuple) = tuple {
            known.insert(row.cookie, tuple);
        }
        let columns = TupleColumns {
            netns: &mut self.netns,
            local_addr: &mut self.local_addr,
            local_port: &mut self.local_port,
            remote_addr: &mut self.remote_addr,
            remote_port: &mut self.remote_port,
            v4_mapped: &mut self.v4_mapped,
        };
        columns.push(tuple);
    }

    fn bound_connect(&mut self, cookie: u64, (tuple, at_ns): (&Tuple, u64), restated: bool, writing: &mut Writing) {
        let row = Row { kind: "bound_connect", cookie, tuple: Some(tuple), ..Row::default() };
        self.row(at_ns, row, restated, writing);
    }
}

/// Writes facts about sockets.
#[derive(Default)]
pub(crate) struct Writer {
    columns: Builder,
    /// Sockets that had a port before they connected and may still be open, by cookie, with the time of connecting:
    /// later segments repeat them. Sockets without a cookie are left out: their end could not be recognised.
    bound: BTreeMap<u64, (Tuple, u64)>,
}

impl Writer {
    fn remember(&mut self, cookie: u64, tuple: &Tuple, at_ns: u64) {
        if cookie == 0 {
            return;
        }
        self.bound.insert(cookie, (*tuple, at_ns));
        if self.bound.len() > REMEMBERED {
            // The kernel numbers sockets in order.
            self.bound.pop_first();
        }
    }
}

impl TableWriter for Writer {
    fn columns(&mut self) -> &mut dyn Columns {
        &mut self.columns
    }

    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()> {
        let now_ns = writing.now_ns;
        let columns = &mut self.columns;
        match event {
            Event::SocketDump(rows) => {
                for CensusRow { cookie, tuple, state, expires_ms, backlog } in rows {
                    let row = Row {
                        kind: "census",
                        cookie: *cookie,
                        state: Some(*state),
                        expires_ms: Some(*expires_ms),
                        backlog: Some(*backlog).filter(|backlog| *backlog > 0),
                        tuple: Some(tuple),
                        ..Row::default()
                    };
                    columns.row(now_ns, row, false, writing);
                }
            }
            Event::SocketsRemoved(cookies) => {
                for cookie in cookies {
                    let row = Row { kind: "removed", cookie: *cookie, ..Row::default() };
                    columns.row(now_ns, row, false, writing);
                    self.bound.remove(cookie);
                }
            }
            Event::TimewaitEnd(TimewaitEnd { cookie, tuple, fin_wait2, cause, at_ns }) => {
                let state = if *fin_wait2 { CensusState::TimewaitFinWait2 } else { CensusState::TimeWait };
                let row = Row {
                    kind: "end",
                    cookie: *cookie,
                    state: Some(state),
                    cause: Some(*cause),
                    tuple: Some(tuple),
                    ..Row::default()
                };
                columns.row(*at_ns, row, false, writing);
            }
            Event::ResetSent { cookie, tuple, at_ns } => {
                let row = Row { kind: "reset", cookie: *cookie, tuple: Some(tuple), ..Row::default() };
                columns.row(*at_ns, row, false, writing);
            }
            Event::BoundConnect { cookie, tuple, at_ns } => {
                columns.bound_connect(*cookie, (tuple, *at_ns), false, writing);
                self.remember(*cookie, tuple, *at_ns);
            }
            Event::Connection(connection) => drop(self.bound.remove(&connection.cookie)),
            Event::NamespaceGone { netns } => self.bound.retain(|_, (tuple, _)| tuple.netns != *netns),
            _ => {}
        }
        Ok(())
    }

    fn begin_segment(&mut self, writing: &mut Writing) -> anyhow::Result<()> {
        for (cookie, (tuple, at_ns)) in &self.bound {
            self.columns.bound_connect(*cookie, (tuple, *at_ns), true, writing);
        }
        Ok(())
    }
}

/// What the words of this table mean.
#[derive(Default)]
pub(crate) struct Dictionary {
    kind: Meanings<Kind>,
    state: Meanings<CensusState>,
    cause: Meanings<TimewaitCause>,
    addresses: Addresses,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Census,
    Removed,
    End,
    Reset,
    BoundConnect,
}

/// A batch that is being read.
pub(crate) struct Batch {
    rows: Rows,
    kind: DecodedDict<Kind>,
    state: DecodedDict<CensusState>,
    cause: DecodedDict<TimewaitCause>,
    tuple: TupleRows,
}

impl crate::table::Batch for Batch {
    type Words = Dictionary;

    fn new(batch: &RecordBatch, words: &mut Dictionary) -> anyhow::Result<Self> {
        let mut rows = Rows::of(batch)?;
        let kind = words.kind.of(rows.kind.take(), |word| match word {
            "census" => Some(Kind::Census),
            "removed" => Some(Kind::Removed),
            "end" => Some(Kind::End),
            "reset" => Some(Kind::Reset),
            "bound_connect" => Some(Kind::BoundConnect),
            _ => None,
        });
        let state = words.state.of(rows.state.take(), CensusState::of);
        let cause = words.cause.of(rows.cause.take(), words::parse_cause);
        let tuple = take_tuple!(rows, words.addresses);
        Ok(Self { rows, kind, state, cause, tuple })
    }

    fn read(&self, row: usize, reading: &mut Reading) -> anyhow::Result<Read> {
        let clock = reading.clock()?;
        let rows = &self.rows;
        let cookie = rows.cookie.value(row);
        // The writer has remembered the addresses, whatever the row is.
        let tuple = self.tuple.get(row)?;
        if let Some(tuple) = &tuple {
            reading.tuples.insert(cookie, tuple);
        }
        let kind = *self.kind.need(row)?;
        if kind == Kind::Removed {
            return Ok(Read::Part(Part::Removed(cookie)));
        }
        let tuple = tuple.or_else(|| reading.tuples.get(cookie).copied()).context("a socket without addresses")?;
        let at_ns = clock.moment(rows.time.value(row), rows.time_ns.get(row))?;
        Ok(match kind {
            Kind::Census => {
                let expires_ms = rows.expires_ms.get(row).context("a remaining time is missing")?;
                let backlog = rows.backlog.get(row).unwrap_or(0);
                Read::Part(Part::Census(CensusRow {
                    cookie,
                    tuple,
                    state: *self.state.need(row)?,
                    expires_ms,
                    backlog,
                }))
            }
            Kind::Reset => Read::Event(Event::ResetSent { cookie, tuple, at_ns }),
            Kind::BoundConnect => Read::Event(Event::BoundConnect { cookie, tuple, at_ns }),
            Kind::End | Kind::Removed => Read::Event(Event::TimewaitEnd(TimewaitEnd {
                cookie,
                tuple,
                fin_wait2: *self.state.need(row)? == CensusState::TimewaitFinWait2,
                cause: *self.cause.need(row)?,
                at_ns,
            })),
        })
    }
}
