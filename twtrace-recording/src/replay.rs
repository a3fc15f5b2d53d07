//! Events from a recording.

use crate::Loss;
use crate::pass::Pass;
use twtrace_core::event::Event;
use twtrace_core::source::Source;

/// A recording as a source of events.
#[derive(Debug)]
pub struct Replay {
    pass: Pass,
}

impl Replay {
    pub(crate) fn new(pass: Pass) -> Self {
        Self { pass }
    }

    /// Passes on Events up to and including the first `Tick` at `until_ns` (the traced host's monotonic clock) or
    /// later; `false` when the recording is at its end.
    ///
    /// # Errors
    /// None so far: what cannot be read is in [`Self::losses`].
    pub fn advance(&mut self, until_ns: u64, sink: &mut dyn FnMut(Event)) -> anyhow::Result<bool> {
        while let Some(event) = self.pass.next() {
            let is_enough = matches!(event, Event::Tick { at_ns } if at_ns >= until_ns);
            sink(event);
            if is_enough {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Number of the segment that the last Event came from.
    pub fn segment(&self) -> u32 {
        self.pass.segment()
    }

    /// Number of rows of `connections` found unreadable during the pass, in addition to those known at opening.
    pub fn connections_lost(&self) -> u64 {
        self.pass.connections_lost()
    }

    /// What was found unreadable during the pass, in addition to what was known at opening.
    pub fn losses(&self) -> &[Loss] {
        self.pass.losses()
    }
}

impl Source for Replay {
    type Error = anyhow::Error;

    fn pump(&mut self, sink: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
        self.advance(u64::MAX, sink).map(|_| ())
    }

    fn final_pump(&mut self, sink: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
        self.pump(sink)
    }
}
