//! Names of containers, from the sockets of the container runtimes.
//!
//! A cgroup path names a container by its id alone. The runtime that started it knows its name, its image and its pod:
//! Docker and Podman over HTTP ([`docker`]), containerd and CRI-O over the Container Runtime Interface ([`cri`]).
//!
//! Nothing depends on an answer. A thread of its own asks, only when an id is unknown, at most once a second, with a
//! limit on time and size, and reads only: the calls list containers and change nothing. Answers are hostile input.

mod asking;
pub mod call;
mod cri;
mod docker;
mod names;
mod sockets;
#[cfg(test)]
mod tests;
mod workload;

pub use names::ContainerNames;
pub use sockets::{Answer, Runtimes, survey};
use std::path::Path;
use std::time::Duration;
use twtrace_core::event::ContainerFacts;

/// How long one runtime may take for everything that it is asked at a time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most bytes of an answer, as much as the kubelet accepts.
const ANSWER_BYTES: usize = 16 << 20;

/// Most containers of an answer.
const CONTAINERS: usize = 8192;

/// Longest name of anything, bytes.
const NAME_BYTES: usize = 256;

/// A container as its runtime lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    /// The whole id.
    id: String,
    facts: ContainerFacts,
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
trait Runtime: Sync {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Containers that it knows: all that run, and those that have ended if it still has them and any of `wanted`, short
    /// ids, is among those alone. Waits for at most [`PATIENCE`].
    fn list(&self, socket: &Path, wanted: &[&str]) -> Result<Vec<Listed>, Failure>;
}

/// A text from a runtime, cut to a length that does no harm; `None` if it is empty.
fn name(text: &str) -> Option<String> {
    let end = text.floor_char_boundary(NAME_BYTES);
    (end > 0).then(|| text[..end].to_owned())
}
