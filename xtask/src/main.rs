//! `cargo xtask`: the toolbox of this workspace.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{bench, build_ebpf, check, dist, fuzz, setup, soak, test, tidy, vm};

/// The toolbox of this workspace
///
/// Everything that is built or fetched is kept in `.cache` in the workspace, or in $TWTRACE_CACHE.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need and is not there yet
    Setup(setup::Args),
    /// Build the eBPF object from source and put it into twtrace-probe/bpf/
    BuildEbpf(build_ebpf::Args),
    /// Check form, structure and lints, and run the tests that need no root
    Check,
    /// Run every check and every test
    Test(test::Args),
    /// Print the structure of the tree: crates, circles of imports, long files
    Tidy,
    /// Feed arbitrary input to the code that reads data from outside
    Fuzz(fuzz::Args),
    /// Compare with other programs, in the same run
    Bench(bench::Args),
    /// Build packages, the container image and what else belongs to a release, in target/dist
    Dist,
    /// Watch the memory of `top` and `record` under a long load
    Soak(soak::Args),
    /// Run the live tests on stock kernels in virtual machines
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::BuildEbpf(args) => build_ebpf::run(&args),
        Command::Check => check::run(),
        Command::Test(args) => test::run(&args),
        Command::Tidy => tidy::run(),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Dist => dist::run(),
        Command::Soak(args) => soak::run(&args),
        Command::Vm(args) => vm::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error is closed as well.
            let _ = writeln!(std::io::stderr(), "xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
