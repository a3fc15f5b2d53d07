//! Writes a recording.
//!
//! [`Recorder::record`] converts Events to columns and hands them over twice a second. One thread appends them to the
//! streams of the open segment; another one seals complete segments. The next call here returns an error of these
//! threads.

use super::Fault;
use super::dir::RecordingDir;
pub use super::disk::{DiskChange, Journal};
use super::encoder::Encoder;
use super::freeze::Freeze;
pub use super::freeze::Frozen;
use super::manifest::Manifest;
use super::sealer::Sealer;
use super::streams::{HandOver, Order, Streams, stand_back};
use super::tables::Table;
use anyhow::{Context as _, bail};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use twtrace_core::event::Event;

/// Interval of hand-overs, nanoseconds.
const HAND_OVER_NS: u64 = 500_000_000;

/// Hand-overs that may wait. When the disk is this far behind, tracing waits for it, and what is lost is counted.
const WAITING: usize = 8;

/// Segments that may wait to be sealed.
const WAITING_SEGMENTS: usize = 4;

/// A segment is complete with this many rows of `connections` ([`Batching`]) or of `sockets`, with this many processes,
/// or after this much time.
const SEGMENT_SOCKETS: u64 = 4_000_000;
const SEGMENT_PROCESSES: usize = 65_536;
const SEGMENT_NS: u64 = 600_000_000_000;

/// With a limit, segments are smaller, so that this many of them reach the limit.
const SEGMENTS_KEPT: u32 = 16;

/// Minimum duration of a segment, nanoseconds, and its minimum size, bytes, however low the limit is.
const SHORTEST_NS: u64 = 1_000_000_000;
const SMALLEST_BYTES: u64 = 64 << 10;

/// How much of a recording is kept; the oldest segments are dropped first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// This much time.
    Time(Duration),
    /// This many bytes.
    Bytes(u64),
}

/// How to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Replace a recording that is already there.
    pub overwrite: bool,
    /// Flight recorder.
    pub keep: Option<Keep>,
    /// Where hand-overs and segments end.
    pub batching: Batching,
}

/// Where hand-overs and segments end. It does not change what is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Rows of a table that are handed over at once.
    pub hand_over_rows: usize,
    /// Rows of `connections` that complete a segment.
    pub segment_connections: u64,
}

impl Default for Batching {
    fn default() -> Self {
        Self { hand_over_rows: 65_536, segment_connections: 1_000_000 }
    }
}

/// Progress of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Connections written.
    pub connections: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Size of its files.
    pub bytes: u64,
    /// Segments sealed.
    pub segments: u64,
    /// Segments that were dropped again.
    pub segments_dropped: u64,
}

/// What the threads report.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Size of all files.
    pub(super) bytes: AtomicU64,
    /// Of the streams of the open segment.
    pub(super) open_bytes: AtomicU64,
    pub(super) segments: AtomicU64,
    pub(super) segments_dropped: AtomicU64,
    /// The first failure.
    failure: Mutex<Option<anyhow::Error>>,
    failed: std::sync::atomic::AtomicBool,
}

impl Shared {
    fn fail(&self, error: anyhow::Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Relaxed);
    }

    /// The failure, once.
    fn check(&self) -> anyhow::Result<()> {
        if !self.failed.load(Relaxed) {
            return Ok(());
        }
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => bail!("the recording has failed"),
        }
    }
}

/// Writes a recording.
pub struct Recorder {
    place: Arc<RecordingDir>,
    encoder: Encoder,
    orders: Option<SyncSender<Order>>,
    writer: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    keep: Option<Keep>,
    batching: Batching,
    segment: OpenSegment,
    /// When rows were handed over last, nanoseconds.
    handed_over_ns: u64,
    totals: Progress,
    wants_whole_census: bool,
    host_is_known: bool,
    /// What is to be kept once the segment is complete.
    freezing: Vec<Freeze>,
}

/// The segment that is being written.
#[derive(Clone, Copy, Debug)]
struct OpenSegment {
    number: u32,
    first_seq: u64,
    /// Wall clock of its first moment, and the same moment on the monotonic clock, once they are known.
    first_us: Option<i64>,
    since_ns: Option<u64>,
    connections: u64,
    sockets: u64,
}

impl OpenSegment {
    fn new(number: u32, first_seq: u64) -> Self {
        Self { number, first_seq, first_us: None, since_ns: None, connections: 0, sockets: 0 }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("segment", &self.segment).field("totals", &self.totals).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Creates the directory.
    ///
    /// # Errors
    /// Something has that name already, the place cannot be written to, or it is a symbolic link.
    pub fn create(path: &Path, options: WriteOptions) -> anyhow::Result<Self> {
        Self::journaled(path, options, Journal::default())
    }

    /// The same, and reports every change in the directory.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn journaled(path: &Path, options: WriteOptions, journal: Journal) -> anyhow::Result<Self> {
        Self::begin(path, options, journal).map_err(Fault::of)
    }

