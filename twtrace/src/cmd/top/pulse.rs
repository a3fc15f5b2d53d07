//! What the loop waits for: the ring buffer, time, signals and keys.

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use std::future::pending;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

/// How often the source is read when it does not ask for more.
const PUMP: Duration = Duration::from_millis(100);

/// Why the loop woke up.
pub(in crate::cmd) enum Wake {
    /// The source is to be read.
    Pump,
    /// A report is due.
    Show,
    /// The terminal: a key, another size.
    Event(Event),
    /// The time is up, or a signal asks for the end.
    End,
}

/// When things are due.
#[derive(Clone, Copy, Debug)]
pub(in crate::cmd) struct Timing {
    /// Between reports; `None` for one at the end alone.
    pub(in crate::cmd) interval: Option<Duration>,
    /// Until the end.
    pub(in crate::cmd) duration: Option<Duration>,
}

/// Waits.
pub(in crate::cmd) struct Pulse {
    fd: Option<AsyncFd<OwnedFd>>,
    pump: Interval,
    show: Option<Interval>,
    end: Option<Instant>,
    signals: [Signal; 3],
    keys: Option<EventStream>,
}

impl Pulse {
    /// Begins to count the time.
    pub(in crate::cmd) fn new(fd: Option<BorrowedFd<'_>>, timing: Timing) -> io::Result<Self> {
        let now = Instant::now();
        let steady = |mut interval: Interval| {
            // After a stall, go on from there: what was missed is in the next report.
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        Ok(Self {
            fd: fd.map(watched).transpose()?,
            pump: steady(interval_at(now, PUMP)),
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
    pub(in crate::cmd) fn listen_to_keys(&mut self) {
        self.keys = Some(EventStream::new());
    }

    /// The next thing to do. What was not chosen is not lost: all of these can be waited for again.
    pub(in crate::cmd) async fn next(&mut self) -> io::Result<Wake> {
        loop {
            let [interrupt, terminate, hangup] = &mut self.signals;
            return tokio::select! {
                () = at(self.end) => Ok(Wake::End),
                _ = interrupt.recv() => Ok(Wake::End),
                _ = terminate.recv() => Ok(Wake::End),
                _ = hangup.recv() => Ok(Wake::End),
                // Without an end of its own the stream of keys ends when the terminal is gone.
                event = key(&mut self.keys) => event.map_or(Ok(Wake::End), |event| event.map(Wake::Event)),
                () = tick(&mut self.show) => {
                    if self.ends_soon() {
                        continue;
                    }
                    Ok(Wake::Show)
                }
                _ = self.pump.tick() => Ok(Wake::Pump),
                ready = readable(self.fd.as_ref()) => ready.map(|()| Wake::Pump),
            };
        }
    }

    /// A report just before the last one would be the same one twice.
    fn ends_soon(&self) -> bool {
        let (Some(end), Some(show)) = (self.end, &self.show) else { return false };
        Instant::now() + show.period() / 2 >= end
    }
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
