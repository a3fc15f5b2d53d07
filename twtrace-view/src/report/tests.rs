#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::fits::assert_fits;
use crate::text::is_plain;
use serde_json::Value;
use twtrace_core::snapshot::Snapshot;
use twtrace_testkit::{snapshot_with_history, web};

/// A report on one recording.
pub(super) fn with_report<T>(snapshot: &Snapshot, options: Options, then: impl FnOnce(&Report<'_>) -> T) -> T {
    let info = fixture::info("/var/lib/web.twt", snapshot);
    let source = Source { info: &info, model: snapshot };
    then(&Report::new(&[source], options))
}

pub(super) fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line.chars().all(is_plain)), "{text}");
    text
}

fn parsed(json: &str) -> Value {
    let json = serde_json::from_str(json).unwrap();
    assert_fits("report", &json);
    json
}

fn groupings() -> impl Iterator<Item = GroupBy> {
    twtrace_core::snapshot::GROUPINGS.iter().map(|grouping| grouping.by)
}

#[test]
fn the_text_is_as_it_was() {
    let by = |by| {
        with_report(&fixture::short(), Options { by, top: Some(8) }, |report| written(|out| text::write(report, out)))
    };
    insta::assert_snapshot!(by(GroupBy::Process));
    insta::assert_snapshot!("text_by_command", by(GroupBy::Command));
}

#[test]
fn the_document_is_as_it_was() {
    let options = Options { by: GroupBy::Command, top: Some(8) };
    insta::assert_snapshot!(with_report(&fixture::short(), options, |report| written(|out| markdown::write(
        report, out
    ))));
}

#[test]
fn the_lines_are_as_they_were() {
    for (name, by) in [("csv_processes", GroupBy::Process), ("csv_destinations", GroupBy::Destination)] {
        let options = Options { by, top: Some(4) };
        let lines = with_report(&fixture::short(), options, |report| written(|out| csv::write(report, out)));
        insta::assert_snapshot!(name, lines.replace("\r\n", "\n"));
    }
}

/// Output of each form for some recordings.
fn all_forms(report: &Report<'_>) -> [String; 5] {
    [
        written(|out| text::write(report, out)),
        written(|out| json::write(report, out)),
        written(|out| csv::write(report, out)),
        written(|out| markdown::write(report, out)),
        String::from_utf8({
            let mut out = Vec::new();
            html::write(report, &mut out).unwrap();
            out
        })
        .unwrap(),
    ]
}

#[test]
fn shares_add_up_to_one_and_means_to_what_was_created() {
    for snapshot in [fixture::short(), fixture::incident(120)] {
        with_report(&snapshot, Options::default(), |report| {
            let totals = &snapshot.summary().totals.counts;
            let seconds = snapshot.summary().window.seconds();
            for by in groupings() {
                let (lines, total) = report.lines(by, usize::MAX);
                assert_eq!(lines.len(), total);
                let shares: f64 = lines.iter().map(lines::Line::share).sum();
                assert!((shares - 1.0).abs() < 1e-9, "{by:?}: {shares}");
                for line in &lines {
                    let created = line.mean_per_s() * seconds;
                    assert!((created - line.counts().time_wait_created as f64).abs() < 1e-6, "{created}");
                    assert!(line.counts().created_peak_per_s as f64 >= line.mean_per_s().floor());
                }
                let created: u64 = lines.iter().map(|line| line.counts().time_wait_created).sum();
                assert_eq!(created, totals.time_wait_created);
            }
            // Over time it is the same.
            let timeline = Timeline::of(report.parts[0].model);
            assert_eq!(timeline.points.iter().map(|point| point.moment.created).sum::<u64>(), totals.time_wait_created);
            let length: f64 = timeline.points.iter().map(|point| point.seconds).sum();
            assert!((length - seconds).abs() < 1.0, "{length} {seconds}");
            for line in report.lines(GroupBy::Command, usize::MAX).0 {
                let lines::Subject::Group(row) = line.subject else { panic!("{} is a destination", line.name()) };
                let created: u64 = timeline.created(&row.series).into_iter().map(u64::from).sum();
                assert_eq!(created, line.counts().time_wait_created, "{}", line.name());
            }
        });
    }
}

