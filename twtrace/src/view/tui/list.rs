//! Draws a list: a head, and the rows that fit.

use crate::view::columns::{self, Column, Context};
use crate::view::order::Sort;
use crate::view::text;
use crate::view::tui::state::State;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Draws rows and lets the selection settle on them. `ids` are those of `rows`, `order` is the one that they are in.
pub(super) fn draw<T>(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: Vec<Column<T>>,
    rows: &[T],
    ids: Vec<u64>,
    order: Option<Sort>,
    context: &Context<'_>,
    state: &mut State,
) {
    let page = usize::from(area.height.saturating_sub(1));
    state.settle(ids, page);
    let (top, chosen) = (state.level().top, state.level().row);
    let columns = columns::fit(columns, area.width);
    let mut line = |y: u16, style: Style, fill: bool, cell: &dyn Fn(&Column<T>) -> String| {
        let mut x = area.x;
        let buffer = frame.buffer_mut();
        if fill {
            buffer.set_style(Rect { y, height: 1, ..area }, style);
        }
        for (column, width) in &columns {
            let text = text::pad(&cell(column), usize::from(*width), column.right);
            buffer.set_stringn(x, y, text, usize::from(*width), style);
            x = x.saturating_add(*width).saturating_add(1);
        }
    };
    line(area.y, state.look.head(), false, &|column| head(column, order, state.reverse));
    for (index, row) in rows.iter().enumerate().skip(top).take(page) {
        let y = area.y + 1 + (index - top) as u16;
        let style = if index == chosen { state.look.chosen() } else { Style::new() };
        line(y, style, index == chosen, &|column| (column.cell)(context, row));
    }
}

fn head<T>(column: &Column<T>, order: Option<Sort>, reverse: bool) -> String {
    let sorted = column.sort.is_some() && column.sort == order;
    let mark = match (sorted, reverse) {
        (false, _) => "",
        (true, false) => "▼",
        (true, true) => "▲",
    };
    format!("{}{mark}", column.title)
}
