//! What a crash leaves of a recording: all changes of its directory are noted, and every state that a crash can leave
//! behind is built from them and read.
//!
//! A killed process leaves what it has written so far: each prefix of the changes, and within a write each prefix of
//! its bytes. A power failure may also lose whatever was not synced: content, names, or both.

use crate::common::{may_be_repeated, read};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use twtrace_core::event::Event;
use twtrace_recording::reader::Recording;
use twtrace_recording::writer::{Batching, DiskChange, Journal, Keep, Recorder, WriteOptions};
use twtrace_testkit::churn::churn;

/// Several hand-overs in each segment, and several segments.
const BATCHING: Batching = Batching { hand_over_rows: 12, segment_connections: 30 };

/// Events within three seconds.
fn events() -> Vec<Event> {
    churn(60, 20.0)
}

/// After how many of its bytes a write is cut short: after each byte of a sum, which decides what is part of the
/// recording. One table stands for all. Of the bytes of a stream that have no sum yet, and of a file that has no name
/// yet, a reader looks only at the number, so that a few places are enough.
fn cuts(name: &str, length: usize) -> Vec<usize> {
    let is_sum = name.starts_with("connections") && name.ends_with(".sums");
    if is_sum { (1..length).collect() } else { vec![length / 2] }
}

/// Records events, and returns every change of the directory.
fn changes(events: &[Event], keep: Option<Keep>) -> Vec<DiskChange> {
    let folder = tempfile::tempdir().unwrap();
    let noted = Arc::new(Mutex::new(Vec::new()));
    let journal = Journal::new({
        let noted = Arc::clone(&noted);
        move |change| noted.lock().unwrap().push(change)
    });
    let options = WriteOptions { keep, batching: BATCHING, ..WriteOptions::default() };
    let mut recorder = Recorder::journaled(&folder.path().join("crash.twt"), options, journal).unwrap();
    events.iter().for_each(|event| recorder.record(event).unwrap());
    recorder.finish().unwrap();
    noted.lock().unwrap().clone()
}

/// A directory in memory that is a file system's, as far as a recording uses one.
#[derive(Clone, Default)]
struct Disk {
    names: BTreeMap<String, usize>,
    /// Names as of the last sync of the directory.
    synced_names: BTreeMap<String, usize>,
    /// Content of each file, and what of it is synced.
    files: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Disk {
    fn apply(&mut self, change: &DiskChange) {
        match change {
            DiskChange::Create(name) => {
                let taken = self.names.insert(name.clone(), self.files.len());
                assert_eq!(taken, None, "{name}");
                self.files.push(Default::default());
            }
            DiskChange::Write(name, bytes) => self.files[self.names[name]].0.extend_from_slice(bytes),
            DiskChange::Sync(name) => {
                let (content, synced) = &mut self.files[self.names[name]];
                synced.clone_from(content);
            }
            DiskChange::Rename(from, to) => {
                let file = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), file);
            }
            DiskChange::Remove(name) => {
                self.names.remove(name).unwrap();
            }
            DiskChange::SyncDir => self.synced_names.clone_from(&self.names),
        }
    }

    /// The files after a power failure that lost content, names, or both.
    fn after_power_failure(&self, loses_content: bool, loses_names: bool) -> BTreeMap<String, &[u8]> {
        let names = if loses_names { &self.synced_names } else { &self.names };
        let content = |file: usize| {
            let (all, synced) = &self.files[file];
            if loses_content { &synced[..] } else { all }
        };
        names.iter().map(|(name, file)| (name.clone(), content(*file))).collect()
    }
}

/// A real directory that recordings are read from.
struct Real {
    folder: tempfile::TempDir,
    path: PathBuf,
    there: BTreeMap<String, Vec<u8>>,
}

