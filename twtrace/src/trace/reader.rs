//! Opens a recording.

use super::Info;
use crate::source::replay::Replay;
use std::path::Path;

/// An opened recording.
#[derive(Debug)]
pub struct Recording {
    info: Info,
}

impl Recording {
    /// Opens a recording and looks at all of its files.
    ///
    /// # Errors
    /// It is none, nothing of it can be read, or it was written by a newer version.
    pub fn open(_path: &Path) -> anyhow::Result<Self> {
        anyhow::bail!("recordings cannot be read yet")
    }

    /// What it says of itself, and what could not be read.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// A pass over its Inputs from the beginning.
    ///
    /// # Errors
    /// A file cannot be opened any more.
    pub fn replay(&self) -> anyhow::Result<Replay> {
        anyhow::bail!("recordings cannot be read yet")
    }
}
