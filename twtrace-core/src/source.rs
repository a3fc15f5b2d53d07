//! Where events come from.

use crate::event::Event;
use std::collections::VecDeque;
use std::convert::Infallible;

/// Yields events.
pub trait Source {
    /// Why it cannot.
    type Error;

    /// Hands over what there is and returns. Never waits.
    ///
    /// # Errors
    /// The source failed; what was handed over before stays true.
    fn pump(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), Self::Error>;

    /// Hands over everything that happened until now. The last call.
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
