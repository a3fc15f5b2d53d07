#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::fits::assert_fits;
use crate::report::fixture;
use crate::report::tests::without_code;
use crate::text::is_plain;
use serde_json::Value;
use twtrace_core::compare::Counted;
use twtrace_core::counts::FIELDS;
use twtrace_core::event::{Event, Tier};
use twtrace_core::recording::Info;
use twtrace_core::snapshot::Snapshot;
use twtrace_testkit::{
    BuildConnection as _, BuildOwner as _, SECOND_NS, START_NS, answered, owner, snapshot_with_history, tuple, web,
};

/// A comparison of two recordings.
fn with_diff<T>(
    (before, before_info): (&Snapshot, Info),
    (after, after_info): (&Snapshot, Info),
    by: GroupBy,
    then: impl FnOnce(&Diff<'_>) -> T,
) -> T {
    let before = Source { info: &before_info, model: before };
    let after = Source { info: &after_info, model: after };
    then(&Diff::new(before, after, Options { by, top: None }))
}

fn info(name: &str, snapshot: &Snapshot) -> Info {
    Info { id: name.to_owned(), ..fixture::info(name, snapshot) }
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line.chars().all(is_plain)), "{text}");
    text
}

fn parsed(json: &str) -> Value {
    let json = serde_json::from_str(json).unwrap();
    assert_fits("diff", &json);
    json
}

fn sentence(before: (&Snapshot, Info), after: (&Snapshot, Info)) -> String {
    let mut sentence = String::new();
    with_diff(before, after, GroupBy::Process, |diff| sentence = diff.sentence());
    sentence
}

#[test]
fn a_fix_is_seen() {
    let (before, after) = (fixture::incident(200), fixture::quiet(100));
    let (before, after) = ((&before, info("before.twt", &before)), (&after, info("after.twt", &after)));
    with_diff(before, after, GroupBy::Process, |diff| {
        insta::assert_snapshot!("text", written(|out| text::write(diff, out)));
        insta::assert_snapshot!("markdown", written(|out| markdown::write(diff, out)));
        let json = written(|out| json::write(diff, out));
        let json = parsed(&json);
        assert_eq!((&json["verdict"]["direction"], &json["verdict"]["rest"]), (&"fell".into(), &"fell".into()));
        let main = &json["verdict"]["main"];
        assert_eq!(
            (&main["process"]["name"], &main["destination"]["name"]),
            (&"checkout".into(), &"10.0.1.7:5432".into())
        );
        assert_eq!(json["rows"][0]["name"], "checkout");
        assert_eq!(json["rows_total"], json["rows"].as_array().unwrap().len());
        for change in [&json["totals"], &json["rows"][0], &json["destinations"][0], main] {
            assert_has_all_figures(change);
        }
        assert_eq!(main["before"]["errors"]["EADDRNOTAVAIL"], json["rows"][0]["before"]["errors"]["EADDRNOTAVAIL"]);
        for side in [&json["before"], &json["after"]] {
            assert_eq!(side["host"]["hostname"], "shop-3");
            assert!(side["window"]["seconds"].as_f64().unwrap() > 90.0);
        }
    });
}

/// Each figure of the table appears under its own name, with its change; totals per second as well.
fn assert_has_all_figures(change: &Value) {
    for field in FIELDS {
        let name = if field.is_total { figures::per_s(field) } else { field.name.to_owned() };
        for side in ["before", "after"] {
            assert!(!change[side][field.name].is_null() && !change[side][&name].is_null(), "{side} {name}: {change}");
        }
        assert!(change["change"][&name].is_number() || change["change"][&name].is_object(), "{name}: {change}");
    }
    let names = |place: &str| change[place].as_object().unwrap().len();
    let totals = FIELDS.iter().filter(|field| field.is_total).count();
    assert_eq!([names("before"), names("change")], [FIELDS.len() + totals, FIELDS.len()], "a name appears twice");
}

#[test]
fn every_grouping_adds_up() {
    let (before, after) = (fixture::incident(60), fixture::short());
    for by in
        [GroupBy::Process, GroupBy::Command, GroupBy::Parent, GroupBy::User, GroupBy::Cgroup, GroupBy::Destination]
    {
        let (before, after) = ((&before, info("a.twt", &before)), (&after, info("b.twt", &after)));
        with_diff(before, after, by, |diff| {
            for changes in [&diff.rows, &diff.destinations] {
                for field in FIELDS.iter().filter(|field| field.is_total) {
                    let sum = |side: fn(&Change<Key>) -> &Counted| -> f64 {
                        changes.iter().map(|row| side(row).measure(field)).sum()
                    };
                    let differs = |sum: f64, total: &Counted| (sum - total.measure(field)).abs() > 1e-6;
                    assert!(!differs(sum(|row| &row.before), &diff.total.before), "{by:?} {}", field.name);
                    assert!(!differs(sum(|row| &row.after), &diff.total.after), "{by:?} {}", field.name);
                }
            }
            for named in &diff.named {
                let all: f64 = named.iter().map(Change::created_per_s).sum();
                assert!((all - diff.total.created_per_s()).abs() < 1e-6);
            }
        });
    }
}

