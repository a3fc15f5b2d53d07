//! Writes reports one after the other, in the requested form.

use crate::cli::ViewArgs;
use std::io::{self, Write};
use twtrace_core::snapshot::GroupBy;
use twtrace_core::snapshot::Snapshot;
use twtrace_view::order::Sort;
use twtrace_view::{csv, json, table};

/// Rows of a text report when no limit is given.
const TEXT_ROWS: usize = 20;

enum Form {
    Json,
    Csv,
    Text,
}

/// Writes reports.
pub(crate) struct Batch<W> {
    form: Form,
    by: GroupBy,
    sort: Sort,
    limit: Option<usize>,
    /// Reports written.
    written: u64,
    out: W,
}

impl<W: Write> Batch<W> {
    pub(crate) fn new(args: &ViewArgs, out: W) -> Self {
        let form = match (args.json, args.csv) {
            (true, _) => Form::Json,
            (_, true) => Form::Csv,
            _ => Form::Text,
        };
        let by = args.by.unwrap_or_default();
        let sort = args.sort.unwrap_or_default().where_it_exists(by);
        Self { form, by, sort, limit: args.limit, written: 0, out }
    }

    /// Writes one report and flushes it at once: a reader may act on it.
    pub(crate) fn write(&mut self, model: &Snapshot) -> io::Result<()> {
        let (by, sort, limit) = (self.by, self.sort, self.limit);
        let first = self.written == 0;
        let out = &mut self.out;
        match self.form {
            Form::Json => json::write(model, json::Options { by, sort, limit }, out)?,
            Form::Csv => {
                if first {
                    csv::write_header(by, out)?;
                }
                csv::write_rows(model, by, sort, limit, out)?;
            }
            Form::Text => {
                if !first {
                    writeln!(out)?;
                }
                table::write(model, table::Options { by, sort, limit: limit.or(Some(TEXT_ROWS)) }, out)?;
            }
        }
        self.written += 1;
        out.flush()
    }
}
