//! `cargo xtask vm`: the live tests on stock kernels, each in a guest of its own.

mod arch;
mod guest;
mod image;
mod kernels;
mod sizes;

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::iter;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::cross;
use crate::ebpf::{self, Toolchain};
use crate::process::say;
use crate::tested::Tested;
use crate::workspace::target;
use arch::Arch;
pub(crate) use guest::await_guests;
use guest::{Accelerator, Console};
use image::Programs;
use kernels::{KERNELS, Kernel};
use sizes::{Column, Size};

/// Options of `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Args {
    /// Kernels to run on, such as 6.12; the usual ones by default
    kernels: Vec<String>,
    /// All kernels: the one with PREEMPT_RT and the one for arm64 as well
    #[arg(long, conflicts_with = "kernels")]
    all: bool,
    /// Only the runs with this in their name, such as exact/exact-by-kprobes
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
    /// Each run so many times, to find a failure that is rare
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    repeat: usize,
}

/// One run in a guest. `twtrace-guest` reads them.
#[derive(Clone, Serialize)]
struct Run {
    name: String,
    program: String,
    args: Vec<String>,
    env: Vec<(&'static str, &'static str)>,
    timeout_s: u64,
}

/// A live test that runs in guests.
struct Plan {
    /// A module of the live tests, or one test of it.
    test: &'static str,
    /// In which modes, and on which kernels.
    modes: &'static [(Mode, &'static [&'static str])],
}

/// What depends on how the kernel is hooked.
const ALL: &[&str] = &["5.10", "6.1", "6.12", "7.2"];

/// What depends on whether everything can be preempted, softirqs as well.
const RT: &[&str] = &["6.12-rt"];

/// What depends on the processor's registers and calls.
const ARM: &[&str] = &["6.12-arm64"];

/// What depends on a mode in the same way on all kernels: on the oldest and on the newest.
const ENDS: &[&str] = &["5.10", "7.2"];

/// A way to trace, chosen by the environment in the guest.
#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    env: &'static [(&'static str, &'static str)],
}

const EXACT: Mode = Mode { name: "exact", env: &[("TWTRACE_TIER", "exact"), ("TWTRACE_FUNCTIONS", "fentry")] };
const KPROBES: Mode =
    Mode { name: "exact-by-kprobes", env: &[("TWTRACE_TIER", "exact"), ("TWTRACE_FUNCTIONS", "kprobe")] };
const COOKIE: Mode = Mode { name: "cookie", env: &[("TWTRACE_TIER", "cookie")] };
const TUPLE: Mode = Mode { name: "tuple", env: &[("TWTRACE_TIER", "tuple")] };
const NO_BTF: Mode = Mode { name: "tuple-without-btf", env: &[("TWTRACE_TIER", "tuple"), ("TWTRACE_BTF", "none")] };
/// The twin as newer kernels have it.
const TWIN: Mode = Mode {
    name: "exact-with-the-twin-on-a-tracepoint",
    env: &[("TWTRACE_TIER", "exact"), ("TWTRACE_TWIN", "tracepoint")],
};

/// Fewer connections: the processor is emulated.
const FEW: Mode = Mode { name: "exact", env: &[("TWTRACE_TIER", "exact"), ("TWTRACE_CONNECTIONS", "100")] };
const LONG: Mode = Mode { name: "exact", env: &[("TWTRACE_TIER", "exact"), ("TWTRACE_CONNECTIONS", "20000")] };
const SMALL: Mode = Mode { name: "exact", env: &[("TWTRACE_TIER", "exact"), ("TWTRACE_CONNECTIONS", "3000")] };

