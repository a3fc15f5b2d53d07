//! What ties the committed eBPF object to the sources that it was built from.
//!
//! The digest is a text file in the format of `sha256sum`, one line a file: all kernel-side sources, then the
//! object. So a difference names the file, and `sha256sum -c twtrace-probe/bpf/twtrace.bpf.digest` agrees with
//! [`check`] except for sources that were added since.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};

use crate::workspace::{DIGEST, OBJECT};

/// Path, relative to the workspace, to the SHA-256 of its content in hexadecimal.
pub type Sums = BTreeMap<String, String>;

/// Single files that the object is built from.
const FILES: [&str; 3] = ["twtrace-ebpf/Cargo.toml", "twtrace-ebpf/Cargo.lock", "twtrace-common/Cargo.toml"];

/// Folders that the object is built from, with everything in them.
const FOLDERS: [&str; 2] = ["twtrace-ebpf/src", "twtrace-common/src"];

/// SHA-256 of all kernel-side sources.
///
/// # Errors
/// One of them cannot be read.
pub fn sources(root: &Path) -> Result<Sums> {
    let mut sums = Sums::new();
    for file in FILES {
        sums.insert(file.to_owned(), sum(&root.join(file))?);
    }
    for folder in FOLDERS {
        walk(root, folder, &mut sums)?;
    }
    Ok(sums)
}

/// The digest file's text.
#[must_use]
pub fn render(sources: &Sums, object: &str, built_by: &str) -> String {
    let mut text = format!(
        "# SHA-256 of the kernel-side sources and of the eBPF object that was built from them.\n\
         # Written by `cargo xtask build-ebpf`, compared by `cargo xtask build-ebpf --check`.\n\
         {BUILT_BY}{built_by}\n"
    );
    for (path, sum) in sources.iter().map(|(path, sum)| (path.as_str(), sum.as_str())).chain([(OBJECT, object)]) {
        let _ = writeln!(text, "{sum}  {path}");
    }
    text
}

const BUILT_BY: &str = "# Built by: ";

/// The compiler and linker that the digest names.
#[must_use]
pub fn built_by(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix(BUILT_BY))
}

/// Fails unless the committed object is the one built from the sources that are there now.
///
/// # Errors
/// Names each file that differs, or the file that cannot be read.
pub fn check(root: &Path) -> Result<()> {
    compare(root).map_err(|error| anyhow!("{error:#}; run `cargo xtask build-ebpf` and commit twtrace-probe/bpf"))
}

fn compare(root: &Path) -> Result<()> {
    let text = fs::read_to_string(root.join(DIGEST)).with_context(|| format!("cannot read {DIGEST}"))?;
    let recorded = parse(&text).with_context(|| format!("{DIGEST} is damaged"))?;
    let mut actual = sources(root)?;
    actual.insert(OBJECT.to_owned(), sum(&root.join(OBJECT))?);

    let mut differences = Vec::new();
    for path in actual.keys().chain(recorded.keys().filter(|path| !actual.contains_key(*path))) {
        match (recorded.get(path), actual.get(path)) {
            (Some(recorded), Some(actual)) if recorded == actual => {}
            (Some(_), Some(_)) => differences.push(format!("{path} was changed")),
            (None, _) => differences.push(format!("{path} was added")),
            (_, None) => differences.push(format!("{path} was removed")),
        }
    }
    if !differences.is_empty() {
        bail!("the committed eBPF object was not built from these sources: {}", differences.join(", "));
    }
    Ok(())
}

/// SHA-256 of a file in hexadecimal.
///
/// # Errors
/// The file cannot be read.
pub fn sum(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Sha256::digest(&bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

fn parse(text: &str) -> Result<Sums> {
    let mut sums = Sums::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (sum, path) = line.split_once("  ").with_context(|| format!("no sum in line `{line}`"))?;
        sums.insert(path.to_owned(), sum.to_owned());
    }
    Ok(sums)
}

fn walk(root: &Path, folder: &str, sums: &mut Sums) -> Result<()> {
    let entries = fs::read_dir(root.join(folder)).with_context(|| format!("cannot read {folder}"))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {folder}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // An editor's swap file is no source.
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{folder}/{name}");
        if entry.file_type().with_context(|| format!("cannot read {path}"))?.is_dir() {
            walk(root, &path, sums)?;
        } else {
            let sum = sum(&entry.path())?;
            sums.insert(path, sum);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn workspace() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["twtrace-ebpf/src/hooks", "twtrace-common/src", "twtrace-probe/bpf"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in FILES.iter().chain(&["twtrace-ebpf/src/hooks/a.rs", "twtrace-common/src/lib.rs", OBJECT]) {
            fs::write(dir.path().join(file), file).unwrap();
        }
        let object = sum(&dir.path().join(OBJECT)).unwrap();
        let text = render(&sources(dir.path()).unwrap(), &object, "rustc 1, linker 2");
        fs::write(dir.path().join(DIGEST), text).unwrap();
        dir
    }

    fn failure(dir: &tempfile::TempDir) -> String {
        format!("{:#}", check(dir.path()).unwrap_err())
    }

    #[test]
    fn sum_is_sha256() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc").unwrap();
        assert_eq!(sum(file.path()).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn unchanged_sources_pass() {
        let dir = workspace();
        check(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join(DIGEST)).unwrap();
        assert_eq!(built_by(&text), Some("rustc 1, linker 2"));
    }

    #[test]
    fn each_difference_is_named() {
        let dir = workspace();
        fs::write(dir.path().join("twtrace-ebpf/src/new.rs"), "").unwrap();
        fs::remove_file(dir.path().join("twtrace-ebpf/src/hooks/a.rs")).unwrap();
        fs::write(dir.path().join("twtrace-common/src/lib.rs"), "other").unwrap();
        fs::write(dir.path().join(OBJECT), "other").unwrap();
        let message = failure(&dir);
        for part in [
            "twtrace-ebpf/src/new.rs was added",
            "twtrace-ebpf/src/hooks/a.rs was removed",
            "twtrace-common/src/lib.rs was changed",
            "twtrace-probe/bpf/twtrace.bpf.o was changed",
            "run `cargo xtask build-ebpf`",
        ] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }

    #[test]
    fn missing_or_damaged_files_are_named() {
        let dir = workspace();
        fs::write(dir.path().join(DIGEST), "nonsense\n").unwrap();
        assert!(failure(&dir).contains("is damaged"));
        fs::remove_file(dir.path().join(OBJECT)).unwrap();
        fs::write(dir.path().join(DIGEST), "# nothing\n").unwrap();
        assert!(failure(&dir).contains("twtrace.bpf.o"));
        fs::remove_file(dir.path().join(DIGEST)).unwrap();
        assert!(failure(&dir).contains("cannot read twtrace-probe/bpf/twtrace.bpf.digest"));
    }
}
