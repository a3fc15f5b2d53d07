//! Recordings of many hosts as one dataset: `TABLE/host=NAME/date=DAY/part-ID.parquet`, the partitions of Hive, which
//! DuckDB, Spark and most others read as a table with the columns `date` and `host`.
//!
//! The name of a part follows from the recording, the day and the table. So a recording that is exported again, perhaps
//! because it has grown, replaces its own parts, and no other recording's.

use super::out::Sink;
use super::{Format, Restated, Table, Target, each_batch, int64};
use crate::Loss;
use crate::guard::guarded;
use crate::reader::Recording;
use crate::rows::conform;
use anyhow::{Context as _, bail};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{BooleanArray, RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take_record_batch;
use jiff::Timestamp;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const DAY_US: i64 = 86_400_000_000;

/// From 1970-01-01 on, the last day that has four digits for its year: 9999-12-31.
const LAST_DAY: i64 = 2_932_896;

/// Days of one table that are written at the same time. Rows are nearly in the order of time: two would do.
const OPEN_DAYS: usize = 4;

/// Longest name of a host, bytes: more than Linux allows (64).
const LONGEST_HOST: usize = 80;

/// Longest identity of a recording, characters.
const LONGEST_ID: usize = 64;

/// What Hive, Spark and DuckDB read as a missing value.
const MISSING: &str = "__HIVE_DEFAULT_PARTITION__";

/// The folder of a dataset.
#[derive(Debug)]
pub struct Dataset {
    root: PathBuf,
}

/// One day that is being written.
struct Day {
    sink: Sink<Target>,
    /// When rows came last, by the number of the batch.
    used: u64,
}

/// The parts of one table of one recording.
struct Parts<'a> {
    root: &'a Path,
    table: Table,
    host: String,
    id: &'a str,
    schema: SchemaRef,
    /// Rows before this event are gone from the recording: they are taken over from an earlier export.
    first_seq: i64,
    open: BTreeMap<i64, Day>,
    closed: BTreeSet<i64>,
    batches: u64,
    /// Rows whose time is far out of order, or no time at all.
    misplaced: u64,
}

impl Dataset {
    /// Tables that it has: those whose rows have a time. Processes are in the connections.
    pub fn tables() -> impl Iterator<Item = Table> {
        Table::ALL.into_iter().filter(|table| *table != Table::Processes)
    }

    /// The dataset in a folder, which is made if there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot create the directory {}", root.display()))?;
        Ok(Self { root: root.to_owned() })
    }

    /// Writes one table of a recording, without rows that only repeat earlier ones; returns what could not be read.
    /// Each part appears under its name when it is whole.
    ///
    /// # Errors
    /// A part cannot be written, or one that is there cannot be read.
    pub fn add(&self, recording: &Recording, table: Table) -> anyhow::Result<Vec<Loss>> {
        let info = recording.info();
        let is_safe = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
        if info.id.is_empty() || info.id.len() > LONGEST_ID || !info.id.bytes().all(is_safe) {
            bail!("{} has an identity that twtrace does not give: it cannot be exported", info.path.display());
        }
        if info.host.hostname.len() > LONGEST_HOST {
            bail!("{} names a host with more bytes than Linux allows", info.path.display());
        }
        let first = recording.segments().first();
        let first_seq = first.and_then(|first| recording.rows(*first, table).ok()).map_or(0, |rows| rows.seqs().0);
        let mut parts = Parts {
            root: &self.root,
            table,
            host: partition(&info.host.hostname),
            id: &info.id,
            schema: int64::schema(super::schema(table)?.as_ref()),
            first_seq: i64::try_from(first_seq).unwrap_or(i64::MAX),
            open: BTreeMap::new(),
            closed: BTreeSet::new(),
            batches: 0,
            misplaced: 0,
        };
        let everything = i64::MIN..i64::MAX;
        let mut losses = each_batch(recording, table, &everything, Restated::Never, &mut |batch| parts.write(batch))?;
        while let Some((day, _)) = parts.open.first_key_value() {
            parts.finish(*day)?;
        }
        if parts.misplaced > 0 {
            let what = format!("has {} rows whose times are far out of order; they are left out", parts.misplaced);
            losses.push(Loss { file: table.name().to_owned(), what });
        }
        Ok(losses)
    }
}

