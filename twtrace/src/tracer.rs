//! The tracing thread. It owns the source and the state that its events change, and publishes views of that state.
//! Nothing that a user waits for ever waits for this thread, and the thread waits for no one.

use crate::event_loop::EventLoop;
use anyhow::{Context as _, anyhow};
use std::future::pending;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use twtrace_core::event::Event;
use twtrace_probe::source::EventSource;
use twtrace_probe::source::deadline::Deadline;

/// How often the source is read when it does not ask for more.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long after such a signal the last census may continue. After Ctrl-C a user waits at most a fifth of a second for the
/// last report, which includes reading the last records.
const HURRY: Duration = Duration::from_millis(60);

/// Processing of events.
pub(crate) trait Work: Send + 'static {
    /// The published view of it.
    type View: Send + Sync + 'static;

    /// Takes one event.
    fn apply(&mut self, event: Event);

    /// All events so far have been applied.
    ///
    /// # Errors
    /// They could not be kept: the trace ends.
    fn applied(&mut self, source: &mut dyn EventSource) -> anyhow::Result<()> {
        let _ = source;
        Ok(())
    }

    /// The current state, with the list of live sockets if requested.
    fn view(&mut self, sockets: bool) -> Self::View;
}

/// Requests to the thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Control {
    /// It is over.
    pub(crate) ends: bool,
    /// Views have the list of live sockets.
    pub(crate) sockets: bool,
    /// Incremented to request a view at once.
    asked: u64,
    /// Time between views from now on, if it changed.
    pub(crate) interval: Option<Duration>,
}

/// The latest view; none before the first.
pub(crate) type Views<V> = watch::Receiver<Option<Arc<V>>>;

/// What asks a trace for views, and cannot end it.
pub(crate) struct Asker<V> {
    views: Views<V>,
    control: watch::Sender<Control>,
}

impl<V> Asker<V> {
    /// Of what publishes these views, and obeys these requests.
    pub(crate) fn new(views: Views<V>, control: watch::Sender<Control>) -> Self {
        Self { views, control }
    }

    /// Views from now on.
    pub(crate) fn views(&self) -> Views<V> {
        self.views.clone()
    }

    /// Whether views should have the list of live sockets. When that changes, the next one comes at once.
    pub(crate) fn want_sockets(&self, sockets: bool) {
        want_sockets(&self.control, sockets);
    }

    /// Publishes views this often from now on.
    pub(crate) fn set_interval(&self, interval: Duration) {
        self.control.send_modify(|control| control.interval = Some(interval));
    }
}

fn want_sockets(control: &watch::Sender<Control>, sockets: bool) {
    control.send_if_modified(|control| {
        let changes = control.sockets != sockets;
        control.sockets = sockets;
        control.asked += u64::from(changes);
        changes
    });
}

/// A running trace.
pub(crate) struct Tracer<W: Work> {
    views: Views<W::View>,
    control: watch::Sender<Control>,
    deadline: Deadline,
    /// Result of the thread, before it detaches the programs: no caller waits for that.
    done: oneshot::Receiver<anyhow::Result<W>>,
}

/// A trace whose thread runs, and that has not begun yet.
pub(crate) struct Starting<W: Work> {
    tracer: Tracer<W>,
    is_started: Receiver<anyhow::Result<()>>,
}

impl<W: Work> Starting<W> {
    /// Waits until it has begun.
    ///
    /// # Errors
    /// The source cannot be started.
    pub(crate) fn wait(self) -> anyhow::Result<Tracer<W>> {
        // Not by the end of `done`: nothing may block for that inside a runtime.
        self.is_started.recv().unwrap_or_else(|_| Err(anyhow!("the thread that traces has failed")))?;
        Ok(self.tracer)
    }
}

impl<W: Work> Tracer<W> {
    /// Starts the source and the thread. `interval` is the time between views; without it, there is one at the
    /// beginning, one on each request, and one at the end.
    ///
    /// # Errors
    /// The source cannot be started.
    pub(crate) fn start<S: EventSource>(
        source: impl FnOnce(Deadline) -> anyhow::Result<S> + Send + 'static,
        work: W,
        interval: Option<Duration>,
    ) -> anyhow::Result<Self> {
        Self::begin(source, work, interval)?.wait()
    }

