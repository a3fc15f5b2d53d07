//! Writes golden recordings: what this version writes, all later versions must read. See `tests/golden/README.md`.

mod events;

use anyhow::{Context as _, ensure};
use clap::Parser;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;
use twtrace_core::event::Event;
use twtrace_recording::reader::Recording;
use twtrace_recording::writer::{Keep, Recorder, WriteOptions};

/// Writes golden recordings, and lists of their events.
#[derive(Parser)]
struct Args {
    /// Directory such as tests/golden/schema-1. Recordings that are there are left as they are
    directory: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let directory = Args::parse().directory;
    fs::create_dir_all(&directory)?;
    for (name, events, is_finished) in
        [("finished", events::finished(), true), ("unfinished", events::unfinished(), false)]
    {
        let path = directory.join(name).with_extension("twt");
        let is_new = !path.exists();
        if is_new {
            record(&path, &events, is_finished)?;
        }
        let found = read(&path)?;
        if is_new {
            let is_whole = found.len() == events.len() || !is_finished;
            ensure!(is_whole && events.starts_with(&found), "{} has other events than it should", path.display());
        }
        let lines: String = found.iter().map(|event| format!("{event:?}\n")).collect();
        fs::write(path.with_extension("events.txt"), lines)?;
    }
    Ok(())
}

fn record(path: &Path, events: &[Event], is_finished: bool) -> anyhow::Result<()> {
    // Segments of a minute; the recordings are shorter than what is kept.
    let keep = Some(Keep::Time(Duration::from_secs(16 * 60)));
    let mut recorder = Recorder::create(path, WriteOptions { keep, ..WriteOptions::default() })?;
    events.iter().try_for_each(|event| recorder.record(event))?;
    if is_finished {
        recorder.finish()?;
        return Ok(());
    }
    drop(recorder);
    // Killed while it wrote the sum of the last batch.
    let sums = path.join("connections-0002.sums");
    let length = fs::metadata(&sums).context("the last segment is not open")?.len();
    Ok(File::options().write(true).open(sums)?.set_len(length - 17)?)
}

/// The events of a recording.
fn read(path: &Path) -> anyhow::Result<Vec<Event>> {
    let mut replay = Recording::open(path)?.replay()?;
    let mut events = Vec::new();
    while replay.advance(u64::MAX, &mut |event| events.push(event))? {}
    Ok(events)
}
