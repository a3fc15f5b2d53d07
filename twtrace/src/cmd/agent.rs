//! `twtrace agent`: traces all the time, answers clients, and keeps a flight recorder.

use crate::agent::Board;
use crate::agent::access::Access;
use crate::agent::freezing::{FLIGHT, Freezing, drop_oldest};
use crate::agent::listen::{Address, Listener, tls};
use crate::agent::server::{Answers, CONNECTIONS, LARGE, STREAMS, serve};
use crate::cli::{AgentArgs, usage};
use crate::clock::now_unix_ns;
use crate::config::INTERVAL;
use crate::event_loop::{EventLoop, Wakeup, runtime};
use crate::tracer::Tracer;
use crate::watching::{Control, Order, Outcome, Watching};
use anyhow::Context as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, State};
use twtrace_probe::confine::{self, Confinement, Needs, Part};
use twtrace_probe::source::kernel_source::KernelSource;
use twtrace_recording::writer::{Frozen, Recorder, WriteOptions, is_being_written};
use twtrace_view::metrics::Options;
use twtrace_view::text;

/// What the agent cannot do although this host can be traced.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotTracing(String);

impl NotTracing {
    fn of(error: anyhow::Error) -> anyhow::Error {
        if error.is::<clap::Error>() || error.is::<twtrace_recording::Fault>() {
            return error;
        }
        Self(format!("{error:#}")).into()
    }
}

/// Traces until the time is up or a signal comes.
///
/// # Errors
/// This host cannot be traced, an address cannot be listened on, or the flight recorder cannot be written to at the start.
/// One that fails later is said on standard error, by `/healthz` and in the metrics, and the agent goes on.
pub fn run(args: &AgentArgs) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let door = Door::open(args).await.map_err(NotTracing::of)?;
        let cage = (!args.unconfined).then(|| Cage::begin(args)).transpose().map_err(NotTracing::of)?;
        let load = args.kernel.options();
        let (hand_over, recorder) = sync_channel(1);
        let (work, control) = Watching::new(State::new(Config::default())).recorded_by(recorder).with_control();
        let start = move |deadline| {
            confine::only_read();
            let source = KernelSource::start_until(&load, deadline)?;
            confine::enter(Part::Tracer);
            Ok(source)
        };
        let starting = Tracer::begin(start, work, Some(INTERVAL))?;
        // While the programs are loaded. The threads of the recorder are confined as this one is from here on.
        let confinement = cage.map(Cage::settle);
        let recorder = args.dir.as_deref().map(|dir| begin_recording(dir, args)).transpose().map_err(NotTracing::of)?;
        let mut tracer = match starting.wait() {
            Ok(tracer) => tracer,
            Err(error) => {
                // Nothing was recorded.
                recorder.into_iter().try_for_each(|recorder| recorder.discard())?;
                return Err(error);
            }
        };
        // The first event waits for this. A tracer that has failed meanwhile says so when it ends.
        if let Some(recorder) = recorder {
            let _ = hand_over.send(recorder);
        }
        drop(hand_over);
        let options = Options { by: args.metrics_by.clone(), series: args.metrics_series as usize };
        let board = Arc::new(Board::new(tracer.asker(), &options));
        stand_back();
        say(&match confinement {
            Some(confinement) => format!("confined: {}", confine::result(confinement)),
            None => "not confined: it keeps all its privileges".to_owned(),
        });
        let mut events = EventLoop::new(Some(tracer.views()), args.duration)?;
        let doors = door.serve(&board)?;
        let mut watch = Watch::new(args, Arc::clone(&board), control);
        let mut failed = false;
        loop {
            match events.next().await? {
                Wakeup::View(snapshot) => watch.see(snapshot),
                Wakeup::Event(_) | Wakeup::Poll => {}
                Wakeup::End => break,
                Wakeup::Failed => {
                    failed = true;
                    break;
                }
            }
        }
        doors.iter().for_each(AbortHandle::abort);
        watch.keep_rest();
        let ended = tracer.end(&mut events).await.map(Watching::finish);
        watch.end();
        if failed && ended.is_ok() { Err(anyhow::anyhow!("the trace has ended by itself")) } else { ended }
    })
}

