//! One pass over a recording.

use super::Loss;
use super::decoder::Decoder;
use super::schema::{Form, Table};
use super::stream::Part;
use std::sync::mpsc::Receiver;
use twtrace_core::input::Input;

/// Puts together what is read ahead.
pub(crate) struct Pass {
    parts: Receiver<Part>,
    decoder: Decoder,
    segment: u32,
    /// The rest of the segment cannot be used.
    skips: bool,
    losses: Vec<Loss>,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("segment", &self.segment).field("losses", &self.losses).finish_non_exhaustive()
    }
}

impl Pass {
    pub(super) fn new(parts: Receiver<Part>) -> Self {
        Self { parts, decoder: Decoder::default(), segment: 0, skips: false, losses: Vec::new() }
    }

    /// What could not be read so far.
    pub(crate) fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Number of the segment that is being read.
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    /// The next Input; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Input> {
        loop {
            match self.decoder.next() {
                Ok(Some(input)) => return Some(input),
                Ok(None) => {}
                Err(error) => self.lose(&error),
            }
            let Ok(part) = self.parts.recv() else {
                self.say_skipped();
                return self.decoder.finish();
            };
            let waited = match part {
                Part::Segment { segment, first_seq, restated } => {
                    self.say_skipped();
                    (self.segment, self.skips) = (segment, false);
                    let waited = self.decoder.finish();
                    self.decoder.begin(first_seq, restated);
                    waited
                }
                Part::Window(_) if self.skips => None,
                Part::Window(window) => {
                    if let Err(error) = self.decoder.load(*window) {
                        self.lose(&error);
                    }
                    None
                }
                Part::End { next_seq } => {
                    self.say_skipped();
                    let waited = self.decoder.finish();
                    if !self.skips
                        && let Err(error) = self.decoder.check_end(next_seq)
                    {
                        self.lose(&error);
                    }
                    waited
                }
                Part::Lost(loss) => {
                    self.say_skipped();
                    self.losses.push(loss);
                    self.skips = true;
                    self.decoder.finish()
                }
            };
            if waited.is_some() {
                return waited;
            }
        }
    }

    /// What of the segment this version does not know.
    fn say_skipped(&mut self) {
        let losses = self.decoder.take_skipped().losses(self.segment);
        self.losses.extend(losses);
    }

    fn lose(&mut self, error: &anyhow::Error) {
        self.losses.push(Loss::new(Table::Connections.file(self.segment, Form::Parquet), error));
        self.decoder.clear();
        self.skips = true;
    }
}
