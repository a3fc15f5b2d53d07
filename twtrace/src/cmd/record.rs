//! `twtrace record`: trace into a recording, until stopped or until a command of one's own has ended.

mod child;
mod summary;

use crate::cli::RecordArgs;
use crate::event_loop::{EventLoop, Timing, Wakeup, runtime};
use child::Child;
pub use child::NotStarted;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use summary::OpenSockets;
use twtrace_core::input::Input;
use twtrace_core::state::{Config, Engine, Snapshot};
use twtrace_probe::source::EventSource;
use twtrace_probe::source::live::{Live, LiveOptions};
use twtrace_recording::writer::{Progress, Recorder, WriteOptions};

/// Time between two progress lines.
const PROGRESS: Duration = Duration::from_secs(1);

/// Records as asked until the time is up, a signal comes or the command ends. Gives the command's exit code.
///
/// # Errors
/// It cannot trace here, the command cannot be started, or the recording cannot be written to.
pub fn run(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let mut live = Live::start(&LiveOptions { load: args.kernel.load() })?;
    // A trace that does not begin leaves nothing behind.
    let options = WriteOptions { overwrite: args.overwrite, keep: args.keep, ..WriteOptions::default() };
    let recorder = Recorder::create(&args.output, options)?;
    let mut session = Session::new(recorder);
    let code = match session.trace(&mut live, args) {
        Ok(code) => code,
        Err(error) if error.is::<NotStarted>() => {
            // What is wrong with the command is what matters.
            let _ = session.recorder.discard();
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let Session { engine, recorder, open, began, .. } = session;
    let progress = recorder.finish()?;
    let ended = summary::Ended { path: &args.output, lasted: began.elapsed(), progress, open: open.count() };
    // Nobody has to read it.
    let _ = io::stderr().write_all(summary::summary(engine.model(), &ended).as_bytes());
    Ok(code)
}

/// What is under way.
struct Session {
    recorder: Recorder,
    /// For the summary at the end.
    engine: Engine,
    open: OpenSockets,
    began: Instant,
    failure: Option<anyhow::Error>,
}

impl Session {
    fn new(recorder: Recorder) -> Self {
        let engine = Engine::new(Config::default());
        Self { recorder, engine, open: OpenSockets::default(), began: Instant::now(), failure: None }
    }

    fn trace<S: EventSource>(&mut self, source: &mut S, args: &RecordArgs) -> anyhow::Result<ExitCode> {
        runtime()?.block_on(async {
            let mut line = ProgressLine::default();
            let interval = line.is_shown.then_some(PROGRESS);
            let mut events = EventLoop::new(source.fd(), Timing { interval, duration: None })?;
            self.pump(|sink| source.pump(sink))?;
            // From here on all of its connections are seen.
            let mut child = args.command.split_first().map(|(name, rest)| Child::start(name, rest)).transpose()?;
            let mut is_asked_to_end = false;
            loop {
                match events.next().await? {
                    Wakeup::Poll => {
                        self.pump(|sink| source.pump(sink))?;
                        if self.recorder.wants_whole_census() {
                            source.restate();
                        }
                    }
                    Wakeup::Show => line.show(self.began.elapsed(), &self.recorder.progress(), self.engine.model()),
                    Wakeup::Event(_) => {}
                    // The second time nobody is waited for.
                    Wakeup::End if is_asked_to_end => break,
                    Wakeup::End => is_asked_to_end = true,
                }
                is_asked_to_end |= args.duration.is_some_and(|duration| self.began.elapsed() >= duration);
                let is_over = match &mut child {
                    Some(child) if is_asked_to_end => child.end()?,
                    Some(child) => child.has_ended()?,
                    None => is_asked_to_end,
                };
                if is_over {
                    break;
                }
            }
            self.pump(|sink| source.final_pump(sink))?;
            line.clear();
            Ok(child.map_or(ExitCode::SUCCESS, Child::code))
        })
    }

    /// Records what there is.
    fn pump(&mut self, pump: impl FnOnce(&mut dyn FnMut(Input)) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let Self { recorder, engine, open, failure, .. } = self;
        pump(&mut |input| {
            if failure.is_none() {
                *failure = recorder.record(&input).err();
            }
            open.see(&input);
            engine.apply(input);
        })?;
        failure.take().map_or(Ok(()), Err)
    }
}

/// One line on a terminal that is written anew each second.
struct ProgressLine {
    is_shown: bool,
    before: (Duration, u64),
}

impl Default for ProgressLine {
    fn default() -> Self {
        Self { is_shown: io::stderr().is_terminal(), before: (Duration::ZERO, 0) }
    }
}

impl ProgressLine {
    fn show(&mut self, elapsed: Duration, progress: &Progress, model: &Snapshot) {
        let seconds = elapsed.saturating_sub(self.before.0).as_secs_f64();
        let rows_per_s = (progress.rows - self.before.1) as f64 / seconds.max(0.001);
        self.before = (elapsed, progress.rows);
        self.write(&summary::line(elapsed, progress, rows_per_s, &model.summary().counters));
    }

    fn clear(&self) {
        self.write("");
    }

    /// Over what the line was before. Where nothing can be shown nothing is lost.
    fn write(&self, text: &str) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r{text}\x1b[K");
        }
    }
}
