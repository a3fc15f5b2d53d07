//! What each program costs: instructions that the verifier went through and sizes, by kernel.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::instructions::{TOLERANCE, change, is_over};
use crate::process::say;
use crate::workspace::root;

/// A program as a kernel loaded it, from `twtrace doctor --json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Size {
    pub(super) name: String,
    verified_instructions: Option<u32>,
    translated_bytes: Option<u32>,
    jited_bytes: u32,
}

/// A kernel's version and its programs.
pub(super) type Column = (String, Vec<Size>);

/// Reads the report of `twtrace doctor --json`, whatever is around it on the console.
pub(super) fn read(output: &str) -> Result<Vec<Size>> {
    #[derive(Deserialize)]
    struct Report {
        programs: Vec<Size>,
    }
    let (start, end) = output.find('{').zip(output.rfind('}')).context("doctor wrote no report")?;
    let report: Report = serde_json::from_str(&output[start..=end]).context("doctor's report cannot be read")?;
    Ok(report.programs)
}

/// The table, in Markdown. A program that a kernel does not load has no cell there.
pub(super) fn table(columns: &[Column]) -> String {
    let names: BTreeSet<&str> =
        columns.iter().flat_map(|(_, sizes)| sizes.iter().map(|size| size.name.as_str())).collect();
    let mut text = String::from(
        "# What the programs cost\n\n\
         Instructions that the verifier went through / bytes after its rewriting / bytes of machine code. Kernels before\n\
         5.16 do not report the first. `cargo xtask vm` writes this file, and `cargo xtask test` fails where a figure is more\n\
         than 3 % above what it says. `*_entry`, `*_return` and `twsk_end` stand in where\n\
         fentry is refused, `set_state_plain` where there is no BTF.\n\n",
    );
    let line = |text: &mut String, cells: &mut dyn Iterator<Item = String>| {
        let _ = writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "));
    };
    line(
        &mut text,
        &mut std::iter::once("program".to_owned()).chain(columns.iter().map(|(version, _)| version.clone())),
    );
    line(&mut text, &mut (0..=columns.len()).map(|_| "---".to_owned()));
    for name in names {
        let cell = |(_, sizes): &Column| {
            let size = sizes.iter().find(|size| size.name == name)?;
            let known = |figure: Option<u32>| figure.map_or("?".to_owned(), |figure| figure.to_string());
            let (processed, translated) = (known(size.verified_instructions), known(size.translated_bytes));
            Some(format!("{processed} / {translated} / {}", size.jited_bytes))
        };
        let cells = columns.iter().map(|column| cell(column).unwrap_or_default());
        line(&mut text, &mut std::iter::once(format!("`{name}`")).chain(cells));
    }
    text
}

/// Where the table is kept, relative to the workspace.
const SIZES: &str = "docs/programs.md";

/// Writes the table.
///
/// # Errors
/// The file cannot be written to.
pub(super) fn write(columns: &[Column]) -> Result<()> {
    fs::write(root().join(SIZES), table(columns)).with_context(|| format!("cannot write {SIZES}"))?;
    say(&format!("written: {SIZES}"));
    Ok(())
}

/// Compares with the table.
///
/// # Errors
/// A program costs more than it may.
pub(super) fn check(columns: &[Column]) -> Result<()> {
    let budgets = fs::read_to_string(root().join(SIZES)).with_context(|| format!("cannot read {SIZES}"))?;
    let over = over(&budgets, columns);
    if over.is_empty() {
        return Ok(());
    }
    bail!(
        "programs cost over {TOLERANCE} % more than {SIZES} says; if that is meant, `cargo xtask test --update-budgets`: {}",
        over.join("; ")
    )
}

/// Figures that are above those of a table, by more than the tolerance. Kernels that it does not have are not compared:
/// each release of a kernel has a verifier and a compiler of its own.
fn over(budgets: &str, columns: &[Column]) -> Vec<String> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let mut lines = budgets.lines().filter(|line| line.starts_with('|'));
    let kernels = lines.next().map(cells).unwrap_or_default();
    let rows: Vec<Vec<String>> = lines.map(cells).collect();
    let mut over = Vec::new();
    for (version, sizes) in columns {
        let Some(place) = kernels.iter().position(|kernel| kernel == version) else { continue };
        for size in sizes {
            let row = rows.iter().find(|row| row.first().is_some_and(|name| *name == size.name));
            // A program that it does not have, or has not on this kernel, has no budget.
            let Some(cell) = row.and_then(|row| row.get(place)).filter(|cell| !cell.is_empty()) else {
                over.push(format!("{} on {version} is not in it", size.name));
                continue;
            };
            let figures = [size.verified_instructions, size.translated_bytes, Some(size.jited_bytes)];
            for (budget, figure) in cell.split(" / ").zip(figures) {
                let (Ok(budget), Some(figure)) = (budget.parse::<u64>(), figure.map(u64::from)) else { continue };
                if is_over(budget, figure) {
                    over.push(format!("{} on {version}: {figure}, {}", size.name, change(budget, figure)));
                }
            }
        }
    }
    over
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn reports_become_a_table() {
        let report = |verified: &str| {
            format!(
                "noise\n{{\"programs\":[{{\"name\":\"a\",\"verified_instructions\":{verified},\"translated_bytes\":8,\"jited_bytes\":9}}]}}\n"
            )
        };
        let columns = [
            ("5.10.0".to_owned(), read(&report("null")).unwrap()),
            ("6.1.0".to_owned(), read(&report("700")).unwrap()),
            ("7.2.0".to_owned(), Vec::new()),
        ];
        let text = table(&columns);
        assert!(text.contains("| program | 5.10.0 | 6.1.0 | 7.2.0 |\n| --- | --- | --- | --- |\n"), "{text}");
        assert!(text.contains("| `a` | ? / 8 / 9 | 700 / 8 / 9 |  |\n"), "{text}");
        assert!(read("nothing").is_err() && read("{}").is_err());
    }

    #[test]
    fn figures_above_the_table_are_named() {
        let size = |name: &str, verified, jited_bytes| Size {
            name: name.to_owned(),
            verified_instructions: verified,
            translated_bytes: Some(800),
            jited_bytes,
        };
        let of = |sizes| [("5.10.0".to_owned(), vec![size("a", None, 900)]), ("6.1.0".to_owned(), sizes)];
        let budgets = table(&of(vec![size("a", Some(1000), 500), size("b", Some(10), 500)]));
        assert_eq!(over(&budgets, &of(vec![size("a", Some(1030), 100), size("b", None, 515)])), [] as [String; 0]);
        let columns = of(vec![size("a", Some(1031), 516), size("c", Some(1), 1)]);
        assert_eq!(
            over(&budgets, &columns),
            ["a on 6.1.0: 1031, +3.1 %", "a on 6.1.0: 516, +3.2 %", "c on 6.1.0 is not in it"]
        );
        assert_eq!(over(&budgets, &[("6.1.1".to_owned(), vec![size("a", Some(9999), 9999)])]), [] as [String; 0]);
    }
}
