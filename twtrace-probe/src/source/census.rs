//! Censuses, one after the other, as events.

use super::deadline::Deadline;
use super::socket_owners::OpenSockets;
use crate::host::clock;
use crate::kernel::census;
use netlink_sys::Socket;
use std::io;
use std::ops::ControlFlow;
use twtrace_core::changes::Changes;
use twtrace_core::event::{CensusRow, Event};

/// What is done with each piece of a census.
type With<'a> = dyn FnMut(&[CensusRow], &mut dyn FnMut(Event)) + 'a;

/// What is kept from one census to the next.
#[derive(Default)]
pub(super) struct Censuses {
    /// What each namespace had.
    pub(super) changes: Changes,
    pub(super) open_sockets: OpenSockets,
    /// A census that is running at that time is cut short.
    pub(super) deadline: Deadline,
}

impl Censuses {
    /// The kernel's list of a namespace, then the records that arrived meanwhile: a socket that was created during the
    /// dump is in both. Returns the time after the dump.
    ///
    /// `with` gets each piece unchanged; rows that are already known are not passed on.
    pub(super) fn take(
        &mut self,
        netns: u32,
        sink: &mut dyn FnMut(Event),
        open: impl FnOnce() -> io::Result<Socket>,
        with: &mut With<'_>,
    ) -> io::Result<u64> {
        let Self { changes, open_sockets, deadline } = self;
        let at_ns = clock::monotonic_ns()?;
        sink(Event::SocketDumpBegin { netns, at_ns, whole: changes.begin(netns, at_ns) });
        open_sockets.begin();
        let report = open().and_then(|socket| {
            census::dump_from(socket, netns, &mut |piece| {
                with(&piece.rows, sink);
                open_sockets.add(&piece);
                let mut rows = piece.rows;
                changes.keep(&mut rows);
                // Adjacent cookies are close in time, which a recording compresses well. Of two rows with the same
                // cookie the later one stays the later one.
                rows.sort_by_key(|row| row.cookie);
                if !rows.is_empty() {
                    sink(Event::SocketDump(rows));
                }
                if deadline.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        let at_ns = clock::monotonic_ns()?;
        open_sockets.end(netns, report.as_ref().is_ok_and(|report| !report.cut_short));
        // A failed dump proves nothing, and the next may succeed: it is shown as incomplete.
        let complete = report.is_ok_and(|report| report.complete);
        let gone = changes.end(at_ns, complete);
        if !gone.is_empty() {
            sink(Event::SocketsRemoved(gone));
        }
        sink(Event::SocketDumpEnd { at_ns, complete });
        Ok(at_ns)
    }

    /// A namespace is gone.
    pub(super) fn forget(&mut self, netns: u32) {
        self.changes.forget(netns);
        self.open_sockets.forget(netns);
    }
}
