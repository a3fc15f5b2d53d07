//! Tables that a script may sort, and lists of facts.

use super::bar;
use crate::grid::Grid;
use crate::text;
use maud::{Markup, html};

/// Longest cell that is not cut, in letters.
const WHOLE: usize = 40;

/// A table in its own scrolling box; nothing when there are no rows. The first column of text stays in view.
pub(crate) fn table(grid: &Grid, name: &str) -> Markup {
    let first = grid.heads.iter().position(|head| !head.right);
    let class = |column: usize| match grid.heads[column].right {
        true => Some("number"),
        false => (first == Some(column)).then_some("name"),
    };
    html! {
        @if !grid.rows.is_empty() {
            div class="scroll" tabindex="0" role="region" aria-label=(name) {
                table class="sortable" {
                    thead {
                        tr {
                            @for (column, head) in grid.heads.iter().enumerate() {
                                th scope="col" class=[class(column)] { (head.title) }
                            }
                        }
                    }
                    tbody {
                        @for row in &grid.rows {
                            tr { @for (column, cell) in row.iter().enumerate() { (self::cell(cell, class(column))) } }
                        }
                    }
                }
            }
        }
    }
}

/// A cell. A number in percent has a bar.
fn cell(cell: &str, class: Option<&str>) -> Markup {
    // The full text of a cell that is cut off can still be read.
    let whole = (text::width(cell) > WHOLE).then_some(cell);
    let percent = cell.strip_suffix('%').filter(|_| class == Some("number"));
    let share = percent.and_then(|number| number.parse::<f64>().ok()).map(|percent| percent / 100.0);
    html! {
        td class=[class] title=[whole] {
            (cell)
            @if let Some(share) = share { (bar::meter(share, "filled")) }
        }
    }
}

/// Facts by title.
pub(crate) fn list(all: &[(&'static str, String)]) -> Markup {
    html! {
        dl { @for (title, text) in all { div { dt { (title) } dd { (text) } } } }
    }
}
