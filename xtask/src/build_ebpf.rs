//! `cargo xtask build-ebpf`.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::digest;
use crate::ebpf::{self, Toolchain};
use crate::process::say;
use crate::workspace::{DIGEST, OBJECT, root};

/// Options of `cargo xtask build-ebpf`.
#[derive(clap::Args)]
pub struct Args {
    /// Build nothing: fail unless the committed object belongs to the sources
    #[arg(long)]
    check: bool,
}

/// Builds the object, puts it into `twtrace-probe/bpf` and writes its digest; or checks them.
///
/// # Errors
/// The object does not build, or (`--check`) does not belong to the sources.
pub fn run(args: &Args) -> Result<()> {
    if args.check {
        digest::check(&root())?;
        say(&format!("{OBJECT} belongs to these sources"));
        return Ok(());
    }
    let toolchain = Toolchain::find()?;
    let object = root().join(OBJECT);
    // A new file that is then renamed: a program that is being compiled reads the old or the new, never half.
    let new = object.with_extension("o.new");
    let locked = root().join("twtrace-ebpf/Cargo.lock").exists();
    let before = if locked { Some(digest::sources(&root())?) } else { None };
    ebpf::build(&toolchain, &new)?;
    let sources = digest::sources(&root())?;
    if before.is_some_and(|before| before != sources) {
        bail!("the kernel-side sources changed while they were built: run `cargo xtask build-ebpf` again");
    }
    let text = digest::render(&sources, &digest::sum(&new)?, &toolchain.version()?);
    let size = fs::metadata(&new).with_context(|| format!("cannot read {}", new.display()))?.len();
    fs::rename(&new, &object).with_context(|| format!("cannot write {}", object.display()))?;
    fs::write(root().join(DIGEST), text).with_context(|| format!("cannot write {DIGEST}"))?;
    say(&format!("{OBJECT}: {size} bytes"));
    Ok(())
}
