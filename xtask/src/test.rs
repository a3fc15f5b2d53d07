//! `cargo xtask test`: every check and every test, in the order in which they fail fastest.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, Result, bail};

use crate::ebpf::{self, Toolchain};
use crate::process::{cargo, run as run_command, say};
use crate::tools::CARGO_DENY;
use crate::workspace::{DIGEST, OBJECT, root, target};
use crate::{digest, fuzz, setup, tidy, vm};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out the live and README tests, which need root
    #[arg(long)]
    quick: bool,
    /// Stop at the first step that fails, instead of telling all that is wrong
    #[arg(long)]
    fail_fast: bool,
}

/// How a step ended, if it did not fail.
enum Done {
    Passed,
    Skipped(String),
}

struct Step {
    name: &'static str,
    action: fn(&Context) -> Result<Done>,
    /// Whether the other steps are pointless without it.
    is_needed: bool,
}

impl Step {
    const fn needed(name: &'static str, action: fn(&Context) -> Result<Done>) -> Self {
        Self { name, action, is_needed: true }
    }

    const fn of(name: &'static str, action: fn(&Context) -> Result<Done>) -> Self {
        Self { name, action, is_needed: false }
    }
}

/// What the steps share.
struct Context {
    quick: bool,
    fail_fast: bool,
    /// The freshly built object.
    object: PathBuf,
}

const STEPS: [Step; 14] = [
    Step::needed("set-up", set_up),
    Step::needed("eBPF object from source", build_object),
    Step::of("committed eBPF object", committed_object),
    Step::of("fmt", fmt),
    Step::of("structure", structure),
    Step::of("clippy", clippy),
    Step::of("clippy of the kernel side", clippy_ebpf),
    Step::of("licences and sources of dependencies", deny),
    Step::of("documentation", doc),
    Step::of("unit and property tests", unit),
    Step::of("fuzz targets, briefly", fuzz_targets),
    Step::of("live tests", live),
    Step::of("stock kernels in virtual machines", kernels),
    Step::of("README tests", readme),
];

/// Runs all steps, also after one that failed, unless the others need it.
///
/// # Errors
/// Names the steps that failed.
pub fn run(args: &Args) -> Result<()> {
    let context = Context { quick: args.quick, fail_fast: args.fail_fast, object: target().join("bpf/twtrace.bpf.o") };
    let mut summary = Vec::new();
    let mut failed: Vec<&str> = Vec::new();
    let (mut passed, mut skipped) = (0, 0);
    let mut ended_by = None;
    for (number, step) in STEPS.iter().enumerate() {
        if let Some(name) = ended_by {
            skipped += 1;
            summary.push(format!("skipped        -  {} (not reached: `{name}` failed)", step.name));
            continue;
        }
        say(&format!("\n== {}/{} {}", number + 1, STEPS.len(), step.name));
        let began = Instant::now();
        let done = (step.action)(&context);
        let time = seconds(began.elapsed());
        let line = match done {
            Ok(Done::Passed) => {
                passed += 1;
                format!("passed  {time}  {}", step.name)
            }
            Ok(Done::Skipped(why)) => {
                skipped += 1;
                format!("skipped {time}  {} ({why})", step.name)
            }
            Err(error) => {
                failed.push(step.name);
                ended_by = (step.is_needed || context.fail_fast).then_some(step.name);
                format!("failed  {time}  {}: {error:#}", step.name)
            }
        };
        say(&format!("== {line}"));
        summary.push(line);
    }
    say("\nsummary");
    for line in summary {
        say(&format!("  {line}"));
    }
    say(&format!("{passed} passed, {} failed, {skipped} skipped", failed.len()));
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

fn seconds(time: Duration) -> String {
    format!("{:7.1} s", time.as_secs_f64())
}

fn set_up(context: &Context) -> Result<Done> {
    // Reported at once, not after the minutes that the other steps take.
    if !context.quick && !nix::unistd::Uid::effective().is_root() {
        bail!("the live tests load eBPF programs and need root: run it as root, or `cargo xtask test --quick`");
    }
    setup::run(&setup::Args { build_only: context.quick })?;
    Ok(Done::Passed)
}

fn build_object(context: &Context) -> Result<Done> {
    ebpf::build(&Toolchain::find()?, &context.object)?;
    // The build script's way to the same object.
    run_command(cargo().args(["check", "--package", "twtrace", "--features", "build-ebpf"]))?;
    Ok(Done::Passed)
}

fn committed_object(context: &Context) -> Result<Done> {
    digest::check(&root())?;
    let text = fs::read_to_string(root().join(DIGEST)).with_context(|| format!("cannot read {DIGEST}"))?;
    let (ours, theirs) = (Toolchain::find()?.version()?, digest::built_by(&text).unwrap_or_default());
    if ours != theirs {
        say(&format!("bytes not compared: the committed object was built by {theirs}, this one by {ours}"));
    } else if digest::sum(&context.object)? == digest::sum(&root().join(OBJECT))? {
        say("the committed object is the freshly built one, byte for byte");
    } else {
        bail!("{OBJECT} is not what the same tools build from the same sources: run `cargo xtask build-ebpf`");
    }
    Ok(Done::Passed)
}

fn fmt(_: &Context) -> Result<Done> {
    run_command(cargo().args(["fmt", "--all", "--check"]))?;
    run_command(cargo().args(["fmt", "--check", "--manifest-path", "twtrace-ebpf/Cargo.toml"]))?;
    Ok(Done::Passed)
}

fn structure(_: &Context) -> Result<Done> {
    tidy::run()?;
    Ok(Done::Passed)
}

fn clippy(_: &Context) -> Result<Done> {
    run_command(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]))?;
    Ok(Done::Passed)
}

