//! Recordings of many hosts as one dataset: Parquet files by host and day, in folders that DuckDB, Spark and others take for
//! columns (`host=web1/date=2026-09-21`).
//!
//! Each segment of a recording gives a file of its own, whose name follows from the recording's id and the segment's number. So
//! a recording that is added again replaces what it gave before, one in progress adds what is new, and what `--keep` has
//! dropped meanwhile stays in the dataset.

use super::out::Sink;
use super::{Format, Target, chosen, joined, open, schema};
use crate::Loss;
use crate::reader::Recording;
use crate::tables::Table;
use anyhow::Context as _;
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{PrimitiveArray, RecordBatch};
use arrow_schema::SchemaRef;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What a dataset has: the connections with their processes, and what the kernel said of each network namespace.
pub const TABLES: [Table; 2] = [Table::Connections, Table::Kernel];

/// Length of a day, microseconds.
const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// Days of one segment whose files are open at a time. A clock that jumps back and forth could name any number.
const OPEN: usize = 16;

/// Adds a recording to the dataset in a folder, which is created if there is none. Returns what could not be read.
///
/// # Errors
/// A file cannot be written. Those that are there are whole.
pub fn add(recording: &Recording, folder: &Path) -> anyhow::Result<Vec<Loss>> {
    let mut losses = Vec::new();
    let info = recording.info();
    for table in TABLES {
        let place = folder.join(table.name()).join(format!("host={}", escaped(&info.host.hostname)));
        let schema = schema(table)?;
        let mut next_seq = None;
        for segment in recording.segments() {
            let Some((mut rows, processes)) = open(recording, *segment, table, &mut losses)? else { continue };
            let name = format!("{}-{:06}.parquet", info.id, segment.segment);
            let (first_seq, end_seq) = rows.seqs();
            let is_first = next_seq.replace(end_seq) != Some(first_seq);
            let mut days = Days { place: &place, name: &name, schema: &schema, open: BTreeMap::new() };
            loop {
                match rows.next() {
                    Ok(Some(batch)) => {
                        for day in days_of(&batch) {
                            let batch = chosen(&batch, &(day * DAY_US..(day + 1) * DAY_US), is_first)?;
                            days.write(day, &joined(&batch, processes.as_ref(), &schema)?)?;
                        }
                    }
                    Ok(None) => break,
                    Err(loss) => {
                        losses.push(loss);
                        next_seq = None;
                        break;
                    }
                }
            }
            days.finish()?;
        }
    }
    Ok(losses)
}

/// The days since the Unix epoch (UTC) that rows fall on.
fn days_of(batch: &RecordBatch) -> Vec<i64> {
    let times = batch.column_by_name("time").and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let mut days: Vec<i64> =
        times.into_iter().flat_map(PrimitiveArray::values).map(|time| time.div_euclid(DAY_US)).collect();
    days.sort_unstable();
    days.dedup();
    days
}

/// The files of one segment, by day.
struct Days<'a> {
    place: &'a Path,
    name: &'a str,
    schema: &'a SchemaRef,
    open: BTreeMap<i64, Sink<Target>>,
}

impl Days<'_> {
    fn write(&mut self, day: i64, batch: &RecordBatch) -> anyhow::Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let is_full = self.open.len() >= OPEN;
        let sink = match self.open.entry(day) {
            Entry::Occupied(sink) => sink.into_mut(),
            Entry::Vacant(_) if is_full => anyhow::bail!("a segment names more than {OPEN} days: its clock is wrong"),
            Entry::Vacant(place) => {
                let path = self.place.join(format!("date={}", date(day)));
                fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
                let target = Target::open(Some(&path.join(self.name)))?;
                place.insert(Sink::new(Format::Parquet, self.schema, target)?)
            }
        };
        sink.write(batch)
    }

    /// The files get their names.
    fn finish(self) -> anyhow::Result<()> {
        self.open.into_values().try_for_each(|sink| sink.finish()?.finish())
    }
}

/// A day as `2026-09-21`. One that no calendar has is the first one of Unix.
fn date(day: i64) -> String {
    let moment = Timestamp::from_microsecond(day.saturating_mul(DAY_US)).unwrap_or_default();
    moment.strftime("%F").to_string()
}

/// A host's name as part of a path. Anything but letters, digits, `-`, `_` and `.` becomes `%XX`, as Hive and Spark do, and so
/// does a first character that would hide the folder from them.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || at > 0 && matches!(byte, b'-' | b'_' | b'.');
        if is_plain {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    if escaped.is_empty() { "unnamed".to_owned() } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_stay_in_their_folder() {
        for (name, is) in [
            ("web-1.example", "web-1.example"),
            ("007", "007"),
            ("", "unnamed"),
            ("..", "%2E."),
            ("../../etc", "%2E.%2F..%2Fetc"),
            ("_hidden", "%5Fhidden"),
            ("a=b\n\u{fc}", "a%3Db%0A%C3%BC"),
        ] {
            assert_eq!(escaped(name), is);
        }
    }

    #[test]
    fn days_are_those_of_utc() {
        assert_eq!((date(0), date(20_717), date(-1)), ("1970-01-01".into(), "2026-09-21".into(), "1969-12-31".into()));
        assert_eq!(date(i64::MAX), "1970-01-01");
    }
}
