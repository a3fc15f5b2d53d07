//! `twtrace export`: a table of a recording, from all of its segments, as one file for other tools.

mod join;
mod out;

use super::recorded::{Span, bounds, say_losses};
use crate::cli::{ExportArgs, ExportFormat, ExportTable};
use crate::trace::Loss;
use crate::trace::reader::Recording;
use crate::trace::rows::Rows;
use crate::trace::schema::Table;
use crate::view::recording;
use anyhow::bail;
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use join::Processes;
use out::{Sink, Target};
use std::io::{self, IsTerminal as _, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Writes the table.
///
/// # Errors
/// The recording cannot be read, or the output cannot be written to. There is no file then.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    if args.format == ExportFormat::Parquet && args.output.is_none() && io::stdout().is_terminal() {
        bail!("Parquet is not for a terminal: give a file with -o FILE");
    }
    if args.table == ExportTable::Processes && (args.from.is_some() || args.to.is_some()) {
        bail!("processes have no time of their own: leave out --from and --to");
    }
    let recording = Recording::open(&args.recording)?;
    if let Some(output) = &args.output {
        keep_out(output, &args.recording)?;
    }
    let (from, to) = bounds(recording.info(), Span { from: args.from, to: args.to })?;
    let microseconds = |unix_ns: i128| unix_ns.div_euclid(1000).clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    let span = from.map_or(i64::MIN, microseconds)..to.map_or(i64::MAX, microseconds);
    let mut target = Target::open(args.output.as_deref())?;
    let losses = write(&recording, args.table.into(), args.format, &span, &mut target)?;
    target.finish()?;
    say_losses(&recording::warnings(recording.info()));
    say_losses(&recording::losses(&losses).collect::<Vec<_>>());
    Ok(())
}

impl From<ExportTable> for Table {
    fn from(table: ExportTable) -> Self {
        match table {
            ExportTable::Connections => Self::Connections,
            ExportTable::Sockets => Self::Sockets,
            ExportTable::Samples => Self::Samples,
            ExportTable::Processes => Self::Processes,
        }
    }
}

/// Whoever reads the recording next would find a file there that is not of it.
fn keep_out(output: &Path, recording: &Path) -> anyhow::Result<()> {
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if parent.canonicalize().ok() == Some(recording.canonicalize()?) {
        bail!("{} is inside of the recording: write it somewhere else", output.display());
    }
    Ok(())
}

/// Writes a table in the order of time; gives what could not be read.
fn write(
    recording: &Recording,
    table: Table,
    format: ExportFormat,
    span: &Range<i64>,
    out: &mut (impl Write + Send),
) -> anyhow::Result<Vec<Loss>> {
    let schema = if table == Table::Connections {
        join::schema(table.schema(), Table::Processes.schema())?
    } else {
        Arc::clone(table.schema())
    };
    let mut sink = Sink::new(format, &schema, out)?;
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
        // After a gap it is not known whether what is told again had been told.
        let is_first = next_seq.replace(end_seq) != Some(first_seq);
        loop {
            match rows.next() {
                Ok(Some(batch)) => {
                    let batch = chosen(&batch, span, is_first)?;
                    match &processes {
                        Some(processes) => sink.write(&processes.join(&schema, &batch)?)?,
                        None => sink.write(&batch)?,
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
    sink.finish()?;
    Ok(losses)
}

/// All rows as far as they can be read.
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

/// The rows of a time span, without those that only repeat what an earlier segment had.
fn chosen(batch: &RecordBatch, span: &Range<i64>, first: bool) -> anyhow::Result<RecordBatch> {
    let times = batch.column_by_name("time").and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let repeats = batch.column_by_name("restated").and_then(|column| column.as_boolean_opt());
    let is_within = |row: usize| times.is_none_or(|times| span.contains(&times.value(row)));
    let is_new = |row: usize| first || repeats.is_none_or(|repeats| repeats.is_null(row) || !repeats.value(row));
    let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(is_within(row) && is_new(row))).collect();
    Ok(filter_record_batch(batch, &mask)?)
}
