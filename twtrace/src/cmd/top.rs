//! `twtrace top`: trace, and show what is known at each interval, or once at the end.

#[cfg(test)]
mod tests;

use crate::batch::Batch;
use crate::cli::{TopArgs, usage};
use crate::event_loop::{EventLoop, Timing, Wakeup, runtime};
use crate::exit_code::exit_code;
use crate::tui::screen::Screen;
use anyhow::Context as _;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::Duration;
use twtrace_core::engine::{Engine, EngineConfig};
use twtrace_probe::source::EventSource;
use twtrace_probe::source::live::{Live, LiveOptions};

/// Length of a trace with `--once` when none is given.
const ONCE: Duration = Duration::from_secs(5);

/// Traces as asked until the time is up, a signal comes or the user quits.
///
/// # Errors
/// It cannot trace here, or the output cannot be written to. A broken pipe is among them: the caller decides what it
/// means.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let on_screen = !args.once && !args.view.json && !args.view.csv && io::stdout().is_terminal();
    if on_screen && args.kernel.debug_kernel.is_some() && io::stderr().is_terminal() {
        return Err(
            usage("--debug-kernel would write over the screen: add --once, or 2>FILE for standard error").into()
        );
    }
    let mut live = Live::start(&LiveOptions { load: args.kernel.load() })?;
    if on_screen { follow(&mut live, args) } else { report(&mut live, args, &mut io::stdout().lock()) }
}

fn engine(args: &TopArgs) -> Engine {
    Engine::new(EngineConfig { filter: args.view.filter.filter(), ..EngineConfig::default() })
}

/// Writes reports: one at the end, or one each interval and one at the end.
fn report<S: EventSource>(source: &mut S, args: &TopArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let duration = args.duration.or(args.once.then_some(ONCE));
    runtime()?.block_on(async {
        let mut engine = engine(args);
        let mut batch = Batch::new(&args.view, BufWriter::new(out));
        let timing = Timing { interval: (!args.once).then_some(args.interval), duration };
        let mut events = EventLoop::new(source.fd(), timing)?;
        loop {
            match events.next().await? {
                Wakeup::Poll => source.pump(&mut |input| engine.apply(input))?,
                Wakeup::Show => batch.write(engine.show())?,
                Wakeup::Event(_) => {}
                Wakeup::End => break,
            }
        }
        source.final_pump(&mut |input| engine.apply(input))?;
        let model = engine.show();
        batch.write(model)?;
        Ok(exit_code(args.fail_on.as_ref(), model.findings()))
    })
}

/// Draws on the terminal until the user has seen enough.
fn follow<S: EventSource>(source: &mut S, args: &TopArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let mut engine = engine(args);
        let timing = Timing { interval: Some(args.interval), duration: args.duration };
        let mut events = EventLoop::new(source.fd(), timing)?;
        let mut screen = Screen::open(&args.view, None).context("cannot use the terminal")?;
        events.listen_to_keys();
        source.pump(&mut |input| engine.apply(input))?;
        screen.draw(engine.show())?;
        loop {
            match events.next().await? {
                Wakeup::Poll => source.pump(&mut |input| engine.apply(input))?,
                Wakeup::Show => screen.draw(engine.show())?,
                Wakeup::Event(event) => {
                    if screen.event(&event, engine.model())?.is_break() {
                        break;
                    }
                }
                Wakeup::End => break,
            }
        }
        screen.close().context("cannot restore the terminal")?;
        Ok(exit_code(args.fail_on.as_ref(), engine.show().findings()))
    })
}
