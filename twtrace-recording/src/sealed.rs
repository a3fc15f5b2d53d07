//! The sealed part of a recording: a Parquet file for each table of each segment.

use super::dir::RecordingDir;
use super::pages;
use super::schema::{Form, LABEL, Label};
use super::tables::Table;
use anyhow::{Context as _, bail};
use arrow_array::RecordBatch;
use arrow_schema::{DataType, FieldRef, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::sync::Arc;

/// Rows of a page. A page of split bytes has the bytes of one position in a run of this length, which is as much as the
/// compressor looks at together. While it is written, each of some fifty columns keeps a page in memory, and the
/// compressor a window of its size: eight times as many rows take 100 MiB more and compress 1 % better.
const PAGE_ROWS: usize = 16 << 10;

/// Maximum size of a page, bytes.
const LARGEST_PAGE: usize = 64 << 20;

/// More than any segment has, in rows and in decompressed bytes.
const LARGEST_ROWS: i64 = 1 << 28;
const LARGEST_SPREAD: i64 = 1 << 36;

/// Columns that rise in small steps.
const RISING: [&str; 4] = ["seq", "time", "tw_before", "tw_after"];

/// Columns of arbitrary numbers, most of them small.
const SPLIT: [&str; 10] = [
    "cookie",
    "local_port",
    "remote_port",
    "step1_us",
    "step2_us",
    "step3_us",
    "step4_us",
    "step5_us",
    "step6_us",
    "step7_us",
];

/// A file that was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) bytes: u64,
    pub(super) crc: u32,
    pub(super) rows: u64,
}

/// A writer that counts the bytes and computes their checksum.
struct Summed<W> {
    inner: W,
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        self.crc.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn properties(label: &Label) -> anyhow::Result<WriterProperties> {
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(label.writer.clone())
        .set_key_value_metadata(Some(vec![KeyValue::new(LABEL.to_owned(), serde_json::to_string(label)?)]))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(9)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(usize::MAX))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(LARGEST_PAGE)
        .set_dictionary_page_size_limit(LARGEST_PAGE);
    for name in RISING {
        let column = ColumnPath::from(name);
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    for name in SPLIT {
        let column = ColumnPath::from(name);
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT);
    }
    Ok(builder.build())
}

/// Writes all rows of one table of a segment.
pub(super) fn write(
    file: impl Write + Send,
    label: &Label,
    batches: &mut dyn FnMut() -> anyhow::Result<Option<RecordBatch>>,
) -> anyhow::Result<Seal> {
    let out = Summed { inner: BufWriter::new(file), bytes: 0, crc: crc32fast::Hasher::new() };
    // The schema in Arrow's own encoding would be larger than some whole tables, and is useless: the reader knows it.
    let options = ArrowWriterOptions::new().with_properties(properties(label)?).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(out, Arc::clone(label.table.schema()), options)?;
    let mut rows = 0;
    while let Some(batch) = batches()? {
        rows += batch.num_rows() as u64;
        // What is in the file's metadata is not in each batch.
        writer.write(&RecordBatch::try_new(Arc::clone(label.table.schema()), batch.columns().to_vec())?)?;
    }
    let mut out = writer.into_inner()?;
    out.flush()?;
    Ok(Seal { bytes: out.bytes, crc: out.crc.finalize(), rows })
}

/// Size and checksum of a file.
pub(super) fn sum(mut file: File) -> io::Result<(u64, u32)> {
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, crc.finalize())),
            read => {
                crc.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}

/// Which columns, of those that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// Those that Events are built from.
    Read,
    /// Also those that are only for people.
    All,
}

/// A sealed file, open.
pub(super) struct Sealed {
    file: File,
    metadata: ArrowReaderMetadata,
    pub(super) label: Label,
}

impl Sealed {
    /// Opens a file and checks its metadata.
    pub(super) fn open(place: &RecordingDir, id: Option<&str>, table: Table, segment: u32) -> anyhow::Result<Self> {
        let file = place.read(&table.file(segment, Form::Parquet))?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let found = ArrowReaderMetadata::load(&file, options.clone())?;
        let pairs = found.metadata().file_metadata().key_value_metadata();
        let text = pairs.into_iter().flatten().find(|pair| pair.key == LABEL).and_then(|pair| pair.value.as_deref());
        let label = Label::check(text, id, table, segment)?;
        check(found.metadata(), &file)?;
        // Types as in this version: an unknown column stays as it is, and is not read.
        let own = |field: &FieldRef| match table.schema().field_with_name(field.name()) {
            Ok(known) => Arc::new(known.clone().with_nullable(field.is_nullable())),
            Err(_) => Arc::clone(field),
        };
        let fields: Vec<FieldRef> = found.schema().fields().iter().map(own).collect();
        let options = options.with_schema(Arc::new(Schema::new(fields)));
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(found.metadata()), options)?;
        Ok(Self { file, metadata, label })
    }

    /// Rows.
    pub(super) fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Its batches, with the wanted columns that have any values: a missing column reads as one without values.
    pub(super) fn batches(self, columns: Columns, batch_rows: usize) -> anyhow::Result<ParquetRecordBatchReader> {
        let table = self.label.table;
        let is_wanted = |field: &FieldRef| match columns {
            Columns::Read => table.reads(field.name()),
            Columns::All => table.schema().field_with_name(field.name()).is_ok(),
        };
        let groups = self.metadata.metadata().row_groups();
        let is_empty = |index: usize| {
            let nulls = |group: &RowGroupMetaData| group.columns().get(index)?.statistics()?.null_count_opt();
            groups.iter().all(|group| nulls(group).is_some_and(|nulls| nulls as i64 == group.num_rows()))
        };
        let fields = self.metadata.schema().fields();
        let wanted = fields
            .iter()
            .enumerate()
            .filter(|(index, field)| is_wanted(field) && !(field.is_nullable() && is_empty(*index)));
        let wanted: Vec<usize> = wanted.map(|(index, _)| index).collect();
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), wanted);
        let metadata = if columns == Columns::Read { without_sparse_words(&self.metadata)? } else { self.metadata };
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file, metadata);
        Ok(builder.with_projection(mask).with_batch_size(batch_rows).build()?)
    }
}

