//! What every file has in common: its name, and the label that says what it belongs to.

use super::tables::Table;
use anyhow::Context as _;
use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Version of the format. Additions keep it: see [`super`] for the rules.
pub(super) const SCHEMA: u32 = 1;

/// The program that writes.
pub(super) const WRITER: &str = concat!("twtrace ", env!("CARGO_PKG_VERSION"));

/// Key of the label in a file's metadata.
pub(super) const LABEL: &str = "twtrace";

impl Table {
    /// File name of a segment's part.
    pub(super) fn file(self, segment: u32, form: Form) -> String {
        format!("{}-{segment:04}.{}", self.name(), form.extension())
    }
}

/// Kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Sealed.
    Parquet,
    /// Being written.
    Arrows,
    /// Checksums of the batches of one that is being written.
    Sums,
}

impl Form {
    fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrows => "arrows",
            Self::Sums => "sums",
        }
    }
}

/// What a file name says, if it is one of a recording's.
pub(super) fn parse_file(name: &str) -> Option<(Table, u32, Form)> {
    let (stem, extension) = name.split_once('.')?;
    let (table, segment) = stem.split_once('-')?;
    let table = Table::ALL.into_iter().find(|known| known.name() == table)?;
    let form = [Form::Parquet, Form::Arrows, Form::Sums].into_iter().find(|form| form.extension() == extension)?;
    let segment = segment.parse().ok()?;
    // Each number has one spelling.
    (table.file(segment, form) == name).then_some((table, segment, form))
}

/// What a file belongs to. It is in the metadata of every file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    /// Version of the format.
    pub(super) schema: u32,
    /// Who wrote it.
    pub(super) writer: String,
    /// Of the recording.
    pub(super) id: String,
    pub(super) table: Table,
    pub(super) segment: u32,
    /// Number of the segment's first event.
    pub(super) first_seq: u64,
    /// Wall clock of its first moment, microseconds since the Unix epoch.
    pub(super) first_us: i64,
    /// What is known only when a segment is over.
    #[serde(default)]
    pub(super) end: Option<End>,
}

/// The end of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// Number of the next segment's first event.
    pub(super) next_seq: u64,
    /// Wall clock of its last moment, microseconds since the Unix epoch.
    pub(super) last_us: i64,
}

impl Label {
    pub(super) fn new(id: &str, table: Table, segment: u32, (first_seq, first_us): (u64, i64)) -> Self {
        let (id, writer) = (id.to_owned(), WRITER.to_owned());
        Self { schema: SCHEMA, writer, id, table, segment, first_seq, first_us, end: None }
    }

    /// The columns of its table, with the label in the metadata.
    pub(super) fn schema(&self) -> anyhow::Result<SchemaRef> {
        let metadata = HashMap::from([(LABEL.to_owned(), serde_json::to_string(self)?)]);
        Ok(Arc::new(self.table.schema().as_ref().clone().with_metadata(metadata)))
    }

    /// The label of a file that should belong to a place in a recording.
    /// Without an `id` any recording is accepted.
    pub(super) fn check(text: Option<&str>, id: Option<&str>, table: Table, segment: u32) -> anyhow::Result<Self> {
        let text = text.context("is not part of a recording")?;
        check_schema(text)?;
        let label: Self = serde_json::from_str(text).context("has a damaged label")?;
        if id.is_some_and(|id| label.id != id) {
            return Err(Foreign::Recording.into());
        }
        if (label.table, label.segment) != (table, segment) {
            return Err(Foreign::Name(label.table.file(label.segment, Form::Parquet)).into());
        }
        Ok(label)
    }
}

/// Not what its name says.
#[derive(Debug, thiserror::Error)]
pub(super) enum Foreign {
    #[error("belongs to another recording")]
    Recording,
    #[error("is {0} under a wrong name")]
    Name(String),
}

/// Written by a newer version than this one can read.
#[derive(Debug, thiserror::Error)]
#[error("was written by {writer} (schema {schema}; this version reads up to {SCHEMA}): upgrade twtrace to read it")]
pub(super) struct Newer {
    writer: String,
    schema: u32,
}

/// Whether this version can read it. Everything else in it may have changed.
pub(super) fn check_schema(text: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
        #[serde(default)]
        writer: String,
    }
    let version: Version = serde_json::from_str(text).context("has a damaged label")?;
    if version.schema > SCHEMA {
        let writer = if version.writer.is_empty() { "a newer version".to_owned() } else { version.writer };
        return Err(Newer { writer, schema: version.schema }.into());
    }
    Ok(())
}
