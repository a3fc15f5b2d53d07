//! Who has the local ports, counted whenever somebody is about to look: it takes a pass over all live sockets.

use super::closed::{destination, destination_key};
use super::rows::Destination;
use super::space::{OpenConnection, Towards};
use super::time_wait::TimeWait;
use super::{State, TIME_WAIT_NS};
use crate::event::{CensusState, KernelFacts, Role, Tuple};
use crate::keys::{DestKey, DestRow};
use crate::ports::{Budget, PROFILE, TIME_WAIT_SECONDS, Usable, Use, hold_seconds, is_loopback, reuse_seconds};
use crate::recent::Seconds;
use crate::summary::{Substate, Waiting};
use crate::table::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;

const SECOND_NS: u64 = 1_000_000_000;

/// Seconds by which a rate can be told from a burst.
const ENOUGH_SECONDS: usize = 3;

/// A connection that censuses have seen established for so long is one of a pool's, or the like, unless its like lasts
/// that long.
const STABLE_NS: u64 = 2 * SECOND_NS;

/// A socket that waits for so long for somebody to close is not only on its way.
const AGED_NS: u64 = 3 * SECOND_NS;

/// And one that has waited for so long is forgotten.
const OLD_NS: u64 = 60 * SECOND_NS;

/// After how long who has the ports is looked at again, where connects go on to find none.
pub(crate) const KEPT_NS: u64 = 10 * SECOND_NS;

/// Kinds of waiting sockets that are told of.
const WAITING: usize = 256;

/// A connection that has been there for so many times the mean connection of those that have ended is one of a pool's.
const STABLE_LIVES: f64 = 4.0;

/// Sockets that were bound before they connected, followed at a time. Full: the ports of further ones count for their own
/// destination alone.
pub(crate) const BOUND: usize = 1 << 17;

/// A socket that was bound before it connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    netns: u32,
    port: u16,
    towards: Towards,
    at_ns: u64,
}

/// One namespace's local ports.
struct Local {
    kernel: KernelFacts,
    usable: Usable,
    /// Ports that are bound, of those that are usable.
    bound: HashSet<u16, FixedState>,
}

/// What is counted for one destination.
#[derive(Default)]
struct Tally {
    used: Use,
    /// Connections whose port is bound: it is counted as theirs.
    bound_too: u32,
    /// Open connections whose port was bound before.
    bound: u64,
    /// Connections that have been established for a while.
    stable: u64,
    /// Timewait sockets made within each of the last seconds that are over, the newest first.
    made: Seconds,
    /// All that are alive, whatever their port.
    time_wait: u32,
    /// Of those with a port of the range, those whose port bind(2) had taken: nobody takes those over.
    time_wait_bound: u32,
    /// After how long a connection counts as stable, nanoseconds.
    stable_ns: u64,
}

/// What is counted of one destination when somebody looks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BudgetFigures {
    /// Of the open connections, those ESTABLISHED for two seconds and several mean lifetimes at least.
    pub(crate) stable: u64,
    /// Of the open connections, those with a port that bind(2) had taken before.
    pub(crate) bound: u64,
    /// Its timewait sockets that have been in FIN_WAIT2 for at least three seconds.
    pub(crate) fin_wait2_aged: u64,
    /// Port budget, for active destinations.
    pub(crate) budget: Option<Budget>,
}

impl State {
    /// What is counted of destinations only when somebody looks, by the id of their rows.
    pub(crate) fn budgets(&self) -> Map<u32, BudgetFigures> {
        let locals = self.locals(|_| true);
        let tallies = self.tallies(&locals, |_| true);
        let mut figures: Map<u32, BudgetFigures> = Map::default();
        for row in self.accounts.destinations.rows() {
            let Some((netns, towards)) = active(&row.key) else { continue };
            let netns = self.summary.place_of(netns);
            let (Some(local), Some(tally)) = (locals.get(&netns), tallies.get(&(netns, towards))) else { continue };
            let budget = Some(tally.budget(local, towards, row.trend.growth_per_s()));
            figures
                .insert(row.id, BudgetFigures { stable: tally.stable, bound: tally.bound, fin_wait2_aged: 0, budget });
        }
        self.fin_wait2(&mut figures);
        figures
    }

