//! `cargo xtask bench`: compares with other programs that do the same work, in the same run on the same machine.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process::{cargo, memory, run as run_command, say};
use crate::python;
use crate::workspace::{root, target};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// `twtrace report` and DuckDB on the same recording
    Report(ReportArgs),
    /// Connections per second without and with `twtrace top`; needs root
    Rates,
}

#[derive(clap::Args)]
struct ReportArgs {
    /// Connections in the generated recording
    #[arg(long, default_value_t = 10_000_000)]
    connections: u64,
    /// Runs of each program, of which the fastest counts
    #[arg(long, default_value_t = 3)]
    runs: u32,
}

/// Time, memory and output of one run.
struct Measured {
    time: Duration,
    /// Peak memory, bytes.
    memory: u64,
    output: Value,
}

/// Runs one of the comparisons.
///
/// # Errors
/// It failed.
pub fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Report(args) => report(args),
        What::Rates => rates(),
    }
}

fn rates() -> Result<()> {
    let packages = ["--package", "twtrace", "--package", "twtrace-tests"];
    run_command(cargo().args(["build", "--release", "--bins", "--example", "rates"]).args(packages))?;
    run_command(&mut Command::new(target().join("release/examples/rates")))
}

/// Generates the recording, computes the same figures with `twtrace report` and DuckDB, compares them, and prints
/// times.
///
/// # Errors
/// One of them failed, or their figures differ.
fn report(args: &ReportArgs) -> Result<()> {
    python::install()?;
    run_command(cargo().args([
        "build",
        "--release",
        "--package",
        "twtrace",
        "--package",
        "twtrace-tests",
        "--example",
        "recording",
        "--bins",
    ]))?;
    let recording = target().join(format!("bench/{}.twt", args.connections));
    // It is generated again each time, because its name does not show which version of the program generated it.
    fs::create_dir_all(target().join("bench"))?;
    let began = Instant::now();
    let mut generate = Command::new(target().join("release/examples/recording"));
    run_command(generate.arg(&recording).args(["--connections", &args.connections.to_string()]))?;
    say(&format!("generated in {:.1} s, {}", began.elapsed().as_secs_f64(), sizes(&recording, args.connections)?));
    let twtrace = target().join("release/twtrace");
    let script = root().join("xtask/src/bench/report.py");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // In turn, so that other work of the machine affects both.
    for _ in 0..args.runs.max(1) {
        ours.push(measure(Command::new(&twtrace).arg("report").arg(&recording).args(["--format", "json"]))?);
        theirs.push(measure(Command::new(python::interpreter()).arg(&script).arg(&recording))?);
    }
    for (name, runs) in [("twtrace report", &ours), ("DuckDB", &theirs)] {
        let times: Vec<String> = runs.iter().map(|run| format!("{:.2}", run.time.as_secs_f64())).collect();
        let memory = runs.iter().map(|run| run.memory).max().unwrap_or_default() >> 20;
        say(&format!("{name:<15} {} s, at most {memory} MiB", times.join(" ")));
    }
    let (ours, theirs) = (fastest(ours)?, fastest(theirs)?);
    let compared = same_figures(&ours.output, &theirs.output)?;
    say(&format!("the figures of {compared} processes are the same"));
    say(&format!("twtrace took {:.2} times as long as DuckDB", ours.time.as_secs_f64() / theirs.time.as_secs_f64()));
    Ok(())
}

fn fastest(runs: Vec<Measured>) -> Result<Measured> {
    runs.into_iter().min_by_key(|run| run.time).context("nothing was run")
}

/// Runs a program that writes JSON.
fn measure(command: &mut Command) -> Result<Measured> {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
    let pid = child.id();
    let mut text = String::new();
    let mut out = child.stdout.take().context("no output")?;
    // The output ends with the program; until then its peak memory is polled.
    let watcher = std::thread::spawn(move || {
        let mut most = 0;
        while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
            let Some(mark) = memory(&status, "VmHWM") else { break };
            most = most.max(mark);
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    });
    out.read_to_string(&mut text)?;
    let status = child.wait()?;
    let time = began.elapsed();
    let memory = watcher.join().unwrap_or(0);
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(Measured { time, memory, output: serde_json::from_str(&text).context("not JSON")? })
}

/// Compares the processes' figures; returns the number of processes.
fn same_figures(ours: &Value, theirs: &Value) -> Result<usize> {
    let ours = ours["processes"].as_array().context("the report has no processes")?;
    let theirs = theirs.as_array().context("DuckDB has no rows")?;
    for row in theirs {
        let own =
            ours.iter().find(|own| own["pid"] == row["pid"]).with_context(|| format!("no process {}", row["pid"]))?;
        let sums = [
            ("time_wait_created", "created"),
            ("closed_first", "first"),
            ("closed_last", "last"),
            ("opened", "opened"),
            ("accepted", "accepted"),
            ("reset", "reset"),
            ("created_peak_per_s", "peak"),
            ("time_wait_live_peak", "live_peak"),
        ];
        for (name, their_name) in sums {
            let (own, their) = (&own[name], row[their_name].as_u64().unwrap_or(0));
            if own.as_u64() != Some(their) {
                bail!("process {}: {name} is {own} here and {their} by DuckDB", row["pid"]);
            }
        }
        for (index, name) in ["p50", "p90", "p99"].iter().enumerate() {
            let (own, their) =
                (own["lifetime_ms"][name].as_f64(), row["lifetimes"][index].as_f64().map(|us| us / 1000.0));
            // The report's quantiles are within 6% by design.
            if !matches!((own, their), (Some(own), Some(their)) if (own - their).abs() <= 0.07 * their) {
                bail!("process {}: {name} is {own:?} here and {their:?} by DuckDB", row["pid"]);
            }
        }
    }
    Ok(theirs.len())
}

fn sizes(recording: &Path, connections: u64) -> Result<String> {
    let mut bytes = 0;
    for entry in fs::read_dir(recording)? {
        bytes += File::open(entry?.path())?.metadata()?.len();
    }
    Ok(format!("{} MiB, {:.1} bytes a connection", bytes >> 20, bytes as f64 / connections.max(1) as f64))
}
