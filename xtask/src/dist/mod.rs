//! `cargo xtask dist`: what a release consists of, in `target/dist`.
//!
//! Packages have the program as it is built here, which needs this host's glibc or a newer one; the archive and the image have
//! one that is linked statically.

mod deb;
mod image;
mod rpm;
mod sbom;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::digest::sum;
use crate::process::{cargo, run as run_command, say, which};
use crate::workspace::{root, target};

/// The version of every package.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const SUMMARY: &str = "names the processes behind TIME_WAIT sockets";

const DESCRIPTION: &str = "twtrace traces TCP connections with eBPF. It shows which process creates TIME_WAIT sockets, which \
                           destination runs out of local ports, why, and what to change.";

/// The target of the static program. Naming it keeps its flags from the build scripts.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Largest exposure of the agent's unit by `systemd-analyze security`, in tenths.
const EXPOSURE: &str = "30";

/// Where files of the project go in a package, with their modes.
const FILES: [(&str, &str, u32); 6] = [
    ("deploy/systemd/twtrace-agent.service", "usr/lib/systemd/system/twtrace-agent.service", 0o644),
    ("deploy/prometheus/twtrace.rules.yml", "usr/share/doc/twtrace/twtrace.rules.yml", 0o644),
    ("deploy/grafana/twtrace.json", "usr/share/doc/twtrace/grafana.json", 0o644),
    ("README.md", "usr/share/doc/twtrace/README.md", 0o644),
    ("CHANGELOG.md", "usr/share/doc/twtrace/CHANGELOG.md", 0o644),
    ("LICENSE-MIT", "usr/share/doc/twtrace/copyright", 0o644),
];

/// Builds everything.
///
/// # Errors
/// A step fails, or a program for it is missing.
pub fn run() -> Result<()> {
    let out = target().join("dist");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    let work = out.join("work");
    fs::create_dir_all(&work)?;
    run_command(cargo().args(["build", "--release", "-p", "twtrace"]))?;
    let program = target().join("release/twtrace");
    let fixed = build_static()?;
    let manual = work.join("manual");
    run_command(cargo().args(["run", "--quiet", "-p", "twtrace", "--example", "manual", "--"]).arg(&manual))?;
    check_unit()?;

    let tree = work.join("tree");
    stage(&tree, &program, &manual)?;
    let mut made = vec![deb::build(&tree, &out)?];
    made.extend(rpm::build(&tree, &work, &out)?);
    made.push(archive(&fixed, &manual, &work, &out)?);
    made.push(image::build(&fixed, &work, &out)?);
    made.push(sbom::write(&out)?);
    let mut sums = String::new();
    for file in &made {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(sums, "{}  {name}", sum(file)?);
        say(&format!("{name}: {} KiB", fs::metadata(file)?.len() >> 10));
    }
    fs::write(out.join("SHA256SUMS"), sums)?;
    fs::remove_dir_all(&work)?;
    say(&format!("written: {}", out.display()));
    Ok(())
}

/// The program without any library to load.
fn build_static() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "-p", "twtrace", "--target", STATIC_TARGET]);
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    run_command(&mut command)?;
    Ok(target().join(STATIC_TARGET).join("release/twtrace"))
}

/// The agent's unit is hardened, where that can be checked.
fn check_unit() -> Result<()> {
    let Some(analyze) = which("systemd-analyze") else {
        say("not checked: the agent's unit, for there is no systemd-analyze");
        return Ok(());
    };
    let unit = root().join("deploy/systemd/twtrace-agent.service");
    let mut command = Command::new(analyze);
    command.args(["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE]).arg(unit);
    crate::process::output(&mut command).context("the agent's unit is not hardened enough")?;
    Ok(())
}

/// The files of a package below a folder.
fn stage(tree: &Path, program: &Path, manual: &Path) -> Result<()> {
    put(program, &tree.join("usr/bin/twtrace"), 0o755)?;
    for (from, to, mode) in FILES {
        put(&root().join(from), &tree.join(to), mode)?;
    }
    for entry in fs::read_dir(manual.join("man"))? {
        let page = entry?;
        let to = tree.join("usr/share/man/man1").join(page.file_name());
        put(&page.path(), &to, 0o644)?;
        run_command(Command::new("gzip").args(["-9", "-n"]).arg(&to))?;
    }
    for (from, to) in [
        ("twtrace.bash", "usr/share/bash-completion/completions/twtrace"),
        ("_twtrace", "usr/share/zsh/vendor-completions/_twtrace"),
        ("twtrace.fish", "usr/share/fish/vendor_completions.d/twtrace.fish"),
    ] {
        put(&manual.join("completions").join(from), &tree.join(to), 0o644)?;
    }
    Ok(())
}

/// Copies a file with a mode, into a folder that may not exist yet.
fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let folder = to.parent().context("a file has a folder")?;
    fs::create_dir_all(folder)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// The static program with its manual, for any distribution.
fn archive(program: &Path, manual: &Path, work: &Path, out: &Path) -> Result<PathBuf> {
    let name = format!("twtrace-{VERSION}-x86_64");
    let folder = work.join(&name);
    put(program, &folder.join("twtrace"), 0o755)?;
    for name in ["LICENSE-MIT", "LICENSE-APACHE", "README.md"] {
        put(&root().join(name), &folder.join(name), 0o644)?;
    }
    run_command(Command::new("cp").arg("-r").arg(manual.join("man")).arg(manual.join("completions")).arg(&folder))?;
    let file = out.join(format!("{name}.tar.gz"));
    run_command(tar().arg("-czf").arg(&file).arg("-C").arg(work).arg(&name))?;
    Ok(file)
}

/// `tar` that writes the same bytes for the same files.
fn tar() -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]);
    tar
}
