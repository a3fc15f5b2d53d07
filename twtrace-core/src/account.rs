//! What a connection counts for.

use crate::attribution::UNKNOWN;
use crate::connection::Outcome;
use crate::engine::{Ended, Engine};
use crate::input::{ConnectFailed, Life, Role, TcpState, Tuple};
use crate::ledger::RowRef;
use crate::model::{Counts, DestKey, DestRow, GroupBy, Model};

/// `EADDRNOTAVAIL`.
const EADDRNOTAVAIL: u16 = 99;

impl Engine {
    /// Counts a life in the ledgers, and holds its owners.
    pub(crate) fn account(&mut self, life: &Life, ended: &mut Ended) {
        let attribution = &mut self.model.attribution;
        ended.closer = attribution.number(life.closer.as_ref());
        // At once: the next owner may make room for itself.
        attribution.hold(ended.closer);
        ended.opener = if life.opener == life.closer { ended.closer } else { attribution.number(life.opener.as_ref()) };
        attribution.hold(ended.opener);
        // What belongs to no side in particular goes to the closer, else to the opener.
        let main = if ended.closer == UNKNOWN { ended.opener } else { ended.closer };

        let reached = |state: TcpState| life.transitions.iter().any(|transition| transition.to == state);
        let (first, last) = (reached(TcpState::FinWait1), reached(TcpState::LastAck));
        let made = matches!(ended.outcome, Outcome::TimeWait(_));
        let reset = ended.counts_as_reset();
        let errno = match ended.outcome {
            Outcome::ConnectFailed(errno) => Some(errno),
            Outcome::NoPort => Some(EADDRNOTAVAIL),
            _ => None,
        };
        let microseconds = life.transitions.first().map(|first| life.end_ns.saturating_sub(first.at_ns) / 1000);
        let lifetime = microseconds.filter(|_| life.established && !life.older);
        let role = ended.role;

        let overflow = ended.outcome == Outcome::Overflow;
        let by_closer = |counts: &mut Counts| {
            counts.closed_first += u64::from(first);
            counts.closed_last += u64::from(last);
            counts.time_wait_made += u64::from(made);
            counts.time_wait_overflow += u64::from(overflow);
        };
        let by_opener = |counts: &mut Counts| {
            counts.opened += u64::from(role == Role::Active);
            counts.accepted += u64::from(role == Role::Passive);
            if let Some(errno) = errno {
                *counts.connect_errors.entry(errno).or_default() += 1;
            }
        };
        let by_either = |counts: &mut Counts| {
            counts.reset += u64::from(reset);
            counts.bytes_sent = counts.bytes_sent.saturating_add(life.bytes_sent);
            counts.bytes_received = counts.bytes_received.saturating_add(life.bytes_received);
            counts.retransmits = counts.retransmits.saturating_add(u64::from(life.retransmits));
            if let Some(lifetime) = lifetime {
                counts.lifetimes.add(lifetime);
            }
        };
        let all = |counts: &mut Counts| {
            by_closer(counts);
            by_opener(counts);
            by_either(counts);
        };
        if ended.opener == ended.closer {
            // Most connections are opened and closed by the same process: its rows are changed in one go.
            attribution.tally(main, all);
        } else {
            attribution.tally(ended.closer, by_closer);
            attribution.tally(ended.opener, by_opener);
            attribution.tally(main, by_either);
        }
        let process = attribution.process_row(main);
        let maker = attribution.process_row(ended.closer);

        ended.destination = self.model.destinations.place(destination(&ended.tuple, role)).0;
        let row = self.model.destinations.row_mut(ended.destination);
        all(&mut row.counts);
        row.pattern.add(life, role, ended.outcome);
        if let Some(took_us) = connect_us(life, role, ended.outcome) {
            row.connect_us.add(took_us);
        }
        all(&mut self.model.summary.totals.counts);
        let connection = self.model.pair(process, ended.destination);
        let pair = self.model.pairs.row_mut(connection);
        pair.connections += 1;
        pair.pattern.add(life, role, ended.outcome);
        // A timewait socket is its closer's, even when that is nobody and the connection goes to the opener.
        ended.pair = connection;
        if maker != process && (made || is_doubtful(life)) {
            ended.pair = self.model.pair(maker, ended.destination);
        }
        if made {
            self.model.pairs.row_mut(ended.pair).time_wait_made += 1;
            let Model { attribution, destinations, history, .. } = &mut self.model;
            let mut scale = history.as_mut().map(|history| &mut history.scale);
            attribution.tick_rate(ended.closer, ended.end_ns, scale.as_deref_mut());
            destinations.tick_rate(ended.destination, ended.end_ns, scale);
            self.census.rate.tick_rate(RowRef::OTHER, ended.end_ns, None);
        }
        self.failed_life(life, ended);
        if let Some(history) = &mut self.model.history {
            let moment = history.at(ended.end_ns);
            moment.made += u64::from(made);
            moment.refused += u64::from(overflow);
            moment.connections += 1;
            moment.connect_errors += u64::from(errno.is_some());
        }
    }

