//! The live page: the screen of `top` for a browser. One self-contained page, of which each snapshot replaces the content.

use crate::columns::{self, Column, Context};
use crate::html::section::{Section, sections};
use crate::html::table::table;
use crate::html::{Span, budgets, chart, document, findings, gauges, top};
use crate::order::{self, Sort};
use crate::trend::Trend;
use crate::{failures, text, words};
use maud::{Markup, html};
use twtrace_core::snapshot::{GroupBy, Snapshot};

/// Rows of each table: on an incident, the first ones matter.
const ROWS: usize = 40;

/// The whole page.
pub fn page(snapshot: &Snapshot, trend: &Trend) -> String {
    let title = format!("twtrace on {}", host(snapshot));
    document::live(&title, &content(snapshot, trend)).into_string()
}

/// What is in it: it replaces that of the snapshot before.
pub fn main(snapshot: &Snapshot, trend: &Trend) -> String {
    content(snapshot, trend).into_string()
}

fn host(snapshot: &Snapshot) -> String {
    match snapshot.summary().host.hostname.as_str() {
        "" => "(unnamed)".to_owned(),
        name => text::clean(name).into_owned(),
    }
}

fn content(snapshot: &Snapshot, trend: &Trend) -> Markup {
    let summary = snapshot.summary();
    let window = &summary.window;
    let unix_ns = failures::unix_ns(window, window.now_ns);
    let focus = Span::Now.focus(snapshot);
    let section =
        |id: &str, title: &str, body| Section { id: id.to_owned(), title: title.to_owned(), is_wide: false, body };
    let all = [
        section("findings", "Findings", findings::section(snapshot, Span::Now)),
        section("programs", "Programs", groups(snapshot)),
        section("destinations", "Destinations", destinations(snapshot)),
        section("ports", "Port budgets", budgets::section(snapshot, Span::Now)),
    ];
    html! {
        header {
            (top::sentence(&focus, snapshot))
            h1 {
                (host(snapshot)) ", " (text::day(unix_ns)) " " (text::time_of_day(unix_ns)) " UTC, traced for "
                (text::seconds(window.seconds())) ", " (words::coverage(summary)) ", " (words::losses(&summary.counters))
                (words::and_cost(", ", summary))
            }
            (top::warnings(&words::warnings(summary)))
            (gauges::gauges(&focus, snapshot, Span::Now))
        }
        (chart::recent::charts(trend, unix_ns))
        (sections(&all))
    }
}

/// The programs, those that create most now first.
fn groups(snapshot: &Snapshot) -> Markup {
    let by = GroupBy::Program;
    let rows = order::of_snapshot(snapshot, by, Sort::DEFAULT);
    let mut columns = columns::groups(by);
    if !columns::are_in_one_place(snapshot) {
        columns.insert(1, columns::netns_of_row(by));
    }
    list(&columns::visible(columns, None), &rows, snapshot, "Programs")
}

fn destinations(snapshot: &Snapshot) -> Markup {
    let rows = order::destinations(snapshot.destinations().iter(), Sort::DEFAULT, snapshot);
    list(&columns::visible(columns::destinations(snapshot), None), &rows, snapshot, "Destinations")
}

fn list<T>(columns: &[Column<T>], rows: &[&T], snapshot: &Snapshot, name: &str) -> Markup {
    let context = Context { snapshot, live_mark: words::live_mark(snapshot.summary()) };
    let shown = &rows[..rows.len().min(ROWS)];
    let grid = columns::grid(columns, shown, &context);
    html! {
        @if shown.is_empty() { p { "No connection has ended yet." } }
        (table(&grid, name))
        @if shown.len() < rows.len() {
            p class="aside" { "first " (text::count(shown.len() as u64)) " of " (text::count(rows.len() as u64)) " rows" }
        }
    }
}

#[cfg(test)]
mod tests;
