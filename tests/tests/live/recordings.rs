//! Recordings of real traffic: what is read back is what was recorded, and that is what the generator did.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use twtrace_core::event::Event;
use twtrace_core::source::Source as _;
use twtrace_core::state::{Config, State};
use twtrace_probe::source::EventSource as _;
use twtrace_probe::source::kernel_source::{KernelSource, KernelSourceOptions};
use twtrace_recording::reader::Recording;
use twtrace_recording::writer::{Keep, Recorder, WriteOptions};
use twtrace_tests::record::{ROOMY, Record, json_of, output_of, record_command};
use twtrace_tests::software::Postgres;
use twtrace_tests::top::{Top, churn, hidden, number, own, quiet_place, sockstat_tw};
use twtrace_tests::tracer::{PUMP, Place, program};

/// A live state, and a recorder that takes the same Events.
struct Both {
    state: State,
    recorder: Recorder,
}

impl Both {
    fn new(path: &Path) -> Self {
        // Segments of two seconds, of which none is old enough to be dropped.
        let options = WriteOptions { keep: Some(Keep::Time(Duration::from_secs(32))), ..WriteOptions::default() };
        Self { state: state(), recorder: Recorder::create(path, options).unwrap() }
    }

    fn see(&mut self, event: Event) {
        self.recorder.record(&event).unwrap();
        self.state.apply(event);
    }

    fn pump(&mut self, live: &mut KernelSource) {
        live.pump(&mut |event| self.see(event)).unwrap();
        if self.recorder.wants_whole_census() {
            live.restate();
        }
    }
}

fn state() -> State {
    State::new(Config { history: true, ..Config::default() })
}

/// Runs the generator, `$0` in the script.
fn load(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(program("twtrace-workload")).stdout(Stdio::null());
    command
}

/// Traces in this thread's namespace, with loads in it and in others, until they have ended.
fn trace(path: &Path, others: &[(Place, String)]) -> Both {
    const AT_LEAST: Duration = Duration::from_secs(8);
    let mut live = KernelSource::start(&KernelSourceOptions::default()).unwrap();
    let mut both = Both::new(path);
    both.pump(&mut live);
    let began = Instant::now();
    let own = load("\"$0\" churn --processes 4 --connections 30000").spawn().unwrap();
    let mut loads: Vec<Child> = others.iter().map(|(place, script)| place.spawn(load(script))).collect();
    loads.push(own);
    while loads.iter_mut().any(|load| load.try_wait().unwrap().is_none()) || began.elapsed() < AT_LEAST {
        both.pump(&mut live);
        thread::sleep(PUMP);
    }
    live.final_pump(&mut |event| both.see(event)).unwrap();
    assert!(loads.iter_mut().all(|load| load.wait().unwrap().success()), "the generator failed");
    both
}

/// Where two long texts differ first.
fn difference(one: &str, other: &str) -> Option<String> {
    if one == other {
        return None;
    }
    let at = one.bytes().zip(other.bytes()).position(|(one, other)| one != other);
    let at = at.unwrap_or_else(|| one.len().min(other.len()));
    let around = |text: &str| {
        let (from, to) = (at.saturating_sub(400), text.len().min(at + 200));
        String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()
    };
    Some(format!("at {at} of {} and {} bytes:\n{}\n\n{}", one.len(), other.len(), around(one), around(other)))
}

#[test]
fn replayed_state_is_the_live_state() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("load.twt");
    let (home, reusing, small) = (quiet_place(), Place::new(), quiet_place());
    reusing.sysctl("ipv4/tcp_tw_reuse", "1");
    reusing.sysctl("ipv4/ip_local_port_range", "32768 36767");
    small.sysctl("ipv4/tcp_max_tw_buckets", "1000");
    // Older than the trace.
    churn(&home, &["--connections", "300"]);
    let churn_to_one = "\"$0\" churn --processes 2 --connections 3000 --destinations 1";
    // Ports that were used more than a second ago are reused.
    let twice = format!("{churn_to_one} && sleep 1.5 && {churn_to_one}");
    let others = [
        (reusing, twice),
        (small, "\"$0\" churn --processes 2 --connections 4000 --server-closes --exchange".to_owned()),
        (Place::new(), "\"$0\" cases".to_owned()),
    ];
    let to = path.clone();
    // A tracer cannot be sent from one thread to another.
    let (live, progress, totals) = home.run(move || {
        let Both { state, recorder } = trace(&to, &others);
        let progress = recorder.finish().unwrap();
        (format!("{state:?}"), progress, state.summary().totals.clone())
    });
    println!("{progress:?}");
    println!("{} connections, {:?}, {:?}, {:?}", totals.connections, totals.outcomes, totals.corrections, totals.ends);
    assert!(totals.connections > 80_000, "the load was too small");
    assert!(progress.segments > 2 && progress.segments_dropped == 0, "{progress:?}");

    let recording = Recording::open(&path).unwrap();
    let info = recording.info();
    assert!(info.finished && info.losses.is_empty(), "{:?}", info.losses);
    let mut state = state();
    let mut replay = recording.replay().unwrap();
    while replay.advance(u64::MAX, &mut |event| state.apply(event)).unwrap() {}
    assert_eq!(replay.losses(), []);
    if let Some(difference) = difference(&live, &format!("{state:?}")) {
        panic!("live and replayed differ {difference}");
    }
}

