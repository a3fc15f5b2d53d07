//! The kernel's lists of TIME_WAIT sockets, once and without tracing.

use super::census::{Censuses, Dump};
use super::meanwhile::NoRecords;
use super::namespaces::Namespaces;
use crate::host;
use crate::host::clock;
use anyhow::Context as _;
use twtrace_core::event::Event;

/// Takes a census of each network namespace of the host that can be entered. Returns the time before the first one, in
/// nanoseconds of the monotonic clock.
///
/// # Errors
/// The kernel does not answer, or no thread could be started.
pub fn census_of_all(sink: &mut dyn FnMut(Event)) -> anyhow::Result<u64> {
    let netns = host::own_netns().context("cannot read this process's network namespace")?;
    let mut namespaces = Namespaces::start(netns).context("cannot start a thread")?;
    let began_ns = clock::monotonic_ns()?;
    let facts = host::kernel_facts().context("cannot read the kernel's TCP figures")?;
    sink(Event::Kernel { netns, facts });
    // Every socket is new: what the recording knew last may be old. Owners of the open sockets are not looked up.
    let mut censuses = Censuses::default();
    let records = &mut NoRecords::default();
    censuses.take(netns, sink, Dump::here, records)?;
    namespaces.last_round(&mut censuses, sink, records)?;
    Ok(began_ns)
}
