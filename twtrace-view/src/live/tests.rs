#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::report::fixture;
use twtrace_testkit::{shop, state_of, web};

#[test]
fn page_has_the_sentence_the_gauges_and_the_rows() {
    let snapshot = fixture::short();
    let page = page(&snapshot, &Trend::default());
    let sentence = Span::Now.focus(&snapshot).sentence(&snapshot);
    let escaped = maud::html! { (sentence) }.into_string();
    assert!(page.contains(&escaped), "{escaped}");
    for text in
        ["id=\"programs\"", "id=\"destinations\"", "id=\"findings\"", "class=\"gauges\"", "aria-label=\"Destinations\""]
    {
        assert!(page.contains(text), "{text}");
    }
    // Each figure of a row is as in a text table.
    let rows = order::of_snapshot(&snapshot, GroupBy::Program, Sort::DEFAULT);
    for row in rows.iter().take(ROWS) {
        assert!(page.contains(&text::count(row.counts.time_wait_created)), "{row:?}");
    }
}

#[test]
fn chart_has_a_line_for_each_program_once_there_are_two_moments() {
    let events = shop::events(30, 1.0);
    let (mut trend, mut number) = (Trend::default(), 0);
    let mut state = state_of(twtrace_core::state::Config::default(), []);
    for event in events {
        let is_tick = matches!(event, twtrace_core::event::Event::Tick { .. });
        state.apply(event);
        if is_tick {
            let snapshot = Snapshot::take(&mut state);
            trend.add(&snapshot);
            number = trend.moments().len();
            let page = main(&snapshot, &trend);
            assert_eq!(page.contains("class=\"trend "), number > 1, "{number}");
        }
    }
    assert!(number > 10);
}

#[test]
fn names_that_are_markup_are_text() {
    let page = page(&fixture::hostile(), &Trend::default());
    assert!(!page.contains("<script>alert") && !page.contains("<img"), "{page}");
    assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
    let snapshot = web::snapshot();
    assert!(main(&snapshot, &Trend::default()).contains("&lt;") || !page.contains("<b>bad"));
}
