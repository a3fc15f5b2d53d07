//! What keys do: they change the user's choices, or request something of the caller.

use crate::tui::model::{Entry, Fold, Level, Outcome, Overlay, Request, SocketSort, Tab, What};
use crate::tui::state::State;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::time::Duration;
use strum::VariantArray as _;
use twtrace_core::snapshot::{GROUPINGS, GroupBy};
use twtrace_view::order::Sort;
use twtrace_view::text;

/// Longest filter, in characters.
const MAX_FILTER: usize = 128;

/// Times between two snapshots that the keys go through.
const INTERVALS: [Duration; 9] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

impl State {
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
        if let Some(overlay) = self.overlay.take() {
            return self.over(overlay, key.code);
        }
        if self.editing {
            return self.edit(key.code);
        }
        if self.playback.as_mut().is_some_and(|playback| playback.key(key.code)) {
            return Request::None;
        }
        self.command(key.code)
    }

    fn edit(&mut self, key: KeyCode) -> Request {
        match key {
            KeyCode::Tab => return Request::Complete,
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
        Request::None
    }

    fn command(&mut self, key: KeyCode) -> Request {
        let row = self.level().row;
        match key {
            KeyCode::Char('q') => return Request::Caller(Outcome::Quit),
            KeyCode::Char(' ') => {
                self.frozen = !self.frozen;
                return Request::Caller(if self.frozen { Outcome::Freeze } else { Outcome::Thaw });
            }
            KeyCode::Enter => return self.toggle(),
            KeyCode::Right => return self.go_in(),
            KeyCode::Left => self.go_out(),
            KeyCode::Char('y') => return Request::Command,
            KeyCode::Char('e') => return Request::Markdown,
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(Tab::VARIANTS.len() - 1),
            KeyCode::Char('!') if self.playback.is_none() => return Request::Caller(Outcome::Record),
            KeyCode::Char('+' | '=') if self.playback.is_none() => return self.slower(true),
            KeyCode::Char('-') if self.playback.is_none() => return self.slower(false),
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
            KeyCode::Char('?' | 'h') => self.overlay = Some(Overlay::Help(0)),
            KeyCode::Char('c') if matches!(self.level().what, What::Groups | What::Destinations) => {
                self.overlay = Some(Overlay::Columns(0));
            }
            KeyCode::Char('m') if self.mark.is_none() => {
                self.notice = Some("marked; m compares another moment with it".to_owned());
                return Request::Caller(Outcome::Mark);
            }
            KeyCode::Char('m') => self.overlay = Some(Overlay::Compare(0)),
            KeyCode::Char('l') => self.overlay = Some(Overlay::Losses(0)),
            KeyCode::Esc | KeyCode::Backspace => {
                // What was done last is undone first.
                if self.path().len() > 1 {
                    self.leave();
                } else if self.up() {
                    self.fold(|_| Fold::Closed);
                } else {
                    self.filter.clear();
                }
            }
            _ => {}
        }
        Request::None
    }

    fn turn(&mut self, by: usize) {
        self.tab = Tab::VARIANTS[(self.tab_index() + by) % Tab::VARIANTS.len()];
        self.shown.clear();
    }

    /// Opens the selected line, or closes it. Returns the request for a line that leads elsewhere.
    pub(super) fn toggle(&mut self) -> Request {
        let is_line = self.fold(|fold| if fold == Fold::Open { Fold::Closed } else { Fold::Open });
        if is_line { Request::None } else { Request::Enter }
    }

    /// The next longer or shorter time between two snapshots.
    fn slower(&mut self, slower: bool) -> Request {
        let longer = INTERVALS.iter().find(|interval| **interval > self.interval);
        let shorter = INTERVALS.iter().rfind(|interval| **interval < self.interval);
        let Some(interval) = (if slower { longer } else { shorter }) else { return Request::None };
        self.interval = *interval;
        self.notice = Some(format!("every {}", text::seconds(interval.as_secs_f64())));
        Request::Caller(Outcome::Interval(*interval))
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
        self.open.clear();
        self.shown.clear();
    }

    fn sort(&mut self, by: isize) {
        if self.tab == Tab::Sockets {
            self.socket_sort = neighbour(SocketSort::VARIANTS, self.socket_sort, by);
        } else {
            // As the columns are on the screen, from left to right.
            let orders = self.places.orders();
            self.sort = neighbour(if orders.is_empty() { &[Sort::DEFAULT] } else { orders }, self.sort, by);
        }
    }

    /// Opens or closes the selected line. Returns whether it is one that can be.
    fn fold(&mut self, wanted: impl FnOnce(Fold) -> Fold) -> bool {
        let Some(Entry { id, fold, .. }) = self.shown.get(self.level().row).copied() else { return false };
        match (fold, wanted(fold)) {
            (Fold::Leaf, _) => return false,
            (Fold::Closed, Fold::Open) => _ = self.open.insert(id),
            (Fold::Open, Fold::Closed) => _ = self.open.remove(&id),
            _ => {}
        }
        // The next key is for this row, also if another one is the first by then.
        self.step(self.level().row);
        true
    }

    /// To the line that the selected one is below. Returns whether it is below one.
    fn up(&mut self) -> bool {
        let parent = self.shown.get(self.level().row).and_then(|entry| entry.parent);
        parent.map(|parent| self.step(parent)).is_some()
    }

    /// Opens the selected line, or goes into what is open already.
    fn go_in(&mut self) -> Request {
        let row = self.level().row;
        match self.shown.get(row).map(|entry| entry.fold) {
            Some(Fold::Open) => self.step(row + 1),
            _ if self.fold(|_| Fold::Open) => {}
            _ => return Request::Enter,
        }
        Request::None
    }

    /// Closes the selected line, or goes to the one that it is below, or back to the list before.
    fn go_out(&mut self) {
        match self.shown.get(self.level().row).map(|entry| entry.fold) {
            Some(Fold::Open) => _ = self.fold(|_| Fold::Closed),
            _ if self.up() => {}
            _ => self.leave(),
        }
    }
}

fn neighbour<T: Copy + PartialEq>(all: &[T], of: T, by: isize) -> T {
    let at = all.iter().position(|one| *one == of).unwrap_or(0) as isize;
    all[(at + by).rem_euclid(all.len() as isize) as usize]
}
