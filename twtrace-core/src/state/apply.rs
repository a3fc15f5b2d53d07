//! Routes each event, and applies what time alone changes.

use super::connections::closed_by_kernel;
use super::space::Space;
use super::time_wait::TimeWait;
use super::{History, SECOND_NS, SocketOwners, State, kernel_sockets};
use crate::event::Event;
use crate::keys::GroupKey;
use crate::table::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::cell::OnceCell;
use std::sync::Arc;

/// Rates are computed this often, in nanoseconds.
const REFRESH_NS: u64 = SECOND_NS / 4;

/// Users whose names are kept.
const USERS: usize = 16_384;

impl State {
    /// Takes one event.
    pub fn apply(&mut self, event: Event) {
        if let Some(whole) = &mut self.whole {
            whole.apply(event.clone());
        }
        match event {
            Event::Start { at_ns, unix_ns, host, tracing } => {
                let summary = &mut self.summary;
                summary.host = host;
                summary.tracing = tracing;
                summary.window.start_ns = at_ns;
                summary.window.start_unix_ns = unix_ns;
                if let Some(history) = &mut self.history {
                    *history = History::new(at_ns);
                }
                self.advance_clock(at_ns);
            }
            Event::Connection(mut connection) => {
                let by_kernel = closed_by_kernel(&mut connection);
                kernel_sockets::group(&mut connection);
                self.connection(&connection, by_kernel);
            }
            Event::ConnectFailed(mut failed) => {
                kernel_sockets::group_opener(&mut failed.opener, failed.tuple.remote_port);
                self.connect_failed(&failed);
            }
            Event::BindFailed(failed) => self.bind_failed(&failed),
            Event::BoundConnect { cookie, tuple, at_ns } => {
                self.advance_clock(at_ns);
                self.bound_connect(self.full_identity(cookie, &tuple), &tuple, at_ns);
            }
            Event::SocketOwners { at_ns, complete, rows } => {
                self.advance_clock(at_ns);
                self.socket_owners = SocketOwners { at_ns: Some(at_ns), complete, rows };
                self.census.spaces.values_mut().for_each(Space::searched);
            }
            Event::ResetSent { cookie, tuple, at_ns, .. } => {
                self.advance_clock(at_ns);
                self.reset_sent(self.identity(cookie, &tuple), at_ns);
            }
            Event::TimewaitEnd(mut end) => {
                end.cookie = self.identity(end.cookie, &end.tuple);
                self.timewait_end(&end);
            }
            Event::Counters(counters) => self.summary.counters = counters,
            Event::Cost(reading) => self.summary.cost = self.cost.add(reading).or(self.summary.cost),
            Event::Kernel { netns, facts } => self.kernel(netns, facts),
            Event::Namespace { netns, inode, name, refused } => {
                let name = self.namespace_name(name);
                self.summary.name(netns, inode, name, refused);
            }
            Event::NamespaceGone { netns } => self.namespace_gone(netns),
            Event::NamespacesLeftOut(number) => self.summary.namespaces_left_out = number,
            Event::Process { key, mut facts } => {
                let processes = &self.accounts.processes;
                if let Some(place) = processes.find(&GroupKey::Process(key))
                    && let Some(owner) = processes.row(place).owner
                {
                    self.accounts.facts.know_cgroup(owner.cgroup, &facts);
                    self.accounts.facts.complete(owner.cgroup, &mut facts);
                }
                let has_row = |key| processes.find(&GroupKey::Process(key)).is_some();
                self.accounts.facts.insert(key, facts, has_row);
            }
            Event::Container { id, facts } => {
                self.rename_namespaces(&id, &facts);
                let known = &self.accounts.facts;
                let needed = OnceCell::new();
                let is_needed = |id: &str| {
                    let needed = needed.get_or_init(|| known.containers().collect::<HashSet<&str, FixedState>>());
                    needed.contains(id)
                };
                self.containers.insert(id, facts, is_needed);
            }
            Event::User { uid, name } => {
                if self.users.len() < USERS {
                    Arc::make_mut(&mut self.users).insert(uid, name);
                }
            }
            Event::SocketDumpBegin { netns, at_ns, whole } => {
                self.settle_for(netns, at_ns);
                self.advance_clock(at_ns);
                self.census.begin(netns, at_ns, whole);
            }
            Event::SocketDump(rows) => self.census_rows(rows),
            Event::SocketsRemoved(cookies) => self.census.gone(&cookies),
            Event::SocketDumpEnd { at_ns, complete } => {
                self.advance_clock(at_ns);
                self.census.end(at_ns, complete);
            }
            Event::Tick { at_ns } => self.tick(at_ns),
        }
    }

    /// Time never goes back.
    pub(super) fn advance_clock(&mut self, at_ns: u64) {
        let window = &mut self.summary.window;
        window.now_ns = window.now_ns.max(at_ns);
    }

    fn tick(&mut self, at_ns: u64) {
        self.advance_clock(at_ns);
        let now_ns = self.summary.window.now_ns;
        self.reconcile(now_ns);
        if let Some(history) = &mut self.history {
            let moment = history.at(now_ns);
            moment.live = moment.live.max(self.summary.totals.counts.time_wait_live);
        }
        if now_ns >= self.swept_ns.saturating_add(SECOND_NS) {
            self.swept_ns = now_ns;
            self.expire(now_ns);
        }
        if self.failing && now_ns >= self.failing_ns.saturating_add(SECOND_NS) {
            self.failing_ns = now_ns;
            self.keep_failing();
        }
        if now_ns >= self.refreshed_ns.saturating_add(REFRESH_NS) {
            self.refreshed_ns = now_ns;
            self.refresh(now_ns);
        }
    }

    /// Ends TIME_WAIT sockets whose time is over. Where there is a fresh census, it decides instead: the kernel's
    /// timers for a time this long fire seconds late.
    fn expire(&mut self, now_ns: u64) {
        let census = &self.census;
        // Most of the time no socket is due, and there may be hundreds of thousands to check.
        let decides: Map<u32, (bool, bool)> =
            self.time_wait.namespaces().map(|netns| (netns, census.decides(netns, now_ns))).collect();
        if decides.values().all(|(_, of_others)| *of_others) {
            return;
        }
        let patience_ns = if self.ends_are_reported() { super::ends::TOO_LATE_NS } else { 0 };
        let gone = |socket: &TimeWait| {
            let (of_known, of_others) = decides.get(&socket.tuple.netns).copied().unwrap_or_default();
            let is_decided = if socket.census == 0 { of_others } else { of_known };
            now_ns >= socket.expires_ns.saturating_add(patience_ns) && !is_decided
        };
        let mut ended = Vec::new();
        self.time_wait.remove_if(gone, |socket| ended.push(socket));
        for socket in &ended {
            self.end(socket, super::ends::End::Expired);
        }
    }

    /// Recomputes rates at this very tick, after a census changed the counts.
    pub(super) fn refresh_soon(&mut self) {
        self.refreshed_ns = 0;
    }

    fn refresh(&mut self, now_ns: u64) {
        let start_ns = self.summary.window.start_ns;
        self.accounts.refresh_rates(now_ns, start_ns);
        self.census.rate.refresh(now_ns, start_ns);
        let totals = &mut self.summary.totals.counts;
        (totals.created_per_s, totals.created_peak_per_s) =
            (self.census.rate.per_s, self.census.rate.created_peak_per_s);
    }
}