const PLANS: [Plan; 18] = [
    Plan {
        test: "ground_truth::every_connection_is_reported_as_it_happened",
        modes: &[
            (EXACT, ALL),
            (KPROBES, ALL),
            (COOKIE, ALL),
            (TUPLE, ALL),
            (NO_BTF, ALL),
            (TWIN, &["6.12"]),
            (EXACT, RT),
            (KPROBES, RT),
            (COOKIE, RT),
            (NO_BTF, RT),
            (EXACT, ARM),
            (KPROBES, ARM),
            (COOKIE, ARM),
            (TUPLE, ARM),
            (NO_BTF, ARM),
        ],
    },
    Plan {
        test: "ground_truth::connections_without_room_in_the_socket_map_are_reported_as_they_happened",
        modes: &[(EXACT, ALL), (TUPLE, ENDS), (EXACT, ARM)],
    },
    // The order of the pair's programs depends on others where the twin is on the classic tracepoint.
    Plan {
        test: "ground_truth::beside_an_earlier_tracer_every_connection_is_reported_as_it_happened",
        modes: &[(EXACT, &["7.2"]), (COOKIE, &["7.2"]), (TWIN, &["6.12"])],
    },
    Plan {
        test: "bindings",
        modes: &[(EXACT, ALL), (TUPLE, ALL), (COOKIE, ENDS), (NO_BTF, ENDS), (EXACT, ARM), (TUPLE, ARM)],
    },
    Plan {
        test: "namespaces::each_namespace_has_its_name_its_census_and_its_sysctls",
        modes: &[(EXACT, ALL), (COOKIE, &["5.10"]), (TUPLE, &["7.2"]), (COOKIE, RT), (EXACT, ARM)],
    },
    Plan {
        test: "namespaces::inode_number_of_a_namespace_that_is_gone_means_another_one",
        modes: &[(EXACT, &["5.10", "6.12"]), (EXACT, ARM)],
    },
    // 5.10 has no cookies of namespaces.
    Plan {
        test: "namespaces::namespace_never_inherits_from_the_one_that_had_its_inode_number",
        modes: &[(FEW, &["6.1", "7.2"]), (FEW, ARM)],
    },
    Plan { test: "mptcp", modes: &[(EXACT, &["6.1", "7.2"]), (COOKIE, &["6.12"]), (EXACT, ARM)] },
    Plan {
        test: "kernel_sockets::connections_of_the_kernels_nfs_client_count_for_nfs",
        modes: &[(EXACT, &["5.10", "6.12"]), (COOKIE, &["6.1", "7.2"]), (EXACT, ARM)],
    },
    // MPTCP listens on ports of its own since 5.13.
    Plan {
        test: "kernel_sockets::port_that_the_kernel_has_is_no_other_processs",
        modes: &[(COOKIE, &["6.1", "7.2"]), (EXACT, ARM)],
    },
    Plan {
        test: "identity::each_short_lived_process_has_its_command_line_its_parent_and_an_ancestor",
        modes: &[(FEW, ALL), (FEW, RT), (FEW, ARM)],
    },
    // Long, and not about tiers.
    Plan { test: "losses", modes: &[(SMALL, &["6.12"]), (SMALL, RT)] },
    Plan { test: "instances", modes: &[(SMALL, &["6.1", "7.2"]), (SMALL, RT)] },
    Plan {
        test: "older",
        modes: &[(COOKIE, ALL), (TUPLE, ALL), (EXACT, ENDS), (EXACT, ARM), (COOKIE, ARM), (TUPLE, ARM)],
    },
    // Not on kernels with preemptible tracepoints: they skip both programs of the pair now and then, which is counted.
    Plan { test: "million", modes: &[(LONG, &["6.1", "6.12"])] },
    Plan { test: "audit", modes: &[(EXACT, &["5.10", "6.12"])] },
    Plan { test: "exact", modes: &[(EXACT, ALL), (KPROBES, ALL), (EXACT, RT), (EXACT, ARM), (KPROBES, ARM)] },
    Plan {
        test: "kernel_log::a_filter_by_port_logs_both_ends_of_its_connections_and_no_others",
        modes: &[(EXACT, ALL), (KPROBES, ENDS), (COOKIE, ENDS), (TUPLE, ENDS), (NO_BTF, ENDS), (EXACT, ARM)],
    },
];

/// Left to `cargo xtask vm`: they are long, and each push runs them on its own host, where they do not depend on the kernel.
const LONG_MODULES: [&str; 4] = ["audit", "instances", "losses", "million"];

/// Whether a run is part of each push. The oldest and the newest kernel run all modes; those between differ from one of the
/// two in what the modes without fallbacks read.
fn is_for_each_push(run: &Run, kernel: &Kernel) -> bool {
    let (test, mode) = run.name.split_once('/').unwrap_or((&run.name, ""));
    let module = test.split("::").next().unwrap_or(test);
    let is_between = !ENDS.contains(&kernel.name);
    test == DOCTOR || !LONG_MODULES.contains(&module) && (!is_between || [EXACT.name, COOKIE.name].contains(&mode))
}

