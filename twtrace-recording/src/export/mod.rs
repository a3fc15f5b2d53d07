//! Tables of recordings for other tools: one table of one recording as one file, or many recordings as one dataset.

mod dataset;
mod int64;
mod join;
mod out;
mod text;

use crate::Loss;
use crate::reader::Recording;
use crate::rows::Rows;
pub use crate::tables::Table;
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
pub use dataset::Dataset;
use join::Processes;
use out::Sink;
pub use out::Target;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

/// Form of an exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// CSV, the names of columns first.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// Which of the rows that repeat an earlier segment are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restated {
    /// Those that repeat what cannot be read any more.
    IfNew,
    /// None of them.
    Never,
}

/// Writes a table in the order of time; returns what could not be read. `span` is in microseconds since the Unix epoch.
///
/// # Errors
/// The output cannot be written to.
pub fn write(
    recording: &Recording,
    table: Table,
    format: Format,
    span: &Range<i64>,
    out: &mut (impl Write + Send),
) -> anyhow::Result<Vec<Loss>> {
    let mut sink = Sink::new(format, &schema(table)?, out)?;
    let losses = each_batch(recording, table, span, Restated::IfNew, &mut |batch| sink.write(batch))?;
    sink.finish()?;
    Ok(losses)
}

/// The columns of a table for other tools.
fn schema(table: Table) -> anyhow::Result<SchemaRef> {
    match table {
        Table::Connections => join::schema(table.schema(), Table::Processes.schema()),
        _ => Ok(Arc::clone(table.schema())),
    }
}

/// Gives out the rows of a table in the order of time, connections with their processes; returns what could not be
/// read. `span` is in microseconds since the Unix epoch.
fn each_batch(
    recording: &Recording,
    table: Table,
    span: &Range<i64>,
    restated: Restated,
    each: &mut dyn FnMut(&RecordBatch) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Loss>> {
    let schema = schema(table)?;
    let mut losses = Vec::new();
    let mut next_seq = None;
    for segment in recording.segments() {
        let opened = recording.rows(*segment, table).and_then(|rows| match table {
            Table::Connections => Ok((rows, Some(all(recording.rows(*segment, Table::Processes)?)))),
            _ => Ok((rows, None)),
        });
        let (mut rows, processes) = match opened {
            Ok(opened) => opened,
            Err(loss) => {
                losses.push(loss);
                continue;
            }
        };
        let processes = processes.map(|(batches, lost)| {
            losses.extend(lost);
            Processes::new(Table::Processes.schema(), &batches)
        });
        let processes = processes.transpose()?;
        let (first_seq, end_seq) = rows.seqs();
        // After a gap it is not known whether restated rows had been read before.
        let is_first = next_seq.replace(end_seq) != Some(first_seq) && restated == Restated::IfNew;
        loop {
            match rows.next() {
                Ok(Some(batch)) => {
                    let batch = chosen(&batch, span, is_first)?;
                    match &processes {
                        Some(processes) => each(&processes.join(&schema, &batch)?)?,
                        None => each(&batch)?,
                    }
                }
                Ok(None) => break,
                Err(loss) => {
                    losses.push(loss);
                    next_seq = None;
                    break;
                }
            }
        }
    }
    Ok(losses)
}

/// All rows that can be read.
fn all(mut rows: Rows) -> (Vec<RecordBatch>, Option<Loss>) {
    let mut batches = Vec::new();
    loop {
        match rows.next() {
            Ok(Some(batch)) => batches.push(batch),
            Ok(None) => return (batches, None),
            Err(loss) => return (batches, Some(loss)),
        }
    }
}

/// The rows of a time span, without those that only repeat an earlier segment.
fn chosen(batch: &RecordBatch, span: &Range<i64>, first: bool) -> anyhow::Result<RecordBatch> {
    let times = batch.column_by_name("time").and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let repeats = batch.column_by_name("restated").and_then(|column| column.as_boolean_opt());
    let is_within = |row: usize| times.is_none_or(|times| span.contains(&times.value(row)));
    let is_new = |row: usize| first || repeats.is_none_or(|repeats| repeats.is_null(row) || !repeats.value(row));
    let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(is_within(row) && is_new(row))).collect();
    Ok(filter_record_batch(batch, &mask)?)
}
