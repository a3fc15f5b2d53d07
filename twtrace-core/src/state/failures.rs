//! Calls that found no address or no port, and what caused that at the time.

use super::State;
use super::accounts::Accounts;
use super::budgets::KEPT_NS;
use super::closed::{ClosedConnection, destination_key};
use super::shared::is_same;
use super::time_wait::{TimeWait, TimeWaitTable};
use crate::classify::Outcome;
use crate::counts::Counts;
use crate::event::{BindFailed, ConnectFailed, Connection, Role, SocketOwner, Tuple};
use crate::failure::{Call, Cause, FailureKind, FailureRow, Holder};
use crate::keys::{DestKey, DestRow};
use crate::ports::Usable;
use crate::summary::Summary;
use crate::table::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;

/// `EADDRINUSE`.
const EADDRINUSE: u16 = 98;
/// `EADDRNOTAVAIL`.
const EADDRNOTAVAIL: u16 = 99;

/// A connect that returns this soon after the trace began may have begun before it. That it looked for a port, as its state
/// change would have shown, was not seen then.
const IN_FLIGHT_NS: u64 = 20_000_000;

/// Why a connect failed with EADDRNOTAVAIL.
fn of_connect(outcome: Outcome, connection: &Connection) -> Option<Cause> {
    match outcome {
        Outcome::NoPort if connection.binding.range.is_some() => Some(Cause::SocketRangeExhausted),
        Outcome::NoPort => Some(Cause::DestinationExhausted),
        // It had its own port and still failed: the tuple is in use (`__inet_check_established`).
        Outcome::ConnectFailed(EADDRNOTAVAIL) => Some(Cause::BoundTupleTaken),
        _ => None,
    }
}

/// What a connection failed for; `None` if it did not fail.
pub(super) fn kind_of_connect(outcome: Outcome, connection: &Connection) -> Option<FailureKind> {
    let errno = match outcome {
        Outcome::ConnectFailed(errno) => errno,
        Outcome::NoPort => EADDRNOTAVAIL,
        _ => return None,
    };
    let by_cause = of_connect(outcome, connection).map(FailureKind::from);
    Some(by_cause.unwrap_or_else(|| FailureKind::of_errno(errno)))
}

impl State {
    /// Counts a connection that failed because there was no port.
    pub(super) fn failed_connection(&mut self, connection: &Connection, ended: &ClosedConnection) {
        let (Some(cause), Some(opener)) = (of_connect(ended.outcome, connection), &connection.opener) else { return };
        let key = destination_key(&connection.tuple, Role::Active);
        let row = self.failures.add(opener, key, Call::Connect, EADDRNOTAVAIL, cause, connection.end_ns);
        // The search passes all TIME_WAIT sockets: not for each failure of a flood.
        if cause == Cause::BoundTupleTaken && row.count.is_power_of_two() {
            row.holder = on_tuple(&self.time_wait, &self.accounts, &connection.tuple).or(row.holder);
        }
        if cause == Cause::DestinationExhausted {
            let row = self.accounts.destinations.row_mut(ended.destination);
            row.no_port_ns = connection.end_ns.max(1);
            row.refusals.get_or_insert_default().add(connection.end_ns);
            self.failing = true;
        }
    }

    /// Counts a connect that failed before it looked for a port, and returns what for.
    pub(super) fn failed_early(&mut self, failed: &ConnectFailed) -> FailureKind {
        if failed.errno != EADDRNOTAVAIL {
            return FailureKind::of_errno(failed.errno);
        }
        // With a bound address, no address has to be found (`ip6_dst_lookup_tail`), and for one that is not this
        // host's, routing returns EINVAL.
        let was_seen = failed.at_ns >= self.summary.window.start_ns.saturating_add(IN_FLIGHT_NS);
        let has_address = !failed.tuple.local_addr.is_unspecified();
        let cause = if was_seen && !has_address { Cause::NoSource } else { Cause::Unknown };
        let key = destination_key(&failed.tuple, Role::Active);
        self.failures.add(&failed.opener, key, Call::Connect, failed.errno, cause, failed.at_ns);
        cause.into()
    }

    /// Counts a bind that failed.
    pub(super) fn bind_failed(&mut self, failed: &BindFailed) {
        self.advance_clock(failed.at_ns);
        if !self.filter.passes(&failed.tuple, [Some(&failed.owner), None]) {
            return;
        }
        let (cause, holder, since_ns) = self.of_bind(failed);
        let key = destination_key(&failed.tuple, Role::Passive);
        // The process gets a row, although it may never have a connection. A program may try hundreds of ports: they have
        // one row together.
        let change = |counts: &mut Counts| *counts.errors.entry(failed.errno).or_default() += 1;
        let number = self.accounts.number(Some(&failed.owner));
        let place = self.accounts.destination(DestRow::Dest(DestKey { port: 0, ..key }));
        let cell = self.accounts.add(number, place, change);
        self.accounts.cells.row_mut(cell).connections += 1;
        self.accounts.took_part(number);
        change(&mut self.summary.totals.counts);
        if let Some(history) = &mut self.history {
            history.at(failed.at_ns).fail(cause.into());
        }
        let no_process_has_it = since_ns.is_some_and(|since_ns| self.no_process_has(key.netns, key.port, since_ns));
        let row = self.failures.add(&failed.owner, key, Call::Bind, failed.errno, cause, failed.at_ns);
        row.holder = holder.or(row.holder);
        row.no_process_has_it = no_process_has_it;
        self.failing |= cause == Cause::BoundPoolExhausted;
    }