    pub(crate) fn connect_failed(&mut self, failed: &ConnectFailed) {
        self.passed(failed.at_ns);
        *self.model.summary.totals.outcomes.entry(Outcome::ConnectFailed(failed.errno).name()).or_default() += 1;
        if !self.filter.passes(&failed.tuple, [Some(&failed.opener), None]) {
            return;
        }
        let change = |counts: &mut Counts| {
            counts.opened += 1;
            *counts.connect_errors.entry(failed.errno).or_default() += 1;
        };
        let opener = self.model.attribution.number(Some(&failed.opener));
        self.model.attribution.tally(opener, change);
        let place = self.model.destinations.place(destination(&failed.tuple, Role::Active)).0;
        change(&mut self.model.destinations.row_mut(place).counts);
        change(&mut self.model.summary.totals.counts);
        if let Some(history) = &mut self.model.history {
            history.at(failed.at_ns).connect_errors += 1;
        }
        let process = self.model.attribution.process_row(opener);
        self.failed_early(failed, process);
        let pair = self.model.pair(process, place);
        self.model.pairs.row_mut(pair).connections += 1;
    }
}

impl Model {
    /// The pair of a process row and a destination row, both just looked up.
    pub(crate) fn pair(&mut self, process: u32, destination: RowRef) -> RowRef {
        let processes = self.attribution.ledger(GroupBy::Process);
        let folds = processes.folds() + self.destinations.folds();
        if folds != self.folds {
            self.folds = folds;
            // Nothing leads to the pairs of rows that are gone.
            let (processes, destinations) = (processes.ids(), self.destinations.ids());
            self.pairs.fold_if(|pair| !processes.contains(&pair.process) || !destinations.contains(&pair.destination));
        }
        self.pairs.place((process, destination.id())).0
    }
}

/// How long connect(2) took, microseconds: until the connection was there, or until no port was found.
fn connect_us(life: &Life, role: Role, outcome: Outcome) -> Option<u64> {
    let [begun, next, ..] = life.transitions.as_slice() else { return None };
    let told = next.to == TcpState::Established || outcome == Outcome::NoPort;
    let whole = role == Role::Active && begun.to == TcpState::SynSent && !life.gap;
    (told && whole).then(|| next.at_ns.saturating_sub(begun.at_ns) / 1000)
}

/// The destination that a connection belongs to.
pub(crate) fn destination(tuple: &Tuple, role: Role) -> DestRow {
    let (remote_addr, port) = match role {
        Role::Active | Role::Unknown => (Some(tuple.remote_addr), tuple.remote_port),
        Role::Passive => (None, tuple.local_port),
    };
    DestRow::Dest(DestKey { netns: tuple.netns, role, local_addr: tuple.local_addr, remote_addr, port })
}

/// Whether the census may show a timewait socket, whatever the life was judged to be.
pub(crate) fn is_doubtful(life: &Life) -> bool {
    life.transitions.last().is_some_and(|last| matches!(last.from, TcpState::FinWait2 | TcpState::Closing))
}
