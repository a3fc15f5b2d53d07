//! `twtrace agent`: what it answers is what happened, clients cannot disturb the trace, and the end of the flight recorder is
//! kept when a finding begins.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use twtrace_tests::agent::{Agent, PATIENCE, certificate, read, samples};
use twtrace_tests::record::json_of;
use twtrace_tests::schema;
use twtrace_tests::top::{churn, quiet_place};
use twtrace_tests::tracer::{Place, program};
use twtrace_tests::workload::Churned;

const CONNECTIONS: &str = "2000";

pub(crate) fn opened(churned: &Churned) -> u64 {
    churned.workers.iter().map(|worker| worker.opened).sum()
}

/// TIME_WAIT sockets that the processes of a load created, by a snapshot.
pub(crate) fn created(report: &Value, churned: &Churned) -> u64 {
    let rows = report["processes"].as_array().unwrap().iter();
    let of = |row: &&Value| churned.workers.iter().any(|worker| row["pid"] == worker.who.pid);
    rows.filter(of).map(|row| row["time_wait_created"].as_u64().unwrap()).sum()
}

#[test]
fn every_answer_says_what_happened() {
    let (home, place) = (Place::new(), quiet_place());
    let agent = Agent::start(&home, &["--metrics-by", "command"]);
    let churned = churn(&place, &["--processes", "3", "--connections", CONNECTIONS]);
    let path = "/api/v1/snapshot?by=pid";
    agent.wait(path, |answer| created(&serde_json::from_str(&answer.body).unwrap(), &churned) == opened(&churned));

    let metrics = agent.get("/metrics");
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    for worker in &churned.workers {
        let labels = format!("{{command=\"{}\"}}", worker.who.comm);
        let found = samples(&metrics.body, "twtrace_time_wait_created_total");
        let found = found.iter().find(|(of, _)| *of == labels).map(|(_, value)| *value as u64);
        assert_eq!(found, Some(worker.opened), "{labels}: {}", metrics.body);
    }
    for name in ["twtrace_lost_total", "twtrace_recording_failed", "twtrace_frozen_recordings_total"] {
        assert_eq!(samples(&metrics.body, name), [("", 0.0)], "{name}");
    }

    let snapshot = agent.json("/api/v1/snapshot");
    schema::assert_fits(&schema::TOP, &snapshot);
    let findings = agent.json("/api/v1/findings");
    schema::assert_fits(&schema::FINDINGS, &findings);
    assert_eq!(findings["host"], snapshot["host"]);
    let sockets = agent.json("/api/v1/sockets");
    schema::assert_fits(&schema::SOCKETS, &sockets);
    let of_load = |socket: &&Value| churned.workers.iter().any(|worker| socket["closer"]["pid"] == worker.who.pid);
    assert_eq!(sockets["sockets"].as_array().unwrap().iter().filter(of_load).count() as u64, opened(&churned));
    // The list was for that request alone.
    assert_eq!(agent.get("/api/v1/snapshot").status, 200);

    let page = agent.get("/");
    assert!(page.head.contains("text/html") && page.body.contains("id=\"programs\""), "{}", page.head);
    let event = first_event(&agent, "/events");
    let json: Value = serde_json::from_str(event.split("data: ").nth(1).unwrap().trim_end()).unwrap();
    schema::assert_fits(&schema::TOP, &json);
    let html = first_event(&agent, "/events?form=html");
    let html: String = serde_json::from_str(html.split("data: ").nth(1).unwrap().trim_end()).unwrap();
    assert!(html.contains("id=\"programs\"") && !html.contains("<html"), "{html}");
    agent.end();
}

/// The first event of a stream.
fn first_event(agent: &Agent<'_>, path: &str) -> String {
    let mut stream = agent.connect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut text, mut bytes) = (String::new(), [0; 65_536]);
    loop {
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        // Chunks have their size before them, on a line of its own.
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Some(end) = body.find("\n\n")
        {
            let event = &body[..end];
            assert!(event.contains("event: snapshot"), "{event}");
            return event.split("\r\n").filter(|part| part.len() > 8).collect();
        }
    }
}

