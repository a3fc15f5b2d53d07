//! What each program costs: instructions that the verifier went through and sizes, by kernel.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde::Deserialize;

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
         5.16 do not report the first. `cargo xtask vm` writes this file. `*_entry`, `*_return` and `twsk_end` stand in where\n\
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
}
