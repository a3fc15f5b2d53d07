//! Recordings of three hosts: the dataset, the queries of docs/fleet.md, and the report over all of them say what
//! happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::python::{Program, rows};
use serde_json::{Value, json};
use tempfile::TempDir;
use twtrace_core::event::Role;
use twtrace_recording::writer::{Recorder, WriteOptions};
use twtrace_testkit::fleet::{BEGIN_US, DEPLOY, HOSTS, PORTS_OF_007, Socket, WAY_US, events, sockets};
use twtrace_tests::require::skip;
use twtrace_tests::tracer::program;

const DOCS: &str = include_str!("../../../docs/fleet.md");

/// Names of the recordings in the document, in the order of the hosts.
const NAMES: [&str; 3] = ["007.twt", "web.twt", "db-9.twt"];

/// Ports of a host with the usual range.
const USUAL_PORTS: u64 = 60_999 - 32_768 + 1;

/// Runs queries in Spark.
const SPARK: &str = include_str!("common/spark.py");

/// A block of code of the document: what follows its language, the line of its fence, and its text.
struct Block {
    what: Vec<&'static str>,
    line: usize,
    code: String,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = DOCS.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let Some(fence) = line.strip_prefix("```") else { continue };
        let code: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        blocks.push(Block { what: fence.split(' ').collect(), line: index + 1, code: code.join("\n") });
    }
    blocks
}

/// The block for this.
fn block(what: &[&str]) -> String {
    blocks().into_iter().find(|block| block.what == what).unwrap_or_else(|| panic!("no block of {what:?}")).code
}

/// The queries by name, with their lines.
fn queries() -> Vec<(&'static str, usize, String)> {
    let query = |block: Block| match block.what[..] {
        ["sql", "test", name] => Some((name, block.line, block.code)),
        _ => None,
    };
    blocks().into_iter().filter_map(query).collect()
}

/// A folder with the recordings, exported as the document says.
fn exported() -> TempDir {
    let mut folder = TempDir::new().unwrap();
    folder.disable_cleanup(std::env::var_os("TWTRACE_KEEP").is_some());
    for (host, name) in NAMES.iter().enumerate() {
        let mut recorder = Recorder::create(&folder.path().join(name), WriteOptions::default()).unwrap();
        events(host).iter().for_each(|event| recorder.record(event).unwrap());
        recorder.finish().unwrap();
    }
    export(folder.path());
    folder
}

/// Runs the command of the document.
fn export(folder: &Path) {
    let code = block(&["sh", "test", "export"]);
    let line = code.strip_prefix("twtrace ").unwrap();
    let (out, code) = twtrace(folder, line);
    assert!(code == 0 && out.is_empty(), "{line}: {out}");
}

/// What it writes to either output, and its exit code.
fn twtrace(folder: &Path, line: &str) -> (String, i32) {
    let output = Command::new(program("twtrace")).args(line.split_whitespace()).current_dir(folder).output().unwrap();
    (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.code().unwrap())
}

/// Answers of DuckDB to queries of the document or like them.
fn duckdb(folder: &Path, queries: &[&str]) -> Vec<Result<Vec<Vec<Value>>, String>> {
    let setup = [block(&["sql", "setup", "duckdb"]), block(&["sql", "setup", "both"])].concat();
    let program = |query: &&str| Program { language: "sql".to_owned(), code: format!("{setup}\n{query}") };
    rows(folder, &queries.iter().map(program).collect::<Vec<_>>())
}

fn name(socket: &Socket) -> Option<&'static str> {
    socket.who.map(|who| who.program)
}

/// Rows by what they have in common, with how many sockets there are.
fn grouped<K: Ord>(of: impl Iterator<Item = Socket>, key: impl Fn(&Socket) -> K) -> BTreeMap<K, Vec<Socket>> {
    let mut groups: BTreeMap<K, Vec<Socket>> = BTreeMap::new();
    of.for_each(|socket| groups.entry(key(&socket)).or_default().push(socket));
    groups
}

