//! Files that are being written, and a record of every change for tests of what a crash leaves behind.

use nix::sys::stat::fstat;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;

/// One change in the directory of a recording. Names are relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskChange {
    /// A new, empty file.
    Create(String),
    /// Bytes appended to a file.
    Write(String, Vec<u8>),
    /// The content of a file is on the disk (`fsync`).
    Sync(String),
    /// A file has another name.
    Rename(String, String),
    /// A file is gone.
    Remove(String),
    /// The names in the directory are on the disk (`fsync`).
    SyncDir,
}

/// Receives every change after it was made, from several threads.
#[derive(Clone, Default)]
pub struct Journal(Option<Arc<dyn Fn(DiskChange) + Send + Sync>>);

impl Journal {
    /// One that calls a function.
    pub fn new(receive: impl Fn(DiskChange) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(receive)))
    }

    pub(super) fn note(&self, change: impl FnOnce() -> DiskChange) {
        if let Some(receive) = &self.0 {
            receive(change());
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Journal").field(&self.0.is_some()).finish()
    }
}

/// A file that is being written, from its beginning to its end.
#[derive(Debug)]
pub(super) struct OutFile {
    file: File,
    name: String,
    journal: Journal,
}

impl OutFile {
    pub(super) fn new(file: File, name: &str, journal: &Journal) -> Self {
        journal.note(|| DiskChange::Create(name.to_owned()));
        Self { file, name: name.to_owned(), journal: journal.clone() }
    }

    /// Waits until its content is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()?;
        self.journal.note(|| DiskChange::Sync(self.name.clone()));
        Ok(())
    }

    /// Fails when it was removed: writes then disappear without an error.
    pub(super) fn is_linked(&self) -> anyhow::Result<()> {
        if fstat(self.file.as_fd())?.st_nlink == 0 {
            anyhow::bail!("it was removed");
        }
        Ok(())
    }
}

impl Write for &OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = (&self.file).write(bytes)?;
        self.journal.note(|| DiskChange::Write(self.name.clone(), bytes[..written].to_vec()));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.file).flush()
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}
