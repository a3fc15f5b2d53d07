//! Stock Debian kernels: which ones, from where, and which of their files are kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::arch::Arch;
use crate::process::{output, run, say};
use crate::workspace::cache;

/// A kernel line of Debian's.
pub(super) struct Kernel {
    /// As users name it.
    pub(super) name: &'static str,
    pub(super) arch: Arch,
    /// Suites that may have it, the likeliest to be newest first.
    suites: &'static [Suite],
    /// The version's part of the package names, between prefix and suffix.
    version: &'static str,
    suffix: &'static str,
    /// Packages that together have the image and the modules.
    prefixes: &'static [&'static str],
    /// Only with `--all`.
    pub(super) is_extra: bool,
}

/// A suite, and whether it is on the mirror of security updates.
struct Suite(&'static str, bool);

/// What the tests run on.
pub(super) const KERNELS: [Kernel; 6] = [
    Kernel {
        name: "5.10",
        arch: Arch::Amd64,
        suites: &[Suite("bullseye-security", true), Suite("bullseye", false)],
        version: "5.10.0-",
        suffix: "-cloud-amd64",
        prefixes: &["linux-image-"],
        is_extra: false,
    },
    Kernel {
        name: "6.1",
        arch: Arch::Amd64,
        suites: &[Suite("bookworm-security", true), Suite("bookworm", false)],
        version: "6.1.0-",
        suffix: "-cloud-amd64",
        prefixes: &["linux-image-"],
        is_extra: false,
    },
    Kernel {
        name: "6.12",
        arch: Arch::Amd64,
        suites: &[Suite("bookworm-security", true), Suite("bookworm-backports", false)],
        version: "6.12.",
        suffix: "+deb12-cloud-amd64",
        prefixes: &["linux-image-"],
        is_extra: false,
    },
    Kernel {
        name: "6.12-rt",
        arch: Arch::Amd64,
        suites: &[Suite("bookworm-security", true), Suite("bookworm-backports", false)],
        version: "6.12.",
        suffix: "+deb12-rt-amd64",
        prefixes: &["linux-image-"],
        is_extra: true,
    },
    Kernel {
        name: "6.12-arm64",
        arch: Arch::Arm64,
        suites: &[Suite("bookworm-security", true), Suite("bookworm-backports", false)],
        version: "6.12.",
        suffix: "+deb12-cloud-arm64",
        prefixes: &["linux-image-"],
        is_extra: true,
    },
    Kernel {
        name: "7.2",
        arch: Arch::Amd64,
        suites: &[Suite("trixie-backports", false)],
        version: "7.2.",
        suffix: "+deb13-cloud-amd64",
        prefixes: &["linux-binary-", "linux-modules-"],
        is_extra: false,
    },
];

/// Modules that the tests need, besides those that these need: the census, the generator's tunnels, and connections of the
/// kernel itself.
const MODULES: [&str; 3] = ["tcp_diag", "tun", "nfsv3"];

/// The file with the names of all modules, in the order in which they are to be loaded.
const LIST: &str = "modules";

/// A kernel on disk.
pub(super) struct Cached {
    /// Full version, such as `6.1.0-50-cloud-amd64`.
    pub(super) version: String,
    /// Image and modules, by file name.
    pub(super) folder: PathBuf,
    /// Names of the modules, in the order in which they are to be loaded.
    pub(super) modules: Vec<String>,
}

/// How often a download is tried, and the pause between two tries. While a mirror is being updated, it may have
/// packages that its index does not list, or the other way round.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(10);

/// Gets a kernel, from the cache if it is there.
///
/// # Errors
/// It is not there and cannot be fetched.
pub(super) fn get(kernel: &Kernel) -> Result<Cached> {
    let folder = cache().join("kernels").join(kernel.name);
    if let Some(cached) = cached(&folder) {
        return Ok(cached);
    }
    let fetched = again(PAUSE, || fetch(kernel, &folder));
    fetched.with_context(|| format!("kernel {} cannot be had", kernel.name))
}

/// A kernel with all modules that are needed by now.
fn cached(folder: &Path) -> Option<Cached> {
    let version = fs::read_to_string(folder.join("version")).ok()?;
    let modules: Vec<String> = fs::read_to_string(folder.join(LIST)).ok()?.lines().map(str::to_owned).collect();
    let has_all = MODULES.iter().all(|module| modules.iter().any(|other| other == module));
    has_all.then(|| Cached { version, folder: folder.to_owned(), modules })
}

/// Tries until it succeeds, at most [`TRIES`] times, and returns the result of the last try.
fn again<T>(pause: Duration, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match work() {
            Ok(done) => return Ok(done),
            Err(error) => say(&format!("once more in {} s: {error:#}", pause.as_secs())),
        }
        thread::sleep(pause);
    }
    work()
}

