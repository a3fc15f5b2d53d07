//! The ring buffer is read while something else takes its time.

use twtrace_core::event::Event;
use twtrace_core::netns::NetnsIds;

/// What else comes from the kernel while namespaces are searched and visited.
pub(super) trait Meanwhile {
    /// Passes on the records that have arrived.
    fn drain(&mut self, sink: &mut dyn FnMut(Event));

    /// Which namespace is which, for records as well.
    fn ids(&mut self) -> &mut NetnsIds;
}

/// Where there are no records.
#[derive(Default)]
pub(super) struct NoRecords(NetnsIds);

impl Meanwhile for NoRecords {
    fn drain(&mut self, _: &mut dyn FnMut(Event)) {}

    fn ids(&mut self) -> &mut NetnsIds {
        &mut self.0
    }
}
