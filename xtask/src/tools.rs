//! Cargo tools that are built once into the workspace's cache, at the version that is known to work.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{cargo, is_executable, run, say};
use crate::workspace::cache;

/// A program that `cargo install` builds.
pub struct Tool {
    /// The crate, which is also the program's name.
    pub name: &'static str,
    /// Its exact version.
    pub version: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

/// Where Debian's `llvm-22-dev` is.
pub const LLVM: &str = "/usr/lib/llvm-22";

/// Links LLVM bitcode into an eBPF object. Its LLVM must be the one of the compiler that emits the bitcode.
pub const BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.13.0",
    arguments: &["--no-default-features", "--features", "llvm-22"],
    environment: &[("LLVM_PREFIX", LLVM)],
};

/// Checks the licences and the sources of all dependencies.
pub const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", arguments: &[], environment: &[] };

/// Runs fuzz targets.
pub const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2", arguments: &[], environment: &[] };

impl Tool {
    /// The program, if it was built.
    #[must_use]
    pub fn installed(&self) -> Option<PathBuf> {
        Some(self.folder().join("bin").join(self.name)).filter(|file| is_executable(file))
    }

    /// Builds the program unless that was done before.
    ///
    /// # Errors
    /// It does not build.
    pub fn install(&self) -> Result<PathBuf> {
        if let Some(file) = self.installed() {
            return Ok(file);
        }
        say(&format!("building {} {} into {}", self.name, self.version, self.folder().display()));
        let mut command = cargo();
        command.args(["install", self.name, "--version", self.version, "--locked", "--quiet"]);
        command.args(self.arguments).arg("--root").arg(self.folder());
        command.envs(self.environment.iter().copied());
        let target = cache().join("target").join(self.name);
        plain(&mut command).env("CARGO_TARGET_DIR", &target);
        run(&mut command)?;
        // Several hundred megabytes that are not needed again; if they stay, they only take space.
        let _ = fs::remove_dir_all(target);
        self.installed().with_context(|| format!("cargo installed {} without its program", self.name))
    }

    fn folder(&self) -> PathBuf {
        cache().join(format!("{}-{}", self.name, self.version))
    }
}

/// Removes from a command's environment what is meant for the workspace's own crates, or comes from the cargo that runs
/// this program.
pub fn plain(command: &mut Command) -> &mut Command {
    for name in [
        "CARGO",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "CARGO_TARGET_DIR",
        "LD_LIBRARY_PATH",
        "MAKEFLAGS",
        "RUSTC",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
    ] {
        command.env_remove(name);
    }
    command
}
