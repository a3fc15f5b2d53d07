//! Connections that ended, connects that failed early, and binds that failed.

use crate::columns::{Columns, Flag, Num, Opt, OptReader, Shown, Text, Time, table};
use crate::dictionary::{DecodedDict, Meanings, Words};
use crate::table::{Read, Reading, TableWriter, Writing};
use crate::tuples::{Addresses, TupleColumns, TupleRows, take_tuple};
use crate::words::{self, ConnectionFlags, Path};
use anyhow::{Context as _, bail};
use arrow_array::types::{UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{RecordBatch, UInt64Array};
use std::net::IpAddr;
use twtrace_core::classify::{Outcome, classify};
use twtrace_core::event::{
    BindFailed, Binding, Comm, ConnectFailed, Connection, Event, Owner, Role, Timewait, Transition, Tuple, TwCount,
};
use twtrace_core::snapshot::Provenance;

/// Times between transitions that have a column of their own.
const STEPS: usize = 7;

table! {
    /// One row per connection.
    Builder, Rows {
        /// Number of its event.
        seq: Num<UInt64Type>,
        /// When it ended.
        time: Time,
        time_ns: Opt<UInt16Type>,
        kind: Words<&'static str>,
        cookie: Num<UInt64Type>,
        /// Which connection of the same socket, from 0.
        netns: Opt<UInt32Type>,
        local_addr: Words<IpAddr>,
        local_port: Opt<UInt16Type>,
        remote_addr: Words<IpAddr>,
        remote_port: Opt<UInt16Type>,
        v4_mapped: Flag,
        role: Words<&'static str>,
        /// See [`words::write_path`].
        path: Words<Vec<u8>>,
        /// Microseconds from the first transition to the second, and so on.
        step1_us: Opt<UInt64Type>,
        step2_us: Opt<UInt64Type>,
        step3_us: Opt<UInt64Type>,
        step4_us: Opt<UInt64Type>,
        step5_us: Opt<UInt64Type>,
        step6_us: Opt<UInt64Type>,
        step7_us: Opt<UInt64Type>,
        /// Monotonic nanoseconds of all transitions, where the steps cannot express them.
        times_ns: Text,
        flags: Words<ConnectionFlags>,
        sk_err: Num<UInt16Type>,
        connect_errno: Num<UInt16Type>,
        /// Of a failed bind.
        bind_errno: Opt<UInt16Type>,
        timewait: Words<&'static str>,
        tw_before: Opt<UInt32Type>,
        tw_after: Opt<UInt32Type>,
        tw_max: Opt<UInt32Type>,
        bytes_sent: Num<UInt64Type>,
        bytes_received: Num<UInt64Type>,
        retransmits: Num<UInt32Type>,
        request_segments: Opt<UInt16Type>,
        /// The socket's own port range.
        range_low: Opt<UInt16Type>,
        range_high: Opt<UInt16Type>,
        /// Rows of `processes`.
        opener: Opt<UInt32Type>,
        closer: Opt<UInt32Type>,
        opener_pid: Shown<Opt<UInt32Type>>,
        opener_command: Shown<Words<Comm>>,
        closer_pid: Shown<Opt<UInt32Type>>,
        closer_command: Shown<Words<Comm>>,
        outcome: Shown<Words<&'static str>>,
        outcome_provenance: Shown<Words<&'static str>>,
    }
}

/// Writes connections.
pub(crate) type Writer = Builder;

impl TableWriter for Builder {
    fn columns(&mut self) -> &mut dyn Columns {
        self
    }

    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()> {
        match event {
            Event::Connection(connection) => {
                self.connection(connection, writing);
                writing.tuples.insert(connection.cookie, &connection.tuple);
            }
            Event::ConnectFailed(failed) => self.connect_failed(failed, writing),
            Event::BindFailed(failed) => self.bind_failed(failed, writing),
            _ => {}
        }
        Ok(())
    }
}

impl Builder {
    fn steps(&mut self) -> [&mut Opt<UInt64Type>; STEPS] {
        [
            &mut self.step1_us,
            &mut self.step2_us,
            &mut self.step3_us,
            &mut self.step4_us,
            &mut self.step5_us,
            &mut self.step6_us,
            &mut self.step7_us,
        ]
    }

    fn tuple(&mut self) -> TupleColumns<'_> {
        TupleColumns {
            netns: &mut self.netns,
            local_addr: &mut self.local_addr,
            local_port: &mut self.local_port,
            remote_addr: &mut self.remote_addr,
            remote_port: &mut self.remote_port,
            v4_mapped: &mut self.v4_mapped,
        }
    }

    fn processes(&mut self, opener: Option<&Owner>, closer: Option<&Owner>, writing: &Writing) {
        self.opener.push(writing.opener);
        self.closer.push(writing.closer);
        for (owner, pid, command) in [
            (opener, &mut self.opener_pid.0, &mut self.opener_command.0),
            (closer, &mut self.closer_pid.0, &mut self.closer_command.0),
        ] {
            pid.push(owner.map(|owner| owner.key.tgid));
            match owner {
                Some(owner) => {
                    command.push(&owner.comm, |out| out.append_value(String::from_utf8_lossy(owner.comm.bytes())));
                }
                None => command.push_null(),
            }
        }
    }

    fn at(&mut self, at_ns: u64, writing: &Writing) {
        let (time, rest) = writing.clock.split(at_ns);
        self.seq.push(writing.seq);
        self.time.push(time);
        self.time_ns.push(rest);
    }

    fn connection(&mut self, connection: &Connection, writing: &Writing) {
        self.at(connection.end_ns, writing);
        self.kind.push_word(Some("connection"));
        self.cookie.push(connection.cookie);
        self.tuple().push(Some(&connection.tuple));
        self.role.push_word(Some(words::role(connection.role)));
        self.transitions(&connection.transitions, connection.end_ns);
        let flags = ConnectionFlags::of(connection);
        self.flags.push(&flags, |out| flags.write(out));
        self.sk_err.push(connection.sk_err);
        self.connect_errno.push(connection.connect_errno);
        self.bind_errno.push(None);
        self.timewait.push_word(connection.timewait.map(words::timewait));
        self.tw_before.push(connection.tw.and_then(|tw| tw.before));
        self.tw_after.push(connection.tw.map(|tw| tw.after));
        self.tw_max.push(connection.tw.map(|tw| tw.max));
        self.bytes_sent.push(connection.bytes_sent);
        self.bytes_received.push(connection.bytes_received);
        self.retransmits.push(connection.retransmits);
        self.request_segments.push(connection.request_segments);
        self.range_low.push(connection.binding.range.map(|(low, _)| low));
        self.range_high.push(connection.binding.range.map(|(_, high)| high));
        self.processes(connection.opener.as_ref(), connection.closer.as_ref(), writing);
        let classified = classify(connection);
        self.outcome.0.push_word(Some(classified.outcome.name()));
        self.outcome_provenance.0.push_word(Some(if classified.known == Provenance::Exact {
            "exact"
        } else {
            "inferred"
        }));
    }

    fn transitions(&mut self, transitions: &[Transition], end_ns: u64) {
        let mut states = [0; 2 * (STEPS + 1)];
        let key = match states.get_mut(..2 * transitions.len()) {
            Some(key) => key,
            // More than the kernel side ever reports.
            None => &mut vec![0; 2 * transitions.len()],
        };
        for (pair, transition) in key.chunks_exact_mut(2).zip(transitions) {
            pair.copy_from_slice(&[transition.from as u8, transition.to as u8]);
        }
        self.path.push(&*key, |out| words::write_path(transitions, out));
        let mut steps = [None; STEPS];
        if are_steps(transitions, end_ns) {
            for (step, pair) in steps.iter_mut().zip(transitions.windows(2)) {
                *step = Some((pair[1].at_ns - pair[0].at_ns) / 1000);
            }
            self.times_ns.push(None::<&str>);
        } else {
            let times: Vec<String> = transitions.iter().map(|transition| transition.at_ns.to_string()).collect();
            self.times_ns.push(Some(times.join(" ")));
        }
        for (column, step) in self.steps().into_iter().zip(steps) {
            column.push(step);
        }
    }

    fn connect_failed(&mut self, failed: &ConnectFailed, writing: &Writing) {
        self.kind.push_word(Some("connect_failed"));
        self.role.push_word(Some(words::role(Role::Active)));
        self.flags.push_null();
        self.connect_errno.push(failed.errno);
        self.bind_errno.push(None);
        self.outcome.0.push_word(Some(Outcome::ConnectFailed(failed.errno).name()));
        self.failed(failed.at_ns, &failed.tuple, &failed.opener, writing);
    }

    fn bind_failed(&mut self, failed: &BindFailed, writing: &Writing) {
        self.kind.push_word(Some("bind_failed"));
        self.role.push_word(Some(words::role(Role::Unknown)));
        let flags = ConnectionFlags::of_bind(failed.reuse);
        self.flags.push(&flags, |out| flags.write(out));
        self.connect_errno.push(0);
        self.bind_errno.push(Some(failed.errno));
        self.outcome.0.push_word(Some("bind_failed"));
        self.failed(failed.at_ns, &failed.tuple, &failed.owner, writing);
    }

    /// The other columns of a call that failed at once: there is no connection to describe.
    fn failed(&mut self, at_ns: u64, tuple: &Tuple, caller: &Owner, writing: &Writing) {
        self.at(at_ns, writing);
        self.cookie.push(0);
        self.tuple().push(Some(tuple));
        self.path.push_null();
        self.steps().into_iter().for_each(|step| step.push(None));
        self.times_ns.push(None::<&str>);
        self.sk_err.push(0);
        self.timewait.push_word(None);
        self.tw_before.push(None);
        self.tw_after.push(None);
        self.tw_max.push(None);
        self.bytes_sent.push(0);
        self.bytes_received.push(0);
        self.retransmits.push(0);
        self.request_segments.push(None);
        self.range_low.push(None);
        self.range_high.push(None);
        self.processes(Some(caller), None, writing);
        self.outcome_provenance.0.push_word(Some("exact"));
    }
}

