//! The report as one self-contained HTML page, from the pieces of `crate::html`.

#[cfg(test)]
pub(super) mod tests;

use super::{NOTHING, Part, Report};
use crate::html::section::{Section, sections};
use crate::html::table::{list, table};
use crate::html::{Span, budgets, cards, chart, document, findings, gauges, top};
use maud::{Markup, html};
use std::io::{self, Write};

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
    let before = report.parts.iter().flat_map(|part| before_tables(part, report));
    let after = report.parts.iter().flat_map(|part| after_tables(part, report));
    let all: Vec<Section> = before.chain(tables(report)).chain(after).collect();
    let main = html! {
        @if let [part] = report.parts.as_slice() {
            (happened(part, &html! { h1 { (title) } }))
        } @else {
            h1 { (title) }
            (together(report))
            section { h2 { "Recordings" } (table(&report.recordings(), "Recordings")) }
            @for part in &report.parts { (happened(part, &html! { h2 class="host" { (part.host) } })) }
        }
        (sections(&all))
    };
    document::document(&title, &main)
}

/// All hosts, before each of them.
fn together(report: &Report<'_>) -> Markup {
    html! {
        section {
            h2 { "All hosts" }
            @for line in report.headline_together() { p { (line) } }
            @for (by, (grid, left_out)) in report.tables_together().map(|by| (by, report.grid_together(by))) {
                h3 { "By " (by.name()) }
                (table(&grid, by.name()))
                @if let Some(left_out) = left_out { p class="aside" { (left_out) } }
            }
        }
    }
}

/// What happened on a host, before everything else: one sentence, who created the sockets, the two limits, key figures.
fn happened(part: &Part<'_>, heading: &Markup) -> Markup {
    let focus = Span::Whole.focus(part.model);
    html! {
        header {
            (top::sentence(&focus, part.model))
            (heading)
            (top::warnings(&part.warnings()))
            p class="headline" { (part.headline()) }
            p class="about" { (part.span()) }
            (gauges::gauges(&focus, part.model, Span::Whole))
            (cards::cards(&part.cards()))
        }
    }
}

/// A section about one recording.
fn about(part: &Part<'_>, report: &Report<'_>, name: &str, title: &str, body: Markup) -> Section {
    let title = if report.is_of_several() { format!("{title}: {}", part.host) } else { title.to_owned() };
    Section { id: format!("{name}{}", part.number), title, is_wide: false, body }
}

fn before_tables(part: &Part<'_>, report: &Report<'_>) -> Vec<Section> {
    let failures = part.failures();
    let about = |name, title, body| about(part, report, name, title, body);
    let findings = html! { (findings::section(part.model, Span::Whole)) p class="aside" { (part.orientation()) } };
    vec![
        about("findings", "Findings", findings),
        about("time", "Over time", chart::charts(part.model, report.options.by, &part.number.to_string())),
        about("ports", "Port budgets", budgets::section(part.model, Span::Whole)),
        Section { is_wide: true, ..about("failures", "Failures", table(&failures, "Failures")) },
    ]
}

fn tables(report: &Report<'_>) -> impl Iterator<Item = Section> {
    report.tables().into_iter().map(|by| {
        let (grid, left_out) = report.grid(by);
        let body = html! {
            @if grid.rows.is_empty() { p { (NOTHING) } }
            (table(&grid, by.name()))
            @if let Some(left_out) = left_out { p class="aside" { (left_out) } }
        };
        Section { id: format!("by-{}", by.name()), title: format!("By {}", by.name()), is_wide: true, body }
    })
}

fn after_tables(part: &Part<'_>, report: &Report<'_>) -> Vec<Section> {
    let about = |name, title, body| about(part, report, name, title, body);
    vec![
        about("recording", "The recording", list(&[part.about(), part.totals()].concat())),
        about("known", "How the numbers are known", list(&part.known())),
    ]
}