#[test]
fn requests_that_make_no_sense_are_answered_in_a_line() {
    let home = Place::new();
    let agent = Agent::start(&home, &[]);
    let long = "x".repeat(100_000);
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), 404),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(), 405),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".to_owned(), 421),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), 421),
        ("GET /api/v1/snapshot?by=nonsense HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), 400),
        ("GET /api/v1/snapshot?limit=-1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), 400),
        ("GET /events?form=xml HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), 400),
        ("\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), 400),
        (format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"), 431),
    ] {
        let answer = agent.ask(&request);
        let begin = &request[..request.len().min(60)];
        // Where more is sent than is read, the connection may be reset before the answer.
        assert!(answer.status == status || status == 431 && [0, 414].contains(&answer.status), "{begin:?}: {answer:?}");
    }
    assert_eq!(agent.get("/healthz").body, "ok\n");
    agent.end();
}

/// Time for the head of a request.
const HEAD: Duration = Duration::from_secs(5);

#[test]
fn no_client_disturbs_the_trace() {
    let (home, place) = (Place::new(), quiet_place());
    let agent = Agent::start(&home, &["--metrics-by", "command"]);
    let slow: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = agent.connect();
            stream.write_all(b"GET /metr").unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    // They ask for a stream and never read it.
    let deaf: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = agent.connect();
            stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let garbage: Vec<_> = (0..50)
        .map(|number: u8| {
            let mut stream = agent.connect();
            let _ = stream.write_all(&[number; 20_000]);
            stream
        })
        .collect();
    let churned = thread::scope(|scope| {
        let scrapers: Vec<_> = (0..200)
            .map(|_| {
                scope.spawn(|| {
                    let answer = agent.get("/metrics");
                    assert_eq!(answer.status, 200, "{answer:?}");
                })
            })
            .collect();
        let churned = churn(&place, &["--processes", "3", "--connections", "20000"]);
        scrapers.into_iter().for_each(|scraper| scraper.join().unwrap());
        churned
    });
    let answer = agent.wait("/api/v1/snapshot?by=pid", |answer| {
        created(&serde_json::from_str(&answer.body).unwrap(), &churned) == 20_000
    });
    let report: Value = serde_json::from_str(&answer.body).unwrap();
    let lost = &report["tracing"]["lost"];
    assert!(lost.as_object().unwrap().values().all(|lost| lost == 0), "{lost}");
    // A client that has not sent its request by now is disconnected, and gets no answer.
    for mut stream in slow {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(read(&mut stream).status, 0);
    }
    assert!(began.elapsed() >= HEAD);
    drop((deaf, garbage));
    let memory = twtrace_tests::top::peak_memory(agent.pid());
    println!("{} MiB at most", memory >> 20);
    assert!(memory < 256 << 20, "{} MiB", memory >> 20);
    assert_eq!(agent.get("/healthz").status, 200);
    agent.end();
}

/// `twtrace agent` with arguments that it must refuse.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program("twtrace"));
    let Output { status, stderr, .. } =
        command.arg("agent").args(arguments).stdin(Stdio::null()).output().expect("it can be run");
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn token_and_tls_are_needed_where_other_hosts_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (token, cert, key) = (file("token"), file("cert.pem"), file("key.pem"));
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    certificate(&cert, &key);

    for (arguments, missing) in [
        (&[][..], "--token-file, --tls-cert and --tls-key"),
        (&["--token-file", &token], "--tls-cert and --tls-key"),
        (&["--tls-cert", &cert, "--tls-key", &key], "--token-file"),
    ] {
        let (code, said) = refused(&[&["--listen", "0.0.0.0:0"], arguments].concat());
        assert!(code == Some(2) && said.contains(missing) && said.contains("--expose"), "{code:?}: {said}");
    }
    fs::write(file("weak"), "secret\n").unwrap();
    for (arguments, says) in [
        (&["--token-file", &file("weak")][..], "openssl rand"),
        (&["--token-file", &file("absent")], "cannot read the token"),
        (&["--tls-cert", &key, "--tls-key", &key], "certificate"),
        (&["--tls-cert", &cert, "--tls-key", &cert], "key"),
        (&["--listen", "192.0.2.1:9790", "--expose"], "--listen"),
        (&["--dir", &file("absent")], "absent"),
    ] {
        let (code, said) = refused(arguments);
        assert!(code == Some(1) && said.contains(says) && said.lines().count() == 1, "{code:?}: {said}");
    }

    let home = Place::new();
    let agent = Agent::start(&home, &["--token-file", &token]);
    let with = |head: &str, path: &str| {
        agent.ask(&format!("GET {path} HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n{head}\r\n")).status
    };
    let bearer = "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
    for path in ["/", "/metrics", "/events", "/api/v1/snapshot", "/api/v1/findings", "/api/v1/sockets"] {
        assert_eq!(with("", path), 401, "{path}");
        assert_eq!(with("Authorization: Bearer wrong\r\n", path), 401, "{path}");
    }
    assert_eq!((with(bearer, "/metrics"), with("", "/healthz")), (200, 200));
    // A browser brings it once, and has it in a cookie from then on.
    let welcome = agent.get("/?token=0123456789abcdef0123456789abcdef");
    assert!(welcome.status == 303 && welcome.head.contains("set-cookie: twtrace-token="), "{welcome:?}");
    assert_eq!(with("Cookie: twtrace-token=0123456789abcdef0123456789abcdef\r\n", "/"), 200);
    agent.end();

    let mut command = Command::new(program("twtrace"));
    command.args([
        "agent",
        "--listen",
        "127.0.0.1:9790",
        "--token-file",
        &token,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ]);
    let mut child = home.spawn({
        command.stderr(Stdio::null());
        command
    });
    twtrace_tests::software::listening(&home, 9790);
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", "--cacert", &cert, "-H"]);
    curl.arg("Authorization: Bearer 0123456789abcdef0123456789abcdef").arg("https://localhost:9790/healthz");
    let output = home.spawn({
        curl.stdout(Stdio::piped()).stderr(Stdio::piped());
        curl
    });
    let output = output.wait_with_output().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // It may have asked before the first snapshot.
    assert!(output.status.success() && output.stdout.ends_with(b"ok\n"), "{output:?}");
}

#[test]
fn unix_socket_answers_those_who_may_open_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    // One that a killed agent left.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let home = Place::new();
    let agent = Agent::start(&home, &["--listen", &format!("unix:{}", path.display())]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(read(&mut stream).body, "ok\n");
    let (code, said) = refused(&["--listen", &format!("unix:{}", path.display())]);
    assert!(code == Some(1) && said.contains("another agent"), "{said}");
    agent.end();
    assert!(!path.exists(), "it is removed at the end");
}

/// A drill, which a finding of the kind `exhaustion-reached` names.
fn drill(duration: &str) -> std::process::Child {
    let mut command = Command::new(program("twtrace"));
    command.args(["drill", "exhaustion", "--duration", duration]).stdout(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn what_led_to_a_finding_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let home = Place::new();
    let agent = Agent::start(&home, &["--dir", dir, "--freeze", "exhaustion-reached", "--freeze-last", "1m"]);
    let mut drill = drill("40s");
    let said = agent.said("kept ");
    let of_drill = |finding: &Value| {
        finding["id"] == "exhaustion-reached"
            && finding["process"]["command"] == "drill-client"
            && finding["active"] == true
    };
    let findings = agent.json("/api/v1/findings");
    assert!(findings["findings"].as_array().unwrap().iter().any(of_drill), "{findings}");
    let metrics = agent.get("/metrics").body;
    assert_eq!(samples(&metrics, "twtrace_frozen_recordings_total"), [("", 1.0)]);
    let labels = samples(&metrics, "twtrace_findings");
    assert!(labels.iter().any(|(labels, number)| labels.contains("exhaustion-reached") && *number == 1.0), "{metrics}");
    drill.kill().unwrap();
    drill.wait().unwrap();
    agent.end();

    let name = said.split("kept ").nth(1).unwrap().split(": ").next().unwrap();
    let name = std::path::Path::new(name).file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("exhaustion-reached-") && name.ends_with(".twt"), "{name}");
    for recording in [name.as_str(), "flight.twt"] {
        let report = json_of(folder.path(), &format!("report {recording} --format json"));
        assert!(
            report["findings"].as_array().unwrap().iter().any(|finding| finding["id"] == "exhaustion-reached"),
            "{report}"
        );
    }
    // A new agent leaves what the one before recorded.
    let agent = Agent::start(&home, &["--dir", dir]);
    let (code, said) = refused(&["--listen", "127.0.0.1:0", "--dir", dir]);
    assert!(code == Some(1) && said.contains("another process records"), "{said}");
    agent.end();
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["before-flight.twt", name.as_str(), "flight.twt"]);
}

#[test]
fn drill_leaves_nothing_behind() {
    let place = Place::new();
    let mut command = Command::new(program("twtrace"));
    command.args(["drill", "exhaustion", "--duration", "12s"]).stdout(Stdio::piped());
    let output = place.spawn(command).wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("EADDRNOTAVAIL") && said.contains("100 connections"), "{said}");
    // Its parts end with it, also when it is killed.
    let mut killed = drill("60s");
    let children = || {
        let path = format!("/proc/{0}/task/{0}/children", killed.id());
        fs::read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + PATIENCE;
    while children().len() < 2 {
        assert!(Instant::now() < deadline, "it starts no processes");
        thread::sleep(Duration::from_millis(20));
    }
    let children = children();
    killed.kill().unwrap();
    killed.wait().unwrap();
    while children
        .iter()
        .any(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with("drill")))
    {
        assert!(Instant::now() < deadline, "its processes go on");
        thread::sleep(Duration::from_millis(20));
    }
}
