//! `docs/figures.md` is written from the tables of figures and of evidence.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use twtrace_core::counts::{Counts, FIELDS, Figure};
use twtrace_core::evidence::{EVIDENCE, Type, Unit};

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

#[test]
fn page_of_figures_is_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/figures.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page(), "docs/figures.md is not what the tables say: UPDATE_DOCS=1 writes it");
}
