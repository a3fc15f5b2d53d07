//! Instructions that the tracer needs for its work, counted by callgrind and compared with budgets in the repository.
//!
//! Seconds depend on the machine and on what else runs there; instructions depend on the code and the compiler alone.
//! They are those of the profile `tested`, whose programs are built for the tests anyway: users' are optimised further
//! and need fewer, but what makes one of them dearer makes the other dearer too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::process::{output, say};
use crate::tested::Tested;
use crate::workspace::{root, target};

/// Where the budgets are, relative to the workspace.
const BUDGETS: &str = "xtask/budgets.json";

/// How far above its budget a measurement may be, percent.
pub(crate) const TOLERANCE: f64 = 3.0;

/// A piece of work, done twice in different amounts: what does not depend on the amount cancels out.
struct Work {
    /// What one piece of it is.
    name: &'static str,
    /// Example or program that does it.
    program: &'static str,
    args: &'static [&'static str],
    amounts: [u64; 2],
}

impl Work {
    const fn of(name: &'static str, program: &'static str, args: &'static [&'static str], amounts: [u64; 2]) -> Self {
        Self { name, program, args, amounts }
    }
}

/// Stands for the amount in the arguments.
const AMOUNT: &str = "AMOUNT";

/// Stands for a recording of as many connections.
const RECORDING: &str = "RECORDING";

const WORK: [Work; 6] = [
    Work::of("a record decoded and applied", "cost", &["same", AMOUNT], [4000, 12_000]),
    Work::of("a record, closed by another process", "cost", &["handed", AMOUNT], [4000, 12_000]),
    Work::of("a record of a process of its own", "cost", &["one-shot", AMOUNT], [4000, 12_000]),
    Work::of("a record, and the end of its TIME_WAIT socket", "cost", &["ends", AMOUNT], [24_000, 32_000]),
    Work::of("a connection in a report", "twtrace", &["report", RECORDING], [4000, 12_000]),
    Work::of("a frame on the screen", "frame", &["--frames", AMOUNT, "--sockets", "2000"], [10, 30]),
];

/// The file of budgets.
#[derive(Serialize, Deserialize)]
struct Budgets {
    /// The compiler that they hold for.
    compiler: String,
    /// Instructions by the name of the work.
    instructions: BTreeMap<String, u64>,
}

/// Measures, and compares with the budgets; writes them instead if `update`.
///
/// # Errors
/// Something needs more than its budget, or could not be measured.
pub(crate) fn check(tested: &Tested, update: bool) -> Result<()> {
    let path = root().join(BUDGETS);
    let compiler = output(Command::new("rustc").arg("--version"))?;
    let measured = measure(tested)?;
    if update {
        let instructions = measured.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let mut text = serde_json::to_string_pretty(&Budgets { compiler, instructions })?;
        text.push('\n');
        fs::write(&path, text).with_context(|| format!("cannot write {BUDGETS}"))?;
        say(&format!("written: {BUDGETS}"));
        return Ok(());
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {BUDGETS}"))?;
    let budgets: Budgets = serde_json::from_str(&text).with_context(|| format!("{BUDGETS} is damaged"))?;
    let mut over = Vec::new();
    for (name, count) in measured {
        let budget = *budgets.instructions.get(name).with_context(|| format!("{BUDGETS} has no budget for {name}"))?;
        let line = format!("{name}: {count} instructions, budget {budget}, {}", change(budget, count));
        say(&format!("  {line}"));
        if is_over(budget, count) {
            over.push(line);
        }
    }
    if over.is_empty() {
        return Ok(());
    }
    if budgets.compiler != compiler {
        say(&format!("not judged: the budgets are for {}, and this is {compiler}", budgets.compiler));
        return Ok(());
    }
    bail!(
        "more than {TOLERANCE} % over budget; if that is meant, `cargo xtask test --update-budgets`: {}",
        over.join("; ")
    )
}

/// Whether a figure is above its budget by more than the tolerance.
pub(crate) fn is_over(budget: u64, figure: u64) -> bool {
    figure as f64 > budget as f64 * (1.0 + TOLERANCE / 100.0)
}

/// How a figure has changed, for people.
pub(crate) fn change(from: u64, to: u64) -> String {
    format!("{:+.1} %", 100.0 * (to as f64 - from as f64) / (from as f64).max(1.0))
}

/// Instructions for one piece of each kind of work.
fn measure(tested: &Tested) -> Result<Vec<(&'static str, u64)>> {
    let folder = target().join("instructions");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let each = |work: &'static Work| -> Result<(&'static str, u64)> {
        let [few, many] = work.amounts;
        let count = |amount| instructions(tested, work, amount, &folder);
        let more = count(many)?.saturating_sub(count(few)?);
        Ok((work.name, more / (many - few)))
    };
    // Counts do not depend on what else runs: all at the same time.
    thread::scope(|scope| {
        let running: Vec<_> = WORK.iter().map(|work| scope.spawn(move || each(work))).collect();
        running.into_iter().map(|one| one.join().map_err(|_| anyhow!("a measurement has failed"))?).collect()
    })
}

/// Instructions of a whole run.
fn instructions(tested: &Tested, work: &Work, amount: u64, folder: &Path) -> Result<u64> {
    let amount = amount.to_string();
    let recording = folder.join(format!("{amount}.twt"));
    if work.args.contains(&RECORDING) {
        let mut make = Command::new(tested.program("recording")?);
        output(make.arg(&recording).args(["--connections", &amount]))?;
    }
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(tested.program(work.program)?);
    for arg in work.args {
        match *arg {
            AMOUNT => command.arg(&amount),
            RECORDING => command.arg(&recording),
            arg => command.arg(arg),
        };
    }
    let out = command.output().context("cannot start valgrind: `cargo xtask setup` installs it")?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        bail!("{} {} failed: {}", work.program, work.args.join(" "), said.trim());
    }
    collected(&said).with_context(|| format!("callgrind counted nothing: {}", said.trim()))
}

/// The sum that callgrind prints at its end.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn counts_are_read_from_what_callgrind_says() {
        let said = "==7== Events    : Ir\n==7== Collected : 53184\n==7== \n==7== I   refs:      53,184\n";
        assert_eq!(collected(said), Some(53_184));
        assert_eq!(collected("==7== Collected : much\n"), None);
    }

    #[test]
    fn changes_have_a_sign() {
        assert_eq!((change(1000, 1031), change(1000, 990)), ("+3.1 %".to_owned(), "-1.0 %".to_owned()));
    }

    #[test]
    fn each_kind_of_work_has_a_budget() {
        let text = fs::read_to_string(root().join(BUDGETS)).unwrap();
        let budgets: Budgets = serde_json::from_str(&text).unwrap();
        let names: Vec<&str> = budgets.instructions.keys().map(String::as_str).collect();
        let mut works: Vec<&str> = WORK.iter().map(|work| work.name).collect();
        works.sort_unstable();
        assert_eq!(names, works);
    }
}