/// Reads columns of words with hardly any values as text. For a batch without any, the decoder would build a dictionary
/// of its nulls, one comparison for each.
fn without_sparse_words(metadata: &ArrowReaderMetadata) -> anyhow::Result<ArrowReaderMetadata> {
    let groups = metadata.metadata().row_groups();
    let nulls = |index: usize| -> Option<u64> {
        groups.iter().map(|group| group.columns().get(index)?.statistics()?.null_count_opt()).sum()
    };
    let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
    let fields = metadata.schema().fields().iter().enumerate().map(|(index, field)| {
        let is_words = matches!(field.data_type(), DataType::Dictionary(_, text) if **text == DataType::Utf8);
        if is_words && nulls(index).is_some_and(|nulls| nulls > rows / 4) {
            Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8))
        } else {
            Arc::clone(field)
        }
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(schema);
    Ok(ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)?)
}

/// Checks sizes before memory is allocated for them.
fn check(metadata: &ParquetMetaData, file: &File) -> anyhow::Result<()> {
    let file_bytes = file.metadata()?.len();
    let rows = metadata.file_metadata().num_rows();
    if !(0..=LARGEST_ROWS).contains(&rows) {
        bail!("claims to contain more rows than is possible");
    }
    let mut sum = 0_i64;
    for group in metadata.row_groups() {
        if group.num_rows() < 0 {
            bail!("has a group of rows without a size");
        }
        sum = sum.saturating_add(group.num_rows());
        for column in group.columns() {
            let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let length = column.compressed_size();
            let end = start.checked_add(length).filter(|_| start >= 0 && length >= 0);
            let end = end.and_then(|end| u64::try_from(end).ok()).context("has a column outside of itself")?;
            if end > file_bytes || !(0..=LARGEST_SPREAD).contains(&column.uncompressed_size()) {
                bail!("has a column outside of itself");
            }
            pages::check(file, start.unsigned_abs()..end)?;
        }
    }
    if sum != rows {
        bail!("does not have the rows that it claims");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use crate::schema::{Newer, SCHEMA};
    use arrow_array::{ArrayRef, BooleanArray, UInt32Array, UInt64Array};
    use arrow_schema::{DataType, Field};
    use std::path::PathBuf;

    fn place() -> (tempfile::TempDir, RecordingDir) {
        let folder = tempfile::tempdir().unwrap();
        let place = RecordingDir::open(folder.path()).unwrap();
        (folder, place)
    }

    fn label(schema: u32) -> Label {
        Label { schema, ..Label::new("me", Table::Sockets, 1, (0, 0)) }
    }

    /// A file as another version might have written it.
    fn foreign(place: &RecordingDir, label: &Label, columns: Vec<(Field, ArrayRef)>) {
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let options = ArrowWriterOptions::new().with_properties(properties(label).unwrap());
        let file = place.make("sockets-0001.parquet").unwrap();
        let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn numbers(name: &str) -> (Field, ArrayRef) {
        (Field::new(name, DataType::UInt64, false), Arc::new(UInt64Array::from(vec![1, 2, 3])))
    }

    /// The table's rows, as far as this version reads them.
    fn rows(place: &RecordingDir) -> anyhow::Result<usize> {
        let sealed = Sealed::open(place, Some("me"), Table::Sockets, 1)?;
        let [.., mut sockets] = Table::readers();
        let mut rows = 0;
        for batch in sealed.batches(Columns::Read, 1024)? {
            sockets.load(&batch?)?;
            rows += (0..).take_while(|row| sockets.order(*row).is_some()).count();
        }
        Ok(rows)
    }

    #[test]
    fn columns_may_be_added_and_those_that_may_be_null_may_be_missing() {
        let (_folder, place) = place();
        let time = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into()));
        let times = arrow_array::TimestampMicrosecondArray::from(vec![1, 2, 3]).with_timezone("UTC");
        let columns = vec![
            numbers("invented_later"),
            numbers("cookie"),
            (Field::new("time", time, false), Arc::new(times)),
            (Field::new("restated", DataType::Boolean, false), Arc::new(BooleanArray::from(vec![true, false, false]))),
            numbers("seq"),
        ];
        foreign(&place, &label(SCHEMA), columns);
        assert_eq!(rows(&place).unwrap(), 3);
    }

    #[test]
    fn columns_of_another_type_are_errors() {
        for name in ["seq", "cookie"] {
            let (_folder, place) = place();
            let other =
                (Field::new(name, DataType::UInt32, false), Arc::new(UInt32Array::from(vec![1, 2, 3])) as ArrayRef);
            foreign(&place, &label(SCHEMA), vec![other]);
            assert!(rows(&place).is_err());
        }
    }

    #[test]
    fn newer_schema_is_not_taken_for_damage() {
        let (_folder, place) = place();
        foreign(&place, &label(SCHEMA + 1), vec![numbers("seq")]);
        assert!(rows(&place).err().unwrap().is::<Newer>());
    }

    #[test]
    fn an_attempt_that_fails_leaves_nothing() {
        let (folder, place) = place();
        let result =
            place.replace("sockets-0001.parquet", |file| write(file, &label(SCHEMA), &mut || bail!("no more")));
        assert!(result.is_err());
        let left: Vec<PathBuf> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}
