//! What the mouse does: the wheel moves through a list, a click chooses a row, a tab, or the order of a column.

use crate::tui::model::{Request, Tab};
use crate::tui::state::State;
use crossterm::event::{KeyCode, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;
use std::ops::Range;
use strum::VariantArray as _;

/// Rows that a turn of the wheel moves by.
const WHEEL: usize = 3;

impl State {
    /// Acts on the mouse.
    pub fn mouse(&mut self, event: MouseEvent) -> Request {
        let row = self.level().row;
        let is_up = event.kind == MouseEventKind::ScrollUp;
        if let Some(overlay) = self.overlay.take_if(|_| is_up || event.kind == MouseEventKind::ScrollDown) {
            return self.over(overlay, if is_up { KeyCode::Up } else { KeyCode::Down });
        }
        match event.kind {
            MouseEventKind::ScrollUp => self.step(row.saturating_sub(WHEEL)),
            MouseEventKind::ScrollDown => self.step(row + WHEEL),
            MouseEventKind::Down(MouseButton::Left) => return self.click(Position::new(event.column, event.row)),
            _ => {}
        }
        Request::None
    }

    fn click(&mut self, at: Position) -> Request {
        if self.overlay.take().is_some() {
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
                // The second click opens it, and the third closes it.
                return if is_chosen { self.toggle() } else { Request::None };
            }
        }
        Request::None
    }
}
