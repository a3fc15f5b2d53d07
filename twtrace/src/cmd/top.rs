//! `twtrace top`: trace, and show what is known at each interval, or once at the end.

mod batch;
mod pulse;
mod screen;
#[cfg(test)]
mod tests;
mod verdict;

use crate::cli::TopArgs;
use anyhow::{Context as _, bail};
pub(super) use batch::Batch;
pub(super) use pulse::{Pulse, Timing, Wake};
pub(super) use screen::Screen;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime;
use twtrace_core::engine::{Engine, EngineConfig, Filter};
use twtrace_probe::source::Feed;
use twtrace_probe::source::live::{Live, LiveOptions};
pub(super) use verdict::verdict;

/// Length of a trace with `--once` when none is given.
const ONCE: Duration = Duration::from_secs(5);

/// Rows of a text report when no limit is given.
const TEXT_ROWS: usize = 20;

/// Traces as asked until the time is up, a signal comes or the user quits.
///
/// # Errors
/// It cannot trace here, or the output cannot be written to. A broken pipe is among them: the caller decides what it
/// means.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let on_screen = !args.once && !args.view.json && !args.view.csv && io::stdout().is_terminal();
    if on_screen && args.kernel.debug_kernel && io::stderr().is_terminal() {
        bail!("--debug-kernel would write over the screen: send standard error elsewhere, such as 2>debug.log");
    }
    let mut live = Live::start(&LiveOptions { load: args.kernel.load() })?;
    if on_screen { follow(&mut live, args) } else { report(&mut live, args, &mut io::stdout().lock()) }
}

fn engine(args: &TopArgs) -> Engine {
    Engine::new(EngineConfig { filter: args.view.filter.filter(), ..EngineConfig::default() })
}

/// One thread: everything happens in turn, and nothing needs a lock.
pub(super) fn runtime() -> anyhow::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")
}

/// Traces for that long, or until a signal comes, and gives what is known then.
pub(super) fn trace<F: Feed>(feed: &mut F, filter: Filter, duration: Duration) -> anyhow::Result<Engine> {
    runtime()?.block_on(async {
        let mut engine = Engine::new(EngineConfig { filter, ..EngineConfig::default() });
        let mut pulse = Pulse::new(feed.fd(), Timing { interval: None, duration: Some(duration) })?;
        loop {
            match pulse.next().await? {
                Wake::Pump => feed.pump(&mut |input| engine.apply(input))?,
                Wake::Show | Wake::Event(_) => {}
                Wake::End => break,
            }
        }
        feed.final_pump(&mut |input| engine.apply(input))?;
        Ok(engine)
    })
}

/// Writes reports: one at the end, or one each interval and one at the end.
fn report<F: Feed>(feed: &mut F, args: &TopArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let duration = args.duration.or(args.once.then_some(ONCE));
    runtime()?.block_on(async {
        let mut engine = engine(args);
        let mut batch = Batch::new(&args.view, BufWriter::new(out));
        let timing = Timing { interval: (!args.once).then_some(args.interval), duration };
        let mut pulse = Pulse::new(feed.fd(), timing)?;
        loop {
            match pulse.next().await? {
                Wake::Pump => feed.pump(&mut |input| engine.apply(input))?,
                Wake::Show => batch.write(engine.show())?,
                Wake::Event(_) => {}
                Wake::End => break,
            }
        }
        feed.final_pump(&mut |input| engine.apply(input))?;
        let model = engine.show();
        batch.write(model)?;
        Ok(verdict(args.fail_on.as_ref(), model.findings()))
    })
}

/// Draws on the terminal until the user has seen enough.
fn follow<F: Feed>(feed: &mut F, args: &TopArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let mut engine = engine(args);
        let timing = Timing { interval: Some(args.interval), duration: args.duration };
        let mut pulse = Pulse::new(feed.fd(), timing)?;
        let mut screen = Screen::open(&args.view, None).context("cannot use the terminal")?;
        pulse.listen_to_keys();
        feed.pump(&mut |input| engine.apply(input))?;
        screen.draw(engine.show())?;
        loop {
            match pulse.next().await? {
                Wake::Pump => feed.pump(&mut |input| engine.apply(input))?,
                Wake::Show => screen.draw(engine.show())?,
                Wake::Event(event) => {
                    if screen.event(&event, engine.model())?.is_break() {
                        break;
                    }
                }
                Wake::End => break,
            }
        }
        screen.close().context("cannot restore the terminal")?;
        Ok(verdict(args.fail_on.as_ref(), engine.show().findings()))
    })
}
