//! Where events come from.

use crate::event::Event;
use std::collections::VecDeque;
use std::convert::Infallible;

/// Yields events.
pub trait Source {
    /// Why it failed.
    type Error;

    /// Passes on the available events and returns. Never waits.
    ///
    /// # Errors
    /// The source failed; events passed on before remain valid.
    fn pump(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), Self::Error>;

    /// Passes on everything that happened until now. The last call.
    ///
    /// # Errors
    /// As [`Self::pump`].
    fn final_pump(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), Self::Error>;
}

/// Events from a list, one batch at each call.
#[derive(Debug, Default)]
pub struct Scripted {
    batches: VecDeque<Vec<Event>>,
}

impl Scripted {
    /// A source of these batches.
    pub fn new(batches: impl IntoIterator<Item = Vec<Event>>) -> Self {
        Self { batches: batches.into_iter().collect() }
    }
}

impl Source for Scripted {
    type Error = Infallible;

    fn pump(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), Infallible> {
        self.batches.pop_front().into_iter().flatten().for_each(sink);
        Ok(())
    }

    fn final_pump(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), Infallible> {
        self.batches.drain(..).flatten().for_each(sink);
        Ok(())
    }
}
