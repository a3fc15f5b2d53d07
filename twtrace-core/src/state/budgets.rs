//! What uses the local ports, counted only on demand: it takes a pass over all live sockets.

use super::State;
use super::closed::{destination, destination_key};
use super::rows::Destination;
use super::space::{BudgetKey, OpenConnection, Space};
use super::time_wait::TimeWait;
use crate::asked::{Asked, SECONDS};
use crate::event::{CensusState, KernelFacts, Role, Tuple};
use crate::keys::{DestKey, DestRow};
use crate::pattern::PRIVILEGED;
use crate::ports::{Budget, PROFILE, Usable, Use, hold_seconds, is_loopback, reuse_seconds};
use crate::recent::Seconds;
use crate::summary::{Substate, Waiting};
use crate::table::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const SECOND_NS: u64 = 1_000_000_000;

/// Seconds that are needed to distinguish a rate from a burst.
const ENOUGH_SECONDS: usize = 3;

/// A connection that censuses have seen ESTABLISHED for this long is from a pool, or similar, unless connections of its
/// kind usually last that long.
const STABLE_NS: u64 = 2 * SECOND_NS;

/// A socket that has waited this long for a close is not just in transition.
const AGED_NS: u64 = 3 * SECOND_NS;

/// A socket that has waited this long has been forgotten.
const OLD_NS: u64 = 60 * SECOND_NS;

/// How often the use of the ports is counted again, while connects keep finding no port.
pub(crate) const KEPT_NS: u64 = 10 * SECOND_NS;

/// At most this many kinds of waiting sockets are reported.
const WAITING: usize = 256;

/// A connection that is older than this many mean lifetimes of ended connections is from a pool.
const STABLE_LIVES: f64 = 4.0;

/// At most this many sockets that were bound before they connected are tracked. When full, the ports of further ones
/// count only for their own destination.
pub(crate) const BOUND: usize = 1 << 17;

/// A socket that was bound before it connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    netns: u32,
    port: u16,
    key: BudgetKey,
    at_ns: u64,
}

/// One namespace's local ports.
struct Local {
    kernel: KernelFacts,
    usable: Usable,
    /// Usable ports that are bound.
    bound: HashSet<u16, FixedState>,
}

/// What is counted for one destination.
#[derive(Default)]
struct Tally {
    used: Use,
    /// Connections whose port is bound: the port counts as the connection's.
    bound_too: u32,
    /// Open connections whose port was bound before.
    bound: u64,
    /// Connections that have been established for a while.
    stable: u64,
    /// TIME_WAIT sockets created in each of the last complete seconds, the newest first.
    created: Seconds,
    /// All live TIME_WAIT sockets, whatever their port.
    time_wait: u32,
    /// Of those with a port of the range, those whose port bind(2) had taken: no connect takes those over.
    time_wait_bound: u32,
    /// Of those with a port of the range, those without a timestamp of their peer: no connect takes those over either.
    time_wait_kept: u32,
    /// Whether the last connections' peers sent timestamps, where that is known.
    peer_timestamps: Option<bool>,
    /// After how long a connection counts as stable, nanoseconds.
    stable_ns: u64,
    /// Where connects found no port: TIME_WAIT sockets by age, and what was refused.
    asked: Option<Box<Asked>>,
}

/// What is counted for one destination on demand.
#[derive(Clone, Debug, Default)]
pub(crate) struct BudgetFigures {
    /// Of the open connections, those ESTABLISHED for at least two seconds and several mean lifetimes.
    pub(crate) stable: u64,
    /// Of the open connections, those with a port that bind(2) had taken before.
    pub(crate) bound: u64,
    /// Its TIME_WAIT sockets that have been in substate FIN_WAIT2 for at least three seconds.
    pub(crate) fin_wait2_aged: u64,
    /// Port budget, for active destinations.
    pub(crate) budget: Option<Budget>,
    /// What was asked of it, where connects found no port.
    pub(crate) asked: Option<Arc<Asked>>,
}