/// Builds the object and runs everything.
///
/// # Errors
/// A kernel is missing, or something failed on one.
pub fn run(args: &Args) -> Result<()> {
    await_guests();
    let object = target().join("bpf/twtrace.bpf.o");
    ebpf::build(&Toolchain::find()?, &object)?;
    let chosen = chosen(&args.kernels, args.all)?;
    let planned = plans(&chosen, |kernel| {
        let runs = plan(kernel).into_iter().filter(|run| run.name.contains(&args.only));
        runs.flat_map(|run| iter::repeat_n(run, args.repeat)).collect()
    })?;
    let has = |arch: Arch| chosen.iter().any(|kernel| kernel.arch == arch);
    let mut machines = Vec::new();
    if has(Arch::Amd64) {
        machines.push(Machine::new(Arch::Amd64, &Tested::build()?, &object)?);
    }
    if has(Arch::Arm64) {
        cross::install()?;
        machines.push(Machine::new(Arch::Arm64, &cross::build()?, &object)?);
    }
    let columns = matrix(planned, &machines, &object)?;
    if args.kernels.is_empty() && !args.all && ["", DOCTOR].contains(&args.only.as_str()) {
        sizes::write(&columns)?;
    }
    Ok(())
}

/// Runs the tests with this object, shows what the programs cost, and compares that with what they may cost; with
/// `update`, that is written instead.
///
/// # Errors
/// As [`run`], and if a program costs more than it may.
pub(crate) fn test(tested: &Tested, object: &Path, update: bool) -> Result<()> {
    let mut left_out = BTreeSet::new();
    let planned = plans(&chosen(&[], false)?, |kernel| {
        let (runs, long): (Vec<Run>, Vec<Run>) =
            plan(kernel).into_iter().partition(|run| is_for_each_push(run, kernel));
        left_out.extend(long.into_iter().map(|run| format!("{} on {}", run.name, kernel.name)));
        runs
    })?;
    say(&format!("left out, and in `cargo xtask vm`: {}", left_out.into_iter().collect::<Vec<_>>().join(", ")));
    let columns = matrix(planned, &[Machine::new(Arch::Amd64, tested, object)?], object)?;
    say(&sizes::table(&columns));
    if update { sizes::write(&columns) } else { sizes::check(&columns) }
}

/// The kernels to run on. Says which of them are left out.
fn chosen(wanted: &[String], all: bool) -> Result<Vec<&'static Kernel>> {
    if let Some(unknown) = wanted.iter().find(|name| !KERNELS.iter().any(|kernel| kernel.name == **name)) {
        bail!("there is no kernel {unknown} here: {}", KERNELS.map(|kernel| kernel.name).join(", "));
    }
    let is_chosen = |kernel: &&Kernel| match wanted {
        [] => all || !kernel.is_extra,
        names => names.iter().any(|name| name == kernel.name),
    };
    let (chosen, left_out): (Vec<_>, Vec<_>) = KERNELS.iter().partition(is_chosen);
    if wanted.is_empty() && !left_out.is_empty() {
        let names: Vec<&str> = left_out.iter().map(|kernel| kernel.name).collect();
        say(&format!("left out: {} (`cargo xtask vm --all` has them)", names.join(", ")));
    }
    Ok(chosen)
}

/// What all guests of one architecture have.
struct Machine {
    arch: Arch,
    programs: Programs,
    accelerator: Accelerator,
}

impl Machine {
    fn new(arch: Arch, tested: &Tested, object: &Path) -> Result<Self> {
        let programs = Programs::of(tested, arch)?;
        let newest = KERNELS.iter().rfind(|kernel| kernel.arch == arch).context("there are no kernels")?;
        let cached = kernels::get(newest)?;
        let folder = logs()?;
        let [initramfs, log] = ["initramfs", "log"].map(|name| folder.join(format!("probe-{}.{name}", arch.name())));
        let nothing_to_do = b"[]";
        image::write(&programs, &cached, object, nothing_to_do, &initramfs)?;
        let accelerator = Accelerator::choose(arch, &cached.folder.join("vmlinuz"), &initramfs, &log)?;
        let _ = fs::remove_file(initramfs);
        say(&format!("{} guests run by {accelerator:?}", arch.name()));
        Ok(Self { arch, programs, accelerator })
    }
}

