//! What is traced: the host, the hooks, and the network namespaces.

use crate::clock::Clock;
use crate::columns::{Bool, Columns, Num, Opt, Text, Time, table};
use crate::dictionary::{DecodedDict, Meanings, Words};
use crate::remembered::REMEMBERED;
use crate::table::{Read, Reading, TableWriter, Writing};
use anyhow::Context as _;
use arrow_array::RecordBatch;
use arrow_array::types::{UInt16Type, UInt32Type, UInt64Type};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use twtrace_core::event::{Event, HostFacts, TracingFacts};

table! {
    /// One row for the start, and for each fact learned about network namespaces.
    Builder, Rows {
        /// Number of its event.
        seq: Num<UInt64Type>,
        /// Reported before: repeated for a reader that begins here.
        restated: Bool,
        /// Its time; for an event without a time of its own, the latest reported one.
        time: Time,
        time_ns: Opt<UInt16Type>,
        kind: Words<&'static str>,
        /// Id of a namespace: its inode number, or a number of its own if another one had that inode number before. At the
        /// start, the tracer's own.
        netns: Opt<UInt32Type>,
        /// Inode number of a namespace.
        inode: Opt<UInt32Type>,
        /// Of a namespace; at the start, that of the host.
        name: Text,
        /// Why a namespace cannot be entered.
        refused: Text,
        /// Number of namespaces that are not visited.
        left_out: Opt<UInt64Type>,
        /// [`Start`] as JSON.
        facts: Text,
    }
}

/// [`Event::Start`] as JSON. Its times are those of the recording's beginning, in every segment.
#[derive(Serialize, Deserialize)]
struct Start {
    at_ns: u64,
    /// Decimal: JSON numbers cannot represent it.
    unix_ns: String,
    host: HostFacts,
    tracing: TracingFacts,
}

/// What a row has in addition to its time. At first, everything is missing.
#[derive(Default)]
struct Row<'a> {
    kind: &'static str,
    netns: Option<u32>,
    inode: Option<u32>,
    name: Option<&'a str>,
    refused: Option<&'a str>,
    left_out: Option<u64>,
    facts: Option<String>,
}

impl<'a> Row<'a> {
    /// The row of an event, if it belongs here.
    fn of(event: &'a Event) -> anyhow::Result<Option<Self>> {
        Ok(Some(match event {
            Event::Start { at_ns, unix_ns, host, tracing } => {
                let (netns, name) = (Some(host.netns), Some(host.hostname.as_str()));
                let (host, tracing) = (host.clone(), tracing.clone());
                let start = Start { at_ns: *at_ns, unix_ns: unix_ns.to_string(), host, tracing };
                Self { kind: "start", netns, name, facts: Some(serde_json::to_string(&start)?), ..Self::default() }
            }
            Event::Namespace { netns, inode, name, refused } => Self {
                kind: "namespace",
                netns: Some(*netns),
                inode: Some(*inode),
                name: Some(name),
                refused: refused.as_deref(),
                ..Self::default()
            },
            Event::NamespaceGone { netns } => Self { kind: "namespace_gone", netns: Some(*netns), ..Self::default() },
            Event::NamespacesLeftOut(number) => {
                Self { kind: "namespaces_left_out", left_out: Some(*number), ..Self::default() }
            }
            _ => return Ok(None),
        }))
    }
}

impl Builder {
    fn row(&mut self, row: Row<'_>, restated: bool, writing: &Writing) {
        // A start is written when nothing was reported later.
        let (time, rest) = writing.clock.split(writing.now_ns);
        self.seq.push(writing.seq);
        self.restated.push(restated);
        self.time.push(time);
        self.time_ns.push(rest);
        self.kind.push_word(Some(row.kind));
        self.netns.push(row.netns);
        self.inode.push(row.inode);
        self.name.push(row.name);
        self.refused.push(row.refused);
        self.left_out.push(row.left_out);
        self.facts.push(row.facts);
    }
}

