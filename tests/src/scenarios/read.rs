//! Scenarios from their files.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;
use toml::Spanned;

use super::{Expected, Load, Run, Scenario, Server, Start, Who};
use crate::software::Postgres;

/// Where the files are.
pub fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
}

/// All scenarios, in the order of their files' names.
///
/// # Errors
/// What is wrong with each file that is malformed, with its name and the line.
pub fn all() -> Result<Vec<Scenario>, String> {
    let (mut scenarios, mut wrong) = (Vec::new(), Vec::new());
    for path in files().map_err(|error| format!("{}: {error}", folder().display()))? {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        match parse(&text) {
            Ok(scenario) => scenarios.push(scenario),
            Err((line, what)) => wrong.push(format!("{}:{line}: {what}", path.display())),
        }
    }
    if wrong.is_empty() { Ok(scenarios) } else { Err(wrong.join("\n")) }
}

fn files() -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder())? {
        files.push(entry?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

/// A file. Settings at the top level apply to both runs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    programs: Vec<String>,
    #[serde(default)]
    sysctls: BTreeMap<String, String>,
    #[serde(default)]
    servers: Vec<Server>,
    load: Option<Load>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    seconds: Option<u64>,
    #[serde(default = "yes")]
    late: bool,
    before: Spanned<Part>,
    after: Option<Spanned<Part>>,
}

fn yes() -> bool {
    true
}

/// The settings of one run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    #[serde(default)]
    sysctls: BTreeMap<String, String>,
    #[serde(default)]
    servers: Vec<Server>,
    load: Option<Load>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    seconds: Option<u64>,
    #[serde(default)]
    expected: Vec<Expected>,
}

/// Parses a scenario. The error is the line and what is wrong there.
fn parse(text: &str) -> Result<Scenario, (usize, String)> {
    let line = |at: Range<usize>| text[..at.start].matches('\n').count() + 1;
    let file: File = toml::from_str(text)
        .map_err(|error| (error.span().map_or(1, line), error.message().trim_end().replace('\n', "; ")))?;
    let run = |part: &Spanned<Part>| {
        let run = file.run(part.get_ref()).ok_or("it has no load, nor has the file")?;
        faults(&run).map_or(Ok(run), Err)
    };
    let run = |part: &Spanned<Part>| run(part).map_err(|what| (line(part.span()), what.to_owned()));
    let before = run(&file.before)?;
    let after = file.after.as_ref().map(run).transpose()?;
    let has_remedy = before.expected.is_empty() || before.expected.iter().any(|expected| expected.remedy.is_some());
    if after.is_some() && !has_remedy {
        return Err((
            line(file.before.span()),
            "what is expected has no remedy, but there is a run after it".to_owned(),
        ));
    }
    Ok(Scenario { name: file.name.clone(), programs: file.programs.clone(), before, after, is_seen_late: file.late })
}

impl File {
    /// A run with its own settings and those for both.
    fn run(&self, part: &Part) -> Option<Run> {
        let both = |all: &BTreeMap<String, String>, own: &BTreeMap<String, String>| {
            all.iter().chain(own).map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        Some(Run {
            sysctls: both(&self.sysctls, &part.sysctls),
            servers: [&self.servers[..], &part.servers].concat(),
            load: part.load.as_ref().or(self.load.as_ref())?.clone(),
            env: both(&self.env, &part.env),
            seconds: part.seconds.or(self.seconds),
            expected: part.expected.clone(),
        })
    }
}

/// What a run refers to but does not have.
fn faults(run: &Run) -> Option<&'static str> {
    let has_postgres = run.servers.iter().any(|server| matches!(server.start, Start::Postgres));
    let names_a_server = |expected: &Expected| match &expected.who {
        Who::Server(name) | Who::WorkerOf(name) => run.servers.iter().any(|server| server.name == *name),
        _ => true,
    };
    let lists_its_remedy =
        |expected: &Expected| expected.remedy.as_ref().is_none_or(|remedy| expected.advice.contains(remedy));
    let faults = [
        (
            run.servers.iter().any(|server| matches!(server.start, Start::Postgres) && server.port != Postgres::PORT),
            "PostgreSQL has another port here: 5499",
        ),
        (matches!(run.load, Load::Pgbench(_)) && !has_postgres, "pgbench needs the server postgres"),
        (
            matches!(&run.load, Load::Python(file) if !folder().join(file).is_file()),
            "the Python script is not beside this file",
        ),
        (!run.expected.iter().all(names_a_server), "`who` names no server of this run"),
        (!run.expected.iter().all(lists_its_remedy), "the remedy is not listed as advice"),
    ];
    faults.into_iter().find_map(|(is_wrong, what)| is_wrong.then_some(what))
}

