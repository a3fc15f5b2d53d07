//! `twtrace budget` as text and as JSON.

use crate::grid::{Grid, Head};
use crate::text;
use std::fmt::Write as _;
use std::io::{self, Write};
use twtrace_core::plan::report::{From, Inputs, Name, Report};
use twtrace_core::plan::{Outcome, Remedy};

/// Columns of the text.
pub const WIDTH: usize = 80;

/// Requests per second above which a limit by ports is not worth a number.
const NO_LIMIT: f64 = 1e6;

/// The report as JSON, one object and a newline.
///
/// # Errors
/// The output cannot be written to.
pub fn write_json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

/// The report as text: the answer, its inputs, the table of remedies, and how to apply them.
///
/// # Errors
/// The output cannot be written to.
pub fn write_text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    wrap("", &report.verdict, out)?;
    writeln!(out)?;
    for (name, value) in figures(report).into_iter().chain(origins(report)) {
        wrap(&format!("{name:<13}  "), &value, out)?;
    }
    writeln!(out)?;
    let (others, helps): (Vec<&Remedy>, Vec<&Remedy>) =
        report.remedies.iter().partition(|remedy| remedy.without_effect.is_some());
    let numbered: Vec<(usize, &Remedy)> = (1..).zip(helps).collect();
    table(report, &numbered).write_text(out)?;
    if !others.is_empty() {
        writeln!(out)?;
        let said: Vec<String> = others
            .iter()
            .map(|other| format!("{} ({})", other.text, other.without_effect.unwrap_or_default()))
            .collect();
        wrap("", &format!("Without effect here: {}.", said.join(", ")), out)?;
    }
    writeln!(out, "\nHow, and at what risk (printed here, never executed):")?;
    for (number, remedy) in numbered {
        wrap(&format!("{number}  "), &remedy.command, out)?;
        wrap("   ", remedy.risk, out)?;
    }
    Ok(())
}

/// The answer in one sentence.
pub fn verdict(inputs: &Inputs, outcome: &Outcome) -> String {
    let to = destinations(inputs);
    let ports = count(f64::from(outcome.ports_available));
    let Some(rate) = inputs.rate_per_s else {
        return match outcome.max_rate_per_s {
            _ if outcome.ports_available == 0 => "No port is left to connect from.".to_owned(),
            Some(_) => format!(
                "This host sustains {} connections/s {to} when it closes first: {ports} ports{}, each in use for {}.",
                limit(outcome.max_rate_per_s),
                if pairs(inputs) > 1 && !inputs.bind_first { " to each" } else { "" },
                length(kept_for(inputs, outcome) + inputs.lifetime_seconds)
            ),
            None => format!("Ports set no limit to connections {to}: each port is free at once."),
        };
    };
    let each = if pairs(inputs) > 1 { " each" } else { "" };
    let rate = per_second(rate);
    let needed = count(outcome.ports_needed.ceil());
    match outcome.seconds_to_exhaustion {
        _ if outcome.ports_available == 0 => "No port is left to connect from: every connect fails.".to_owned(),
        Some(seconds) => format!(
            "Ports run out after {}: {rate}/s {to} need {needed} ports{each}, and there are {ports}.",
            length(seconds)
        ),
        None if outcome.overflows => format!(
            "Ports last, but only because the kernel drops TIME_WAIT sockets above tcp_max_tw_buckets: {rate}/s {to} \
             create {}, the limit is {}. An old segment may then reach a new connection.",
            count(outcome.time_wait_wanted),
            count(outcome.time_wait)
        ),
        None => format!(
            "Ports never run out: {rate}/s {to} need {needed} of {ports} ports{each} ({}).",
            text::percent(outcome.ports_needed / f64::from(outcome.ports_available))
        ),
    }
}

fn destinations(inputs: &Inputs) -> String {
    let to = text::counted(inputs.destinations as usize, "destination", "destinations");
    match inputs.source_ips {
        1 => format!("to {to}"),
        several => format!("to {to} from {} addresses", text::count(several.into())),
    }
}

fn pairs(inputs: &Inputs) -> u64 {
    u64::from(inputs.destinations) * u64::from(inputs.source_ips)
}

/// How long a port stays in use, seconds: for sockets that are bound first, the whole of TIME_WAIT.
fn kept_for(inputs: &Inputs, outcome: &Outcome) -> f64 {
    if inputs.bind_first { twtrace_core::ports::TIME_WAIT_SECONDS } else { outcome.hold_seconds }
}

