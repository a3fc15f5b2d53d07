//! What all kinds of runtimes have in common.

use std::path::Path;
use std::time::Duration;
use twtrace_core::event::ContainerFacts;

/// How long one runtime may take for everything that it is asked at a time.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Most bytes of an answer, as much as the kubelet accepts.
pub(super) const ANSWER_BYTES: usize = 16 << 20;

/// Most containers of an answer.
pub(super) const CONTAINERS: usize = 8192;

/// Longest name of anything, bytes.
pub(super) const NAME_BYTES: usize = 256;

/// A container as its runtime lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The whole id.
    pub(super) id: String,
    pub(super) facts: ContainerFacts,
}

/// Why a runtime gave no answer, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no socket.
    #[error("there is no such socket")]
    Absent,
    /// It could not be asked.
    #[error("{0}")]
    Unreachable(String),
    /// Its answer was of another kind than that of this runtime.
    #[error("{0}")]
    Other(String),
}

/// A kind of runtime, and how to ask it.
pub(super) trait Runtime: Sync {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Containers that it knows: all that run, and those that have ended if it still has them and any of `wanted`, short
    /// ids, is among those alone. Waits for at most [`PATIENCE`].
    fn list(&self, socket: &Path, wanted: &[&str]) -> Result<Vec<Listed>, Failure>;
}

/// A text from a runtime, cut to a length that does no harm; `None` if it is empty.
pub(super) fn name(text: &str) -> Option<String> {
    let end = text.floor_char_boundary(NAME_BYTES);
    (end > 0).then(|| text[..end].to_owned())
}