#[cfg(test)]
mod tests {
    use twtrace_core::finding::Rule;

    use super::*;

    const TEXT: &str = r#"name = "a name"
programs = ["redis-server"]
load.argv = ["client", "{folder}"]

[[servers]]
name = "redis"
port = 6399
start.argv = ["redis-server"]

[before]
env.POOL = "no"

[[before.expected]]
id = "no-connection-reuse"
who.server = "redis"
command = "redis-server"
advice = ["keep-alive"]
remedy = "keep-alive"

[after]
seconds = 7
"#;

    #[test]
    fn settings_at_the_top_level_apply_to_both_runs() {
        let scenario = parse(TEXT).unwrap_or_else(|error| panic!("{error:?}"));
        let names: Vec<&str> = scenario.runs().flat_map(|run| &run.servers).map(|server| &*server.name).collect();
        assert_eq!(names, ["redis", "redis"]);
        assert_eq!(
            scenario.runs().map(|run| (run.env.len(), run.seconds)).collect::<Vec<_>>(),
            [(1, None), (0, Some(7))]
        );
    }

    #[test]
    fn error_is_reported_with_its_line() {
        for (from, to, line, what) in [
            ("programs", "programme", 2, "unknown field `programme`"),
            ("port = 6399", "port = 99999", 7, "u16"),
            ("port = 6399", "port = ", 7, "value"),
            ("port = 6399\n", "", 5, "missing field `port`"),
            ("start.argv", "start.apache", 8, "unknown variant `apache`"),
            ("command", "comand", 16, "unknown field `comand`"),
            ("who.server", "who.serve", 15, "unknown variant `serve`"),
            ("load.argv", "load.wrk", 3, "expected u16"),
            ("load.argv = [\"client\", \"{folder}\"]\n", "", 9, "no load"),
            ("load.argv = [\"client\", \"{folder}\"]", "load.python = \"none.py\"", 10, "not beside"),
            ("load.argv", "load.pgbench", 10, "needs the server"),
            ("who.server = \"redis\"", "who.server = \"web\"", 10, "names no server"),
            ("remedy = \"keep-alive\"", "remedy = \"patience\"", 10, "not listed"),
            ("remedy = \"keep-alive\"\n", "", 10, "no remedy"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let (found, error) = parse(&TEXT.replacen(from, to, 1)).expect_err(to);
            assert!(error.contains(what) && !error.contains('\n'), "{to}: {error}");
            assert_eq!(found, line, "{to}: {error}");
        }
    }

    #[test]
    fn run_without_a_heading_begins_at_its_first_table() {
        let text = TEXT.replace("[before]\nenv.POOL = \"no\"\n\n", "");
        let error = parse(&text.replace("who.server = \"redis\"", "who.server = \"web\"")).expect_err("no such server");
        assert_eq!(error, (10, "`who` names no server of this run".to_owned()));
    }

    #[test]
    fn example_in_the_readme_parses() {
        let readme = fs::read_to_string(folder().join("README.md")).unwrap_or_else(|error| panic!("{error}"));
        let example = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        let scenario = parse(example.unwrap_or_default()).unwrap_or_else(|error| panic!("{error:?}"));
        assert!(scenario.after.is_some());
    }

    #[test]
    fn every_scenario_file_parses_and_names_known_rules_and_listed_advice() {
        let scenarios = all().unwrap_or_else(|error| panic!("{error}"));
        assert!(!scenarios.is_empty());
        for scenario in &scenarios {
            let name = &scenario.name;
            assert_eq!(scenarios.iter().filter(|other| other.name == *name).count(), 1, "{name} twice");
            for expected in scenario.runs().flat_map(|run| &run.expected) {
                for id in [&expected.id].into_iter().chain(&expected.cause) {
                    assert!(Rule::ALL.iter().any(|rule| rule.name() == id), "{name}: no rule {id}");
                }
                assert!(expected.remedy.iter().all(|remedy| expected.advice.contains(remedy)), "{name}: {expected:?}");
            }
        }
    }
}
