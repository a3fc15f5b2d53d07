#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::ports::{self, Share};
use crate::report::fixture;
use maud::Markup;
use sha2::{Digest as _, Sha256};
use twtrace_core::event::{KernelFacts, TcpState};
use twtrace_core::evidence::EVIDENCE;
use twtrace_core::failure::FailureKind;
use twtrace_core::ports::Budget;
use twtrace_core::snapshot::GroupBy;
use twtrace_core::state::{Config, Filter};
use twtrace_testkit::{
    BuildConnection as _, BuildOwner as _, MILLISECOND_NS, SECOND_NS, START_NS, answered, findings, kernel,
    kernel_facts, owner, path, snapshot_with_history, start, state_of, tick, tuple, web,
};

/// Base64 of 32 bytes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        let digit = |at: usize| char::from(DIGITS[bits >> (18 - 6 * at) & 63]);
        text.extend((0..=three.len()).map(digit));
    }
    text + &"=".repeat((3 - bytes.len() % 3) % 3)
}

#[test]
fn the_policy_allows_this_style_and_this_script_and_nothing_else() {
    let hash = |text: &str| format!("'sha256-{}'", base64(Sha256::digest(text.as_bytes()).as_slice()));
    let (style, script) = (hash(document::STYLE), hash(document::SCRIPT));
    for policy in [document::POLICY, document::LIVE_POLICY] {
        for (kind, hash) in [("style", &style), ("script", &script)] {
            assert!(policy.contains(&format!("{kind}-src {hash}")), "{kind}-src {hash} belongs into {policy}");
        }
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
    }
    let live = hash(document::LIVE);
    assert!(document::LIVE_POLICY.ends_with(&format!("{script} {live}")), "{live} belongs into LIVE_POLICY");
    // Either would end its element.
    assert!([document::STYLE, document::SCRIPT, document::LIVE].iter().all(|text| !text.contains("</")));
    assert!(!document::STYLE.contains("url(") && !document::STYLE.contains("@import"));
    for call in ["innerHTML", "eval(", "Function(", "fetch(", "document.write"] {
        assert!(!document::SCRIPT.contains(call) && !document::LIVE.contains(call), "{call}");
    }
}

/// The values of an attribute of all elements of a kind.
fn attributes<'a>(html: &'a str, element: &str, attribute: &str) -> Vec<&'a str> {
    let of = |tag: &'a str| tag.split_once(&format!(" {attribute}=\""))?.1.split('"').next();
    html.split('<').filter(|tag| tag.starts_with(&format!("{element} "))).filter_map(of).collect()
}

/// The sum of the widths of a bar, in percent.
fn width(bar: &str) -> f64 {
    attributes(bar, "rect", "width").iter().map(|width| width.trim_end_matches('%').parse::<f64>().unwrap()).sum()
}

fn bars(markup: &Markup) -> Vec<String> {
    let html = markup.0.as_str();
    html.split("<svg class=\"bar ").skip(1).map(|bar| bar.split("</svg>").next().unwrap().to_owned()).collect()
}

#[test]
fn a_bar_is_as_wide_as_the_sum_of_its_parts_and_shows_all_that_is_there() {
    for budget in [
        Budget {
            total: 28_232,
            bound: 1,
            established: 20,
            time_wait: 9000,
            reusable: 3000,
            used: 9021,
            ..Budget::default()
        },
        Budget { total: 4000, time_wait: 4000, used: 4000, ..Budget::default() },
        Budget::default(),
        // More ports in use than exist.
        Budget { total: 5, used: 9, time_wait: 9, ..Budget::default() },
    ] {
        let bar = budgets::by_state(&budget, &[]).into_string();
        assert_eq!(width(&bar), 100.0, "{bar}");
        let classes = attributes(&bar, "rect", "class");
        for (share, ports) in ports::shares(&budget) {
            assert_eq!(
                ports > 0,
                classes.contains(&budgets::part(share).class) && budget.total > 0,
                "{share:?}: {bar}"
            );
        }
    }
}

#[test]
fn a_bar_says_its_states_and_its_figures_without_colour() {
    let budget = Budget { total: 100, time_wait: 60, reusable: 20, bound: 3, used: 63, ..Budget::default() };
    let bar = budgets::by_state(&budget, &[]).into_string();
    for part in
        [">T</text>", ">R</text>", "<title>TIME_WAIT: 40 ports (40.0%)</title>", "<title>bound: 3 ports (3.0%)</title>"]
    {
        assert!(bar.contains(part), "{part} is not in {bar}");
    }
    // A letter that is wider than its part would cover another one.
    assert!(
        !bar.contains(">B</text>")
            && bar.contains("aria-label=\"bound 3, established 0, other 0, TIME_WAIT 40, reusable 20, free 37\""),
        "{bar}"
    );
}

