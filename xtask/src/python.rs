//! A Python with the libraries that users read recordings with: it runs the examples of `docs/recording.md`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{output, run, say};
use crate::workspace::cache;

/// From PyPI, at versions that are known to work together.
const LIBRARIES: [&str; 4] = ["duckdb==2.0.0", "polars==2.1.0", "pandas==3.1.1", "pyarrow==26.0.1"];

/// The interpreter, in a virtual environment of its own.
#[must_use]
pub fn interpreter() -> PathBuf {
    folder().join("bin/python")
}

fn folder() -> PathBuf {
    cache().join("python")
}

/// Creates the environment unless it exists.
///
/// # Errors
/// There is no Python, or the libraries cannot be fetched.
pub fn install() -> Result<()> {
    let done = folder().join("libraries");
    let wanted = LIBRARIES.join("\n");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    say(&format!("fetching {} into {}", LIBRARIES.join(", "), folder().display()));
    // Remove what an older or interrupted installation left behind.
    let _ = fs::remove_dir_all(folder());
    output(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(folder()))?;
    run(Command::new(interpreter())
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(LIBRARIES))?;
    fs::write(&done, wanted).with_context(|| format!("cannot write {}", done.display()))
}
