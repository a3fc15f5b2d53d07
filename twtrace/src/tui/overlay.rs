//! What lies over the screen: the help, the columns to choose from, what was lost, and two moments side by side.

use crate::tui::model::{Outcome, Overlay, Request};
use crate::tui::state::State;
use crate::tui::{chooser, compare, help, losses};
use crossterm::event::KeyCode;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};
use twtrace_core::snapshot::Snapshot;

/// Widest overlay, in cells.
const WIDTH: u16 = 100;

/// Lines that a page has less than the overlay.
const PAGE: usize = 10;

impl State {
    /// Acts on a key while something lies over the screen.
    pub(super) fn over(&mut self, overlay: Overlay, key: KeyCode) -> Request {
        let (at, again): (usize, fn(usize) -> Overlay) = match overlay {
            Overlay::Help(at) => (at, Overlay::Help),
            Overlay::Columns(at) => (at, Overlay::Columns),
            Overlay::Losses(at) => (at, Overlay::Losses),
            Overlay::Compare(at) => (at, Overlay::Compare),
        };
        let is_list = matches!(overlay, Overlay::Columns(_));
        let (to, request) = match key {
            KeyCode::Char('q') => return Request::Caller(Outcome::Quit),
            KeyCode::Up | KeyCode::Char('k') => (at.saturating_sub(1), Request::None),
            KeyCode::Down | KeyCode::Char('j') => (at + 1, Request::None),
            KeyCode::PageUp => (at.saturating_sub(PAGE), Request::None),
            KeyCode::PageDown => (at + PAGE, Request::None),
            KeyCode::Home => (0, Request::None),
            KeyCode::End => (usize::MAX, Request::None),
            KeyCode::Char(' ') | KeyCode::Enter if is_list => (at, Request::Column(at)),
            KeyCode::Char('y') if is_list => (at, Request::Columns),
            KeyCode::Char('d') if is_list => {
                let what = self.level().what.clone();
                self.columns.set(&what, None);
                (at, Request::None)
            }
            KeyCode::Char('m') if matches!(overlay, Overlay::Compare(_)) => return Request::Caller(Outcome::Mark),
            // Any other key closes it.
            _ => return Request::None,
        };
        self.overlay = Some(again(to));
        request
    }
}

/// Draws it in the middle of the screen.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, state: &mut State) {
    let Some(overlay) = state.overlay else { return };
    let width = area.width.min(WIDTH);
    let inside = usize::from(width.saturating_sub(2));
    let (title, keys, lines) = match overlay {
        Overlay::Help(_) => (" help ", " arrows scroll, any other key closes ", help::lines(snapshot, state, inside)),
        Overlay::Columns(at) => {
            (" columns ", " Space shows or hides, d: default, y: copy for the configuration, Esc ", {
                chooser::lines(snapshot, state, at, inside)
            })
        }
        Overlay::Losses(_) => {
            (" lost ", " arrows scroll, any other key closes ", losses::lines(snapshot, state, inside))
        }
        Overlay::Compare(_) => (" two moments ", " m: mark this moment instead, any other key closes ", {
            compare::lines(snapshot, state, inside)
        }),
    };
    let height = area.height.min(lines.len() as u16 + 2);
    let page = usize::from(height.saturating_sub(2));
    let last = lines.len().saturating_sub(1);
    // A list scrolls with its selection, a text by lines.
    let lowest = lines.len().saturating_sub(page);
    let (overlay, top) = match overlay {
        Overlay::Columns(at) => (Overlay::Columns(at.min(last)), (at.min(last) + 1).saturating_sub(page)),
        Overlay::Help(at) => (Overlay::Help(at.min(lowest)), at.min(lowest)),
        Overlay::Losses(at) => (Overlay::Losses(at.min(lowest)), at.min(lowest)),
        Overlay::Compare(at) => (Overlay::Compare(at.min(lowest)), at.min(lowest)),
    };
    state.overlay = Some(overlay);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered().title(title).title_bottom(keys);
    let shown: Vec<Line<'_>> = lines.into_iter().skip(top).take(page).collect();
    frame.render_widget(Clear, place);
    frame.buffer_mut().set_style(place, state.look.base());
    frame.render_widget(Paragraph::new(shown).block(block), place);
}