/// Packages of one version.
struct Found {
    version: String,
    /// File and SHA256 of each.
    files: Vec<(String, String)>,
}

fn fetch(kernel: &Kernel, folder: &Path) -> Result<Cached> {
    // Created next to its final path and renamed, so that a kernel in the cache is complete.
    let work = work_beside(folder);
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let mut found: Option<Found> = None;
    let mut reasons = Vec::new();
    for Suite(suite, security) in kernel.suites {
        let candidate = mirror(*security).and_then(|mirror| {
            let index = index(&mirror, suite, kernel.arch, &work)?;
            let mut newest = newest(&index, kernel).context("it has none")?;
            newest.files.iter_mut().for_each(|(file, _)| *file = format!("{mirror}{file}"));
            Ok(newest)
        });
        match candidate {
            Ok(candidate) if found.as_ref().is_none_or(|best| numbers(&candidate.version) > numbers(&best.version)) => {
                found = Some(candidate);
            }
            Ok(_) => {}
            Err(error) => reasons.push(format!("{suite}: {error:#}")),
        }
    }
    let Some(Found { version, files }) = found else { bail!("{}", reasons.join("; ")) };
    say(&format!("fetching kernel {version}"));
    for (url, sum) in files {
        let package = work.join("package.deb");
        download(&url, &package, Some(&sum))?;
        output(Command::new("dpkg-deb").arg("-x").arg(&package).arg(work.join("tree")))?;
    }
    keep(&work, kernel.name)?;
    fs::remove_dir_all(work.join("tree"))?;
    for leftover in ["package.deb", "Packages.xz"] {
        let _ = fs::remove_file(work.join(leftover));
    }
    fs::write(work.join("version"), &version)?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(&work, folder)?;
    cached(folder).context("the cache has something else than what was written")
}

/// Where a kernel is unpacked before it is renamed to `folder`. Each kernel has its own, because they are fetched side
/// by side: `with_extension` would give 6.1 and 6.12 the same one.
fn work_beside(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    folder.with_file_name(name)
}

/// Takes image and modules out of the unpacked packages.
fn keep(work: &Path, name: &str) -> Result<()> {
    let mut all = Vec::new();
    files_below(&work.join("tree"), &mut all)?;
    let named = |wanted: &dyn Fn(&str) -> bool| {
        all.iter().find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(wanted))
    };
    let image =
        named(&|name| name.starts_with("vmlinuz")).with_context(|| format!("the package of {name} has no image"))?;
    fs::copy(image, work.join("vmlinuz"))?;
    let mut modules = Modules { files: &all, to: work, loaded: Vec::new() };
    for module in MODULES {
        modules.add(module).with_context(|| format!("{name} has no {module}"))?;
    }
    fs::write(work.join(LIST), modules.loaded.join("\n"))?;
    Ok(())
}

/// Modules that are taken out of a package.
struct Modules<'a> {
    /// The package's files.
    files: &'a [PathBuf],
    /// Where they are written.
    to: &'a Path,
    /// Each after those that it needs.
    loaded: Vec<String>,
}

