//! Keeps the end of a recording in progress as a recording of its own.
//!
//! Sealed files never change, so they are linked and not copied: it takes no room until the flight recorder drops them.

use super::dir::RecordingDir;
use super::manifest::{Manifest, Segment};
use super::schema::Form;
use super::tables::Table;
use super::writer::unix_us;
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// What to keep, and where.
pub(super) struct Freeze {
    pub(super) path: PathBuf,
    pub(super) last: Duration,
    pub(super) done: Sender<anyhow::Result<Frozen>>,
}

/// What was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The new recording.
    pub path: PathBuf,
    /// Its beginning, microseconds since the Unix epoch. A segment is kept whole, so it may be earlier than was asked for.
    pub from_us: i64,
    /// Its end.
    pub to_us: i64,
    /// Size of its files.
    pub bytes: u64,
}

/// Keeps the segments of this much time before the end of the newest one. On failure nothing is left at `path`.
pub(super) fn freeze(from: &RecordingDir, manifest: &Manifest, path: &Path, last: Duration) -> anyhow::Result<Frozen> {
    let newest = manifest.segments.last().context("nothing is sealed yet")?;
    let last_us = i64::try_from(last.as_micros()).unwrap_or(i64::MAX);
    let from_us = newest.end.last_us.saturating_sub(last_us);
    let first = manifest.segments.iter().position(|segment| segment.end.last_us >= from_us).unwrap_or_default();
    let kept = &manifest.segments[first..];
    let (to, _lock) = RecordingDir::create(path, false, super::disk::Journal::default())?;
    let written = link(from, &to, kept).and_then(|()| {
        let manifest = Manifest {
            segments: kept.to_vec(),
            segments_dropped: manifest.segments_dropped + first as u64,
            finished_us: Some(unix_us()),
            ..manifest.clone()
        };
        // The manifest comes last: until then it is no recording.
        manifest.write(&to)
    });
    if let Err(error) = written {
        discard(&to, kept);
        return Err(error.context(format!("cannot keep {}", path.display())));
    }
    Ok(Frozen {
        path: path.to_owned(),
        from_us: kept.first().map_or(from_us, |segment| segment.first_us),
        to_us: newest.end.last_us,
        bytes: kept.iter().map(Segment::bytes).fold(0, u64::saturating_add),
    })
}

fn names(segments: &[Segment]) -> impl Iterator<Item = String> {
    segments.iter().flat_map(|segment| Table::ALL.map(|table| table.file(segment.number, Form::Parquet)))
}

fn link(from: &RecordingDir, to: &RecordingDir, segments: &[Segment]) -> anyhow::Result<()> {
    names(segments).try_for_each(|name| from.link(&name, to).with_context(|| format!("cannot keep {name}")))
}

/// Removes what was linked. What fails to go is no recording without a manifest.
fn discard(place: &RecordingDir, segments: &[Segment]) {
    for name in names(segments) {
        let _ = place.remove(&name);
    }
    let _ = std::fs::remove_dir(place.path());
}
