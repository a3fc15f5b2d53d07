//! The user's choices. Keys change them; drawing only lets the selection settle on the existing rows.

use crate::tui::kept::{Chosen, Losses, Pairs, Places};
use crate::tui::model::{Columns, Entry, Level, Overlay, Recording, SocketSort, Tab, What};
use crate::tui::playback::Playback;
use crate::tui::style::Theme;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use strum::VariantArray as _;
use twtrace_core::snapshot::{GroupBy, Snapshot};
use twtrace_view::order::Sort;
use twtrace_view::trend::Trend;

/// All of the user's choices.
#[derive(Clone, Debug)]
pub struct State {
    /// Colours.
    pub look: Theme,
    /// Current tab.
    pub tab: Tab,
    /// For each tab, the lists from its first to the drilled-down one.
    pub(super) levels: [Vec<Level>; Tab::VARIANTS.len()],
    /// Grouping of the first tab.
    pub by: GroupBy,
    /// Order of the ledgers.
    pub sort: Sort,
    /// Order of the sockets.
    pub socket_sort: SocketSort,
    /// Reverse order.
    pub reverse: bool,
    /// Text that rows must contain.
    pub filter: String,
    /// The filter is being typed.
    pub editing: bool,
    /// What lies over the screen.
    pub overlay: Option<Overlay>,
    /// Visible columns of processes, by their headings; `None` for the default ones.
    pub columns: Columns,
    /// Time between two snapshots of a trace.
    pub interval: Duration,
    /// What was lost, and when.
    pub losses: Losses,
    /// The snapshot to compare others with.
    pub mark: Option<Arc<Snapshot>>,
    /// What is wrong with the configuration file.
    pub mistake: Option<String>,
    /// The agent that the figures come from.
    pub agent: Option<String>,
    /// A recording that was started from the screen.
    pub recording: Option<Recording>,
    /// The figures are frozen.
    pub frozen: bool,
    /// The recording that the figures come from.
    pub playback: Option<Playback>,
    /// The last minutes.
    pub trend: Trend,
    /// Where things are on the screen.
    pub(super) places: Places,
    /// What the last key did, if that does not show.
    pub notice: Option<String>,
    /// The last choice of sockets.
    pub(super) sockets: Option<Chosen>,
    /// Ids of the lines that are open.
    pub(super) open: HashSet<u64>,
    /// Their sockets.
    pub(super) pairs: Pairs,
    /// A line is open that needs the list of sockets.
    needs_sockets: bool,
    /// Lines of the current list, from first to last.
    pub(super) shown: Vec<Entry>,
    /// Rows that fit on the screen.
    pub(super) page: usize,
}

impl State {
    /// At the start.
    pub fn new(by: GroupBy, sort: Sort, look: Theme) -> Self {
        Self {
            look,
            tab: if by == GroupBy::Destination { Tab::Destinations } else { Tab::Processes },
            levels: [What::Groups, What::Destinations, What::Sockets, What::Findings]
                .map(|what| vec![Level::new(what)]),
            by: by.group().unwrap_or_default(),
            sort,
            socket_sort: SocketSort::Newest,
            reverse: false,
            filter: String::new(),
            editing: false,
            overlay: None,
            columns: Columns::default(),
            interval: Duration::from_secs(1),
            losses: Losses::default(),
            mark: None,
            mistake: None,
            agent: None,
            recording: None,
            frozen: false,
            playback: None,
            trend: Trend::default(),
            places: Places::default(),
            notice: None,
            sockets: None,
            open: HashSet::new(),
            pairs: Pairs::default(),
            needs_sockets: false,
            shown: Vec::new(),
            page: 1,
        }
    }

    pub(super) fn tab_index(&self) -> usize {
        Tab::VARIANTS.iter().position(|tab| *tab == self.tab).unwrap_or(0)
    }

    /// Lists of the current tab, from its first to the one on the screen.
    pub fn path(&self) -> &[Level] {
        &self.levels[self.tab_index()]
    }

    /// The list on the screen. Every tab has at least one.
    pub fn level(&self) -> &Level {
        &self.path()[self.path().len() - 1]
    }

    pub(super) fn level_mut(&mut self) -> &mut Level {
        let levels = &mut self.levels[self.tab_index()];
        let last = levels.len() - 1;
        &mut levels[last]
    }

    /// Drills into a list.
    pub fn enter(&mut self, what: What) {
        let tab = self.tab_index();
        self.levels[tab].push(Level::new(what));
        self.shown.clear();
    }

    /// Back to the list from which the user drilled down.
    pub(super) fn leave(&mut self) {
        let levels = &mut self.levels[self.tab_index()];
        if levels.len() > 1 {
            levels.pop();
            self.shown.clear();
        }
    }

    /// The row of a list with these ids that is selected, or its neighbour if it is gone.
    pub(super) fn place_in(&self, ids: &[u64]) -> usize {
        let level = self.level();
        match level.selected {
            None => 0,
            Some(id) => ids.iter().position(|shown| *shown == id).unwrap_or(level.row.min(ids.len().saturating_sub(1))),
        }
    }

    /// Sets the rows and how many fit. The selection stays with its row; when that is gone, with its position.
    pub fn settle(&mut self, shown: Vec<Entry>, page: usize) {
        self.shown = shown;
        self.page = page.max(1);
        let last = self.shown.len().saturating_sub(1);
        let row = self.place_in(&self.shown.iter().map(|entry| entry.id).collect::<Vec<_>>());
        let level = &self.levels[self.tab_index()][self.path().len() - 1];
        let selected = level.selected.and_then(|_| self.shown.get(row)).map(|entry| entry.id);
        let top = level.top.clamp((row + 1).saturating_sub(self.page), row).min((last + 1).saturating_sub(self.page));
        let level = self.level_mut();
        (level.row, level.top) = (row, top);
        // An empty list may fill again: the selection is kept for that.
        level.selected = selected.or(level.selected);
    }

    /// Sets the number of lines of text and how many fit, and returns the first line to show. Keys that select rows
    /// scroll it.
    pub fn settle_text(&mut self, lines: usize, page: usize) -> usize {
        self.page = page.max(1);
        let last = lines.saturating_sub(self.page);
        self.shown = (0..=last as u64).map(Entry::flat).collect();
        let level = self.level_mut();
        level.row = level.row.min(last);
        level.top = level.row;
        level.row
    }

    /// Id of the selected row.
    pub fn chosen(&self) -> Option<u64> {
        self.shown.get(self.level().row).map(|entry| entry.id)
    }

    /// Whether a line is open.
    pub(super) fn is_open(&self, id: u64) -> bool {
        self.open.contains(&id)
    }

    /// The current list has a line that needs the list of sockets, or none.
    pub(super) fn need_sockets(&mut self, needs: bool) {
        self.needs_sockets = needs;
    }

    /// Whether something on the screen needs the list of sockets.
    pub fn wants_sockets(&self) -> bool {
        self.tab == Tab::Sockets || self.needs_sockets && matches!(self.level().what, What::Groups | What::Destinations)
    }

    /// Whether the list has so many rows.
    pub(super) fn has_row(&self, row: usize) -> bool {
        row < self.shown.len()
    }

    /// Chooses a row.
    pub(super) fn step(&mut self, to: usize) {
        let to = to.min(self.shown.len().saturating_sub(1));
        let id = self.shown.get(to).map(|entry| entry.id);
        let level = self.level_mut();
        level.row = to;
        level.selected = id;
    }
}
