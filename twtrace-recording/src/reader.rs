//! Opens a recording.

use super::dir::{MANIFEST, RecordingDir};
use super::guard::guarded;
use super::manifest::{Manifest, Segment};
use super::open_segment::OpenSegment;
use super::pass::Pass;
use super::schema::{Foreign, Form, Newer, parse_file};
use super::sealed::{self, Sealed};
pub use super::stream::ReadOptions;
use super::stream::{self, Planned};
use super::tables::Table;
use super::{Fault, Info, Loss, describe, is_cut, is_missing, loss};
use crate::replay::Replay;
use anyhow::{Context as _, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use twtrace_core::event::{Event, HostFacts};

/// How often to retry files that a recorder is just renaming, and how long to wait in between.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(20);

/// An opened recording.
#[derive(Debug)]
pub struct Recording {
    pub(super) place: Arc<RecordingDir>,
    pub(super) plan: Vec<Planned>,
    pub(super) info: Info,
    pub(super) options: ReadOptions,
}

/// Findings while a recording is checked.
#[derive(Default)]
struct Survey {
    plan: Vec<Planned>,
    losses: Vec<Loss>,
    /// Number of the Event after what was found so far, unless something was lost there.
    next_seq: Option<u64>,
    first_us: Option<i64>,
    last_us: Option<i64>,
    connections: u64,
    connections_lost: u64,
    /// More was lost, an unknown amount.
    lost_more: bool,
}

impl Recording {
    /// Opens a recording and checks all of its files.
    ///
    /// # Errors
    /// It is not a recording, no part of it can be read, or a newer version wrote it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Self::find(path).map_err(Fault::of)
    }

    /// The same recording, read with other options.
    #[must_use]
    pub fn with_options(self, options: ReadOptions) -> Self {
        Self { options, ..self }
    }

    fn find(path: &Path) -> anyhow::Result<Self> {
        let place =
            RecordingDir::open(path).with_context(|| format!("cannot open the recording {}", path.display()))?;
        Self::look(Arc::new(place)).with_context(|| format!("cannot read the recording {}", path.display()))
    }

    fn look(place: Arc<RecordingDir>) -> anyhow::Result<Self> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let is_being_written = place.is_being_written();
            let manifest = Manifest::read(&place);
            let found = Self::survey(&place, &manifest, is_being_written)?;
            // While a recorder writes, files change between two checks.
            let is_same = !is_being_written || Manifest::read(&place).ok() == manifest.as_ref().ok().cloned();
            if is_same || attempt == ATTEMPTS {
                return Self::new(place, manifest.ok(), found);
            }
            thread::sleep(PAUSE);
        }
    }

    fn new(
        place: Arc<RecordingDir>,
        manifest: Option<Manifest>,
        (id, survey): (String, Survey),
    ) -> anyhow::Result<Self> {
        if survey.plan.is_empty()
            && let Some(loss) = survey.losses.first()
        {
            bail!("{} {}", loss.file, loss.what);
        }
        let created_us = manifest.as_ref().map_or(0, |manifest| manifest.created_us);
        let bytes = place.names()?.iter().filter_map(|name| place.size(name).ok()).fold(0, u64::saturating_add);
        let first_us = survey.first_us.unwrap_or(created_us);
        let mut recording = Self {
            info: Info {
                path: place.path().to_owned(),
                id,
                host: Default::default(),
                start_unix_ns: i128::from(first_us) * 1000,
                end_unix_ns: i128::from(survey.last_us.unwrap_or(first_us)) * 1000,
                connections: survey.connections,
                connections_lost: survey.connections_lost,
                lost_more: survey.lost_more,
                bytes,
                finished: manifest.as_ref().is_some_and(|manifest| manifest.finished_us.is_some()),
                segments_dropped: manifest.as_ref().map_or(0, |manifest| manifest.segments_dropped),
                losses: survey.losses,
            },
            place,
            plan: survey.plan,
            options: ReadOptions::default(),
        };
        recording.info.host = match manifest.and_then(|manifest| manifest.host) {
            Some(host) => host,
            None => recording.host_of_start()?,
        };
        Ok(recording)
    }

    /// The host as the first Event reports it.
    fn host_of_start(&self) -> anyhow::Result<HostFacts> {
        Ok(match self.pass(0)?.next() {
            Some(Event::Start { host, .. }) => host,
            _ => HostFacts::default(),
        })
    }

    fn survey(
        place: &RecordingDir,
        manifest: &anyhow::Result<Manifest>,
        is_being_written: bool,
    ) -> anyhow::Result<(String, Survey)> {
        let mut survey = Survey { next_seq: Some(0), ..Survey::default() };
        let files: Vec<_> = place.names()?.iter().filter_map(|name| parse_file(name)).collect();
        let with = |form: Form| files.iter().filter(move |(.., found)| *found == form).map(|(_, segment, _)| *segment);
        let streams: BTreeSet<u32> = with(Form::Arrows).chain(with(Form::Sums)).collect();
        let (id, sealed_until) = match manifest {
            Ok(manifest) => {
                if let Some(first) = manifest.segments.first().filter(|_| manifest.segments_dropped > 0) {
                    survey.next_seq = Some(first.first_seq);
                }
                for segment in &manifest.segments {
                    survey.sealed(place, &manifest.id, segment);
                }
                (manifest.id.clone(), manifest.segments.last().map_or(0, |last| last.number))
            }
            Err(error) => {
                if let Some(newer) = error.downcast_ref::<Newer>() {
                    bail!("{MANIFEST} {newer}");
                }
                let Some(id) = id_by_files(place, &files) else {
                    bail!("it is none: {MANIFEST} {error:#}");
                };
                let what = format!("{error:#}: what the other files say could not be verified");
                survey.losses.push(Loss { file: MANIFEST.to_owned(), what });
                survey.next_seq = None;
                for segment in with(Form::Parquet).collect::<BTreeSet<u32>>() {
                    // A segment that was just being sealed has everything in its streams.
                    if !streams.contains(&segment) {
                        survey.unverified(place, &id, segment);
                    }
                }
                (id, 0)
            }
        };
        // Streams up to the last segment that the manifest names are left over from sealing.
        for segment in streams.into_iter().filter(|segment| *segment > sealed_until) {
            survey.open(place, &id, segment, is_being_written);
        }
        survey.plan.sort_unstable_by_key(|planned| planned.segment);
        Ok((id, survey))
    }

    /// What the recording says about itself, and what could not be read.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// A pass over its Events from the beginning.
    ///
    /// # Errors
    /// The thread that reads ahead cannot be started.
    pub fn replay(&self) -> anyhow::Result<Replay> {
        self.replay_from(0)
    }

    /// A pass over the segments with what happened since a moment, nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// The thread that reads ahead cannot be started.
    pub fn replay_since(&self, unix_ns: i128) -> anyhow::Result<Replay> {
        let begins_before = |planned: &&Planned| i128::from(planned.first_us) * 1000 <= unix_ns;
        let first = self.plan.iter().rev().find(begins_before).or(self.plan.first());
        self.replay_from(first.map_or(0, |planned| planned.segment))
    }

    /// A pass that begins with a segment, by [`Replay::segment`]: it restates what was reported before and is still
    /// true there.
    ///
    /// # Errors
    /// The thread that reads ahead cannot be started.
    pub fn replay_from(&self, segment: u32) -> anyhow::Result<Replay> {
        Ok(Replay::new(self.pass(segment)?))
    }

    fn pass(&self, from: u32) -> anyhow::Result<Pass> {
        let plan = self.plan.iter().copied().filter(|planned| planned.segment >= from).collect();
        let parts = stream::start(Arc::clone(&self.place), self.info.id.clone(), plan, self.options)
            .context("cannot start a thread")?;
        Ok(Pass::new(parts))
    }
}

