//! `twtrace doctor` as text and as JSON.

use crate::text;
use std::io::{self, Write};
use twtrace_core::audit::{Line, Other, Report as Audited, Verdict};
use twtrace_core::doctor::Report;
use twtrace_core::event::Tier;

/// The report as JSON, one object and a newline.
pub fn write_json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

/// The report as aligned text, in words and without colour.
pub fn write_text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "twtrace doctor, kernel {}", printable(&report.kernel))?;
    writeln!(out)?;
    let width = report.checks.iter().map(|check| check.id.len()).max().unwrap_or(0);
    for check in &report.checks {
        writeln!(out, "{:<8}  {:<width$}  {}", <&str>::from(check.status), check.id, printable(&check.found))?;
        for (label, text) in [("costs", &check.cost), ("fix", &check.fix)] {
            if let Some(text) = text {
                writeln!(out, "{:<8}  {:<width$}  {label}: {}", "", "", printable(text))?;
            }
        }
    }
    writeln!(out, "\nhooks")?;
    let width = report.hooks.iter().map(|hook| hook.name.len()).max().unwrap_or(0);
    let kind = report.hooks.iter().map(|hook| hook.kind.len()).max().unwrap_or(0);
    for hook in &report.hooks {
        let state = if hook.attached { "attached" } else { "refused" };
        let reason = hook.reason.as_deref().map(|reason| format!("  {}", printable(reason))).unwrap_or_default();
        let line = format!("  {state:<8}  {:<width$}  {:<kind$}{reason}", hook.name, hook.kind);
        writeln!(out, "{}", line.trim_end())?;
    }
    if report.hooks.is_empty() {
        writeln!(out, "  none could be tried")?;
    }
    writeln!(out, "\nsysctls of this network namespace")?;
    let width = report.sysctls.keys().map(|name| name.len()).max().unwrap_or(0);
    for (name, sysctl) in &report.sysctls {
        let value = sysctl.value.as_deref().map_or("-", |value| if value.is_empty() { "(none)" } else { value });
        writeln!(out, "  {name:<width$}  {}", printable(value))?;
        writeln!(out, "  {:<width$}    {}", "", sysctl.meaning)?;
    }
    writeln!(out, "\n{}", printable(&report.verdict))
}

/// The report of an audit as JSON, one object and a newline.
pub fn write_audit_json(report: &Audited, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

/// The report of an audit as aligned text.
pub fn write_audit(report: &Audited, out: &mut dyn Write) -> io::Result<()> {
    let Audited { tier, netns, seconds, verdict, namespaces, .. } = report;
    writeln!(out, "audit of {seconds:.1} s, tier {}, network namespace {netns}\n", tier_name(*tier))?;
    write_lines(&verdict.lines, out)?;
    // Most of a host's containers do nothing: they are only counted.
    let at_rest = |verdict: &Verdict| verdict.agrees && verdict.lines.iter().all(is_at_rest);
    let (idle, busy): (Vec<&Other>, Vec<&Other>) = namespaces.iter().partition(|other| at_rest(&other.verdict));
    for Other { netns, name, verdict } in busy {
        writeln!(out, "\nnetwork namespace {netns}, {}\n", text::clean(name))?;
        write_lines(&verdict.lines, out)?;
    }
    if !idle.is_empty() {
        writeln!(out, "\nand {} in which nothing happened", text::counted(idle.len(), "other", "others"))?;
    }
    let lost =
        if verdict.lost == 0 { "nothing was lost".to_owned() } else { format!("{} events were lost", verdict.lost) };
    let verdict =
        if report.agrees() { "the trace agrees with the kernel" } else { "the trace DISAGREES with the kernel" };
    writeln!(out, "\n{verdict}; {lost}")
}

fn is_at_rest(line: &Line) -> bool {
    line.kernel == 0 && line.traced.unwrap_or(0) == 0
}

fn write_lines(lines: &[Line], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:<9}  {:>12}  {:>12}  ", "", "kernel", "traced")?;
    for line in lines {
        let traced = line.traced.map_or("-".to_owned(), |traced| traced.to_string());
        let said = match (line.traced, line.agrees) {
            (None, _) => "not seen in this tier".to_owned(),
            (_, false) => "DISAGREE".to_owned(),
            (_, true) => agreement(line),
        };
        writeln!(out, "{:<9}  {:>12}  {:>12}  {said}  ({})", line.name, line.kernel, traced, line.counter)?;
    }
    Ok(())
}

/// How closely the two figures agree.
fn agreement(line: &Line) -> String {
    let doubts = [(line.slack, "at the moments of reading"), (line.inferred, "by inference")];
    let doubts: Vec<String> =
        doubts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if doubts.is_empty() { "agree".to_owned() } else { format!("agree, give or take {}", doubts.join(" and ")) }
}

