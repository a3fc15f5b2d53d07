//! Samples: what was read again and again, and the frame that the other tables are in.

use super::sockets::At;
use crate::clock::Clock;
use crate::columns::{Flag, Meanings, Meant, Num, Opt, Text, Time, Words, table};
use anyhow::Context as _;
use arrow_array::types::{UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use serde::{Deserialize, Serialize};
use twtrace_core::input::{Holder, HostFacts, Input, KernelCounters, KernelFacts, TracingFacts};

/// The table, whose last columns are all counters.
macro_rules! define {
    (kernel { $($(#[$_doc:meta])* $name:ident,)* } user { $($(#[$_user_doc:meta])* $user:ident,)* }) => {
        table! {
            /// One row a sample.
            Samples, Rows {
                /// Number of its Input.
                seq: Num<UInt64Type>,
                /// Told before: repeated for who begins to read here.
                restated: Flag,
                /// When; for what has no time of its own, the last time that was told.
                time: Time,
                time_ns: Opt<UInt16Type>,
                kind: Words<&'static str>,
                netns: Opt<UInt32Type>,
                /// Of a namespace.
                name: Text,
                refused: Text,
                /// Of the start and of holders, as JSON.
                facts: Text,
                /// Of a census; `complete` of holders as well.
                whole: Flag,
                complete: Flag,
                namespaces_left_out: Opt<UInt64Type>,
                /// Kernel figures.
                time_wait: Opt<UInt64Type>,
                time_wait_overflow: Opt<UInt64Type>,
                max_tw_buckets: Opt<UInt64Type>,
                tw_reuse: Opt<UInt8Type>,
                port_low: Opt<UInt16Type>,
                port_high: Opt<UInt16Type>,
                reserved_in_range: Opt<UInt32Type>,
                reserved_ports: Text,
                tw_reuse_delay_ms: Opt<UInt32Type>,
                timestamps: Opt<UInt8Type>,
                fin_timeout_s: Opt<UInt32Type>,
                $($name: Opt<UInt64Type>,)*
                $($user: Opt<UInt64Type>,)*
            }
        }

        impl Samples {
            fn counters(&mut self, counters: Option<&KernelCounters>) {
                $(self.$name.push(counters.map(|counters| counters.$name));)*
                $(self.$user.push(counters.map(|counters| counters.$user));)*
            }
        }

        impl Reader {
            fn counters(&self, row: usize) -> KernelCounters {
                // A counter that the writer did not know yet had counted nothing.
                KernelCounters {
                    $($name: self.rows.$name.get(row).unwrap_or_default(),)*
                    $($user: self.rows.$user.get(row).unwrap_or_default(),)*
                }
            }
        }
    };
}
twtrace_common::for_each_counter!(define);

/// [`Input::Start`] as JSON. Its times are those of the recording's beginning, in every segment.
#[derive(Serialize, Deserialize)]
struct Start {
    at_ns: u64,
    /// Decimal: JSON's numbers are too short for it.
    unix_ns: String,
    host: HostFacts,
    tracing: TracingFacts,
}

/// What one row has besides its place in time. Everything is missing at first.
#[derive(Default)]
struct Row<'a> {
    at_ns: Option<u64>,
    kind: &'static str,
    netns: Option<u32>,
    name: Option<&'a str>,
    refused: Option<&'a str>,
    facts: Option<String>,
    whole: Option<bool>,
    complete: Option<bool>,
    left_out: Option<u64>,
    kernel: Option<&'a KernelFacts>,
    counters: Option<&'a KernelCounters>,
}

impl Samples {
    /// Takes a sample, and gives `false` for what is none.
    pub(crate) fn sample(&mut self, at: At, input: &Input, restated: bool) -> anyhow::Result<bool> {
        let row = match input {
            Input::Start { at_ns, unix_ns, host, tracing } => {
                let (host, tracing) = (host.clone(), tracing.clone());
                let start = Start { at_ns: *at_ns, unix_ns: unix_ns.to_string(), host, tracing };
                // Restated, its row has the time of where it is restated.
                let at_ns = if restated { at.now_ns } else { *at_ns };
                Row { kind: "start", at_ns: Some(at_ns), facts: Some(serde_json::to_string(&start)?), ..Row::default() }
            }
            Input::Counters(counters) => Row { kind: "counters", counters: Some(counters), ..Row::default() },
            Input::Kernel { netns, facts } => {
                Row { kind: "kernel", netns: Some(*netns), kernel: Some(facts), ..Row::default() }
            }
            Input::Namespace { netns, name, refused } => Row {
                kind: "namespace",
                netns: Some(*netns),
                name: Some(name),
                refused: refused.as_deref(),
                ..Row::default()
            },
            Input::NamespaceGone { netns } => Row { kind: "namespace_gone", netns: Some(*netns), ..Row::default() },
            Input::NamespacesLeftOut(number) => {
                Row { kind: "namespaces_left_out", left_out: Some(*number), ..Row::default() }
            }
            Input::CensusBegin { netns, at_ns, whole } => Row {
                kind: "census_begin",
                at_ns: Some(*at_ns),
                netns: Some(*netns),
                whole: Some(*whole),
                ..Row::default()
            },
            Input::CensusEnd { at_ns, complete } => {
                Row { kind: "census_end", at_ns: Some(*at_ns), complete: Some(*complete), ..Row::default() }
            }
            Input::Holders { at_ns, complete, rows } => Row {
                kind: "holders",
                at_ns: Some(*at_ns),
                facts: Some(serde_json::to_string(rows)?),
                complete: Some(*complete),
                ..Row::default()
            },
            Input::Tick { at_ns } => Row { kind: "tick", at_ns: Some(*at_ns), ..Row::default() },
            _ => return Ok(false),
        };
        self.push(at, restated, row);
        Ok(true)
    }

    fn push(&mut self, at: At, restated: bool, row: Row<'_>) {
        let (time, rest) = at.clock.split(row.at_ns.unwrap_or(at.now_ns));
        self.seq.push(at.seq);
        self.restated.push(Some(restated));
        self.time.push(time);
        self.time_ns.push(rest);
        self.kind.push_word(Some(row.kind));
        self.netns.push(row.netns);
        self.name.push(row.name);
        self.refused.push(row.refused);
        self.facts.push(row.facts);
        self.whole.push(row.whole);
        self.complete.push(row.complete);
        self.namespaces_left_out.push(row.left_out);
        self.kernel(row.kernel);
        self.counters(row.counters);
    }

    fn kernel(&mut self, facts: Option<&KernelFacts>) {
        self.time_wait.push(facts.map(|facts| facts.time_wait));
        self.time_wait_overflow.push(facts.map(|facts| facts.time_wait_overflow));
        self.max_tw_buckets.push(facts.map(|facts| facts.max_tw_buckets));
        self.tw_reuse.push(facts.map(|facts| facts.tw_reuse));
        self.port_low.push(facts.map(|facts| facts.port_range.0));
        self.port_high.push(facts.map(|facts| facts.port_range.1));
        self.reserved_in_range.push(facts.map(|facts| facts.reserved_in_range));
        self.reserved_ports.push(facts.map(|facts| &facts.reserved_ports));
        self.tw_reuse_delay_ms.push(facts.and_then(|facts| facts.tw_reuse_delay_ms));
        self.timestamps.push(facts.and_then(|facts| facts.timestamps));
        self.fin_timeout_s.push(facts.and_then(|facts| facts.fin_timeout_s));
    }
}

/// What the words of this table mean.
#[derive(Default)]
pub(crate) struct Dictionary {
    kind: Meanings<Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Start,
    Counters,
    Kernel,
    Namespace,
    NamespaceGone,
    LeftOut,
    CensusBegin,
    CensusEnd,
    Holders,
    Tick,
}

fn parse_kind(word: &str) -> Option<Kind> {
    Some(match word {
        "start" => Kind::Start,
        "counters" => Kind::Counters,
        "kernel" => Kind::Kernel,
        "namespace" => Kind::Namespace,
        "namespace_gone" => Kind::NamespaceGone,
        "namespaces_left_out" => Kind::LeftOut,
        "census_begin" => Kind::CensusBegin,
        "census_end" => Kind::CensusEnd,
        "holders" => Kind::Holders,
        "tick" => Kind::Tick,
        _ => return None,
    })
}

/// A batch that is being read.
pub(crate) struct Reader {
    rows: Rows,
    kind: Meant<Kind>,
}

/// What a row tells.
pub(crate) struct Sample {
    /// The Input.
    pub(crate) input: Input,
    /// It was told before.
    pub(crate) restated: bool,
    /// The clock from here on, after a start.
    pub(crate) clock: Option<Clock>,
}

impl Reader {
    pub(crate) fn new(mut rows: Rows, words: &mut Dictionary) -> Self {
        Self { kind: words.kind.of(rows.kind.take(), parse_kind), rows }
    }

    pub(crate) fn seq(&self, row: usize) -> Option<u64> {
        self.rows.seq.values().get(row).copied()
    }

    /// Whether a row tells again what an earlier segment told.
    pub(crate) fn is_restated(&self, row: usize) -> bool {
        self.rows.restated.get(row).unwrap_or(false)
    }

    pub(crate) fn sample(&self, row: usize, clock: Clock) -> anyhow::Result<Sample> {
        let rows = &self.rows;
        let restated = self.is_restated(row);
        let kind = *self.kind.need(row)?;
        if kind == Kind::Start {
            return self.start(row, restated);
        }
        let at_ns = clock.join(rows.time.value(row), rows.time_ns.get(row)).context("a time of another clock")?;
        let netns = || rows.netns.get(row).context("a namespace is missing");
        let input = match kind {
            Kind::Counters => Input::Counters(self.counters(row)),
            Kind::Kernel => Input::Kernel { netns: netns()?, facts: self.kernel(row) },
            Kind::Namespace => Input::Namespace {
                netns: netns()?,
                name: rows.name.owned(row).context("a name is missing")?,
                refused: rows.refused.owned(row),
            },
            Kind::NamespaceGone => Input::NamespaceGone { netns: netns()? },
            Kind::LeftOut => Input::NamespacesLeftOut(rows.namespaces_left_out.get(row).unwrap_or_default()),
            Kind::CensusBegin => Input::CensusBegin {
                netns: netns()?,
                at_ns,
                whole: rows.whole.get(row).context("whether a census is whole is missing")?,
            },
            Kind::CensusEnd => {
                let complete = rows.complete.get(row).context("whether a census is complete is missing")?;
                Input::CensusEnd { at_ns, complete }
            }
            Kind::Holders => {
                let facts = rows.facts.get(row).context("the rows of holders are missing")?;
                let holders: Vec<Holder> = serde_json::from_str(facts).context("the rows of holders")?;
                let complete = rows.complete.get(row).context("whether holders are complete is missing")?;
                Input::Holders { at_ns, complete, rows: holders }
            }
            Kind::Tick | Kind::Start => Input::Tick { at_ns },
        };
        Ok(Sample { input, restated, clock: None })
    }

    /// Restated, the start is moved to where it is restated.
    fn start(&self, row: usize, restated: bool) -> anyhow::Result<Sample> {
        let facts = self.rows.facts.get(row).context("the facts of the start are missing")?;
        let start: Start = serde_json::from_str(facts).context("the facts of the start")?;
        let unix_ns: i128 = start.unix_ns.parse().context("the time of the start")?;
        let clock = Clock::new(start.at_ns, unix_ns);
        let (at_ns, unix_ns) = if restated {
            let (time, rest) = (self.rows.time.value(row), self.rows.time_ns.get(row));
            let at_ns = clock.join(time, rest).context("a time of another clock")?;
            (at_ns, unix_ns.saturating_add(i128::from(at_ns) - i128::from(start.at_ns)))
        } else {
            (start.at_ns, unix_ns)
        };
        let input = Input::Start { at_ns, unix_ns, host: start.host, tracing: start.tracing };
        Ok(Sample { input, restated, clock: Some(clock) })
    }

    fn kernel(&self, row: usize) -> KernelFacts {
        let rows = &self.rows;
        KernelFacts {
            time_wait: rows.time_wait.get(row).unwrap_or_default(),
            time_wait_overflow: rows.time_wait_overflow.get(row).unwrap_or_default(),
            max_tw_buckets: rows.max_tw_buckets.get(row).unwrap_or_default(),
            tw_reuse: rows.tw_reuse.get(row).unwrap_or_default(),
            port_range: (rows.port_low.get(row).unwrap_or_default(), rows.port_high.get(row).unwrap_or_default()),
            reserved_in_range: rows.reserved_in_range.get(row).unwrap_or_default(),
            reserved_ports: rows.reserved_ports.owned(row).unwrap_or_default(),
            tw_reuse_delay_ms: rows.tw_reuse_delay_ms.get(row),
            timestamps: rows.timestamps.get(row),
            fin_timeout_s: rows.fin_timeout_s.get(row),
        }
    }
}