#[test]
fn recordings_of_the_same_host_are_distinguished() {
    let (one, other) = (fixture::short(), fixture::incident(30));
    let infos =
        [("a/web.twt", &one), ("b/web.twt", &one), ("shop.twt", &other)].map(|(path, of)| fixture::info(path, of));
    let sources = [(&infos[0], &one), (&infos[1], &one), (&infos[2], &other)]
        .map(|(info, snapshot)| Source { info, model: snapshot });
    let report = Report::new(&sources, Options { by: GroupBy::Command, top: None });
    let hosts: Vec<&str> = report.parts.iter().map(|part| part.host.as_str()).collect();
    assert_eq!(hosts, ["web-1 (web.twt) (a/web.twt)", "web-1 (web.twt) (b/web.twt)", "shop-3"]);
    let [text, json, csv, markdown, html] = all_forms(&report);
    for form in [&text, &markdown, &html] {
        assert!(hosts.iter().all(|host| form.contains(host)), "{form}");
    }
    let json = parsed(&json);
    assert_eq!(json["recordings"].as_array().unwrap().len(), 3);
    let rows = json["groups"]["rows"].as_array().unwrap();
    for (path, host) in [("a/web.twt", "web-1"), ("b/web.twt", "web-1"), ("shop.twt", "shop-3")] {
        let of_it: Vec<_> = rows.iter().filter(|row| row["recording"] == path).collect();
        assert!(!of_it.is_empty() && of_it.iter().all(|row| row["host"] == host), "{path}");
        let shares: f64 = of_it.iter().map(|row| row["share"].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-9);
        assert!(csv.lines().any(|line| line.starts_with(&format!("{host},{path},"))));
    }
    let created = |row: &Value| row["time_wait_created"].as_u64().unwrap();
    assert!(rows.windows(2).all(|pair| created(&pair[0]) >= created(&pair[1])));
}

#[test]
fn what_is_missing_is_said_above_everything() {
    let snapshot = fixture::short();
    let info = Info { finished: false, segments_dropped: 3, ..fixture::info("web.twt", &snapshot) };
    let info = info.after(&[fixture::loss()], 1);
    let source = Source { info: &info, model: &snapshot };
    let report = Report::new(&[source], Options::default());
    assert_eq!(report.losses(), ["web.twt: connections-0002.parquet <b>bad</b>\\n\\x1b[2J| checksum"]);
    let [text, json, _, markdown, html] = all_forms(&report);
    let (read, all) = (info.connections, info.connections + 1);
    let first = text.lines().next().unwrap();
    assert!(first.ends_with(&format!("of the recorded connections: {read} of {all}")), "{first}");
    for form in [&text, &markdown, &html] {
        let place = |what: &str| form.find(what).unwrap_or_else(|| panic!("{what} is missing: {form}"));
        for said in ["connections-0002.parquet", "was not closed properly", "dropped 3 segments"] {
            assert!(place(said) < place("api created"), "{said}");
        }
    }
    let json = parsed(&json);
    let recording = &json["recordings"][0];
    assert_eq!((&recording["finished"], &recording["segments_dropped"]), (&false.into(), &3.into()));
    assert_eq!(recording["losses"][0]["file"], "connections-0002.parquet");
}

/// A line of Markdown without what is in code: between two equal runs of backticks.
pub(crate) fn without_code(line: &str) -> String {
    let mut outside = String::new();
    let mut rest = line;
    while let Some((before, from)) = rest.find('`').map(|at| rest.split_at(at)) {
        outside += before;
        let fence = &from[..from.len() - from.trim_start_matches('`').len()];
        let mut code = &from[fence.len()..];
        loop {
            let at = code.find('`').unwrap_or_else(|| panic!("unterminated code: {line}"));
            let run = code[at..].len() - code[at..].trim_start_matches('`').len();
            code = &code[at + run..];
            if run == fence.len() {
                break;
            }
        }
        rest = code;
    }
    outside + rest
}

