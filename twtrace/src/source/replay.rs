//! Inputs from a recording.

use super::Feed;
use crate::trace::Loss;
use std::os::fd::BorrowedFd;
use twtrace_core::input::Input;
use twtrace_core::source::Source;

/// A recording as a source of inputs.
#[derive(Debug)]
pub struct Replay {
    losses: Vec<Loss>,
}

impl Replay {
    /// Hands over Inputs up to and with the first `Tick` at `until_ns` (the traced host's monotonic clock) or later;
    /// `false` when the recording is at its end.
    ///
    /// # Errors
    /// A file cannot be read any more.
    pub fn advance(&mut self, _until_ns: u64, _sink: &mut dyn FnMut(Input)) -> anyhow::Result<bool> {
        Ok(false)
    }

    /// What turned out to be unreadable on the way, besides what was known at opening.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }
}

impl Source for Replay {
    type Error = anyhow::Error;

    fn pump(&mut self, sink: &mut dyn FnMut(Input)) -> anyhow::Result<()> {
        self.advance(u64::MAX, sink).map(|_| ())
    }

    fn final_pump(&mut self, sink: &mut dyn FnMut(Input)) -> anyhow::Result<()> {
        self.pump(sink)
    }
}

impl Feed for Replay {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
