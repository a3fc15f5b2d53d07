//! `twtrace export`: a table of a recording, from all of its segments, as one file for other tools; or recordings of many hosts
//! as one dataset.

use crate::cli::{ExportArgs, ExportFormat, usage};
use crate::recorded::{Span, bounds, say_losses};
use anyhow::{Context as _, bail};
use std::io::{self, IsTerminal as _};
use std::path::Path;
use twtrace_recording::export::{Format, Table, Target, dataset, write};
use twtrace_recording::reader::Recording;
use twtrace_view::recording;

/// Writes the table.
///
/// # Errors
/// The recording cannot be read, or the output cannot be written to. There is no file then.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    if let Some(folder) = &args.dataset {
        return args.recordings.iter().try_for_each(|path| add(path, folder));
    }
    let [path] = &args.recordings[..] else {
        return Err(usage("one file is of one recording: several need --dataset DIR").into());
    };
    let format = args.format.unwrap_or(ExportFormat::Parquet);
    if format == ExportFormat::Parquet && args.output.is_none() && io::stdout().is_terminal() {
        bail!("Parquet is not for a terminal: give a file with -o FILE");
    }
    if args.table == Table::Processes && (args.from.is_some() || args.to.is_some()) {
        bail!("processes have no time of their own: leave out --from and --to");
    }
    let recording = Recording::open(path)?;
    if let Some(output) = &args.output {
        keep_out(output, path)?;
    }
    let (from, to) = bounds(recording.info(), Span { from: args.from, to: args.to })?;
    let microseconds = |unix_ns: i128| unix_ns.div_euclid(1000).clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    let span = from.map_or(i64::MIN, microseconds)..to.map_or(i64::MAX, microseconds);
    let mut target = Target::open(args.output.as_deref())?;
    let losses = write(&recording, args.table, format.into(), &span, &mut target)?;
    target.finish()?;
    say_losses(&recording::warnings(recording.info()));
    say_losses(&recording::losses(&losses).collect::<Vec<_>>());
    Ok(())
}

/// Adds a recording to a dataset.
fn add(path: &Path, folder: &Path) -> anyhow::Result<()> {
    let recording = Recording::open(path)?;
    let failed = || format!("cannot add {} to {}", path.display(), folder.display());
    let losses = dataset::add(&recording, folder).with_context(failed)?;
    say_losses(&recording::warnings(recording.info()));
    say_losses(&recording::losses(&losses).collect::<Vec<_>>());
    Ok(())
}

/// A file inside the recording would confuse its next reader: it is not part of it.
fn keep_out(output: &Path, recording: &Path) -> anyhow::Result<()> {
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if parent.canonicalize().ok() == Some(recording.canonicalize()?) {
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
