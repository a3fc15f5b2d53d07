//! Reading a running agent: its snapshots come as they would from a trace of this process, without root and without tracing
//! twice. Groups and findings are computed here, by the same rules.

mod client;
mod target;
mod trust;

use crate::cli::AttachArgs;
use crate::event_loop;
use crate::tracer::{Asker, Control, Timer, Views};
use anyhow::{Context as _, anyhow};
use client::{Client, Refused};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};
use twtrace_core::snapshot::Snapshot;

pub(crate) use target::{DEFAULT, Target};

/// How long an agent may be away: it is restarted, or its host is too busy.
const AWAY: Duration = Duration::from_secs(15);

/// Pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// An agent that is read.
pub(crate) struct Attached {
    asker: Asker<Snapshot>,
    done: oneshot::Receiver<anyhow::Error>,
}

impl Attached {
    /// Reads on a thread of its own: an answer may be long, and keys must not wait for it. `interval` is the time between
    /// snapshots; without it, there is one.
    ///
    /// # Errors
    /// What the arguments name cannot be read, or a thread cannot be started.
    pub(crate) fn start(args: &AttachArgs, interval: Option<Duration>, sockets: bool) -> anyhow::Result<Self> {
        let target = args.attach.clone().context("there is no agent to attach to")?;
        let name = target.to_string();
        let client = Client::new(target, args.token_file.as_deref(), args.ca.as_deref())?;
        let (publish, views) = watch::channel(None);
        let (control, controlled) = watch::channel(Control::default());
        let asker = Asker::new(views, control);
        asker.want_sockets(sockets);
        let (failed, done) = oneshot::channel();
        let run = move || {
            let reader = Reader { client, publish, control: controlled };
            if let Err(error) = reader.run(interval) {
                // If the caller is gone, there is no one to report to.
                let _ = failed.send(error.context(format!("cannot read the agent at {name}")));
            }
        };
        thread::Builder::new().name("attach".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok(Self { asker, done })
    }

    /// Snapshots from now on.
    pub(crate) fn views(&self) -> Views<Snapshot> {
        self.asker.views()
    }

    /// What its snapshots are asked of.
    pub(crate) fn asker(&self) -> &Asker<Snapshot> {
        &self.asker
    }

    /// Why there are no more snapshots.
    pub(crate) async fn failure(self) -> anyhow::Error {
        self.done.await.unwrap_or_else(|_| anyhow!("the thread that reads the agent has failed"))
    }
}

/// The agent's newest snapshot, with the list of live sockets if requested.
///
/// # Errors
/// It cannot be read.
pub(crate) fn snapshot(args: &AttachArgs, sockets: bool) -> anyhow::Result<Arc<Snapshot>> {
    event_loop::runtime()?.block_on(async {
        let attached = Attached::start(args, None, sockets)?;
        let mut views = attached.views();
        let found = match views.wait_for(Option::is_some).await {
            Ok(view) => view.clone(),
            Err(_) => None,
        };
        match found {
            Some(snapshot) => Ok(snapshot),
            None => Err(attached.failure().await),
        }
    })
}

/// State of the thread.
struct Reader {
    client: Client,
    publish: watch::Sender<Option<Arc<Snapshot>>>,
    control: watch::Receiver<Control>,
}

impl Reader {
    fn run(mut self, interval: Option<Duration>) -> anyhow::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start a thread")?;
        runtime.block_on(self.follow(interval))
    }

    async fn follow(&mut self, interval: Option<Duration>) -> anyhow::Result<()> {
        // Once at first: an agent that is not there is said at once.
        let first = self.client.snapshot(self.control.borrow().sockets).await?;
        self.publish.send_replace(Some(Arc::new(first)));
        let mut show = Timer::new(interval);
        loop {
            tokio::select! {
                changed = self.control.changed() => {
                    let control = *self.control.borrow_and_update();
                    if changed.is_err() || control.ends {
                        return Ok(());
                    }
                    show.change(control.interval);
                }
                () = show.tick() => {}
                () = self.publish.closed() => return Ok(()),
            }
            let snapshot = self.newest().await?;
            self.publish.send_replace(Some(Arc::new(snapshot)));
        }
    }

    /// The newest snapshot, also if the agent is away for a moment.
    async fn newest(&mut self) -> anyhow::Result<Snapshot> {
        let began = Instant::now();
        loop {
            let sockets = self.control.borrow().sockets;
            match self.client.snapshot(sockets).await {
                Err(error) if began.elapsed() < AWAY && !error.is::<Refused>() => sleep(PAUSE).await,
                answer => return answer,
            }
        }
    }
}
