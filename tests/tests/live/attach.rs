//! Reading a running agent: the same figures as its own, at once, without root and without a second trace.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use twtrace_tests::agent::{Agent, certificate};
use twtrace_tests::schema;
use twtrace_tests::software::listening;
use twtrace_tests::top::{churn, quiet_place};
use twtrace_tests::tracer::{Place, program};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Runs twtrace in a place, with no capability at all.
fn run(place: &Place, arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(program("twtrace")).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    place.spawn(command).wait_with_output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Fails with one line on standard error, which is returned.
fn refused(place: &Place, code: i32, arguments: &[&str]) -> String {
    let output = run(place, arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn attached_top_sockets_and_report_show_what_the_agent_saw() {
    let (home, place) = (Place::new(), quiet_place());
    let agent = Agent::start(&home, &[]);
    let churned = churn(&place, &["--processes", "3", "--connections", "2000"]);
    let opened: u64 = churned.workers.iter().map(|worker| worker.opened).sum();
    let of_load = |row: &&Value| churned.workers.iter().any(|worker| row["pid"] == worker.who.pid);
    let created = |report: &Value| -> u64 {
        let rows = report["processes"].as_array().unwrap().iter().filter(of_load);
        rows.map(|row| row["time_wait_created"].as_u64().unwrap()).sum()
    };
    agent.wait("/api/v1/snapshot?by=pid", |answer| created(&serde_json::from_str(&answer.body).unwrap()) == opened);
    let address = agent.address().to_string();

    // Nothing can be traced without rights.
    assert!(refused(&home, 1, &["top", "--once", "--duration", "1s"]).contains("CAP_BPF"));
    let top = json(&run(&home, &["top", "--attach", &address, "--once", "--json", "--by", "pid"]));
    schema::assert_fits(&schema::TOP, &top);
    assert_eq!(created(&top), opened);
    let own = agent.json("/api/v1/snapshot?by=pid");
    assert_eq!(
        (&top["host"], &top["tracing"]["tier"], &top["window"]["start"]),
        (&own["host"], &own["tracing"]["tier"], &own["window"]["start"])
    );

    let sockets = json(&run(&home, &["sockets", "--attach", &address, "--json"]));
    schema::assert_fits(&schema::SOCKETS, &sockets);
    let closed = |socket: &&Value| churned.workers.iter().any(|worker| socket["closer"]["pid"] == worker.who.pid);
    assert_eq!(sockets["sockets"].as_array().unwrap().iter().filter(closed).count() as u64, opened);

    let report = json(&run(&home, &["report", "--attach", &address, "--format", "json", "--by", "pid"]));
    schema::assert_fits(&schema::REPORT, &report);
    assert_eq!(created(&report), opened);

    // Reports go on for as long as there is an agent, and say when there is none.
    let mut command = Command::new(program("twtrace"));
    command.args(["top", "--attach", &address, "--json", "--interval", "200ms"]);
    let mut follow = home.spawn({
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    });
    let mut first = [0; 1];
    follow.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    agent.end();
    let began = Instant::now();
    let output = follow.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("is `twtrace agent` running?"), "{said}");
    assert!(began.elapsed().as_secs() >= 10, "an agent may be restarted");
    assert!(output.stdout.ends_with(b"\n"), "no half a line");
}

fn top<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["top", "--once", "--json", "--attach"], arguments].concat()
}

#[test]
fn attach_needs_the_agents_token_and_trusts_its_certificate_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (token, wrong, cert, key) = (file("token"), file("wrong"), file("cert.pem"), file("key.pem"));
    let (other, other_key) = (file("other.pem"), file("other-key.pem"));
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    fs::write(&wrong, "fedcba9876543210fedcba9876543210\n").unwrap();
    certificate(&cert, &key);
    certificate(&other, &other_key);
    let home = Place::new();
    let mut command = Command::new(program("twtrace"));
    command.args(["agent", "--listen", "127.0.0.1:9790", "--token-file", &token]);
    command.args(["--tls-cert", &cert, "--tls-key", &key]);
    let mut agent = home.spawn({
        command.stderr(Stdio::null());
        command
    });
    listening(&home, 9790);
    let (ip, name) = ("https://127.0.0.1:9790", "https://localhost:9790/");
    for address in [ip, name] {
        // It may be asked before its first snapshot, and says so.
        let arguments = top(&[address, "--token-file", &token, "--ca", &cert]);
        let began = Instant::now();
        let output = loop {
            let output = run(&home, &arguments);
            if output.status.success() || began.elapsed().as_secs() > 30 {
                break output;
            }
        };
        schema::assert_fits(&schema::TOP, &json(&output));
    }
    for (arguments, says) in [
        (&[ip, "--ca", &cert][..], "add --token-file"),
        (&[ip, "--ca", &cert, "--token-file", &wrong], "another token"),
        (&[ip, "--token-file", &token], "https needs --ca FILE"),
        (&[ip, "--token-file", &token, "--ca", &other], "certificate"),
        (&[ip, "--token-file", &token, "--ca", &key], "PEM"),
        (&["192.0.2.1:9790", "--token-file", &token], "in the clear"),
    ] {
        let said = refused(&home, 1, &top(arguments));
        assert!(said.contains(says) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn attach_says_what_is_wrong() {
    let home = Place::new();
    let said = refused(&home, 1, &["top", "--once", "--attach"]);
    assert!(said.contains("127.0.0.1:9790") && said.contains("is `twtrace agent` running?"), "{said}");
    for (arguments, says) in [
        (&["top", "--attach", "--dest", "10.0.0.0/8"][..], "leave filters out"),
        (&["top", "--attach", "--ring-bytes", "8M"], "settings of the kernel side"),
        (&["sockets", "--attach", "--trace", "a.twt"], "cannot be used with"),
        (&["report", "--attach", "127.0.0.1:1", "a.twt"], "cannot be used with"),
        (&["top", "--attach", "nonsense"], "https://HOST:PORT"),
    ] {
        let said = refused(&home, 2, arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    // Something else answers there.
    for (answer, says) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "no snapshot"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "no agent of this version"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "no answer"),
    ] {
        let listener = home.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap().to_string();
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // An answer before the question is another fault.
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
            // Until the client has gone.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let said = refused(&home, 1, &["top", "--once", "--attach", &address]);
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
        served.join().unwrap();
    }
}
