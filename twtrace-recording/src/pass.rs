//! One pass over a recording.

use super::decoder::{Decoder, Next};
use super::schema::{Form, Table};
use super::stream::Part;
use super::{Loss, loss};
use std::sync::mpsc::Receiver;
use twtrace_core::input::Input;

/// Puts together what is read ahead.
pub(crate) struct Pass {
    parts: Receiver<Part>,
    decoder: Decoder,
    segment: u32,
    /// Rows of `connections` that the segment has.
    expected: u64,
    /// The rest of the segment cannot be used.
    skips: bool,
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
            losses: Vec::new(),
            connections_lost: 0,
        }
    }

    /// What could not be read so far.
    pub(crate) fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// How many rows of `connections` that were there at opening could not be read so far.
    pub(crate) fn connections_lost(&self) -> u64 {
        self.connections_lost
    }

    /// Number of the segment that is being read.
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    /// The next event; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Input> {
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
                    (self.segment, self.expected, self.skips) = (segment, connections, false);
                    self.decoder.begin(first_seq, restated);
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
                    self.decoder.close(table);
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

    /// Notes what of the segment was left out. Does nothing more when it is asked twice.
    fn finish_segment(&mut self) {
        let missing = self.expected.saturating_sub(self.decoder.connections());
        self.connections_lost = self.connections_lost.saturating_add(missing);
        self.expected = 0;
        self.losses.extend(self.decoder.take_skipped().losses(self.segment));
    }

    /// The rest of the segment cannot be used.
    fn lose(&mut self, table: Table, error: &anyhow::Error) {
        self.losses.push(loss(table.file(self.segment, Form::Parquet), error));
        self.decoder.clear();
        self.skips = true;
    }
}