impl Modules<'_> {
    /// Takes out a module, and before it what it needs.
    fn add(&mut self, module: &str) -> Result<()> {
        if self.loaded.iter().any(|other| other == module) {
            return Ok(());
        }
        // The kernel takes `-` and `_` in a module's name for the same.
        let is_it = |path: &&PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let plain = name.strip_suffix(".xz").unwrap_or(name).strip_suffix(".ko");
            plain.is_some_and(|plain| plain.replace('-', "_") == module)
        };
        let file = self.files.iter().find(is_it).with_context(|| format!("the package has no {module}.ko"))?;
        let is_packed = file.extension().is_some_and(|extension| extension == "xz");
        let code = if is_packed { unpack(file)? } else { fs::read(file)? };
        for needed in needs(&code) {
            self.add(&needed)?;
        }
        fs::write(self.to.join(format!("{module}.ko")), code)?;
        self.loaded.push(module.to_owned());
        Ok(())
    }
}

/// The modules that a module needs: `depends` in its section `.modinfo`.
fn needs(code: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = code.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = code[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = value.split(|byte| *byte == b',').filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).replace('-', "_")).collect()
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files_below(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Address of the machine's own mirror, with a slash at its end.
fn mirror(security: bool) -> Result<String> {
    // Kernels are fetched side by side, and apt refuses a second update at the same time.
    static APT: Mutex<()> = Mutex::new(());
    let _alone = APT.lock().unwrap_or_else(PoisonError::into_inner);
    let targets = || {
        let mut query = Command::new("apt-get");
        query.args(["indextargets", "--format", "$(CREATED_BY) $(ORIGIN) $(REPO_URI)"]);
        output(&mut query)
    };
    if let Some(mirror) = mirror_of(&targets()?, security) {
        return Ok(mirror);
    }
    // apt names only mirrors whose package lists it has.
    run(Command::new("apt-get").args(["update", "--quiet"]))?;
    mirror_of(&targets()?, security).context("apt is set up for no mirror of Debian's")
}

fn mirror_of(targets: &str, security: bool) -> Option<String> {
    let mirrors = targets.lines().filter_map(|line| line.strip_prefix("Packages Debian "));
    let mut mirrors = mirrors.map(|address| format!("{}/", address.trim_end_matches('/')));
    mirrors.find(|address| address.contains("security") == security)
}

fn index(mirror: &str, suite: &str, arch: Arch, work: &Path) -> Result<String> {
    let file = work.join("Packages.xz");
    download(&format!("{mirror}dists/{suite}/main/binary-{}/Packages.xz", arch.name()), &file, None)?;
    String::from_utf8(unpack(&file)?).context("the package index is not text")
}

fn unpack(file: &Path) -> Result<Vec<u8>> {
    let mut command = Command::new("xz");
    command.arg("-dc").arg(file);
    let out = command.output().context("cannot start xz")?;
    if !out.status.success() {
        bail!("xz cannot read {}", file.display());
    }
    Ok(out.stdout)
}

/// With apt's own downloader, which knows the machine's proxy.
fn download(url: &str, file: &Path, sha256: Option<&str>) -> Result<()> {
    let mut command = Command::new("/usr/lib/apt/apt-helper");
    command.args(["-oAcquire::Retries=3", "download-file", url]).arg(file);
    command.args(sha256.map(|sum| format!("SHA256:{sum}")));
    output(&mut command).map(|_| ())
}

/// The newest version in an index for which all packages exist, with file and SHA256 of each.
fn newest(index: &str, kernel: &Kernel) -> Option<Found> {
    let package = |name: &str| {
        let stanza = index.split("\n\n").find(|stanza| field(stanza, "Package") == Some(name))?;
        Some((field(stanza, "Filename")?.to_owned(), field(stanza, "SHA256")?.to_owned()))
    };
    let mut versions: Vec<&str> = index
        .lines()
        .filter_map(|line| line.strip_prefix("Package: ")?.strip_prefix(kernel.prefixes[0]))
        .filter(|version| {
            let middle = version.strip_prefix(kernel.version).and_then(|rest| rest.strip_suffix(kernel.suffix));
            middle.is_some_and(|middle| !middle.is_empty() && middle.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .collect();
    versions.sort_by_key(|version| numbers(version));
    versions.into_iter().rev().find_map(|version| {
        let packages: Option<Vec<_>> =
            kernel.prefixes.iter().map(|prefix| package(&format!("{prefix}{version}"))).collect();
        Some(Found { version: version.to_owned(), files: packages? })
    })
}

fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The numbers in a version, for comparing.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const INDEX: &str = "Package: linux-image-6.1.0-9-cloud-amd64\nFilename: a/9.deb\nSHA256: 99\n\n\
        Package: linux-image-6.1.0-50-cloud-amd64\nFilename: a/50.deb\nSHA256: 50\n\n\
        Package: linux-image-6.1.0-51-cloud-amd64-dbg\nFilename: a/dbg.deb\nSHA256: 1\n\n\
        Package: linux-binary-7.2.12+deb13-cloud-amd64\nFilename: a/b.deb\nSHA256: 2\n\n\
        Package: linux-modules-7.2.12+deb13-cloud-amd64\nFilename: a/m.deb\nSHA256: 3\n\n\
        Package: linux-binary-7.2.13+deb13-cloud-amd64\nFilename: a/b13.deb\nSHA256: 4\n";

    #[test]
    fn the_newest_whole_version_is_chosen() {
        let Found { version, files } = newest(INDEX, &KERNELS[1]).unwrap();
        assert_eq!(version, "6.1.0-50-cloud-amd64");
        assert_eq!(files, [("a/50.deb".to_owned(), "50".to_owned())]);
        let Found { version, files } = newest(INDEX, &KERNELS[5]).unwrap();
        assert_eq!((version.as_str(), files.len()), ("7.2.12+deb13-cloud-amd64", 2), "the newer one has no modules");
        assert!(newest(INDEX, &KERNELS[0]).is_none());
    }

    #[test]
    fn modules_are_taken_out_after_what_they_need() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, depends: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("\x7fELF\0license=GPL\0depends={depends}\0intree=Y\0")).unwrap();
            path
        };
        let files = [write("a.ko", "b,c-d"), write("b.ko", "c_d"), write("c-d.ko", ""), write("other.ko", "not there")];
        let to = folder.path().join("to");
        fs::create_dir(&to).unwrap();
        let mut modules = Modules { files: &files, to: &to, loaded: Vec::new() };
        modules.add("a").unwrap();
        modules.add("b").unwrap();
        assert_eq!(modules.loaded, ["c_d", "b", "a"]);
        assert!(to.join("c_d.ko").is_file());
        assert!(modules.add("other").unwrap_err().to_string().contains("not there"));
    }

    #[test]
    fn what_fails_is_tried_three_times() {
        let tries_until = |success: u32| {
            let mut tries = 0;
            let done = again(Duration::ZERO, || {
                tries += 1;
                if tries < success { bail!("try {tries}") } else { Ok(()) }
            });
            (tries, done.map_err(|error| error.to_string()))
        };
        assert_eq!(tries_until(1), (1, Ok(())));
        assert_eq!(tries_until(3), (3, Ok(())));
        assert_eq!(tries_until(4), (3, Err("try 3".to_owned())));
    }

    #[test]
    fn mirrors_come_from_apt() {
        let targets = "Packages Debian http://m/debian\nSources Debian http://s/\nPackages Other http://o/\n\
                       Packages Debian http://m/debian-security/\n";
        assert_eq!(mirror_of(targets, false).as_deref(), Some("http://m/debian/"));
        assert_eq!(mirror_of(targets, true).as_deref(), Some("http://m/debian-security/"));
        assert_eq!(mirror_of("", false), None);
    }

    #[test]
    fn no_two_kernels_are_unpacked_into_the_same_folder() {
        let folders: std::collections::HashSet<_> =
            KERNELS.iter().map(|kernel| work_beside(&Path::new("/cache").join(kernel.name))).collect();
        assert_eq!(folders.len(), KERNELS.len(), "{folders:?}");
    }
}
