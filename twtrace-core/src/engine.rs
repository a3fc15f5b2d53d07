//! The one place that changes state.

use crate::account::is_doubtful;
use crate::attribution::{Attribution, UNKNOWN};
use crate::budgets::Bound;
use crate::census::Census;
use crate::connection::{Outcome, after_reset_sent, judge};
use crate::ending::{End, TOO_LATE_NS};
use crate::history::History;
use crate::input::{Input, Life, ProcessFacts, ProcessKey, Role, Tuple};
use crate::ledger::{Ledger, Map, RowRef};
use crate::live::{Live, LiveSet};
use crate::model::{DestRow, Holders, Known, Substate, Summary};
use std::collections::VecDeque;

pub use crate::filter::Filter;
pub use crate::model::Model;

/// How long a timewait socket lives: `TCP_TIMEWAIT_LEN`, and by default `tcp_fin_timeout` as well.
pub(crate) const TIME_WAIT_NS: u64 = 60_000_000_000;

const SECOND_NS: u64 = 1_000_000_000;

/// Rates are worked out this often, in nanoseconds.
const REFRESH_NS: u64 = SECOND_NS / 4;

/// Ended lives remembered, for a reset that follows the end within [`RESET_NS`].
const RECENT: usize = 1024;

/// How long after the end of a life its reset may follow: it is the same call in the kernel.
const RESET_NS: u64 = 10_000_000;

/// Users whose names are kept.
const USERS: usize = 16_384;

/// Bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Rows of each ledger.
    pub rows: usize,
    /// Pairs of process and destination.
    pub pairs: usize,
    /// Live timewait sockets.
    pub live: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 8_192, pairs: 16_384, live: 262_144 }
    }
}

/// Settings of an engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineConfig {
    /// What to show.
    pub filter: Filter,
    /// Bounds.
    pub limits: Limits,
    /// Keep figures over time ([`Model::history`]). It costs up to 2 KiB for each row.
    pub history: bool,
}

/// An ended life, for what may still be learnt of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) cookie: u64,
    pub(crate) end_ns: u64,
    pub(crate) outcome: Outcome,
    pub(crate) tuple: Tuple,
    pub(crate) role: Role,
    pub(crate) closer: u32,
    pub(crate) opener: u32,
    pub(crate) destination: RowRef,
    pub(crate) pair: RowRef,
    pub(crate) older: bool,
    pub(crate) attributed: bool,
    pub(crate) shown: bool,
    /// Its port was bound before it connected.
    pub(crate) bound: bool,
}

impl Ended {
    /// Whether it was counted among the resets.
    pub(crate) fn counts_as_reset(&self) -> bool {
        matches!(self.outcome, Outcome::ResetSent | Outcome::ResetReceived | Outcome::Abort { .. })
    }
}

