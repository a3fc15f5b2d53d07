//! `twtrace replay` and `twtrace sockets --trace` over recordings.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::recorded::{LENGTH, NAME, SECOND, START, events, recorded};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use twtrace_core::event::Event;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, State};
use twtrace_tests::terminal::Terminal;
use twtrace_tests::top::{await_attached, churn, quiet_place};
use twtrace_tests::tracer::{Place, program};
use twtrace_view::json;

fn twtrace(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program("twtrace")).args(arguments).current_dir(folder).output().unwrap()
}

/// The report of a state with all events up to the first tick at or after a time.
fn report_at(at_ns: u64) -> String {
    let mut state = State::new(Config::default());
    for event in events() {
        let is_there = matches!(&event, Event::Tick { at_ns: tick_ns } if *tick_ns >= at_ns);
        state.apply(event);
        if is_there {
            break;
        }
    }
    let mut report = Vec::new();
    json::write(&Snapshot::take(&mut state), json::Options::default(), &mut report).unwrap();
    String::from_utf8(report).unwrap()
}

#[test]
fn once_writes_the_report_at_a_given_time() {
    let folder = recorded();
    for (arguments, at_ns) in [
        (&[][..], u64::MAX),
        (&["--at", "+0s"], START),
        (&["--at", "+10.5s"], START + 10 * SECOND + SECOND / 2),
        (&["--at", "2026-09-21T14:23:20Z"], START + 600 * SECOND),
        (&["--at", "14:33:21"], START + 1201 * SECOND),
        (&["--at", "-1s"], START + (LENGTH - 1) * SECOND),
        (&["--at", "23:59"], START + LENGTH * SECOND),
    ] {
        let output = twtrace(folder.path(), &[&["replay", NAME, "--once", "--json"], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), report_at(at_ns), "{arguments:?}");
    }
    let output = twtrace(folder.path(), &["replay", NAME, "--once", "--by", "parent", "--comm", "curl"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("cron.sh[500]") && !text.contains("systemd"), "{text}");
}

#[test]
fn replay_without_a_terminal_says_what_to_do() {
    let folder = recorded();
    for (arguments, says) in [
        (&["replay", NAME][..], "--once"),
        (&["replay", NAME, "--json"], "--once"),
        (&["replay", "missing.twt", "--once"], "missing.twt"),
        (&["sockets", "--trace", "missing.twt"], "missing.twt"),
        (&["sockets", "--trace", NAME], "twtrace replay incident.twt"),
    ] {
        let output = twtrace(folder.path(), arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{arguments:?}: {said}");
        assert!(said.contains(says) && output.stdout.is_empty(), "{arguments:?}: {said}");
    }
}

#[test]
fn replay_plays_on_a_terminal() {
    let folder = recorded();
    let place = Place::new();
    let mut command = Command::new(program("twtrace"));
    command.args(["replay", NAME, "--at", "+600s"]).current_dir(folder.path());
    let screen = Terminal::start(&place, command, 120, 30);
    screen.wait("RECORDING");
    screen.press(" t");
    screen.wait("go to: _");
    screen.press("+700s\r");
    screen.wait("Space play");
    screen.press("3");
    screen.wait("[3:Sockets]");
    screen.press("?");
    screen.wait("play, and pause");
    screen.press("qq");
    assert_eq!(screen.end(), (true, true));
}

#[test]
fn owners_of_live_sockets_come_from_a_recording_in_progress() {
    let folder = TempDir::new().unwrap();
    let place = quiet_place();
    let mut command = Command::new(program("twtrace"));
    command.args(["record", "-o", NAME]).current_dir(folder.path()).stderr(Stdio::null());
    let mut record = place.spawn(command);
    await_attached(&place, record.id());
    let churned = churn(&place, &["--processes", "2", "--connections", "1000"]);
    let listed = || {
        let mut command = Command::new(program("twtrace"));
        command.args(["sockets", "--trace", NAME, "--json"]).current_dir(folder.path());
        let output = place.spawn({
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        });
        let output = output.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        (serde_json::from_slice::<Value>(&output.stdout).unwrap(), said)
    };
    let check = |report: &Value| {
        let sockets = report["sockets"].as_array().unwrap();
        for worker in &churned.workers {
            let is_its = |socket: &&Value| socket["closer"]["pid"] == worker.who.pid;
            assert_eq!(sockets.iter().filter(is_its).count() as u64, worker.opened, "{}", worker.who.comm);
        }
    };
    // The last of them have just been created.
    check(&listed().0);
    kill(Pid::from_raw(record.id() as i32), Signal::SIGINT).unwrap();
    assert!(record.wait().unwrap().success());
    let (report, said) = listed();
    check(&report);
    assert!(said.contains("the recording ended"), "{said}");
    // A trace that begins now knows them too, and has created none of them.
    let mut command = Command::new(program("twtrace"));
    command.args(["top", "--once", "--duration", "1s", "--json", "--by", "pid", "--trace", NAME]);
    let output = place.spawn({
        command.current_dir(folder.path()).stdout(Stdio::piped());
        command
    });
    let output = output.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for worker in &churned.workers {
        let rows = report["processes"].as_array().unwrap();
        let row = rows.iter().find(|row| row["pid"] == worker.who.pid).unwrap();
        let figures = ["time_wait_live", "time_wait_created", "opened"].map(|name| row[name].as_u64());
        assert_eq!(figures, [Some(worker.opened), Some(0), Some(0)], "{row}");
    }
    let named = report["likely_owners"]["owners"].as_array().unwrap();
    let is_theirs = |owner: &Value| churned.workers.iter().any(|worker| owner["pid"] == worker.who.pid);
    assert!(!named.iter().any(is_theirs), "they are not inferred: {named:?}");
}