    /// Records the cause of calls that have failed since the last time: it may be gone by the time a user looks.
    pub(crate) fn keep_failing(&mut self) {
        if !std::mem::take(&mut self.failing) {
            return;
        }
        self.keep_exhausted();
        let now_ns = self.summary.window.now_ns;
        let Self { failures, time_wait, summary, .. } = self;
        let mut pools: Map<u32, Option<bool>> = Map::default();
        let is_due = |row: &&mut FailureRow| row.cause == Cause::BoundPoolExhausted && row.last_ns >= row.due_ns;
        for row in failures.rows.values_mut().filter(is_due) {
            let Some(key) = row.destination else { continue };
            row.time_wait =
                *pools.entry(key.netns).or_insert_with(|| time_wait_in_the_pool(time_wait, summary, key.netns));
            row.due_ns = now_ns.saturating_add(KEPT_NS);
        }
    }

    /// The cause; what has the port; and for a port that is bound, since when.
    fn of_bind(&self, failed: &BindFailed) -> (Cause, Option<Holder>, Option<u64>) {
        let BindFailed { tuple, errno, .. } = failed;
        let cause = match (*errno, tuple.local_port) {
            (EADDRNOTAVAIL, _) => Cause::ForeignSource,
            (EADDRINUSE, 0) => Cause::BoundPoolExhausted,
            (EADDRINUSE, port) => {
                if let Some(since_ns) = self.bound_since_ns(tuple.netns, port) {
                    return (Cause::PortInUse, None, Some(since_ns));
                }
                let open = self.connection_on(tuple.netns, port).map(|open| (Cause::ConnectionHoldsPort, Some(open)));
                let (cause, holder) = open.unwrap_or_else(|| self.timewait_on(tuple));
                return (cause, holder, None);
            }
            _ => Cause::Unknown,
        };
        (cause, None, None)
    }

    /// Whether the last search for socket owners, which knew of the sockets on a port, found no process for them.
    fn no_process_has(&self, netns: u32, port: u16, since_ns: u64) -> bool {
        let owners = &self.socket_owners;
        let is_its = |owner: &SocketOwner| (owner.netns, owner.local_port) == (netns, port);
        let space = self.census.spaces().get(&netns);
        owners.complete && space.is_some_and(|space| space.was_searched(since_ns)) && !owners.rows.iter().any(is_its)
    }

    /// The last census that found another socket on a port bound.
    fn bound_since_ns(&self, netns: u32, port: u16) -> Option<u64> {
        let all = self.census.spaces().get(&netns)?.bound_ports();
        all.filter(|(bound, _)| *bound == port).map(|(_, since_ns)| since_ns).max()
    }

    /// An open connection with a local port.
    fn connection_on(&self, netns: u32, port: u16) -> Option<Holder> {
        let all = self.census.spaces().get(&netns)?.connections();
        let on_it = all.filter(|connection| connection.port == port).map(|connection| connection.key);
        let (_, remote_addr, remote_port) = on_it.min()?;
        Some(Holder { owner: None, remote: (remote_addr, remote_port), expires_ns: 0 })
    }

    /// The TIME_WAIT socket that keeps bind(2) from a local side: rather one that an outgoing connection left, and the one
    /// that lasts the longest.
    fn timewait_on(&self, tuple: &Tuple) -> (Cause, Option<Holder>) {
        let address = tuple.local_addr;
        let conflicts = |live: &&TimeWait| {
            let at = &live.tuple;
            (at.netns, at.local_port) == (tuple.netns, tuple.local_port)
                && (address.is_unspecified() || at.local_addr == address)
        };
        let most = self
            .time_wait
            .iter()
            .filter(conflicts)
            .max_by_key(|live| (live.role == Role::Active, live.expires_ns, live.cookie));
        let Some(live) = most else { return (Cause::Unknown, None) };
        let is_client = live.role == Role::Active;
        let cause = if is_client { Cause::ClientTimewaitHoldsPort } else { Cause::TimewaitHoldsPort };
        (cause, Some(holder(live, &self.accounts)))
    }
}

/// The TIME_WAIT socket that has exactly these addresses and ports.
fn on_tuple(live: &TimeWaitTable, accounts: &Accounts, tuple: &Tuple) -> Option<Holder> {
    let is_it = |live: &&TimeWait| live.tuple.netns == tuple.netns && is_same(&live.tuple, tuple);
    live.iter().find(is_it).map(|live| holder(live, accounts))
}

/// A TIME_WAIT socket, as what has a port.
fn holder(live: &TimeWait, accounts: &Accounts) -> Holder {
    let owner = |number| accounts.owners.owner(number).copied();
    Holder {
        owner: owner(live.opener).or_else(|| owner(live.closer)),
        remote: (live.tuple.remote_addr, live.tuple.remote_port),
        expires_ns: live.expires_ns,
    }
}

/// Whether TIME_WAIT sockets are the reason why bind with port 0 finds no port: they keep what bind(2) took.
fn time_wait_in_the_pool(live: &TimeWaitTable, summary: &Summary, netns: u32) -> Option<bool> {
    let usable = Usable::of(summary.kernel_of(netns)?)?;
    let here = |at: &&TimeWait| summary.place_of(at.tuple.netns) == summary.place_of(netns);
    let ports = |only_bound: bool| {
        let those = live.iter().filter(here).filter(|at| at.bound || !only_bound);
        let ports: HashSet<u16, FixedState> = those.map(|at| at.tuple.local_port).collect();
        ports.into_iter().filter(|port| usable.has(*port)).count()
    };
    let total = usable.total() as usize;
    if 2 * ports(true) >= total {
        return Some(true);
    }
    // For sockets older than the trace, it is not known which were bound.
    (2 * ports(false) < total).then_some(false)
}