/// The recording that most of the files name in their label.
fn id_by_files(place: &RecordingDir, files: &[(Table, u32, Form)]) -> Option<String> {
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for (table, segment, form) in files {
        let label = guarded(|| match form {
            Form::Parquet => Ok(Sealed::open(place, None, *table, *segment)?.label),
            Form::Sums => Ok(OpenSegment::open(place, None, *table, *segment)?.label),
            Form::Arrows => bail!("has its label in its sums"),
        });
        if let Ok(label) = label {
            *ids.entry(label.id).or_default() += 1;
        }
    }
    ids.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id)
}

impl Survey {
    fn found(&mut self, planned: Planned, (first_seq, next_seq): (u64, u64), (first_us, last_us): (i64, i64)) {
        if self.next_seq.is_some_and(|expected| expected != first_seq) {
            let file = Table::Connections.file(planned.segment.saturating_sub(1), Form::Parquet);
            self.losses.push(Loss { file, what: "is missing, with all that belongs to it".to_owned() });
            self.lost_more = true;
        }
        self.next_seq = Some(next_seq);
        self.first_us.get_or_insert(first_us);
        self.last_us = Some(last_us);
        self.connections = self.connections.saturating_add(planned.connections);
        self.plan.push(planned);
    }

    /// A segment cannot be read. `connections` is the number of rows lost with it, if known.
    fn lost(&mut self, file: String, error: &anyhow::Error, connections: Option<u64>) {
        self.losses.push(loss(file, error));
        self.next_seq = None;
        self.connections_lost = self.connections_lost.saturating_add(connections.unwrap_or(0));
        self.lost_more |= connections.is_none();
    }

