//! `twtrace record`: traces into a recording, until it is stopped or until the given command has ended.

mod child;
mod summary;

use crate::cli::RecordArgs;
use crate::event_loop::{EventLoop, Wakeup, runtime};
use crate::tracer::{Tracer, Work};
use child::Child;
pub use child::NotStarted;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use summary::OpenSockets;
use twtrace_core::event::{Event, KernelCounters};
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, State};
use twtrace_probe::source::EventSource;
use twtrace_probe::source::kernel_source::KernelSource;
use twtrace_recording::writer::{Progress, Recorder, WriteOptions};

/// Time between two progress lines.
const PROGRESS: Duration = Duration::from_secs(1);

/// How often to check whether the command has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Records until the time is up, a signal comes or the command ends. Returns the command's exit code.
///
/// # Errors
/// This host cannot be traced, the command cannot be started, or the recording cannot be written to.
pub fn run(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let load = args.kernel.options();
    let options = WriteOptions { overwrite: args.overwrite, keep: args.keep, ..WriteOptions::default() };
    // If the trace does not begin, no recording is left behind.
    let path = args.output.clone();
    let (hand_over, recorder) = channel();
    let start = move |deadline| {
        let live = KernelSource::start_until(&load, deadline)?;
        // If the thread could not be started, there is no receiver.
        let _ = hand_over.send(Recorder::create(&path, options)?);
        Ok(live)
    };
    let mut tracer = Tracer::start(start, Recording::new(recorder), Some(PROGRESS))?;
    // On a busy host it takes a while until the trace has begun.
    let began = Instant::now();
    let (waited, ended) = runtime()?.block_on(async {
        let mut events = EventLoop::new(Some(tracer.views()), None)?;
        let waited = wait(&mut events, args, began).await;
        anyhow::Ok((waited, tracer.end(&mut events).await))
    })?;
    let code = match waited {
        Ok(code) => code,
        Err(error) => {
            // The error of the command is the one that matters, and nothing is recorded without it.
            if error.is::<NotStarted>()
                && let Some(recorder) = ended.ok().and_then(|work| work.recorder)
            {
                let _ = recorder.discard();
            }
            return Err(error);
        }
    };
    let Recording { recorder, mut state, open, .. } = ended?;
    let progress = recorder.map_or_else(|| Ok(Progress::default()), Recorder::finish)?;
    let ended = summary::Ended { path: &args.output, lasted: began.elapsed(), progress, open: open.count() };
    // The summary is lost if standard error is closed, which is no error.
    let _ = io::stderr().write_all(summary::summary(&Snapshot::take(&mut state), &ended).as_bytes());
    Ok(code)
}

/// Waits until it is over: the time is up, a signal came, or the command has ended.
async fn wait(events: &mut EventLoop<View>, args: &RecordArgs, began: Instant) -> anyhow::Result<ExitCode> {
    let mut line = ProgressLine::default();
    // After the first view, every connection is seen.
    let Wakeup::View(_) = events.next().await? else { return Ok(ExitCode::SUCCESS) };
    let mut child = args.command.split_first().map(|(name, rest)| Child::start(name, rest)).transpose()?;
    events.poll_every(LOOK);
    let mut is_asked_to_end = false;
    loop {
        match events.next().await? {
            Wakeup::View(view) => line.show(began.elapsed(), &view),
            Wakeup::Event(_) | Wakeup::Poll => {}
            Wakeup::Failed => break,
            // After a second signal it does not wait any longer.
            Wakeup::End if is_asked_to_end => break,
            Wakeup::End => is_asked_to_end = true,
        }
        is_asked_to_end |= args.duration.is_some_and(|duration| began.elapsed() >= duration);
        let is_over = match &mut child {
            Some(child) if is_asked_to_end => child.end()?,
            Some(child) => child.has_ended()?,
            None => is_asked_to_end,
        };
        if is_over {
            break;
        }
    }
    line.clear();
    Ok(child.map_or(ExitCode::SUCCESS, Child::code))
}

/// Processes events: records them, and counts them for the summary at the end.
struct Recording {
    /// Delivers the recorder once the trace has begun.
    created: Receiver<Recorder>,
    recorder: Option<Recorder>,
    state: State,
    open: OpenSockets,
    failure: Option<anyhow::Error>,
}

impl Recording {
    fn new(created: Receiver<Recorder>) -> Self {
        let state = State::new(Config::default());
        Self { created, recorder: None, state, open: OpenSockets::default(), failure: None }
    }

    fn recorder(&mut self) -> Option<&mut Recorder> {
        if self.recorder.is_none() {
            self.recorder = self.created.try_recv().ok();
        }
        self.recorder.as_mut()
    }
}

/// Progress.
struct View {
    progress: Progress,
    counters: KernelCounters,
}

impl Work for Recording {
    type View = View;

    fn apply(&mut self, event: Event) {
        if self.failure.is_none()
            && let Some(recorder) = self.recorder()
        {
            self.failure = recorder.record(&event).err();
        }
        self.open.see(&event);
        self.state.apply(event);
    }

    fn applied(&mut self, source: &mut dyn EventSource) -> anyhow::Result<()> {
        if let Some(recorder) = self.recorder()
            && recorder.wants_whole_census()
        {
            source.restate();
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    fn view(&mut self, _sockets: bool) -> View {
        let progress = self.recorder().map_or_else(Progress::default, |recorder| recorder.progress());
        View { progress, counters: self.state.summary().counters }
    }
}

/// One line on a terminal that is rewritten each second.
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
    fn show(&mut self, elapsed: Duration, View { progress, counters }: &View) {
        let seconds = elapsed.saturating_sub(self.before.0).as_secs_f64();
        let rows_per_s = (progress.rows - self.before.1) as f64 / seconds.max(0.001);
        self.before = (elapsed, progress.rows);
        self.write(&summary::line(elapsed, progress, rows_per_s, counters));
    }

    fn clear(&self) {
        self.write("");
    }

    /// Overwrites the previous line. Errors are ignored: a lost progress line does no harm.
    fn write(&self, text: &str) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r{text}\x1b[K");
        }
    }
}