/// Rows and bytes by table, from what the manifest says about the sealed files.
fn tables(path: &Path) -> BTreeMap<String, (u64, u64)> {
    let manifest: Value = serde_json::from_slice(&fs::read(path.join("recording.json")).unwrap()).unwrap();
    let mut tables: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for segment in manifest["recording"]["segments"].as_array().unwrap() {
        for file in segment["files"].as_array().unwrap() {
            let table = tables.entry(file["table"].as_str().unwrap().to_owned()).or_default();
            table.0 += number(file, "/rows");
            table.1 += number(file, "/bytes");
        }
    }
    tables
}

/// The number of connections in a recording in progress, once there are as many as expected or no more arrive.
fn read_to_its_end(path: &Path, expected: u64) -> u64 {
    // Several times as long as a write to a busy disk takes.
    const STILL: Duration = Duration::from_secs(5);
    let (mut found, mut since) = (0, Instant::now());
    while found < expected && since.elapsed() < STILL {
        thread::sleep(Duration::from_millis(200));
        let now = Recording::open(path).unwrap().info().connections;
        if now != found {
            (found, since) = (now, Instant::now());
        }
    }
    found
}

/// Where to record: a folder that `TWTRACE_KEEP` keeps.
fn folder() -> (TempDir, PathBuf) {
    let mut folder = TempDir::new().unwrap();
    folder.disable_cleanup(std::env::var_os("TWTRACE_KEEP").is_some());
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn connection_takes_at_most_24_bytes() {
    const CONNECTIONS: u64 = 60_000;
    const LIMIT: f64 = 24.0;
    let place = quiet_place();
    let (_folder, folder) = folder();
    let path = folder.join("many.twt");
    let record = Record::start(&place, &path);
    let churned = churn(&place, &["--processes", "20", "--destinations", "64", "--connections", "60000"]);
    assert_eq!((churned.connections, sockstat_tw(&place)), (CONNECTIONS, CONNECTIONS));
    // It can be read while it is being written: all of it, except what is hidden from tracers.
    let read = read_to_its_end(&path, 2 * CONNECTIONS);
    println!("{}", record.end());

    let recording = Recording::open(&path).unwrap();
    let info = recording.info();
    let on_disk: u64 = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(info.bytes, on_disk);
    // Each connection is a socket on either side. Other traffic of the host is recorded as well.
    let report = json_of(&folder, "report many.twt --format json");
    let missing = hidden(&report["recordings"][0], CONNECTIONS);
    for (when, found) in [("while it was written", read), ("at its end", info.connections)] {
        assert!(found + missing >= 2 * CONNECTIONS, "{when} {found}, {missing} hidden");
    }
    let rows = report["processes"].as_array().unwrap();
    let accepted = number(process(&report, churned.server.pid), "/accepted");
    assert!(accepted <= CONNECTIONS && accepted + missing >= CONNECTIONS, "{accepted} accepted, {missing} hidden");
    let opened = churned.workers.iter().map(|worker| {
        let row = rows.iter().find(|row| row["pid"] == worker.who.pid).unwrap();
        assert_eq!(number(row, "/time_wait_created"), worker.opened, "{}", worker.who.comm);
        number(row, "/opened")
    });
    assert_eq!(opened.sum::<u64>(), CONNECTIONS);
    let elsewhere = info.connections.saturating_sub(2 * CONNECTIONS);
    let connections = CONNECTIONS as f64 + elsewhere as f64 / 2.0;
    let each = on_disk as f64 / connections;
    println!("{on_disk} bytes, {each:.2} for each connection; {elsewhere} sockets elsewhere");
    for (table, (rows, bytes)) in tables(&path) {
        let of_row = bytes as f64 / (rows as f64).max(1.0);
        println!(
            "{table:12} {rows:8} rows {bytes:8} bytes {of_row:6.2} a row {:6.2} a connection",
            bytes as f64 / connections
        );
    }
    assert!(each <= LIMIT, "{each:.2} bytes for each connection");
}

/// TIME_WAIT sockets per second that the processes of a command created, by a report of one recording.
fn rate(report: &Value, command: &str) -> f64 {
    let rows = report["processes"].as_array().unwrap().iter();
    let created: u64 = rows.filter(|row| row["command"] == command).map(|row| number(row, "/time_wait_created")).sum();
    created as f64 / report["recordings"][0]["window"]["seconds"].as_f64().unwrap()
}

#[test]
fn diff_reports_the_cost_of_a_connection_for_each_transaction() {
    let place = Place::new();
    let (_folder, folder) = folder();
    let data = TempDir::new().unwrap();
    let Some(postgres) = Postgres::start(&place, data.path()) else { return };
    for (name, arguments) in [("before.twt", &["-T", "12", "-C"][..]), ("after.twt", &["-T", "12"])] {
        let said = record_command(&place, &folder.join(name), &postgres.pgbench(arguments));
        assert!(
            said.contains("number of transactions actually processed") && said.contains("open at the end"),
            "{said}"
        );
    }
    println!("{}", output_of(&folder, "diff before.twt after.twt"));

    // No matter what else this machine does meanwhile.
    let only = format!("--port {}", Postgres::PORT);
    let text = output_of(&folder, &format!("diff before.twt after.twt {only}"));
    println!("{text}");
    let diff = json_of(&folder, &format!("diff before.twt after.twt {only} --format json"));
    let [before, after] =
        ["before", "after"].map(|name| json_of(&folder, &format!("report {name}.twt {only} --format json")));
    let rows = diff["rows"].as_array().unwrap();
    for row in rows {
        let name = row["name"].as_str().unwrap();
        for (side, report) in [("before", &before), ("after", &after)] {
            let (rate_in_diff, expected) = (row[side]["time_wait_created_per_s"].as_f64().unwrap(), rate(report, name));
            assert!(
                (rate_in_diff - expected).abs() < 1e-3,
                "{name} {side}: {rate_in_diff}, and {expected} by the report"
            );
        }
        let created = |part: &str| row[part]["time_wait_created_per_s"].as_f64().unwrap();
        assert!((created("change") - (created("after") - created("before"))).abs() < 1e-3, "{row}");
    }
    // The side that closes first creates them: pgbench, unless the server is faster.
    let first = &rows[0];
    let name = first["name"].as_str().unwrap();
    assert!(["pgbench", "postgres"].contains(&name) && first["direction"] == "fell", "{first}");
    assert!(first["before"]["time_wait_created_per_s"].as_f64().unwrap() > 20.0, "{first}");
    assert!(first["after"]["time_wait_created_per_s"].as_f64().unwrap() < 2.0, "{first}");
    let (verdict, destination) = (&diff["verdict"], format!("127.0.0.1:{}", Postgres::PORT));
    assert_eq!(verdict["direction"], "fell");
    assert_eq!(verdict["main"]["process"]["name"], name);
    assert_eq!(verdict["main"]["destination"]["name"], destination.as_str());
    let sentence = verdict["sentence"].as_str().unwrap();
    let who =
        if name == "pgbench" { format!("pgbench to {destination}") } else { format!("postgres on {destination}") };
    assert!(sentence.starts_with("TIME_WAIT sockets created fell from ") && sentence.contains(&who), "{sentence}");
    assert_eq!(text.lines().next().unwrap(), sentence);
    assert_eq!(diff["reservations"], Value::Array(Vec::new()));
}

/// Whether a JSON value has all that another one has.
fn has(whole: &Value, part: &Value) -> bool {
    match (whole.as_object(), part.as_object()) {
        (Some(whole), Some(part)) => part.iter().all(|(name, value)| whole.get(name) == Some(value)),
        _ => whole == part,
    }
}

/// The row of a process.
fn process(report: &Value, pid: u32) -> &Value {
    let rows = report["processes"].as_array().unwrap();
    rows.iter().find(|row| row["pid"] == pid).unwrap_or_else(|| panic!("nothing of {pid}"))
}

/// What a process did, without what a tracer measures by its own clock, and without what is alive: where a client's port is
/// used again, its SYN ends the TIME_WAIT socket of the server's side, and a tracer learns of it from two censuses.
fn figures(row: &Value) -> Value {
    let names =
        ["command", "ppid", "parent_command", "uid", "opened", "accepted", "closed_first", "closed_last", "reset"];
    let more = ["time_wait_created", "bytes_sent", "bytes_received", "destinations"];
    let mut figures: serde_json::Map<_, _> =
        names.into_iter().chain(more).map(|name| (name.to_owned(), row[name].clone())).collect();
    // Equal ones are in the order in which their first records were read, which differs between tracers.
    if let Some(destinations) = figures.get_mut("destinations").and_then(Value::as_array_mut) {
        for place in destinations.iter_mut().filter_map(Value::as_object_mut) {
            place.remove("time_wait_live");
        }
        destinations.sort_by_key(ToString::to_string);
    }
    figures.into()
}

#[test]
fn report_is_what_happened() {
    let place = quiet_place();
    let (_folder, folder) = folder();
    let record = Record::start(&place, &folder.join("churn.twt"));
    let top = Top::start(&place, &ROOMY);
    let few = ["--processes", "4", "--destinations", "8", "--connections", "8000"];
    let by_client = churn(&place, &few);
    let by_server = churn(&place, &[&few[..], &["--server-closes", "--exchange"]].concat());
    let top = top.end();
    record.end();
    let report = json_of(&folder, "report churn.twt --format json");

    let missing = hidden(&report["recordings"][0], by_client.connections + by_server.connections);
    for (churned, client_closes) in [(&by_client, true), (&by_server, false)] {
        let check = |pid: u32, mine: &str, sockets: u64, closes: bool| {
            let row = process(&report, pid);
            let expected = if closes { [sockets, sockets, 0, sockets] } else { [sockets, 0, sockets, 0] };
            for (name, expected) in [mine, "closed_first", "closed_last", "time_wait_created"].into_iter().zip(expected)
            {
                let found = number(row, &format!("/{name}"));
                assert!(found <= expected && found + missing >= expected, "{found} {name}, not {expected}: {row:#}");
            }
            let bytes = if client_closes { 0.0 } else { 2.0 };
            assert_eq!(row["bytes_per_connection"], bytes, "{row:#}");
            assert_eq!(row["reset"], 0, "{row:#}");
        };
        for worker in &churned.workers {
            check(worker.who.pid, "opened", worker.opened, client_closes);
            let rows = process(&report, worker.who.pid)["destinations"].as_array().unwrap();
            let reported: BTreeMap<String, u64> = rows
                .iter()
                .map(|place| {
                    let address = place["remote_addr"].as_str().unwrap();
                    (format!("{address}:{}", place["port"]), number(place, "/connections"))
                })
                .collect();
            let opened = worker.destinations.iter().map(|(service, count)| (service.to_string(), *count)).collect();
            assert_eq!(reported, opened, "{}", worker.who.comm);
        }
        check(churned.server.pid, "accepted", churned.connections, !client_closes);
    }

    // The three outputs that describe the same trace or the same time.
    let replayed = json_of(&folder, "replay churn.twt --once --json");
    for churned in [&by_client, &by_server] {
        for pid in churned.workers.iter().map(|worker| worker.who.pid).chain([churned.server.pid]) {
            assert_eq!(figures(process(&replayed, pid)), figures(process(&top, pid)));
        }
    }
    for report in [&replayed, &top] {
        let coverage = |figure: &str| number(own(report), &format!("/coverage/{figure}"));
        let alive = sockstat_tw(&place)..=by_client.connections + by_server.connections;
        assert!(alive.contains(&coverage("census")), "{}, not {alive:?}", coverage("census"));
        assert!(coverage("attributed") + missing >= coverage("census"), "{:#}", own(report)["coverage"]);
        assert_eq!(coverage("before_start"), 0);
    }
    assert_eq!(own(&replayed)["kernel"], own(&top)["kernel"]);
    for name in ["host", "window", "tracing", "kernel", "namespaces", "coverage", "totals"] {
        assert!(
            has(&report["recordings"][0][name], &replayed[name]),
            "{name}: {} {}",
            report["recordings"][0],
            replayed[name]
        );
    }
    for table in ["processes", "destinations"] {
        let rows = report[table].as_array().unwrap();
        for row in replayed[table].as_array().unwrap() {
            assert!(rows.iter().any(|of_report| has(of_report, row)), "not in the report: {row:#}");
        }
        assert_eq!(report[format!("{table}_total")], rows.len());
    }
    println!("{}: {}", report["recordings"][0]["totals"]["outcomes"], own(&replayed)["coverage"]);
}