    /// Keeps who has the ports where connects have found none of late: whoever looks later finds them come back. In one
    /// pass for all of them, and again while it goes on.
    pub(super) fn keep_exhausted(&mut self) {
        let is_due = |row: &Destination| {
            // What the census did not tell then, the next one may.
            let told = row.exhausted.is_some_and(|budget| 10 * budget.not_seen() <= budget.total);
            let after_ns = if told { KEPT_NS } else { SECOND_NS };
            row.no_port_ns > 0
                && (row.exhausted.is_none() || row.no_port_ns >= row.exhausted_ns.saturating_add(after_ns))
        };
        let due: HashSet<DestRow, FixedState> =
            self.accounts.destinations.rows().filter(|row| is_due(row)).map(|row| row.key).collect();
        if due.is_empty() {
            return;
        }
        let now_ns = self.summary.window.now_ns;
        let namespaces: HashSet<u32, FixedState> =
            due.iter().filter_map(active).map(|(netns, _)| self.summary.place_of(netns)).collect();
        let locals = self.locals(|netns| namespaces.contains(&netns));
        let tallies = self.tallies(&locals, |key| due.contains(key));
        for row in self.accounts.destinations.rows_mut().filter(|row| due.contains(&row.key)) {
            let Some((netns, towards)) = active(&row.key) else { continue };
            let netns = self.summary.place_of(netns);
            row.exhausted_ns = now_ns;
            if let (Some(local), Some(tally)) = (locals.get(&netns), tallies.get(&(netns, towards))) {
                row.exhausted = Some(tally.budget(local, towards, row.trend.growth_per_s()));
            }
        }
    }

    /// What there is of each destination that is wanted, in one pass over all sockets.
    fn tallies(&self, locals: &Map<u32, Local>, wanted: impl Fn(&DestRow) -> bool) -> Map<(u32, Towards), Tally> {
        let now_ns = self.summary.window.now_ns;
        let mut tallies: Map<(u32, Towards), Tally> = Map::default();
        for (row, made) in self.accounts.destinations.rows_and_seconds(now_ns) {
            let Some((netns, towards)) = active(&row.key) else { continue };
            if !wanted(&row.key) {
                continue;
            }
            let netns = self.summary.place_of(netns);
            let tally = tallies.entry((netns, towards)).or_default();
            for (sum, made) in tally.made.iter_mut().zip(made) {
                *sum += made;
            }
            let lives_ns = (STABLE_LIVES * row.pattern.lifetime_s() * 1e9) as u64;
            tally.stable_ns = tally.stable_ns.max(STABLE_NS).max(lives_ns);
        }
        let unknown = self.summary.place_of(0);
        for live in self.time_wait.iter() {
            let netns = if live.tuple.netns == 0 { unknown } else { live.tuple.netns };
            if let Some(tally) = tallies.get_mut(&(netns, towards(&live.tuple)))
                && let Some(local) = locals.get(&netns)
            {
                tally.timewait(live, local, now_ns);
            }
        }
        for (netns, local) in locals {
            let Some(space) = self.census.spaces().get(netns) else { continue };
            for connection in space.connections() {
                if let Some(tally) = tallies.get_mut(&(*netns, connection.towards)) {
                    tally.open(&connection, local, now_ns);
                }
            }
        }
        for bound in self.bound.values() {
            let netns = if bound.netns == 0 { unknown } else { bound.netns };
            if let Some(tally) = tallies.get_mut(&(netns, bound.towards)) {
                tally.bound += 1;
            }
        }
        tallies
    }

