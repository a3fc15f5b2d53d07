//! The directory of a recording. Files are opened relative to it and never through a symbolic link.

use super::disk::{DiskChange, Journal, OutFile};
use anyhow::{Context as _, bail};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// Name of the manifest.
pub(super) const MANIFEST: &str = "recording.json";

/// Why nothing can be written any more.
const GONE: &str = "the directory was removed";

/// Suffix of a file that is being written, before it gets its name.
const TEMPORARY: &str = ".tmp";

/// A file that was left out because of its type.
#[derive(Debug, thiserror::Error)]
#[error("is not a regular file")]
struct NotRegular;

/// An open directory.
#[derive(Debug)]
pub(super) struct RecordingDir {
    dir: OwnedFd,
    path: PathBuf,
    journal: Journal,
}

fn directory() -> OFlag {
    OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY
}

impl RecordingDir {
    /// An existing directory, for reading.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let dir = open(path, directory(), Mode::empty())?;
        Ok(Self { dir, path: path.to_owned(), journal: Journal::default() })
    }

    /// A new directory, or with `overwrite` that of an older recording, which is emptied.
    pub(super) fn create(path: &Path, overwrite: bool, journal: Journal) -> anyhow::Result<(Self, Lock)> {
        let name = path.file_name().with_context(|| format!("{} is no name for a recording", path.display()))?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent_dir = open(parent, directory(), Mode::empty())
            .with_context(|| format!("cannot record into {}: cannot open {}", path.display(), parent.display()))?;
        let made = match mkdirat(&parent_dir, name, Mode::S_IRWXU) {
            Ok(()) => true,
            Err(Errno::EEXIST) if overwrite => false,
            Err(Errno::EEXIST) => bail!(
                "{} exists already: choose another name, or give --overwrite to replace a recording",
                path.display()
            ),
            Err(error) => return Err(error).with_context(|| format!("cannot create the directory {}", path.display())),
        };
        let dir = match openat(&parent_dir, name, directory() | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                bail!("{} is no recording, so it is not replaced: choose another name", path.display())
            }
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        };
        let place = Self { dir, path: path.to_owned(), journal };
        let lock = place.lock()?.with_context(|| format!("{} is being recorded right now", path.display()))?;
        if !made {
            fchmod(&place.dir, Mode::S_IRWXU).with_context(|| format!("cannot protect {}", path.display()))?;
            place.empty()?;
        }
        Ok((place, lock))
    }

    /// Removes the files of a recording. Fails if the directory is not a recording.
    fn empty(&self) -> anyhow::Result<()> {
        let names = self.names()?;
        let known = |name: &str| {
            let name = name.strip_suffix(TEMPORARY).unwrap_or(name);
            name == MANIFEST || super::schema::parse_file(name).is_some()
        };
        if !names.is_empty() && !names.iter().any(|name| name == MANIFEST) {
            bail!("{} is no recording, so it is not replaced: choose another name", self.path.display());
        }
        if let Some(name) = names.iter().find(|name| !known(name)) {
            bail!("{} contains {name:?}, which is no part of a recording: move it away first", self.path.display());
        }
        // The manifest last: until then it is a recording, and the next attempt can replace it.
        for name in names.iter().filter(|name| *name != MANIFEST).chain(names.iter().filter(|name| *name == MANIFEST)) {
            self.remove(name)?;
        }
        Ok(())
    }

    /// Removes all of it.
    pub(super) fn discard(&self) -> anyhow::Result<()> {
        self.empty()?;
        std::fs::remove_dir(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Marks it as being written; `None` when another process already does so.
    fn lock(&self) -> io::Result<Option<Lock>> {
        let file = File::from(self.dir.try_clone()?);
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            // Some file systems have no locks. Then no process is kept out.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(Lock { _file: file })),
        }
    }

    /// Whether a process is writing to it now.
    pub(super) fn is_being_written(&self) -> bool {
        // A separate descriptor: locks belong to the open file description.
        let Ok(own) = openat(&self.dir, ".", directory(), Mode::empty()) else { return false };
        matches!(File::from(own).try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Names of all files.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let own = openat(&self.dir, ".", directory(), Mode::empty())?;
        let mut dir = Dir::from_fd(own)?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a regular file for reading.
    pub(super) fn read(&self, name: &str) -> io::Result<File> {
        // Without blocking, in case it is a pipe.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = File::from(openat(&self.dir, name, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, NotRegular));
        }
        Ok(file)
    }

    /// The whole content of a small file.
    pub(super) fn read_small(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read(name)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other("is too large"));
        }
        Ok(bytes)
    }

    /// Creates a file that does not exist yet.
    pub(super) fn make(&self, name: &str) -> io::Result<OutFile> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let made = openat(&self.dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        // The only reason why a new file can have no parent.
        let file = made.map_err(|error| match error {
            Errno::ENOENT => io::Error::other(GONE),
            error => error.into(),
        })?;
        let file = File::from(file);
        Ok(OutFile::new(file, name, &self.journal))
    }

    /// Writes a file that gets its name only when all of it is on the disk.
    pub(super) fn replace<T>(
        &self,
        name: &str,
        write: impl FnOnce(&OutFile) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let temporary = format!("{name}{TEMPORARY}");
        let attempt = || {
            // One may be left from a killed attempt.
            self.remove(&temporary)?;
            let file = self.make(&temporary)?;
            let result = write(&file)?;
            file.sync()?;
            renameat(&self.dir, temporary.as_str(), &self.dir, name)?;
            self.journal.note(|| DiskChange::Rename(temporary.clone(), name.to_owned()));
            nix::unistd::fsync(&self.dir)?;
            self.journal.note(|| DiskChange::SyncDir);
            Ok(result)
        };
        let result = attempt();
        if result.is_err() {
            // It may not exist.
            let _ = self.remove(&temporary);
        }
        result
    }

    /// As [`Self::replace`], with all bytes given.
    pub(super) fn replace_bytes(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.replace(name, |mut file| Ok(file.write_all(bytes)?))
    }

    /// Gives a file the same name in another directory. On another file system it is copied.
    pub(super) fn link(&self, name: &str, other: &Self) -> anyhow::Result<()> {
        match linkat(&self.dir, name, &other.dir, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            // Some file systems have no links.
            Err(Errno::EXDEV | Errno::EPERM | Errno::EMLINK | Errno::EOPNOTSUPP) => {
                let mut file = self.read(name)?;
                other.replace(name, |mut copy| {
                    io::copy(&mut file, &mut copy)?;
                    Ok(())
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file, if it exists.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => {
                self.journal.note(|| DiskChange::Remove(name.to_owned()));
                Ok(())
            }
            Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Size of a file, bytes.
    pub(super) fn size(&self, name: &str) -> io::Result<u64> {
        let stat = fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(if is_file(&stat) { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 })
    }

    /// Fails when the directory was removed: writes then disappear without an error.
    pub(super) fn is_there(&self) -> anyhow::Result<()> {
        if fstat(self.dir.as_fd())?.st_nlink == 0 {
            bail!(GONE);
        }
        Ok(())
    }
}

fn is_file(stat: &FileStat) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
}

/// As long as this exists, other processes see that the recording is being written.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}
