//! The programs of arm64 guests, built on another machine with Debian's cross compiler.
//!
//! The Rust compiler is Debian's, because its library for another architecture is a package as well.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process::{output, run};
use crate::setup;
use crate::tested::{self, Tested};
use crate::tools::plain;
use crate::workspace::{root, target};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Linker, and compiler of what is written in C.
const COMPILER: &str = "aarch64-linux-gnu-gcc";

const READELF: &str = "aarch64-linux-gnu-readelf";

/// Where Debian's arm64 packages have their libraries, and the programs look for them.
const LIBRARIES: &str = "/lib/aarch64-linux-gnu";

/// The loader, which each program names.
const LOADER: &str = "/lib/ld-linux-aarch64.so.1";

/// Compiler, its libraries and the guests' machine. The second brings the libraries that the programs load.
const PACKAGES: [&str; 4] =
    ["gcc-aarch64-linux-gnu", "libstd-rust-web-dev:arm64", "libc6-dev-arm64-cross", "qemu-system-arm"];

/// Installs what is missing. Not a part of `cargo xtask setup`: only arm64 guests need it.
///
/// # Errors
/// This is not Debian, or a package cannot be installed.
pub(crate) fn install() -> Result<()> {
    if !setup::is_debian(&fs::read_to_string("/etc/os-release").unwrap_or_default()) {
        bail!("the programs of arm64 guests are built with Debian's packages, and this is not Debian");
    }
    if PACKAGES.iter().all(|name| setup::is_installed(name)) {
        return Ok(());
    }
    if nix::unistd::Uid::effective().is_root() {
        run(Command::new("dpkg").args(["--add-architecture", "arm64"]))?;
    }
    setup::debian_packages(&PACKAGES).context("arm64 packages come after `dpkg --add-architecture arm64`")
}

/// Builds what guests run.
///
/// # Errors
/// It does not build.
pub(crate) fn build() -> Result<Tested> {
    let mut command = Command::new("/usr/bin/cargo");
    plain(&mut command).current_dir(root());
    command.args(["build", "--profile", tested::PROFILE, "--target", TARGET]);
    command.args(["-p", "twtrace", "-p", "twtrace-tests", "--bins", "--test", tested::LIVE]);
    command.env("RUSTC", "/usr/bin/rustc").env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", COMPILER);
    command.env("CARGO_TARGET_DIR", target());
    Tested::from(command, "the programs of arm64 guests")
}

/// The libraries that a program loads, and the loader. `ldd` would have to run it.
///
/// # Errors
/// One of them is not installed.
pub(crate) fn libraries(program: &Path) -> Result<Vec<String>> {
    let mut found = vec![LOADER.to_owned()];
    let mut next = vec![program.to_owned()];
    while let Some(file) = next.pop() {
        for name in needed(&output(Command::new(READELF).arg("--dynamic").arg(&file))?) {
            let library = Path::new(LIBRARIES).join(&name);
            let path = library.display().to_string();
            if Path::new(LOADER).file_name() == Some(OsStr::new(&name)) || found.contains(&path) {
                continue;
            }
            if !library.exists() {
                bail!("{} needs {name}, which is not in {LIBRARIES}", file.display());
            }
            found.push(path);
            next.push(library);
        }
    }
    Ok(found)
}

/// The names that `readelf --dynamic` lists.
fn needed(listed: &str) -> Vec<String> {
    let name = |line: &str| {
        let (_, name) = line.split_once("(NEEDED)")?.1.split_once('[')?;
        Some(name.strip_suffix(']')?.to_owned())
    };
    listed.lines().filter_map(|line| name(line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_readelf() {
        let listed = "Dynamic section at offset 0x1 contains 2 entries:\n\
             \x20 Tag        Type                         Name/Value\n\
             \x200x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n\
             \x200x000000000000001e (FLAGS)              BIND_NOW\n\
             \x200x0000000000000001 (NEEDED)             Shared library: [libgcc_s.so.1]\n";
        assert_eq!(needed(listed), ["libc.so.6", "libgcc_s.so.1"]);
        assert!(needed("There is no dynamic section in this file.\n").is_empty());
    }
}
