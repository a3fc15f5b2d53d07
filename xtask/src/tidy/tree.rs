//! What the structure of the tree is read from: the manifests, by cargo, and the text of all Rust files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::circles::{self, Source};
use crate::process::{cargo, output};
use crate::workspace::root;

/// A crate of the workspace.
pub(super) struct Crate {
    pub(super) name: String,
    /// Crates of the workspace that it depends on, sorted.
    pub(super) arrows: Vec<String>,
    /// Files in its widest circle of imports.
    pub(super) circle: Vec<String>,
    /// Files that import from a sibling that they must not know.
    pub(super) siblings: Vec<(String, String)>,
}

/// The structure of the tree.
pub(super) struct Tree {
    pub(super) crates: Vec<Crate>,
    /// Files of more than the asked number of lines, the longest first.
    pub(super) long: Vec<(String, usize)>,
}

/// The parts of the output of `cargo metadata` that are used here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// None for `[dependencies]`.
    kind: Option<String>,
}

impl Tree {
    /// Reads it from this checkout. `apart` are folders of crates whose modules must not import from each other.
    pub(super) fn read(limit: usize, apart: &[(&str, &str)]) -> Result<Self> {
        let json = output(cargo().args(["metadata", "--no-deps", "--offline", "--format-version", "1"]))?;
        let metadata: Metadata = serde_json::from_str(&json).context("cannot read what `cargo metadata` printed")?;
        let mut files = Vec::new();
        walk(&root(), "", &mut files)?;
        files.sort();

        let mut crates = Vec::new();
        for package in &metadata.packages {
            let in_workspace = |name: &str| metadata.packages.iter().any(|package| package.name == name);
            let ours = package.dependencies.iter().filter(|one| one.kind.is_none() && in_workspace(&one.name));
            let mut arrows: Vec<String> = ours.map(|one| one.name.clone()).collect();
            arrows.sort();
            arrows.dedup();
            let folder = package.manifest_path.strip_prefix(&metadata.workspace_root)?.with_file_name("src");
            let sources: Vec<Source> = files
                .iter()
                .filter_map(|(path, text)| {
                    let path = Path::new(path).strip_prefix(&folder).ok()?;
                    Some((path.to_str()?.to_owned(), text.clone()))
                })
                .collect();
            let folders = apart.iter().filter(|(of, _)| *of == package.name);
            let siblings = folders.flat_map(|(_, folder)| circles::siblings(&sources, folder)).collect();
            crates.push(Crate { name: package.name.clone(), arrows, circle: circles::widest(&sources), siblings });
        }
        crates.sort_by(|a, b| a.name.cmp(&b.name));

        let mut long: Vec<(String, usize)> = files
            .into_iter()
            .map(|(path, text)| (path, text.lines().count()))
            .filter(|(_, lines)| *lines > limit)
            .collect();
        long.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
        Ok(Self { crates, long })
    }
}

/// Collects the Rust files in a folder, which is relative to the root.
fn walk(root: &Path, folder: &str, files: &mut Vec<Source>) -> Result<()> {
    let whole = root.join(folder);
    let failed = || format!("cannot read {}", whole.display());
    for entry in fs::read_dir(&whole).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What was built or fetched, what git keeps, and editors' swap files.
        if name.starts_with('.') || name == "target" {
            continue;
        }
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.file_type().with_context(|| format!("cannot read {path}"))?.is_dir() {
            walk(root, &path, files)?;
        } else if path.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
            files.push((path, text));
        }
    }
    Ok(())
}
