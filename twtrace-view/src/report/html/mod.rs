//! The report as one self-contained HTML page: no script, no font, no network.
//!
//! Every text goes through the templates, which escape it, after the views' own cleaning.

mod churn;
mod findings;
mod frame;
mod heat;
mod lifetimes;
mod live;
#[cfg(test)]
pub(super) mod tests;

use super::facts::Tile;
use super::{NOTHING, Part, Report};
use crate::grid::Grid;
use crate::text;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::io::{self, Write};

/// The page's look.
const STYLE: &str = include_str!("style.css");

/// Writes the page.
///
/// # Errors
/// The output cannot be written to.
pub fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(page(report).into_string().as_bytes())?;
    writeln!(out)
}

fn page(report: &Report<'_>) -> Markup {
    let title = report.title();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("twtrace ", env!("CARGO_PKG_VERSION")));
                // Nothing is fetched and nothing runs, whatever text gets in here.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    @if report.is_of_several() {
                        section { h2 { "Recordings" } (table(&report.recordings(), "Recordings")) }
                    }
                    @for part in &report.parts { (host(part, report)) }
                    @for by in report.tables() {
                        @let (grid, left_out) = report.grid(by);
                        section class="table" {
                            h2 { "By " (by.name()) }
                            @if grid.rows.is_empty() { p { (NOTHING) } }
                            (table(&grid, by.name()))
                            @if let Some(left_out) = left_out { p class="aside" { (left_out) } }
                        }
                    }
                    @for part in &report.parts {
                        section {
                            h2 { "How the numbers" @if report.is_of_several() { " of " (part.host) } " are known" }
                            (list(&part.known()))
                        }
                    }
                }
                footer { "twtrace " (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
}

fn host(part: &Part<'_>, report: &Report<'_>) -> Markup {
    let warnings = part.warnings();
    let id = |plot: &str| format!("{plot}{}", part.number);
    html! {
        section class="host" {
            @if report.is_of_several() { h2 { (part.host) } }
            @if !warnings.is_empty() {
                div class="warnings" role="note" {
                    b { "These figures are incomplete" }
                    ul { @for warning in &warnings { li { (warning) } } }
                }
            }
            p class="headline" { (part.headline()) }
            div class="tiles" { @for tile in part.tiles() { (self::tile(&tile)) } }
            (findings::section(part))
            (churn::plot(part, report.options.by, &id("churn")))
            (live::plot(part, &id("live")))
            (heat::plot(part, &id("heat")))
            (lifetimes::plot(part, &id("life")))
            (list(&[part.about(), part.totals()].concat()))
        }
    }
}

fn tile(tile: &Tile) -> Markup {
    html! {
        div class="tile" {
            div class="title" { (tile.title) }
            div class="value" { (tile.value) @if let Some(unit) = tile.unit { span class="unit" { (unit) } } }
            div class="more" { (tile.more) }
        }
    }
}

fn list(all: &[(&'static str, String)]) -> Markup {
    html! {
        dl { @for (title, text) in all { div { dt { (title) } dd { (text) } } } }
    }
}

/// A table in its own scrolling box.
fn table(grid: &Grid, name: &str) -> Markup {
    html! {
        @if !grid.rows.is_empty() {
            div class="scroll" tabindex="0" role="region" aria-label=(name) {
                table {
                    thead {
                        tr {
                            @for head in &grid.heads {
                                th scope="col" class=[head.right.then_some("number")] { (head.title) }
                            }
                        }
                    }
                    tbody {
                        @for row in &grid.rows {
                            tr {
                                @for (cell, head) in row.iter().zip(&grid.heads) {
                                    // The full text of a cell that is cut off can still be read.
                                    @let whole = (text::width(cell) > 40).then_some(cell);
                                    td class=[head.right.then_some("number")] title=[whole] { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