    /// Full sockets in CLOSE_WAIT and FIN_WAIT2.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        let now_ns = self.summary.window.now_ns;
        let mut kinds: Map<(DestKey, CensusState), Waiting> = Map::default();
        for (netns, space) in self.census.spaces() {
            let waits = |state| matches!(state, CensusState::CloseWait | CensusState::FinWait2);
            for OpenConnection { towards, port, state, since_ns } in space.connections() {
                if !waits(state) {
                    continue;
                }
                let (local_addr, remote_addr, remote_port) = towards;
                let tuple =
                    Tuple { netns: *netns, local_addr, local_port: port, remote_addr, remote_port, v4_mapped: false };
                let role = if self.census.listens(&tuple) { Role::Passive } else { Role::Active };
                let destination = destination_key(&tuple, role);
                let none = Waiting { destination, state, sockets: 0, aged: 0, old: 0 };
                let kind = kinds.entry((destination, state)).or_insert(none);
                kind.sockets += 1;
                kind.aged += u64::from(now_ns.saturating_sub(since_ns) >= AGED_NS);
                kind.old += u64::from(now_ns.saturating_sub(since_ns) >= OLD_NS);
            }
        }
        let mut all: Vec<Waiting> = kinds.into_values().collect();
        all.sort_unstable_by_key(|kind| (std::cmp::Reverse(kind.sockets), kind.destination));
        all.truncate(WAITING);
        all
    }

    /// The local ports of every namespace that is wanted and has active destinations.
    fn locals(&self, wanted: impl Fn(u32) -> bool) -> Map<u32, Local> {
        let mut locals: Map<u32, Local> = Map::default();
        let summary = &self.summary;
        for row in self.accounts.destinations.rows() {
            let Some((netns, _)) = active(&row.key) else { continue };
            let netns = summary.place_of(netns);
            if !wanted(netns) || locals.contains_key(&netns) {
                continue;
            }
            if let Some(kernel) = summary.kernel_of(netns)
                && let Some(usable) = Usable::of(kernel)
            {
                let mut bound = HashSet::default();
                if let Some(space) = self.census.spaces().get(&netns) {
                    bound.extend(space.bound_ports().filter(|port| usable.has(*port)));
                }
                locals.insert(netns, Local { kernel: kernel.clone(), usable, bound });
            }
        }
        let unknown = summary.place_of(0);
        let sockets = self.bound.values().map(|bound| (bound.netns, bound.port));
        let timewaits = self.time_wait.iter().filter(|live| live.bound);
        for (netns, port) in sockets.chain(timewaits.map(|live| (live.tuple.netns, live.tuple.local_port))) {
            if let Some(local) = locals.get_mut(&if netns == 0 { unknown } else { netns })
                && local.usable.has(port)
            {
                local.bound.insert(port);
            }
        }
        locals
    }

    /// Counts timewait sockets whose peer does not send its FIN.
    fn fin_wait2(&self, figures: &mut Map<u32, BudgetFigures>) {
        let now_ns = self.summary.window.now_ns;
        let waits = |socket: &&TimeWait| {
            socket.shown && socket.substate == Substate::FinWait2 && now_ns.saturating_sub(socket.created_ns) >= AGED_NS
        };
        // Only the kernel's own list tells that it still does.
        let known = self.time_wait.iter().filter(waits).filter(|socket| socket.created_ns > 0 && socket.census != 0);
        for socket in known {
            let id = self.accounts.destinations.resolve(socket.destination).id();
            figures.entry(id).or_default().fin_wait2_aged += 1;
        }
    }

    /// A socket that was bound begins to connect.
    pub(super) fn bound_connect(&mut self, cookie: u64, tuple: &Tuple, at_ns: u64) {
        if self.bound.len() < BOUND {
            let bound = Bound { netns: tuple.netns, port: tuple.local_port, towards: towards(tuple), at_ns };
            self.bound.insert(cookie, bound);
        }
        if self.passes(tuple) {
            // Nothing may end towards it for long, and its ports are worth a look all the same.
            self.accounts.destination(destination(tuple, Role::Active));
        }
    }

    /// Forgets those of a namespace that a whole census, begun then, did not have: they ended without a record.
    pub(super) fn forget_bound(&mut self, netns: u32, begin_ns: u64) {
        let Some(space) = self.census.spaces().get(&netns) else { return };
        let over = |cookie: &u64, bound: &Bound| bound.netns == netns && bound.at_ns < begin_ns && !space.has(*cookie);
        self.bound.retain(|cookie, bound| !over(cookie, bound));
    }
}

/// Namespace and addresses of a destination that has a budget.
fn active(key: &DestRow) -> Option<(u32, Towards)> {
    match *key {
        DestRow::Dest(DestKey { netns, role: Role::Active, local_addr, remote_addr: Some(remote), port }) => {
            Some((netns, (local_addr, remote, port)))
        }
        _ => None,
    }
}

fn towards(tuple: &Tuple) -> Towards {
    (tuple.local_addr, tuple.remote_addr, tuple.remote_port)
}

