//! Seals segments, from streams to Parquet, on its own thread, and drops the oldest.

use super::dir::RecordingDir;
use super::freeze::{self, Freeze};
use super::manifest::{Manifest, SealedFile, Segment};
use super::open_segment::OpenSegment;
use super::schema::{End, Form, Label};
use super::sealed;
use super::tables::Table;
use super::writer::{Keep, Shared};
use anyhow::{Context as _, bail};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use twtrace_core::event::HostFacts;

/// Returns unused memory to the system. Sealing takes some tens of MiB for a moment, and glibc keeps what a thread has
/// freed for that thread alone, which has no use for it until the next segment is complete.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes only a number, and may be called at any time from any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Requests to the sealer.
pub(super) enum Job {
    /// The trace has begun.
    Host(HostFacts),
    /// A segment is complete.
    Seal(Over),
    /// What was sealed last is kept in a recording of its own.
    Freeze(Box<Freeze>),
    /// The recording has ended.
    Finish { now_us: i64 },
}

/// A segment that is complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over {
    pub(super) segment: u32,
    pub(super) first_seq: u64,
    pub(super) first_us: i64,
    pub(super) end: End,
    /// Size of its streams.
    pub(super) bytes: u64,
}

/// The sealing thread.
pub(super) struct Sealer {
    pub(super) place: Arc<RecordingDir>,
    pub(super) manifest: Manifest,
    pub(super) keep: Option<Keep>,
    pub(super) shared: Arc<Shared>,
}

impl Sealer {
    /// Processes requests until every sender is gone.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) -> anyhow::Result<()> {
        for job in jobs {
            match job {
                Job::Host(host) => {
                    self.manifest.host = Some(host);
                    self.manifest.write(&self.place)?;
                }
                Job::Seal(over) => {
                    self.seal(over)?;
                    self.drop_oldest()?;
                    give_back();
                }
                Job::Freeze(freeze) => {
                    let Freeze { path, last, done } = *freeze;
                    let frozen = freeze::freeze(&self.place, &self.manifest, &path, last);
                    // If the caller has ended, there is no one to report to.
                    let _ = done.send(frozen);
                }
                Job::Finish { now_us } => {
                    self.manifest.finished_us = Some(now_us);
                    self.manifest.write(&self.place)?;
                }
            }
        }
        Ok(())
    }

    fn seal(&mut self, over: Over) -> anyhow::Result<()> {
        let files = Table::ALL.into_iter().map(|table| {
            let name = table.file(over.segment, Form::Parquet);
            self.seal_table(table, over).with_context(|| format!("cannot write {name}"))
        });
        let files: Vec<SealedFile> = files.collect::<anyhow::Result<_>>()?;
        let Over { first_seq, first_us, end, .. } = over;
        let segment = Segment { number: over.segment, first_seq, first_us, end, files };
        let bytes = segment.bytes();
        self.manifest.segments.push(segment);
        self.manifest.write(&self.place)?;
        for table in Table::ALL {
            for form in [Form::Arrows, Form::Sums] {
                let name = table.file(over.segment, form);
                self.place.remove(&name).with_context(|| format!("cannot remove {name}"))?;
            }
        }
        self.shared.segments.fetch_add(1, Relaxed);
        self.shared.bytes.fetch_add(bytes, Relaxed);
        self.shared.bytes.fetch_sub(over.bytes, Relaxed);
        Ok(())
    }

    fn seal_table(&self, table: Table, over: Over) -> anyhow::Result<SealedFile> {
        let tail = OpenSegment::open(&self.place, Some(&self.manifest.id), table, over.segment)?;
        if tail.next_seq() != over.end.next_seq || tail.left != 0 {
            bail!("what was written before cannot be read back");
        }
        let mut batches = tail.batches();
        let label = Label::new(&self.manifest.id, table, over.segment, (over.first_seq, over.first_us));
        let label = Label { end: Some(over.end), ..label };
        let name = table.file(over.segment, Form::Parquet);
        let seal = self.place.replace(&name, |file| sealed::write(file, &label, &mut || batches.next()))?;
        Ok(SealedFile { table, rows: seal.rows, bytes: seal.bytes, crc32: seal.crc })
    }

    /// Drops segments beyond the limit. The newest sealed segment stays.
    fn drop_oldest(&mut self) -> anyhow::Result<()> {
        let Some(keep) = self.keep else { return Ok(()) };
        let segments = &self.manifest.segments;
        let Some((newest, older)) = segments.split_last() else { return Ok(()) };
        let surplus = match keep {
            Keep::Time(time) => {
                let time_us = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
                let from_us = newest.end.last_us.saturating_sub(time_us);
                older.iter().take_while(|segment| segment.end.last_us < from_us).count()
            }
            Keep::Bytes(limit) => {
                let mut bytes = self.shared.bytes.load(Relaxed);
                let beyond = |segment: &&Segment| {
                    let is_beyond = bytes > limit;
                    bytes = bytes.saturating_sub(segment.bytes());
                    is_beyond
                };
                older.iter().take_while(beyond).count()
            }
        };
        if surplus == 0 {
            return Ok(());
        }
        let dropped: Vec<Segment> = self.manifest.segments.drain(..surplus).collect();
        self.manifest.segments_dropped += dropped.len() as u64;
        // Files that no manifest names are not part of the recording.
        self.manifest.write(&self.place)?;
        for segment in dropped {
            for table in Table::ALL {
                let name = table.file(segment.number, Form::Parquet);
                self.place.remove(&name).with_context(|| format!("cannot remove {name}"))?;
            }
            self.shared.segments_dropped.fetch_add(1, Relaxed);
            self.shared.bytes.fetch_sub(segment.bytes(), Relaxed);
        }
        Ok(())
    }
}
