//! A snapshot as bytes, for another process on this or another host. The reader computes findings and groups again: it has the
//! same rules. The bytes do not describe themselves, so both sides must know the same format.

use super::Snapshot;
use crate::rules;
use thiserror::Error;

/// What an image begins with.
const MAGIC: &[u8] = b"twtrace image ";

/// Version of the format: that of all types below [`Snapshot`]. A test fails when they change and this does not.
const FORMAT: u16 = 1;

/// Why bytes are no snapshot.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// Something else answers there.
    #[error("these bytes are no snapshot of twtrace")]
    Foreign,
    /// The other side knows another format.
    #[error(
        "snapshots there have format {theirs}, and this program reads format {FORMAT}: use the same version on both sides"
    )]
    Format {
        /// Theirs.
        theirs: u16,
    },
    /// The content makes no sense.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

impl Snapshot {
    /// It as bytes.
    ///
    /// # Errors
    /// Out of memory, in theory.
    pub fn to_image(&self) -> Result<Vec<u8>, ImageError> {
        let mut image = MAGIC.to_vec();
        image.extend(FORMAT.to_le_bytes());
        postcard::to_extend(self, image).map_err(|error| ImageError::Damaged(error.to_string()))
    }

    /// The snapshot that became these bytes, which anyone may have written.
    ///
    /// # Errors
    /// They are of another format, or damaged.
    pub fn of_image(image: &[u8]) -> Result<Self, ImageError> {
        let rest = image.strip_prefix(MAGIC).ok_or(ImageError::Foreign)?;
        let (format, content) = rest.split_first_chunk().ok_or(ImageError::Foreign)?;
        match u16::from_le_bytes(*format) {
            FORMAT => {}
            theirs => return Err(ImageError::Format { theirs }),
        }
        let mut snapshot: Self =
            postcard::from_bytes(content).map_err(|error| ImageError::Damaged(error.to_string()))?;
        if !snapshot.is_sound() {
            return Err(ImageError::Damaged("a row that is not there".to_owned()));
        }
        snapshot.findings = rules::check(&snapshot, |_| true);
        Ok(snapshot)
    }

    /// Whether all that leads from one list to another leads somewhere.
    fn is_sound(&self) -> bool {
        let is_in = |joined: &super::Joined| {
            joined.process < self.processes.len() && joined.destination < self.destinations.len()
        };
        let in_order =
            |pair: &[super::Joined]| (pair[0].process, pair[0].destination) <= (pair[1].process, pair[1].destination);
        self.cells.iter().all(is_in) && self.cells.windows(2).all(in_order) && self.sockets.is_sound()
    }
}