/// What the agent gives up: nothing that it answers, records or traces depends on it.
struct Cage {
    needs: Needs,
    confinement: Confinement,
}

impl Cage {
    /// Before any thread starts.
    fn begin(args: &AgentArgs) -> anyhow::Result<Self> {
        let user = args.user.as_deref().map(|name| {
            let found = uzers::get_user_by_name(name);
            found.map(|user| (user.uid(), user.primary_group_id())).with_context(|| format!("there is no user {name}"))
        });
        let sockets = args.listen.iter().filter_map(|address| match address {
            Address::Unix(path) => Some(confine::folder_of(path)),
            Address::Tcp(_) => None,
        });
        let needs = Needs { user: user.transpose()?, folder: args.dir.clone(), removes_in: sockets.collect() };
        let confinement = confine::begin(&needs)?;
        Ok(Self { needs, confinement })
    }

    /// Once the thread that traces has started.
    fn settle(self) -> Confinement {
        confine::settle(&self.needs, self.confinement)
    }
}

/// The addresses, and what clients need there.
struct Door {
    listeners: Vec<Listener>,
    tls: Option<TlsAcceptor>,
    access: Access,
}

impl Door {
    async fn open(args: &AgentArgs) -> anyhow::Result<Self> {
        let access = args.token_file.as_deref().map(Access::with_token).transpose()?.unwrap_or_default();
        let tls = match (&args.tls_cert, &args.tls_key) {
            (Some(certificates), Some(key)) => Some(tls(certificates, key)?),
            _ => None,
        };
        if let Some(address) = args.listen.iter().find(|address| !address.is_local()).filter(|_| !args.expose) {
            let missing = match (access.needs_token(), tls.is_some()) {
                (true, true) => None,
                (false, true) => Some("--token-file"),
                (true, false) => Some("--tls-cert and --tls-key"),
                (false, false) => Some("--token-file, --tls-cert and --tls-key"),
            };
            if let Some(missing) = missing {
                return Err(usage(&format!(
                    "other hosts reach {address}, and would read command lines, users and addresses of this host: add {missing}, \
                     or --expose if that is meant"
                ))
                .into());
            }
        }
        let mut listeners = Vec::new();
        for address in &args.listen {
            listeners.push(Listener::bind(address).await?);
        }
        Ok(Self { listeners, tls, access })
    }

    /// Answers from now on, and says where.
    fn serve(self, board: &Arc<Board>) -> io::Result<Vec<AbortHandle>> {
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let (streams, large) = (Arc::new(Semaphore::new(STREAMS)), Arc::new(Semaphore::new(LARGE)));
        let mut doors = Vec::new();
        for listener in self.listeners {
            let address = listener.address()?;
            let (access, tls) = match address {
                // Who may open the socket follows from its mode.
                Address::Unix(_) => (Access::default(), None),
                Address::Tcp(_) => {
                    let access = self.access.clone();
                    // A page of another site has no token.
                    let is_open = address.is_local() && !access.needs_token();
                    (if is_open { access.for_loopback() } else { access }, self.tls.clone())
                }
            };
            let site = Answers {
                board: Arc::clone(board),
                access: Arc::new(access),
                streams: Arc::clone(&streams),
                large: Arc::clone(&large),
                is_tls: tls.is_some(),
            };
            say(&match (&address, tls.is_some()) {
                (Address::Unix(_), _) => format!("answering on {address}"),
                (Address::Tcp(address), true) => format!("answering on https://{address}/"),
                (Address::Tcp(address), false) => format!("answering on http://{address}/"),
            });
            doors.push(tokio::spawn(serve(listener, tls, site, Arc::clone(&connections))).abort_handle());
        }
        Ok(doors)
    }
}

