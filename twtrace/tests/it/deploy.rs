//! What `deploy/` contains fits the program: arguments are valid, and every metric that is named exists.

use clap::Parser as _;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use twtrace::cli::{Cli, Command};

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Checks the arguments of an agent.
fn assert_is_valid(arguments: &[String]) {
    let cli = Cli::try_parse_from(["twtrace".to_owned()].iter().chain(arguments));
    assert!(matches!(cli, Ok(Cli { command: Command::Agent(_) })), "{arguments:?}: {cli:?}");
}

#[test]
fn arguments_of_the_agents_are_valid() {
    let unit = file("deploy/systemd/twtrace-agent.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/twtrace ")).unwrap();
    let options = unit.lines().find_map(|line| line.strip_prefix("Environment=\"OPTIONS=")).unwrap();
    let line =
        start.replace("${STATE_DIRECTORY}", "/var/lib/twtrace").replace("$OPTIONS", options.trim_end_matches('"'));
    assert_is_valid(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());

    let pod = file("deploy/kubernetes/daemonset.yaml");
    let after = pod.split("args:\n").nth(1).unwrap();
    let arguments = after.lines().map_while(|line| line.trim().strip_prefix("- ").map(str::to_owned));
    assert_is_valid(&arguments.collect::<Vec<_>>());

    let job = file("deploy/nomad/twtrace.nomad.hcl");
    let list = job.split("args = [").nth(1).unwrap().split(']').next().unwrap();
    // What is between quotes.
    assert_is_valid(&list.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
}

/// Names that begin with `twtrace_`.
fn metrics(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("twtrace_") {
        // The last part of a recording rule's name, after a colon, is not a metric.
        let before = text[..at].chars().next_back();
        let end =
            text[at..].find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(text.len() - at);
        if before != Some(':') {
            names.insert(&text[at..at + end]);
        }
    }
    names
}

#[test]
fn rules_and_dashboard_name_metrics_that_exist() {
    let documented = file("docs/metrics.md");
    for name in ["prometheus/twtrace.rules.yml", "prometheus/twtrace.rules.test.yml", "grafana/twtrace.json"] {
        let text = file(&format!("deploy/{name}"));
        let named = metrics(&text);
        assert!(named.len() >= 5, "{name}");
        for metric in named {
            assert!(documented.contains(&format!("`{metric}`")), "{name} names {metric}, which does not exist");
        }
    }
    let rules = file("deploy/prometheus/twtrace.rules.yml");
    for finding in ["exhaustion-reached", "bound-pool-exhausted", "close-wait-leak", "not-accepting"] {
        let rule: Result<twtrace_core::finding::Rule, _> = finding.parse();
        assert!(rule.is_ok() && rules.contains(finding), "{finding}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&file("deploy/grafana/twtrace.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let expression = panel["targets"][0]["expr"].as_str().unwrap();
        for rule in expression.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_:".contains(letter)) {
            if rule.contains(':') {
                assert!(rules.contains(&format!("record: {rule}\n")), "{expression} uses {rule}");
            }
        }
    }
}
