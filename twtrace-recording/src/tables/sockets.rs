//! Sockets: what censuses saw of them, and what became of those whose connection was over.

use crate::clock::Clock;
use crate::columns::{Flag, Meanings, Meant, Num, Opt, OptReader, Time, Words, table};
use crate::tuples::{Addresses, TupleColumns, TupleRows, Tuples};
use crate::words;
use anyhow::Context as _;
use arrow_array::types::{UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{BooleanArray, TimestampMicrosecondArray, UInt16Array, UInt32Array, UInt64Array};
use std::net::IpAddr;
use twtrace_core::input::{CensusRow, CensusState, Input, TimewaitCause, TimewaitEnd, Tuple};

table! {
    /// One row for each thing told of a socket.
    Sockets, Rows {
        /// Number of its Input, which rows of one census share.
        seq: Num<UInt64Type>,
        /// Told before: repeated for who begins to read here.
        restated: Flag,
        /// When it happened; for a census when it was taken.
        time: Time,
        time_ns: Opt<UInt16Type>,
        kind: Words<&'static str>,
        cookie: Num<UInt64Type>,
        state: Words<&'static str>,
        expires_ms: Opt<UInt32Type>,
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

/// Where and when of a row.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) seq: u64,
    pub(crate) clock: Clock,
    /// The last time that was told, nanoseconds.
    pub(crate) now_ns: u64,
}

impl Sockets {
    fn begin(&mut self, at: At, at_ns: u64, kind: &'static str, cookie: u64) {
        self.begin_as(false, at, at_ns, kind, cookie);
    }

    fn begin_as(&mut self, restated: bool, at: At, at_ns: u64, kind: &'static str, cookie: u64) {
        let (time, rest) = at.clock.split(at_ns);
        self.seq.push(at.seq);
        self.restated.push(Some(restated));
        self.time.push(time);
        self.time_ns.push(rest);
        self.kind.push_word(Some(kind));
        self.cookie.push(cookie);
    }

    fn addresses(&mut self) -> TupleColumns<'_> {
        TupleColumns {
            netns: &mut self.netns,
            local_addr: &mut self.local_addr,
            local_port: &mut self.local_port,
            remote_addr: &mut self.remote_addr,
            remote_port: &mut self.remote_port,
            v4_mapped: &mut self.v4_mapped,
        }
    }

    fn tuple(&mut self, cookie: u64, tuple: &Tuple, known: &mut Tuples) {
        let told = known.get(cookie) == Some(tuple);
        if !told {
            known.insert(cookie, tuple);
        }
        self.addresses().push((!told).then_some(tuple));
    }

    pub(crate) fn census_row(&mut self, at: At, row: &CensusRow, known: &mut Tuples) {
        self.begin(at, at.now_ns, "census", row.cookie);
        self.state.push_word(Some(row.state.name()));
        self.expires_ms.push(Some(row.expires_ms));
        self.cause.push_word(None);
        self.tuple(row.cookie, &row.tuple, known);
    }

    pub(crate) fn gone(&mut self, at: At, cookie: u64) {
        self.begin(at, at.now_ns, "gone", cookie);
        self.state.push_word(None);
        self.expires_ms.push(None);
        self.cause.push_word(None);
        self.addresses().push(None);
    }

    pub(crate) fn end(&mut self, at: At, end: &TimewaitEnd, known: &mut Tuples) {
        self.begin(at, end.at_ns, "end", end.cookie);
        let state = if end.fin_wait2 { CensusState::TimewaitFinWait2 } else { CensusState::TimeWait };
        self.state.push_word(Some(state.name()));
        self.expires_ms.push(None);
        self.cause.push_word(Some(words::cause(end.cause)));
        self.tuple(end.cookie, &end.tuple, known);
    }

    pub(crate) fn bound_connect(
        &mut self,
        at: At,
        cookie: u64,
        (tuple, at_ns): (&Tuple, u64),
        restated: bool,
        known: &mut Tuples,
    ) {
        self.begin_as(restated, at, at_ns, "bound_connect", cookie);
        self.state.push_word(None);
        self.expires_ms.push(None);
        self.cause.push_word(None);
        self.tuple(cookie, tuple, known);
    }

    pub(crate) fn reset(&mut self, at: At, cookie: u64, tuple: &Tuple, at_ns: u64, known: &mut Tuples) {
        self.begin(at, at_ns, "reset", cookie);
        self.state.push_word(None);
        self.expires_ms.push(None);
        self.cause.push_word(None);
        self.tuple(cookie, tuple, known);
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
    Gone,
    End,
    Reset,
    BoundConnect,
}

/// A batch that is being read.
pub(crate) struct Reader {
    seq: UInt64Array,
    restated: OptReader<BooleanArray>,
    time: TimestampMicrosecondArray,
    time_ns: OptReader<UInt16Array>,
    kind: Meant<Kind>,
    cookie: UInt64Array,
    state: Meant<CensusState>,
    expires_ms: OptReader<UInt32Array>,
    cause: Meant<TimewaitCause>,
    tuple: TupleRows,
}

/// What a row tells.
pub(crate) enum Told {
    /// All of an Input.
    Whole(Input),
    /// One row of a census.
    Row(CensusRow),
    /// One socket that a census had no more.
    Gone(u64),
}

impl Reader {
    pub(crate) fn new(rows: Rows, words: &mut Dictionary) -> Self {
        Self {
            seq: rows.seq,
            restated: rows.restated,
            time: rows.time,
            time_ns: rows.time_ns,
            kind: words.kind.of(rows.kind, |word| match word {
                "census" => Some(Kind::Census),
                "gone" => Some(Kind::Gone),
                "end" => Some(Kind::End),
                "reset" => Some(Kind::Reset),
                "bound_connect" => Some(Kind::BoundConnect),
                _ => None,
            }),
            cookie: rows.cookie,
            state: words.state.of(rows.state, CensusState::of),
            expires_ms: rows.expires_ms,
            cause: words.cause.of(rows.cause, words::parse_cause),
            tuple: TupleRows::new(
                &mut words.addresses,
                rows.netns,
                (rows.local_addr, rows.remote_addr),
                (rows.local_port, rows.remote_port),
                rows.v4_mapped,
            ),
        }
    }

    pub(crate) fn seq(&self, row: usize) -> Option<u64> {
        self.seq.values().get(row).copied()
    }

    /// Whether a row tells again what an earlier segment told.
    pub(crate) fn is_restated(&self, row: usize) -> bool {
        self.restated.get(row).unwrap_or(false)
    }

    pub(crate) fn told(&self, row: usize, clock: Clock, known: &mut Tuples) -> anyhow::Result<Told> {
        let cookie = self.cookie.value(row);
        // Whatever the row is, its writer has remembered the addresses.
        let tuple = self.tuple.get(row)?;
        if let Some(tuple) = &tuple {
            known.insert(cookie, tuple);
        }
        let kind = *self.kind.need(row)?;
        if kind == Kind::Gone {
            return Ok(Told::Gone(cookie));
        }
        let tuple = tuple.or_else(|| known.get(cookie).copied()).context("a socket without addresses")?;
        let at_ns = clock.join(self.time.value(row), self.time_ns.get(row)).context("a time of another clock")?;
        Ok(match kind {
            Kind::Census => {
                let expires_ms = self.expires_ms.get(row).context("a remaining time is missing")?;
                Told::Row(CensusRow { cookie, tuple, state: *self.state.need(row)?, expires_ms })
            }
            Kind::Reset => Told::Whole(Input::ResetSent { cookie, tuple, at_ns }),
            Kind::BoundConnect => Told::Whole(Input::BoundConnect { cookie, tuple, at_ns }),
            Kind::End | Kind::Gone => Told::Whole(Input::TimewaitEnd(TimewaitEnd {
                cookie,
                tuple,
                fin_wait2: *self.state.need(row)? == CensusState::TimewaitFinWait2,
                cause: *self.cause.need(row)?,
                at_ns,
            })),
        })
    }
}
