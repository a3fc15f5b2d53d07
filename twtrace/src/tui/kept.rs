//! What is kept from frame to frame.

use crate::tui::model::SocketSort;
use ratatui::layout::Rect;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use twtrace_core::snapshot::{Snapshot, TimeWaitSocket};
use twtrace_view::order::Sort;
use twtrace_view::{failures, words};

/// Where things are on the screen, as last drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// The line of the tabs.
    pub(super) tabs: u16,
    /// Cells of each tab, from left to right.
    pub(super) names: Vec<Range<u16>>,
    /// The head of the list.
    pub(super) head: Rect,
    /// Cells of each column that can be sorted by, and its order.
    pub(super) columns: Vec<(Range<u16>, Sort)>,
    /// The orders of all columns, those without room as well, from left to right.
    orders: Vec<Sort>,
    /// The rows below it.
    pub(super) rows: Rect,
}

impl Places {
    /// A frame begins, with its tabs in this line. A page of text has no list.
    pub(super) fn begin(&mut self, tabs: u16) {
        *self = Self { tabs, ..Self::default() };
    }

    /// The tabs are in these cells.
    pub(super) fn names(&mut self, names: Vec<Range<u16>>) {
        self.names = names;
    }

    /// The orders of the columns, from left to right.
    pub(super) fn orders(&self) -> &[Sort] {
        &self.orders
    }

    /// A list is here, its head in the first line.
    pub(super) fn list(&mut self, area: Rect, columns: Vec<(Range<u16>, Sort)>, orders: Vec<Sort>) {
        self.head = Rect { height: area.height.min(1), ..area };
        self.rows = Rect { y: area.y.saturating_add(1), height: area.height.saturating_sub(1), ..area };
        (self.columns, self.orders) = (columns, orders);
    }
}

/// The sockets that are shown, and the inputs of that choice.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) by: Choice,
    /// In order.
    pub(super) sockets: Vec<TimeWaitSocket>,
    /// Number of sockets that pass the filter.
    pub(super) total: u64,
}

/// The inputs of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Time of the snapshot, and address of its list: no other snapshot has both.
    pub(super) snapshot: (u64, usize, usize),
    pub(super) sort: SocketSort,
    pub(super) reverse: bool,
    pub(super) filter: String,
}

/// The sockets of the pairs that are open, by the ids of their lines: with many sockets, a search for them takes about as
/// long as a frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    /// Time of the snapshot, and address of its list: no other snapshot has both.
    of: (u64, usize, usize),
    pub(super) lists: HashMap<u64, Vec<TimeWaitSocket>>,
}

impl Pairs {
    /// Forgets what is of another snapshot.
    pub(super) fn begin(mut self, snapshot: &Snapshot) -> Self {
        let list = snapshot.sockets();
        let of = (snapshot.summary().window.now_ns, std::ptr::from_ref(list) as usize, list.len());
        if self.of != of {
            self = Self { of, lists: HashMap::new() };
        }
        self
    }
}

/// Changes kept. When full, the oldest is dropped.
const CHANGES: usize = 500;

/// A change of a counter between two snapshots.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) unix_ns: i128,
    pub(super) reason: &'static str,
    pub(super) lost: u64,
}

/// What was lost, by the counters of one snapshot after the other.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    at_ns: u64,
    last: HashMap<&'static str, u64>,
    pub(super) changes: VecDeque<Change>,
    /// Changes that were dropped.
    pub(super) dropped: u64,
}

impl Losses {
    /// Compares a snapshot with the one before. An older one begins a new log: it is a jump in a recording.
    pub fn add(&mut self, snapshot: &Snapshot) {
        let summary = snapshot.summary();
        let window = &summary.window;
        if window.now_ns < self.at_ns {
            *self = Self::default();
        }
        self.at_ns = window.now_ns;
        let unix_ns = failures::unix_ns(window, window.now_ns);
        for (reason, total) in words::lost(&summary.counters) {
            let before = self.last.insert(reason, total).unwrap_or(0);
            if total > before {
                if self.changes.len() == CHANGES {
                    self.changes.pop_front();
                    self.dropped += 1;
                }
                self.changes.push_back(Change { unix_ns, reason, lost: total - before });
            }
        }
    }
}
