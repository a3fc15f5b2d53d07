//! Findings in words: process, destination, severity, and the effect of a change. Everything here is clean: see
//! [`text::clean`].

use crate::{label, text};
use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write};
use twtrace_core::event::Role;
use twtrace_core::evidence::{Evidence, Unit, Value};
use twtrace_core::finding::{Advice, Confidence, Effect, Finding, Rule, Severity, Subject};
use twtrace_core::snapshot::Snapshot;

/// Maximum number of findings in a text report.
const SHOWN: usize = 5;

/// Text when there are none.
pub const NOTHING: &str = "nothing to report";

/// Findings in order: the most severe first, active ones before ended ones, then by rule.
pub fn sorted(findings: &[Finding]) -> Vec<&Finding> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| (Reverse((finding.severity, finding.active)), finding.rule));
    sorted
}

/// Findings of a whole trace in order: the most severe first, then the gravest; whether they are over matters last.
pub fn by_gravity(findings: &[Finding]) -> Vec<&Finding> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| (Reverse(finding.severity), finding.rule, !finding.active));
    sorted
}

/// The most severe active finding.
pub fn worst(findings: &[Finding]) -> Option<&Finding> {
    sorted(findings).into_iter().find(|finding| finding.active)
}

/// Identity of a finding. It keeps it from one snapshot to the next, even when exhaustion that was near is reached, or when a
/// habit has had its consequence: the page stays open for the user who reads it.
pub fn id(finding: &Finding) -> u64 {
    let mut hasher = DefaultHasher::new();
    let process = finding.process.map(|party| (party.process, party.command, party.ppid, party.uid));
    let rule = match finding.cause.unwrap_or(finding.rule) {
        Rule::ExhaustionNear => Rule::ExhaustionReached,
        rule => rule,
    };
    (rule, process, finding.destination).hash(&mut hasher);
    hasher.finish()
}

/// The severity in a word.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "CRITICAL",
        Severity::Warning => "WARNING",
        Severity::Info => "info",
    }
}

/// The same, with whether it is still active.
pub fn state(finding: &Finding) -> String {
    let over = if finding.active { "" } else { " (over)" };
    format!("{}{over}", severity(finding.severity))
}

/// The confidence in a word.
pub fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::High => "high: seen in the kernel",
        Confidence::Medium => "medium: the pattern fits, and nothing contradicts it",
        Confidence::Low => "low: other causes may leave the same pattern",
    }
}

/// The process; for several processes, their parent. With a snapshot, by what an operator calls it.
pub fn who(finding: &Finding, snapshot: Option<&Snapshot>) -> String {
    match &finding.process {
        Some(Subject { process: Some(key), command, .. }) => {
            let facts = snapshot.and_then(|snapshot| snapshot.facts(*key));
            label::program_and_pid(&text::lossless(command.bytes()), key.tgid, facts)
        }
        Some(subject) => {
            let parent = label::process(&subject.parent_command, subject.ppid);
            format!("{parent} ({} {})", text::count(subject.processes), label::command(&subject.command))
        }
        // Of a destination, it is some process.
        None if finding.destination.is_some() => "no known process".to_owned(),
        None => "this host".to_owned(),
    }
}

/// The destination, or the listening port; empty when no place can be named.
pub fn place(finding: &Finding) -> String {
    finding.destination.as_ref().map_or_else(String::new, |key| {
        let sign = if key.role == Role::Passive { "on" } else { "->" };
        format!("{sign} {}", label::place(key))
    })
}

/// Process and destination: `client[123] -> 127.0.0.1:80`.
pub fn subject(finding: &Finding, snapshot: Option<&Snapshot>) -> String {
    let (who, place) = (who(finding, snapshot), place(finding));
    if place.is_empty() { who } else { format!("{who} {place}") }
}

/// What is wrong.
pub fn title(finding: &Finding) -> String {
    text::clean(&finding.title).into_owned()
}

/// What else is known of a finding's subject, by title: its user, its parent, and the rule that found the cause.
pub fn about(finding: &Finding, snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let mut about = Vec::new();
    if let Some(subject) = &finding.process {
        about.push(("user", label::user(subject.uid, snapshot)));
        about.push(("parent", label::process(&subject.parent_command, subject.ppid)));
    }
    about.extend(finding.cause.map(|cause| ("because of", cause.name().to_owned())));
    about
}

/// A number with as few digits as needed: `0`, `12.3`, `64,506`.
pub fn number(number: f64) -> String {
    let text = text::rate(number);
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// What an effect changes, in a few words.
pub fn figure(effect: &Effect) -> &'static str {
    match effect.figure {
        "time_wait_created_per_s" => "created/s",
        "ports_total" => "ports",
        "max_rate_per_s" => "max/s",
        "connect_failures_per_s" | "bind_failures_per_s" => "failures/s",
        "resets_per_s" => "resets/s",
        "ports_bound" => "ports bound",
        "connections_needed" => "connections needed",
        "time_wait_live" => "TIME_WAIT alive",
        "close_wait" => "CLOSE_WAIT",
        "fin_wait1" => "FIN_WAIT1",
        "fin_wait2" => "FIN_WAIT2",
        "accept_queue" => "accept queue",
        "connect_ms" => "connect, ms:",
        other => other,
    }
}

