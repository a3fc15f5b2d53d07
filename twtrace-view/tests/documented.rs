//! `docs/figures.md` is written from the tables of figures and of evidence, `docs/metrics.md` from those of metrics.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use twtrace_core::counts::{Counts, FIELDS, Figure};
use twtrace_core::event::COUNTERS;
use twtrace_core::evidence::{EVIDENCE, Type, Unit};
use twtrace_view::metrics::{FAMILIES, LABELS, metric_name};

const FIGURES: &str = "\
# Figures of a row

What `top`, `replay`, `report` and `diff` say of each process, group and destination, by the names that JSON and CSV
have. `diff` has them in JSON as `before` and `after`, with `_per_s` after the name for what it is per second of the
recording where that is marked, and the difference as `change`. What else is in JSON is in the schemas in [json](json),
one for each command. `UPDATE_DOCS=1 cargo test -p twtrace-view --test documented` writes this page from
`twtrace-core/src/counts.rs` and `evidence.rs`.

| name | JSON | CSV | per second in `diff` | meaning |
| --- | --- | --- | --- | --- |
";

const FINDINGS: &str = "
# Evidence of findings

What findings rest on, by the names that JSON has in `evidence`, and by what people read in its place. A finding has
those that its rule looks at. Names that end in `_estimated` are forecasts.

| name | label | unit | meaning |
| --- | --- | --- | --- |
";

fn page() -> String {
    let mut page = FIGURES.to_owned();
    for field in FIELDS {
        let name = field.name;
        let (json, csv) = match (field.get)(&Counts::default()) {
            Figure::Count(_) | Figure::Live(_) => ("number".to_owned(), "the same".to_owned()),
            Figure::Rate(_) => ("number".to_owned(), "the same, three digits".to_owned()),
            Figure::Times(_) => {
                let csv = ["p50", "p90", "p99"].map(|quantile| format!("`{name}_{quantile}`")).join(", ");
                ("`p50`, `p90`, `p99` in milliseconds".to_owned(), csv)
            }
            Figure::Errors(_) => {
                ("number by name of the errno".to_owned(), format!("`{name}` in all, `{name}_by_errno`"))
            }
        };
        let per_s = if field.is_total { "yes" } else { "" };
        writeln!(page, "| `{name}` | {json} | {csv} | {per_s} | {} |", field.doc.trim()).unwrap();
    }
    page += FINDINGS;
    for kind in EVIDENCE {
        let unit = match (kind.value, kind.unit) {
            (Type::Text, _) => "text",
            (_, Unit::Plain) => "number",
            (_, Unit::PerSecond) => "per second",
            (_, Unit::Seconds) => "seconds",
            (_, Unit::Milliseconds) => "milliseconds",
            (_, Unit::Bytes) => "bytes",
            (_, Unit::Share) => "share, 0 to 1",
            (_, Unit::Pid) => "process id",
        };
        writeln!(page, "| `{}` | {} | {unit} | {} |", kind.name, kind.label, kind.doc.trim()).unwrap();
    }
    page
}

const METRICS: &str = "\
# Metrics

What `twtrace agent` has at `/metrics`, as OpenMetrics for clients that ask for it, else in Prometheus' older text format.
Counters begin at 0 when the agent starts. `UPDATE_DOCS=1 cargo test -p twtrace-view --test documented` writes this page.

Metrics about processes have the labels that `--metrics-by` names, by default `program` and `user`. At most
`--metrics-series` sets of labels, and as many destinations, have series of their own, those that do most when there is
room. The rest is in the series whose labels are `(other)`, so all series together grow by what the total grows by, and no
counter falls. A series without a row for ten minutes may give its place to another one. `twtrace_series_left_out` says how many are in there. A PID is never a label.

| label | meaning |
| --- | --- |
";

const OF_ROWS: &str = "
## Figures of processes and of destinations

Each is there twice: as `twtrace_NAME` with the labels of processes, and as `twtrace_destination_NAME` with `destination`
(address and port that is connected to, or listened on), `role` (active: this host connects), `source` (address on this
host) and `netns` (network namespace).

| metric | type | meaning |
| --- | --- | --- |
";

const OTHERS: &str = "
## Ports, findings and the trace

| metric | type | labels | meaning |
| --- | --- | --- | --- |
";

const KERNEL: &str = "
## What the kernel side counts

| metric | meaning |
| --- | --- |
";

fn metrics() -> String {
    let mut page = METRICS.to_owned();
    for by in LABELS {
        writeln!(page, "| `{}` | {} |", by.name(), by.grouping().doc.trim()).unwrap();
    }
    page += OF_ROWS;
    for field in FIELDS {
        let (suffix, kind) = match (field.get)(&Counts::default()) {
            Figure::Rate(_) | Figure::Times(_) => continue,
            Figure::Errors(_) => ("_total", "counter, with `errno`"),
            Figure::Count(_) if field.is_total => ("_total", "counter"),
            Figure::Count(_) | Figure::Live(_) => ("", "gauge"),
        };
        writeln!(page, "| `twtrace_{}{suffix}` | {kind} | {} |", metric_name(field), field.doc.trim()).unwrap();
    }
    page += OTHERS;
    for family in FAMILIES {
        let (suffix, kind) = if family.is_counter { ("_total", "counter") } else { ("", "gauge") };
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(page, "| `twtrace_{}{suffix}` | {kind} | {} | {} |", family.name, labels.join(", "), family.doc)
            .unwrap();
    }
    for (name, kind, doc) in [
        ("process_cpu_seconds_total", "counter", "Processor time of the tracer, seconds."),
        ("process_resident_memory_bytes", "gauge", "Memory of the tracer, bytes."),
    ] {
        writeln!(page, "| `{name}` | {kind} | | {doc} |").unwrap();
    }
    page += KERNEL;
    for counter in COUNTERS {
        writeln!(page, "| `twtrace_kernel_{}_total` | {} |", counter.name, counter.doc.trim()).unwrap();
    }
    page
}

/// Checks a page of the documentation, or writes it.
fn assert_is_documented(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/{name} is not what the tables say: UPDATE_DOCS=1 writes it");
}

#[test]
fn page_of_figures_is_what_the_tables_say() {
    assert_is_documented("figures.md", &page());
}

#[test]
fn page_of_metrics_is_what_the_tables_say() {
    assert_is_documented("metrics.md", &metrics());
}
