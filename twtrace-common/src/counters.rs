//! What the kernel side counts.

/// Kernel-side counters, one set per CPU, summed by the loader. They only grow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// TCP transitions handled, listeners' own excluded.
    pub transitions: u64,
    /// Of these, handled by the twin because the kernel skipped the first program.
    pub recovered: u64,
    /// Transitions that the twin found already handled although the per-CPU slot had moved on.
    pub duplicates: u64,
    /// Lives begun: CLOSE -> SYN_SENT, LISTEN -> SYN_RECV, or first sight of an older socket.
    pub lives_begun: u64,
    /// Lives that reached CLOSE, whether or not their record could be written.
    pub lives_ended: u64,
    /// Lives that never reached ESTABLISHED on a listener (handshake given up): ended without a record.
    pub handshakes_dropped: u64,
    /// Connects that failed before SYN_SENT.
    pub connects_failed_early: u64,
    /// Records written to the ring buffer.
    pub records: u64,
    /// Records that the full ring buffer refused.
    pub ring_full: u64,
    /// Lives that ended without having been followed, because the socket map was full.
    pub map_full: u64,
    /// Lives whose end was never seen and that had not sent a FIN: nothing can be said of them.
    pub stale: u64,
    /// Accept exits that found no followed life for their new socket: it began before the tracer, or was lost.
    pub exit_unresolved: u64,
    /// Timewait sockets that `inet_twsk_alloc` made for TCP.
    pub timewaits_made: u64,
    /// Timewait sockets that it refused.
    pub timewaits_refused: u64,
    /// Timewait sockets of TCP that ended.
    pub timewaits_ended: u64,
    /// Of these, taken over by a connect (`tcp_twsk_unique`).
    pub timewaits_reused: u64,
    /// What maps had no room for: calls whose arguments were gone from the full `CALLS` at their return (or that the
    /// kernel skipped the program at their entry of), and timewait sockets taken over that the full `REUSED` did not
    /// take (their end is told as a kill).
    pub evicted: u64,
}

const _: () = assert!(size_of::<Counters>() == 136);
