//! `twtrace top`: traces, and shows the current state at each interval, or once at the end.

mod recording;
#[cfg(test)]
mod tests;

use crate::attach::Attached;
use crate::batch::Batch;
use crate::cli::{AttachArgs, TopArgs, usage};
use crate::config::{self, INTERVAL, Settings};
use crate::event_loop::{EventLoop, Wakeup, last, runtime};
use crate::exit_code::exit_code;
use crate::recorded::{owners, say_losses};
use crate::tracer::{Asker, Tracer};
use crate::tui::screen::{Orders, Screen};
use crate::watching::Watching;
use anyhow::Context as _;
use recording::{LOOK, Tape};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, State};
use twtrace_probe::source::EventSource;
use twtrace_probe::source::deadline::Deadline;
use twtrace_probe::source::kernel_source::KernelSource;
use twtrace_view::text;

/// Length of a trace with `--once` when none is given.
const ONCE: Duration = Duration::from_secs(5);

/// Why `!` records nothing on a screen that reads an agent.
const NOT_HERE: &str = "the agent records: start it with --dir, and read its flight.twt";

/// Traces until the time is up, a signal comes or the user quits.
///
/// # Errors
/// This host cannot be traced, or the output cannot be written to. The latter includes a broken pipe: the caller
/// decides what it means.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let on_screen = !args.once && !args.view.json && !args.view.csv && io::stdout().is_terminal();
    if let Some(agent) = args.agent.agent(&args.view.filter, Some(&args.kernel))? {
        return if on_screen { follow_agent(agent, args) } else { report_agent(agent, args, &mut io::stdout().lock()) };
    }
    if on_screen && args.kernel.debug_kernel.is_some() && io::stderr().is_terminal() {
        return Err(
            usage("--debug-kernel would write over the screen: add --once, or 2>FILE for standard error").into()
        );
    }
    let load = args.kernel.options();
    let start = move |deadline| KernelSource::start_until(&load, deadline);
    if on_screen { follow(start, args) } else { report(start, args, &mut io::stdout().lock()) }
}

/// What is counted.
fn counted(args: &TopArgs) -> Config {
    Config { filter: args.view.filter.filter(), ..Config::default() }
}

/// A source that starts as this one does, and the state that is known by then: a recording is read once the trace has begun.
/// What was closed within the second before is not on the disk yet.
fn with_owners<S: EventSource>(
    source: impl FnOnce(Deadline) -> anyhow::Result<S> + Send + 'static,
    args: &TopArgs,
) -> (impl FnOnce(Deadline) -> anyhow::Result<S> + Send + 'static, Watching) {
    let (hand_over, prior) = channel();
    let (path, config) = (args.trace.clone(), counted(args));
    let start = move |deadline| {
        let live = source(deadline)?;
        if let Some(path) = path {
            let (state, notes) = owners(&path, config)?;
            say_losses(&notes);
            // If the thread could not be started, there is no receiver.
            let _ = hand_over.send(state);
        }
        Ok(live)
    };
    (start, Watching::new(State::new(counted(args))).after(prior))
}

/// Writes reports: one at the end, or one each interval and one at the end.
fn report<S: EventSource>(
    source: impl FnOnce(Deadline) -> anyhow::Result<S> + Send + 'static,
    args: &TopArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let duration = args.duration.or(args.once.then_some(ONCE));
    let every = args.interval.unwrap_or(INTERVAL);
    let (source, work) = with_owners(source, args);
    let mut tracer = Tracer::start(source, work, (!args.once).then_some(every))?;
    let views = tracer.views();
    let mut batch = Batch::new(&args.view, BufWriter::new(out));
    runtime()?.block_on(async {
        let mut events = EventLoop::new(Some(tracer.views()), duration)?;
        // The view of the very beginning is empty.
        let mut is_first = true;
        loop {
            match events.next().await? {
                Wakeup::View(_) if is_first || args.once => is_first = false,
                // The one just before the last would be the same one twice.
                Wakeup::View(_) if events.ends_within(every / 2) => {}
                Wakeup::View(snapshot) => batch.write(&snapshot)?,
                Wakeup::Event(_) | Wakeup::Poll => {}
                Wakeup::End | Wakeup::Failed => break,
            }
        }
        tracer.end(&mut events).await
    })?;
    let snapshot = last(&views)?;
    batch.write(&snapshot)?;
    Ok(exit_code(args.fail_on.as_ref(), &[&snapshot]))
}

