//! One pass over a recording.

use super::decoder::{Decoder, Next, Restated};
use super::schema::Form;
use super::stream::Part;
use super::tables::Table;
use super::{Loss, loss};
use std::sync::mpsc::Receiver;
use twtrace_core::event::Event;

/// Builds events from the rows that are read ahead.
pub(crate) struct Pass {
    parts: Receiver<Part>,
    decoder: Decoder,
    segment: u32,
    /// Rows of `connections` in the segment.
    expected: u64,
    /// The rest of the segment cannot be used.
    skips: bool,
    /// A part of the segment was left out: what the next one repeats may not have been read.
    has_gap: bool,
    losses: Vec<Loss>,
    connections_lost: u64,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("segment", &self.segment).field("losses", &self.losses).finish_non_exhaustive()
    }
}

impl Pass {
    pub(super) fn new(parts: Receiver<Part>) -> Self {
        Self {
            parts,
            decoder: Decoder::default(),
            segment: 0,
            expected: 0,
            skips: false,
            has_gap: false,
            losses: Vec::new(),
            connections_lost: 0,
        }
    }

    /// What could not be read so far.
    pub(crate) fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Number of rows of `connections` that existed at opening and could not be read so far.
    pub(crate) fn connections_lost(&self) -> u64 {
        self.connections_lost
    }

    /// Number of the segment that is being read.
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    /// The next event; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Event> {
        loop {
            if !self.skips {
                match self.decoder.next() {
                    Ok(Next::Event(event)) => return Some(event),
                    Ok(Next::Needs(_) | Next::Over) => {}
                    Err(error) => self.lose(Table::Connections, &error),
                }
            }
            let Ok(part) = self.parts.recv() else {
                self.finish_segment();
                return self.decoder.finish();
            };
            let waited = match part {
                Part::Segment { segment, first_seq, restated, connections } => {
                    let waited = self.decoder.finish();
                    self.finish_segment();
                    let after_gap = self.has_gap && restated == Restated::Known;
                    (self.segment, self.expected, self.skips, self.has_gap) = (segment, connections, false, false);
                    self.decoder.begin(first_seq, if after_gap { Restated::Again } else { restated });
                    waited
                }
                Part::Rows(..) | Part::Over(_) if self.skips => None,
                Part::Rows(table, batch) => {
                    if let Err(error) = self.decoder.load(table, &batch) {
                        self.lose(table, &error);
                    }
                    None
                }
                Part::Over(table) => {
                    if let Err(error) = self.decoder.close(table) {
                        self.lose(table, &error);
                    }
                    None
                }
                Part::End { next_seq } => {
                    let waited = self.decoder.finish();
                    if !self.skips {
                        self.decoder.end(next_seq);
                    }
                    self.finish_segment();
                    waited
                }
                Part::Lost { loss, unopened } => {
                    let waited = self.decoder.finish();
                    self.finish_segment();
                    self.connections_lost = self.connections_lost.saturating_add(unopened);
                    self.losses.push(loss);
                    self.skips = true;
                    waited
                }
            };
            if waited.is_some() {
                return waited;
            }
        }
    }

    /// Records what was left out of the segment. A second call does nothing.
    fn finish_segment(&mut self) {
        let missing = self.expected.saturating_sub(self.decoder.connections());
        self.connections_lost = self.connections_lost.saturating_add(missing);
        self.expected = 0;
        let losses = self.decoder.take_skipped().losses(self.segment);
        self.has_gap |= !losses.is_empty() || self.skips;
        self.losses.extend(losses);
    }

    /// The rest of the segment cannot be used.
    fn lose(&mut self, table: Table, error: &anyhow::Error) {
        self.losses.push(loss(table.file(self.segment, Form::Parquet), error));
        self.decoder.clear();
        self.skips = true;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use crate::encoder::Encoder;
    use crate::order::Orders;
    use std::sync::mpsc::sync_channel;
    use twtrace_core::event::Connection;
    use twtrace_testkit::{BuildConnection as _, START_NS, tuple};

    fn start() -> Event {
        twtrace_testkit::start(START_NS).event()
    }

    fn user(uid: u32) -> Event {
        twtrace_testkit::user(uid, &format!("user-{uid}"))
    }

    fn connection(cookie: u64) -> Event {
        Connection { cookie, ..Connection::bare(tuple(1, [10, 0, 1, 1], 2), START_NS) }.event()
    }

    /// A segment as the reading thread sends it, optionally without the rows of one table.
    fn segment(encoder: &mut Encoder, number: u32, events: &[Event], without: Option<Table>) -> Vec<Part> {
        let first_seq = encoder.seq();
        events.iter().for_each(|event| encoder.push(event).unwrap());
        let connections = events.iter().filter(|event| matches!(event, Event::Connection(_))).count() as u64;
        let mut parts = vec![Part::Segment { segment: number, first_seq, restated: Restated::Known, connections }];
        let mut open = Vec::new();
        for (table, batch) in Table::ALL.into_iter().zip(encoder.take().unwrap()) {
            match batch.filter(|_| without != Some(table)) {
                Some(batch) => {
                    open.push((*Orders::of(&batch).unwrap().seqs().last().unwrap(), table));
                    parts.push(Part::Rows(table, batch));
                }
                None => parts.push(Part::Over(table)),
            }
        }
        // In the order in which they run out.
        open.sort_unstable();
        parts.extend(open.into_iter().map(|(_, table)| Part::Over(table)));
        parts.push(Part::End { next_seq: encoder.seq() });
        parts
    }

    fn read(parts: Vec<Part>) -> (Vec<Event>, Pass) {
        let (sender, receiver) = sync_channel(parts.len());
        parts.into_iter().for_each(|part| sender.send(part).unwrap());
        drop(sender);
        let mut pass = Pass::new(receiver);
        let mut events = Vec::new();
        while let Some(event) = pass.next() {
            events.push(event);
        }
        (events, pass)
    }

    #[test]
    fn segment_after_a_gap_repeats_what_may_have_been_in_it() {
        for without in [None, Some(Table::Processes)] {
            let mut encoder = Encoder::default();
            let mut parts = segment(&mut encoder, 1, &[start(), user(7), connection(1)], without);
            encoder.begin_segment().unwrap();
            parts.extend(segment(&mut encoder, 2, &[connection(2)], None));
            let (events, pass) = read(parts);
            let expected = match without {
                None => vec![start(), user(7), connection(1), connection(2)],
                // Not the start: that was read.
                Some(_) => vec![start(), connection(1), user(7), connection(2)],
            };
            assert_eq!((events, pass.losses().len()), (expected, usize::from(without.is_some())));
        }
    }

    #[test]
    fn connections_that_cannot_be_read_are_counted() {
        let mut encoder = Encoder::default();
        let mut parts = segment(&mut encoder, 1, &[start(), connection(1), connection(2)], Some(Table::Connections));
        encoder.begin_segment().unwrap();
        parts.extend(segment(&mut encoder, 2, &[connection(3)], None));
        let loss = Loss { file: "connections-0003.parquet".to_owned(), what: "is missing".to_owned() };
        parts.push(Part::Lost { loss, unopened: 5 });
        let (events, pass) = read(parts);
        assert_eq!(events, [start(), connection(3)]);
        assert_eq!((pass.connections_lost(), pass.losses().len()), (2 + 5, 2));
    }
}
