//! `twtrace top`: traces, and shows the current state at each interval, or once at the end.

#[cfg(test)]
mod tests;

use crate::batch::Batch;
use crate::cli::{TopArgs, usage};
use crate::event_loop::{EventLoop, Wakeup, last, runtime};
use crate::exit_code::exit_code;
use crate::tracer::{Tracer, Watching};
use crate::tui::screen::Screen;
use anyhow::Context as _;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::Duration;
use twtrace_core::state::Config;
use twtrace_probe::source::EventSource;
use twtrace_probe::source::deadline::Deadline;
use twtrace_probe::source::kernel_source::{KernelSource, KernelSourceOptions};

/// Length of a trace with `--once` when none is given.
const ONCE: Duration = Duration::from_secs(5);

/// Traces until the time is up, a signal comes or the user quits.
///
/// # Errors
/// This host cannot be traced, or the output cannot be written to. The latter includes a broken pipe: the caller
/// decides what it means.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let on_screen = !args.once && !args.view.json && !args.view.csv && io::stdout().is_terminal();
    if on_screen && args.kernel.debug_kernel.is_some() && io::stderr().is_terminal() {
        return Err(
            usage("--debug-kernel would write over the screen: add --once, or 2>FILE for standard error").into()
        );
    }
    let load = KernelSourceOptions { load: args.kernel.load() };
    let start = move |deadline| KernelSource::start_until(&load, deadline);
    if on_screen { follow(start, args) } else { report(start, args, &mut io::stdout().lock()) }
}

fn config(args: &TopArgs) -> Config {
    Config { filter: args.view.filter.filter(), ..Config::default() }
}

/// Writes reports: one at the end, or one each interval and one at the end.
fn report<S: EventSource>(
    source: impl FnOnce(Deadline) -> anyhow::Result<S> + Send + 'static,
    args: &TopArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let duration = args.duration.or(args.once.then_some(ONCE));
    let mut tracer = Tracer::start(source, Watching::new(config(args)), (!args.once).then_some(args.interval))?;
    let views = tracer.views();
    let mut batch = Batch::new(&args.view, BufWriter::new(out));
    runtime()?.block_on(async {
        let mut events = EventLoop::new(Some(tracer.views()), duration)?;
        let mut is_first = true;
        loop {
            match events.next().await? {
                // The view of the very beginning, and the one just before the last: that would be the same one twice.
                Wakeup::View(_) if is_first || args.once => is_first = false,
                Wakeup::View(_) if events.ends_within(args.interval / 2) => {}
                Wakeup::View(snapshot) => batch.write(&snapshot)?,
                Wakeup::Event(_) | Wakeup::Poll => {}
                Wakeup::End | Wakeup::Failed => break,
            }
        }
        tracer.end(&mut events).await
    })?;
    let snapshot = last(&views)?;
    batch.write(&snapshot)?;
    Ok(exit_code(args.fail_on.as_ref(), snapshot.findings()))
}

/// Draws on the terminal until the user quits.
fn follow<S: EventSource>(
    source: impl FnOnce(Deadline) -> anyhow::Result<S> + Send + 'static,
    args: &TopArgs,
) -> anyhow::Result<ExitCode> {
    let mut tracer = Tracer::start(source, Watching::new(config(args)), Some(args.interval))?;
    let views = tracer.views();
    runtime()?.block_on(async {
        let mut events = EventLoop::new(Some(tracer.views()), args.duration)?;
        let Wakeup::View(snapshot) = events.next().await? else {
            tracer.end(&mut events).await?;
            return anyhow::Ok(());
        };
        let mut screen = Screen::open(&args.view, None, snapshot).context("cannot use the terminal")?;
        events.listen_to_keys();
        let failed = loop {
            match events.next().await? {
                Wakeup::View(snapshot) => screen.show(snapshot)?,
                Wakeup::Event(event) => {
                    if screen.event(&event)?.is_break() {
                        break false;
                    }
                    tracer.want_sockets(screen.wants_sockets());
                }
                Wakeup::Poll => {}
                Wakeup::End => break false,
                Wakeup::Failed => break true,
            }
        };
        screen.close().context("cannot restore the terminal")?;
        if failed {
            tracer.end(&mut events).await?;
        }
        Ok(())
    })?;
    // A user who quits has seen the last view. The process ends, and the trace with it.
    Ok(exit_code(args.fail_on.as_ref(), last(&views)?.findings()))
}