impl State {
    /// What is counted for destinations only on demand, by the id of their rows.
    pub(crate) fn budgets(&self) -> Map<u32, BudgetFigures> {
        let locals = self.locals(|_| true);
        let tallies = self.tallies(&locals, |_| true);
        let mut figures: Map<u32, BudgetFigures> = Map::default();
        for row in self.accounts.destinations.rows() {
            let Some((netns, budget_key)) = active(&row.key) else { continue };
            let netns = self.summary.place_of(netns);
            let (Some(local), Some(tally)) = (locals.get(&netns), tallies.get(&(netns, budget_key))) else { continue };
            let budget = Some(tally.budget(local, budget_key, row.trend.growth_per_s()));
            let asked = tally.asked.as_ref().zip(budget).map(|(asked, budget)| {
                let standing = budget.bound + budget.established + budget.other;
                Arc::new(Asked { standing, total: budget.total, ..(**asked).clone() })
            });
            let (stable, bound) = (tally.stable, tally.bound);
            figures.insert(row.id, BudgetFigures { stable, bound, fin_wait2_aged: 0, budget, asked });
        }
        self.fin_wait2(&mut figures);
        figures
    }

    /// Records what uses the ports where connects have recently found none: by the time a user looks, the ports may be
    /// free again. One pass for all such destinations, repeated while connects keep failing.
    pub(super) fn keep_exhausted(&mut self) {
        let is_due = |row: &Destination| {
            // What the last census did not show, the next one may.
            let is_complete = row.exhausted.is_some_and(|budget| 10 * budget.not_seen() <= budget.total);
            let after_ns = if is_complete { KEPT_NS } else { SECOND_NS };
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
        let in_use: Map<u32, u32> =
            locals.iter().map(|(netns, local)| (*netns, self.ports_in_use(*netns, local))).collect();
        for row in self.accounts.destinations.rows_mut().filter(|row| due.contains(&row.key)) {
            let Some((netns, budget_key)) = active(&row.key) else { continue };
            let netns = self.summary.place_of(netns);
            row.exhausted_ns = now_ns;
            if let (Some(local), Some(tally)) = (locals.get(&netns), tallies.get(&(netns, budget_key))) {
                let budget = tally.budget(local, budget_key, row.trend.growth_per_s());
                let elsewhere = in_use.get(&netns).map_or(0, |all| all.saturating_sub(budget.used));
                row.exhausted = Some(budget.when_exhausted(elsewhere));
            }
        }
    }

    /// How many of a namespace's local ports are bound, or used by connections.
    fn ports_in_use(&self, netns: u32, local: &Local) -> u32 {
        let open = self.census.spaces().get(&netns).into_iter().flat_map(Space::connections);
        let ports: HashSet<u16, FixedState> = open
            .map(|open| open.port)
            .filter(|port| local.usable.has(*port))
            .chain(local.bound.iter().copied())
            .collect();
        u32::try_from(ports.len()).unwrap_or(u32::MAX)
    }

    /// Counts the sockets of each wanted destination, in one pass over all sockets.
    fn tallies(&self, locals: &Map<u32, Local>, wanted: impl Fn(&DestRow) -> bool) -> Map<(u32, BudgetKey), Tally> {
        let now_ns = self.summary.window.now_ns;
        let mut tallies: Map<(u32, BudgetKey), Tally> = Map::default();
        for (row, created) in self.accounts.destinations.rows_and_seconds(now_ns) {
            let Some((netns, budget_key)) = active(&row.key) else { continue };
            if !wanted(&row.key) {
                continue;
            }
            let netns = self.summary.place_of(netns);
            let tally = tallies.entry((netns, budget_key)).or_default();
            for (sum, created) in tally.created.iter_mut().zip(created) {
                *sum += created;
            }
            let lives_ns = (STABLE_LIVES * row.pattern.lifetime_s() * 1e9) as u64;
            tally.stable_ns = tally.stable_ns.max(STABLE_NS).max(lives_ns);
            if let Some(refusals) = &row.refusals {
                let none = Asked { taken: [0; SECONDS], refused: [0; SECONDS], standing: 0, total: 0 };
                let asked = tally.asked.get_or_insert_with(|| Box::new(none));
                for (sum, refused) in asked.refused.iter_mut().zip(refusals.by_age(now_ns)) {
                    *sum += refused;
                }
            }
            tally.peer_timestamps = row.peer_timestamps.or(tally.peer_timestamps);
        }
        let unknown = self.summary.place_of(0);
        for live in self.time_wait.iter() {
            let netns = if live.tuple.netns == 0 { unknown } else { live.tuple.netns };
            if let Some(tally) = tallies.get_mut(&(netns, budget_key(&live.tuple)))
                && let Some(local) = locals.get(&netns)
            {
                tally.timewait(live, local, now_ns);
            }
        }
        for (netns, local) in locals {
            let Some(space) = self.census.spaces().get(netns) else { continue };
            for connection in space.connections() {
                if let Some(tally) = tallies.get_mut(&(*netns, connection.key)) {
                    tally.open(&connection, local, now_ns);
                }
            }
        }
        for bound in self.bound.values() {
            let netns = if bound.netns == 0 { unknown } else { bound.netns };
            if let Some(tally) = tallies.get_mut(&(netns, bound.key)) {
                tally.bound += 1;
            }
        }
        tallies
    }

    /// Full sockets that wait for their process, for their peer, or in the queues of listeners.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        let now_ns = self.summary.window.now_ns;
        let mut kinds: Map<(DestKey, CensusState), Waiting> = Map::default();
        for (netns, space) in self.census.spaces() {
            let waits = |state: CensusState| {
                state.is_connection() && !matches!(state, CensusState::Established | CensusState::Open)
            };
            for OpenConnection { key, port, state, since_ns } in space.connections() {
                if !waits(state) {
                    continue;
                }
                let (local_addr, remote_addr, remote_port) = key;
                let tuple =
                    Tuple { netns: *netns, local_addr, local_port: port, remote_addr, remote_port, v4_mapped: false };
                let role = if self.census.listens(&tuple) { Role::Passive } else { Role::Active };
                let destination = destination_key(&tuple, role);
                let none = Waiting { destination, state, sockets: 0, aged: 0, old: 0, backlog: None };
                let kind = kinds.entry((destination, state)).or_insert(none);
                kind.sockets += 1;
                kind.aged += u64::from(now_ns.saturating_sub(since_ns) >= AGED_NS);
                kind.old += u64::from(now_ns.saturating_sub(since_ns) >= OLD_NS);
            }
        }
        let mut all: Vec<Waiting> = kinds.into_values().collect();
        all.sort_unstable_by_key(|kind| (std::cmp::Reverse(kind.sockets), kind.destination));
        all.truncate(WAITING);
        let mut backlogs = Map::default();
        for kind in all.iter_mut().filter(|kind| kind.state.is_queued()) {
            let DestKey { netns, local_addr, port, .. } = kind.destination;
            let spaces = self.census.spaces();
            let of_netns =
                backlogs.entry(netns).or_insert_with(|| spaces.get(&netns).map(Space::backlogs).unwrap_or_default());
            let addresses = [local_addr, Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            kind.backlog = addresses.iter().filter_map(|at| of_netns.get(&(*at, port)).copied()).max();
        }
        all
    }

    /// The local ports of every wanted namespace that has active destinations.
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
                    bound.extend(space.bound_ports().map(|(port, _)| port).filter(|port| usable.has(*port)));
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

    /// Counts TIME_WAIT sockets whose peer does not send its FIN.
    fn fin_wait2(&self, figures: &mut Map<u32, BudgetFigures>) {
        let now_ns = self.summary.window.now_ns;
        let waits = |socket: &&TimeWait| {
            socket.shown && socket.substate == Substate::FinWait2 && now_ns.saturating_sub(socket.created_ns) >= AGED_NS
        };
        // Only the kernel's own list shows that the socket still waits.
        let known = self.time_wait.iter().filter(waits).filter(|socket| socket.created_ns > 0 && socket.census != 0);
        for socket in known {
            let id = self.accounts.destinations.resolve(socket.destination).id();
            figures.entry(id).or_default().fin_wait2_aged += 1;
        }
    }

    /// A socket that was bound begins to connect.
    pub(super) fn bound_connect(&mut self, cookie: u64, tuple: &Tuple, at_ns: u64) {
        if self.bound.len() < BOUND && tuple.local_port >= PRIVILEGED {
            let bound = Bound { netns: tuple.netns, port: tuple.local_port, key: budget_key(tuple), at_ns };
            self.bound.insert(cookie, bound);
        }
        if self.passes(tuple) {
            // No connection to it may end for a long time, but its ports matter already.
            self.accounts.destination(destination(tuple, Role::Active));
        }
    }

    /// Forgets those of a namespace that are missing from a whole census that began at `begin_ns`: they ended without a
    /// record.
    pub(super) fn forget_bound(&mut self, netns: u32, begin_ns: u64) {
        let Some(space) = self.census.spaces().get(&netns) else { return };
        let over = |cookie: &u64, bound: &Bound| bound.netns == netns && bound.at_ns < begin_ns && !space.has(*cookie);
        self.bound.retain(|cookie, bound| !over(cookie, bound));
    }
}

/// Namespace and addresses of a destination that has a budget.
fn active(key: &DestRow) -> Option<(u32, BudgetKey)> {
    match *key {
        DestRow::Dest(DestKey { netns, role: Role::Active, local_addr, remote_addr: Some(remote), port }) => {
            Some((netns, (local_addr, remote, port)))
        }
        _ => None,
    }
}

fn budget_key(tuple: &Tuple) -> BudgetKey {
    (tuple.local_addr, tuple.remote_addr, tuple.remote_port)
}

impl Tally {
    fn timewait(&mut self, live: &TimeWait, local: &Local, now_ns: u64) {
        self.time_wait += 1;
        // The rows count what passes the filter; all processes share the ports.
        let age = (now_ns / SECOND_NS).saturating_sub(live.created_ns / SECOND_NS);
        if !live.shown && live.created_ns > 0 && (1..=self.created.len() as u64).contains(&age) {
            self.created[age as usize - 1] += 1;
        }
        if !local.usable.has(live.tuple.local_port) {
            return;
        }
        if let Some(asked) = &mut self.asked {
            let since_ns = local.kernel.time_wait_ns().saturating_sub(live.expires_ns.saturating_sub(now_ns));
            if let Some(taken) = asked.taken.get_mut((since_ns / SECOND_NS) as usize) {
                *taken += 1;
            }
        }
        self.used.time_wait += 1;
        self.bound_too += u32::from(local.bound.contains(&live.tuple.local_port));
        self.time_wait_bound += u32::from(live.bound);
        let left_ns = live.expires_ns.saturating_sub(now_ns);
        let loopback = is_loopback(live.tuple.local_addr, live.tuple.remote_addr);
        let mut back_ns = left_ns;
        // connect skips ports that bind(2) took, whatever socket uses them, and bind(2) ignores `tcp_tw_reuse`.
        let peer_timestamps = live.peer_timestamps.or(self.peer_timestamps);
        let has_timestamps = peer_timestamps.unwrap_or(local.kernel.timestamps != Some(0));
        let delay = reuse_seconds(&local.kernel, loopback, Some(has_timestamps)).filter(|_| !live.bound);
        self.used.without_timestamps += u32::from(!has_timestamps);
        self.time_wait_kept += u32::from(!has_timestamps && !live.bound);
        if live.substate == Substate::FinWait2 {
            // The peer's FIN has not arrived yet, and restarts the minute.
            self.used.fin_wait2 += 1;
        } else if let Some(delay) = delay {
            let since_ns = local.kernel.time_wait_ns().saturating_sub(left_ns);
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
        match connection.state {
            CensusState::CloseWait => self.used.close_wait += 1,
            CensusState::SynSent => self.used.syn_sent += 1,
            _ => {}
        }
        self.bound_too += u32::from(local.bound.contains(&connection.port));
    }

    fn budget(&self, local: &Local, (local_addr, remote_addr, _): BudgetKey, growth: (f64, f64)) -> Budget {
        let sum: u32 = self.created.iter().sum();
        // Sockets with a port outside the range use none of its ports.
        let share = if self.time_wait == 0 { 1.0 } else { f64::from(self.used.time_wait) / f64::from(self.time_wait) };
        // The empty seconds before the first socket are not part of the rate.
        let seconds = self.created.iter().rposition(|created| *created > 0).map_or(0, |last| last + 1);
        let rate = if seconds == 0 { 0.0 } else { f64::from(sum) / seconds as f64 };
        let spread = self.created[..seconds].iter().map(|created| (f64::from(*created) - rate).powi(2)).sum::<f64>();
        let error = if seconds == 0 {
            0.0
        } else {
            // At least the random variation of a steady rate.
            let by_spread = if seconds > 1 { (spread / (seconds - 1) as f64 / seconds as f64).sqrt() } else { 0.0 };
            let by_chance = (rate / seconds as f64).sqrt();
            // A burst of a second or two says nothing about the future rate.
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
        let loopback = is_loopback(local_addr, remote_addr);
        let keeps_s = match self.used.time_wait {
            // What the next one will be like.
            0 => hold_seconds(&local.kernel, loopback, self.peer_timestamps),
            _ => hold_seconds(&local.kernel, loopback, Some(true)),
        };
        // Bound ports, and those without timestamps, stay in use for the whole time.
        let whole = f64::from(self.time_wait_bound + self.time_wait_kept) / f64::from(self.used.time_wait.max(1));
        Budget::of(&local.usable, &used, keeps_s + whole * (local.kernel.time_wait_seconds() - keeps_s).max(0.0))
    }
}
