//! What is known, and how events change it. No I/O, no clock, no rules, no formatting.
//!
//! [`State::apply`] routes each event to one method; the aggregates below it own their figures:
//!
//! | file | owns |
//! | --- | --- |
//! | `accounts` | connections of each process with each destination |
//! | `time_wait` | TIME_WAIT sockets that are alive |
//! | `census` | what the kernel's own socket lists have shown |
//! | `failures` | calls that found no address or no port |
//! | [`Summary`] | the host, its namespaces, totals |

mod accounts;
mod apply;
mod budgets;
mod census;
mod closed;
mod connections;
mod containers;
mod ends;
mod facts;
mod failures;
mod kernel_sockets;
mod live;
mod namespaces;
mod owners;
mod preface;
mod reconcile;
mod restart;
mod rows;
mod shared;
mod space;
mod time_wait;
mod timers;
mod trend;

use crate::cost::CostMeter;
use crate::failure::Failures;
pub use crate::filter::Filter;
use crate::history::History;
use crate::summary::{SocketOwners, Summary};
use crate::table::Map;
pub use accounts::Limits;
pub(crate) use accounts::{Accounts, ONE_SHOT};
use budgets::Bound;
pub(crate) use budgets::BudgetFigures;
use census::Census;
use closed::ClosedConnection;
pub(crate) use closed::destination_key;
use containers::ContainerTable;
pub(crate) use facts::program_of;
pub use rows::Cell;
pub(crate) use rows::{Destination, Meter, ProcessRow};
use shared::SharedCookies;
use std::collections::VecDeque;
use std::sync::Arc;
pub(crate) use time_wait::TimeWait;
use time_wait::TimeWaitTable;

/// How long a TIME_WAIT socket lasts: `TCP_TIMEWAIT_LEN`, and by default `tcp_fin_timeout` as well.
pub(crate) const TIME_WAIT_NS: u64 = 60_000_000_000;

const SECOND_NS: u64 = 1_000_000_000;

/// Number of ended connections remembered, for a reset that follows the end.
const RECENT: usize = 1024;

/// Settings of a state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What to count.
    pub filter: Filter,
    /// Bounds.
    pub limits: Limits,
    /// Keep figures over time ([`crate::snapshot::Snapshot::history`]). It costs up to 2 KiB for each row.
    pub history: bool,
}

/// Everything that is known. A clone continues where the original was.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) summary: Summary,
    pub(crate) accounts: Accounts,
    pub(crate) time_wait: TimeWaitTable,
    pub(crate) census: Census,
    pub(crate) shared: SharedCookies,
    pub(crate) failures: Failures,
    pub(crate) socket_owners: SocketOwners,
    pub(crate) users: Arc<Map<u32, String>>,
    cost: CostMeter,
    pub(crate) containers: ContainerTable,
    pub(crate) history: Option<History>,
    pub(crate) filter: Filter,
    /// The same without the filter, where that asks for connections: what leads to what it selects is elsewhere.
    pub(crate) whole: Option<Box<Self>>,
    /// Connections that ended before this are not counted.
    counted_from_ns: u64,
    recent: VecDeque<ClosedConnection>,
    refreshed_ns: u64,
    swept_ns: u64,
    /// Calls have failed since their cause was last recorded.
    failing: bool,
    /// When it was last recorded.
    failing_ns: u64,
    /// Sockets that were bound before they connected and have not ended: by cookie.
    bound: Map<u64, Bound>,
    /// For sockets without a cookie: numbers that no cookie reaches.
    next_without_cookie: u64,
}

impl State {
    /// Nothing is known yet.
    pub fn new(config: Config) -> Self {
        let whole = config
            .filter
            .is_early()
            .then(|| Box::new(Self::new(Config { filter: Filter::default(), history: false, ..config.clone() })));
        Self {
            whole,
            summary: Summary::default(),
            accounts: Accounts::new(&config.limits),
            time_wait: TimeWaitTable::new(config.limits.live),
            census: Census::default(),
            shared: SharedCookies::default(),
            failures: Failures::default(),
            socket_owners: SocketOwners::default(),
            users: Arc::default(),
            cost: CostMeter::default(),
            containers: ContainerTable::default(),
            history: config.history.then(History::default),
            filter: config.filter,
            counted_from_ns: 0,
            recent: VecDeque::with_capacity(RECENT),
            refreshed_ns: 0,
            swept_ns: 0,
            failing: false,
            failing_ns: 0,
            bound: Map::default(),
            next_without_cookie: 1 << 63,
        }
    }

    /// Host-wide parts.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Figures over time; `None` unless it keeps a history.
    pub fn history(&self) -> Option<&History> {
        self.history.as_ref()
    }

    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        self.accounts.size() + self.time_wait.size() + self.whole.as_ref().map_or(0, |whole| whole.size())
    }
}
