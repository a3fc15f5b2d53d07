//! One pass over a recording.

use super::Loss;
use super::decoder::Decoder;
use super::guard::guarded;
use super::schema::{Form, Table};
use super::stream::Part;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use twtrace_core::input::Input;

/// Inputs in one go: enough that handing them over costs little.
const CHUNK: usize = 1024;

/// Chunks that are put together ahead, some hundred kilobytes each.
const AHEAD: usize = 8;

/// Inputs of one segment, with what was lost before them.
#[derive(Default)]
struct Chunk {
    segment: u32,
    inputs: Vec<Input>,
    losses: Vec<Loss>,
}

/// Inputs in their order, put together on a thread of its own: it takes as long as what is done with them.
pub(crate) struct Pass {
    chunks: Receiver<Chunk>,
    inputs: std::vec::IntoIter<Input>,
    segment: u32,
    losses: Vec<Loss>,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("segment", &self.segment).field("losses", &self.losses).finish_non_exhaustive()
    }
}

impl Pass {
    pub(super) fn start(parts: Receiver<Part>) -> io::Result<Self> {
        let (chunks, receiver) = sync_channel(AHEAD);
        thread::Builder::new().name("decode".to_owned()).spawn(move || Assembly::new(parts).run(&chunks))?;
        Ok(Self { chunks: receiver, inputs: Vec::new().into_iter(), segment: 0, losses: Vec::new() })
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
            if let Some(input) = self.inputs.next() {
                return Some(input);
            }
            let chunk = self.chunks.recv().ok()?;
            self.segment = chunk.segment;
            self.losses.extend(chunk.losses);
            self.inputs = chunk.inputs.into_iter();
        }
    }
}

/// Puts together what is read ahead.
struct Assembly {
    parts: Receiver<Part>,
    decoder: Decoder,
    segment: u32,
    /// The rest of the segment cannot be used.
    skips: bool,
    losses: Vec<Loss>,
}

impl Assembly {
    fn new(parts: Receiver<Part>) -> Self {
        Self { parts, decoder: Decoder::default(), segment: 0, skips: false, losses: Vec::new() }
    }

    /// Hands everything over, for as long as somebody listens.
    fn run(mut self, chunks: &SyncSender<Chunk>) {
        loop {
            let mut inputs = Vec::with_capacity(CHUNK);
            let segment = self.segment;
            // What was put together before a panic is whole.
            let is_over = guarded(|| {
                while inputs.len() < CHUNK && self.segment == segment {
                    match self.next() {
                        Some(input) => inputs.push(input),
                        None => return Ok(true),
                    }
                }
                Ok(false)
            });
            let is_over = is_over.unwrap_or_else(|error| {
                self.lose(&error);
                false
            });
            // The first Input of a segment is the last one that was put together.
            let first = if self.segment == segment { None } else { inputs.pop() };
            let losses = std::mem::take(&mut self.losses);
            if chunks.send(Chunk { segment, inputs, losses }).is_err() {
                return;
            }
            if let Some(first) = first
                && chunks.send(Chunk { segment: self.segment, inputs: vec![first], losses: Vec::new() }).is_err()
            {
                return;
            }
            if is_over {
                return;
            }
        }
    }

    /// The next Input; `None` at the end.
    fn next(&mut self) -> Option<Input> {
        loop {
            match self.decoder.next() {
                Ok(Some(input)) => return Some(input),
                Ok(None) => {}
                Err(error) => self.lose(&error),
            }
            let Ok(part) = self.parts.recv() else { return self.decoder.finish() };
            let waited = match part {
                Part::Segment { segment, first_seq, restated } => {
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
                    let waited = self.decoder.finish();
                    if !self.skips
                        && let Err(error) = self.decoder.check_end(next_seq)
                    {
                        self.lose(&error);
                    }
                    waited
                }
                Part::Lost(loss) => {
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

    fn lose(&mut self, error: &anyhow::Error) {
        self.losses.push(Loss::new(Table::Connections.file(self.segment, Form::Parquet), error));
        self.decoder.clear();
        self.skips = true;
    }
}
