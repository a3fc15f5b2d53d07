//! `twtrace report`: the content of recordings, for a terminal, a program or a postmortem.

use crate::attach::snapshot;
use crate::cli::{ReportArgs, ReportFormat};
use crate::exit_code::exit_code;
use crate::recorded::{Recorded, Span, say_losses};
use anyhow::Context as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use twtrace_core::snapshot::Snapshot;
use twtrace_view::report::{Options, Report, Source, csv, html, json, markdown, text};

/// Reads the recordings one after the other, each into an engine of its own, and reports on all of them.
///
/// # Errors
/// One of them cannot be read at all, or the output cannot be written to.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let span = Span { from: args.from, to: args.to };
    let read = |path| Recorded::read(path, args.filter.filter(), span);
    let recorded = match args.agent.agent(&args.filter, None)? {
        Some(agent) => vec![Recorded::of_live(&agent.name(), snapshot(agent, false)?)],
        None => args.recordings.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?,
    };
    let sources: Vec<Source<'_>> = recorded.iter().map(Recorded::source).collect();
    let report = Report::new(&sources, Options { by: args.by, top: args.top });
    say_losses(&report.losses());
    let format = args.format.or_else(|| args.output.as_deref().and_then(by_name)).unwrap_or_default();
    match &args.output {
        Some(path) => {
            let failed = || format!("cannot write {}", path.display());
            let mut out = BufWriter::new(File::create(path).with_context(failed)?);
            write(&report, format, &mut out).with_context(failed)?;
        }
        None => write(&report, format, &mut BufWriter::new(io::stdout().lock()))?,
    }
    let snapshots: Vec<&Snapshot> = sources.iter().map(|source| source.model).collect();
    Ok(exit_code(args.fail_on.as_ref(), &snapshots))
}

fn write(report: &Report<'_>, format: ReportFormat, out: &mut dyn Write) -> io::Result<()> {
    match format {
        ReportFormat::Text => text::write(report, out),
        ReportFormat::Json => json::write(report, out),
        ReportFormat::Csv => csv::write(report, out),
        ReportFormat::Html => html::write(report, out),
        ReportFormat::Markdown => markdown::write(report, out),
    }?;
    out.flush()
}

/// The form that the file name implies.
fn by_name(path: &Path) -> Option<ReportFormat> {
    match path.extension()?.to_str()? {
        "json" => Some(ReportFormat::Json),
        "csv" => Some(ReportFormat::Csv),
        "html" | "htm" => Some(ReportFormat::Html),
        "md" | "markdown" => Some(ReportFormat::Markdown),
        _ => None,
    }
}