impl Real {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let path = folder.path().join("crash.twt");
        fs::create_dir(&path).unwrap();
        Self { folder, path, there: BTreeMap::new() }
    }

    /// Makes it have these files.
    fn set(&mut self, files: &BTreeMap<String, &[u8]>) {
        let gone: Vec<String> = self.there.keys().filter(|name| !files.contains_key(*name)).cloned().collect();
        for name in gone {
            fs::remove_file(self.path.join(&name)).unwrap();
            self.there.remove(&name);
        }
        for (name, content) in files {
            if self.there.get(name).is_none_or(|there| there != content) {
                fs::write(self.path.join(name), content).unwrap();
                self.there.insert(name.clone(), content.to_vec());
            }
        }
    }
}

/// Reads what is there. Returns the numbers of the first event and of the one after the last.
fn survivors(path: &Path, expected: &[Event]) -> (usize, usize) {
    let Ok(recording) = Recording::open(path) else { return (0, 0) };
    let (mut found, losses) = read(&recording);
    let losses = [&recording.info().losses[..], &losses].concat();
    assert!(losses.iter().all(|loss| loss.file.ends_with(".arrows") || loss.file.ends_with(".sums")), "{losses:?}");
    found.retain(|event| !may_be_repeated(event));
    let Some(first) = found.first() else { return (0, 0) };
    let first = expected.iter().position(|event| event == first).expect("an event that was not recorded");
    let end = first + found.len();
    assert!(end <= expected.len() && found == expected[first..end], "events {first} to {end} are others");
    (first, end)
}

fn expected(events: &[Event]) -> Vec<Event> {
    events.iter().filter(|event| !may_be_repeated(event)).cloned().collect()
}

/// Reads every state that a kill can leave behind. Nothing that was readable may become unreadable, apart from the oldest
/// segments of a flight recorder.
fn kill_everywhere(events: &[Event], keep: Option<Keep>) {
    let expected = expected(events);
    let changes = changes(events, keep);
    let (mut disk, mut real) = (Disk::default(), Real::new());
    let mut end = 0;
    let mut states = 0;
    for change in &changes {
        let before = disk.clone();
        disk.apply(change);
        let cuts = match change {
            DiskChange::Write(name, bytes) if keep.is_none() => cuts(name, bytes.len()),
            _ => Vec::new(),
        };
        for cut in cuts {
            let DiskChange::Write(name, bytes) = change else { continue };
            let mut cut_short = before.clone();
            cut_short.apply(&DiskChange::Write(name.clone(), bytes[..cut].to_vec()));
            real.set(&cut_short.after_power_failure(false, false));
            let (_, there) = survivors(&real.path, &expected);
            assert!(there >= end, "{there} after {cut} bytes of a write to {name}, {end} before");
            states += 1;
        }
        real.set(&disk.after_power_failure(false, false));
        let (first, there) = survivors(&real.path, &expected);
        assert!(there >= end, "{there} after {change:?}, {end} before");
        assert!(keep.is_some() || first == 0);
        end = there;
        states += 1;
    }
    println!("{} changes, {states} states", changes.len());
    assert_eq!(end, expected.len());
    assert!(real.folder.path().is_dir());
}

#[test]
fn recording_killed_anywhere_keeps_what_was_readable() {
    kill_everywhere(&events(), None);
}

#[test]
fn flight_recorder_killed_anywhere_keeps_its_last_part() {
    kill_everywhere(&events(), Some(Keep::Time(Duration::from_secs(1))));
}

#[test]
fn power_failure_anywhere_keeps_sealed_segments() {
    let events = events();
    let expected = expected(&events);
    let (mut disk, mut real) = (Disk::default(), Real::new());
    let mut safe = 0;
    let mut sealed = 0;
    for change in &changes(&events, None) {
        disk.apply(change);
        for (loses_content, loses_names) in [(true, true), (true, false), (false, true)] {
            real.set(&disk.after_power_failure(loses_content, loses_names));
            let (_, there) = survivors(&real.path, &expected);
            assert!(there >= safe, "{there} after {change:?}, {safe} were safe before");
            if loses_content && loses_names {
                sealed += usize::from(there > safe);
                safe = there;
            }
        }
    }
    assert!(sealed >= 3, "{sealed} segments");
    assert_eq!(safe, expected.len(), "a finished recording is on the disk");
}
