//! Segments: where one ends and the next begins, what is dropped, and what readers see meanwhile.

use crate::common::{may_be_repeated, read, record, replay};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use twtrace_core::event::Event;
use twtrace_recording::reader::{ReadOptions, Recording};
use twtrace_recording::writer::{Keep, Recorder, WriteOptions};
use twtrace_testkit::chance::Random;
use twtrace_testkit::churn::churn;

/// Keeps two megabytes, so that segments are small; less is written.
fn small_segments() -> WriteOptions {
    WriteOptions { keep: Some(Keep::Bytes(2 << 20)), ..WriteOptions::default() }
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_long_recording_has_several_segments() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.twt");
    // 33 minutes.
    let events = churn(4_000, 2.0);
    record(&path, &events, WriteOptions::default());
    let segments = names(&path).iter().filter(|name| name.starts_with("connections-")).count();
    assert_eq!(segments, 4);
    assert!(replay(&path) == events);
    let info = Recording::open(&path).unwrap().info().clone();
    assert!(info.finished && info.segments_dropped == 0);
    assert_eq!((info.connections, info.host.hostname.as_str()), (8_000, "web-1"));
    let files = names(&path).into_iter().map(|name| fs::metadata(path.join(name)).unwrap().len());
    assert_eq!(info.bytes, files.sum::<u64>());
    // For each of them, to the microsecond.
    assert_eq!(info.start_unix_ns, 1_790_000_000_123_456_000);
    let minutes = (info.end_unix_ns - info.start_unix_ns) / 60_000_000_000;
    assert!((33..36).contains(&minutes), "{minutes}");
}

#[test]
fn a_flight_recorder_keeps_the_last_part_which_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flight.twt");
    let events = churn(20_000, 500.0);
    let keep = Duration::from_secs(80);
    let mut recorder =
        Recorder::create(&path, WriteOptions { keep: Some(Keep::Time(keep)), ..WriteOptions::default() }).unwrap();
    let mut whole = 0;
    for event in &events {
        recorder.record(event).unwrap();
        whole += usize::from(recorder.wants_whole_census());
    }
    let progress = recorder.finish().unwrap();
    // One for each segment but the first, whose census is whole anyway.
    assert_eq!(whole as u64 + 1, progress.segments);
    assert!(progress.segments_dropped > 0 && progress.segments > progress.segments_dropped, "{progress:?}");
    let recording = Recording::open(&path).unwrap();
    let info = recording.info();
    assert_eq!((&info.losses[..], info.segments_dropped), (&[][..], progress.segments_dropped));
    assert_eq!(info.bytes, progress.bytes + fs::metadata(path.join("recording.json")).unwrap().len());
    let kept = Duration::from_nanos((info.end_unix_ns - info.start_unix_ns) as u64);
    assert!(kept >= keep && kept < keep + Duration::from_secs(70), "{kept:?}");
    let (found, losses) = read(&recording);
    assert_eq!(losses, []);
    let Event::Start { at_ns, unix_ns, host, .. } = &found[0] else { panic!("{:?}", found[0]) };
    let Event::Start { at_ns: first_ns, unix_ns: first_unix_ns, host: first_host, .. } = &events[0] else { panic!() };
    assert_eq!(host, first_host);
    assert_eq!(unix_ns - i128::from(*at_ns), first_unix_ns - i128::from(*first_ns));
    assert_eq!(unix_ns / 1000, info.start_unix_ns / 1000);
    let again = |is: fn(&Event) -> bool| found.iter().filter(|event| is(event)).count();
    assert_eq!(again(|event| matches!(event, Event::User { .. })), 1);
    assert_eq!(again(|event| matches!(event, Event::Namespace { .. })), 1);
    // Those that still created connections.
    assert_eq!(again(|event| matches!(event, Event::Process { .. })), 5);
    let rest: Vec<&Event> = found.iter().filter(|event| !may_be_repeated(event)).collect();
    let all: Vec<&Event> = events.iter().filter(|event| !may_be_repeated(event)).collect();
    assert!(all.ends_with(&rest), "not the last part");
    assert!(rest.len() > 1000);
}

#[test]
fn a_limit_of_bytes_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.twt");
    let limit = 1 << 20;
    let mut recorder =
        Recorder::create(&path, WriteOptions { keep: Some(Keep::Bytes(limit)), ..WriteOptions::default() }).unwrap();
    let (mut begun, mut largest) = (0, 0);
    for event in churn(100_000, 2000.0) {
        recorder.record(&event).unwrap();
        if recorder.wants_whole_census() {
            begun += 1;
            // A real trace never has a segment that waits for the one before: a segment is larger until it is sealed.
            let since = Instant::now();
            while recorder.progress().segments < begun {
                assert!(since.elapsed() < Duration::from_secs(60), "{:?}", recorder.progress());
                thread::sleep(Duration::from_millis(1));
            }
        }
        largest = largest.max(recorder.progress().bytes);
    }
    let progress = recorder.finish().unwrap();
    assert!(progress.segments_dropped > 0, "{progress:?}");
    assert!(progress.bytes <= limit && progress.bytes >= limit / 2, "{progress:?}");
    let kept = Recording::open(&path).unwrap().info().connections;
    assert!(kept > 20_000, "{kept}");
}

