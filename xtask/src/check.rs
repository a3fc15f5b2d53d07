//! `cargo xtask check`: what a change must pass before anything slow.

use anyhow::Result;

use crate::ebpf::Toolchain;
use crate::harness::Seen;
use crate::process::{cargo, run as run_command, say};
use crate::tested::Tested;
use crate::tidy;

/// Checks form, structure and lints, and runs all tests that need no root.
///
/// # Errors
/// Names the first that fails.
pub fn run() -> Result<()> {
    fmt()?;
    tidy::run()?;
    clippy(&[])?;
    match Toolchain::find() {
        Ok(toolchain) if toolchain.clippy()? => {}
        _ => say("not checked: the kernel side, for there is no toolchain with clippy for it (`cargo xtask setup`)"),
    }
    let mut seen = Seen::default();
    let done = Tested::build()?.unit(&mut seen);
    say(seen.text().trim_end());
    done
}

/// Fails when rustfmt would change a file.
pub(crate) fn fmt() -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))?;
    run_command(cargo().args(["fmt", "--check", "--manifest-path", "twtrace-ebpf/Cargo.toml"]))
}

/// Treats clippy's warnings as errors. `features` are those of the workspace's packages, such as `twtrace/build-ebpf`.
pub(crate) fn clippy(features: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets"]);
    command.args(features.iter().flat_map(|feature| ["--features", feature]));
    run_command(command.args(["--", "-Dwarnings"]))
}
