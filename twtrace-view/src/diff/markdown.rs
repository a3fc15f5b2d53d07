//! The comparison as a document, in the form of the report's.

use super::{Diff, columns};
use crate::report::markdown::{table, verbatim};
use std::io::{self, Write};

/// Writes the comparison.
///
/// # Errors
/// The output cannot be written to.
pub fn write(diff: &Diff<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# TIME\\_WAIT churn before and after\n\n{}\n", verbatim(&diff.sentence()))?;
    for reservation in diff.reservations() {
        writeln!(out, "> **Warning:** {}\n", verbatim(&reservation))?;
    }
    table(&diff.recordings(), out)?;
    writeln!(out, "\nAll together: {}", verbatim(&columns::others(&diff.total)))?;
    for (by, rows) in diff.tables() {
        let (grid, left_out) = diff.grid(by, rows);
        writeln!(out, "\n## By {}\n", by.name())?;
        table(&grid, out)?;
        if let Some(note) = left_out.or_else(|| rows.is_empty().then(|| super::NOTHING.to_owned())) {
            writeln!(out, "\n{note}")?;
        }
    }
    writeln!(out, "\n\\~ marks changes that may be chance.")
}