    fn begin(path: &Path, options: WriteOptions, journal: Journal) -> anyhow::Result<Self> {
        let (place, lock) = RecordingDir::create(path, options.overwrite, journal)?;
        let place = Arc::new(place);
        let manifest = Manifest::new(random_id()?, unix_us());
        manifest.write(&place).with_context(|| format!("cannot record into {}", path.display()))?;
        let shared = Arc::new(Shared::default());
        let (orders, todo) = sync_channel(WAITING);
        let (jobs, todo_later) = sync_channel(WAITING_SEGMENTS);
        let id = manifest.id.clone();
        let sealer = Sealer { place: Arc::clone(&place), manifest, keep: options.keep, shared: Arc::clone(&shared) };
        let sealing = Arc::clone(&shared);
        let path = path.to_owned();
        let failed = move |error: anyhow::Error| error.context(format!("the recording {} ended", path.display()));
        let sealer_failed = failed.clone();
        let sealer = thread::Builder::new().name("seal".to_owned()).spawn(move || {
            stand_back();
            if let Err(error) = sealer.run(&todo_later) {
                sealing.fail(sealer_failed(error));
            }
        })?;
        let mut streams = Streams::new((Arc::clone(&place), lock), id, Arc::clone(&shared), (jobs, sealer));
        let writing = Arc::clone(&shared);
        let writer = thread::Builder::new().name("record".to_owned()).spawn(move || {
            if let Err(error) = streams.run(&todo) {
                writing.fail(failed(error));
            }
            if streams.join().is_err() {
                writing.fail(anyhow::anyhow!("the thread that seals has failed"));
            }
        })?;
        Ok(Self {
            place,
            encoder: Encoder::default(),
            orders: Some(orders),
            writer: Some(writer),
            shared,
            keep: options.keep,
            batching: options.batching,
            segment: OpenSegment::new(1, 0),
            handed_over_ns: 0,
            totals: Progress::default(),
            // The very first census is whole anyway.
            wants_whole_census: false,
            host_is_known: false,
            freezing: Vec::new(),
        })
    }

    /// Takes one Event. It is on its way to the disk within a second.
    ///
    /// # Errors
    /// Something that was handed over earlier could not be written.
    pub fn record(&mut self, event: &Event) -> anyhow::Result<()> {
        self.take(event).map_err(Fault::of)
    }

    fn take(&mut self, event: &Event) -> anyhow::Result<()> {
        self.shared.check()?;
        self.encoder.push(event)?;
        if let Event::Start { at_ns, host, .. } = event {
            self.segment.first_us.get_or_insert_with(|| self.encoder.now_us());
            self.segment.since_ns.get_or_insert(*at_ns);
            if !self.host_is_known {
                self.host_is_known = true;
                self.order(Order::Host(host.clone()))?;
            }
        }
        // By the time of the Events: in a flood the next tick is far away.
        let is_due = self.encoder.now_ns().abs_diff(self.handed_over_ns) >= HAND_OVER_NS
            || self.encoder.rows().iter().any(|rows| *rows >= self.batching.hand_over_rows);
        // Between two ticks there may be half a census, which must not be split.
        let is_over = matches!(event, Event::Tick { at_ns } if self.is_over(*at_ns));
        if is_due || is_over {
            self.hand_over(is_over)?;
        }
        if is_over { self.order_freezes() } else { Ok(()) }
    }

    /// What was waiting for the end of the segment.
    fn order_freezes(&mut self) -> anyhow::Result<()> {
        let freezing = std::mem::take(&mut self.freezing);
        freezing.into_iter().try_for_each(|freeze| self.order(Order::Freeze(Box::new(freeze))))
    }

    /// Whether the next census should be a whole one: true once after each beginning of a segment, which must be
    /// complete by itself.
    pub fn wants_whole_census(&mut self) -> bool {
        std::mem::take(&mut self.wants_whole_census)
    }

    /// Keeps this much of the end as a recording of its own, whole segments at a time. The open one is complete at the next
    /// tick, and is the last of them. The result is sent once it is sealed.
    pub fn freeze(&mut self, path: PathBuf, last: Duration, done: Sender<anyhow::Result<Frozen>>) {
        self.freezing.push(Freeze { path, last, done });
    }

