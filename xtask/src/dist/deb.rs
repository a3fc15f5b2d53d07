//! The package of Debian and its relatives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{DESCRIPTION, SUMMARY, VERSION};
use crate::process::run;

/// Builds it from the files of a package.
pub(super) fn build(tree: &Path, out: &Path) -> Result<PathBuf> {
    let control = tree.join("DEBIAN");
    fs::create_dir_all(&control)?;
    fs::write(
        control.join("control"),
        format!(
            "Package: twtrace\nVersion: {VERSION}\nArchitecture: amd64\nMaintainer: The twtrace authors\nSection: net\n\
             Priority: optional\nDepends: libc6 (>= 2.34), libgcc-s1\nDescription: {SUMMARY}\n {DESCRIPTION}\n"
        ),
    )?;
    let file = out.join(format!("twtrace_{VERSION}_amd64.deb"));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-Zxz", "--build"]).arg(tree).arg(&file))?;
    fs::remove_dir_all(&control)?;
    Ok(file)
}
