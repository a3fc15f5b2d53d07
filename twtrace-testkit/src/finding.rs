//! Findings to display.

use crate::{HOSTILE, NETNS, comm};
use twtrace_core::event::{ProcessKey, Role};
use twtrace_core::evidence::Evidence;
use twtrace_core::finding::{Advice, Confidence, Effect, Finding, Rule, Severity, Subject};
use twtrace_core::snapshot::DestKey;

/// Findings as rules could write them: a critical one about a hostile process, one about the many children of one
/// parent that has stopped, and one about the tracer itself.
pub fn findings() -> Vec<Finding> {
    let key = |last: u8, port| DestKey {
        netns: NETNS,
        role: Role::Active,
        local_addr: [10, 0, 0, 1].into(),
        remote_addr: Some([10, 0, 1, last].into()),
        port,
    };
    let advice = |id, text: &str, command: Option<&str>, effect: &[(&'static str, f64, f64)], risk: &str| Advice {
        id,
        text: text.to_owned(),
        command: command.map(str::to_owned),
        effect: effect.iter().map(|(figure, from, to)| Effect { figure, from: *from, to: *to }).collect(),
        risk: risk.to_owned(),
    };
    vec![
        Finding {
            rule: Rule::ExhaustionReached,
            severity: Severity::Critical,
            active: true,
            process: Some(Subject {
                process: Some(ProcessKey { tgid: 666, start_ns: 666_000 }),
                command: comm(HOSTILE),
                ppid: 1,
                parent_command: comm("systemd"),
                processes: 1,
                uid: 1002,
            }),
            destination: Some(key(2, 5432)),
            cause: Some(Rule::NoConnectionReuse),
            title: "finds no free port: connects fail with EADDRNOTAVAIL".to_owned(),
            evidence: vec![
                Evidence::FailuresPerS(12.25),
                Evidence::Failures(61_000),
                Evidence::Reason("=cmd|' /C calc'!A0 \u{1b}]0;owned\u{7}<b>\u{202e}gpj.exe|\n".to_owned()),
            ],
            advice: vec![
                advice(
                    "pool-connections",
                    "Keep 3 connections open and send the requests through them, one after the other.",
                    None,
                    &[("time_wait_created_per_s", 322.0, 0.0), ("connect_failures_per_s", 12.25, 0.0)],
                    "The server keeps as many connections open for each client.",
                ),
                advice(
                    "wider-port-range",
                    "Let more local ports be used.",
                    Some("sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""),
                    &[("ports_total", 250.0, 64_506.0), ("max_rate_per_s", 4.17, 1075.1)],
                    "Services that listen within the new range may find their port taken: reserve those ports.",
                ),
            ],
            confidence: Confidence::High,
            recheck: "`twtrace top --once --fail-on exhaustion-reached` ends with 0.".to_owned(),
        },
        Finding {
            rule: Rule::ForkPerRequest,
            severity: Severity::Warning,
            active: false,
            process: Some(Subject {
                process: None,
                command: comm("curl"),
                ppid: 500,
                parent_command: comm("cron.sh"),
                processes: 40,
                uid: 1000,
            }),
            destination: Some(key(1, 443)),
            cause: None,
            title: "starts a process for each request".to_owned(),
            evidence: vec![Evidence::Processes(40), Evidence::Connections(80)],
            advice: vec![advice(
                "keep-alive",
                "Send several requests from one process, on one connection.",
                Some("curl --parallel URL1 URL2"),
                &[("time_wait_created_per_s", 16.0, 0.4)],
                "None that is known.",
            )],
            confidence: Confidence::Medium,
            recheck: "The parent's row shows few processes.".to_owned(),
        },
        Finding {
            rule: Rule::IncompleteTrace,
            severity: Severity::Info,
            active: true,
            process: None,
            destination: None,
            cause: None,
            title: "1,234 events were lost: figures are too low".to_owned(),
            evidence: vec![Evidence::Lost(1234)],
            advice: Vec::new(),
            confidence: Confidence::High,
            recheck: "The header says `lost 0`.".to_owned(),
        },
    ]
}
