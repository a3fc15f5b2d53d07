//! `twtrace export`: a table of a recording, from all of its segments, as one file for other tools; or recordings of
//! many hosts as one dataset.

use crate::cli::{ExportArgs, ExportFormat, usage};
use crate::recorded::{Span, bounds, say_losses};
use anyhow::{Context as _, bail};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use twtrace_recording::export::{Dataset, Format, Table, Target, write};
use twtrace_recording::reader::Recording;
use twtrace_view::recording;

/// Writes the table, or the tables of the dataset.
///
/// # Errors
/// A recording cannot be read, or the output cannot be written to. There is no file then that is not whole.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    match (&args.dataset, args.format, args.recordings.as_slice()) {
        (Some(root), _, recordings) => add(root, args.table, recordings),
        (None, Some(format), [recording]) => one(recording, format, args),
        _ => Err(usage("one recording makes one file: give --dataset DIR for several").into()),
    }
}

/// Writes one table of one recording.
fn one(path: &Path, format: ExportFormat, args: &ExportArgs) -> anyhow::Result<()> {
    let table = args.table.unwrap_or(Table::Connections);
    if format == ExportFormat::Parquet && args.output.is_none() && io::stdout().is_terminal() {
        bail!("Parquet is not for a terminal: give a file with -o FILE");
    }
    if table == Table::Processes && (args.from.is_some() || args.to.is_some()) {
        bail!("processes have no time of their own: leave out --from and --to");
    }
    let recording = Recording::open(path)?;
    if let Some(output) = &args.output {
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        keep_out(output, parent, path)?;
    }
    let (from, to) = bounds(recording.info(), Span { from: args.from, to: args.to })?;
    let microseconds = |unix_ns: i128| unix_ns.div_euclid(1000).clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    let span = from.map_or(i64::MIN, microseconds)..to.map_or(i64::MAX, microseconds);
    let mut target = Target::open(args.output.as_deref())?;
    let losses = write(&recording, table, format.into(), &span, &mut target)?;
    target.finish()?;
    say_losses(&recording::warnings(recording.info()));
    say_losses(&recording::losses(&losses).collect::<Vec<_>>());
    Ok(())
}

/// Adds recordings to a dataset, one after the other.
fn add(root: &Path, table: Option<Table>, recordings: &[PathBuf]) -> anyhow::Result<()> {
    if table == Some(Table::Processes) {
        bail!("processes have no time of their own: a dataset has them in its connections");
    }
    for path in recordings {
        // Before anything is made: a dataset is made with its parents.
        for folder in std::path::absolute(root)?.ancestors() {
            keep_out(root, folder, path)?;
        }
    }
    let dataset = Dataset::open(root)?;
    for path in recordings {
        let recording = Recording::open(path)?;
        let mut losses = Vec::new();
        for table in Dataset::tables().filter(|each| table.is_none_or(|table| table == *each)) {
            let failed = || format!("cannot export {} of {}", table.name(), path.display());
            losses.extend(dataset.add(&recording, table).with_context(failed)?);
        }
        say_losses(&recording::warnings(recording.info()));
        say_losses(&recording::losses(&losses).collect::<Vec<_>>());
    }
    Ok(())
}

/// A file inside the recording would confuse its next reader: it is not part of it.
fn keep_out(output: &Path, parent: &Path, recording: &Path) -> anyhow::Result<()> {
    // A recording that is not there is reported when it is opened.
    if parent.canonicalize().is_ok_and(|parent| recording.canonicalize().is_ok_and(|recording| parent == recording)) {
        bail!("{} is inside of the recording: write it somewhere else", output.display());
    }
    Ok(())
}

impl From<ExportFormat> for Format {
    fn from(format: ExportFormat) -> Self {
        match format {
            ExportFormat::Parquet => Self::Parquet,
            ExportFormat::Csv => Self::Csv,
            ExportFormat::Jsonl => Self::Jsonl,
        }
    }
}
