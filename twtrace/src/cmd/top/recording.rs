//! The recording that a user of the screen starts and ends.

use crate::clock::now_unix_ns;
use crate::tui::model::Recording;
use crate::tui::screen::Screen;
use crate::watching::{Control, Order, Outcome};
use anyhow::Context as _;
use std::io;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use twtrace_recording::writer::{Progress, Recorder, WriteOptions};
use twtrace_view::text;

/// How often to look for news while there is a recording.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// How far it is.
#[derive(Default)]
enum Stage {
    #[default]
    None,
    /// Its directory is being created. Then the thread orders that it begins.
    Creating(String, JoinHandle<anyhow::Result<()>>),
    Recording(String),
    Sealing(String),
}

/// The recording, and the way to the thread that traces.
pub(super) struct Tape {
    control: Control,
    stage: Stage,
}

impl Tape {
    pub(super) fn new(control: Control) -> Self {
        Self { control, stage: Stage::None }
    }

    /// Whether something must be sealed before the process may end.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::None)
    }

    /// Starts a recording in the current folder, or ends the one that was started.
    pub(super) fn begin_or_end(&mut self, screen: &mut Screen) -> io::Result<()> {
        let (stage, notice) = match std::mem::take(&mut self.stage) {
            Stage::None => match self.create() {
                Ok((name, thread)) => {
                    let notice = format!("recording into {name}; ! ends it");
                    (Stage::Creating(name, thread), notice)
                }
                Err(error) => (Stage::None, format!("not recorded: {error}")),
            },
            Stage::Recording(name) => {
                // If the thread has failed, the loop ends by itself.
                let _ = self.control.orders.send(Order::End);
                let notice = format!("writing the last of {name}");
                (Stage::Sealing(name), notice)
            }
            Stage::Creating(name, thread) => {
                let notice = format!("still creating {name}");
                (Stage::Creating(name, thread), notice)
            }
            Stage::Sealing(name) => {
                let notice = format!("still writing the last of {name}");
                (Stage::Sealing(name), notice)
            }
        };
        self.stage = stage;
        screen.set_recording(self.shown(), notice)
    }

    /// What the header shows.
    fn shown(&self) -> Option<Recording> {
        match &self.stage {
            Stage::None => None,
            Stage::Creating(name, _) | Stage::Recording(name) => {
                Some(Recording { name: name.clone(), is_sealing: false })
            }
            Stage::Sealing(name) => Some(Recording { name: name.clone(), is_sealing: true }),
        }
    }

    /// A directory may be on a disk that takes its time, and keys must not wait for it.
    fn create(&self) -> io::Result<(String, JoinHandle<anyhow::Result<()>>)> {
        let name = format!("twtrace-{}.twt", text::file_time(now_unix_ns()));
        let (path, orders) = (name.clone(), self.control.orders.clone());
        let create = move || {
            stand_back();
            let recorder = Recorder::create(Path::new(&path), WriteOptions::default())?;
            orders.send(Order::Begin(Box::new(recorder))).ok().context("the trace has ended")
        };
        Ok((name, thread::Builder::new().name("create".to_owned()).spawn(create)?))
    }

    /// Looks for news, and shows them.
    pub(super) fn look(&mut self, screen: &mut Screen) -> io::Result<()> {
        match std::mem::take(&mut self.stage) {
            Stage::Creating(name, thread) if thread.is_finished() => match created(thread) {
                Ok(()) => self.stage = Stage::Recording(name),
                Err(error) => return screen.set_recording(None, format!("not recorded: {}", in_a_line(&error))),
            },
            stage => self.stage = stage,
        }
        let Ok(outcome) = self.control.outcomes.try_recv() else { return Ok(()) };
        self.stage = Stage::None;
        screen.set_recording(None, said(&outcome))
    }

    /// Waits until the recording has begun, if it was started: the process is about to end.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        match std::mem::take(&mut self.stage) {
            Stage::Creating(name, thread) => {
                created(thread).with_context(|| format!("{name} was not recorded"))?;
                self.stage = Stage::Recording(name);
            }
            stage => self.stage = stage,
        }
        Ok(())
    }

    /// What became of the recording, once the thread that traces has sealed it.
    pub(super) fn ended(self) -> Option<anyhow::Result<String>> {
        let (Stage::Recording(name) | Stage::Sealing(name)) = self.stage else { return None };
        Some(match self.control.outcomes.try_iter().last() {
            Some(Outcome { progress, failure: None }) => Ok(format!("{name}: {}", size(&progress))),
            Some(Outcome { progress, failure: Some(error) }) => {
                Err(error.context(format!("{name} ended early: {}", size(&progress))))
            }
            None => Err(anyhow::anyhow!("{name} was not sealed: the trace has failed")),
        })
    }
}

/// The result of the thread that creates.
fn created(thread: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread that creates it has failed")))
}

/// What there is to say when a recording has ended.
fn said(Outcome { progress, failure }: &Outcome) -> String {
    match failure {
        None => size(progress),
        Some(error) => format!("ended early: {}: {}", size(progress), in_a_line(error)),
    }
}

fn in_a_line(error: &anyhow::Error) -> String {
    text::clean(&format!("{error:#}")).into_owned()
}

fn size(progress: &Progress) -> String {
    format!("recorded {} connections, {}", text::count(progress.connections), text::bytes(progress.bytes))
}

/// Threads have the priority of the one that starts them, and that which draws goes first.
fn stand_back() {
    // SAFETY: getpriority(2) and setpriority(2) read their numbers and no memory; 0 is the calling thread.
    unsafe {
        if libc::getpriority(libc::PRIO_PROCESS, 0) < 0 {
            let _ = libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
    }
}