#[test]
fn holders_are_below_the_state_that_their_ports_are_in() {
    let section = budgets::section(&fixture::short(), Span::Whole);
    let all = bars(&section);
    assert!(all.len() >= 4 && all.iter().all(|bar| width(bar) == 100.0), "{all:?}");
    let html = section.into_string();
    // The destination that is closest to running out comes first.
    assert!(html.find("10.0.1.2:5432") < html.find("10.0.1.1:443"), "{html}");
    for part in ["api[300]", "curl (40 processes)", "<title>curl (40 processes) TIME_WAIT: 80 ports (32.0%)</title>"] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    for share in Share::ALL {
        assert!(html.contains(&format!("{}</span> {}", share.letter(), share.name())), "{share:?}");
    }
}

/// A destination whose ten ports were all in TIME_WAIT when a connect found none, and are free again.
fn exhausted() -> Snapshot {
    let billing = owner(300, "python3").parent(7, "bash");
    let to = |port: u16| tuple(port, [10, 0, 1, 1], 443);
    let facts = KernelFacts { port_range: (32_768, 32_777), ..kernel_facts() };
    let mut events = vec![start(START_NS).event(), kernel(facts), tick(START_NS + SECOND_NS)];
    events.push(twtrace_testkit::process(&billing, twtrace_testkit::process_facts("python3 /srv/billing.py")));
    events.extend((0..10).map(|at| {
        let end_ns = START_NS + SECOND_NS + (at + 1) * MILLISECOND_NS;
        answered(at + 1, billing, to(32_768 + at as u16), end_ns).event()
    }));
    let mut failed = answered(11, billing, to(0), START_NS + 2 * SECOND_NS);
    let states = [TcpState::Close, TcpState::SynSent, TcpState::Close];
    failed.transitions = path(&states, START_NS + 2 * SECOND_NS, 1_000);
    (failed.connect_errno, failed.connect_exit, failed.established, failed.closer) = (99, true, false, None);
    events.push(failed.event());
    events.extend((3..90).map(|second| tick(START_NS + second * SECOND_NS)));
    snapshot_with_history(events)
}

#[test]
fn a_whole_trace_shows_the_moment_when_a_connect_found_no_port() {
    let snapshot = exhausted();
    let of = |span: Span| gauges::gauges(&span.focus(&snapshot), &snapshot, span).into_string();
    let whole = of(Span::Whole);
    for part in ["100.0%", "when connects found no port: 10 ports, 100.0% used", "at the end: 10 ports, 0.0% used"] {
        assert!(whole.contains(part), "{part} is not in {whole}");
    }
    assert!(!of(Span::Now).contains("100.0%"));
    // Those who have ports at the end had none of them then.
    let budgets = budgets::section(&snapshot, Span::Whole).into_string();
    assert!(
        budgets.contains("<title>billing.py: 10 (100.0%)</title>") && !budgets.contains("no known process"),
        "{budgets}"
    );
    assert!(bars(&budgets::section(&snapshot, Span::Whole)).iter().all(|bar| width(bar) == 100.0));
}

/// A host with scripts of one interpreter, each process with this many connections of its own.
fn scripts(scripts: &[(&str, u32, u16)]) -> Snapshot {
    let mut events = vec![start(START_NS).event(), kernel(kernel_facts())];
    let mut cookie = 0;
    for (number, (script, processes, connections)) in (0_u32..).zip(scripts) {
        for process in 0..*processes {
            let who = owner(1000 * (number + 1) + process, "python3").parent(7, "cron.sh");
            for _ in 0..*connections {
                cookie += 1;
                let end_ns = START_NS + SECOND_NS + cookie * MILLISECOND_NS;
                let to = tuple(40_000 + cookie as u16, [10, 0, 1, 1], 443);
                events.push(answered(cookie, who, to, end_ns).event());
            }
            events.push(twtrace_testkit::process(&who, twtrace_testkit::process_facts(&format!("python3 {script}"))));
        }
    }
    events.push(tick(START_NS + 10 * SECOND_NS));
    snapshot_with_history(events)
}

/// The names in the legend of the first chart.
fn legend(snapshot: &Snapshot, by: GroupBy) -> Vec<String> {
    let html = chart::charts(snapshot, by, "").into_string();
    let table = html.split("<table class=\"layers\">").nth(1).unwrap().split("</table>").next().unwrap();
    let name = |row: &str| row.split("</span> ").nth(1).unwrap().split("</td>").next().unwrap().to_owned();
    table.split("<tr><td>").skip(1).map(name).collect()
}