fn created() -> impl Iterator<Item = Socket> {
    sockets().into_iter().filter(|socket| socket.created)
}

fn hosts_of(sockets: &[Socket]) -> usize {
    sockets.iter().map(|socket| socket.host).collect::<BTreeSet<_>>().len()
}

/// Numbers are compared as floating point.
fn number(number: usize) -> Value {
    json!(number as f64)
}

/// Addresses and ports, as the side that connected has them, and what ended near to it.
type Tuple = (String, u16, String, u16);

fn from_the_client(socket: &Socket) -> Tuple {
    let tuple = socket.tuple;
    let (local, remote) = ((tuple.local_addr, tuple.local_port), (tuple.remote_addr, tuple.remote_port));
    let (client, server) = if socket.role == Role::Active { (local, remote) } else { (remote, local) };
    (client.0.to_string(), client.1, server.0.to_string(), server.1)
}

/// Both ends of each connection within the fleet, by the true time.
fn pairs() -> Vec<(Socket, Socket)> {
    let true_us = |socket: &Socket| socket.end_us - HOSTS[socket.host].ahead_us;
    let by_tuple = grouped(sockets().into_iter(), from_the_client);
    let mut pairs = Vec::new();
    for ends in by_tuple.into_values() {
        let (clients, servers): (Vec<Socket>, Vec<Socket>) = ends.into_iter().partition(|end| end.role == Role::Active);
        for client in clients {
            let is_other = |server: &&Socket| (true_us(server) - true_us(&client)).abs() == WAY_US;
            pairs.extend(servers.iter().find(is_other).map(|server| (client, *server)));
        }
    }
    pairs
}

/// How far the server's clock is ahead of the client's, as packets show it, milliseconds.
fn ahead_ms(client: &Socket, server: &Socket) -> f64 {
    (server.end_us - client.end_us) as f64 / 1000.0
}

