//! `cargo xtask test`: every check and every test, in the order in which they fail fastest.

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::ebpf::{self, Toolchain};
use crate::harness::Seen;
use crate::process::{cargo, run as run_command, say};
use crate::tested::Tested;
use crate::tools::CARGO_DENY;
use crate::workspace::{DIGEST, OBJECT, root, target};
use crate::{check, digest, instructions as budgets, setup, tidy, vm};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out the live tests, which need root, and the counts of instructions
    #[arg(long)]
    quick: bool,
    /// Stop at the first step that fails, instead of reporting all that is wrong
    #[arg(long)]
    fail_fast: bool,
    /// Write what instructions and programs cost now into xtask/budgets.json and docs/programs.md, instead of comparing it
    #[arg(long, conflicts_with = "quick")]
    update_budgets: bool,
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
    update_budgets: bool,
    /// The freshly built object.
    object: PathBuf,
    tested: OnceCell<Arc<Tested>>,
    seen: RefCell<Seen>,
    guests: RefCell<Option<JoinHandle<Result<()>>>>,
}

impl Context {
    fn tested(&self) -> Result<&Arc<Tested>> {
        self.tested.get().context("the tests were not built")
    }
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
    Step::needed("build of all tests", build_tests),
    Step::of("unit and property tests", unit),
    Step::of("instructions and their budgets", instructions),
    Step::of("live tests", live),
    Step::of("stock kernels in virtual machines, begun with the unit tests", kernels),
];

/// Runs all steps, also after one that failed, unless the others need it.
///
/// # Errors
/// Names the steps that failed.
pub fn run(args: &Args) -> Result<()> {
    let context = Context {
        quick: args.quick,
        fail_fast: args.fail_fast,
        update_budgets: args.update_budgets,
        object: target().join("bpf/twtrace.bpf.o"),
        tested: OnceCell::new(),
        seen: RefCell::default(),
        guests: RefCell::default(),
    };
    let whole = Instant::now();
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
    if let Some(guests) = context.guests.take() {
        // A step failed before they were awaited: no guest is left behind.
        vm::await_guests();
        let _ = guests.join();
    }
    say(context.seen.into_inner().text().trim_end());
    let time = seconds(whole.elapsed());
    say(&format!("\n{passed} passed, {} failed, {skipped} skipped in {}", failed.len(), time.trim_start()));
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
    check::fmt()?;
    Ok(Done::Passed)
}

fn structure(_: &Context) -> Result<Done> {
    tidy::run()?;
    Ok(Done::Passed)
}

fn clippy(_: &Context) -> Result<Done> {
    // The build script builds the eBPF object on the way.
    check::clippy(&["twtrace-probe/build-ebpf"])?;
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
    for manifest in ["Cargo.toml", "twtrace-ebpf/Cargo.toml"] {
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

fn build_tests(context: &Context) -> Result<Done> {
    let tested = Arc::new(Tested::build()?);
    if !context.quick {
        // The tests wait most of the time. Guests get what they leave of the processors.
        let (tested, object) = (Arc::clone(&tested), context.object.clone());
        let update = context.update_budgets;
        *context.guests.borrow_mut() = Some(thread::spawn(move || vm::test(&tested, &object, update)));
    }
    // There is none yet: each step runs once.
    let _ = context.tested.set(tested);
    Ok(Done::Passed)
}

fn unit(context: &Context) -> Result<Done> {
    context.tested()?.unit(&mut context.seen.borrow_mut())?;
    Ok(Done::Passed)
}

fn instructions(context: &Context) -> Result<Done> {
    if context.quick {
        return Ok(Done::Skipped("--quick".to_owned()));
    }
    budgets::check(context.tested()?, context.update_budgets)?;
    Ok(Done::Passed)
}

fn live(context: &Context) -> Result<Done> {
    if context.quick {
        return Ok(Done::Skipped("--quick".to_owned()));
    }
    context.tested()?.live_tests(&context.object, &mut context.seen.borrow_mut())?;
    Ok(Done::Passed)
}

fn kernels(context: &Context) -> Result<Done> {
    if context.quick {
        return Ok(Done::Skipped("--quick".to_owned()));
    }
    let guests = context.guests.take().context("the guests were not started")?;
    vm::await_guests();
    guests.join().map_err(|_| anyhow!("the thread that runs guests has failed"))??;
    Ok(Done::Passed)
}
