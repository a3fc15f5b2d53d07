//! The recipe for the eBPF object.
//!
//! The target `bpfel-unknown-none` has no prebuilt `core`, so a compiler with its own library source is needed,
//! and a bpf-linker with the same LLVM. Debian's `rustc-web` set has both; elsewhere a rustup nightly with
//! `rust-src` does. `RUSTC_BOOTSTRAP=1` lets a stable compiler take `-Z build-std`.

use std::env::{self, consts};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process::{is_executable, output, run, which};
use crate::tools::{BPF_LINKER, LLVM, plain};
use crate::workspace::{cache, cargo_home, ebpf, root};

const TARGET: &str = "bpfel-unknown-none";

/// The binary of `twtrace-ebpf`.
const BINARY: &str = "twtrace";

/// A compiler that can build `core`, with the tools that turn its output into an object.
pub struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    linker: PathBuf,
    strip: PathBuf,
}

impl Toolchain {
    /// Finds what is installed: Debian's compiler first, since bpf-linker in the cache is built for its LLVM.
    ///
    /// # Errors
    /// Says what is missing and how to get it.
    pub fn find() -> Result<Self> {
        let (compiler, linker) = match Compiler::debian() {
            Some(compiler) => (compiler, BPF_LINKER.installed()),
            None => (
                Compiler::nightly().context(
                    "no Rust compiler with its library source: run `cargo xtask setup` on Debian, or \
                     `rustup toolchain install nightly --component rust-src` elsewhere",
                )?,
                which(BPF_LINKER.name).or_else(|| BPF_LINKER.installed()),
            ),
        };
        let strip = [PathBuf::from(LLVM).join("bin/llvm-strip")]
            .into_iter()
            .chain(which("llvm-strip"))
            .find(|file| is_executable(file));
        Ok(Self {
            linker: linker.context(
                "no bpf-linker: run `cargo xtask setup` on Debian, or elsewhere install one that has the LLVM \
                 of your nightly compiler",
            )?,
            strip: strip.context("no llvm-strip: run `cargo xtask setup` on Debian, or install LLVM")?,
            cargo: compiler.cargo,
            rustc: compiler.rustc,
            sysroot: compiler.sysroot,
        })
    }

    /// The versions on which the object's bytes depend.
    ///
    /// # Errors
    /// A tool cannot be run.
    pub fn version(&self) -> Result<String> {
        let rustc = output(plain(Command::new(&self.rustc).arg("--version")))?;
        let linker = output(Command::new(&self.linker).arg("--version"))?;
        Ok(format!("{rustc}, {linker}"))
    }

    /// Runs clippy on the kernel side and treats its warnings as errors. `Ok(false)` when this toolchain has no
    /// clippy.
    ///
    /// # Errors
    /// Clippy found something.
    pub fn clippy(&self) -> Result<bool> {
        if !is_executable(&self.cargo.with_file_name("cargo-clippy")) {
            return Ok(false);
        }
        let mut command = self.command("clippy");
        command.args(["--", "-Dwarnings"]);
        // A target folder of its own: clippy's `core` would otherwise displace the build's.
        command.env("CARGO_TARGET_DIR", cache().join("target/ebpf-clippy"));
        run(&mut command).map(|()| true)
    }

