#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::report::tests::with_report;
use crate::report::{Options, fixture};
use twtrace_core::snapshot::GroupBy;
use twtrace_core::snapshot::Snapshot;

/// Elements without an end tag.
const VOID: [&str; 2] = ["meta", "!DOCTYPE"];

/// Every element ends, nothing runs, nothing is fetched, and no text has become an element.
pub(in crate::report) fn assert_harmless(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    // The content of a style element is our own.
    let (head, rest) = html.split_once("<style>").unwrap();
    let (style, body) = rest.split_once("</style>").unwrap();
    assert!(!style.contains("url(") && !style.contains("@import"));
    let page = format!("{head}{body}");
    for piece in page.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap();
        let name = tag.split([' ', '\n']).next().unwrap();
        if let Some(ended) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(ended), "{piece}");
        } else if !VOID.contains(&name) {
            assert!(!["script", "img", "b>bad", "link", "iframe", "object", "a"].contains(&name), "{piece}");
            open.push(name);
        }
        for attribute in [" on", " src=", " href=", "javascript:"] {
            assert!(!tag.contains(attribute) || tag.contains("title=\"") || tag.contains("aria-label"), "{tag}");
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
    assert!(!html.contains("NaN") && !html.contains("\"inf"), "{html}");
}

fn written(snapshot: &Snapshot, by: GroupBy) -> String {
    with_report(snapshot, Options { by, top: Some(6) }, |report| page(report).into_string())
}

#[test]
fn the_page_is_as_it_was() {
    // One line per element, so that a difference can be read. Plots over five seconds are small.
    insta::assert_snapshot!(written(&fixture::short(), GroupBy::Command).replace(STYLE, "").replace("><", ">\n<"));
}

#[test]
fn pages_are_whole_and_harmless() {
    for by in [GroupBy::Process, GroupBy::Command, GroupBy::Destination] {
        assert_harmless(&written(&fixture::incident(60), by));
        assert_harmless(&written(&fixture::hostile(), by));
    }
}

#[test]
fn plots_have_words_for_those_who_do_not_see_them() {
    let page = written(&fixture::incident(120), GroupBy::Process);
    assert_eq!(page.matches("<svg ").count(), 4);
    assert_eq!(page.matches("<svg viewBox=").count(), page.matches("role=\"img\"").count());
    assert_eq!(page.matches("<desc ").count(), 4);
    for part in ["viewport", "prefers-color-scheme: dark", "@media print", "lang=\"en\"", "scope=\"col\""] {
        assert!(page.contains(part), "{part}");
    }
    // Eight colours and the rest.
    assert!(page.contains("area c8") && page.contains("area rest") && !page.contains("area c9"));
}

#[test]
fn a_page_of_a_long_trace_is_small() {
    assert!(written(&fixture::incident(600), GroupBy::Process).len() < 400_000);
}

#[test]
fn findings_are_shown_with_all_their_evidence() {
    let page = written(&fixture::short(), GroupBy::Command);
    for part in [
        "<article class=\"finding critical\">",
        "<span class=\"severity\">CRITICAL</span>",
        "<span class=\"severity\">WARNING (over)</span>",
        "<th scope=\"row\">failures</th><td class=\"number\">61,000</td>",
        "<pre><code>sysctl -w net.ipv4.ip_local_port_range=&quot;1024 65535&quot;</code></pre>",
        "created/s 322 -&gt; 0",
        "this is not TIME_WAIT",
        "A bare count is no severity.",
        "&lt;b&gt;",
    ] {
        assert!(page.contains(part), "{part}");
    }
}
