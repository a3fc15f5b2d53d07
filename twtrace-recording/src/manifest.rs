//! The manifest: the parts of a recording, with a checksum of itself.

use super::describe;
use super::dir::{MANIFEST, RecordingDir};
use super::schema::{End, SCHEMA, WRITER, check_schema};
use super::tables::{TABLES, Table};
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use twtrace_core::event::HostFacts;

/// Larger than any manifest, in bytes.
const LARGEST: u64 = 64 << 20;

/// The parts of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) schema: u32,
    pub(super) writer: String,
    pub(super) id: String,
    /// Once the trace has begun.
    pub(super) host: Option<HostFacts>,
    /// Microseconds since the Unix epoch.
    pub(super) created_us: i64,
    pub(super) finished_us: Option<i64>,
    pub(super) segments_dropped: u64,
    /// The sealed ones, in the order of time.
    pub(super) segments: Vec<Segment>,
}

/// A sealed segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) first_seq: u64,
    pub(super) first_us: i64,
    #[serde(flatten)]
    pub(super) end: End,
    pub(super) files: Vec<SealedFile>,
}

/// A table's part of a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SealedFile {
    pub(super) table: Table,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

impl Segment {
    /// Of one table.
    pub(super) fn file(&self, table: Table) -> Option<&SealedFile> {
        self.files.iter().find(|file| file.table == table)
    }

    /// Size of all its files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }
}

/// Its layout in the file: the checksum is of the recording's text as it stands there.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    recording: T,
    crc32: u32,
}

impl Manifest {
    pub(super) fn new(id: String, created_us: i64) -> Self {
        Self {
            schema: SCHEMA,
            writer: WRITER.to_owned(),
            id,
            host: None,
            created_us,
            finished_us: None,
            segments_dropped: 0,
            segments: Vec::new(),
        }
    }

    /// Writes it, replacing the previous one.
    pub(super) fn write(&self, place: &RecordingDir) -> anyhow::Result<()> {
        let recording = RawValue::from_string(serde_json::to_string_pretty(self)?)?;
        let crc32 = crc32fast::hash(recording.get().as_bytes());
        let mut text = serde_json::to_string(&Envelope { recording, crc32 })?;
        text.push('\n');
        place.replace_bytes(MANIFEST, text.as_bytes()).with_context(|| format!("cannot write {MANIFEST}"))
    }

    /// Reads it. An error says what is wrong with the file, or that a newer version wrote it.
    pub(super) fn read(place: &RecordingDir) -> anyhow::Result<Self> {
        let bytes = match place.read_small(MANIFEST, LARGEST) {
            Ok(bytes) => bytes,
            Err(error) => bail!(describe(&error.into())),
        };
        let envelope: Envelope<&RawValue> = serde_json::from_slice(&bytes).context("is damaged")?;
        let text = envelope.recording.get();
        if crc32fast::hash(text.as_bytes()) != envelope.crc32 {
            bail!("does not have the sum that it should");
        }
        check_schema(text)?;
        let manifest: Self = serde_json::from_str(text).context("is damaged")?;
        let whole = |segment: &Segment| {
            segment.files.len() == TABLES && Table::ALL.iter().all(|table| segment.file(*table).is_some())
        };
        let in_order = manifest.segments.is_sorted_by(|one, next| one.number < next.number);
        if !in_order || !manifest.segments.iter().all(whole) {
            bail!("is damaged");
        }
        Ok(manifest)
    }
}
