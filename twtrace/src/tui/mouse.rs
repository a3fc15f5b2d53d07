//! What the mouse does: the wheel moves through a list, a click chooses a row, a tab, or the order of a column.

use crate::tui::state::{Request, State, Tab};
use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};
use std::ops::Range;
use strum::VariantArray as _;
use twtrace_view::order::Sort;

/// Rows that a turn of the wheel moves by.
const WHEEL: usize = 3;

/// Where things are on the screen, as last drawn.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The line of the tabs.
    tabs: u16,
    /// Cells of each tab, from left to right.
    names: Vec<Range<u16>>,
    /// The head of the list.
    head: Rect,
    /// Cells of each column that can be sorted by, and its order.
    columns: Vec<(Range<u16>, Sort)>,
    /// The rows below it.
    rows: Rect,
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

    /// A list is here, its head in the first line.
    pub(super) fn list(&mut self, area: Rect, columns: Vec<(Range<u16>, Sort)>) {
        self.head = Rect { height: area.height.min(1), ..area };
        self.rows = Rect { y: area.y.saturating_add(1), height: area.height.saturating_sub(1), ..area };
        self.columns = columns;
    }
}

impl State {
    /// Acts on the mouse.
    pub fn mouse(&mut self, event: MouseEvent) -> Request {
        let row = self.level().row;
        match event.kind {
            MouseEventKind::ScrollUp => self.step(row.saturating_sub(WHEEL)),
            MouseEventKind::ScrollDown => self.step(row + WHEEL),
            MouseEventKind::Down(MouseButton::Left) => return self.click(Position::new(event.column, event.row)),
            _ => {}
        }
        Request::None
    }

    fn click(&mut self, at: Position) -> Request {
        if std::mem::take(&mut self.help) {
            return Request::None;
        }
        let has = |cells: &Range<u16>| cells.contains(&at.x);
        if at.y == self.places.tabs {
            if let Some(tab) = self.places.names.iter().position(has) {
                self.tab = Tab::VARIANTS[tab];
            }
        } else if self.places.head.contains(at) {
            let column = self.places.columns.iter().find(|(cells, _)| has(cells)).map(|(_, sort)| *sort);
            match column {
                Some(sort) if sort == self.sort => self.reverse = !self.reverse,
                Some(sort) => (self.sort, self.reverse) = (sort, false),
                None => {}
            }
        } else if self.places.rows.contains(at) {
            let row = self.level().top + usize::from(at.y - self.places.rows.y);
            let is_chosen = row == self.level().row;
            if self.has_row(row) {
                self.step(row);
                // The second click goes into it.
                return if is_chosen { Request::Enter } else { Request::None };
            }
        }
        Request::None
    }
}
