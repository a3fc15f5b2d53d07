//! The newest snapshot, and what was rendered of it: many clients that ask for the same get the same bytes.

use crate::tracer::{Asker, Views};
use bytes::Bytes;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;
use twtrace_core::snapshot::{ImageError, Snapshot};
use twtrace_view::metrics::{Dialect, Metrics, Options, OwnCost};
use twtrace_view::trend::Trend;
use twtrace_view::{json, live, sockets};

/// A snapshot that was published, with its renderings.
pub(crate) struct Published {
    /// The snapshot.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Its number, from 1.
    pub(crate) number: u64,
    /// The content of the live page.
    main: OnceLock<Bytes>,
    /// The JSON of `top --json`.
    json: OnceLock<Bytes>,
    /// The snapshot as bytes.
    image: OnceLock<Bytes>,
    metrics: [OnceLock<Bytes>; 2],
    at: Instant,
}

impl Published {
    /// Whether the tracer has published nothing for long.
    pub(crate) fn is_old(&self) -> bool {
        self.at.elapsed() > STUCK
    }
}

/// Where the event loop publishes and clients read.
pub(crate) struct Board {
    newest: watch::Sender<Option<Arc<Published>>>,
    trend: Mutex<Trend>,
    metrics: Mutex<Metrics>,
    tracer: Asker<Snapshot>,
    health: Mutex<Health>,
    /// The last snapshot with a list of sockets.
    listed: tokio::sync::Mutex<Option<Listed>>,
}

/// A snapshot with a list of sockets, and what was rendered of it.
struct Listed {
    at: Instant,
    snapshot: Arc<Snapshot>,
    /// In each [`Form`].
    renderings: [Option<Bytes>; 2],
}

/// A form of the list of sockets.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// The JSON of `sockets --json`.
    Json,
    /// The whole snapshot as bytes.
    Image,
}

impl Form {
    fn render(self, snapshot: &Snapshot) -> Option<Bytes> {
        match self {
            Self::Json => {
                let mut out = Vec::new();
                sockets::write_json(snapshot, None, &mut out).ok()?;
                Some(out.into())
            }
            Self::Image => snapshot.to_image().ok().map(Bytes::from),
        }
    }
}

/// How long a list of sockets is used again.
const FRESH: Duration = Duration::from_secs(1);

/// How long a list of sockets may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A snapshot that is older says that the tracer is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// What else there is to say of the agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// Why nothing is recorded any more.
    pub(crate) recording_failed: Option<String>,
    /// Recordings kept because of a finding.
    pub(crate) frozen: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked has rendered nothing; the state is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(crate) fn new(tracer: Asker<Snapshot>, options: &Options) -> Self {
        Self {
            newest: watch::channel(None).0,
            trend: Mutex::default(),
            metrics: Mutex::new(Metrics::new(options)),
            tracer,
            health: Mutex::default(),
            listed: tokio::sync::Mutex::default(),
        }
    }

    /// Publishes a snapshot.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) {
        lock(&self.trend).add(&snapshot);
        let number = self.newest.borrow().as_ref().map_or(1, |before| before.number + 1);
        let published = Published {
            snapshot,
            number,
            main: OnceLock::new(),
            json: OnceLock::new(),
            image: OnceLock::new(),
            metrics: [const { OnceLock::new() }; 2],
            at: Instant::now(),
        };
        self.newest.send_replace(Some(Arc::new(published)));
    }

    /// The newest snapshot; none before the first.
    pub(crate) fn newest(&self) -> Option<Arc<Published>> {
        self.newest.borrow().clone()
    }

    /// All that are published from now on. A reader that is late sees the newest one alone.
    pub(crate) fn follow(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.newest.subscribe()
    }

    /// The state of the agent.
    pub(crate) fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    /// Changes it.
    pub(crate) fn set_health(&self, change: impl FnOnce(&mut Health)) {
        change(&mut lock(&self.health));
    }

    /// The whole live page.
    pub(crate) fn page(&self, published: &Published) -> String {
        live::page(&published.snapshot, &lock(&self.trend))
    }

    /// The content of the live page.
    pub(crate) fn main(&self, published: &Published) -> Bytes {
        published.main.get_or_init(|| live::main(&published.snapshot, &lock(&self.trend)).into()).clone()
    }

    /// The JSON of `top --json`.
    pub(crate) fn json(published: &Published) -> io::Result<Bytes> {
        if let Some(json) = published.json.get() {
            return Ok(json.clone());
        }
        let mut out = Vec::new();
        json::write(&published.snapshot, json::Options::default(), &mut out)?;
        Ok(published.json.get_or_init(|| out.into()).clone())
    }

    /// The metrics. Those of one snapshot are the same for every client.
    pub(crate) fn metrics(&self, published: &Published, dialect: Dialect) -> Bytes {
        let write = || {
            let Health { recording_failed, frozen } = self.health();
            let own = OwnCost { recording_failed: recording_failed.is_some(), frozen, ..own_cost() };
            Bytes::from(lock(&self.metrics).write(&published.snapshot, own, dialect))
        };
        published.metrics[dialect as usize].get_or_init(write).clone()
    }

    /// The snapshot as bytes, for `top --attach`.
    pub(crate) fn image(published: &Published) -> Result<Bytes, ImageError> {
        if let Some(image) = published.image.get() {
            return Ok(image.clone());
        }
        let image = published.snapshot.to_image()?;
        Ok(published.image.get_or_init(|| image.into()).clone())
    }

    /// The list of sockets, of a snapshot that is taken for it. One that is less than a second old is used again: the list is
    /// long, and no client can make the tracer list it more often. `None` when the trace has ended, or is busy.
    pub(crate) async fn sockets(&self, form: Form) -> Option<Bytes> {
        // One request after the other; those that waited get the list of the first.
        let mut kept = timeout(PATIENCE, self.listed.lock()).await.ok()?;
        let is_fresh = kept.as_ref().is_some_and(|listed| listed.at.elapsed() < FRESH);
        if !is_fresh {
            let snapshot = timeout(PATIENCE, self.with_sockets()).await.ok()??;
            *kept = Some(Listed { at: Instant::now(), snapshot, renderings: [const { None }; 2] });
        }
        let Listed { snapshot, renderings, .. } = kept.as_mut()?;
        let rendering = &mut renderings[form as usize];
        if rendering.is_none() {
            *rendering = Some(form.render(snapshot)?);
        }
        rendering.clone()
    }

    /// A snapshot with the list of live sockets.
    async fn with_sockets(&self) -> Option<Arc<Snapshot>> {
        let mut views: Views<Snapshot> = self.tracer.views();
        // Also when the client is gone before the list is there.
        let _wanted = Wanted::new(&self.tracer);
        let found = views.wait_for(|view| view.as_ref().is_some_and(|view| view.lists_sockets())).await;
        found.ok().and_then(|view| view.clone())
    }
}

/// As long as it exists, snapshots list sockets.
struct Wanted<'a>(&'a Asker<Snapshot>);

impl<'a> Wanted<'a> {
    fn new(tracer: &'a Asker<Snapshot>) -> Self {
        tracer.want_sockets(true);
        Self(tracer)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.want_sockets(false);
    }
}

/// What this process costs.
fn own_cost() -> OwnCost {
    // SAFETY: an all-zero rusage is valid, getrusage(2) fills it, and RUSAGE_SELF is this process.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default();
    // SAFETY: sysconf(3) takes a number and reads no memory of ours.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    OwnCost {
        cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        resident_bytes: resident.saturating_mul(page),
        ..OwnCost::default()
    }
}
