#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::html::document::{SCRIPT, STYLE};
use crate::report::tests::with_report;
use crate::report::{Options, fixture};
use twtrace_core::snapshot::GroupBy;
use twtrace_core::snapshot::Snapshot;

/// Elements without an end tag.
const VOID: [&str; 2] = ["meta", "!DOCTYPE"];

/// The page without its style and its script.
fn bare(html: &str) -> String {
    let without = html.replacen(&format!("<style>{STYLE}</style>"), "", 1);
    without.replacen(&format!("<script>{SCRIPT}</script>"), "", 1)
}

/// Every element ends, nothing runs but our own script, nothing is fetched, and no text has become an element.
pub(in crate::report) fn assert_harmless(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let page = bare(html);
    assert!(html.len() > page.len() + STYLE.len() + SCRIPT.len());
    for piece in page.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap();
        let name = tag.split([' ', '\n']).next().unwrap();
        if let Some(ended) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(ended), "{piece}");
        } else if !VOID.contains(&name) {
            assert!(!["script", "style", "img", "b>bad", "link", "iframe", "object"].contains(&name), "{piece}");
            open.push(name);
        }
        assert!(name != "a" || tag.starts_with("a href=\"#"), "{tag}");
        for attribute in [" on", " src=", " style=", "javascript:"] {
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
    insta::assert_snapshot!(bare(&written(&fixture::short(), GroupBy::Command)).replace("><", ">\n<"));
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
    let plots = page.matches("<svg viewBox=").count();
    assert_eq!(plots, 5);
    assert_eq!(page.matches("<desc ").count(), plots);
    let unnamed = page.split("<svg ").skip(1).filter(|svg| {
        let tag = svg.split('>').next().unwrap();
        !tag.contains("role=\"img\" aria-label=\"") && !tag.contains("aria-hidden=\"true\"")
    });
    assert_eq!(unnamed.count(), 0);
    for part in ["viewport", "prefers-color-scheme: dark", "@media print", "lang=\"en\"", "scope=\"col\""] {
        assert!(page.contains(part), "{part}");
    }
    // Six colours and the rest.
    assert!(page.contains("area c6") && page.contains("area rest") && !page.contains("area c7"));
}

#[test]
fn values_can_be_read_without_a_script() {
    let page = bare(&written(&fixture::incident(120), GroupBy::Process));
    let churn = page.split("<figure ").nth(1).unwrap();
    assert!(churn.contains("<title>14:14:20 UTC: ") && churn.contains("/s checkout"), "{churn}");
    let values = churn.split("<summary>Values</summary>").nth(1).unwrap();
    assert_eq!(values.split("</table>").next().unwrap().matches("<tr>").count(), 1 + 24);
}

#[test]
fn what_happened_is_the_first_thing_on_the_page() {
    let page = written(&fixture::incident(120), GroupBy::Process);
    let main = page.split("<main>").nth(1).unwrap();
    assert!(main.starts_with("<header><p class=\"sentence critical\">CRITICAL: "), "{main}");
    let place = |what: &str| main.find(what).unwrap_or_else(|| panic!("{what} is missing"));
    let order = [
        "<h1>",
        "checkout created ",
        "class=\"gauges\"",
        "class=\"cards\"",
        "<nav ",
        "<h2>Findings",
        "<h2>Over time",
        "<h2>Port budgets",
        "<h2>Failures",
        "<h2>By process",
        "<h2>How the numbers are known",
    ];
    assert!(order.map(place).is_sorted(), "{order:?}");
    let links: Vec<&str> = main.split(" href=\"#").skip(1).map(|link| link.split('"').next().unwrap()).collect();
    assert_eq!(
        links,
        ["findings0", "time0", "ports0", "failures0", "by-process", "by-destination", "recording0", "known0"]
    );
    assert!(links.iter().all(|id| main.contains(&format!("<section id=\"{id}\""))));
}

#[test]
fn a_page_of_a_long_trace_is_small() {
    assert!(written(&fixture::incident(600), GroupBy::Process).len() < 400_000);
}

#[test]
fn findings_are_shown_with_all_their_evidence() {
    let page = written(&fixture::short(), GroupBy::Command);
    for part in [
        "<article class=\"panel finding critical\">",
        "<span class=\"severity\">CRITICAL</span>",
        "<span class=\"severity\">WARNING (over)</span>",
        "<th scope=\"row\">failures</th><td class=\"number\">61,000</td>",
        "<pre><code>sysctl -w net.ipv4.ip_local_port_range=&quot;1024 65535&quot;</code></pre>",
        "Command, check it before you run it:",
        "<b>How to check: </b><code>twtrace top --once --fail-on exhaustion-reached</code> ends with 0.",
        "What this means: connects fail: no port is left for a destination",
        "created/s 322 -&gt; 0",
        "this is not TIME_WAIT",
        "A bare count is no severity.",
        "&lt;b&gt;",
    ] {
        assert!(page.contains(part), "{part}");
    }
}
