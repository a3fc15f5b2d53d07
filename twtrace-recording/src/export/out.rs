//! Writes batches of rows to one file or stream, in the requested form.

use super::Format;
use anyhow::{Context as _, bail};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_json::writer::LineDelimited;
use arrow_schema::{Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;
use twtrace_core::plain::{PlainJson, guarded};

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
    Csv(Box<arrow_csv::Writer<W>>),
    Jsonl(Box<arrow_json::Writer<PlainJson<W>, LineDelimited>>),
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
                let mut writer = arrow_csv::Writer::new(out);
                // The names of the columns, even for a recording without rows.
                writer.write(&for_text(&RecordBatch::new_empty(Arc::clone(schema)), Arc::clone)?)?;
                Self::Csv(Box::new(writer))
            }
            Format::Jsonl => {
                // Readers that guess the columns from the first lines need all of them there.
                let builder = arrow_json::WriterBuilder::new().with_explicit_nulls(true);
                Self::Jsonl(Box::new(builder.build(PlainJson::new(out))))
            }
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
            Self::Csv(writer) => writer.write(&for_text(batch, without_formulas)?)?,
            Self::Jsonl(writer) => writer.write(&for_text(batch, Arc::clone)?)?,
        }
        Ok(())
    }

    /// Ends the form, and returns the output.
    pub(super) fn finish(self) -> anyhow::Result<W> {
        Ok(match self {
            Self::Parquet(writer) => writer.into_inner()?,
            Self::Csv(writer) => writer.into_inner(),
            Self::Jsonl(mut writer) => {
                writer.finish()?;
                writer.into_inner().into_inner()
            }
        })
    }
}

/// The batch as text output needs it: times in UTC, which needs no time zone database, and each other column converted
/// by `column`.
fn for_text(batch: &RecordBatch, column: impl Fn(&ArrayRef) -> ArrayRef) -> anyhow::Result<RecordBatch> {
    let column = |(field, values): (&FieldRef, &ArrayRef)| {
        let values = match values.as_primitive_opt::<TimestampMicrosecondType>() {
            Some(times) => Arc::new(times.clone().with_timezone("+00:00")),
            None => column(values),
        };
        (Field::new(field.name(), values.data_type().clone(), true), values)
    };
    let schema = batch.schema();
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) =
        schema.fields().iter().zip(batch.columns()).map(column).unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Text that neither a terminal nor a spreadsheet interprets.
fn without_formulas(column: &ArrayRef) -> ArrayRef {
    let guard = |words: &StringArray| -> StringArray { words.iter().map(|word| word.map(guarded)).collect() };
    if let Some(words) = column.as_string_opt::<i32>() {
        return Arc::new(guard(words));
    }
    if let Some(dictionary) = column.as_dictionary_opt::<Int32Type>()
        && let Some(words) = dictionary.values().as_string_opt::<i32>()
    {
        return Arc::new(dictionary.with_values(Arc::new(guard(words))));
    }
    Arc::clone(column)
}
