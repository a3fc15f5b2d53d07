//! Ends of TIME_WAIT sockets: reported by the kernel in the exact tier, elsewhere derived from timers and censuses.

use super::time_wait::TimeWait;
use super::{State, TIME_WAIT_NS};
use crate::counts::Counts;
use crate::event::{Tier, TimewaitCause, TimewaitEnd, Tuple};
use crate::summary::Substate;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// Ends remembered while a census in progress may still show those sockets. When full, further ones appear
/// unattributed.
const ENDED: usize = 1 << 20;

/// How a TIME_WAIT socket left the table, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Reported by the kernel.
    Reported(TimewaitCause),
    /// Its time was over, or a census after that time did not contain it.
    Expired,
    /// A census did not contain it although its timer had not run out.
    Early,
}

impl State {
    pub(super) fn timewait_end(&mut self, end: &TimewaitEnd) {
        self.advance_clock(end.at_ns);
        let ends = &mut self.summary.totals.ends;
        match end.cause {
            TimewaitCause::Expired => ends.expired += 1,
            TimewaitCause::Reused => ends.reused += 1,
            TimewaitCause::EndedEarly => ends.ended_early += 1,
        }
        if let Some(live) = self.time_wait.remove(end.cookie) {
            self.end(&live, End::Reported(end.cause));
        } else if let Some(pending) = self.census.take_pending(end.cookie) {
            // The socket was created after all: it has ended, so it existed.
            let substate = if end.fin_wait2 { Substate::FinWait2 } else { Substate::TimeWait };
            self.found(&pending, substate, end.at_ns);
            self.release(Some(pending));
            if let Some(live) = self.time_wait.remove(end.cookie) {
                self.end(&live, End::Reported(end.cause));
            }
        }
        self.census.ended(end.cookie, ENDED);
    }

    /// Whether the kernel reports every end.
    pub(super) fn ends_are_reported(&self) -> bool {
        self.summary.tracing.tier == Tier::Exact
    }

    /// What identifies a TIME_WAIT socket: its cookie (but see `shared.rs`), or without cookies its namespace and tuple. A
    /// tuple has one TIME_WAIT socket at a time.
    pub(super) fn identity(&self, cookie: u64, tuple: &Tuple) -> u64 {
        if self.summary.tracing.by_tuple {
            return self.full_identity(cookie, tuple);
        }
        self.shared.identity(cookie, tuple).unwrap_or(cookie)
    }

    /// The same for a socket that is not a TIME_WAIT socket: no other one of those has its cookie.
    pub(super) fn full_identity(&self, cookie: u64, tuple: &Tuple) -> u64 {
        if !self.summary.tracing.by_tuple {
            return cookie;
        }
        // The socket's family is left out: for a mapped address, the kernel reports the other family once the full
        // socket has become a TIME_WAIT socket.
        // Without BTF a connection does not know its namespace.
        let netns = if self.summary.tracing.no_btf { 0 } else { tuple.netns };
        let Tuple { netns: _, local_addr, local_port, remote_addr, remote_port, v4_mapped: _ } = *tuple;
        FixedState::default().hash_one((netns, local_addr, local_port, remote_addr, remote_port)).max(1)
    }

    /// A live TIME_WAIT socket that was removed from the table has ended.
    pub(super) fn end(&mut self, socket: &TimeWait, how: End) {
        let change = |counts: &mut Counts| {
            let place = match how {
                End::Reported(TimewaitCause::Expired) | End::Expired => &mut counts.time_wait_expired,
                End::Reported(TimewaitCause::Reused) => &mut counts.time_wait_reused,
                End::Reported(TimewaitCause::EndedEarly) | End::Early => &mut counts.time_wait_ended_early,
            };
            *place += 1;
        };
        if socket.shown {
            let cell = self.accounts.cell_again(socket.cell, socket.closer, socket.destination);
            change(&mut self.accounts.cells.row_mut(cell).counts);
            change(&mut self.summary.totals.counts);
        }
        self.ended(socket);
    }
}

/// How long after its time a TIME_WAIT socket must be gone although no end was reported: the kernel's one-minute timers
/// fire up to an eighth late (`kernel/time/timer.c`).
pub(crate) const TOO_LATE_NS: u64 = TIME_WAIT_NS / 4;
