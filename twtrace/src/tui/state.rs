//! The user's choices. Keys change them; drawing only lets the selection settle on the existing rows.

use crate::tui::mouse::Places;
use crate::tui::playback::Playback;
use crate::tui::sockets::Chosen;
use crate::tui::style::Theme;
use crate::tui::trend::Trend;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use strum::{IntoStaticStr, VariantArray};
use twtrace_core::snapshot::{GROUPINGS, GroupBy, GroupKey};
use twtrace_view::order::Sort;

/// Longest filter, in characters.
const MAX_FILTER: usize = 64;

/// One of the views, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub enum Tab {
    /// Processes or groups.
    Processes,
    /// Destinations.
    Destinations,
    /// Single sockets.
    Sockets,
    /// Findings.
    Findings,
}

/// What a list shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Rows of the grouping.
    Groups,
    /// Processes of one group.
    Members(GroupBy, GroupKey),
    /// Destinations of one row.
    DestinationsOf(GroupBy, GroupKey),
    /// All destinations.
    Destinations,
    /// Processes of the destination row with this id.
    ProcessesOf(u32),
    /// Live sockets.
    Sockets,
    /// Findings.
    Findings,
    /// The finding with this id, as text.
    Finding(u64),
}

/// A list and the position in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// What it shows.
    pub what: What,
    /// Id of the selected row; `None` stays with the first row, whichever that is.
    pub selected: Option<u64>,
    /// Its position when last drawn.
    pub row: usize,
    /// First row on the screen.
    pub top: usize,
}

impl Level {
    /// At the beginning of a list.
    pub fn new(what: What) -> Self {
        Self { what, selected: None, row: 0, top: 0 }
    }
}

/// Order of the sockets tab. Keys go through them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum SocketSort {
    /// Newest first.
    Newest,
    /// Soonest to end first.
    Left,
    /// By remote address and port.
    Remote,
    /// By local address and port.
    Local,
    /// By the closer's command and PID.
    Closer,
}

/// What a key requests from the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Only a redraw.
    Done,
    /// End.
    Quit,
    /// Keep the current snapshot and draw from it.
    Freeze,
    /// Draw from the model again.
    Thaw,
    /// Put a command on the clipboard of the terminal.
    Copy(String),
    /// Write a finding as Markdown to a file of that name, and put it on the clipboard.
    Export {
        /// Name of the file, without its extension.
        name: String,
        /// Its text.
        text: String,
    },
}

/// What a key requests from the list, which needs the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Nothing.
    None,
    /// Into the chosen row.
    Enter,
    /// The command of the chosen finding.
    Command,
    /// The chosen finding, as Markdown.
    Markdown,
    /// A request to the caller.
    Caller(Outcome),
}

