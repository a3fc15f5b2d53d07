//! The recordings of three hosts as one dataset.

use super::common::record;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use twtrace_recording::export::{Dataset, Table};
use twtrace_recording::reader::Recording;
use twtrace_recording::writer::{Batching, WriteOptions};
use twtrace_testkit::fleet::{self, HOSTS};

/// Folders of the hosts, in their order.
const FOLDERS: [&str; 3] = ["host=007", "host=..%2F..%2Fweb%3D%27%22%252F%1B%5B2J", "host=db-9"];

/// A folder with a recording of each host, in several segments.
fn recorded() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let batching = Batching { segment_connections: 2000, ..Batching::default() };
    for host in 0..HOSTS.len() {
        let options = WriteOptions { batching, ..WriteOptions::default() };
        record(&folder.path().join(format!("{host}.twt")), &fleet::events(host), options);
    }
    folder
}

fn add(folder: &Path, recording: &str) -> usize {
    let dataset = Dataset::open(&folder.join("fleet")).unwrap();
    let recording = Recording::open(&folder.join(recording)).unwrap();
    let added = Dataset::tables().map(|table| dataset.add(&recording, table).unwrap());
    added.map(|losses| losses.len()).sum()
}

/// All files below a folder, by their path from there, with their content.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path().strip_prefix(folder).unwrap().to_owned();
                files.insert(path, fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

fn batches(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

/// Numbers of the events in all parts of a table.
fn seqs(folder: &Path, table: &str) -> Vec<i64> {
    let root = folder.join("fleet").join(table);
    let parts = files(&root).into_keys().flat_map(|path| batches(&root.join(path)));
    parts.flat_map(|batch| batch["seq"].as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[test]
fn each_row_is_in_the_partition_of_its_day_and_its_host() {
    let folder = recorded();
    assert_eq!((0..HOSTS.len()).map(|host| add(folder.path(), &format!("{host}.twt"))).sum::<usize>(), 0);
    let outside: BTreeSet<String> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(outside, ["0.twt", "1.twt", "2.twt", "fleet"].map(str::to_owned).into());
    let mut rows: BTreeMap<(usize, i64), u64> = BTreeMap::new();
    let root = folder.path().join("fleet");
    let mut tables = BTreeSet::new();
    for path in files(&root).into_keys() {
        let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
        let [table, host, date, part] = parts[..] else { panic!("{path:?} is at another depth") };
        assert!(part.starts_with("part-") && part.ends_with(".parquet"), "{part}");
        let host = FOLDERS.iter().position(|folder| *folder == host).unwrap();
        let day = match date {
            "date=2026-09-21" => 20_717,
            "date=2026-09-22" => 20_718,
            _ => panic!("{date} is another day"),
        };
        tables.insert(table.to_owned());
        for batch in batches(&root.join(&path)) {
            let times = batch["time"].as_primitive::<TimestampMicrosecondType>();
            assert!(times.values().iter().all(|time| time.div_euclid(86_400_000_000) == day), "{path:?}");
            let plain = |kind: &DataType| {
                use DataType::{Binary, Boolean, Int64, Timestamp, Utf8};
                matches!(kind, Binary | Boolean | Int64 | Utf8 | Timestamp(TimeUnit::Microsecond, Some(_)))
            };
            assert!(batch.schema().fields().iter().all(|field| plain(field.data_type())), "{path:?}");
            if table == "connections" {
                *rows.entry((host, day)).or_default() += batch.num_rows() as u64;
            }
        }
    }
    let mut expected: BTreeMap<(usize, i64), u64> = BTreeMap::new();
    for socket in fleet::sockets() {
        *expected.entry((socket.host, socket.end_us.div_euclid(86_400_000_000))).or_default() += 1;
    }
    assert_eq!((rows, expected.len()), (expected, 6));
    // These hosts had no censuses and no searches for owners.
    assert_eq!(tables, ["connections", "host", "kernel", "ticks"].map(str::to_owned).into());
    assert!(
        Dataset::tables().all(|table| table != Table::Processes) && Dataset::tables().count() == Table::ALL.len() - 1
    );
}

#[test]
fn what_is_exported_again_is_the_same() {
    let folder = recorded();
    add(folder.path(), "0.twt");
    let first = files(&folder.path().join("fleet"));
    add(folder.path(), "0.twt");
    assert!(first == files(&folder.path().join("fleet")), "byte by byte");
}

#[test]
fn what_a_recording_has_dropped_stays_in_the_dataset() {
    let folder = recorded();
    add(folder.path(), "0.twt");
    let before = ["connections", "ticks", "kernel"].map(|table| seqs(folder.path(), table));
    assert!(before[0].is_sorted_by(|one, next| one < next));
    // What is there without its first segment, as a recording with a limit leaves it.
    let recording = folder.path().join("0.twt");
    for entry in fs::read_dir(&recording).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name == "recording.json" || name.ends_with("-0001.parquet") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert!(Recording::open(&recording).unwrap().info().connections < before[0].len() as u64);
    add(folder.path(), "0.twt");
    assert_eq!(["connections", "ticks", "kernel"].map(|table| seqs(folder.path(), table)), before);
    // Into another one, only what it has.
    fs::remove_dir_all(folder.path().join("fleet")).unwrap();
    add(folder.path(), "0.twt");
    assert!(seqs(folder.path(), "connections").len() < before[0].len());
}

#[test]
fn what_cannot_be_read_is_not_replaced() {
    let folder = recorded();
    add(folder.path(), "0.twt");
    let root = folder.path().join("fleet/ticks");
    let part = root.join(files(&root).into_keys().next_back().unwrap());
    fs::write(&part, b"PAR1 is not all of it").unwrap();
    fs::remove_file(folder.path().join("0.twt/recording.json")).unwrap();
    for entry in fs::read_dir(folder.path().join("0.twt")).unwrap().map(Result::unwrap) {
        if entry.file_name().to_str().unwrap().ends_with("-0001.parquet") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let recording = Recording::open(&folder.path().join("0.twt")).unwrap();
    let error = Dataset::open(&folder.path().join("fleet")).unwrap().add(&recording, Table::Ticks).unwrap_err();
    assert!(error.to_string().contains("remove it, or export elsewhere"), "{error:#}");
    assert_eq!(fs::read(&part).unwrap(), b"PAR1 is not all of it");
    assert_eq!(fs::read_dir(part.parent().unwrap()).unwrap().count(), 1, "nothing was left behind");
}
