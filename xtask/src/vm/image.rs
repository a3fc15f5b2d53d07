//! The guest's file system: programs, the libraries that they load, and nothing else, as an initramfs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::arch::Arch;
use super::kernels::Cached;
use crate::cross;
use crate::process::output;
use crate::tested::Tested;

/// Programs and libraries, by path in the guest.
pub(super) struct Programs(Vec<(String, PathBuf)>);

impl Programs {
    /// What guests of this architecture run.
    ///
    /// # Errors
    /// It was not built, or not for them.
    pub(super) fn of(tested: &Tested, arch: Arch) -> Result<Self> {
        let mut files = vec![
            ("init".to_owned(), tested.program("twtrace-guest")?.to_owned()),
            ("t/twtrace".to_owned(), tested.program("twtrace")?.to_owned()),
            ("t/twtrace-workload".to_owned(), tested.program("twtrace-workload")?.to_owned()),
            ("t/deps/live".to_owned(), tested.live()?.to_owned()),
        ];
        let mut libraries = BTreeSet::new();
        for (_, program) in &files {
            libraries.extend(match arch {
                Arch::Amd64 => loaded(&output(Command::new("ldd").arg(program))?),
                Arch::Arm64 => cross::libraries(program)?,
            });
        }
        files.extend(libraries.into_iter().map(|library| (library.trim_start_matches('/').to_owned(), library.into())));
        Ok(Self(files))
    }
}

/// The libraries that `ldd` lists, and the loader.
fn loaded(listed: &str) -> Vec<String> {
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    listed.lines().filter_map(path).collect()
}

/// Writes the initramfs of one kernel.
///
/// # Errors
/// A file cannot be read or written.
pub(super) fn write(programs: &Programs, kernel: &Cached, object: &Path, plan: &[u8], file: &Path) -> Result<()> {
    let mut archive = Archive::default();
    let mut folders: BTreeSet<String> = ["dev", "etc", "proc", "run", "sys", "tmp"].map(str::to_owned).into();
    for (place, _) in &programs.0 {
        let above = Path::new(place).ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
        folders.extend(above.map(|folder| folder.display().to_string()));
    }
    // Each after the one that it is in.
    for folder in folders {
        archive.add(&folder, FOLDER, b"");
    }
    archive.add("etc/passwd", FILE, b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
    archive.add("plan.json", FILE, plan);
    archive.add("t/twtrace.bpf.o", FILE, &read(object)?);
    for (number, module) in kernel.modules.iter().enumerate() {
        // In the order in which they are to be loaded.
        archive.add(&format!("t/{number:02}-{module}.ko"), FILE, &read(&kernel.folder.join(format!("{module}.ko")))?);
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
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(loaded(listed), ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(loaded("\tstatically linked\n").is_empty());
    }

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
}
