//! `twtrace export` and the queries of docs/recording.md, on a recording of known events.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::python::{Program, rows};
use crate::common::recorded::{HOSTILE, LENGTH, SECOND, recorded};
use serde_json::{Value, json};
use twtrace_recording::export::Table;
use twtrace_testkit::START_UNIX_NS;
use twtrace_tests::tracer::program;

const DOCS: &str = include_str!("../../../docs/recording.md");

/// What the queries must answer.
fn truth() -> BTreeMap<&'static str, Vec<Vec<Value>>> {
    let hostile = std::str::from_utf8(HOSTILE).unwrap();
    let (seconds, curls, handled) = (LENGTH as f64, LENGTH as f64 / 10.0, LENGTH as f64 / 60.0);
    let mut creators = vec![vec![json!(300.0), json!("api"), json!(seconds)]];
    creators.push(vec![json!(601.0), json!(hostile), json!(handled)]);
    creators.extend((1..=8).map(|curl| vec![json!(2000.0 + 10.0 * f64::from(curl)), json!("curl"), json!(3.0)]));
    let churn = (1..=LENGTH).map(|second| {
        let curl = if second % 10 == 0 { 3.0 } else { 0.0 };
        let handler = if second % 60 == 0 { 1.0 } else { 0.0 };
        vec![json!((START_UNIX_NS as u64 / SECOND + second - 1) as f64), json!(1.0 + curl + handler)]
    });
    let available = 60_999.0 - 32_768.0 + 1.0 - 2.0;
    let lifetime = |name: &str, number: f64, p50: f64, max: f64| {
        vec![json!(name), json!(number), json!(4.0 * p50 / 1000.0), json!(4.0 * max / 1000.0)]
    };
    // Of an even number of values, the lower of the two in the middle.
    let median = 1000.0 + (seconds / 2.0).floor();
    BTreeMap::from([
        ("creators", creators),
        (
            "scripts",
            vec![
                vec![json!("systemd"), json!("app"), json!(1.0), json!(seconds)],
                vec![json!("cron.sh"), json!("deploy"), json!(curls), json!(3.0 * curls)],
                vec![json!("listener"), json!("app"), json!(1.0), json!(handled)],
            ],
        ),
        ("churn", churn.collect()),
        (
            "ports",
            vec![
                vec![json!("10.0.1.2"), json!(5432.0), json!(60.0), json!(available)],
                vec![json!("10.0.1.1"), json!(443.0), json!(18.0), json!(available)],
            ],
        ),
        (
            "lifetimes",
            vec![
                lifetime(hostile, handled, 3000.0, 3000.0),
                lifetime("api", seconds, median, 1000.0 + seconds),
                lifetime("curl", 3.0 * curls, 500.0, 500.0),
                lifetime("nginx", seconds / 5.0, 2000.0, 2000.0),
            ],
        ),
        ("handed_over", vec![vec![json!("listener"), json!(600.0), json!(hostile), json!(601.0), json!(handled)]]),
        ("losses", vec![vec![json!(3.0 * (seconds / 100.0)), json!(6.0)]]),
    ])
}

fn twtrace(folder: &Path, line: &str) -> Output {
    Command::new(program("twtrace")).args(line.split_whitespace()).current_dir(folder).output().unwrap()
}

fn export(folder: &Path, line: &str) {
    let output = twtrace(folder, &format!("export incident.twt {line}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{line}: {said}");
}

/// The fenced blocks to run: by name, with the line of the fence.
fn blocks() -> Vec<(String, usize, Program)> {
    let mut blocks = Vec::new();
    let mut lines = DOCS.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let Some(fence) = line.strip_prefix("```") else { continue };
        let code: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        if let [language, "test", name] = fence.split(' ').collect::<Vec<_>>()[..] {
            let program = Program { language: language.to_owned(), code: code.join("\n") };
            blocks.push((name.to_owned(), index + 1, program));
        }
    }
    blocks
}

