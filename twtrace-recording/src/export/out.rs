//! Writes batches of rows to one file or stream, in the requested form.

use super::{Format, text};
use anyhow::{Context as _, bail};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;
use twtrace_core::plain::PlainJson;

/// Encoded rows that a row group of Parquet may take in memory, in bytes.
const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;

/// The output: standard output, or a file that gets its name when it is whole.
pub enum Target {
    /// Standard output.
    Stdout(io::Stdout),
    /// A file under a temporary name, and the name that it gets.
    File(BufWriter<NamedTempFile>, PathBuf),
}

impl Target {
    /// Opens a file under a temporary name next to `path`, or standard output.
    ///
    /// # Errors
    /// A file of another type has that name, or nothing can be written there.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout(io::stdout())) };
        let shown = path.display();
        // If it replaced /dev/null by a file, many programs would miss it.
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            bail!("{shown} is not a file: give -o another name");
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(parent).with_context(|| format!("cannot write to {}", parent.display()))?;
        Ok(Self::File(BufWriter::with_capacity(1024 * 1024, file), path.to_owned()))
    }

    /// Everything is written: the file gets its name.
    pub fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout(mut out) => out.flush()?,
            Self::File(out, path) => {
                let shown = path.display();
                let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                file.persist(&path).with_context(|| format!("cannot write {shown}"))?;
            }
        }
        Ok(())
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(out, _) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(out, _) => out.flush(),
        }
    }
}

/// Writes batches of one schema.
pub(super) enum Sink<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Csv(Box<csv::Writer<W>>),
    Jsonl(PlainJson<W>),
}

impl<W: Write + Send> Sink<W> {
    pub(super) fn new(format: Format, schema: &SchemaRef, out: W) -> anyhow::Result<Self> {
        Ok(match format {
            Format::Parquet => {
                let compression = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(compression).build();
                // Text must be plain text for every reader, whatever its layout in memory here.
                let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
                Self::Parquet(Box::new(ArrowWriter::try_new_with_options(out, Arc::clone(schema), options)?))
            }
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                // The names of the columns, even for a recording without rows.
                writer.write_record(schema.fields().iter().map(|field| field.name())).map_err(text::of_output)?;
                Self::Csv(Box::new(writer))
            }
            Format::Jsonl => Self::Jsonl(PlainJson::new(out)),
        })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        match self {
            Self::Parquet(writer) => {
                writer.write(batch)?;
                if writer.in_progress_size() > ROW_GROUP_BYTES {
                    writer.flush()?;
                }
            }
            Self::Csv(writer) => text::csv(batch, writer)?,
            Self::Jsonl(out) => text::json_lines(batch, out)?,
        }
        Ok(())
    }

    /// Ends the form, and returns the output.
    pub(super) fn finish(self) -> anyhow::Result<W> {
        Ok(match self {
            Self::Parquet(writer) => writer.into_inner()?,
            Self::Csv(writer) => writer.into_inner().map_err(csv::IntoInnerError::into_error)?,
            Self::Jsonl(out) => out.into_inner(),
        })
    }
}
