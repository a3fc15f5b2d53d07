//! What commands wait for: views of a trace, time, signals and keys.

use crate::tracer::{Tracer, Views, steady, tick};
use crate::watching::Watching;
use anyhow::Context as _;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, interval_at, sleep_until};
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, Filter, State};
use twtrace_probe::source::EventSource;
use twtrace_probe::source::deadline::Deadline;

/// Why the loop woke up.
pub(crate) enum Wakeup<V> {
    /// A new view.
    View(Arc<V>),
    /// Time has passed.
    Poll,
    /// The terminal: a key, or a new size.
    Event(Event),
    /// The time is up, a signal asks for the end, or the terminal is gone.
    End,
    /// The trace has ended by itself, which happens only when it fails.
    Failed,
}

/// Waits for whatever comes first.
pub(crate) struct EventLoop<V> {
    views: Option<Views<V>>,
    poll: Option<Interval>,
    end: Option<Instant>,
    signals: [Signal; 3],
    /// SIGINT asked for the end.
    is_interrupted: bool,
    keys: Option<EventStream>,
}

impl<V> EventLoop<V> {
    /// Waits for signals, and for the end of `duration` if there is one.
    pub(crate) fn new(views: Option<Views<V>>, duration: Option<Duration>) -> io::Result<Self> {
        let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        let [interrupt, terminate, hangup] = signals;
        Ok(Self {
            views,
            poll: None,
            end: duration.map(|duration| Instant::now() + duration),
            signals: [interrupt?, terminate?, hangup?],
            is_interrupted: false,
            keys: None,
        })
    }

    /// From now on also wakes up at this interval.
    pub(crate) fn poll_every(&mut self, every: Duration) {
        self.poll = Some(steady(interval_at(Instant::now(), every)));
    }

    /// From now on reports keys as well.
    pub(crate) fn listen_to_keys(&mut self) {
        self.keys = Some(EventStream::new());
    }

    /// Whether the end comes within this time.
    pub(crate) fn ends_within(&self, duration: Duration) -> bool {
        self.end.is_some_and(|end| Instant::now() + duration >= end)
    }

    /// Returns when another signal comes while a trace ends; at once after SIGINT.
    pub(crate) async fn interrupted(&mut self) {
        if !self.is_interrupted {
            any(&mut self.signals).await;
            self.is_interrupted = true;
        }
    }

    /// The next thing to do. Events that were not chosen are not lost: all of these can be waited for again.
    pub(crate) async fn next(&mut self) -> io::Result<Wakeup<V>> {
        tokio::select! {
            // A key never waits for a view.
            biased;
            signal = any(&mut self.signals) => {
                // A user waits after Ctrl-C. A service manager has time for the last census.
                self.is_interrupted |= signal == SignalKind::interrupt();
                Ok(Wakeup::End)
            }
            // The stream of keys does not end by itself: it ends when the terminal is gone.
            event = key(&mut self.keys) => event.map_or(Ok(Wakeup::End), |event| event.map(Wakeup::Event)),
            () = at(self.end) => Ok(Wakeup::End),
            view = next_view(self.views.as_mut()) => Ok(view.map_or(Wakeup::Failed, Wakeup::View)),
            () = tick(&mut self.poll) => Ok(Wakeup::Poll),
        }
    }
}

/// The thread of the user interface: everything happens in turn, and nothing needs a lock.
pub(crate) fn runtime() -> anyhow::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")
}

/// Traces for that long, or until a signal comes, and returns the last view, with all live sockets.
pub(crate) fn trace<S: EventSource>(
    source: impl FnOnce(Deadline) -> anyhow::Result<S> + Send + 'static,
    filter: Filter,
    duration: Duration,
) -> anyhow::Result<Arc<Snapshot>> {
    let mut tracer = Tracer::start(source, Watching::new(State::new(Config { filter, ..Config::default() })), None)?;
    tracer.want_sockets(true);
    let views = tracer.views();
    runtime()?.block_on(async {
        let mut events = EventLoop::new(Some(tracer.views()), Some(duration))?;
        while !matches!(events.next().await?, Wakeup::End | Wakeup::Failed) {}
        tracer.end(&mut events).await
    })?;
    last(&views)
}

/// The last view of a trace that has ended.
pub(crate) fn last<V>(views: &Views<V>) -> anyhow::Result<Arc<V>> {
    views.borrow().clone().context("the trace ended before it began")
}

/// The next view; `None` when there will be no more.
async fn next_view<V>(views: Option<&mut Views<V>>) -> Option<Arc<V>> {
    let Some(views) = views else { return pending().await };
    loop {
        views.changed().await.ok()?;
        let view = views.borrow_and_update().clone();
        if view.is_some() {
            return view;
        }
    }
}

async fn any([interrupt, terminate, hangup]: &mut [Signal; 3]) -> SignalKind {
    tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hangup.recv() => SignalKind::hangup(),
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

async fn key(keys: &mut Option<EventStream>) -> Option<io::Result<Event>> {
    match keys {
        Some(keys) => keys.next().await,
        None => pending().await,
    }
}
