//! `twtrace replay --what-if`: the recorded connects once more, with other settings.

use crate::cli::ReplayArgs;
use crate::recorded::{Recorded, Span, say_losses};
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use twtrace_core::what_if::Demands;
use twtrace_view::recording;
use twtrace_view::report::Source;
use twtrace_view::what_if::Report;

/// Reads the recording up to `--at` or its end, and writes what would have been.
///
/// # Errors
/// The recording cannot be read, or the output cannot be written to.
pub(super) fn report(args: &ReplayArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let filter = args.view.filter.filter();
    let mut demands = Demands::new(filter.clone());
    let span = Span { from: None, to: args.at };
    let recorded = Recorded::read_with(&args.recording, filter, span, &mut |event| demands.apply(event))?;
    let Source { info, model } = recorded.source();
    demands.select(model);
    let report = Report::new(info, &demands, model.summary().totals.counts.time_wait_live_peak, &args.what_if);
    let mut out = BufWriter::new(out);
    if args.view.json { report.write_json(&mut out) } else { report.write_text(&mut out) }?;
    out.flush()?;
    say_losses(&recording::warnings(info));
    Ok(ExitCode::SUCCESS)
}
