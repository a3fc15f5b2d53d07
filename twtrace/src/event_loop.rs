//! What commands wait for: the ring buffer, time, signals and keys.

use anyhow::Context as _;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use std::future::pending;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use twtrace_core::state::{Config, Engine, Filter};
use twtrace_probe::source::EventSource;

/// How often the source is read when it does not ask for more.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Why the loop woke up.
pub(crate) enum Wakeup {
    /// The source is to be read.
    Poll,
    /// A report is due.
    Show,
    /// The terminal: a key, another size.
    Event(Event),
    /// The time is up, or a signal asks for the end.
    End,
}

/// When things are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Between reports; `None` for one at the end alone.
    pub(crate) interval: Option<Duration>,
    /// Until the end.
    pub(crate) duration: Option<Duration>,
}

/// Waits for whatever comes first.
pub(crate) struct EventLoop {
    fd: Option<AsyncFd<OwnedFd>>,
    poll: Interval,
    show: Option<Interval>,
    end: Option<Instant>,
    signals: [Signal; 3],
    keys: Option<EventStream>,
}

impl EventLoop {
    /// Begins to count the time.
    pub(crate) fn new(fd: Option<BorrowedFd<'_>>, timing: Timing) -> io::Result<Self> {
        let now = Instant::now();
        let steady = |mut interval: Interval| {
            // After a stall, go on from there: what was missed is in the next report.
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        Ok(Self {
            fd: fd.map(watched).transpose()?,
            poll: steady(interval_at(now, POLL_INTERVAL)),
            show: timing.interval.map(|every| steady(interval_at(now + every, every))),
            end: timing.duration.map(|duration| now + duration),
            signals: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ],
            keys: None,
        })
    }

    /// From now on reports keys as well.
    pub(crate) fn listen_to_keys(&mut self) {
        self.keys = Some(EventStream::new());
    }

    /// The next thing to do. What was not chosen is not lost: all of these can be waited for again.
    pub(crate) async fn next(&mut self) -> io::Result<Wakeup> {
        loop {
            let [interrupt, terminate, hangup] = &mut self.signals;
            return tokio::select! {
                () = at(self.end) => Ok(Wakeup::End),
                _ = interrupt.recv() => Ok(Wakeup::End),
                _ = terminate.recv() => Ok(Wakeup::End),
                _ = hangup.recv() => Ok(Wakeup::End),
                // Without an end of its own the stream of keys ends when the terminal is gone.
                event = key(&mut self.keys) => event.map_or(Ok(Wakeup::End), |event| event.map(Wakeup::Event)),
                () = tick(&mut self.show) => {
                    if self.ends_soon() {
                        continue;
                    }
                    Ok(Wakeup::Show)
                }
                _ = self.poll.tick() => Ok(Wakeup::Poll),
                ready = readable(self.fd.as_ref()) => ready.map(|()| Wakeup::Poll),
            };
        }
    }

    /// A report just before the last one would be the same one twice.
    fn ends_soon(&self) -> bool {
        let (Some(end), Some(show)) = (self.end, &self.show) else { return false };
        Instant::now() + show.period() / 2 >= end
    }
}

/// One thread: everything happens in turn, and nothing needs a lock.
pub(crate) fn runtime() -> anyhow::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")
}

/// Traces for that long, or until a signal comes, and gives what is known then.
pub(crate) fn trace<S: EventSource>(source: &mut S, filter: Filter, duration: Duration) -> anyhow::Result<Engine> {
    runtime()?.block_on(async {
        let mut engine = Engine::new(Config { filter, ..Config::default() });
        let mut events = EventLoop::new(source.fd(), Timing { interval: None, duration: Some(duration) })?;
        loop {
            match events.next().await? {
                Wakeup::Poll => source.pump(&mut |input| engine.apply(input))?,
                Wakeup::Show | Wakeup::Event(_) => {}
                Wakeup::End => break,
            }
        }
        source.final_pump(&mut |input| engine.apply(input))?;
        Ok(engine)
    })
}

/// A descriptor of our own, so that it cannot be closed while it is waited for.
fn watched(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = fd.try_clone_to_owned()?;
    // SAFETY: the descriptor is open, and stays so for as long as the one who owns it, the registration, lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? })
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => pending().await,
    }
}

async fn key(keys: &mut Option<EventStream>) -> Option<io::Result<Event>> {
    match keys {
        Some(keys) => keys.next().await,
        None => pending().await,
    }
}

async fn readable(fd: Option<&AsyncFd<OwnedFd>>) -> io::Result<()> {
    match fd {
        Some(fd) => {
            // The next readiness is told by the kernel when the ring buffer asks to be read again.
            fd.readable().await?.clear_ready();
            // Should it be readable for good, as after an error, time and signals must still have their turn.
            yield_now().await;
            Ok(())
        }
        None => pending().await,
    }
}