#[test]
fn others_read_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live.twt");
    let events = churn(30_000, 2000.0);
    let over = AtomicBool::new(false);
    let (sender, counts) = channel();
    thread::scope(|scope| {
        let mut recorder = Recorder::create(&path, small_segments()).unwrap();
        let reader = scope.spawn(|| {
            // It is dropped with the reader: the test does not wait for a reader that has failed.
            let sender = sender;
            while !over.load(Ordering::Relaxed) {
                // In batches that end anywhere.
                let recording = Recording::open(&path).unwrap().with_options(ReadOptions { batch_rows: 97 });
                assert_eq!(recording.info().losses, []);
                assert!(!recording.info().finished);
                let (found, losses) = read(&recording);
                assert_eq!(losses, []);
                assert!(events.starts_with(&found), "{} of {}", found.len(), events.len());
                sender.send(found.len()).unwrap();
                // The same one again, when some of its files may be gone.
                thread::sleep(Duration::from_millis(20));
                let (again, losses) = read(&recording);
                assert_eq!(losses, []);
                assert!(events.starts_with(&again) && again.len() >= found.len());
            }
        });
        let mut seen = Vec::new();
        for (number, piece) in events.chunks(1000).enumerate() {
            piece.iter().for_each(|event| recorder.record(event).unwrap());
            thread::sleep(Duration::from_millis(20));
            if number % 10 == 0 {
                // However long the other one takes.
                seen.push(counts.recv().unwrap());
            }
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while seen.last() == seen.first() && Instant::now() < deadline {
            seen.push(counts.recv().unwrap());
        }
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        seen.extend(counts);
        assert!(seen.len() > 3 && seen.is_sorted() && seen.last() > seen.first(), "{seen:?}");
        assert!(recorder.finish().unwrap().segments > 3);
    });
    assert!(replay(&path) == events);
}

/// Files of a folder at one moment, or `None` when any of them changed meanwhile.
fn copy(from: &Path, to: &Path) -> Option<()> {
    let now = || -> Option<_> {
        let names = names(from);
        let sizes: Vec<u64> =
            names.iter().map(|name| Some(fs::metadata(from.join(name)).ok()?.len())).collect::<Option<_>>()?;
        Some((names, sizes, fs::read(from.join("recording.json")).ok()?))
    };
    let before = now()?;
    fs::create_dir(to).unwrap();
    for name in &before.0 {
        fs::copy(from.join(name), to.join(name)).ok()?;
    }
    (before == now()?).then_some(())
}

/// Copies that are taken while a recording is written.
const COPIES: usize = 20;

#[test]
fn whenever_it_is_killed_it_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("killed.twt");
    let events = churn(30_000, 2000.0);
    let (over, copied) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut recorder = Recorder::create(&path, small_segments()).unwrap();
    let copies = thread::scope(|scope| {
        let copier = scope.spawn(|| {
            let mut random = Random::new(7);
            let mut copies = Vec::new();
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(random.below(20)));
                let to = folder.path().join(format!("copy-{}.twt", copies.len()));
                match copy(&path, &to) {
                    Some(()) => {
                        copies.push(to);
                        copied.store(copies.len(), Ordering::Relaxed);
                    }
                    // It changed meanwhile.
                    None => drop(fs::remove_dir_all(to)),
                }
            }
            copies
        });
        let pieces = events.chunks(1000);
        for (number, piece) in pieces.clone().enumerate() {
            piece.iter().for_each(|event| recorder.record(event).unwrap());
            thread::sleep(Duration::from_millis(15));
            // Spread over the whole of it, on a slow machine too.
            while copied.load(Ordering::Relaxed) < COPIES * number / pieces.len() && !copier.is_finished() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        over.store(true, Ordering::Relaxed);
        drop(recorder);
        copier.join().unwrap()
    });
    assert!(copies.len() >= COPIES - 1, "{}", copies.len());
    let mut before = 0;
    for copy in copies {
        let recording = Recording::open(&copy).unwrap_or_else(|error| panic!("{copy:?}: {error}"));
        let (found, losses) = read(&recording);
        assert_eq!(losses, []);
        assert!(events.starts_with(&found), "{copy:?}");
        // At most what was being written at that moment.
        assert!(recording.info().losses.iter().all(|loss| loss.file.ends_with(".arrows")), "{:?}", recording.info());
        assert!(found.len() >= before, "{copy:?}");
        before = found.len();
    }
    // All but what was not handed over yet, which is half a second of it, and what was on its way to the disk.
    let (found, _) = read(&Recording::open(&path).unwrap());
    assert!(events.starts_with(&found));
    assert!(found.iter().filter(|event| matches!(event, Event::Connection(_))).count() > 57_000);
}