    /// A cargo command for the kernel side.
    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(ebpf());
        plain(&mut command);
        command.args([subcommand, "-Zbuild-std=core", "--release", "--target", TARGET]);
        if ebpf().join("Cargo.lock").exists() {
            command.arg("--locked");
        }
        command.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        command.env("CARGO_ENCODED_RUSTFLAGS", self.rustflags());
        command.env("CARGO_TARGET_DIR", cache().join("target/ebpf"));
        // The linker is found by name, so that its folder is no part of the flags that cargo hashes. The
        // compiler's own folder comes first: cargo starts its subcommands by name as well.
        let folders = [&self.cargo, &self.linker].map(|file| file.with_file_name(""));
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(folders.into_iter().chain(env::split_paths(&path))).unwrap_or(path);
        command.env("PATH", path);
        command
    }

    fn rustflags(&self) -> OsString {
        let mut flags = vec![
            OsString::from(format!("--cfg=bpf_target_arch=\"{}\"", consts::ARCH)),
            OsString::from("-Cdebuginfo=2"),
            OsString::from("-Clink-arg=--btf"),
        ];
        for (from, to) in self.remapped() {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(from);
            flag.push("=");
            flag.push(to);
            flags.push(flag);
        }
        flags.join(std::ffi::OsStr::new("\x1f"))
    }

    /// Folders whose names must not reach the object's line information: they differ from machine to machine.
    fn remapped(&self) -> Vec<(PathBuf, &'static str)> {
        let mut folders = vec![(root(), "/twtrace")];
        if let Some(home) = cargo_home() {
            // One folder a registry, named after its host.
            let registries = fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten();
            folders.extend(registries.map(|entry| (entry.path(), "/cargo")));
        }
        let library = self.sysroot.join("lib/rustlib/src/rust");
        folders.extend(library.canonicalize().ok().map(|real| (real, "/rust")));
        folders.push((library, "/rust"));
        folders.sort();
        folders.dedup();
        folders
    }
}

/// A compiler with its library source.
struct Compiler {
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
}

impl Compiler {
    fn debian() -> Option<Self> {
        Self::at(Path::new("/usr/bin"))
    }

    fn nightly() -> Option<Self> {
        let mut rustup = Command::new("rustup");
        plain(&mut rustup).args(["which", "--toolchain", "nightly", "rustc"]);
        let rustc = PathBuf::from(output(&mut rustup).ok()?);
        Self::at(rustc.parent()?)
    }

    fn at(folder: &Path) -> Option<Self> {
        let (cargo, rustc) = (folder.join("cargo"), folder.join("rustc"));
        if !is_executable(&cargo) || !is_executable(&rustc) {
            return None;
        }
        let sysroot = output(plain(Command::new(&rustc).args(["--print", "sysroot"]))).ok()?;
        let sysroot = PathBuf::from(sysroot);
        sysroot.join("lib/rustlib/src/rust/library/core").exists().then_some(Self { cargo, rustc, sysroot })
    }
}

/// Builds the kernel side and writes the object to `to`: without DWARF, with `.BTF` and `.BTF.ext`.
///
/// # Errors
/// It does not build, or the object contains a path of this machine or what depends on it.
pub fn build(toolchain: &Toolchain, to: &Path) -> Result<()> {
    run(&mut toolchain.command("build"))?;
    let linked = cache().join("target/ebpf").join(TARGET).join("release").join(BINARY);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    output(Command::new(&toolchain.strip).arg("--strip-debug").arg("-o").arg(to).arg(&linked))?;
    let object = fs::read(to).with_context(|| format!("cannot read {}", to.display()))?;
    check_paths(&object)
}

/// Fails if the object contains a path of this machine.
fn check_paths(object: &[u8]) -> Result<()> {
    for folder in [Some(root()), Some(cache()), cargo_home()].into_iter().flatten() {
        let name = folder.as_os_str().as_encoded_bytes();
        if object.windows(name.len()).any(|window| window == name) {
            bail!("the eBPF object contains {}: a path of this machine", folder.display());
        }
    }
    // A mangled name has a hash of the folder that it was built in.
    if let Some(at) = object.windows(3).position(|window| window == b"_RN") {
        let name: String = object[at..]
            .iter()
            .take(120)
            .map_while(|byte| byte.is_ascii_graphic().then(|| char::from(*byte)))
            .collect();
        bail!(
            "the eBPF object has the function {name}, which must be inlined or not mangled: it differs from folder to folder"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn machine_paths_are_found_in_the_object() {
        check_paths(b"\x7fELF /twtrace/twtrace-ebpf/src/main.rs").unwrap();
        let object = format!("\x7fELF {}/twtrace-ebpf/src/main.rs", root().display());
        let error = check_paths(object.as_bytes()).unwrap_err().to_string();
        assert!(error.ends_with("a path of this machine"), "{error}");
    }
}
