//! The list of everything that the program is built from, in CycloneDX form.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::VERSION;
use crate::process::{cargo, output};

/// Writes it.
pub(super) fn write(out: &Path) -> Result<PathBuf> {
    let mut tree = cargo();
    tree.args(["tree", "-p", "twtrace", "--edges", "normal,build", "--prefix", "none", "--locked"]);
    tree.args(["--no-dedupe", "--format", "{p}|{l}"]);
    let bom = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "twtrace", "version": VERSION}},
        "components": components(&output(&mut tree)?),
    });
    let file = out.join(format!("twtrace-{VERSION}.cdx.json"));
    fs::write(&file, serde_json::to_vec_pretty(&bom)?)?;
    Ok(file)
}

/// The crates that `cargo tree` lists, each once.
fn components(tree: &str) -> Vec<Value> {
    let mut lines: Vec<&str> = tree.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    let component = |line: &str| {
        let (package, licence) = line.split_once('|')?;
        let mut words = package.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        // Those with a path are the project's own.
        let is_own = words.any(|word| word.starts_with("(/"));
        let purl = format!("pkg:cargo/{name}@{version}");
        (!is_own).then(|| {
            json!({
                "type": "library",
                "name": name,
                "version": version,
                "purl": purl,
                "licenses": [{"expression": licence.replace('/', " OR ")}],
            })
        })
    };
    lines.into_iter().filter_map(component).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crate_from_elsewhere_is_listed_once() {
        let tree = "twtrace v0.1.0 (/x/twtrace)|MIT OR Apache-2.0\nanyhow v1.0.104|MIT OR Apache-2.0\n\
                    libc v0.2.191|MIT/Apache-2.0\nanyhow v1.0.104|MIT OR Apache-2.0\n";
        let found = components(tree);
        let names: Vec<&str> = found.iter().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(names, ["anyhow", "libc"]);
        assert_eq!(found[1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(found[0]["purl"], "pkg:cargo/anyhow@1.0.104");
    }
}