/// Writes the start and namespaces.
#[derive(Default)]
pub(crate) struct Writer {
    columns: Builder,
    start: Option<Event>,
    left_out: Option<Event>,
    namespaces: BTreeMap<u32, Event>,
}

impl Writer {
    fn remember(&mut self, event: &Event) {
        match event {
            Event::Start { .. } => self.start = Some(event.clone()),
            Event::NamespacesLeftOut(_) => self.left_out = Some(event.clone()),
            Event::Namespace { netns, .. }
                if self.namespaces.len() < REMEMBERED || self.namespaces.contains_key(netns) =>
            {
                self.namespaces.insert(*netns, event.clone());
            }
            Event::NamespaceGone { netns } => drop(self.namespaces.remove(netns)),
            _ => {}
        }
    }
}

impl TableWriter for Writer {
    fn columns(&mut self) -> &mut dyn Columns {
        &mut self.columns
    }

    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()> {
        if let Some(row) = Row::of(event)? {
            self.columns.row(row, false, writing);
            self.remember(event);
        }
        Ok(())
    }

    fn begin_segment(&mut self, writing: &mut Writing) -> anyhow::Result<()> {
        for event in self.start.iter().chain(&self.left_out).chain(self.namespaces.values()) {
            if let Some(row) = Row::of(event)? {
                self.columns.row(row, true, writing);
            }
        }
        Ok(())
    }
}

/// What the words of this table mean.
#[derive(Default)]
pub(crate) struct Dictionary {
    kind: Meanings<Kind>,
}

#[derive(Clone, Copy)]
enum Kind {
    Start,
    Namespace,
    Gone,
    LeftOut,
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
            "start" => Some(Kind::Start),
            "namespace" => Some(Kind::Namespace),
            "namespace_gone" => Some(Kind::Gone),
            "namespaces_left_out" => Some(Kind::LeftOut),
            _ => None,
        });
        Ok(Self { rows, kind })
    }

    fn read(&self, row: usize, reading: &mut Reading) -> anyhow::Result<Read> {
        let rows = &self.rows;
        let kind = *self.kind.need(row)?;
        if let Kind::Start = kind {
            let (start, clock) = self.start(row)?;
            reading.set_clock(clock);
            return Ok(Read::Event(start));
        }
        reading.clock()?;
        let netns = || rows.netns.get(row).context("a namespace is missing");
        Ok(Read::Event(match kind {
            Kind::Namespace => Event::Namespace {
                netns: netns()?,
                // At first, the id was the inode number.
                inode: rows.inode.get(row).map_or_else(netns, Ok)?,
                name: rows.name.owned(row).context("a name is missing")?,
                refused: rows.refused.owned(row),
            },
            Kind::Gone => Event::NamespaceGone { netns: netns()? },
            Kind::LeftOut | Kind::Start => {
                Event::NamespacesLeftOut(rows.left_out.get(row).context("how many are left out is missing")?)
            }
        }))
    }
}

impl Batch {
    /// The start, and the clock from here on. A restated start gets the time at which it is restated.
    fn start(&self, row: usize) -> anyhow::Result<(Event, Clock)> {
        let rows = &self.rows;
        let facts = rows.facts.get(row).context("the facts of the start are missing")?;
        let start: Start = serde_json::from_str(facts).context("the facts of the start")?;
        let unix_ns: i128 = start.unix_ns.parse().context("the time of the start")?;
        let clock = Clock::new(start.at_ns, unix_ns);
        let (at_ns, unix_ns) = if rows.restated.value(row) {
            let at_ns = clock.moment(rows.time.value(row), rows.time_ns.get(row))?;
            (at_ns, unix_ns.saturating_add(i128::from(at_ns) - i128::from(start.at_ns)))
        } else {
            (start.at_ns, unix_ns)
        };
        Ok((Event::Start { at_ns, unix_ns, host: start.host, tracing: start.tracing }, clock))
    }
}
