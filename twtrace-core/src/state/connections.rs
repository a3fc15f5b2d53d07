//! Counts ended connections.

use super::closed::{ClosedConnection, destination, may_be_in_time_wait};
use super::failures::kind_of_connect;
use super::owners::UNKNOWN;
use super::{RECENT, State};
use crate::classify::{Outcome, classify};
use crate::counts::Counts;
use crate::event::{ConnectFailed, Connection, Owner, Role, TcpState, Tuple};
use crate::strangers::Strangers;
use crate::table::RowRef;

/// `EADDRNOTAVAIL`.
const EADDRNOTAVAIL: u16 = 99;

impl State {
    /// A connection has ended.
    pub(super) fn connection(&mut self, connection: &Connection, by_kernel: bool) {
        self.advance_clock(connection.end_ns);
        let outcome = classify(connection);
        let role = self.role(connection.role, &connection.tuple);
        let shown = self.filter.passes(&connection.tuple, [connection.opener.as_ref(), connection.closer.as_ref()]);
        let totals = &mut self.summary.totals;
        totals.connections += 1;
        *totals.outcomes.entry(outcome.outcome.name().into()).or_default() += 1;

        let is_created = matches!(outcome.outcome, Outcome::TimeWait(_));
        let is_pending = !is_created && may_be_in_time_wait(connection);
        self.shared.taken_again(&connection.tuple);
        let cookie = if connection.cookie == 0 && !self.summary.tracing.by_tuple {
            let identity = if is_created { self.shared.add_without(&connection.tuple) } else { None };
            identity.unwrap_or_else(|| {
                self.next_without_cookie += 1;
                self.next_without_cookie
            })
        } else if (is_created || is_pending) && !self.summary.tracing.by_tuple {
            self.new_identity(connection.cookie, &connection.tuple)
        } else {
            self.identity(connection.cookie, &connection.tuple)
        };
        let mut ended = ClosedConnection {
            cookie,
            end_ns: connection.end_ns,
            outcome: outcome.outcome,
            tuple: connection.tuple,
            role,
            closer: UNKNOWN,
            opener: UNKNOWN,
            destination: RowRef::OTHER,
            older: connection.older,
            attributed: connection.closer.is_some(),
            by_kernel,
            shown,
            bound: connection.binding.port,
            peer_timestamps: connection.peer_timestamps,
        };
        self.bound.remove(&self.full_identity(connection.cookie, &connection.tuple));
        if shown {
            self.account(connection, &mut ended);
        } else {
            self.retain(&ended);
        }
        if let Outcome::TimeWait(substate) = outcome.outcome {
            let lasts_ns = self.summary.time_wait_ns(ended.tuple.netns);
            self.follow(&ended, substate, outcome.known, connection.end_ns.saturating_add(lasts_ns));
        }
        if self.recent.len() == RECENT {
            let oldest = self.recent.pop_front();
            self.release(oldest);
        }
        // Retained since it was accounted for.
        self.recent.push_back(ended);
        if is_pending {
            self.confirm_later(ended);
        }
    }

    /// Keeps the numbers of its owners valid.
    pub(super) fn retain(&mut self, ended: &ClosedConnection) {
        self.accounts.owners.retain(ended.closer);
        self.accounts.owners.retain(ended.opener);
    }

    pub(super) fn release(&mut self, ended: Option<ClosedConnection>) {
        if let Some(ended) = ended {
            self.accounts.owners.release(ended.closer);
            self.accounts.owners.release(ended.opener);
        }
    }

    /// The role of a connection. If its start was not seen, listening ports and the ephemeral port range decide.
    pub(super) fn role(&self, role: Role, tuple: &Tuple) -> Role {
        if role != Role::Unknown {
            return role;
        }
        let (low, high) = self.summary.kernel_of(tuple.netns).map_or((0, 0), |facts| facts.port_range);
        if self.census.listens(tuple) {
            Role::Passive
        } else if (low..=high).contains(&tuple.local_port) && low > 0 {
            Role::Active
        } else {
            Role::Unknown
        }
    }

