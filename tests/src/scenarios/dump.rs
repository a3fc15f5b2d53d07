//! A summary of what the tracer saw of a run, in a few lines for the reader.

use std::fmt::Write as _;

use serde_json::Value;

use super::play::Played;

/// Processes listed: those with the most connections.
const PROCESSES: usize = 8;

/// Summarizes a run from both of its reports.
pub fn of(played: &Played) -> String {
    let mut text = format!("  load pid {} for {:.1} s; ", played.load, played.seconds);
    let printed: Vec<&str> = played.printed.split_whitespace().collect();
    let printed = printed.join(" ");
    let _ = writeln!(text, "printed: {}", &printed[..printed.len().min(200)]);
    for (when, report) in [("while it ran", &played.during), ("after it", &played.end)] {
        let _ = writeln!(text, "  {when}, {:.1} s of trace:", number(report, "/window/seconds"));
        report_of(report, &mut text);
    }
    text
}

fn report_of(report: &Value, text: &mut String) {
    let totals = &report["totals"];
    let _ = writeln!(
        text,
        "    totals: {} outcomes {} corrections {} lost {}",
        counts(totals),
        totals["outcomes"],
        totals["corrections"],
        report["tracing"]["lost"]
    );
    let mut rows: Vec<&Value> = report["processes"].as_array().map(|rows| rows.iter().collect()).unwrap_or_default();
    // Other tests may run in other namespaces at the same time.
    rows.retain(|row| row["netns"].is_null() || row["netns"] == report["host"]["netns"]);
    rows.sort_by_key(|row| std::cmp::Reverse(connections(row)));
    for row in rows.iter().take(PROCESSES) {
        let _ = writeln!(
            text,
            "    {}[{}] of {}[{}]: {}",
            word(&row["command"]),
            row["pid"],
            word(&row["parent_command"]),
            row["ppid"],
            counts(row)
        );
        for shared in row["destinations"].as_array().into_iter().flatten() {
            let _ = writeln!(
                text,
                "      {}: connections {} created {} live {}",
                place(shared),
                shared["connections"],
                shared["time_wait_created"],
                shared["time_wait_live"]
            );
        }
    }
    let more = rows.len().saturating_sub(PROCESSES);
    if more > 0 {
        let sum = |name: &str| rows[PROCESSES..].iter().map(|row| row[name].as_u64().unwrap_or(0)).sum::<u64>();
        let _ = writeln!(
            text,
            "    {more} more processes: opened {} accepted {} first {} last {} created {}",
            sum("opened"),
            sum("accepted"),
            sum("closed_first"),
            sum("closed_last"),
            sum("time_wait_created")
        );
    }
    let here = |row: &&Value| row["netns"] == report["host"]["netns"];
    for row in report["destinations"].as_array().into_iter().flatten().filter(here) {
        let _ = writeln!(
            text,
            "    to {}: {} ports {} exhaustion in {}",
            place(row),
            counts(row),
            row["ports"],
            row["seconds_to_exhaustion"]
        );
    }
    for name in ["failures", "findings"] {
        for row in report[name].as_array().into_iter().flatten() {
            let _ = writeln!(text, "    {name}: {row}");
        }
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn place(row: &Value) -> String {
    format!("{} {} -> {} :{}", word(&row["role"]), word(&row["local_addr"]), word(&row["remote_addr"]), row["port"])
}

fn connections(row: &Value) -> u64 {
    row["opened"].as_u64().unwrap_or(0) + row["accepted"].as_u64().unwrap_or(0)
}

fn counts(row: &Value) -> String {
    let ended: u64 = ["closed_first", "closed_last", "reset"].iter().map(|name| row[*name].as_u64().unwrap_or(0)).sum();
    let each = |name: &str| row[name].as_u64().unwrap_or(0) / ended.max(1);
    let errors = match &row["errors"] {
        Value::Object(errors) if !errors.is_empty() => format!(" errors {}", row["errors"]),
        _ => String::new(),
    };
    format!(
        "opened {} accepted {} first {} last {} reset {} created {} live {} reused {} {:.0}/s, bytes each sent {} \
         received {}, lifetime p50 {} p90 {} p99 {} ms{errors}",
        row["opened"],
        row["accepted"],
        row["closed_first"],
        row["closed_last"],
        row["reset"],
        row["time_wait_created"],
        row["time_wait_live"],
        row["time_wait_reused"],
        number(row, "/created_per_s"),
        each("bytes_sent"),
        each("bytes_received"),
        row["lifetime_ms"]["p50"],
        row["lifetime_ms"]["p90"],
        row["lifetime_ms"]["p99"],
    )
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
}
