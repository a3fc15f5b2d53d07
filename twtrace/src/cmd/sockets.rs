//! `twtrace sockets`: the live TIME_WAIT sockets with their owners, from a short trace or from a recording.

use crate::attach::snapshot;
use crate::cli::SocketsArgs;
use crate::event_loop::trace;
use crate::recorded::{same_boot, say_losses};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use twtrace_core::event::Event;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, Filter, State};
use twtrace_probe::host;
use twtrace_probe::host::clock;
use twtrace_probe::source::kernel_source::KernelSource;
use twtrace_probe::source::now::census_of_all;
use twtrace_recording::reader::Recording;
use twtrace_view::recording;
use twtrace_view::sockets as view;

/// Delay until a recording in progress can be read up to a given time: it is written each second.
const FLUSH: Duration = Duration::from_secs(2);

/// How long a record may be on its way before a census is trusted.
const SETTLE: Duration = Duration::from_millis(20);

/// Traces or reads, then lists.
///
/// # Errors
/// This host cannot be traced, the recording is not of this boot, or the output cannot be written to.
pub fn run(args: &SocketsArgs) -> anyhow::Result<()> {
    let (snapshot, notes) = match (&args.trace, args.agent.agent(&args.filter, Some(&args.kernel))?) {
        (None, Some(agent)) => (snapshot(agent, true)?, Vec::new()),
        (Some(path), _) => recorded(path, args.filter.filter())?,
        (None, None) => {
            let load = args.kernel.options();
            (
                trace(move |deadline| KernelSource::start_until(&load, deadline), args.filter.filter(), args.duration)?,
                Vec::new(),
            )
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        view::write_json(&snapshot, args.limit, &mut out)?;
    } else {
        view::write_text(&snapshot, args.limit, &mut out)?;
    }
    out.flush()?;
    // Not in the list, as in tcpdump: a program that reads the list gets only lines of sockets.
    if !args.json {
        let _ = writeln!(io::stderr(), "{}", view::summary(&snapshot));
    }
    say_losses(&notes);
    Ok(())
}

/// The kernel's current list, with the owners that a recording knows, and remarks on it.
fn recorded(path: &Path, filter: Filter) -> anyhow::Result<(Arc<Snapshot>, Vec<String>)> {
    let mut recording = Recording::open(path)?;
    same_boot(recording.info(), &host::facts())?;
    let mut list = Vec::new();
    let began_ns = census_of_all(&mut |event| list.push(event))?;
    if recording.info().finished {
        thread::sleep(SETTLE);
    } else {
        thread::sleep(FLUSH);
        recording = Recording::open(path)?;
    }
    let mut state = State::new(Config { filter, ..Config::default() });
    let mut replay = recording.replay()?;
    let goes_on = replay.advance(began_ns, &mut |event| state.apply(event))?;
    let ended_ns = state.summary().window.now_ns;
    list.into_iter().for_each(|event| state.apply(event));
    // The closer of a listed socket may have been written later. What later censuses contained does not matter.
    while replay.advance(u64::MAX, &mut |event| {
        if !is_of_census(&event) {
            state.apply(event);
        }
    })? {}
    state.apply(Event::Tick { at_ns: clock::monotonic_ns()? });
    let mut notes = recording::warnings(&recording.info().clone().after(replay.losses(), replay.connections_lost()));
    if !goes_on {
        let ago = Duration::from_nanos(began_ns.saturating_sub(ended_ns));
        notes.push(recording::ended(ago));
    }
    Ok((Arc::new(Snapshot::with_sockets(&mut state)), notes))
}

fn is_of_census(event: &Event) -> bool {
    matches!(
        event,
        Event::SocketDumpBegin { .. } | Event::SocketDump(_) | Event::SocketsRemoved(_) | Event::SocketDumpEnd { .. }
    )
}
