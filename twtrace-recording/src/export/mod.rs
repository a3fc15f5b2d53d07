//! One table of a recording, from all of its segments, as one file for other tools.

pub mod dataset;
mod join;
mod out;
mod text;

use crate::Loss;
use crate::reader::Recording;
use crate::rows::Rows;
use crate::stream::Planned;
pub use crate::tables::Table;
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
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
    let schema = schema(table)?;
    let mut sink = Sink::new(format, &schema, out)?;
    let mut losses = Vec::new();
    let mut next_seq = None;
    for segment in recording.segments() {
        let Some((mut rows, processes)) = open(recording, *segment, table, &mut losses)? else { continue };
        let (first_seq, end_seq) = rows.seqs();
        // After a gap it is not known whether restated rows had been read before.
        let is_first = next_seq.replace(end_seq) != Some(first_seq);
        loop {
            match rows.next() {
                Ok(Some(batch)) => {
                    let batch = chosen(&batch, span, is_first)?;
                    sink.write(&joined(&batch, processes.as_ref(), &schema)?)?;
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
    sink.finish()?;
    Ok(losses)
}

/// The columns that a table is exported with.
fn schema(table: Table) -> anyhow::Result<SchemaRef> {
    Ok(match table {
        Table::Connections => join::schema(table.schema(), Table::Processes.schema())?,
        _ => Arc::clone(table.schema()),
    })
}

/// A table of a segment, and the processes that its rows refer to. `None` if it cannot be opened.
fn open(
    recording: &Recording,
    segment: Planned,
    table: Table,
    losses: &mut Vec<Loss>,
) -> anyhow::Result<Option<(Rows, Option<Processes>)>> {
    let opened = recording.rows(segment, table).and_then(|rows| match table {
        Table::Connections => Ok((rows, Some(all(recording.rows(segment, Table::Processes)?)))),
        _ => Ok((rows, None)),
    });
    let (rows, processes) = match opened {
        Ok(opened) => opened,
        Err(loss) => {
            losses.push(loss);
            return Ok(None);
        }
    };
    let processes = processes.map(|(batches, lost)| {
        losses.extend(lost);
        Processes::new(Table::Processes.schema(), &batches)
    });
    Ok(Some((rows, processes.transpose()?)))
}

/// Rows with what is known of their processes.
fn joined(batch: &RecordBatch, processes: Option<&Processes>, schema: &SchemaRef) -> anyhow::Result<RecordBatch> {
    processes.map_or_else(|| Ok(batch.clone()), |processes| processes.join(schema, batch))
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