    /// Counts it in its cells, and retains its owners.
    fn account(&mut self, connection: &Connection, ended: &mut ClosedConnection) {
        let accounts = &mut self.accounts;
        ended.closer = accounts.number(connection.closer.as_ref());
        // Immediately: adding the next owner may evict this one.
        accounts.owners.retain(ended.closer);
        ended.opener = if connection.opener == connection.closer {
            ended.closer
        } else {
            accounts.number(connection.opener.as_ref())
        };
        accounts.owners.retain(ended.opener);
        ended.destination = accounts.destination(destination(&ended.tuple, ended.role));
        let (main, role, end_ns) = (ended.main(), ended.role, ended.end_ns);

        let reached = |state: TcpState| connection.transitions.iter().any(|transition| transition.to == state);
        let (first, last) = (reached(TcpState::FinWait1), reached(TcpState::LastAck));
        let created = matches!(ended.outcome, Outcome::TimeWait(_));
        let reset = ended.counts_as_reset();
        let errno = match ended.outcome {
            Outcome::ConnectFailed(errno) => Some(errno),
            Outcome::NoPort => Some(EADDRNOTAVAIL),
            _ => None,
        };
        let microseconds = connection.transitions.first().map(|first| end_ns.saturating_sub(first.at_ns) / 1000);
        let lifetime = microseconds.filter(|_| connection.established && !connection.older);

        let overflow = ended.outcome == Outcome::Overflow;
        let by_closer = |counts: &mut Counts| {
            counts.closed_first += u64::from(first);
            counts.closed_last += u64::from(last);
            counts.time_wait_created += u64::from(created);
            counts.time_wait_overflow += u64::from(overflow);
        };
        let by_opener = |counts: &mut Counts| {
            counts.opened += u64::from(role == Role::Active && errno.is_none() && ended.outcome != Outcome::Abandoned);
            counts.accepted += u64::from(role == Role::Passive);
            if let Some(errno) = errno {
                *counts.errors.entry(errno).or_default() += 1;
            }
        };
        let by_either = |counts: &mut Counts| {
            counts.reset += u64::from(reset);
            counts.bytes_sent = counts.bytes_sent.saturating_add(connection.bytes_sent);
            counts.bytes_received = counts.bytes_received.saturating_add(connection.bytes_received);
            counts.retransmits = counts.retransmits.saturating_add(u64::from(connection.retransmits));
            counts.retransmitted += u64::from(connection.retransmits > 0);
            if let Some(lifetime) = lifetime {
                counts.lifetimes.add(lifetime);
            }
        };
        let all = |counts: &mut Counts| {
            by_closer(counts);
            by_opener(counts);
            by_either(counts);
        };
        let cell = if ended.opener == ended.closer {
            // Most connections are opened and closed by the same process: one cell is changed.
            accounts.add(main, ended.destination, all)
        } else {
            let by_one = |counts: &mut Counts, closed| if closed { by_closer(counts) } else { by_opener(counts) };
            let main_closed = main == ended.closer;
            let other = if main_closed { ended.opener } else { ended.closer };
            accounts.add(other, ended.destination, |counts| by_one(counts, !main_closed));
            let cell = accounts.add(main, ended.destination, |counts| {
                by_one(counts, main_closed);
                by_either(counts);
            });
            accounts.took_part(other);
            cell
        };
        accounts.took_part(main);
        all(&mut self.summary.totals.counts);
        if created {
            let cell = if main == ended.closer { cell } else { accounts.cell(ended.closer, ended.destination) };
            let scale = self.history.as_mut().map(|history| &mut history.scale);
            accounts.created((ended.closer, ended.destination, cell), end_ns, scale);
            if let (Some(opener), Some(closer)) = (&connection.opener, &connection.closer)
                && opener.key != closer.key
            {
                let row = accounts.process(ended.closer);
                Strangers::add(&mut accounts.processes.row_mut(row).strangers, opener, closer);
            }
            self.census.rate.count(end_ns);
        }
        let cell = accounts.cell_again(cell, main, ended.destination);
        accounts.cells.row_mut(cell).connections += 1;
        let user = ended.user();
        let cell = if user == main { cell } else { accounts.cell(user, ended.destination) };
        accounts.cells.row_mut(cell).pattern.add(connection, role, ended.outcome);
        let row = accounts.destinations.row_mut(ended.destination);
        row.meter.connections += 1;
        row.pattern.add(connection, role, ended.outcome);
        row.peer_timestamps = ended.peer_timestamps.filter(|_| connection.established).or(row.peer_timestamps);
        if let Some(took_us) = connect_us(connection, role, ended.outcome) {
            row.connect_us.add(took_us);
        }
        self.failed_connection(connection, ended);
        if let Some(history) = &mut self.history {
            let moment = history.at(end_ns);
            moment.created += u64::from(created);
            moment.overflowed += u64::from(overflow);
            moment.connections += 1;
            if let Some(kind) = kind_of_connect(ended.outcome, connection) {
                moment.fail(kind);
            }
        }
    }

    pub(super) fn connect_failed(&mut self, failed: &ConnectFailed) {
        self.advance_clock(failed.at_ns);
        *self.summary.totals.outcomes.entry(Outcome::ConnectFailed(failed.errno).name().into()).or_default() += 1;
        if !self.filter.passes(&failed.tuple, [Some(&failed.opener), None]) {
            return;
        }
        let change = |counts: &mut Counts| {
            *counts.errors.entry(failed.errno).or_default() += 1;
        };
        let accounts = &mut self.accounts;
        let opener = accounts.number(Some(&failed.opener));
        let place = accounts.destination(destination(&failed.tuple, Role::Active));
        let cell = accounts.add(opener, place, change);
        accounts.cells.row_mut(cell).connections += 1;
        accounts.took_part(opener);
        accounts.destinations.row_mut(place).meter.connections += 1;
        change(&mut self.summary.totals.counts);
        let kind = self.failed_early(failed);
        if let Some(history) = &mut self.history {
            history.at(failed.at_ns).fail(kind);
        }
    }
}

/// Whether a kernel thread closed it on behalf of another process: a worker of MPTCP, or one that closes files later. What
/// such a thread closes counts for the opener; who closed it is not known where the opener is not. The kernel's own
/// connections, of NFS for example, are opened by kernel threads as well.
pub(super) fn closed_by_kernel(connection: &mut Connection) -> bool {
    let is_kernel = |owner: Option<&Owner>| owner.is_some_and(|owner| owner.kthread);
    let stands_in = is_kernel(connection.closer.as_ref()) && !is_kernel(connection.opener.as_ref());
    if stands_in {
        connection.closer = connection.opener;
    }
    stands_in
}

/// How long connect(2) took, microseconds: until the connection was established, or until no port was found.
fn connect_us(connection: &Connection, role: Role, outcome: Outcome) -> Option<u64> {
    let [begun, next, ..] = connection.transitions.as_slice() else { return None };
    let is_known = next.to == TcpState::Established || outcome == Outcome::NoPort;
    let whole = role == Role::Active && begun.to == TcpState::SynSent && !connection.gap;
    (is_known && whole).then(|| next.at_ns.saturating_sub(begun.at_ns) / 1000)
}