/// Turns inputs into a model. A clone goes on from where the original was.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) model: Model,
    pub(crate) filter: Filter,
    pub(crate) census: Census,
    recent: VecDeque<Ended>,
    refreshed_ns: u64,
    swept_ns: u64,
    /// Calls have failed since it was last counted what was in their way.
    pub(crate) failing: bool,
    /// When that was.
    failing_ns: u64,
    /// Sockets that were bound before they connected and have not ended: by cookie.
    pub(crate) bound: Map<u64, Bound>,
    /// For sockets without a cookie: numbers that no cookie reaches.
    next_made_up: u64,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(config: EngineConfig) -> Self {
        let limits = config.limits;
        Self {
            model: Model {
                summary: Summary::default(),
                attribution: Attribution::new(limits.rows),
                destinations: Ledger::new(&[DestRow::Other], limits.rows),
                pairs: Ledger::new(&[(RowRef::OTHER.id(), RowRef::OTHER.id())], limits.pairs),
                folds: 0,
                live: LiveSet::new(limits.live),
                facts: Default::default(),
                users: Default::default(),
                history: config.history.then(Default::default),
                counted_from_ns: 0,
                failures: Default::default(),
                holders: Default::default(),
                findings: Vec::new(),
                waiting: Vec::new(),
            },
            filter: config.filter,
            census: Census::default(),
            recent: VecDeque::with_capacity(RECENT),
            refreshed_ns: 0,
            swept_ns: 0,
            failing: false,
            failing_ns: 0,
            bound: Map::default(),
            next_made_up: 1 << 63,
        }
    }

    /// What is known.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        let Model { attribution, destinations, pairs, live, .. } = &self.model;
        attribution.size() + destinations.size() + pairs.size() + live.size()
    }

    /// Learns one thing.
    pub fn apply(&mut self, input: Input) {
        match input {
            Input::Start { at_ns, unix_ns, host, tracing } => {
                let summary = &mut self.model.summary;
                summary.host = host;
                summary.tracing = tracing;
                summary.window.start_ns = at_ns;
                summary.window.start_unix_ns = unix_ns;
                if let Some(history) = &mut self.model.history {
                    *history = History::new(at_ns);
                }
                self.passed(at_ns);
            }
            Input::Life(mut life) => {
                life.cookie = self.identity(life.cookie, &life.tuple);
                self.life(&life);
            }
            Input::ConnectFailed(failed) => self.connect_failed(&failed),
            Input::BindFailed(failed) => self.bind_failed(&failed),
            Input::BoundConnect { cookie, tuple, at_ns } => {
                self.passed(at_ns);
                self.bound_connect(self.identity(cookie, &tuple), &tuple, at_ns);
            }
            Input::Holders { at_ns, complete, rows } => {
                self.passed(at_ns);
                self.model.holders = Holders { at_ns: Some(at_ns), complete, rows };
            }
            Input::ResetSent { cookie, tuple, at_ns } => {
                self.reset_sent(self.identity(cookie, &tuple), at_ns);
            }
            Input::TimewaitEnd(mut end) => {
                end.cookie = self.identity(end.cookie, &end.tuple);
                self.timewait_end(&end);
            }
            Input::Counters(counters) => self.model.summary.counters = counters,
            Input::Kernel { netns, facts } => self.kernel(netns, facts),
            Input::Namespace { netns, name, refused } => self.namespace(netns, name, refused),
            Input::NamespaceGone { netns } => self.namespace_gone(netns),
            Input::NamespacesLeftOut(number) => self.model.summary.namespaces_left_out = number,
            Input::Process { key, facts } => self.process(key, facts),
            Input::User { uid, name } => {
                if self.model.users.len() < USERS {
                    self.model.users.insert(uid, name);
                }
            }
            Input::CensusBegin { netns, at_ns, whole } => {
                self.settle_for(netns, at_ns);
                self.passed(at_ns);
                self.census.begin(netns, at_ns, whole);
            }
            Input::CensusRows(rows) => self.census_rows(rows),
            Input::CensusGone(cookies) => self.census.gone(&cookies),
            Input::CensusEnd { at_ns, complete } => {
                self.passed(at_ns);
                self.census.end(at_ns, complete);
            }
            Input::Tick { at_ns } => self.tick(at_ns),
        }
    }

    /// Time never goes back.
    pub(crate) fn passed(&mut self, at_ns: u64) {
        let window = &mut self.model.summary.window;
        window.now_ns = window.now_ns.max(at_ns);
    }

    fn life(&mut self, life: &Life) {
        self.passed(life.end_ns);
        let outcome = judge(life);
        let role = self.role(life.role, &life.tuple);
        let shown = self.filter.passes(&life.tuple, [life.opener.as_ref(), life.closer.as_ref()]);
        let totals = &mut self.model.summary.totals;
        totals.lives += 1;
        *totals.outcomes.entry(outcome.outcome.name()).or_default() += 1;

        let mut ended = Ended {
            cookie: life.cookie,
            end_ns: life.end_ns,
            outcome: outcome.outcome,
            tuple: life.tuple,
            role,
            closer: UNKNOWN,
            opener: UNKNOWN,
            destination: RowRef::OTHER,
            pair: RowRef::OTHER,
            older: life.older,
            attributed: life.closer.is_some(),
            shown,
            bound: life.binding.port,
        };
        self.bound.remove(&life.cookie);
        if ended.cookie == 0 {
            ended.cookie = self.next_made_up;
            self.next_made_up += 1;
        }
        if shown {
            self.account(life, &mut ended);
        } else {
            self.hold(&ended);
        }
        if let Outcome::TimeWait(substate) = outcome.outcome {
            self.follow(&ended, substate, outcome.known, life.end_ns.saturating_add(TIME_WAIT_NS));
        }
        if self.recent.len() == RECENT {
            let oldest = self.recent.pop_front();
            self.release(oldest);
        }
        // With the hold that it has had since it was accounted for.
        self.recent.push_back(ended);
        if !matches!(ended.outcome, Outcome::TimeWait(_)) && is_doubtful(life) {
            self.doubt(ended);
        }
    }

    pub(crate) fn hold(&mut self, ended: &Ended) {
        self.model.attribution.hold(ended.closer);
        self.model.attribution.hold(ended.opener);
    }

    pub(crate) fn release(&mut self, ended: Option<Ended>) {
        if let Some(ended) = ended {
            self.model.attribution.release(ended.closer);
            self.model.attribution.release(ended.opener);
        }
    }

    /// The role of a life whose beginning was not seen, by the ports that are listened on and those for connecting.
    pub(crate) fn role(&self, role: Role, tuple: &Tuple) -> Role {
        if role != Role::Unknown {
            return role;
        }
        let (low, high) = self.model.summary.kernel_of(tuple.netns).map_or((0, 0), |facts| facts.port_range);
        if self.census.listens(tuple) {
            Role::Passive
        } else if (low..=high).contains(&tuple.local_port) && low > 0 {
            Role::Active
        } else {
            Role::Unknown
        }
    }

    /// Whether a socket that nobody is known for is shown.
    pub(crate) fn passes(&self, tuple: &Tuple) -> bool {
        self.filter.passes(tuple, [None, None])
    }

    /// Follows a timewait socket from now on.
    pub(crate) fn follow(&mut self, ended: &Ended, mut substate: Substate, mut known: Known, mut expires_ns: u64) {
        // The same cookie twice is the same socket after a disconnect; the old timewait socket is gone by then.
        let replaced = self.end_live(ended.cookie);
        if let Some(stranger) = replaced.as_ref().filter(|live| live.is_stranger()) {
            // Or a census knew it before its record came: what it said is newer.
            (substate, expires_ns) = (stranger.substate, stranger.expires_ns);
            if known == Known::Inferred {
                known = Known::Census;
            }
        }
        if self.model.live.is_full() {
            self.model.summary.totals.live_untracked += 1;
            return;
        }
        let live = Live {
            cookie: ended.cookie,
            made_ns: ended.end_ns,
            expires_ns,
            tuple: ended.tuple,
            closer: ended.closer,
            opener: ended.opener,
            destination: ended.destination,
            pair: ended.pair,
            // The census that knew it before, or one that may have seen it before its record came.
            census: replaced
                .filter(|live| live.is_stranger() || self.census.is_unsettled(live.census))
                .map_or(0, |live| live.census),
            role: ended.role,
            substate,
            known,
            // A life that found no room at its beginning is first seen in its middle too.
            before_start: !ended.attributed && ended.older && self.model.summary.counters.map_full == 0,
            attributed: ended.attributed,
            shown: ended.shown,
            bound: ended.bound,
        };
        self.model.attribution.hold(live.closer);
        self.model.attribution.hold(live.opener);
        self.model.count_live(&live, 1);
        if live.census == 0 {
            self.census.unconfirmed(live.cookie, &self.model.live);
        }
        self.model.live.insert(live);
    }

    /// Takes a live timewait socket out, if there is one of that cookie.
    pub(crate) fn end_live(&mut self, cookie: u64) -> Option<Live> {
        let live = self.model.live.remove(cookie)?;
        self.model.ended(&live);
        Some(live)
    }

    fn reset_sent(&mut self, cookie: u64, at_ns: u64) {
        self.passed(at_ns);
        // All of them: records are only nearly in the order of their ends, and a recovered one is far behind.
        let of_it = |ended: &&mut Ended| ended.cookie == cookie && ended.end_ns.saturating_add(RESET_NS) >= at_ns;
        let Some(ended) = self.recent.iter_mut().rev().find(of_it) else {
            return;
        };
        let before = ended.outcome;
        let Some(outcome) = after_reset_sent(before) else { return };
        ended.outcome = outcome;
        let ended = *ended;
        self.census.reset(&ended);
        self.end_live(cookie);
        self.corrected("reset_after_close", ended.end_ns, before, outcome);
        if ended.shown {
            let made = matches!(before, Outcome::TimeWait(_));
            let counted = before == Outcome::ResetReceived;
            self.model.change_ended(&ended, -i64::from(made), i64::from(!counted));
        }
    }

    /// Moves a life that ended then from one outcome to another.
    pub(crate) fn corrected(&mut self, why: &'static str, end_ns: u64, from: Outcome, to: Outcome) {
        if !self.model.counts(end_ns) {
            return;
        }
        let totals = &mut self.model.summary.totals;
        if let Some(count) = totals.outcomes.get_mut(from.name()) {
            *count = count.saturating_sub(1);
        }
        *totals.outcomes.entry(to.name()).or_default() += 1;
        *totals.corrections.entry(why).or_default() += 1;
    }

    /// Keeps what is remembered of a life in step with a correction.
    pub(crate) fn remember(&mut self, cookie: u64, end_ns: u64, outcome: Outcome) {
        let of_it = |ended: &&mut Ended| ended.cookie == cookie && ended.end_ns == end_ns;
        if let Some(ended) = self.recent.iter_mut().rev().find(of_it) {
            ended.outcome = outcome;
        }
    }

    fn process(&mut self, key: ProcessKey, facts: ProcessFacts) {
        let ledger = self.model.attribution.ledger(crate::model::GroupBy::Process);
        let has_row = |key| ledger.find(&crate::model::GroupKey::Process(key)).is_some();
        self.model.facts.insert(key, facts, has_row);
    }

    fn tick(&mut self, at_ns: u64) {
        self.passed(at_ns);
        let now_ns = self.model.summary.window.now_ns;
        self.settle(now_ns);
        if let Some(history) = &mut self.model.history {
            let moment = history.at(now_ns);
            moment.live = moment.live.max(self.model.summary.totals.counts.time_wait_live);
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

    /// Ends timewait sockets whose time is over. Where there is a census it tells, as long as it is fresh: the
    /// kernel's timers for so long a time are seconds late.
    fn expire(&mut self, now_ns: u64) {
        let census = &self.census;
        // Most of the time there is nobody to look for, and there may be hundreds of thousands to look at.
        let told: Map<u32, (bool, bool)> =
            self.model.live.namespaces().map(|netns| (netns, census.tells(netns, now_ns))).collect();
        if told.values().all(|(_, of_others)| *of_others) {
            return;
        }
        let patience = if self.ends_are_told() { TOO_LATE_NS } else { 0 };
        let gone = |live: &Live| {
            let (of_known, of_others) = told.get(&live.tuple.netns).copied().unwrap_or_default();
            let is_told = if live.census == 0 { of_others } else { of_known };
            now_ns >= live.expires_ns.saturating_add(patience) && !is_told
        };
        let mut ended = Vec::new();
        self.model.live.remove_if(gone, |live| ended.push(live));
        for live in &ended {
            self.model.end(live, End::Expired);
        }
    }

    /// Has budgets follow what a census changed, at this very tick.
    pub(crate) fn refresh_soon(&mut self) {
        self.refreshed_ns = 0;
    }

    fn refresh(&mut self, now_ns: u64) {
        let start_ns = self.model.summary.window.start_ns;
        self.model.attribution.refresh_rates(now_ns, start_ns);
        self.model.destinations.refresh_rates(now_ns, start_ns);
        self.census.rate.refresh_rates(now_ns, start_ns);
        let all = &self.census.rate.row_mut(RowRef::OTHER).counts;
        let totals = &mut self.model.summary.totals.counts;
        (totals.rate_per_s, totals.peak_per_s) = (all.rate_per_s, all.peak_per_s);
    }
}