/// Whether the end and whole microseconds between the transitions give all the times.
fn are_steps(transitions: &[Transition], end_ns: u64) -> bool {
    let whole = |transition: &Transition| transition.at_ns.is_multiple_of(1000);
    transitions.len() <= STEPS + 1
        && transitions.iter().all(whole)
        && transitions.is_sorted_by_key(|transition| transition.at_ns)
        && transitions.last().is_none_or(|last| last.at_ns == end_ns)
}

/// What the words of this table mean.
#[derive(Default)]
pub(crate) struct Dictionary {
    kind: Meanings<Kind>,
    addresses: Addresses,
    role: Meanings<Role>,
    path: Meanings<Path>,
    flags: Meanings<ConnectionFlags>,
    timewait: Meanings<Timewait>,
}

#[derive(Clone, Copy)]
enum Kind {
    Connection,
    ConnectFailed,
    BindFailed,
}

/// A batch that is being read.
pub(crate) struct Batch {
    rows: Rows,
    kind: DecodedDict<Kind>,
    tuple: TupleRows,
    role: DecodedDict<Role>,
    path: DecodedDict<Path>,
    flags: DecodedDict<ConnectionFlags>,
    timewait: DecodedDict<Timewait>,
}

impl crate::table::Batch for Batch {
    type Words = Dictionary;

