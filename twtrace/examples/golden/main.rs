//! Makes golden recordings: what this version writes, for all later ones to read. See `tests/golden/README.md`.

mod inputs;

use anyhow::{Context as _, ensure};
use clap::Parser;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use twtrace_core::input::Input;
use twtrace_recording::reader::Recording;
use twtrace_recording::writer::{Keep, Recorder, WriteOptions};

/// Makes golden recordings, and what is read from them.
#[derive(Parser)]
struct Args {
    /// Directory such as tests/golden/schema-3. Recordings that are there are left as they are
    directory: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let directory = Args::parse().directory;
    fs::create_dir_all(&directory)?;
    for (name, inputs, is_finished) in
        [("finished", inputs::finished(), true), ("unfinished", inputs::unfinished(), false)]
    {
        let path = directory.join(name).with_extension("twt");
        if !path.exists() {
            record(&path, &inputs, is_finished)?;
        }
        let text = read(&path)?;
        fs::write(path.with_extension("inputs.txt"), text)?;
        let name = format!("{name}.twt");
        for (kind, arguments) in
            [("report", &["report", &name, "--format", "json"][..]), ("replay", &["replay", &name, "--once", "--json"])]
        {
            fs::write(path.with_extension(format!("{kind}.json")), run(&directory, arguments)?)?;
        }
    }
    Ok(())
}

fn record(path: &Path, inputs: &[Input], is_finished: bool) -> anyhow::Result<()> {
    // Segments of a minute; the recordings are shorter than what is kept.
    let keep = Some(Keep::Time(Duration::from_secs(16 * 60)));
    let mut recorder = Recorder::create(path, WriteOptions { keep, ..WriteOptions::default() })?;
    inputs.iter().try_for_each(|input| recorder.record(input))?;
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

/// The Inputs of a recording, a line each.
fn read(path: &Path) -> anyhow::Result<String> {
    let mut replay = Recording::open(path)?.replay()?;
    let mut text = String::new();
    let mut result = Ok(());
    while replay.advance(u64::MAX, &mut |input| {
        result = result.and(writeln!(text, "{input:?}"));
    })? {}
    result?;
    Ok(text)
}

/// What the program says about a recording.
fn run(directory: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--package", "twtrace", "--"]).args(arguments).current_dir(directory);
    let output = command.output().context("cannot run cargo")?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