    /// A sealed segment, by the manifest.
    fn sealed(&mut self, place: &RecordingDir, id: &str, segment: &Segment) {
        let connections = segment.file(Table::Connections).map_or(0, |file| file.rows);
        for file in &segment.files {
            let name = file.table.file(segment.number, Form::Parquet);
            let checked = guarded(|| {
                let (bytes, crc32) = sealed::sum(place.read(&name)?)?;
                let sealed = Sealed::open(place, Some(id), file.table, segment.number);
                // A wrong label explains more than a wrong size, and a wrong size more than a decoder's error.
                let is_foreign = |error: &anyhow::Error| error.is::<Foreign>() || error.is::<Newer>();
                if bytes != file.bytes && !sealed.as_ref().is_err_and(is_foreign) {
                    bail!("has {bytes} bytes instead of {}", file.bytes);
                }
                let sealed = sealed?;
                if crc32 != file.crc32 || sealed.rows() != file.rows {
                    bail!("does not have the sum that it should");
                }
                Ok(())
            });
            if let Err(error) = checked {
                let span = format!("{}; {} of the recording are left out", describe(&error), length(segment));
                self.lost(name, &anyhow::anyhow!(span), Some(connections));
                return;
            }
        }
        let planned = Planned { segment: segment.number, sealed: true, connections, first_us: segment.first_us };
        self.found(planned, (segment.first_seq, segment.end.next_seq), (segment.first_us, segment.end.last_us));
    }

    /// A sealed segment that no manifest names.
    fn unverified(&mut self, place: &RecordingDir, id: &str, segment: u32) {
        let mut bounds = None;
        let mut connections = 0;
        for table in Table::ALL {
            let opened = guarded(|| {
                let sealed = Sealed::open(place, Some(id), table, segment)?;
                let end = sealed.label.end.context("does not say where it ends")?;
                Ok((sealed.label.first_seq, sealed.label.first_us, end, sealed.rows()))
            });
            match opened {
                Ok((first_seq, first_us, end, rows)) => {
                    bounds = Some(((first_seq, end.next_seq), (first_us, end.last_us)));
                    connections += if table == Table::Connections { rows } else { 0 };
                }
                Err(error) => return self.lost(table.file(segment, Form::Parquet), &error, None),
            }
        }
        if let Some((seqs, times)) = bounds {
            self.found(Planned { segment, sealed: true, connections, first_us: times.0 }, seqs, times);
        }
    }

    /// A segment that is not sealed.
    fn open(&mut self, place: &RecordingDir, id: &str, segment: u32, is_being_written: bool) {
        let mut tails = Vec::new();
        let mut failed = None;
        for table in Table::ALL {
            match guarded(|| OpenSegment::open(place, Some(id), table, segment)) {
                Ok(tail) => tails.push((table, tail)),
                Err(error) => {
                    failed.get_or_insert((table.file(segment, Form::Arrows), error));
                }
            }
        }
        let has_rows = tails.iter().any(|(_, tail)| tail.entries.iter().any(|entry| entry.rows > 0));
        if let Some((file, error)) = failed {
            // When nothing was written yet, nothing is lost: a file is missing, or its first bytes are not all there.
            if has_rows || !(is_missing(&error) || is_cut(&error)) {
                let connections = tails.iter().find(|(table, _)| *table == Table::Connections);
                self.lost(file, &error, connections.map(|(_, tail)| tail.rows_below(u64::MAX)));
            }
            return;
        }
        let next_seq = tails.iter().map(|(_, tail)| tail.next_seq()).min().unwrap_or(0);
        let left_out = |tail: &OpenSegment| tail.entries.iter().filter(|entry| entry.next_seq > next_seq).count();
        let left_out = tails.iter().map(|(_, tail)| left_out(tail)).max().unwrap_or(0);
        let mut last_us = None;
        let mut connections = 0;
        for (table, tail) in &tails {
            // While it is being written, the last bytes are not whole yet.
            let what = match tail.cut {
                Some(damage) if !(is_being_written && tail.is_at_end) => Some(damage.to_owned()),
                _ if is_being_written => None,
                _ if tail.left > 0 => {
                    Some(format!("ends with {} bytes that are not whole; they are left out", tail.left))
                }
                _ if left_out > 0 && tail.next_seq() == next_seq => {
                    Some(format!("lacks the last {left_out} of what others have; it is left out"))
                }
                _ => None,
            };
            if let Some(what) = what {
                self.losses.push(Loss { file: table.file(segment, Form::Arrows), what });
            }
            // Rows that only some of the tables have are not used.
            for entry in tail.entries.iter().filter(|entry| entry.next_seq <= next_seq) {
                last_us = last_us.max(Some(entry.last_us));
            }
            if *table == Table::Connections {
                connections = tail.rows_below(next_seq);
                if !is_being_written {
                    let cut = tail.rows_below(u64::MAX).saturating_sub(connections);
                    self.connections_lost = self.connections_lost.saturating_add(cut);
                    // There may have been more after the cut.
                    self.lost_more |= tail.cut.is_some() || tail.left > 0;
                }
            }
        }
        if let (Some((_, tail)), Some(last_us)) = (tails.first(), last_us) {
            let seqs = (tail.label.first_seq, next_seq);
            let planned = Planned { segment, sealed: false, connections, first_us: tail.label.first_us };
            self.found(planned, seqs, (tail.label.first_us, last_us));
        }
    }
}

/// How long a segment is, for people.
fn length(segment: &Segment) -> String {
    let us = segment.end.last_us.saturating_sub(segment.first_us);
    let seconds = u64::try_from(us).unwrap_or(0).div_ceil(1_000_000);
    if seconds < 120 { format!("{seconds} seconds") } else { format!("{} minutes", seconds.div_ceil(60)) }
}
