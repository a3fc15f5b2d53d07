//! Draws a list: a head, and the rows that fit.

use crate::tui::model::Entry;
use crate::tui::state::State;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use std::borrow::Borrow;
use twtrace_view::columns::{self, Column, Context};
use twtrace_view::order::Sort;
use twtrace_view::text;

/// A list to draw.
pub(super) struct List<'a, T, R> {
    /// Columns, as many as may fit.
    pub(super) columns: Vec<Column<T>>,
    /// Rows in order.
    pub(super) rows: &'a [R],
    /// Their ids, and whether they are open.
    pub(super) entries: Vec<Entry>,
    /// Their order, when a column shows it.
    pub(super) order: Option<Sort>,
    /// The style of each row that is not selected; empty when all are the same.
    pub(super) styles: Vec<Style>,
}

/// Draws rows and lets the selection settle on them.
pub(super) fn draw<T, R: Borrow<T>>(
    frame: &mut Frame<'_>,
    area: Rect,
    list: List<'_, T, R>,
    context: &Context<'_>,
    state: &mut State,
) {
    let page = usize::from(area.height.saturating_sub(1));
    state.settle(list.entries, page);
    let (top, chosen) = (state.level().top, state.level().row);
    let mut columns = list.columns;
    // The column that shows the order stays.
    columns.iter_mut().filter(|column| column.sort.is_some() && column.sort == list.order).for_each(|it| it.rank = 0);
    let orders = columns.iter().filter_map(|column| column.sort).collect();
    let columns = columns::fit(columns, area.width);
    let mut x = area.x;
    let mut cells = Vec::new();
    for (column, width) in &columns {
        cells.extend(column.sort.map(|sort| (x..x.saturating_add(*width), sort)));
        x = x.saturating_add(*width).saturating_add(1);
    }
    state.places.list(area, cells, orders);
    let mut line = |y: u16, style: Style, cell: &dyn Fn(&Column<T>) -> String| {
        let mut x = area.x;
        let buffer = frame.buffer_mut();
        buffer.set_style(Rect { y, height: 1, ..area }, style);
        let texts: Vec<String> = columns.iter().map(|(column, _)| cell(column)).collect();
        for (at, (column, width)) in columns.iter().enumerate() {
            // A text that is too long goes on in the columns that have none.
            let empty = columns.iter().zip(&texts).skip(at + 1).take_while(|(_, text)| text.is_empty());
            let more: u16 = if column.right { 0 } else { empty.map(|((_, width), _)| *width + 1).sum() };
            let room = usize::from(width.saturating_add(more));
            if !texts[at].is_empty() {
                buffer.set_stringn(x, y, text::pad(&texts[at], room, column.right), room, style);
            }
            x = x.saturating_add(*width).saturating_add(1);
        }
    };
    line(area.y, state.look.head(), &|column| head(column, list.order, state.reverse));
    for (index, row) in list.rows.iter().enumerate().skip(top).take(page) {
        // A page has at most as many rows as the area.
        let y = area.y + 1 + (index - top) as u16;
        let style =
            if index == chosen { state.look.chosen() } else { list.styles.get(index).copied().unwrap_or_default() };
        line(y, style, &|column| (column.cell)(context, row.borrow()));
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