    fn new(batch: &RecordBatch, words: &mut Dictionary) -> anyhow::Result<Self> {
        let mut rows = Rows::of(batch)?;
        let kind = words.kind.of(rows.kind.take(), |word| match word {
            "connection" => Some(Kind::Connection),
            "connect_failed" => Some(Kind::ConnectFailed),
            "bind_failed" => Some(Kind::BindFailed),
            _ => None,
        });
        Ok(Self {
            kind,
            tuple: take_tuple!(rows, words.addresses),
            role: words.role.of(rows.role.take(), words::parse_role),
            path: words.path.of(rows.path.take(), words::parse_path),
            flags: words.flags.of(rows.flags.take(), ConnectionFlags::parse),
            timewait: words.timewait.of(rows.timewait.take(), words::parse_timewait),
            rows,
        })
    }

    fn read(&self, row: usize, reading: &mut Reading) -> anyhow::Result<Read> {
        let rows = &self.rows;
        let at_ns = reading.clock()?.moment(rows.time.value(row), rows.time_ns.get(row))?;
        let cookie = rows.cookie.value(row);
        // The writer has remembered the addresses, whatever the row is.
        let tuple = self.tuple.get(row)?;
        if let Some(tuple) = &tuple {
            reading.tuples.insert(cookie, tuple);
        }
        let kind = *self.kind.need(row)?;
        let tuple = tuple.context("a connection without addresses")?;
        let owner = |number: Option<u32>| {
            number
                .map(|number| reading.numbers.get(number).context("a process that is not in the recording"))
                .transpose()
        };
        let opener = owner(rows.opener.get(row))?;
        let connect_errno = rows.connect_errno.value(row);
        match kind {
            Kind::Connection => {}
            Kind::ConnectFailed => {
                let opener = opener.context("a failed connect without a caller")?;
                let failed = ConnectFailed { opener, tuple, errno: connect_errno, at_ns };
                return Ok(Read::Event(Event::ConnectFailed(Box::new(failed))));
            }
            Kind::BindFailed => {
                let owner = opener.context("a failed bind without a caller")?;
                let errno = rows.bind_errno.get(row).context("the error of a failed bind is missing")?;
                let reuse = self.flags.need(row)?.is_reuse();
                let failed = BindFailed { owner, tuple, errno, reuse, at_ns };
                return Ok(Read::Event(Event::BindFailed(Box::new(failed))));
            }
        }
        let tw = rows.tw_after.get(row).map(|after| {
            let max = rows.tw_max.get(row).context("a limit is missing")?;
            anyhow::Ok(TwCount { before: rows.tw_before.get(row), after, max })
        });
        let mut connection = Connection {
            cookie,
            role: *self.role.need(row)?,
            opener,
            closer: owner(rows.closer.get(row))?,
            transitions: self.transitions(row, at_ns)?,
            sk_err: rows.sk_err.value(row),
            connect_errno,
            binding: Binding { range: rows.range_low.get(row).zip(rows.range_high.get(row)), ..Binding::default() },
            tw: tw.transpose()?,
            timewait: self.timewait.get(row)?.copied(),
            bytes_sent: rows.bytes_sent.value(row),
            bytes_received: rows.bytes_received.value(row),
            retransmits: rows.retransmits.value(row),
            request_segments: rows.request_segments.get(row),
            ..Connection::bare(tuple, at_ns)
        };
        self.flags.need(row)?.set(&mut connection);
        Ok(Read::Event(Event::Connection(Box::new(connection))))
    }
}

