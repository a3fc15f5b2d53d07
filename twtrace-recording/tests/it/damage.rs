//! Damaged recordings: reading one either fails with an error that names the file, or returns what can be read and
//! states the loss. It never panics, and never returns Events that were not recorded.

use crate::common::read;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use twtrace_core::event::Event;
use twtrace_recording::reader::Recording;
use twtrace_recording::writer::{Keep, Recorder, WriteOptions};
use twtrace_testkit::chance::Random;
use twtrace_testkit::churn::Churn;

/// A recording of a few segments, the last of them open.
struct Sample {
    folder: tempfile::TempDir,
    events: Vec<Event>,
    /// Contents of its files.
    files: BTreeMap<String, Vec<u8>>,
}

impl Sample {
    fn new(hostname: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("whole.twt");
        // Segments of a minute.
        let keep = Some(Keep::Time(std::time::Duration::from_secs(16 * 60)));
        let mut recorder = Recorder::create(&path, WriteOptions { keep, ..WriteOptions::default() }).unwrap();
        let mut events = Vec::new();
        let mut churn = Churn::new(5.0);
        churn.start(&mut |event| {
            let event = match event {
                Event::Start { at_ns, unix_ns, mut host, tracing } => {
                    host.hostname = hostname.to_owned();
                    Event::Start { at_ns, unix_ns, host, tracing }
                }
                other => other,
            };
            events.push(event);
        });
        for _ in 0..700 {
            churn.connection(&mut |event| events.push(event));
        }
        events.iter().for_each(|event| recorder.record(event).unwrap());
        // As after a kill.
        drop(recorder);
        let (found, losses) = read(&Recording::open(&path).unwrap());
        assert_eq!(losses, []);
        assert!(events.starts_with(&found));
        let files: BTreeMap<_, _> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        for name in ["connections-0001.parquet", "connections-0002.parquet", "connections-0003.arrows"] {
            assert!(files.contains_key(name), "{:?}", files.keys());
        }
        Self { folder, events: found, files }
    }

    /// The same with one file as given, or without it.
    fn with(&self, name: &str, content: Option<&[u8]>) -> PathBuf {
        let path = self.folder.path().join("damaged.twt");
        fs::create_dir_all(&path).unwrap();
        for (other, bytes) in &self.files {
            let file = path.join(other);
            if other != name && fs::metadata(&file).map(|found| found.len()).ok() != Some(bytes.len() as u64) {
                fs::write(file, bytes).unwrap();
            }
        }
        match content {
            Some(content) => fs::write(path.join(name), content).unwrap(),
            None => drop(fs::remove_file(path.join(name))),
        }
        path
    }

    /// Result of reading a damaged one.
    fn outcome(&self, path: &Path, name: &str, what: &str) -> Fate {
        let recording = match Recording::open(path) {
            Ok(recording) => recording,
            Err(error) => {
                let said = error.to_string();
                let file = said.split(": ").nth(1).unwrap().split(' ').next().unwrap();
                assert!(self.files.contains_key(file), "{name} {what}: {said}");
                return Fate::Refused(said);
            }
        };
        let mut replay = recording.replay().unwrap();
        let mut found = Vec::new();
        while replay.advance(u64::MAX, &mut |event| found.push(event)).unwrap() {}
        let info = recording.info().clone().after(replay.losses(), replay.connections_lost());
        let connections = |events: &[Event]| events.iter().filter(|event| is_connection(event)).count() as u64;
        let (read, all) = (connections(&found), connections(&self.events));
        assert_eq!(info.connections, read, "{name} {what}: {info:?}");
        // Never more than were recorded, and all of them unless it reports a loss.
        let counted = info.connections + info.connections_lost;
        assert!(counted == all || (info.lost_more && counted < all), "{name} {what}: {counted} of {all}, {info:?}");
        assert_eq!(info.is_cut(), !info.losses.is_empty());
        let losses = info.losses;
        if found == self.events && losses.is_empty() {
            return Fate::Whole;
        }
        assert!(!losses.is_empty(), "{name} {what}: {} of {} without a loss", found.len(), self.events.len());
        assert!(losses.iter().all(|loss| !loss.file.is_empty() && !loss.what.is_empty()));
        assert!(is_part(&found, &self.events), "{name} {what}: other Events");
        Fate::Lost(losses.into_iter().map(|loss| format!("{}: {}", loss.file, loss.what)).collect())
    }

    /// Puts the original file back.
    fn restore(&self, name: &str) {
        fs::write(self.folder.path().join("damaged.twt").join(name), &self.files[name]).unwrap();
    }
}