/// Writes reports of a running agent: one at once, or after `--duration`, or one each interval.
fn report_agent(agent: &AttachArgs, args: &TopArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let every = args.interval.unwrap_or(INTERVAL);
    let mut batch = Batch::new(&args.view, BufWriter::new(out));
    let snapshot = runtime()?.block_on(async {
        // One that is asked for once waits for nothing, unless there is a time to wait for.
        let is_now = args.once && args.duration.is_none();
        let attached = Attached::start(agent, (!is_now).then_some(every), false)?;
        let mut events = EventLoop::new(Some(attached.views()), args.duration)?;
        let mut newest = None;
        loop {
            match events.next().await? {
                Wakeup::View(snapshot) => {
                    newest = Some(Arc::clone(&snapshot));
                    if is_now {
                        break;
                    }
                    if !args.once {
                        batch.write(&snapshot)?;
                    }
                }
                Wakeup::Event(_) | Wakeup::Poll => {}
                Wakeup::End => break,
                Wakeup::Failed => return Err(attached.failure().await),
            }
        }
        newest.context("the agent has not answered yet")
    })?;
    if args.once {
        batch.write(&snapshot)?;
    }
    Ok(exit_code(args.fail_on.as_ref(), &[&snapshot]))
}

/// Draws what a running agent sees until the user quits.
fn follow_agent(agent: &AttachArgs, args: &TopArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings {
        agent: agent.attach.as_ref().map(ToString::to_string),
        ..Settings::new(&args.view, args.interval, config::find())
    };
    let snapshot = runtime()?.block_on(async {
        let attached = Attached::start(agent, Some(settings.interval), false)?;
        let mut events = EventLoop::new(Some(attached.views()), args.duration)?;
        if draw(&mut events, attached.asker(), None, &settings).await? {
            return Err(attached.failure().await);
        }
        last(&attached.views())
    })?;
    Ok(exit_code(args.fail_on.as_ref(), &[&snapshot]))
}

/// Draws on the terminal until the user quits.
fn follow<S: EventSource>(
    source: impl FnOnce(Deadline) -> anyhow::Result<S> + Send + 'static,
    args: &TopArgs,
) -> anyhow::Result<ExitCode> {
    let settings = Settings::new(&args.view, args.interval, config::find());
    let (source, work) = with_owners(source, args);
    let (work, control) = work.with_control();
    let mut tape = Tape::new(control);
    let mut tracer = Tracer::start(source, work, Some(settings.interval))?;
    let views = tracer.views();
    let (followed, sealed) = runtime()?.block_on(async {
        let mut events = EventLoop::new(Some(tracer.views()), args.duration)?;
        let followed = draw(&mut events, &tracer.asker(), Some(&mut tape), &settings).await;
        // A user who quits has seen the last view. The process ends, and the trace with it, unless something must be kept.
        let settled = tape.settle();
        let sealed = match followed {
            Ok(false) if !tape.is_busy() => Ok(()),
            _ => tracer.end(&mut events).await.map(Watching::finish),
        };
        anyhow::Ok((followed, settled.and(sealed)))
    })?;
    let recorded = tape.ended();
    // The lines are lost if standard error is closed, which is no error.
    if let Some(Ok(line)) = &recorded {
        let _ = writeln!(io::stderr(), "twtrace: {}", text::clean(line));
    }
    followed?;
    sealed?;
    recorded.transpose()?;
    let snapshot = last(&views)?;
    Ok(exit_code(args.fail_on.as_ref(), &[&snapshot]))
}

/// Draws until the user quits, which is `false`, or the trace has failed, which is `true`.
async fn draw(
    events: &mut EventLoop<Snapshot>,
    asker: &Asker<Snapshot>,
    mut tape: Option<&mut Tape>,
    settings: &Settings,
) -> anyhow::Result<bool> {
    let Wakeup::View(snapshot) = events.next().await? else { return Ok(true) };
    let mut screen = Screen::open(settings, None, snapshot).context("cannot use the terminal")?;
    events.listen_to_keys();
    let failed = loop {
        match events.next().await? {
            Wakeup::View(snapshot) => screen.show(snapshot)?,
            Wakeup::Event(event) => {
                if screen.event(&event)?.is_break() {
                    break false;
                }
                let Orders { interval, record } = screen.orders();
                interval.into_iter().for_each(|interval| asker.set_interval(interval));
                match tape.as_mut().filter(|_| record) {
                    Some(tape) => {
                        tape.begin_or_end(&mut screen)?;
                        events.poll_every(LOOK);
                    }
                    None if record => screen.set_recording(None, NOT_HERE.to_owned())?,
                    None => {}
                }
            }
            Wakeup::Poll => tape.as_mut().map_or(Ok(()), |tape| tape.look(&mut screen))?,
            Wakeup::End => break false,
            Wakeup::Failed => break true,
        }
        asker.want_sockets(screen.wants_sockets());
    };
    screen.close().context("cannot restore the terminal")?;
    Ok(failed)
}