fn figures(report: &Report) -> Vec<(&'static str, String)> {
    let Report { inputs, outcome, .. } = report;
    let (low, high) = inputs.range;
    let mut ports = format!("{} in {low}-{high}", count(f64::from(outcome.ports_available)));
    let _ = match inputs.ports_reserved {
        0 => write!(ports, ", none reserved"),
        reserved => write!(ports, ", {} reserved", count(reserved.into())),
    };
    ports.push_str(match (inputs.bind_first, pairs(inputs)) {
        (true, _) => "; bound first, so one set for all destinations",
        (_, 1) => "",
        _ => "; the same for each pair of source and destination",
    });
    let mut in_use = format!("{} after close, by tcp_tw_reuse={}", length(kept_for(inputs, outcome)), inputs.tw_reuse);
    in_use.push_str(match (inputs.tw_reuse, inputs.timestamps, inputs.loopback) {
        (1 | 2, ..) if inputs.bind_first => ", which does nothing for ports that are bound first",
        (1 | 2, false, _) => ", which does nothing without TCP timestamps",
        (2, true, false) => ", which applies to loopback only",
        (2, true, true) => " on loopback",
        _ => "",
    });
    let mut rows = vec![("ports", ports), ("port held", in_use), ("sustainable", limit_per_s(outcome.max_rate_per_s))];
    if inputs.rate_per_s.is_some() {
        let bound =
            inputs.max_tw_buckets.map_or("no limit".to_owned(), |limit| format!("limit {}", text::count(limit)));
        rows.push(("TIME_WAIT", format!("{} sockets at a time, {bound}", count(outcome.time_wait.round()))));
        rows.push(("memory", format!("about {} of the kernel's", bytes(outcome.memory_bytes))));
        if inputs.lifetime_seconds > 0.0 {
            rows.push(("open", format!("{} connections at a time", count(outcome.open.ceil()))));
        }
    }
    rows
}

/// Which values come from where; values that the user gave are not listed.
fn origins(report: &Report) -> Vec<(&'static str, String)> {
    let list = |origin: From| {
        let mut said = Vec::new();
        for (name, of) in &report.from {
            if *of == origin {
                said.extend(called(*name, &report.inputs));
            }
        }
        said.join(", ")
    };
    [("of this host", From::Host), ("assumed", From::Assumed), ("given", From::Given)]
        .into_iter()
        .map(|(label, origin)| (label, list(origin)))
        .filter(|(_, said)| !said.is_empty())
        .collect()
}

/// An input in words; `None` where there is nothing to say.
fn called(name: Name, inputs: &Inputs) -> Option<String> {
    Some(match name {
        Name::RatePerS => format!("rate {}/s", per_second(inputs.rate_per_s?)),
        Name::LifetimeSeconds => format!("lifetime {}", length(inputs.lifetime_seconds)),
        Name::Destinations => text::counted(inputs.destinations as usize, "destination", "destinations"),
        Name::SourceIps => text::counted(inputs.source_ips as usize, "source address", "source addresses"),
        Name::Range => "port range".to_owned(),
        Name::Reserved => "reserved ports".to_owned(),
        Name::TwReuse => "tcp_tw_reuse".to_owned(),
        Name::TwReuseDelayMs => format!("tcp_tw_reuse_delay {} ms", inputs.tw_reuse_delay_ms?),
        Name::Timestamps => format!("timestamps {}", if inputs.timestamps { "on" } else { "off" }),
        Name::Loopback if inputs.loopback => "loopback".to_owned(),
        Name::Loopback => "not loopback".to_owned(),
        Name::BindFirst if inputs.bind_first => "bound first".to_owned(),
        Name::BindFirst => return None,
        Name::MaxTwBuckets => "tcp_max_tw_buckets".to_owned(),
    })
}

/// A row of the table: a remedy with its number and its outcome; without a remedy, the outcome of the unchanged plan.
type Row<'a> = (Option<(usize, &'a Remedy)>, &'a Outcome);