/// Where consoles are written.
fn logs() -> Result<PathBuf> {
    let folder = target().join("vm/logs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// A kernel, and what runs on it.
type Planned = (&'static Kernel, Vec<Run>);

/// The runs of each kernel; those without any are left out.
fn plans(chosen: &[&'static Kernel], mut runs_of: impl FnMut(&Kernel) -> Vec<Run>) -> Result<VecDeque<Planned>> {
    let planned = chosen.iter().map(|kernel| (*kernel, runs_of(kernel))).filter(|(_, runs)| !runs.is_empty());
    let planned: VecDeque<Planned> = planned.collect();
    if planned.is_empty() {
        bail!("no run is called that on these kernels");
    }
    Ok(planned)
}

/// Runs the tests with this object; returns the program sizes on each kernel, oldest first.
fn matrix(planned: VecDeque<Planned>, machines: &[Machine], object: &Path) -> Result<Vec<Column>> {
    let jobs = Mutex::new(planned);
    let failures = Mutex::new(Vec::new());
    let columns = Mutex::new(Vec::new());
    let side_by_side = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..side_by_side {
            scope.spawn(|| {
                while let Some((kernel, plan)) = next(&jobs) {
                    match one(kernel, plan, machines, object) {
                        Ok(column) => lock(&columns).push(column),
                        Err(error) => lock(&failures).push(format!("{}: {error:#}", kernel.name)),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    let mut columns = columns.into_inner().unwrap_or_else(PoisonError::into_inner);
    let line = |kernel: &Kernel| kernel.name.split('-').next();
    columns.sort_by_key(|(version, _)| {
        KERNELS.iter().position(|kernel| line(kernel).is_some_and(|line| version.starts_with(line)))
    });
    Ok(columns)
}

/// No thread panics with the lock taken; even if one did, the content would be consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next kernel. The queue is free again when this returns.
fn next(jobs: &Mutex<VecDeque<Planned>>) -> Option<Planned> {
    lock(jobs).pop_front()
}

fn one(kernel: &Kernel, plan: Vec<Run>, machines: &[Machine], object: &Path) -> Result<Column> {
    let began = Instant::now();
    let machine = machines.iter().find(|machine| machine.arch == kernel.arch);
    let Machine { arch, programs, accelerator } = machine.context("nothing was built for its processor")?;
    let folder = logs()?;
    let cached = kernels::get(kernel)?;
    let file = |name: &str| -> PathBuf { folder.join(format!("{}.{name}", kernel.name)) };
    let runs = serde_json::to_vec(&plan)?;
    image::write(programs, &cached, object, &runs, &file("initramfs"))?;
    let image = cached.folder.join("vmlinuz");
    let console = guest::run(*arch, *accelerator, &image, &file("initramfs"), &file("log"))?;
    let _ = fs::remove_file(file("initramfs"));
    report(kernel, &cached.version, &console, began.elapsed().as_secs());
    let names: Vec<String> = plan.into_iter().map(|run| run.name).collect();
    judge(&console, &names, &file("log"))?;
    let mut programs: Vec<Size> = Vec::new();
    for run in console.ended.iter().filter(|run| run.name.starts_with(DOCTOR)) {
        for size in sizes::read(&run.output)? {
            if programs.iter().all(|other| other.name != size.name) {
                programs.push(size);
            }
        }
    }
    Ok((cached.version, programs))
}

/// The runs that show whether and how the program works on a kernel, one for each mode that loads other programs.
const DOCTOR: &str = "doctor";
const DOCTORS: [Mode; 3] = [EXACT, KPROBES, NO_BTF];

const OBJECT: (&str, &str) = ("TWTRACE_BPF_OBJECT", "/t/twtrace.bpf.o");

fn plan(kernel: &Kernel) -> Vec<Run> {
    let environment = |mode: Mode| [OBJECT, ("CI", "true")].into_iter().chain(mode.env.iter().copied()).collect();
    let doctors = DOCTORS.map(|mode| Run {
        name: format!("{DOCTOR}/{}", mode.name),
        program: "/t/twtrace".to_owned(),
        args: ["doctor", "--json"].map(str::to_owned).to_vec(),
        env: environment(mode),
        timeout_s: 60,
    });
    let tests = PLANS.iter().flat_map(|plan| {
        let here = plan.modes.iter().filter(|(_, kernels)| kernels.contains(&kernel.name));
        let (module, test) = plan.test.split_once("::").unwrap_or((plan.test, ""));
        here.map(move |&(mode, _)| Run {
            name: format!("{}/{}", plan.test, mode.name),
            program: "/t/deps/live".to_owned(),
            args: [&format!("{module}::{test}"), "--test-threads=1", "--nocapture"].map(str::to_owned).to_vec(),
            env: environment(mode),
            timeout_s: 960,
        })
    });
    doctors.into_iter().chain(tests).collect()
}

/// What other kernels run and this one does not.
fn left_out(kernel: &Kernel) -> Vec<&'static str> {
    let here = |plan: &&Plan| plan.modes.iter().any(|(_, kernels)| kernels.contains(&kernel.name));
    PLANS.iter().filter(|plan| !here(plan)).map(|plan| plan.test).collect()
}

/// One block per kernel, so that the output of two guests does not mix.
fn report(kernel: &Kernel, version: &str, console: &Console, seconds: u64) {
    let mut text = format!("kernel {version}, {seconds} s");
    for run in &console.ended {
        let result = if run.code == Some(0) { "passed" } else { "failed" };
        text.push_str(&format!("\n  {result} {:6.1} s  {}", run.millis as f64 / 1000.0, run.name));
        // What the tests have measured, and what they could not test.
        let figures = run.output.lines().filter_map(|line| Some(line.split_once("figures: ")?.1));
        let skipped: BTreeSet<&str> =
            run.output.lines().filter_map(|line| Some(&line[line.find("skipped: ")?..])).collect();
        for line in figures.chain(skipped) {
            text.push_str(&format!("\n                   {line}"));
        }
    }
    let left_out = left_out(kernel);
    if !left_out.is_empty() {
        text.push_str(&format!("\n  not run on this kernel: {}", left_out.join(", ")));
    }
    say(&text);
}

fn judge(console: &Console, expected: &[String], log: &Path) -> Result<()> {
    let tail = |text: &str| {
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    };
    if let Some(run) = console.ended.iter().find(|run| run.code != Some(0)) {
        bail!("{} failed:\n{}", run.name, tail(&run.output));
    }
    let whole = || fs::read(log).map(|bytes| tail(&String::from_utf8_lossy(&bytes))).unwrap_or_default();
    if let Some(trouble) = &console.trouble {
        bail!("the kernel said `{trouble}`:\n{}", whole());
    }
    let names: Vec<&str> = console.ended.iter().map(|run| run.name.as_str()).collect();
    if !console.done || names != expected {
        bail!("the guest ended before its plan did, after {}:\n{}", names.join(", "), whole());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_name_kernels_that_exist() {
        let known = KERNELS.map(|kernel| kernel.name);
        let usual = KERNELS.iter().filter(|kernel| !kernel.is_extra).map(|kernel| kernel.name);
        assert_eq!(ALL, usual.collect::<Vec<_>>());
        let named = PLANS.iter().flat_map(|plan| plan.modes).flat_map(|(_, kernels)| *kernels);
        assert!(named.into_iter().all(|name| known.contains(name)));
    }

    #[test]
    fn each_push_runs_each_mode_on_the_oldest_and_on_the_newest_kernel() {
        for kernel in KERNELS.iter().filter(|kernel| !kernel.is_extra) {
            let runs = plan(kernel).into_iter().filter(|run| is_for_each_push(run, kernel));
            let names: Vec<String> =
                runs.map(|run| run.name).filter(|name| name.starts_with("ground_truth::every")).collect();
            let modes = if ENDS.contains(&kernel.name) { 5 } else { 2 };
            assert_eq!(names.len(), modes, "{}: {names:?}", kernel.name);
        }
    }

    #[test]
    fn a_failure_a_panic_and_an_early_end_are_failures() {
        let run = |name: &str, code| guest::Ended { name: name.to_owned(), code, millis: 1, output: "why".to_owned() };
        let expected = ["a".to_owned()];
        let log = Path::new("/nonexistent");
        let good = Console { ended: vec![run("a", Some(0))], done: true, trouble: None };
        assert!(judge(&good, &expected, log).is_ok());
        for (console, says) in [
            (Console { ended: vec![run("a", Some(101))], done: true, trouble: None }, "a failed"),
            (Console { ended: vec![run("a", None)], done: true, trouble: None }, "why"),
            (Console { ended: vec![run("a", Some(0))], done: true, trouble: Some("Oops".to_owned()) }, "Oops"),
            (Console { ended: vec![run("a", Some(0))], done: false, trouble: None }, "before its plan did"),
            (Console { ended: Vec::new(), done: true, trouble: None }, "before its plan did"),
        ] {
            let error = judge(&console, &expected, log).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(says), "{error}");
        }
    }
}