    /// Its progress.
    pub fn progress(&self) -> Progress {
        let waiting = self.encoder.rows();
        Progress {
            connections: self.totals.connections + waiting[Table::Connections as usize] as u64,
            rows: self.totals.rows + waiting.iter().sum::<usize>() as u64,
            bytes: self.shared.bytes.load(Relaxed),
            segments: self.shared.segments.load(Relaxed),
            segments_dropped: self.shared.segments_dropped.load(Relaxed),
        }
    }

    /// Seals what is open.
    ///
    /// # Errors
    /// It could not be written. Segments that were sealed before stay readable.
    pub fn finish(mut self) -> anyhow::Result<Progress> {
        self.seal().map_err(Fault::of)?;
        Ok(self.progress())
    }

    /// Removes the recording: the trace did not begin after all.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn discard(mut self) -> anyhow::Result<()> {
        self.join();
        self.place.discard().map_err(Fault::of)
    }

    fn seal(&mut self) -> anyhow::Result<()> {
        self.hand_over(true)?;
        self.order_freezes()?;
        self.order(Order::Finish)?;
        self.join();
        self.shared.check()
    }

    /// Whether the segment is over.
    fn is_over(&mut self, at_ns: u64) -> bool {
        self.segment.first_us.get_or_insert_with(|| self.encoder.now_us());
        let since_ns = *self.segment.since_ns.get_or_insert(at_ns);
        let rows = self.encoder.rows();
        let connections = self.segment.connections + rows[Table::Connections as usize] as u64;
        let sockets = self.segment.sockets + rows[Table::Sockets as usize] as u64;
        let (longest_ns, largest_bytes) = match self.keep {
            Some(Keep::Time(time)) => {
                let part = u64::try_from((time / SEGMENTS_KEPT).as_nanos()).unwrap_or(u64::MAX);
                (part.clamp(SHORTEST_NS, SEGMENT_NS), u64::MAX)
            }
            Some(Keep::Bytes(bytes)) => (SEGMENT_NS, (bytes / u64::from(SEGMENTS_KEPT)).max(SMALLEST_BYTES)),
            None => (SEGMENT_NS, u64::MAX),
        };
        !self.freezing.is_empty()
            || connections >= self.batching.segment_connections
            || sockets >= SEGMENT_SOCKETS
            || self.encoder.processes() >= SEGMENT_PROCESSES
            || at_ns.saturating_sub(since_ns) >= longest_ns
            || self.shared.open_bytes.load(Relaxed) >= largest_bytes
    }

    /// Hands over all rows. With `over` they are the last of their segment.
    fn hand_over(&mut self, over: bool) -> anyhow::Result<()> {
        self.handed_over_ns = self.encoder.now_ns();
        let rows = *self.encoder.rows();
        let segment = self.segment;
        let last_us = self.encoder.now_us();
        let hand_over = HandOver {
            tables: self.encoder.take()?,
            segment: segment.number,
            first_seq: segment.first_seq,
            next_seq: self.encoder.seq(),
            first_us: segment.first_us.unwrap_or(last_us),
            last_us,
            over,
        };
        self.totals.connections += rows[Table::Connections as usize] as u64;
        self.totals.rows += rows.iter().sum::<usize>() as u64;
        self.segment.connections += rows[Table::Connections as usize] as u64;
        self.segment.sockets += rows[Table::Sockets as usize] as u64;
        if over {
            self.segment = OpenSegment {
                first_us: Some(last_us),
                since_ns: Some(self.handed_over_ns),
                ..OpenSegment::new(segment.number + 1, self.encoder.seq())
            };
            // The streams of the new one are empty; the streams' thread updates this later.
            self.shared.open_bytes.store(0, Relaxed);
            self.encoder.begin_segment()?;
            self.wants_whole_census = true;
        }
        self.order(Order::Write(Box::new(hand_over)))
    }

    fn order(&mut self, order: Order) -> anyhow::Result<()> {
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        if !sent {
            // The thread has ended and reports why.
            self.join();
            self.shared.check()?;
            bail!("the thread that records has failed");
        }
        Ok(())
    }

    /// Waits until all orders are done.
    fn join(&mut self) {
        self.orders = None;
        if let Some(Err(_)) = self.writer.take().map(JoinHandle::join) {
            self.shared.fail(anyhow::anyhow!("the thread that records has failed"));
        }
    }
}

impl Drop for Recorder {
    /// Without [`Self::finish`] the last segment stays open: it can be read, up to the last hand-over.
    fn drop(&mut self) {
        self.join();
    }
}

/// Whether a process records there now.
pub fn is_being_written(path: &Path) -> bool {
    RecordingDir::open(path).is_ok_and(|place| place.is_being_written())
}

/// Microseconds since the Unix epoch.
pub(super) fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// 128 random bits in hexadecimal.
fn random_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("cannot read /dev/urandom")?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