    /// The same, and does not wait.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn begin<S: EventSource>(
        source: impl FnOnce(Deadline) -> anyhow::Result<S> + Send + 'static,
        work: W,
        interval: Option<Duration>,
    ) -> anyhow::Result<Starting<W>> {
        let (publish, views) = watch::channel(None);
        let (control, controlled) = watch::channel(Control::default());
        let (started, is_started) = sync_channel(1);
        let (finish, done) = oneshot::channel();
        let deadline = Deadline::default();
        let its = deadline.clone();
        let run = move || {
            let thread = Thread { work, publish, control: controlled };
            // If the caller is still waiting, this reports that the trace has begun, or why it has not.
            let mut source = match source(its) {
                Ok(source) => {
                    let _ = started.send(Ok(()));
                    source
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            drop(started);
            // If the caller has given up, there is no receiver either.
            let _ = finish.send(thread.run(&mut source, interval));
        };
        thread::Builder::new().name("tracer".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok(Starting { tracer: Self { views, control, deadline, done }, is_started })
    }

    /// Views from now on.
    pub(crate) fn views(&self) -> Views<W::View> {
        self.views.clone()
    }

    /// Whether views should have the list of live sockets. When that changes, the next one comes at once.
    pub(crate) fn want_sockets(&self, sockets: bool) {
        want_sockets(&self.control, sockets);
    }

    /// What others may ask it for.
    pub(crate) fn asker(&self) -> Asker<W::View> {
        Asker { views: self.views.clone(), control: self.control.clone() }
    }

    /// Ends the trace: everything that has happened until now is applied, and is in the last view. SIGINT before, or any
    /// signal meanwhile, cuts short what takes long. After that, the thread detaches the programs; for each of them the
    /// kernel may wait some 50 ms, and the caller does not.
    ///
    /// # Errors
    /// The source or the work failed.
    pub(crate) async fn end(&mut self, events: &mut EventLoop<W::View>) -> anyhow::Result<W> {
        self.control.send_modify(|control| control.ends = true);
        let done = tokio::select! {
            biased;
            done = &mut self.done => done,
            () = events.interrupted() => {
                self.deadline.set(HURRY);
                (&mut self.done).await
            }
        };
        done.unwrap_or_else(|_| Err(anyhow!("the thread that traces has failed")))
    }
}

/// State of the thread.
struct Thread<W: Work> {
    work: W,
    publish: watch::Sender<Option<Arc<W::View>>>,
    control: watch::Receiver<Control>,
}

impl<W: Work> Thread<W> {
    fn run<S: EventSource>(mut self, source: &mut S, interval: Option<Duration>) -> anyhow::Result<W> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start a thread")?;
        runtime.block_on(self.follow(source, interval))?;
        source.final_pump(&mut |event| self.work.apply(event))?;
        self.work.applied(source)?;
        self.publish();
        Ok(self.work)
    }

    async fn follow<S: EventSource>(&mut self, source: &mut S, interval: Option<Duration>) -> anyhow::Result<()> {
        let fd = source.fd().map(watched).transpose().context("cannot wait for the ring buffer")?;
        let now = Instant::now();
        let mut poll = steady(interval_at(now + POLL_INTERVAL, POLL_INTERVAL));
        let mut show = Timer::new(interval);
        self.pump(source)?;
        self.publish();
        let mut asked = 0;
        loop {
            tokio::select! {
                changed = self.control.changed() => {
                    let control = *self.control.borrow_and_update();
                    if changed.is_err() || control.ends {
                        return Ok(());
                    }
                    show.change(control.interval);
                    if control.asked != asked {
                        asked = control.asked;
                        self.publish();
                    }
                }
                () = show.tick() => self.publish(),
                _ = poll.tick() => self.pump(source)?,
                ready = readable(fd.as_ref()) => {
                    ready.context("cannot wait for the ring buffer")?;
                    self.pump(source)?;
                }
            }
        }
    }

    fn pump<S: EventSource>(&mut self, source: &mut S) -> anyhow::Result<()> {
        source.pump(&mut |event| self.work.apply(event))?;
        self.work.applied(source)
    }

    fn publish(&mut self) {
        let sockets = self.control.borrow().sockets;
        self.publish.send_replace(Some(Arc::new(self.work.view(sockets))));
    }
}

/// When the next view is due.
pub(crate) struct Timer {
    every: Option<Duration>,
    ticks: Option<Interval>,
}

impl Timer {
    /// Ticks this often from now on; never without an interval.
    pub(crate) fn new(every: Option<Duration>) -> Self {
        Self { every, ticks: every.map(|every| steady(interval_at(Instant::now() + every, every))) }
    }

    /// Ticks this often from now on, if that is something else.
    pub(crate) fn change(&mut self, every: Option<Duration>) {
        if every.is_some() && every != self.every {
            *self = Self::new(every);
        }
    }

    /// The next tick.
    pub(crate) async fn tick(&mut self) {
        tick(&mut self.ticks).await;
    }
}

/// After a stall, it continues from there: what was missed is in the next view.
pub(crate) fn steady(mut interval: Interval) -> Interval {
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// A duplicate of the descriptor, so that it cannot be closed while the thread waits for it.
fn watched(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = fd.try_clone_to_owned()?;
    // SAFETY: the descriptor is open, and stays open for as long as its owner, the registration, exists.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? })
}

pub(crate) async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => pending().await,
    }
}

async fn readable(fd: Option<&AsyncFd<OwnedFd>>) -> io::Result<()> {
    match fd {
        Some(fd) => {
            // The kernel says when the ring buffer is worth another read.
            fd.readable().await?.clear_ready();
            // If it stays readable, as after an error, time and requests must still have their turn.
            yield_now().await;
            Ok(())
        }
        None => pending().await,
    }
}