#[test]
fn the_sentence_is_honest() {
    let (quiet, short) = (fixture::quiet(60), fixture::short());
    let of = |name: &str| (&quiet, info(name, &quiet));
    assert_eq!(
        sentence(of("a.twt"), of("b.twt")),
        "TIME_WAIT sockets created stayed about the same: 12.2/s before, 12.2/s after."
    );
    let nothing = snapshot_with_history(vec![web::events().swap_remove(0), web::tick_after(20_000)]);
    let none = |name: &str| (&nothing, info(name, &nothing));
    assert_eq!(sentence(none("a.twt"), none("b.twt")), "No TIME_WAIT sockets were created, neither before nor after.");
    let other = sentence(of("a.twt"), (&short, info("b.twt", &short)));
    assert!(
        other.starts_with("Between two hosts, from shop-3 to web-1, TIME_WAIT sockets created rose from"),
        "{other}"
    );
    assert!(other.ends_with("see below."), "{other}");
}

/// This many connections of each process to each destination, over 20 seconds.
fn traced(many: &[(u32, u8, u64)]) -> Snapshot {
    let mut events = vec![web::events().swap_remove(0)];
    let mut cookie = 0;
    for (process, destination, connections) in many {
        for _ in 0..*connections {
            cookie += 1;
            let who = owner(*process, format!("p{process}")).parent(1, "init");
            let to = tuple(40_000, [10, 0, 0, *destination], 80);
            events.push(answered(cookie, who, to, START_NS + 10 * SECOND_NS).event());
        }
    }
    events.push(web::tick_after(20_000));
    snapshot_with_history(events)
}

#[test]
fn the_creator_of_most_of_the_change_is_named() {
    let before = traced(&[]);
    for (after, expected) in [
        (&[(1, 1, 800), (1, 2, 100), (2, 1, 100)][..], ", mostly by p1 to 10.0.0.1:80 (+40.0/s); "),
        (&[(1, 1, 300), (1, 2, 300), (2, 1, 100)], ", mostly by p1 (+30.0/s); "),
        (&[(1, 1, 300), (2, 1, 300), (3, 2, 100)], ", mostly by connections to 10.0.0.1:80 (+30.0/s); "),
        (&[(1, 1, 300), (2, 2, 300), (3, 3, 310)], ", by many, most of all p3 (+15.5/s); "),
    ] {
        let after = traced(after);
        let sentence = sentence((&before, info("a.twt", &before)), (&after, info("b.twt", &after)));
        assert!(sentence.contains(expected), "{sentence}");
    }
}

#[test]
fn reservations_are_listed() {
    let (quiet, short) = (fixture::quiet(60), fixture::short());
    let mut lossy = web::events();
    if let Some(Event::Start { tracing, .. }) = lossy.first_mut() {
        tracing.tier = Tier::Tuple;
    }
    let counters = twtrace_core::event::KernelCounters { ring_full: 12, ..Default::default() };
    lossy.push(Event::Counters(counters));
    let lossy = snapshot_with_history(lossy);
    let reservations = |before: (&Snapshot, Info), after: (&Snapshot, Info)| {
        with_diff(before, after, GroupBy::Process, |diff| diff.reservations().join("\n"))
    };
    assert_eq!(reservations((&quiet, info("a.twt", &quiet)), (&quiet, info("b.twt", &quiet))), "");
    let same = reservations((&quiet, info("a.twt", &quiet)), (&quiet, info("a.twt", &quiet)));
    assert_eq!(same, "both are the same recording");
    let unfinished = Info { finished: false, losses: vec![fixture::loss()], ..info("b.twt", &lossy) };
    let all = reservations((&short, info("a.twt", &short)), (&lossy, unfinished));
    insta::assert_snapshot!("reservations", all);
    let mut older = info("b.twt", &quiet);
    older.end_unix_ns = older.start_unix_ns;
    assert!(reservations((&quiet, info("a.twt", &quiet)), (&quiet, older)).contains("b.twt is older than a.twt"));
    let hosts = reservations((&quiet, info("a.twt", &quiet)), (&short, info("b.twt", &short)));
    assert!(hosts.contains("the hosts are not the same"), "{hosts}");
}

#[test]
fn hostile_text_does_nothing_in_any_form() {
    let (before, after) = (fixture::hostile(), fixture::incident(30));
    let (before, after) = ((&before, info("<b>|`\n\u{1b}.twt", &before)), (&after, info("b.twt", &after)));
    with_diff(before, after, GroupBy::Process, |diff| {
        written(|out| text::write(diff, out));
        parsed(&written(|out| json::write(diff, out)));
        let markdown = written(|out| markdown::write(diff, out));
        for line in markdown.lines() {
            let outside = without_code(line);
            assert!(!outside.trim_start_matches("> **Warning:**").contains(['<', '[', '*', '@']), "{line}");
        }
    });
}
