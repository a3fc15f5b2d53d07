//! `twtrace config`: checks the configuration file, or writes one with the defaults.

use crate::cli::ConfigArgs;
use crate::config::{self, Found};
use anyhow::bail;
use std::io::{self, Write};

/// Writes the defaults, or what became of the file.
///
/// # Errors
/// The file has a mistake, or the output cannot be written to.
pub fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if args.default {
        out.write_all(config::DEFAULT.as_bytes())?;
        return Ok(());
    }
    let Found { path, exists, config } = config::find();
    if let Err(error) = config {
        bail!("{error}");
    }
    match path {
        Some(path) if exists => writeln!(out, "{}: no mistakes", path.display())?,
        Some(path) => {
            let folder = path.parent().unwrap_or(&path).display();
            writeln!(out, "There is no configuration file: the defaults apply. To begin with one:")?;
            writeln!(out, "  mkdir -p {folder} && twtrace config --default > {}", path.display())?;
        }
        None => writeln!(out, "There is no home directory (HOME), and so no configuration file: the defaults apply.")?,
    }
    if !nix::unistd::geteuid().is_root() {
        writeln!(out, "`sudo twtrace top` reads the file of root: see `sudo twtrace config`.")?;
    }
    Ok(())
}