#[test]
fn documented_queries_return_what_happened() {
    let folder = recorded();
    export(folder.path(), "--format parquet -o incident.parquet");
    let segments = fs::read_dir(folder.path().join("incident.twt")).unwrap();
    let names = segments.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.filter(|name| name.starts_with("connections-")).count() > 1, "one segment alone proves little");
    let (truth, blocks) = (truth(), blocks());
    let programs: Vec<Program> = blocks.iter().map(|(.., program)| program.clone()).collect();
    let answers = rows(folder.path(), &programs);
    for ((name, line, program), answer) in blocks.iter().zip(answers) {
        let answer = answer.unwrap_or_else(|error| panic!("docs/recording.md, line {line}: {error}"));
        assert_eq!(answer, truth[name.as_str()], "docs/recording.md, line {line} ({})", program.language);
    }
    for name in truth.keys() {
        assert_eq!(blocks.iter().filter(|(of, ..)| of == name).count(), 3, "{name} for each of three tools");
    }
}

/// The documented columns of a table, with their types.
fn documented(table: &str) -> BTreeSet<(String, String)> {
    let section = DOCS.split(&format!("\n## {table}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let mut columns = BTreeSet::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let names: Vec<&str> =
            cells[0].trim_start_matches("| ").split(['`', ',', ' ', '…']).filter(|name| !name.is_empty()).collect();
        let is_range = cells[0].contains('…');
        if is_range {
            columns.extend((1..=7).map(|number| (format!("step{number}_us"), cells[1].to_owned())));
        } else {
            columns.extend(names.iter().map(|name| ((*name).to_owned(), cells[1].to_owned())));
        }
    }
    columns
}

#[test]
fn every_column_is_documented() {
    let folder = recorded();
    let tables = Table::ALL.map(Table::name);
    let describe = |table: &str| Program {
        language: "sql".to_owned(),
        code: format!("DESCRIBE FROM 'incident.twt/{table}-*.parquet'"),
    };
    let described = rows(folder.path(), &tables.map(describe));
    for (table, rows) in tables.into_iter().zip(described) {
        let of_file: BTreeSet<(String, String)> = rows
            .unwrap()
            .iter()
            .map(|row| {
                let is = match row[1].as_str().unwrap() {
                    "UBIGINT" => "u64",
                    "UINTEGER" => "u32",
                    "USMALLINT" => "u16",
                    "UTINYINT" => "u8",
                    "VARCHAR" => "text",
                    "BOOLEAN" => "bool",
                    "BLOB" => "bytes",
                    "TIMESTAMP WITH TIME ZONE" => "time",
                    other => panic!("{table} has a column of {other}"),
                };
                (row[0].as_str().unwrap().to_owned(), is.to_owned())
            })
            .collect();
        assert_eq!(documented(table), of_file, "{table}");
    }
}

#[test]
fn all_forms_have_the_same_rows() {
    let folder = recorded();
    for table in Table::ALL.map(Table::name) {
        for form in ["parquet", "csv", "jsonl"] {
            export(folder.path(), &format!("--format {form} --table {table} -o {table}.{form}"));
        }
        let to_stdout = twtrace(folder.path(), &format!("export incident.twt --format csv --table {table}"));
        assert_eq!(to_stdout.stdout, fs::read(folder.path().join(format!("{table}.csv"))).unwrap());
    }
    let count =
        |of: &str, readers: &str| Program { language: "sql".to_owned(), code: format!("SELECT {of} FROM {readers}") };
    let of = "count(*), count(DISTINCT seq), sum(bytes_received), count(closer_uid), count(opener_cmdline)";
    let programs = [
        count(of, "'connections.parquet'"),
        count(of, "read_csv('connections.csv')"),
        count(of, "read_json('connections.jsonl')"),
        count("count(*), count(port_low), sum(time_wait)", "'kernel.parquet'"),
        count("count(*), count(port_low), sum(time_wait)", "read_csv('kernel.csv')"),
        count("count(*), count(port_low), sum(time_wait)", "read_json('kernel.jsonl')"),
        count("count(*)", "'host.parquet' WHERE kind = 'start'"),
        count("count(DISTINCT id), count(cmdline)", "'processes.parquet'"),
        count("count(*)", "'sockets.parquet'"),
        count("any_value(closer_cmdline)", "'connections.parquet' WHERE closer_pid = 601"),
    ];
    let answers: Vec<Vec<Vec<Value>>> = rows(folder.path(), &programs).into_iter().map(Result::unwrap).collect();
    let ended = (LENGTH + 3 * LENGTH / 10 + LENGTH / 5 + LENGTH / 60) as f64;
    let connections = ended + 3.0;
    // Each segment has what `/proc` said about its processes.
    let commanded = LENGTH as f64 + 3.0;
    let row = vec![json!(connections), json!(connections), json!(2000.0 * ended), json!(ended), json!(commanded)];
    assert_eq!(answers[..3], vec![vec![row]; 3]);
    assert_eq!(answers[3], answers[4]);
    assert_eq!(answers[3], answers[5]);
    assert_eq!(answers[6], [[json!(1.0)]], "what segments repeat is there once");
    assert_eq!(answers[7][0][1], json!(2.0));
    assert_eq!(answers[8], [[json!(0.0)]]);
    assert_eq!(answers[9], [[json!("=handler \u{1b}]0;x\u{7}\u{202e}")]], "Parquet has it unchanged");

    let text = |form: &str| fs::read_to_string(folder.path().join(format!("connections.{form}"))).unwrap();
    for form in ["csv", "jsonl"] {
        let hidden = text(form).chars().find(|letter| letter.is_control() && *letter != '\n' || *letter == '\u{202e}');
        assert_eq!(hidden, None, "{form}");
    }
    assert!(text("csv").contains(",'=handler \\x1b]0;x\\x07\\u{202e}"), "a formula is disarmed");
    assert!(text("jsonl").contains("\"=handler \\u001b]0;x\\u0007\\u202e\""), "JSON has the same, escaped");
}

#[test]
fn from_and_to_select_a_span_of_time() {
    let folder = recorded();
    let lines = |arguments: &str| {
        let output = twtrace(folder.path(), &format!("export incident.twt --format jsonl {arguments}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().count() as u64
    };
    let all = lines("");
    assert_eq!(lines("--from +60s --to +120s"), 60 + 18 + 12 + 1);
    assert_eq!(lines("--to +60s") + lines("--from +60s"), all);
    assert_eq!(lines("--from -1m --table ticks"), 60 + 1, "the last minute, its first moment included");
    let output = twtrace(folder.path(), "export incident.twt --format csv --from +1h");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("is too late"));
}

#[test]
fn failed_export_leaves_no_file() {
    let folder = recorded();
    let refused = |line: &str, says: &str| {
        let output = twtrace(folder.path(), line);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(said.lines().count() == 1 && said.contains(says), "{line}: {said}");
    };
    refused("export incident.twt --format csv -o /dev/null", "is not a file");
    refused("export incident.twt --format csv -o incident.twt/all.csv", "inside of the recording");
    refused("export incident.twt --format csv -o nowhere/all.csv", "cannot write to nowhere");
    refused("export incident.twt --format csv --table processes --to +1s", "no time of their own");
    refused("export missing.twt --format csv", "missing.twt");
    let names = || fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names(), ["incident.twt"], "nothing was left behind");
    // An existing file is replaced atomically.
    fs::write(folder.path().join("all.csv"), "old").unwrap();
    export(folder.path(), "--format csv -o all.csv");
    assert!(fs::read_to_string(folder.path().join("all.csv")).unwrap().starts_with("seq,time,"));
    assert_eq!(names().len(), 2);
}
