//! Where events come from.

mod census;
pub mod deadline;
pub mod kernel_source;
mod lookups;
mod meanwhile;
mod namespaces;
pub mod now;
mod socket_owners;

use std::os::fd::BorrowedFd;
use twtrace_core::source::Source;

/// A source that a command can wait for.
pub trait EventSource: Source<Error = anyhow::Error> {
    /// Becomes readable when it is time to pump; `None` when only time decides.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// From now on, reports in full what it would report as differences: a new consumer begins to listen here.
    fn restate(&mut self) {}
}