fn clippy_ebpf(_: &Context) -> Result<Done> {
    Ok(if Toolchain::find()?.clippy()? {
        Done::Passed
    } else {
        Done::Skipped("the toolchain that builds the kernel side has no clippy".to_owned())
    })
}

fn deny(_: &Context) -> Result<Done> {
    // The check of advisories is left out: it needs a database from the network, and fails by itself over time.
    for manifest in ["Cargo.toml", "twtrace-ebpf/Cargo.toml", "fuzz/Cargo.toml"] {
        let mut command = Command::new(CARGO_DENY.install()?);
        command.current_dir(root()).args(["--manifest-path", manifest, "--config", "deny.toml"]);
        command.args(["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
        run_command(&mut command)?;
    }
    Ok(Done::Passed)
}

fn doc(_: &Context) -> Result<Done> {
    run_command(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings"))?;
    Ok(Done::Passed)
}

fn unit(_: &Context) -> Result<Done> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--exclude", LIVE_PACKAGE]).env("PROPTEST_RNG_SEED", SEED.to_string());
    run_command(&mut command)?;
    Ok(Done::Passed)
}

fn fuzz_targets(context: &Context) -> Result<Done> {
    if context.quick {
        return Ok(Done::Skipped("--quick".to_owned()));
    }
    fuzz::all(FUZZ, SEED)?;
    Ok(Done::Passed)
}

/// For each target.
const FUZZ: Duration = Duration::from_secs(15);

/// The seed of random inputs, the same each time: a run shows whether a change has broken something. To find faults by
/// chance is the purpose of the long runs, `cargo xtask fuzz`, and of `cargo test` by hand.
const SEED: u32 = 1;

const LIVE_PACKAGE: &str = "twtrace-tests";

/// The README's test, one of [`LIVE_PACKAGE`]'s.
const README: &str = "readme";

fn live(context: &Context) -> Result<Done> {
    if context.quick {
        return Ok(Done::Skipped("--quick".to_owned()));
    }
    let mut command = kernel_test(context)?;
    command.args(["--lib", "--bins"]);
    for test in live_tests().context("cannot read tests/tests")? {
        command.args(["--test", &test]);
    }
    // One at a time: each watches all sockets of the machine.
    let mut all = vec![("as this kernel lets it".to_owned(), command)];
    for (name, value, tests) in LOWER {
        let mut command = kernel_test(context)?;
        command.args(tests.iter().flat_map(|test| ["--test", test])).env(name, value);
        all.push((format!("with {name}={value}"), command));
    }
    let mut failed = Vec::new();
    for (how, mut command) in all {
        say(&format!("\n{how}"));
        if !context.fail_fast {
            command.arg("--no-fail-fast");
        }
        match run_command(command.args(["--", "--test-threads=1"])) {
            Ok(()) => {}
            Err(error) if context.fail_fast => return Err(error),
            Err(_) => failed.push(how),
        }
    }
    if failed.is_empty() {
        return Ok(Done::Passed);
    }
    bail!("failed {}; cargo names the tests above", failed.join(", "))
}

/// Tests to run again in lower tiers, which this kernel does not choose by itself.
const LOWER: [(&str, &str, &[&str]); 2] =
    [("TWTRACE_TIER", "tuple", &["ground_truth", "namespaces", "older"]), ("TWTRACE_BTF", "none", &["ground_truth"])];

fn kernels(context: &Context) -> Result<Done> {
    if context.quick {
        return Ok(Done::Skipped("--quick".to_owned()));
    }
    vm::test(&context.object)?;
    Ok(Done::Passed)
}

fn readme(context: &Context) -> Result<Done> {
    if context.quick {
        return Ok(Done::Skipped("--quick".to_owned()));
    }
    run_command(kernel_test(context)?.args(["--test", README]))?;
    Ok(Done::Passed)
}

/// Test targets other than the README's.
fn live_tests() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("tests/tests"))? {
        let path = entry?.path();
        let is_test = path.join("main.rs").exists() || path.extension().is_some_and(|extension| extension == "rs");
        if let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|name| is_test && *name != README) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// `cargo test` of the live tests, with the programs that they run built and the fresh object in use.
fn kernel_test(context: &Context) -> Result<Command> {
    run_command(cargo().args(["build", "--release", "--package", "twtrace", "--package", LIVE_PACKAGE, "--bins"]))?;
    let mut command = cargo();
    command.args(["test", "--package", LIVE_PACKAGE, "--release"]);
    command.env("TWTRACE_BPF_OBJECT", &context.object);
    Ok(command)
}
