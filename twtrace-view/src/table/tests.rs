#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use twtrace_testkit::{snapshot_of, web};

fn written(snapshot: &Snapshot, options: Options) -> String {
    let mut out = Vec::new();
    write(snapshot, options, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line.chars().all(text::is_plain)), "{text}");
    text
}

#[test]
fn processes() {
    insta::assert_snapshot!(written(&web::snapshot(), Options { limit: Some(8), ..Options::default() }));
}

#[test]
fn groups() {
    let by = |by| written(&web::snapshot(), Options { by, sort: Sort::Name, limit: None });
    insta::assert_snapshot!([GroupBy::Command, GroupBy::Parent, GroupBy::User, GroupBy::Cgroup].map(by).join("\n"));
}

#[test]
fn destinations() {
    insta::assert_snapshot!(written(&web::snapshot(), Options { by: GroupBy::Destination, ..Options::default() }));
}

#[test]
fn losses_are_shown() {
    let options = Options { by: GroupBy::User, sort: Sort::of("errors").unwrap(), limit: Some(2) };
    insta::assert_snapshot!(written(&web::lossy(), options));
}

#[test]
fn an_empty_trace_says_so() {
    let snapshot = snapshot_of(vec![web::events().swap_remove(0)]);
    insta::assert_snapshot!(written(&snapshot, Options::default()));
}

#[test]
fn without_a_recent_census_live_numbers_are_inferred() {
    let mut events = web::events();
    events.push(web::tick_after(9_000));
    let text = written(&snapshot_of(events), Options { by: GroupBy::Command, ..Options::default() });
    let api = text.lines().find(|line| line.starts_with("api")).unwrap();
    assert!(api.contains("~120"), "{api}");
}