#[test]
fn nothing_is_replaced_but_a_recording_and_only_with_overwrite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.twt");
    let overwrite = WriteOptions { overwrite: true, ..WriteOptions::default() };
    let refused = |path: &Path, options| Recorder::create(path, options).err().map(|error| error.to_string()).unwrap();
    record(&path, &churn(10, 10.0), WriteOptions::default());
    assert!(refused(&path, WriteOptions::default()).contains("--overwrite"));
    record(&path, &churn(20, 10.0), overwrite);
    assert_eq!(Recording::open(&path).unwrap().info().connections, 40);
    let busy = Recorder::create(&path, overwrite).unwrap();
    assert!(refused(&path, overwrite).contains("right now"));
    drop(busy);
    // With a file of another program in it.
    fs::write(path.join("notes.txt"), "mine").unwrap();
    assert!(refused(&path, overwrite).contains("notes.txt"));
    let mine = folder.path().join("mine");
    fs::create_dir(&mine).unwrap();
    record(&mine, &churn(1, 10.0), overwrite);
    let photos = folder.path().join("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("a.jpg"), "me").unwrap();
    assert!(refused(&photos, overwrite).contains("no recording"));
    // A link to a recording.
    let link = folder.path().join("link.twt");
    std::os::unix::fs::symlink(&mine, &link).unwrap();
    assert!(refused(&link, overwrite).contains("no recording"));
    assert!(refused(&link, WriteOptions::default()).contains("exists"));
    // In a folder that does not exist, and a name that is not valid.
    assert!(refused(&folder.path().join("no/such.twt"), overwrite).contains("No such file"));
    assert!(refused(Path::new("/"), overwrite).contains("no name"));
    assert!(refused(Path::new(".."), overwrite).contains("no name"));
}

#[test]
fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.twt");
    record(&path, &churn(10, 10.0), WriteOptions::default());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o700);
    for name in names(&path) {
        assert_eq!(mode(&path.join(&name)), 0o600, "{name}");
    }
    let recorder = Recorder::create(&folder.path().join("b.twt"), WriteOptions::default()).unwrap();
    drop(recorder);
}

#[test]
fn a_folder_that_vanishes_ends_it_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.twt");
    let events = churn(20_000, 500.0);
    let mut recorder = Recorder::create(&path, WriteOptions::default()).unwrap();
    let (first, rest) = events.split_at(5000);
    first.iter().for_each(|event| recorder.record(event).unwrap());
    thread::sleep(Duration::from_millis(100));
    fs::remove_dir_all(&path).unwrap();
    let failed = rest.iter().find_map(|event| {
        thread::sleep(Duration::from_micros(if matches!(event, Event::Tick { .. }) { 1000 } else { 0 }));
        recorder.record(event).err()
    });
    let said = failed.unwrap().to_string();
    assert!(said.contains("removed") && said.contains("a.twt"), "{said}");
    assert!(recorder.finish().is_err());
}

#[test]
fn end_of_a_recording_in_progress_is_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (path, kept) = (folder.path().join("flight.twt"), folder.path().join("kept.twt"));
    let events = churn(20_000, 500.0);
    let keep = Some(Keep::Time(Duration::from_secs(80)));
    let mut recorder = Recorder::create(&path, WriteOptions { keep, ..WriteOptions::default() }).unwrap();
    let (before, after) = events.split_at(events.len() * 9 / 10);
    before.iter().for_each(|event| recorder.record(event).unwrap());
    let last = Duration::from_secs(10);
    let (done, frozen) = channel();
    recorder.freeze(kept.clone(), last, done);
    // The segment ends at the next tick, and what comes after it is no part of what is kept.
    after.iter().for_each(|event| recorder.record(event).unwrap());
    let frozen = frozen.recv().unwrap().unwrap();
    let (done, again) = channel();
    recorder.freeze(kept.clone(), last, done);
    recorder.record(events.iter().rfind(|event| matches!(event, Event::Tick { .. })).unwrap()).unwrap();
    assert!(again.recv().unwrap().is_err(), "a name is used once");
    recorder.finish().unwrap();

    let recording = Recording::open(&kept).unwrap();
    let info = recording.info();
    assert!(info.finished && info.losses.is_empty() && info.segments_dropped > 0, "{info:?}");
    assert_eq!(
        (info.start_unix_ns, info.end_unix_ns),
        (i128::from(frozen.from_us) * 1000, i128::from(frozen.to_us) * 1000)
    );
    let length = Duration::from_nanos((info.end_unix_ns - info.start_unix_ns) as u64);
    assert!(length >= last && length < Duration::from_secs(80), "{length:?}");
    let (found, losses) = read(&recording);
    assert_eq!(losses, []);
    let ends = |events: &[Event]| -> Vec<u64> {
        let end = |event: &Event| match event {
            Event::Connection(connection) => Some(connection.end_ns),
            _ => None,
        };
        events.iter().filter_map(end).collect()
    };
    // The last of what came before, and none of what followed but those of the tick that ended it.
    let (found, before, all) = (ends(&found), ends(before), ends(&events));
    assert!(found.len() > 100 && all.windows(found.len()).any(|part| part == found), "{}", found.len());
    assert!(found.last() >= before.last());
    // It stays when the flight recorder has dropped the same segments.
    assert!(Recording::open(&path).unwrap().info().finished);
}