impl Tally {
    fn timewait(&mut self, live: &TimeWait, local: &Local, now_ns: u64) {
        self.time_wait += 1;
        // The rows count what passes the filter; the ports are everybody's.
        let age = (now_ns / SECOND_NS).saturating_sub(live.created_ns / SECOND_NS);
        if !live.shown && live.created_ns > 0 && (1..=self.made.len() as u64).contains(&age) {
            self.made[age as usize - 1] += 1;
        }
        if !local.usable.has(live.tuple.local_port) {
            return;
        }
        self.used.time_wait += 1;
        self.bound_too += u32::from(local.bound.contains(&live.tuple.local_port));
        self.time_wait_bound += u32::from(live.bound);
        let left_ns = live.expires_ns.saturating_sub(now_ns);
        let loopback = is_loopback(live.tuple.local_addr, live.tuple.remote_addr);
        let mut back_ns = left_ns;
        // connect leaves ports alone that bind(2) took, whatever holds them, and bind(2) does not look at `tcp_tw_reuse`.
        let delay = reuse_seconds(&local.kernel, loopback).filter(|_| !live.bound);
        if live.substate == Substate::FinWait2 {
            // The peer's FIN has yet to come, and starts the minute anew.
            self.used.fin_wait2 += 1;
        } else if let Some(delay) = delay {
            let since_ns = TIME_WAIT_NS.saturating_sub(left_ns);
            back_ns = ((delay * 1e9) as u64).saturating_sub(since_ns);
            if back_ns == 0 {
                self.used.reusable += 1;
                return;
            }
        }
        let at = (back_ns / SECOND_NS) as usize;
        if at < PROFILE {
            if self.used.back.len() <= at {
                self.used.back.resize(at + 1, 0);
            }
            self.used.back[at] += 1;
        }
    }

    fn open(&mut self, connection: &OpenConnection, local: &Local, now_ns: u64) {
        let established = connection.state == CensusState::Established;
        self.stable += u64::from(established && now_ns.saturating_sub(connection.since_ns) >= self.stable_ns);
        if !local.usable.has(connection.port) {
            return;
        }
        let place = if established { &mut self.used.established } else { &mut self.used.other };
        *place += 1;
        self.bound_too += u32::from(local.bound.contains(&connection.port));
    }

    fn budget(&self, local: &Local, (local_addr, remote_addr, _): Towards, growth: (f64, f64)) -> Budget {
        let sum: u32 = self.made.iter().sum();
        // Those outside of the range take no port of it.
        let share = if self.time_wait == 0 { 1.0 } else { f64::from(self.used.time_wait) / f64::from(self.time_wait) };
        // Those seconds in which there was nothing before the first are no part of the rate.
        let seconds = self.made.iter().rposition(|made| *made > 0).map_or(0, |last| last + 1);
        let rate = if seconds == 0 { 0.0 } else { f64::from(sum) / seconds as f64 };
        let spread = self.made[..seconds].iter().map(|made| (f64::from(*made) - rate).powi(2)).sum::<f64>();
        let error = if seconds == 0 {
            0.0
        } else {
            // At least what chance alone makes of a steady rate.
            let by_spread = if seconds > 1 { (spread / (seconds - 1) as f64 / seconds as f64).sqrt() } else { 0.0 };
            let by_chance = (rate / seconds as f64).sqrt();
            // A burst of a second or two says nothing of what comes.
            let by_length = if seconds < ENOUGH_SECONDS { rate / seconds as f64 } else { 0.0 };
            by_spread.max(by_chance).max(by_length)
        };
        let bound = u32::try_from(local.bound.len()).unwrap_or(u32::MAX).saturating_sub(self.bound_too);
        let used = Use {
            bound,
            rate_per_s: rate * share,
            rate_error_per_s: error * share,
            growth_per_s: growth.0,
            growth_error_per_s: growth.1,
            ..self.used.clone()
        };
        let hold = hold_seconds(&local.kernel, is_loopback(local_addr, remote_addr));
        // Those that were bound are held for the whole time.
        let whole = f64::from(self.time_wait_bound) / f64::from(self.used.time_wait.max(1));
        Budget::of(&local.usable, &used, hold + whole * (TIME_WAIT_SECONDS - hold).max(0.0))
    }
}
