//! Bars: the parts of a whole side by side, and a number beside its limit.
//!
//! They are SVG elements with widths in percent, so that no element needs a style of its own.

use super::chart::frame::unit;
use maud::{Markup, html};

/// The width of a bar in cells: half a percent each.
pub(crate) const CELLS: usize = 200;

/// Cells that a letter takes on a phone, and as many as are left free beside a text.
const LETTER: usize = 4;

/// A part of a bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its colour, as a class.
    pub(crate) class: &'static str,
    /// What is written in it if there is room: colour is never the only sign.
    pub(crate) mark: String,
    /// Its width.
    pub(crate) cells: usize,
    /// What it stands for.
    pub(crate) says: String,
}

/// A line across a bar, and a shadow before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Where the shadow begins.
    pub(crate) from: usize,
    /// The place of the line.
    pub(crate) cell: usize,
    /// What it stands for.
    pub(crate) says: String,
}

/// A place or a width in percent.
fn percent(cells: f64) -> String {
    format!("{}%", unit(cells * 100.0 / CELLS as f64))
}

/// Parts of a whole from left to right.
pub(crate) fn split(parts: &[Part], marks: &[Mark], class: &str, label: &str) -> Markup {
    let mut from = 0;
    let placed = parts.iter().map(|part| {
        let at = from;
        from += part.cells;
        (at, part)
    });
    let placed: Vec<(usize, &Part)> = placed.filter(|(_, part)| part.cells > 0).collect();
    html! {
        svg class={ "bar " (class) } role="img" aria-label=(label) {
            @for (at, part) in placed {
                rect class=(part.class) x=(percent(at as f64)) width=(percent(part.cells as f64)) height="100%" {
                    title { (part.says) }
                }
                @if part.cells >= LETTER * (part.mark.chars().count() + 1) && !part.mark.is_empty() {
                    text class={ "on " (part.class) } x=(percent(at as f64 + part.cells as f64 / 2.0)) y="50%" dy="0.35em" {
                        (part.mark)
                    }
                }
            }
            @for mark in marks {
                // Inside of the bar, also at its end.
                @let x = percent((mark.cell.min(CELLS) as f64).clamp(0.5, CELLS as f64 - 0.5));
                @if mark.from < mark.cell {
                    line class="shadow" x1=(percent(mark.from as f64)) x2=(x) y1="50%" y2="50%" {}
                }
                line class="mark" x1=(x) x2=(x) y1="0" y2="100%" { title { (mark.says) } }
            }
        }
    }
}

/// A number before a change and after it, on the same scale. What both are must be written beside it.
pub(crate) fn change(from: f64, to: f64) -> Markup {
    let most = from.max(to).max(f64::MIN_POSITIVE);
    let width = |value: f64| format!("{}%", unit((value / most * 100.0).clamp(0.0, 100.0)));
    html! {
        svg class="change" aria-hidden="true" {
            rect class="before" width=(width(from)) height="45%" {}
            rect class="after" y="55%" width=(width(to)) height="45%" {}
        }
    }
}

/// A number as a share of its limit. What both are must be written beside it.
pub(crate) fn meter(share: f64, class: &str) -> Markup {
    // What is more than the limit fills it.
    let width = format!("{}%", unit((share * 100.0).clamp(0.0, 100.0)));
    html! {
        svg class="meter" aria-hidden="true" {
            rect class="track" width="100%" height="100%" {}
            rect class=(class) width=(width) height="100%" {}
        }
    }
}