/// What each query must answer, but for the order.
fn truth() -> BTreeMap<&'static str, Vec<Vec<Value>>> {
    let churners = grouped(created(), name);
    let by_host = grouped(created(), |socket| {
        (socket.host, socket.who.and_then(|who| who.unit), socket.who.and_then(|who| who.container))
    });
    let destinations = grouped(sockets().into_iter(), |socket| match socket.role {
        Role::Passive => ("passive", socket.tuple.local_addr, socket.tuple.local_port),
        _ => ("active", socket.tuple.remote_addr, socket.tuple.remote_port),
    });
    let opened = created().filter(|socket| socket.role == Role::Active);
    let budgets = grouped(opened, |socket| (socket.host, socket.tuple.remote_addr, socket.tuple.remote_port));
    let held = |sockets: &[Socket]| {
        let within = |end: i64| move |other: &&Socket| (end - 60_000_000..=end).contains(&other.end_us);
        sockets.iter().map(|socket| sockets.iter().filter(within(socket.end_us)).count()).max().unwrap()
    };
    let deploy_us = BEGIN_US + DEPLOY as i64 * 1_000_000;
    let near = created().filter(|socket| (socket.end_us - deploy_us).unsigned_abs() <= 480_000_000);
    let deploys = grouped(near, |socket| (socket.host, name(socket)));
    let mut links: BTreeMap<_, Vec<(Socket, Socket)>> = BTreeMap::new();
    for (client, server) in pairs() {
        links.entry((client.host, name(&client), server.host, name(&server))).or_default().push((client, server));
    }
    let offset = |client: usize, server: usize, pairs: usize| {
        let way = if HOSTS[server].name == "db-9" { WAY_US } else { -WAY_US };
        let ahead_us = HOSTS[server].ahead_us - HOSTS[client].ahead_us + way;
        vec![json!(HOSTS[client].name), json!(HOSTS[server].name), number(pairs), json!(ahead_us as f64 / 1000.0)]
    };
    let billing = (480 + 8 * 720, 120);
    BTreeMap::from([
        (
            "churners",
            churners.iter().map(|(name, of)| vec![json!(name), number(hosts_of(of)), number(of.len())]).collect(),
        ),
        (
            "churners_by_host",
            (by_host.iter())
                .map(|((host, unit, container), of)| {
                    let ends = || of.iter().map(|socket| socket.end_us);
                    let over = (ends().max().unwrap() - ends().min().unwrap()) as f64;
                    vec![json!(HOSTS[*host].name), json!(unit), json!(container), number(of.len()), json!(over)]
                })
                .collect(),
        ),
        (
            "destinations",
            (destinations.iter())
                .map(|((role, addr, port), of)| {
                    let created = of.iter().filter(|socket| socket.created).count();
                    let [hosts, all, created] = [hosts_of(of), of.len(), created].map(number);
                    vec![json!(role), json!(addr), json!(f64::from(*port)), hosts, all, created]
                })
                .collect(),
        ),
        (
            "near_exhaustion",
            (budgets.iter())
                .map(|((host, addr, port), of)| {
                    let ports = if *host == 0 { f64::from(PORTS_OF_007) } else { USUAL_PORTS as f64 };
                    let percent = (1000.0 * held(of) as f64 / ports).round() / 10.0;
                    let port = json!(f64::from(*port));
                    vec![json!(HOSTS[*host].name), json!(addr), port, number(held(of)), json!(ports), json!(percent)]
                })
                .collect(),
        ),
        (
            "deploy",
            (deploys.iter())
                .map(|((host, name), of)| {
                    let before = of.iter().filter(|socket| socket.end_us < deploy_us).count();
                    let after = of.len() - before;
                    let factor = (before > 0).then(|| (100.0 * after as f64 / before as f64).round() / 100.0);
                    vec![json!(HOSTS[*host].name), json!(name), number(before), number(after), json!(factor)]
                })
                .collect(),
        ),
        // What the web host's strange process opens uses its ports again too soon to say anything.
        ("offsets", vec![offset(0, 2, billing.0), offset(0, 1, 240), offset(1, 2, billing.1)]),
        (
            "both_ends",
            (links.iter())
                .map(|((client, program, server, other), of)| {
                    let at = |is: fn(&(Socket, Socket)) -> bool| number(of.iter().filter(|pair| is(pair)).count());
                    let (at_client, at_server) = (at(|pair| pair.0.created), at(|pair| pair.1.created));
                    let (client, server) = (HOSTS[*client].name, HOSTS[*server].name);
                    let ahead = json!(ahead_ms(&of[0].0, &of[0].1));
                    let both = [json!(client), json!(program), json!(server), json!(other)];
                    [&both[..], &[number(of.len()), at_client, at_server, ahead]].concat()
                })
                .collect(),
        ),
    ])
}

/// Rows in an order that does not depend on who sorts.
fn sorted(mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    rows.sort_by_key(|row| json!(row).to_string());
    rows
}

/// Checks the answers to all queries of the document.
fn check(answers: Vec<Result<Vec<Vec<Value>>, String>>, of: &str) {
    let truth = truth();
    let queries = queries();
    assert_eq!(queries.iter().map(|(name, ..)| *name).collect::<BTreeSet<_>>(), truth.keys().copied().collect());
    assert_eq!((answers.len(), queries.len()), (truth.len(), truth.len()));
    for ((name, line, _), answer) in queries.iter().zip(answers) {
        let answer = answer.unwrap_or_else(|error| panic!("docs/fleet.md, line {line} on {of}: {error}"));
        let truth = &truth[name];
        assert_eq!(sorted(answer), sorted(truth.clone()), "docs/fleet.md, line {line} on {of}");
    }
}

/// All files of a folder and their content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(self::files(&entry.path()));
        } else {
            files.insert(entry.path().to_str().unwrap().to_owned(), fs::read(entry.path()).unwrap());
        }
    }
    files
}