#[test]
fn hostile_text_does_nothing_in_any_form() {
    let snapshot = fixture::hostile();
    let info = fixture::info("/tmp/<b>|`=x\n\u{1b}[2J.twt", &snapshot).after(&[fixture::loss()], 0);
    let source = Source { info: &info, model: &snapshot };
    for several in [false, true] {
        let sources = if several { vec![source, source] } else { vec![source] };
        for by in groupings() {
            let report = Report::new(&sources, Options { by, top: None });
            // A check when they are written ensures that every character is plain.
            let [_, json, csv, markdown, html] = all_forms(&report);
            parsed(&json);
            let mut reader = ::csv::Reader::from_reader(csv.as_bytes());
            for record in reader.records() {
                assert!(record.unwrap().iter().all(|cell| !cell.starts_with(['=', '+', '-', '@'])));
            }
            for line in markdown.lines() {
                // Outside of code, nothing is left of it.
                let outside = without_code(line);
                assert!(!outside.trim_start_matches("> **Warning:**").contains(['<', '[', '*', '@']), "{line}");
            }
            html::tests::assert_harmless(&html);
        }
    }
}

#[test]
fn nothing_is_reported_as_nothing() {
    let empty = snapshot_with_history(Vec::new());
    let begun = snapshot_with_history(vec![web::events().swap_remove(0)]);
    for snapshot in [empty, begun] {
        for by in groupings() {
            with_report(&snapshot, Options { by, top: None }, |report| {
                let [text, json, csv, markdown, html] = all_forms(report);
                for form in [text, markdown, html] {
                    assert!(
                        form.contains(NOTHING) && form.contains("socket that passes the filters was created"),
                        "{form}"
                    );
                    assert!(!form.contains("NaN") && !form.contains("inf/s"), "{form}");
                }
                assert_eq!(csv.lines().count(), 1);
                let json = parsed(&json);
                assert_eq!(json["processes"], serde_json::json!([]));
            });
        }
    }
}

/// These names are promised: those of `top --json`, and more. Add names, and never remove one.
#[test]
fn field_names_are_pinned() {
    let options = Options { by: GroupBy::Command, top: None };
    let json = with_report(&fixture::short(), options, |report| written(|out| json::write(report, out)));
    assert_eq!(json.lines().count(), 1);
    let json = parsed(&json);
    let has = |value: &Value, names: &str| {
        for name in names.split(' ') {
            assert!(value.get(name).is_some(), "{name} is not in {value}");
        }
    };
    has(&json, "schema recordings processes processes_total groups destinations destinations_total timeline findings");
    let recording = &json["recordings"][0];
    has(recording, "recording id start end connections bytes finished segments_dropped losses");
    has(recording, "host window tracing kernel namespaces coverage totals");
    has(&recording["host"], "hostname kernel boot_id");
    let figures = "opened accepted closed_first closed_last reset time_wait_created time_wait_live created_per_s \
                   lifetime_ms errors created_peak_per_s mean_per_s time_wait_live_peak share bytes_per_connection";
    has(&recording["totals"], figures);
    for row in [&json["processes"][0], &json["groups"]["rows"][0], &json["destinations"][0]] {
        has(row, figures);
        has(row, "host recording");
        has(&row["lifetime_ms"], "p50 p90 p99");
    }
    has(&json["processes"][0], "pid command exe cmdline destinations");
    has(&json["destinations"][0], "netns role local_addr remote_addr port ports");
    has(
        &json["timeline"][0],
        "host recording time seconds time_wait_created time_wait_overflow connections errors kernel_time_wait \
         time_wait_live",
    );
    has(&json["failures"][0], "host recording pid command call errno cause is_time_wait count first last port");
    has(&json["findings"][0], "host recording id severity active title process destination cause evidence advice");
    assert_eq!(json["findings"][0]["recording"], "/var/lib/web.twt");
    assert_eq!(json["destinations"][0]["share"].as_f64().unwrap(), 120.0 / 235.0);
    assert_eq!(json["destinations"][0]["bytes_per_connection"], 2100.0);
}