#[test]
fn one_shots_are_one_layer_under_their_program() {
    let snapshot = scripts(&[("/srv/probe.py", 8, 1), ("/srv/billing.py", 1, 20), ("/srv/mail.py", 1, 5)]);
    for by in [GroupBy::Process, GroupBy::Pid, GroupBy::Program] {
        assert_eq!(legend(&snapshot, by), ["billing.py", "probe.py (8 processes)", "mail.py"], "{by:?}");
    }
    assert_eq!(legend(&snapshot, GroupBy::Command), ["python3"]);
}

#[test]
fn layers_are_few_and_none_is_too_thin_to_be_seen() {
    let names: Vec<String> = (0..12).map(|number| format!("/srv/job{number}.py")).collect();
    let jobs: Vec<(&str, u32, u16)> = names.iter().map(|name| (name.as_str(), 1, 300)).collect();
    let many = legend(&scripts(&jobs), GroupBy::Process);
    assert_eq!((many.len(), many[6].as_str()), (7, "6 others"), "{many:?}");
    let few = legend(&scripts(&[("/srv/a.py", 1, 1000), ("/srv/b.py", 1, 2), ("/srv/c.py", 1, 1)]), GroupBy::Process);
    assert_eq!(few, ["a.py", "2 others"]);
}

#[test]
fn failures_have_a_layer_for_each_cause() {
    let html = chart::charts(&fixture::short(), GroupBy::Process, "").into_string();
    let failures = html.split("<figure ").find(|figure| figure.contains("Calls that failed per second")).unwrap();
    assert!(failures.contains(crate::failures::kind(FailureKind::NoAddress)), "{failures}");
    assert!(failures.contains("At most 3.0 per second. From the bottom: no usable address with 3."), "{failures}");
    // Nothing failed: there is no empty chart.
    let quiet = chart::charts(&fixture::quiet(30), GroupBy::Process, "").into_string();
    assert!(!quiet.contains("Calls that failed"));
}

#[test]
fn what_a_filter_by_names_leaves_in_a_chart_is_said() {
    let of = |filter: Filter| {
        let config = Config { history: true, filter, ..Config::default() };
        let snapshot = Snapshot::take(&mut state_of(config, web::events()));
        chart::charts(&snapshot, GroupBy::Process, "").into_string()
    };
    assert!(!of(Filter::default()).contains("before filters"));
    let filtered = of(Filter { netns: vec!["host".to_owned()], ..Filter::default() });
    assert_eq!(filtered.matches("before filters by name").count(), 2, "{filtered}");
}

#[test]
fn gauges_show_the_present_or_the_worst_of_a_trace() {
    let snapshot = fixture::incident(240);
    let of = |span: Span| gauges::gauges(&span.focus(&snapshot), &snapshot, span).into_string();
    let (now, whole) = (of(Span::Now), of(Span::Whole));
    for gauges in [&now, &whole] {
        assert!(gauges.matches("<svg class=\"bar ").count() == 2 && gauges.contains("tcp_max_tw_buckets"), "{gauges}");
    }
    assert!(whole.contains("at the end") && !now.contains("at the end"), "{whole}");
    // A snapshot without any event has gauges as well.
    let empty = snapshot_with_history(Vec::new());
    let gauges = gauges::gauges(&Span::Now.focus(&empty), &empty, Span::Now).into_string();
    assert!(gauges.contains("0.0%") && !gauges.contains("NaN"), "{gauges}");
}

#[test]
fn a_sentence_comes_with_its_severity_in_words() {
    let snapshot = web::snapshot().with_findings(findings());
    let said = top::sentence(&Span::Now.focus(&snapshot), &snapshot).into_string();
    assert!(said.starts_with("<p class=\"sentence critical\">CRITICAL: =\\x1b[2J"), "{said}");
    let mut over = findings();
    over.iter_mut().for_each(|finding| finding.active = false);
    let snapshot = web::snapshot().with_findings(over);
    let whole = top::sentence(&Span::Whole.focus(&snapshot), &snapshot).into_string();
    assert!(whole.contains("CRITICAL (over): ") && whole.contains("finds no free port"), "{whole}");
    let now = top::sentence(&Span::Now.focus(&snapshot), &snapshot).into_string();
    assert!(now.contains("sentence calm") && now.contains("2 findings are over"), "{now}");
}

#[test]
fn evidence_has_a_bar_where_it_is_a_share() {
    for (name, limit) in findings::LIMITS {
        for name in [name, limit] {
            assert!(EVIDENCE.iter().any(|kind| kind.name == name), "{name}");
        }
    }
}
