//! A text table before it is formatted: the same cells for a terminal, for a document and for a page.

use crate::text;
use std::io::{self, Write};

/// Longest cell on a terminal. Command lines and names of cgroups are cut there.
const MAX_CELL: usize = 80;

/// Head of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its title.
    pub title: &'static str,
    /// Numbers are right-aligned.
    pub right: bool,
}

impl Head {
    /// Of text.
    pub const fn left(title: &'static str) -> Self {
        Self { title, right: false }
    }

    /// Of numbers.
    pub const fn right(title: &'static str) -> Self {
        Self { title, right: true }
    }
}

/// A table. Its cells are clean: see [`text::clean`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// Columns.
    pub heads: Vec<Head>,
    /// Rows, each with as many cells as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    /// A table of these columns, without those with nothing in any cell.
    pub fn of<T>(columns: impl IntoIterator<Item = (Head, impl Fn(&T) -> String)>, rows: &[T]) -> Self {
        let mut grid = Self { heads: Vec::new(), rows: vec![Vec::new(); rows.len()] };
        for (head, cell) in columns {
            let cells: Vec<String> = rows.iter().map(cell).collect();
            if cells.iter().all(|cell| cell.is_empty() || cell == "-") {
                continue;
            }
            grid.heads.push(head);
            for (row, cell) in grid.rows.iter_mut().zip(cells) {
                row.push(cell);
            }
        }
        grid
    }

    /// Writes it as text, each column as wide as its widest cell; nothing when there are no rows.
    ///
    /// # Errors
    /// The output cannot be written to.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let widths: Vec<usize> = self.heads.iter().enumerate().map(|(at, head)| self.width(at, head)).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let columns = self.heads.iter().zip(&widths);
            let padded: Vec<String> =
                cells.zip(columns).map(|(cell, (head, width))| text::pad(cell, *width, head.right)).collect();
            padded.join("  ")
        };
        writeln!(out, "{}", line(&mut self.heads.iter().map(|head| head.title)).trim_end())?;
        for row in &self.rows {
            writeln!(out, "{}", line(&mut row.iter().map(String::as_str)).trim_end())?;
        }
        Ok(())
    }

    fn width(&self, column: usize, head: &Head) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| text::width(cell).min(MAX_CELL)).max().unwrap_or(0).max(head.title.len())
    }
}