/// Whether it is a row of `connections`.
fn is_connection(event: &Event) -> bool {
    matches!(event, Event::Connection(_) | Event::ConnectFailed(_) | Event::BindFailed(_))
}

#[derive(Debug, PartialEq)]
enum Fate {
    Whole,
    Lost(Vec<String>),
    Refused(String),
}

/// Whether `found` is a part of `all`, in the same order, except for restated events.
fn is_part(found: &[Event], all: &[Event]) -> bool {
    let again = |event: &&Event| {
        !matches!(
            event,
            Event::Start { .. }
                | Event::Process { .. }
                | Event::Container { .. }
                | Event::User { .. }
                | Event::Namespace { .. }
                | Event::SocketOwners { .. }
                | Event::BoundConnect { .. }
        )
    };
    let mut all = all.iter().filter(again);
    found.iter().filter(again).all(|event| all.any(|other| other == event))
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let sample = Sample::new("web-1");
    let mut random = Random::new(3);
    for (name, bytes) in &sample.files {
        let (mut whole, mut lost, mut refused) = (0, 0, 0);
        // The ends of a file are its structure; of the rest, a sample.
        let edge = 64.min(bytes.len());
        let middle = (0..10).map(|_| random.below(bytes.len() as u64) as usize);
        let places: Vec<usize> =
            (0..edge).step_by(7).chain((bytes.len() - edge..bytes.len()).step_by(7)).chain(middle).collect();
        for place in places {
            let bit = random.below(8);
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            let path = sample.with(name, Some(&damaged));
            match sample.outcome(&path, name, &format!("with bit {bit} of byte {place} flipped")) {
                Fate::Whole => whole += 1,
                Fate::Lost(_) => lost += 1,
                Fate::Refused(_) => refused += 1,
            }
        }
        sample.restore(name);
        println!("{name}: {whole} whole, {lost} with losses, {refused} refused");
        assert_eq!((whole, refused), (0, 0), "{name}");
    }
}

#[test]
fn files_cut_short_are_read_as_far_as_they_are_whole() {
    let sample = Sample::new("web-1");
    for (name, bytes) in &sample.files {
        for length in [0, 1, 4, 8, 12, 64, bytes.len() / 2, bytes.len() - 9, bytes.len() - 8, bytes.len() - 1] {
            let path = sample.with(name, Some(&bytes[..length.min(bytes.len() - 1)]));
            let fate = sample.outcome(&path, name, &format!("cut to {length} bytes"));
            // The last byte of the manifest is the end of its line.
            let is_line = name == "recording.json" && length == bytes.len() - 1;
            assert!(matches!(fate, Fate::Lost(_)) || is_line, "{name} cut to {length} bytes: {fate:?}");
        }
        let longer = [bytes.as_slice(), b"more"].concat();
        let fate = sample.outcome(&sample.with(name, Some(&longer)), name, "with more at its end");
        // What follows the last whole checksum was not written to its end.
        assert!(matches!(fate, Fate::Lost(_)) || name.ends_with(".sums"), "{name}: {fate:?}");
        sample.restore(name);
    }
}

#[test]
fn missing_files_are_named() {
    let sample = Sample::new("web-1");
    for name in sample.files.keys() {
        let fate = sample.outcome(&sample.with(name, None), name, "missing");
        let Fate::Lost(losses) = fate else { panic!("{name}: {fate:?}") };
        let stem = name.split('.').next().unwrap();
        assert!(losses.iter().any(|loss| loss.starts_with(stem)), "{name}: {losses:?}");
        println!("{name}: {losses:?}");
    }
}

#[test]
fn files_of_others_are_not_taken_for_its_own() {
    let sample = Sample::new("web-1");
    let other = Sample::new("web-2");
    for (name, bytes) in &other.files {
        if name == "recording.json" {
            continue;
        }
        let fate = sample.outcome(&sample.with(name, Some(bytes)), name, "of another recording");
        let Fate::Lost(losses) = fate else { panic!("{name}: {fate:?}") };
        println!("{name}: {losses:?}");
        sample.restore(name);
    }
    let path = sample.with("recording.json", Some(&other.files["recording.json"]));
    let fate = sample.outcome(&path, "recording.json", "of another recording");
    let Fate::Refused(said) = fate else { panic!("{fate:?}") };
    assert!(said.contains("another recording"), "{said}");
    sample.restore("recording.json");
    // One segment under the name of another.
    for (name, under) in [
        ("connections-0001.parquet", "connections-0002.parquet"),
        ("host-0001.parquet", "processes-0001.parquet"),
        ("connections-0003.arrows", "sockets-0003.arrows"),
        ("connections-0003.sums", "sockets-0003.sums"),
    ] {
        let fate = sample.outcome(&sample.with(under, Some(&sample.files[name])), under, "under a wrong name");
        assert!(matches!(fate, Fate::Lost(_)), "{fate:?}");
        println!("{under}: {fate:?}");
        sample.restore(under);
    }
}