/// Creates the flight recorder. What an earlier agent left is kept beside it.
fn begin_recording(dir: &Path, args: &AgentArgs) -> anyhow::Result<Box<Recorder>> {
    let flight = dir.join(FLIGHT);
    if is_being_written(&flight) {
        anyhow::bail!("another process records into {}: choose another folder with --dir", flight.display());
    }
    // An agent that was stopped at once leaves nothing that is worth more than what the one before has recorded.
    if flight.exists() && is_empty(&flight) {
        std::fs::remove_dir_all(&flight).with_context(|| format!("cannot remove {}", flight.display()))?;
    }
    if flight.exists() {
        let before = dir.join(format!("before-{FLIGHT}"));
        match std::fs::remove_dir_all(&before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", before.display()));
            }
            _ => {}
        }
        std::fs::rename(&flight, &before).with_context(|| format!("cannot move {} aside", flight.display()))?;
    }
    Recorder::create(&flight, WriteOptions { keep: Some(args.keep), ..WriteOptions::default() }).map(Box::new)
}

/// Whether a recording has a manifest and nothing else.
fn is_empty(flight: &Path) -> bool {
    let Ok(mut entries) = std::fs::read_dir(flight) else { return false };
    entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "recording.json"))
}

/// What the event loop does with each snapshot.
struct Watch {
    board: Arc<Board>,
    control: Control,
    freezing: Option<Freezing>,
    dir: Option<PathBuf>,
    last: std::time::Duration,
    frozen: (Sender<anyhow::Result<Frozen>>, Receiver<anyhow::Result<Frozen>>),
}

impl Watch {
    fn new(args: &AgentArgs, board: Arc<Board>, control: Control) -> Self {
        let freezing = args.dir.as_deref().zip(args.freeze.clone()).map(|(dir, which)| Freezing::new(which, dir));
        let (dir, last) = (args.dir.clone(), args.freeze_last);
        Self { board, control, freezing, dir, last, frozen: channel() }
    }

    fn see(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(freezing) = &mut self.freezing {
            let now = Instant::now();
            freezing.look(&snapshot, now, now_unix_ns());
            let due = freezing.due(now);
            due.into_iter().for_each(|path| self.keep(path));
        }
        self.board.publish(snapshot);
        self.hear();
    }

    /// Keeps what was due later.
    fn keep_rest(&mut self) {
        let rest = self.freezing.as_mut().map(Freezing::rest).unwrap_or_default();
        rest.into_iter().for_each(|path| self.keep(path));
    }

    fn keep(&self, path: PathBuf) {
        let done = self.frozen.0.clone();
        // If the trace has ended, the loop ends as well.
        let _ = self.control.orders.send(Order::Freeze { path, last: self.last, done });
    }

    /// What came of the orders.
    fn hear(&self) {
        for frozen in self.frozen.1.try_iter() {
            match frozen {
                Ok(frozen) => {
                    self.board.set_health(|health| health.frozen += 1);
                    say(&format!("kept {}: {}", frozen.path.display(), text::bytes(frozen.bytes)));
                    if let Some(Err(error)) = self.dir.as_deref().map(drop_oldest) {
                        say(&format!("cannot remove the oldest of what was kept: {error}"));
                    }
                }
                Err(error) => say(&format!("not kept: {error:#}")),
            }
        }
        for Outcome { failure, .. } in self.control.outcomes.try_iter() {
            let Some(error) = failure else { continue };
            let why = format!("{error:#}");
            say(&format!("nothing is recorded any more, tracing goes on: {why}"));
            self.board.set_health(|health| health.recording_failed = Some(why));
        }
    }

    fn end(&self) {
        self.hear();
    }
}

/// The thread that traces goes first.
fn stand_back() {
    /// `nice` of the thread that answers.
    const NICE: libc::c_int = 5;
    // SAFETY: setpriority(2) reads its numbers and no memory; 0 is the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// A line for the journal. It is lost if standard error is closed, which is no error.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "twtrace: {}", text::clean(line));
}
