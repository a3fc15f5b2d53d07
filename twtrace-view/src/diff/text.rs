//! The comparison for a terminal.

use super::{Diff, columns};
use std::io::{self, Write};

/// Writes the comparison.
///
/// # Errors
/// The output cannot be written to.
pub fn write(diff: &Diff<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", diff.sentence())?;
    for reservation in diff.reservations() {
        writeln!(out, "WARNING: {reservation}")?;
    }
    writeln!(out)?;
    diff.recordings().write_text(out)?;
    writeln!(out, "\n{}", columns::others(&diff.total))?;
    for (by, rows) in diff.tables() {
        let (grid, left_out) = diff.grid(by, rows);
        writeln!(out, "\nBY {}", by.name().to_uppercase())?;
        grid.write_text(out)?;
        if let Some(note) = left_out.or_else(|| rows.is_empty().then(|| super::NOTHING.to_owned())) {
            writeln!(out, "{note}")?;
        }
    }
    writeln!(out, "\n~ marks changes that may be chance")
}