impl Parts<'_> {
    /// Writes rows to the days of their times.
    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.batches += 1;
        let times = batch.column_by_name("time").and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        let times = times.context("rows have no time")?;
        let batch = int64::batch(&self.schema, batch)?;
        let mut days: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in (0..).zip(times.values()) {
            days.entry(time.div_euclid(DAY_US)).or_default().push(row);
        }
        for (day, rows) in days {
            if !(0..=LAST_DAY).contains(&day) || self.closed.contains(&day) {
                self.misplaced += rows.len() as u64;
                continue;
            }
            if !self.open.contains_key(&day) {
                self.begin(day)?;
            }
            let Some(open) = self.open.get_mut(&day) else { continue };
            open.used = self.batches;
            if rows.len() == batch.num_rows() {
                open.sink.write(&batch)?;
            } else {
                open.sink.write(&take_record_batch(&batch, &UInt32Array::from(rows))?)?;
            }
        }
        Ok(())
    }

    fn path(&self, day: i64) -> anyhow::Result<PathBuf> {
        let date = Timestamp::from_microsecond(day.saturating_mul(DAY_US))?.strftime("%Y-%m-%d").to_string();
        let place = self.root.join(self.table.name()).join(format!("host={}", self.host)).join(format!("date={date}"));
        Ok(place.join(format!("part-{}.parquet", self.id)))
    }

    /// Opens the part of a day.
    fn begin(&mut self, day: i64) -> anyhow::Result<()> {
        let longest = self.open.iter().min_by_key(|(day, open)| (open.used, **day)).map(|(day, _)| *day);
        if let Some(oldest) = longest.filter(|_| self.open.len() >= OPEN_DAYS) {
            self.finish(oldest)?;
        }
        let path = self.path(day)?;
        let folder = path.parent().unwrap_or(self.root);
        fs::create_dir_all(folder).with_context(|| format!("cannot create the directory {}", folder.display()))?;
        let mut sink = Sink::new(Format::Parquet, &self.schema, Target::open(Some(&path))?)?;
        if self.first_seq > 0 {
            match File::open(&path) {
                Ok(file) => guarded(|| self.keep(file, &mut sink)).with_context(|| {
                    format!("cannot read what {} has from before: remove it, or export elsewhere", path.display())
                })?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            }
        }
        self.open.insert(day, Day { sink, used: self.batches });
        Ok(())
    }

    /// Takes over the rows that the recording has dropped since they were exported.
    fn keep(&self, file: File, sink: &mut Sink<Target>) -> anyhow::Result<()> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        for batch in ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)?.build()? {
            let batch = batch?;
            let numbers = batch.column_by_name("seq").and_then(|numbers| numbers.as_primitive_opt::<Int64Type>());
            let numbers = numbers.context("has no numbers of events")?;
            let mask: BooleanArray = numbers.iter().map(|number| Some(number? < self.first_seq)).collect();
            // An earlier version may have had fewer columns.
            sink.write(&conform(&self.schema, &filter_record_batch(&batch, &mask)?)?)?;
        }
        Ok(())
    }

    /// The part of a day is whole: it gets its name.
    fn finish(&mut self, day: i64) -> anyhow::Result<()> {
        self.closed.insert(day);
        self.open.remove(&day).map_or(Ok(()), |open| open.sink.finish()?.finish())
    }
}

/// A name as the value of a partition: what a path or a reader could take for something else is written as `%2F`, byte
/// by byte.
fn partition(name: &str) -> String {
    if name.is_empty() {
        return MISSING.to_owned();
    }
    let mut safe = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            safe.push(byte.into());
        } else {
            // Writing to a String does not fail.
            let _ = write!(safe, "%{byte:02X}");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_folder() {
        for (name, folder) in [
            ("web-1.example_com", "web-1.example_com"),
            ("007", "007"),
            ("../../etc", "..%2F..%2Fetc"),
            ("a=b/c%2F\n", "a%3Db%2Fc%252F%0A"),
            ("ü", "%C3%BC"),
            ("", MISSING),
        ] {
            assert_eq!(partition(name), folder);
        }
        assert!(partition(&"\u{1b}".repeat(LONGEST_HOST)).len() + "host=".len() <= 255, "a file system takes it");
    }
}