impl Batch {
    fn steps(&self) -> [&OptReader<UInt64Array>; STEPS] {
        let rows = &self.rows;
        [&rows.step1_us, &rows.step2_us, &rows.step3_us, &rows.step4_us, &rows.step5_us, &rows.step6_us, &rows.step7_us]
    }

    fn transitions(&self, row: usize, end_ns: u64) -> anyhow::Result<Vec<Transition>> {
        let path = self.path.need(row)?;
        let mut transitions: Vec<Transition> =
            path.iter().map(|&(from, to)| Transition { from, to, at_ns: end_ns }).collect();
        if let Some(times) = self.rows.times_ns.get(row) {
            let mut times = times.split_ascii_whitespace();
            for transition in &mut transitions {
                transition.at_ns = times.next().and_then(|time| time.parse().ok()).context("a time is missing")?;
            }
            return Ok(transitions);
        }
        if transitions.len() > STEPS + 1 {
            bail!("more transitions than times");
        }
        let steps = self.steps();
        let mut at_ns = end_ns;
        // From the end, which is known, back to the beginning.
        for before in (0..transitions.len().saturating_sub(1)).rev() {
            let step = steps.get(before).and_then(|step| step.get(row)).context("a time is missing")?;
            at_ns = step.checked_mul(1000).and_then(|step| at_ns.checked_sub(step)).context("a time before all")?;
            transitions[before].at_ns = at_ns;
        }
        Ok(transitions)
    }
}