/// All of the user's choices.
#[derive(Clone, Debug)]
pub struct State {
    /// Colours.
    pub look: Theme,
    /// Current tab.
    pub tab: Tab,
    /// For each tab, the lists from its first to the drilled-down one.
    levels: [Vec<Level>; Tab::VARIANTS.len()],
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
    /// Help is shown.
    pub help: bool,
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
    /// Ids of the rows of the current list, from first to last.
    shown: Vec<u64>,
    /// Rows that fit on the screen.
    page: usize,
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
            help: false,
            frozen: false,
            playback: None,
            trend: Trend::default(),
            places: Places::default(),
            notice: None,
            sockets: None,
            shown: Vec::new(),
            page: 1,
        }
    }

    fn tab_index(&self) -> usize {
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

    fn level_mut(&mut self) -> &mut Level {
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
    fn leave(&mut self) {
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
    pub fn settle(&mut self, ids: Vec<u64>, page: usize) {
        self.shown = ids;
        self.page = page.max(1);
        let last = self.shown.len().saturating_sub(1);
        let row = self.place_in(&self.shown);
        let level = &self.levels[self.tab_index()][self.path().len() - 1];
        let selected = level.selected.and_then(|_| self.shown.get(row).copied());
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
        self.shown = (0..=last as u64).collect();
        let level = self.level_mut();
        level.row = level.row.min(last);
        level.top = level.row;
        level.row
    }

    /// Id of the selected row.
    pub fn chosen(&self) -> Option<u64> {
        self.shown.get(self.level().row).copied()
    }

    /// Whether the list has so many rows.
    pub(super) fn has_row(&self, row: usize) -> bool {
        row < self.shown.len()
    }

    /// Chooses a row.
    pub(super) fn step(&mut self, to: usize) {
        let to = to.min(self.shown.len().saturating_sub(1));
        let id = self.shown.get(to).copied();
        let level = self.level_mut();
        level.row = to;
        level.selected = id;
    }

    /// Acts on a key.
    pub fn key(&mut self, key: KeyEvent) -> Request {
        self.notice = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Request::Caller(Outcome::Quit);
        }
        if control || key.modifiers.contains(KeyModifiers::ALT) {
            return Request::None;
        }
        if self.help {
            // Any key closes it, and q still quits.
            self.help = false;
            return if key.code == KeyCode::Char('q') { Request::Caller(Outcome::Quit) } else { Request::None };
        }
        if self.editing {
            self.edit(key.code);
            return Request::None;
        }
        if self.playback.as_mut().is_some_and(|playback| playback.key(key.code)) {
            return Request::None;
        }
        self.command(key.code)
    }

    fn edit(&mut self, key: KeyCode) {
        match key {
            KeyCode::Esc => {
                self.filter.clear();
                self.editing = false;
            }
            KeyCode::Enter => self.editing = false,
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if self.filter.chars().count() < MAX_FILTER => self.filter.push(letter),
            _ => {}
        }
    }

    fn command(&mut self, key: KeyCode) -> Request {
        let row = self.level().row;
        match key {
            KeyCode::Char('q') => return Request::Caller(Outcome::Quit),
            KeyCode::Char(' ') => {
                self.frozen = !self.frozen;
                return Request::Caller(if self.frozen { Outcome::Freeze } else { Outcome::Thaw });
            }
            KeyCode::Enter => return Request::Enter,
            KeyCode::Char('y') => return Request::Command,
            KeyCode::Char('e') => return Request::Markdown,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Tab::VARIANTS.len() - 1),
            KeyCode::Char('1') => self.tab = Tab::Processes,
            KeyCode::Char('2') => self.tab = Tab::Destinations,
            KeyCode::Char('3') => self.tab = Tab::Sockets,
            KeyCode::Char('4') => self.tab = Tab::Findings,
            KeyCode::Up | KeyCode::Char('k') => self.step(row.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.step(row + 1),
            KeyCode::PageUp => self.step(row.saturating_sub(self.page)),
            KeyCode::PageDown => self.step(row + self.page),
            KeyCode::Home => {
                let level = self.level_mut();
                (level.selected, level.row, level.top) = (None, 0, 0);
            }
            KeyCode::End => self.step(usize::MAX),
            KeyCode::Char('g' | 'b') => self.group(),
            KeyCode::Char('s') => self.sort(1),
            KeyCode::Char('S') => self.sort(-1),
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Char('/') => self.editing = true,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Esc | KeyCode::Backspace => {
                // What was done last is undone first.
                if self.path().len() > 1 { self.leave() } else { self.filter.clear() }
            }
            _ => {}
        }
        Request::None
    }

    fn turn(&mut self, by: usize) {
        self.tab = Tab::VARIANTS[(self.tab_index() + by) % Tab::VARIANTS.len()];
        self.shown.clear();
    }

    /// The next grouping, on the tab that has them.
    fn group(&mut self) {
        if self.level().what != What::Groups {
            return;
        }
        // Destinations have their own tab.
        let all: Vec<GroupBy> = GROUPINGS.iter().filter_map(|grouping| grouping.by.group()).collect();
        self.by = neighbour(&all, self.by, 1);
        *self.level_mut() = Level::new(What::Groups);
        self.shown.clear();
    }

    fn sort(&mut self, by: isize) {
        if self.tab == Tab::Sockets {
            self.socket_sort = neighbour(SocketSort::VARIANTS, self.socket_sort, by);
        } else {
            self.sort = neighbour(&Sort::all(), self.sort, by);
        }
    }
}

fn neighbour<T: Copy + PartialEq>(all: &[T], of: T, by: isize) -> T {
    let at = all.iter().position(|one| *one == of).unwrap_or(0) as isize;
    all[(at + by).rem_euclid(all.len() as isize) as usize]
}