/// Name of a tier, as in JSON.
pub fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Exact => "exact",
        Tier::Cookie => "cookie",
        Tier::Tuple => "tuple",
    }
}

/// On one line and without control characters: reasons quote paths and kernel logs.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use crate::fits::assert_fits;
    use std::collections::BTreeMap;
    use twtrace_core::doctor::{Check, ProgramSize, SCHEMA, Status, Sysctl};
    use twtrace_core::event::Hook;

    fn report() -> Report {
        Report {
            schema: SCHEMA,
            kernel: "6.12.0".to_owned(),
            works: true,
            verdict: "top works here, tier cookie, with limits: tracefs".to_owned(),
            tier: Some(Tier::Cookie),
            checks: vec![
                Check { id: "btf", status: Status::Ok, found: "found".to_owned(), cost: None, fix: None },
                Check {
                    id: "tracefs",
                    status: Status::Degraded,
                    found: "not mounted\u{1b}[2J".to_owned(),
                    cost: Some("no errno".to_owned()),
                    fix: Some("mount it".to_owned()),
                },
            ],
            programs: vec![ProgramSize {
                name: "a".to_owned(),
                verified_instructions: Some(900),
                translated_bytes: None,
                jited_bytes: 1000,
            }],
            hooks: vec![
                Hook { name: "a".to_owned(), kind: "tp_btf".to_owned(), attached: true, reason: None },
                Hook {
                    name: "bc".to_owned(),
                    kind: "tracepoint".to_owned(),
                    attached: false,
                    reason: Some("tracefs\nnot found".to_owned()),
                },
            ],
            sysctls: BTreeMap::from([
                ("net.x", Sysctl { value: Some(String::new()), meaning: "nothing".to_owned() }),
                ("net.xyz", Sysctl { value: None, meaning: "not in this kernel".to_owned() }),
            ]),
        }
    }

    #[test]
    fn text_is_aligned_and_clean() {
        let mut text = Vec::new();
        write_text(&report(), &mut text).unwrap();
        let expected = "\
twtrace doctor, kernel 6.12.0

ok        btf      found
degraded  tracefs  not mounted [2J
                   costs: no errno
                   fix: mount it

hooks
  attached  a   tp_btf
  refused   bc  tracepoint  tracefs not found

sysctls of this network namespace
  net.x    (none)
             nothing
  net.xyz  -
             not in this kernel

top works here, tier cookie, with limits: tracefs
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn json_keeps_its_names() {
        let mut text = Vec::new();
        write_json(&report(), &mut text).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_fits("doctor", &json);
        assert_eq!(json["schema"], 1);
        assert_eq!(json["works"], true);
        assert_eq!(json["tier"], "cookie");
        assert_eq!(json["checks"][1]["id"], "tracefs");
        assert_eq!(json["checks"][1]["status"], "degraded");
        assert_eq!(json["checks"][1]["found"], "not mounted\u{1b}[2J");
        assert_eq!(json["checks"][1]["cost"], "no errno");
        assert_eq!(json["checks"][1]["fix"], "mount it");
        assert_eq!(json["hooks"][1]["reason"], "tracefs\nnot found");
        assert_eq!(json["sysctls"]["net.x"]["meaning"], "nothing");
        assert_eq!(json["sysctls"]["net.xyz"]["value"], serde_json::Value::Null);
    }

    #[test]
    fn an_audit_is_as_its_schema_has_it() {
        let line = |traced| Line {
            name: "created",
            counter: "TW + TWKilled",
            kernel: -1,
            traced,
            slack: 2,
            inferred: 1,
            agrees: traced.is_none(),
        };
        let verdict = |traced| Verdict { lines: vec![line(traced)], lost: 0, agrees: traced.is_none() };
        let report = Audited {
            schema: twtrace_core::audit::SCHEMA,
            tier: Tier::Exact,
            netns: 1,
            seconds: 1.5,
            verdict: verdict(None),
            namespaces: vec![Other { netns: 2, name: "a".to_owned(), verdict: verdict(Some(1)) }],
        };
        let mut text = Vec::new();
        write_audit_json(&report, &mut text).unwrap();
        assert_fits("audit", &serde_json::from_slice(&text).unwrap());
    }

    #[test]
    fn tiers_are_named_as_in_json() {
        for tier in [Tier::Exact, Tier::Cookie, Tier::Tuple] {
            assert_eq!(serde_json::to_value(tier).unwrap(), tier_name(tier));
        }
    }
}