/// What changes: `created/s 322 -> 0`.
pub fn effect(effect: &Effect) -> String {
    format!("{} {} -> {}", figure(effect), number(effect.from), number(effect.to))
}

/// The effects of an advice that a reader can compare.
pub fn compared(advice: &Advice) -> impl Iterator<Item = &Effect> {
    // Less than one connection, on average, says nothing.
    let says_something =
        |effect: &&Effect| effect.figure != "connections_needed" || effect.from >= 1.0 && effect.from != effect.to;
    advice.effect.iter().filter(says_something)
}

/// All effects of an advice; empty if they are not known.
pub fn effects(advice: &Advice) -> String {
    compared(advice).map(effect).collect::<Vec<_>>().join(", ")
}

/// An advice's sentence.
pub fn advice(advice: &Advice) -> String {
    text::clean(&advice.text).into_owned()
}

/// An advice's command. It is printed, and never executed.
pub fn command(advice: &Advice) -> Option<String> {
    advice.command.as_deref().map(|command| text::clean(command).into_owned())
}

/// The same in one line: a shell command or a setting of a program.
pub fn command_line(advice: &Advice) -> Option<String> {
    command(advice).as_deref().map(prefixed)
}

/// A clean command, with a prefix that distinguishes a shell command from a setting of a program.
pub fn prefixed(command: &str) -> String {
    format!("{} {command}", if is_shell(command) { "$" } else { "setting:" })
}

/// Whether a command is for a shell, and not a setting of a program.
pub fn is_shell(command: &str) -> bool {
    let programs =
        ["sysctl", "nsenter", "ip", "redis-cli", "psql", "mysql", "curl", "wget", "ss", "tcpdump", "grep", "mount"];
    command.split_once(' ').is_some_and(|(program, _)| programs.contains(&program))
}

/// A piece of evidence: its label, and the value with its unit.
pub fn evidence(evidence: &Evidence) -> (String, String) {
    let kind = evidence.kind();
    let value = match (evidence.value(), kind.unit) {
        (Value::Count(pid), Unit::Pid) => pid.to_string(),
        (Value::Count(count), _) => text::count(count),
        (Value::Number(share), Unit::Share) => text::percent(share),
        (Value::Number(number), _) => self::number(number),
        (Value::Text(text), _) => text::clean(&text).into_owned(),
    };
    let unit = match kind.unit {
        Unit::Plain | Unit::Share | Unit::Pid => "",
        Unit::PerSecond => "/s",
        Unit::Seconds => " s",
        Unit::Milliseconds => " ms",
        Unit::Bytes => " bytes",
    };
    let about = if kind.is_estimated { "~" } else { "" };
    (kind.label.to_owned(), format!("{about}{value}{unit}"))
}

/// The share from 0 to 1 that a piece of evidence is, if it is one.
pub fn share(evidence: &Evidence) -> Option<f64> {
    match (evidence.value(), evidence.kind().unit) {
        (Value::Number(share), Unit::Share) => Some(share),
        _ => None,
    }
}

/// Pieces of evidence in a line, apart from processes.
const SEEN: usize = 6;

/// The evidence in a line: first the other processes that have a part in it, then the most important figures.
pub fn seen(finding: &Finding, snapshot: Option<&Snapshot>) -> String {
    let count = |wanted: fn(&Evidence) -> Option<u64>| finding.evidence.iter().find_map(wanted);
    let name = |wanted: fn(&Evidence) -> Option<&String>| finding.evidence.iter().find_map(wanted);
    let process = |role: &str, pid: Option<u64>, command: Option<&String>| {
        let command = command.map(String::as_str).unwrap_or_default();
        pid.map(|pid| {
            // At most 2^22 (`PID_MAX_LIMIT`).
            let pid = pid as u32;
            let facts = snapshot.and_then(|snapshot| snapshot.facts_of_pid(pid));
            format!("{role} {}", label::program_and_pid(command, pid, facts))
        })
    };
    macro_rules! of {
        ($variant:ident) => {
            |evidence| if let Evidence::$variant(value) = evidence { Some(*value) } else { None }
        };
        (text $variant:ident) => {
            |evidence| if let Evidence::$variant(value) = evidence { Some(value) } else { None }
        };
    }
    let processes = [
        process("fails:", count(of!(FailingPid)), name(of!(text FailingCommand))),
        process("held by", count(of!(HolderPid)), name(of!(text HolderCommand))),
        process("closed by", count(of!(ClosedByPid)), name(of!(text ClosedByCommand))),
        process("opened by", count(of!(OpenerPid)), None),
        process("server", count(of!(ServerPid)), name(of!(text ServerCommand))),
        process("through", count(of!(RelayPid)), name(of!(text RelayCommand))),
    ];
    let is_said = |evidence: &&Evidence| {
        use Evidence::{ClosedByCommand, FailingCommand, HolderCommand, RelayCommand, ServerCommand, Verdict};
        matches!(
            evidence,
            ClosedByCommand(_) | FailingCommand(_) | HolderCommand(_) | ServerCommand(_) | RelayCommand(_) | Verdict(_)
        ) || evidence.kind().unit == Unit::Pid
            || matches!(evidence.value(), Value::Count(0))
            || matches!(evidence.value(), Value::Number(number) if number == 0.0)
    };
    let figures = finding.evidence.iter().filter(|evidence| !is_said(evidence)).take(SEEN).map(|evidence| {
        let (label, value) = self::evidence(evidence);
        format!("{label} {value}")
    });
    processes.into_iter().flatten().chain(figures).collect::<Vec<_>>().join(", ")
}