#[test]
fn documented_queries_over_many_hosts_return_what_happened() {
    let folder = exported();
    let queries = queries();
    let queries: Vec<&str> = queries.iter().map(|(.., query)| query.as_str()).collect();
    check(duckdb(folder.path(), &queries), "DuckDB");
    // Exported again, also from a copy under another name: the same, and nothing twice.
    let before = files(&folder.path().join("fleet"));
    export(folder.path());
    fs::rename(folder.path().join("web.twt"), folder.path().join("copy.twt")).unwrap();
    assert_eq!(twtrace(folder.path(), "export --dataset fleet copy.twt"), (String::new(), 0));
    assert!(before == files(&folder.path().join("fleet")));
    check(duckdb(folder.path(), &queries), "DuckDB");
    // Both keys of the partitions select, and a name of digits is text.
    let count = "SELECT count(*), max(typeof(host)), max(typeof(date)) FROM connections WHERE";
    let [of_host, of_day] =
        ["host = '007'", "date = DATE '2026-09-22'"].map(|condition| format!("{count} {condition}"));
    let answers: Vec<_> = duckdb(folder.path(), &[&of_host, &of_day]).into_iter().map(Result::unwrap).collect();
    let midnight_us = BEGIN_US + 600_000_000;
    let of_host = sockets().iter().filter(|socket| socket.host == 0).count();
    let of_day = sockets().iter().filter(|socket| socket.end_us >= midnight_us).count();
    assert_eq!(answers, [of_host, of_day].map(|rows| vec![vec![number(rows), json!("VARCHAR"), json!("DATE")]]));
}

#[test]
fn documented_queries_over_many_hosts_run_on_spark() {
    let has_spark = Command::new("python3").args(["-c", "import pyspark"]).stderr(Stdio::null()).status();
    if !has_spark.is_ok_and(|status| status.success()) {
        return skip("Spark", "python3 has no pyspark");
    }
    let folder = exported();
    let views = block(&["sql", "setup", "both"]);
    let views: Vec<&str> = views.split(';').filter(|statement| !statement.trim().is_empty()).collect();
    let queries: Vec<String> = queries().into_iter().map(|(.., query)| query).collect();
    let asked = json!({ "setup": block(&["python", "setup", "spark"]), "views": views, "queries": queries });
    let mut command = Command::new("python3");
    command.args(["-c", SPARK, "answers.json"]).current_dir(folder.path()).env("TZ", "UTC");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&asked).unwrap()).unwrap();
    assert!(child.wait().unwrap().success(), "see above");
    let answers: Vec<Vec<Vec<Value>>> =
        serde_json::from_slice(&fs::read(folder.path().join("answers.json")).unwrap()).unwrap();
    check(answers.into_iter().map(Ok).collect(), "Spark");
}

/// Rows of the report over all hosts: those with a name together, and those without one.
fn named(fleet: &Value) -> Vec<Vec<Value>> {
    let mut rows: BTreeMap<Option<&str>, f64> = BTreeMap::new();
    for row in fleet["rows"].as_array().unwrap() {
        *rows.entry(row["name"].as_str()).or_default() += row["time_wait_created"].as_f64().unwrap();
    }
    let some = rows.into_iter().filter(|(_, created)| *created > 0.0);
    some.map(|(name, created)| vec![json!(name), json!(created)]).collect()
}

