//! `twtrace replay --what-if`: the recorded connects once more, with other settings.

use crate::cli::ReplayArgs;
use crate::recorded::{Span, bounds, monotonic, say_losses};
use anyhow::{Context as _, bail};
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use twtrace_core::event::Event;
use twtrace_core::state::{Config, State};
use twtrace_core::what_if::Demands;
use twtrace_recording::reader::Recording;
use twtrace_view::recording;
use twtrace_view::what_if::Report;

/// Reads the recording up to `--at` or its end, and writes what would have been.
///
/// # Errors
/// The recording cannot be read, the filter is one that this cannot use, or the output cannot be written to.
pub(super) fn report(args: &ReplayArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let filter = args.view.filter.filter();
    if filter.is_late() {
        bail!("--what-if selects by --pid, --comm, --uid, --dest and --port only");
    }
    let recording = Recording::open(&args.recording)?;
    let info = recording.info().clone();
    let (_, until) = bounds(&info, Span { from: None, to: args.at })?;
    let mut state = State::new(Config { filter: filter.clone(), ..Config::default() });
    let mut demands = Demands::new(filter);
    let mut replay = recording.replay()?;
    let mut advance = |state: &mut State, until_ns| {
        let mut sink = |event: Event| {
            demands.apply(&event);
            state.apply(event);
        };
        replay.advance(until_ns, &mut sink).with_context(|| format!("cannot read {}", args.recording.display()))
    };
    // The first events relate its clocks to each other.
    let mut more = advance(&mut state, 0)?;
    let until_ns = until.map_or(u64::MAX, |until| monotonic(&state.summary().window, until));
    while more && state.summary().window.now_ns < until_ns {
        more = advance(&mut state, until_ns)?;
    }
    let losses = info.clone().after(replay.losses(), replay.connections_lost());
    let report = Report::new(&info, &demands, state.summary().totals.counts.time_wait_live_peak, &args.what_if);
    let mut out = BufWriter::new(out);
    if args.view.json { report.write_json(&mut out) } else { report.write_text(&mut out) }?;
    out.flush()?;
    say_losses(&recording::warnings(&losses));
    Ok(ExitCode::SUCCESS)
}
