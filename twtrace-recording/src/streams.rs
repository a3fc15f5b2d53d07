//! The thread that appends hand-overs to the streams of the open segment.

use super::dir::{Lock, RecordingDir};
use super::freeze::Freeze;
use super::open_segment::OpenSegmentWriter;
use super::schema::{End, Label};
use super::sealer::{Job, Over};
use super::tables::{TABLES, Table};
use super::writer::{Shared, unix_us};
use anyhow::bail;
use arrow_array::RecordBatch;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use twtrace_core::event::HostFacts;

/// A hand-over.
pub(super) struct HandOver {
    pub(super) tables: [Option<RecordBatch>; TABLES],
    pub(super) segment: u32,
    pub(super) first_seq: u64,
    pub(super) next_seq: u64,
    pub(super) first_us: i64,
    pub(super) last_us: i64,
    /// The segment is complete.
    pub(super) over: bool,
}

/// Orders to the writing thread.
pub(super) enum Order {
    Host(HostFacts),
    Write(Box<HandOver>),
    /// Once the segments before are sealed.
    Freeze(Box<Freeze>),
    Finish,
}

/// The streams of the open segment.
pub(super) struct Streams {
    place: Arc<RecordingDir>,
    id: String,
    shared: Arc<Shared>,
    open: Option<Open>,
    jobs: Option<SyncSender<Job>>,
    sealer: JoinHandle<()>,
    _lock: Lock,
}

struct Open {
    segment: u32,
    streams: Vec<OpenSegmentWriter>,
    bytes: u64,
}

/// Lets all other threads go first: on a host without a spare processor, compressing a segment can wait, and tracing
/// cannot.
pub(super) fn stand_back() {
    const NICENESS: libc::c_int = 10;
    // SAFETY: it takes only numbers. On Linux, 0 is the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS as _, 0, NICENESS) };
}

impl Streams {
    pub(super) fn new(
        (place, lock): (Arc<RecordingDir>, Lock),
        id: String,
        shared: Arc<Shared>,
        (jobs, sealer): (SyncSender<Job>, JoinHandle<()>),
    ) -> Self {
        Self { place, id, shared, open: None, jobs: Some(jobs), sealer, _lock: lock }
    }

    /// Complete segments are sealed, and then the sealing thread ends, whatever happened.
    pub(super) fn join(mut self) -> thread::Result<()> {
        self.jobs = None;
        self.sealer.join()
    }

    pub(super) fn run(&mut self, orders: &Receiver<Order>) -> anyhow::Result<()> {
        for order in orders {
            match order {
                Order::Host(host) => self.ask(Job::Host(host))?,
                Order::Write(hand_over) => self.write(&hand_over)?,
                Order::Freeze(freeze) => self.ask(Job::Freeze(freeze))?,
                Order::Finish => self.ask(Job::Finish { now_us: unix_us() })?,
            }
        }
        Ok(())
    }

    /// When the sealer is gone, it has already reported why.
    fn ask(&self, job: Job) -> anyhow::Result<()> {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if sent { Ok(()) } else { bail!("the thread that seals has failed") }
    }

    fn write(&mut self, hand_over: &HandOver) -> anyhow::Result<()> {
        self.place.is_there()?;
        let mut open = match self.open.take() {
            Some(open) if open.segment == hand_over.segment => open,
            _ => {
                let stream = |table| {
                    let label =
                        Label::new(&self.id, table, hand_over.segment, (hand_over.first_seq, hand_over.first_us));
                    OpenSegmentWriter::create(&self.place, &label)
                };
                let streams = Table::ALL.into_iter().map(stream).collect::<anyhow::Result<_>>()?;
                Open { segment: hand_over.segment, streams, bytes: 0 }
            }
        };
        let mut entries = Vec::with_capacity(TABLES);
        for (stream, batch) in open.streams.iter_mut().zip(&hand_over.tables) {
            entries.push(stream.append(batch.as_ref(), hand_over.next_seq, hand_over.last_us)?);
        }
        for (stream, entry) in open.streams.iter_mut().zip(entries) {
            let bytes = entry.bytes();
            stream.confirm(entry)?;
            open.bytes += bytes;
            self.shared.bytes.fetch_add(bytes, Relaxed);
        }
        if hand_over.over {
            let over = Over {
                segment: open.segment,
                first_seq: hand_over.first_seq,
                first_us: hand_over.first_us,
                end: End { next_seq: hand_over.next_seq, last_us: hand_over.last_us },
                bytes: open.bytes,
            };
            self.ask(Job::Seal(over))
        } else {
            self.shared.open_bytes.store(open.bytes, Relaxed);
            self.open = Some(open);
            Ok(())
        }
    }
}