#[test]
fn report_and_queries_agree_to_the_row() {
    let folder = exported();
    let report = |by: &str| -> Value {
        let (out, code) = twtrace(folder.path(), &format!("report {} --format json --by {by}", NAMES.join(" ")));
        assert_eq!(code, 0, "{out}");
        serde_json::from_str::<Value>(&out).unwrap()["fleet"].clone()
    };
    let churners = queries().into_iter().find(|(name, ..)| *name == "churners").unwrap().2;
    for by in ["program", "unit", "container", "command", "user"] {
        let fleet = report(by);
        assert_eq!(fleet["by"], by);
        let column = if by == "user" { "CAST(closer_uid AS VARCHAR)" } else { &format!("closer_{by}") };
        let query = churners.replace("closer_program", column).replace("LIMIT 20", "");
        let answer = duckdb(folder.path(), &[&query]).remove(0).unwrap();
        let answer = answer.into_iter().map(|row| vec![row[0].clone(), row[2].clone()]).collect();
        let mut named = named(&fleet);
        if by == "command" {
            // In the table the byte that is no UTF-8 is replaced, as docs/recording.md says.
            for row in &mut named {
                row[0] = row[0].as_str().map(|name| name.replace("\\xff", "\u{fffd}")).into();
            }
        }
        assert_eq!(sorted(named), sorted(answer), "{by}");
    }
    let fleet = report("process");
    assert_eq!(fleet["by"], "program", "a process is of one host");
    let truth = truth();
    let hosts = |name: &Value| {
        let of: Vec<&Value> = fleet["rows"].as_array().unwrap().iter().filter(|row| row["name"] == *name).collect();
        of.iter().map(|row| row["hosts"].as_f64().unwrap()).sum::<f64>()
    };
    assert!(truth["churners"].iter().all(|row| row[1] == hosts(&row[0])));
    let destinations = fleet["destinations"].as_array().unwrap().iter().map(|row| {
        let figure = |name: &str| row[name].as_f64().unwrap();
        let connections = figure("opened") + figure("accepted");
        let place = [row["role"].clone(), row["addr"].clone(), json!(figure("port"))];
        let figures = [json!(figure("hosts")), json!(connections), json!(figure("time_wait_created"))];
        [place, figures].concat()
    });
    assert_eq!(sorted(destinations.collect()), sorted(truth["destinations"].clone()));
    let by_host = grouped(created(), |socket| socket.host);
    let expected = by_host.iter().map(|(host, of)| vec![json!(HOSTS[*host].name), json!(1.0), number(of.len())]);
    let of_hosts = fleet["hosts"].as_array().unwrap().iter().map(|row| {
        vec![row["host"].clone(), json!(row["recordings"].as_f64()), json!(row["time_wait_created"].as_f64())]
    });
    assert_eq!(sorted(of_hosts.collect()), sorted(expected.collect()));
    assert_eq!(fleet["totals"]["time_wait_created"], created().count());
    let tightest = fleet["destinations"].as_array().unwrap().iter().find(|row| row["addr"] == "10.0.0.9").unwrap();
    assert_eq!(tightest["fullest_host"], "007");
    assert!((0.47..=0.49).contains(&tightest["utilization"].as_f64().unwrap()), "{tightest}");
    assert_eq!(fleet["counted_twice"], json!([]));
    let (text, _) = twtrace(folder.path(), &format!("report {} --by unit", NAMES.join(" ")));
    for said in ["ALL HOSTS BY UNIT", "ALL HOSTS BY DESTINATION", "TIME_WAIT sockets created on 3 hosts"] {
        assert!(text.contains(said), "{text}");
    }
    let (text, _) = twtrace(folder.path(), "report 007.twt 007.twt");
    assert!(text.contains("WARNING: recordings of 007 are of the same time"), "{text}");
}

#[test]
fn data_set_is_refused_where_it_does_harm() {
    let folder = exported();
    for (line, code, says) in [
        ("export 007.twt db-9.twt --format csv", 2, "give --dataset"),
        ("export 007.twt", 2, "--format"),
        ("export 007.twt --dataset d --format csv", 2, "cannot be used with"),
        ("export 007.twt --dataset d --from +1s", 2, "cannot be used with"),
        ("export 007.twt --dataset d --table processes", 1, "no time of their own"),
        ("export 007.twt --dataset 007.twt/d", 1, "inside of the recording"),
        ("export missing.twt --dataset d", 1, "missing.twt"),
    ] {
        let (said, is) = twtrace(folder.path(), line);
        assert!(is == code && said.contains(says), "{line}: {is}: {said}");
    }
    assert!(!folder.path().join("007.twt/d").exists());
}
