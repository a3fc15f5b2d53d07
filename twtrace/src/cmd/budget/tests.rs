#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::cli::{Cli, Command};
use clap::Parser as _;
use twtrace_core::event::KernelFacts;
use twtrace_testkit::kernel_facts;
use twtrace_view::budget::{WIDTH, write_json, write_text};
use twtrace_view::text;

/// A host with settings of its own.
fn host() -> KernelFacts {
    KernelFacts {
        reserved_ports: "40000-40099".to_owned(),
        tw_reuse: 2,
        tw_reuse_delay_ms: Some(1000),
        timestamps: Some(1),
        ..kernel_facts()
    }
}

fn asked(arguments: &[&str], kernel: Option<&KernelFacts>) -> Report {
    match Cli::try_parse_from(["twtrace", "budget"].iter().chain(arguments)).unwrap().command {
        Command::Budget(args) => report(&args, kernel),
        _ => unreachable!("budget was asked for"),
    }
}

fn written(report: &Report) -> String {
    let mut out = Vec::new();
    write_text(report, &mut out).unwrap();
    let said = String::from_utf8(out).unwrap();
    for line in said.lines() {
        assert!(text::width(line) <= WIDTH, "{line}");
        assert_eq!(line, line.trim_end());
    }
    said
}

const GIVEN: [&str; 8] = ["--rate", "1000", "--range", "32768-60999", "--reserved", "", "--tw-reuse", "0"];

#[test]
fn a_rate_that_exhausts_the_ports() {
    insta::assert_snapshot!(written(&asked(&GIVEN, Some(&host()))));
}

#[test]
fn without_a_rate_there_is_what_the_host_sustains() {
    insta::assert_snapshot!(written(&asked(&[], Some(&host()))));
}

#[test]
fn json_keeps_its_names() {
    let mut out = Vec::new();
    write_json(&asked(&[&GIVEN[..], &["--lifetime", "5ms"]].concat(), Some(&host())), &mut out).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
}

#[test]
fn verdicts_are_one_sentence() {
    let verdict = |arguments: &[&str]| asked(arguments, Some(&host())).verdict;
    for (arguments, says) in [
        (
            &["--rate=1000"][..],
            "Ports run out after 28.1s: 1,000/s to 1 destination need 60,000 ports, and there are 28,132.",
        ),
        (
            &["--rate=1000", "--destinations=3"],
            "Ports never run out: 1,000/s to 3 destinations need 20,000 of 28,132 ports each (71.1%).",
        ),
        (
            &["--rate=2000", "--destinations=2", "--source-ips=2"],
            "Ports run out after 56.2s: 2,000/s to 2 destinations from 2 addresses need 30,000 ports each, and there \
             are 28,132.",
        ),
        (
            &["--rate=1000", "--max-tw-buckets=4096"],
            "Ports last, but only because the kernel drops TIME_WAIT sockets above tcp_max_tw_buckets: 1,000/s to 1 \
             destination create 60,000, the limit is 4,096. An old segment may then reach a new connection.",
        ),
        (&["--rate=1", "--range=40000-40099"], "No port is left to connect from: every connect fails."),
        (&["--range=40000-40099"], "No port is left to connect from."),
        (
            &["--loopback", "--lifetime=500ms"],
            "This host sustains 18,754 connections/s to 1 destination when it closes first: 28,132 ports, each in use \
             for 1.5s.",
        ),
        (
            &["--bind-first", "--tw-reuse=1"],
            "This host sustains 468.8 connections/s to 1 destination when it closes first: 28,132 ports, each in use \
             for 60s.",
        ),
    ] {
        assert_eq!(verdict(arguments), says, "{arguments:?}");
    }
}

#[test]
fn each_value_says_where_it_comes_from() {
    let from = |arguments: &[&str], kernel: Option<&KernelFacts>, name| asked(arguments, kernel).from[&name];
    let host = host();
    assert_eq!(from(&[], Some(&host), Name::Range), From::Host);
    assert_eq!(from(&GIVEN, Some(&host), Name::Range), From::Given);
    assert_eq!(from(&GIVEN, Some(&host), Name::MaxTwBuckets), From::Host);
    assert_eq!(from(&[], Some(&host), Name::Destinations), From::Assumed);
    // Neither /proc nor the command line.
    let report = asked(&[], None);
    assert_eq!((report.from[&Name::Range], report.inputs.range), (From::Assumed, (32_768, 60_999)));
    assert_eq!((report.from[&Name::MaxTwBuckets], report.inputs.max_tw_buckets), (From::Assumed, None));
    assert!(!report.from.contains_key(&Name::RatePerS));
    assert!(written(&report).contains("assumed"));
}

#[test]
fn any_answer_fits_the_terminal() {
    for arguments in [
        &["--rate=1000000000", "--destinations=1000000", "--source-ips=1000000", "--lifetime=1h"][..],
        &["--rate=0.001", "--range=1-1", "--max-tw-buckets=1", "--bind-first", "--lifetime=87000h"],
        &["--rate=12345.678", "--range=1024-65535", "--max-tw-buckets=2147483647", "--loopback", "--tw-reuse=1"],
    ] {
        let said = written(&asked(arguments, Some(&host())));
        assert!(!said.contains("NaN") && !said.contains("inf"), "{said}");
    }
}