/// Writes the findings below a text table: the most severe, each with the best advice.
///
/// # Errors
/// The output cannot be written to.
pub fn write_text(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let sorted = sorted(snapshot.findings());
    if sorted.is_empty() {
        return writeln!(out, "\nFINDINGS: {NOTHING}");
    }
    writeln!(out, "\nFINDINGS")?;
    for finding in sorted.iter().take(SHOWN) {
        let (state, subject) = (state(finding), subject(finding, Some(snapshot)));
        writeln!(out, "{state}  {}  {subject}: {}", finding.rule.name(), title(finding))?;
        let seen = seen(finding, Some(snapshot));
        if !seen.is_empty() {
            writeln!(out, "    seen: {seen}")?;
        }
        if let Some(first) = finding.advice.first() {
            write_advice(first, "", out)?;
        }
        if let Some(other) = meanwhile(finding) {
            write_advice(other, "Meanwhile: ", out)?;
        }
    }
    if sorted.len() > SHOWN {
        writeln!(out, "and {} more", text::count((sorted.len() - SHOWN) as u64))?;
    }
    Ok(())
}

fn write_advice(one: &Advice, before: &str, out: &mut dyn Write) -> io::Result<()> {
    let effects = effects(one);
    let effects = if effects.is_empty() { effects } else { format!(" ({effects})") };
    writeln!(out, "    {before}{}{effects}", advice(one))?;
    if let Some(command) = command_line(one) {
        writeln!(out, "    {command}")?;
    }
    if !one.risk.starts_with("None") {
        writeln!(out, "    risk: {}", text::clean(&one.risk))?;
    }
    Ok(())
}

/// Where something fails now, and the best advice is a change of the program: what can be set at once.
fn meanwhile(finding: &Finding) -> Option<&Advice> {
    let is_sysctl = |command: &str| is_shell(command) && command.contains("sysctl -w");
    let is_command = |advice: &&Advice| advice.command.as_deref().is_some_and(is_sysctl);
    let first = finding.advice.first()?;
    let is_slow = finding.active && finding.severity == Severity::Critical && !is_command(&first);
    finding.advice.iter().find(is_command).filter(|_| is_slow)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use twtrace_core::finding::Rule;

    fn written(findings: &[Finding]) -> String {
        let mut out = Vec::new();
        write_text(&twtrace_testkit::web::snapshot().with_findings(findings.to_vec()), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().all(text::is_plain)), "{text}");
        text
    }

    #[test]
    fn the_most_severe_come_first_with_their_best_advice() {
        let mut findings = twtrace_testkit::findings();
        findings.reverse();
        insta::assert_snapshot!(written(&findings));
        assert_eq!(written(&[]), "\nFINDINGS: nothing to report\n");
    }

    #[test]
    fn past_findings_come_after_active_ones() {
        let mut findings = twtrace_testkit::findings();
        findings[0].active = false;
        assert_eq!(worst(&findings).unwrap().rule, Rule::IncompleteTrace);
        findings[1].severity = Severity::Critical;
        findings[1].active = true;
        let order: Vec<Rule> = sorted(&findings).iter().map(|finding| finding.rule).collect();
        assert_eq!(order, [Rule::ForkPerRequest, Rule::ExhaustionReached, Rule::IncompleteTrace]);
        let many: Vec<Finding> = findings.iter().cycle().take(9).cloned().collect();
        let text = written(&many);
        assert!(text.ends_with("\nand 4 more\n") && text.contains("CRITICAL (over)  exhaustion-reached"), "{text}");
        assert_eq!(worst(&[]), None);
    }

    #[test]
    fn evidence_has_its_units() {
        let of = |evidence: Evidence, label: &str, value: &str| {
            assert_eq!(super::evidence(&evidence), (label.to_owned(), value.to_owned()));
        };
        of(Evidence::LifetimeMs(8.06), "lifetime", "8.1 ms");
        of(Evidence::FailuresPerS(322.0), "failures", "322/s");
        of(Evidence::SecondsToExhaustion(4.0), "exhausted in", "~4 s");
        of(Evidence::CloseWaitFor3S(12_000), "CLOSE_WAIT for 3 s", "12,000");
        of(Evidence::FailingPid(12_345), "failing pid", "12345");
        of(Evidence::Coverage(0.934), "coverage", "93.4%");
        of(Evidence::Reason("a\u{1b}\n".to_owned()), "reason", "a\\x1b\\n");
    }
}