fn table(report: &Report, remedies: &[(usize, &Remedy)]) -> Grid {
    let with_rate = report.inputs.rate_per_s.is_some();
    let now = (None, &report.outcome);
    let rows: Vec<Row<'_>> = [now].into_iter().chain(remedies.iter().map(|row| (Some(*row), &row.1.outcome))).collect();
    type Cell = Box<dyn Fn(&Row<'_>) -> String>;
    let columns: Vec<(Head, Cell)> = vec![
        (Head::right("#"), Box::new(|(remedy, _)| remedy.map_or(String::new(), |(number, _)| number.to_string()))),
        (
            Head::left("REMEDY"),
            Box::new(|(remedy, _)| remedy.map_or("as it is".to_owned(), |(_, remedy)| remedy.text.clone())),
        ),
        (Head::right("SUSTAINS/S"), Box::new(|(_, outcome)| limit(outcome.max_rate_per_s))),
        (
            Head::right("RUNS OUT"),
            Box::new(move |(_, outcome)| match outcome.seconds_to_exhaustion {
                _ if !with_rate => String::new(),
                Some(seconds) => length(seconds),
                None => "never".to_owned(),
            }),
        ),
        (
            Head::right("TIME_WAIT"),
            Box::new(move |(_, outcome)| if with_rate { count(outcome.time_wait.round()) } else { String::new() }),
        ),
    ];
    Grid::of(columns, &rows)
}

fn limit(rate: Option<f64>) -> String {
    match rate {
        Some(rate) if rate < NO_LIMIT => per_second(rate),
        _ => "no limit".to_owned(),
    }
}

fn limit_per_s(rate: Option<f64>) -> String {
    let said = limit(rate);
    if rate.is_some_and(|rate| rate < NO_LIMIT) {
        format!("{said} connections/s for ever")
    } else {
        "no limit by ports".to_owned()
    }
}

/// A rate, never rounded up: `470.5`, `28,232`.
fn per_second(rate: f64) -> String {
    // A division may return slightly too little: the intended value is written.
    let rate = rate + 1e-9 * rate.min(1e6);
    let tenths = (rate * 10.0).floor() / 10.0;
    if rate >= 1000.0 || tenths.fract() == 0.0 { count(rate.floor()) } else { format!("{tenths:.1}") }
}

/// A whole number. The cast saturates.
fn count(number: f64) -> String {
    text::count(number as u64)
}

/// A length of time; up to two minutes in whole seconds, because people know TIME_WAIT as 60s.
fn length(seconds: f64) -> String {
    if seconds <= 120.0 && seconds.fract() == 0.0 { format!("{seconds}s") } else { text::seconds(seconds) }
}

fn bytes(bytes: u64) -> String {
    match bytes as f64 / 1024.0 {
        kib if kib < 1024.0 => format!("{:.0} KiB", kib.ceil()),
        kib if kib < 1024.0 * 1024.0 => format!("{:.1} MiB", kib / 1024.0),
        kib => format!("{:.1} GiB", kib / 1024.0 / 1024.0),
    }
}

/// Writes a text in lines of at most [`WIDTH`] columns: `head` before the first, as many blanks before the others. A
/// word that is longer than a line stays whole.
fn wrap(head: &str, said: &str, out: &mut dyn Write) -> io::Result<()> {
    let blank = " ".repeat(text::width(head));
    let lines = text::lines_of(WIDTH).initial_indent(head).subsequent_indent(&blank).break_words(false);
    writeln!(out, "{}", textwrap::fill(said, lines))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use crate::fits::assert_fits;
    use twtrace_core::plan::report::{Name, SCHEMA};
    use twtrace_core::plan::{Plan, remedies};

    #[test]
    fn an_answer_is_as_its_schema_has_it() {
        for rate in [None, Some(1000.0)] {
            let plan = Plan { rate_per_s: rate.unwrap_or_default(), ..Plan::default() };
            let report = Report {
                schema: SCHEMA,
                verdict: "Ports run out.".to_owned(),
                inputs: Inputs {
                    rate_per_s: rate,
                    lifetime_seconds: 0.0,
                    destinations: 1,
                    source_ips: 1,
                    range: (32_768, 60_999),
                    reserved: String::new(),
                    ports_reserved: 0,
                    tw_reuse: 2,
                    tw_reuse_delay_ms: None,
                    timestamps: true,
                    loopback: false,
                    bind_first: false,
                    max_tw_buckets: Some(131_072),
                },
                from: [(Name::Range, From::Given), (Name::TwReuse, From::Host), (Name::Reserved, From::Assumed)].into(),
                outcome: plan.outcome(),
                remedies: remedies(&plan),
            };
            let mut text = Vec::new();
            write_json(&report, &mut text).unwrap();
            assert_fits("budget", &serde_json::from_slice(&text).unwrap());
        }
    }

    #[test]
    fn numbers_are_never_more_than_they_are() {
        assert_eq!([470.59, 470.0, 0.05, 999.99, 28_231.9].map(per_second), ["470.5", "470", "0", "999.9", "28,231"]);
        assert_eq!([1, 1 << 20, 3 << 30].map(bytes), ["1 KiB", "1.0 MiB", "3.0 GiB"]);
        assert_eq!([60.0, 0.0, 28.232, 300.0].map(length), ["60s", "0s", "28.2s", "5m00s"]);
    }
}
