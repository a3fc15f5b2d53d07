//! Each scenario of real software gives its finding, and no other; its remedy takes it away, and does what was
//! predicted.
//!
//! `TWTRACE_SCENARIO` chooses scenarios by a part of their name; `TWTRACE_DUMPS` names a file that what the tracer saw is
//! added to.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "figures for whoever runs the test")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;

use serde_json::Value;
use twtrace_core::finding::Rule;
use twtrace_tests::require::skip;
use twtrace_tests::scenarios::play::{Played, play};
use twtrace_tests::scenarios::{Expected, Run, Scenario, Who, dump, effect, read};
use twtrace_tests::software::installed;

/// What was found in one run, by id.
struct Line {
    name: String,
    expected: Option<String>,
    found: BTreeSet<String>,
}

/// All that was seen, and all that is wrong with it.
#[derive(Default)]
struct Table {
    lines: Vec<Line>,
    wrong: Vec<String>,
}

impl Table {
    /// Plays a run and notes what was found.
    fn play(&mut self, scenario: &Scenario, when: &str, run: &Run) -> Played {
        let played = play(run);
        let name = format!("{}, {when}", scenario.name);
        if let Ok(path) = std::env::var("TWTRACE_DUMPS") {
            let text = format!("== {name}\n{}\n", dump::of(&played));
            File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        let mut wrong = check(run.expected.as_ref(), &played);
        if !wrong.is_empty() {
            wrong.push(dump::of(&played));
        }
        self.wrong.extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
        let found = [&played.during, &played.end].into_iter().flat_map(findings);
        let found = found.map(|finding| finding["id"].as_str().unwrap().to_owned()).collect();
        let expected = run.expected.as_ref().map(|expected| expected.id.clone());
        self.lines.push(Line { name, expected, found });
        played
    }

    fn print(&self) {
        let ids: Vec<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        for (number, id) in ids.iter().enumerate() {
            println!("{:45}{}{id}", "", "| ".repeat(number));
        }
        for line in &self.lines {
            let mark = |id: &&str| match (line.expected.as_deref() == Some(*id), line.found.contains(*id)) {
                (true, true) => "x ",
                (true, false) => "- ",
                (false, true) => "! ",
                (false, false) => ". ",
            };
            println!("{:45}{}", line.name, ids.iter().map(mark).collect::<String>());
        }
        println!("x: found as expected, -: missed, !: wrong");
    }
}

/// Those of the tracer's own namespace: other tests may run in others at the same time. What has no place belongs to all.
fn findings(report: &Value) -> impl Iterator<Item = &Value> {
    let netns = &report["host"]["netns"];
    let is_here = move |finding: &&Value| finding["destination"].is_null() || &finding["destination"]["netns"] == netns;
    report["findings"].as_array().unwrap().iter().filter(is_here)
}

/// The one finding that is expected, where it is all that was found.
fn the_one<'a>(expected: &Expected, report: &'a Value) -> Option<&'a Value> {
    findings(report).find(|finding| finding["id"] == expected.id && finding["holds"] == true)
}

/// What is wrong with the findings of a run.
fn check(expected: Option<&Expected>, played: &Played) -> Vec<String> {
    let mut wrong = Vec::new();
    for (when, report) in [("while it ran", &played.during), ("after it", &played.end)] {
        for finding in findings(report).filter(|finding| expected.is_none_or(|it| finding["id"] != it.id)) {
            wrong.push(format!("{when}, found as well: {finding}"));
        }
    }
    let Some(expected) = expected else { return wrong };
    let Some(finding) = the_one(expected, &played.during) else {
        wrong.push(format!("no {}", expected.id));
        return wrong;
    };
    let number = findings(&played.during).filter(|finding| finding["id"] == expected.id).count();
    if number != 1 {
        wrong.push(format!("found {number} times"));
    }
    let (process, destination) = (&finding["process"], &finding["destination"]);
    let of_load = process["pid"].is_null() && process["ppid"] == played.load;
    let is_right = match &expected.who {
        Who::ChildOfLoad => {
            process["pid"].is_u64() && process["ppid"] == played.load && process["command"] == expected.command
        }
        Who::ChildrenOfLoad => {
            of_load && process["parent_command"] == expected.command && process["processes"].as_u64() > Some(100)
        }
        Who::WorkersOfLoad(number) => {
            of_load && process["command"] == expected.command && process["processes"] == *number
        }
        _ => process["pid"].as_u64().map(|pid| pid as u32) == played.who && process["command"] == expected.command,
    };
    let port = destination["port"].as_u64().unwrap_or(0) as u16;
    for (what, is_right) in [
        ("process", is_right),
        ("role", destination["role"].as_str() == expected.role.as_deref()),
        ("port", destination.is_null() || expected.ports.contains(&port)),
        ("local address", destination.is_null() || destination["local_addr"] == expected.local_addr),
        ("cause", finding["cause"].as_str() == expected.cause.as_deref()),
        (
            "advice",
            finding["advice"][0]["id"].as_str().is_some_and(|id| expected.advice.iter().any(|advice| advice == id)),
        ),
        ("recheck", finding["recheck"].as_str().is_some_and(|recheck| !recheck.is_empty())),
    ] {
        if !is_right {
            wrong
                .push(format!("wrong {what}, not {expected:?}, load {}, who {:?}: {finding}", played.load, played.who));
        }
    }
    wrong
}

/// What is wrong with the effect that the advice predicted.
fn effects(expected: &Expected, run: &Run, before: &Played, after: &Played) -> Vec<String> {
    let Some(finding) = the_one(expected, &before.during) else { return Vec::new() };
    let remedy = expected.remedy.as_deref().unwrap();
    let mut advice = finding["advice"].as_array().unwrap().iter();
    let Some(advice) = advice.find(|advice| advice["id"] == remedy) else {
        return vec![format!("no advice {remedy}: {finding}")];
    };
    let compared = effect::compare(advice, expected, before, after, run);
    for figure in &compared {
        println!("    {remedy}: {figure}");
    }
    if compared.is_empty() {
        return vec![format!("no figure of it can be measured: {advice}")];
    }
    compared.iter().filter(|figure| !figure.agrees()).map(ToString::to_string).collect()
}

#[test]
fn scenarios_and_findings() {
    let only = std::env::var("TWTRACE_SCENARIO").unwrap_or_default();
    let scenarios = read::all().unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut table = Table::default();
    for scenario in scenarios.iter().filter(|scenario| scenario.name.contains(&only)) {
        if let Some(missing) = scenario.programs.iter().find(|program| installed(program).is_none()) {
            skip(missing, "it is not installed");
            continue;
        }
        println!("{}", scenario.name);
        let before = table.play(scenario, "before", &scenario.before);
        let Some(run) = &scenario.after else { continue };
        let after = table.play(scenario, "after", run);
        if let Some(expected) = &scenario.before.expected {
            let wrong = effects(expected, run, &before, &after);
            table.wrong.extend(wrong.into_iter().map(|wrong| format!("{}: effect: {wrong}", scenario.name)));
        }
    }
    table.print();
    assert!(!table.lines.is_empty(), "no scenario could be played");
    assert!(table.wrong.is_empty(), "{}", table.wrong.join("\n"));
}
