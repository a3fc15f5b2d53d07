#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::cli::{Cli, Command};
use anyhow::bail;
use clap::Parser as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use twtrace_core::event::Event;
use twtrace_core::finding::Finding;
use twtrace_core::source::{Scripted, Source};
use twtrace_testkit::{findings, web};

/// Events from a list, with an optional descriptor to wait for.
struct Script {
    events: Scripted,
    fd: Option<OwnedFd>,
    pumped: Arc<AtomicUsize>,
}

impl Script {
    fn of(batches: Vec<Vec<Event>>) -> Self {
        Self { events: Scripted::new(batches), fd: None, pumped: Arc::default() }
    }
}

impl Source for Script {
    type Error = anyhow::Error;

    fn pump(&mut self, sink: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
        self.pumped.fetch_add(1, Ordering::Relaxed);
        Ok(self.events.pump(sink)?)
    }
    fn final_pump(&mut self, sink: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
        Ok(self.events.final_pump(sink)?)
    }
}

impl EventSource for Script {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(OwnedFd::as_fd)
    }
}

fn args(line: &str) -> TopArgs {
    match Cli::try_parse_from(["twtrace", "top"].into_iter().chain(line.split_whitespace())).unwrap().command {
        Command::Top(args) => *args,
        _ => unreachable!("top was asked for"),
    }
}

fn run_with(script: Script, line: &str) -> String {
    let mut out = Vec::new();
    report(|_| Ok(script), &args(line), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The web server's host, its last events only at the end.
fn halves() -> Script {
    let mut first = web::events();
    let last = first.split_off(first.len() - 4);
    let mut batches = vec![first];
    batches.resize(1000, Vec::new());
    batches.push(last);
    Script::of(batches)
}

#[test]
fn once_writes_one_report_of_everything() {
    let began = Instant::now();
    let text = run_with(halves(), "--once --duration 150ms --json");
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert_eq!(text.lines().count(), 1);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["window"]["seconds"], 5.5, "the last events are included");
    assert_eq!(report["coverage"]["census"], 242);
    let text = run_with(halves(), "--once --duration 1ms --limit 3");
    assert!(
        text.starts_with("twtrace   host web-1 ") && text.contains("\nfirst 3 of 6 rows by created\n\nFINDINGS\n"),
        "{text}"
    );
    let text = run_with(halves(), "--once --duration 1ms --csv --by command");
    assert_eq!(text.lines().count(), 1 + 6, "{text}");
}

#[test]
fn without_once_there_is_a_report_each_interval() {
    // At 100, 200 and 300 ms; one just before the end is left to the report at the end.
    let text = run_with(halves(), "--json --interval 100ms --duration 420ms");
    let reports: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((2..=4).contains(&reports.len()), "a slow machine may miss one: {}", reports.len());
    assert_eq!(reports[0]["coverage"]["census"], 0);
    assert_eq!(reports.last().unwrap()["coverage"]["census"], 242);
    // Long enough for a few, even on a busy machine.
    let text = run_with(halves(), "--csv --interval 100ms --duration 1050ms --by user");
    assert_eq!(text.lines().filter(|line| line.starts_with("time,")).count(), 1, "{text}");
    let text = run_with(halves(), "--interval 100ms --duration 1050ms --by user");
    assert!(text.matches("\n\ntwtrace ").count() >= 1, "{text}");
}

#[test]
fn filters_and_orders_reach_the_report() {
    let text = run_with(halves(), "--once --duration 1ms --csv --comm curl --pid 2003,2004 --sort name");
    assert_eq!(text.lines().filter(|line| line.contains(",curl,")).count(), 2, "{text}");
    let text = run_with(halves(), "--once --duration 1ms --by destination --dest 10.0.1.0/24:25");
    assert!(text.contains("10.0.1.4:25") && !text.contains(":5432  active"), "{text}");
}

#[test]
fn a_readable_descriptor_wakes_the_loop() {
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let readable_for_good = reader.try_clone().unwrap();
    let script = |fd: std::os::unix::net::UnixStream| Script { fd: Some(fd.into()), ..Script::of(Vec::new()) };
    let first = script(reader);
    let pumped = Arc::clone(&first.pumped);
    let waker = std::thread::spawn(move || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            (&writer).write_all(b"x").unwrap();
        }
        writer
    });
    run_with(first, "--once --duration 250ms --json");
    let pumped = pumped.load(Ordering::Relaxed);
    assert!(pumped > 5, "the timer alone would have woken it at most four times: {pumped}");
    // A descriptor that stays readable does not delay the end.
    drop(waker.join().unwrap());
    run_with(script(readable_for_good), "--once --duration 50ms --json");
}

#[test]
fn failures_of_source_and_output_are_reported() {
    struct Broken;
    impl Source for Broken {
        type Error = anyhow::Error;

        fn pump(&mut self, _: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
            bail!("the ring is gone")
        }
        fn final_pump(&mut self, _: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
            bail!("the ring is gone")
        }
    }
    impl EventSource for Broken {
        fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }
    let error = report(|_| Ok(Broken), &args("--once"), &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "the ring is gone");

    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for form in ["--json", "--csv", ""] {
        let args = args(&format!("--once --duration 1ms {form}"));
        let error = report(|_| Ok(halves()), &args, &mut Closed).unwrap_err();
        let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        assert_eq!(kind, Some(io::ErrorKind::BrokenPipe), "{form}");
    }
}

#[test]
fn findings_that_apply_make_it_fail() {
    let findings = findings();
    let snapshot = |findings: &[Finding]| web::snapshot().with_findings(findings.to_vec());
    let failing = |text: &str| crate::exit_code::failing(Some(&text.parse().unwrap()), &snapshot(&findings));
    let reached = failing("exhaustion-reached").unwrap();
    assert_eq!(
        reached,
        "failed on CRITICAL exhaustion-reached: =\\x1b[2J\\xff\\u{202e},\"x[666] -> 10.0.1.2:5432: finds no free port: \
         connects fail with EADDRNOTAVAIL"
    );
    for text in ["any", "warning", "critical", "exhaustion-near,exhaustion-reached"] {
        assert_eq!(failing(text).as_ref(), Some(&reached), "{text}");
    }
    // It is over.
    assert_eq!(failing("fork-per-request"), None);
    // Ports that have run out also count as near exhaustion.
    assert_eq!(failing("exhaustion-near").as_ref(), Some(&reached));
    let of_last_two = |text: &str| crate::exit_code::failing(Some(&text.parse().unwrap()), &snapshot(&findings[1..]));
    assert_eq!(of_last_two("warning"), None);
    assert!(of_last_two("any").unwrap().starts_with("failed on info incomplete-trace: this host: "));
    assert_eq!(crate::exit_code::failing(None, &snapshot(&findings)), None);
    let code = |fail_on: Option<&str>| {
        format!("{:?}", exit_code(fail_on.map(|text| text.parse().unwrap()).as_ref(), &[&snapshot(&findings)]))
    };
    assert_eq!(code(Some("any")), format!("{:?}", ExitCode::from(1)));
    assert_eq!(code(Some("close-wait-leak")), format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(code(None), format!("{:?}", ExitCode::SUCCESS));
}
