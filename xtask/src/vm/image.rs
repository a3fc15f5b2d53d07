//! The guest's file system: static programs and nothing else, as an initramfs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::kernels::{Cached, MODULES};
use crate::process::{cargo, output, say};
use crate::workspace::target;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Static programs: `/init` first, then what goes to `/t`, by path below it.
pub(super) struct Programs(Vec<(String, PathBuf)>);

/// Builds the programs of the guests and these live tests.
///
/// # Errors
/// They do not build.
pub(super) fn programs(tests: &[&str]) -> Result<Programs> {
    let folder = target().join("vm");
    let build = |command: &[&str], more: &[&str]| -> Result<String> {
        let mut cargo = cargo();
        cargo.args(command).args(["--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
        cargo.arg("--target-dir").arg(&folder).args(more);
        cargo.env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols");
        // Optimising across crates would take minutes for each test, and the guests would not be noticeably faster.
        cargo.envs([("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")]);
        cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        output(&mut cargo)
    };
    say("building static programs for the guests");
    let bins = build(&["build"], &["--package", "twtrace", "--package", "twtrace-tests", "--bins"])?;
    let chosen: Vec<&str> = tests.iter().flat_map(|test| ["--test", test]).collect();
    let built = build(&["test", "--no-run", "--package", "twtrace-tests"], &chosen)?;
    let mut programs = Vec::new();
    for (place, name, text) in [
        ("init", "twtrace-guest", &bins),
        ("t/twtrace", "twtrace", &bins),
        ("t/twtrace-workload", "twtrace-workload", &bins),
    ] {
        programs.push((place.to_owned(), executable(text, name, "bin")?));
    }
    for test in tests {
        programs.push((format!("t/deps/{test}"), executable(&built, test, "test")?));
    }
    Ok(Programs(programs))
}

/// Path of an executable in cargo's messages.
fn executable(messages: &str, name: &str, kind: &str) -> Result<PathBuf> {
    let found = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let target = message.get("target")?;
        let is_it = target.get("name")? == name && target.get("kind")?.as_array()?.iter().any(|one| one == kind);
        is_it.then(|| message.get("executable")?.as_str().map(PathBuf::from)).flatten()
    });
    found.with_context(|| format!("cargo built no {kind} {name}"))
}

/// Writes the initramfs of one kernel.
///
/// # Errors
/// A file cannot be read or written.
pub(super) fn write(programs: &Programs, kernel: &Cached, object: &Path, plan: &[u8], file: &Path) -> Result<()> {
    let mut archive = Archive::default();
    for folder in ["dev", "etc", "proc", "run", "sys", "t", "t/deps", "tmp"] {
        archive.add(folder, FOLDER, b"");
    }
    archive.add("etc/passwd", FILE, b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
    archive.add("plan.json", FILE, plan);
    archive.add("t/twtrace.bpf.o", FILE, &read(object)?);
    for (number, module) in MODULES.iter().enumerate() {
        // In the order in which they are to be loaded.
        archive.add(&format!("t/{number}-{module}.ko"), FILE, &read(&kernel.folder.join(format!("{module}.ko")))?);
    }
    for (place, program) in &programs.0 {
        archive.add(place, PROGRAM, &read(program)?);
    }
    fs::write(file, archive.finish()).with_context(|| format!("cannot write {}", file.display()))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// An archive in the format `newc` (`Documentation/driver-api/early-userspace/buffer-format.rst`).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        // Inode, mode, uid, gid, links, time, size, four device numbers, length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn archives_are_newc() {
        let mut archive = Archive::default();
        archive.add("d", FOLDER, b"");
        archive.add("d/file", FILE, b"hello");
        let bytes = archive.finish();
        assert!(bytes.starts_with(b"070701") && bytes.len() % 4 == 0);
        // Each header is 110 bytes; name and content are padded to four.
        let second = (110_usize + 2).next_multiple_of(4);
        assert_eq!(&bytes[second..second + 6], b"070701");
        assert_eq!(&bytes[second + 54..second + 62], b"00000005", "size of the content");
        assert_eq!(&bytes[second + 110..second + 116], b"d/file");
        let content = second + (110_usize + 7).next_multiple_of(4);
        assert_eq!(&bytes[content..content + 8], b"hello\0\0\0");
    }

    #[test]
    fn executables_are_found_in_messages() {
        let messages = "{\"reason\":\"x\"}\nrubbish\n\
            {\"target\":{\"name\":\"a\",\"kind\":[\"test\"]},\"executable\":null}\n\
            {\"target\":{\"name\":\"a\",\"kind\":[\"bin\"]},\"executable\":\"/x/a\"}";
        assert_eq!(executable(messages, "a", "bin").unwrap(), Path::new("/x/a"));
        assert!(executable(messages, "a", "test").is_err());
    }
}