#[test]
fn recordings_from_the_future_say_what_to_do() {
    let sample = Sample::new("web-1");
    let manifest = String::from_utf8(sample.files["recording.json"].clone()).unwrap();
    let (own, _) = manifest.rsplit_once(",\"crc32\":").unwrap();
    let future = own.replace("\"schema\": 1", "\"schema\": 2").replace("twtrace 0", "twtrace 9");
    let sum = crc32fast::hash(future.strip_prefix("{\"recording\":").unwrap().as_bytes());
    let future = format!("{future},\"crc32\":{sum}}}\n");
    assert_ne!(future, manifest);
    let path = sample.with("recording.json", Some(future.as_bytes()));
    let Fate::Refused(said) = sample.outcome(&path, "recording.json", "from the future") else { panic!() };
    assert!(said.contains("was written by twtrace 9") && said.contains("upgrade twtrace"), "{said}");
}

#[test]
fn a_segment_that_is_lost_is_a_gap() {
    let sample = Sample::new("web-1");
    let path = sample.with("sockets-0002.parquet", None);
    let recording = Recording::open(&path).unwrap();
    let (found, _) = read(&recording);
    let count = |events: &[Event], is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
    // The next segment restates the owners of those connections, but it is the same trace.
    assert_eq!(count(&found, |event| matches!(event, Event::Start { .. })), 1);
    assert_eq!(count(&found, |event| matches!(event, Event::User { .. })), 2);
    assert!(count(&found, |event| matches!(event, Event::Process { .. })) > 10);
    let connections = count(&found, |event| matches!(event, Event::Connection(_)));
    assert!((600..1000).contains(&connections), "{connections}");
    // Without the first segment it begins with a start of its own.
    sample.restore("sockets-0002.parquet");
    let recording = Recording::open(&sample.with("connections-0001.parquet", None)).unwrap();
    let (found, _) = read(&recording);
    assert!(matches!(&found[0], Event::Start { host, .. } if host.hostname == "web-1"), "{:?}", found[0]);
    assert_eq!(recording.info().host.hostname, "web-1");
}

#[test]
fn what_is_no_recording_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| Recording::open(path).map(|_| ()).unwrap_err().to_string();
    assert!(refused(&folder.path().join("no.twt")).contains("No such file"));
    assert!(refused(folder.path()).contains("recording.json is missing"));
    let file = folder.path().join("file.twt");
    fs::write(&file, "text").unwrap();
    assert!(refused(&file).contains("Not a directory"));
    // Links and pipes are not followed.
    let sample = Sample::new("web-1");
    let path = sample.with("host-0001.parquet", None);
    let elsewhere = sample.folder.path().join("whole.twt/host-0001.parquet");
    std::os::unix::fs::symlink(elsewhere, path.join("host-0001.parquet")).unwrap();
    let info = Recording::open(&path).unwrap().info().clone();
    assert_eq!(info.losses[0].file, "host-0001.parquet");
    fs::remove_file(path.join("host-0001.parquet")).unwrap();
    nix::unistd::mkfifo(&path.join("host-0001.parquet"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let info = Recording::open(&path).unwrap().info().clone();
    assert!(info.losses[0].what.contains("not a regular file"), "{:?}", info.losses);
}

#[test]
fn without_a_manifest_nothing_crashes_and_it_is_said_that_nothing_is_sure() {
    let sample = Sample::new("web-1");
    let mut random = Random::new(11);
    for (name, bytes) in sample.files.iter().filter(|(name, _)| name.ends_with(".parquet")) {
        for round in 0..10 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 3 {
                // Mostly the footer: it states the sizes of everything.
                let reach = if round % 2 == 0 { 2500.min(bytes.len()) } else { bytes.len() };
                let place = bytes.len() - 1 - random.below(reach as u64) as usize;
                damaged[place] = random.next() as u8;
            }
            let path = sample.with(name, Some(&damaged));
            drop(fs::remove_file(path.join("recording.json")));
            match Recording::open(&path) {
                Ok(recording) => {
                    assert_eq!(recording.info().losses[0].file, "recording.json");
                    read(&recording);
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
        sample.restore(name);
    }
}
