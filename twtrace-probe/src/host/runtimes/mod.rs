//! Names of containers, from the sockets of the container runtimes.
//!
//! A cgroup path names a container by its id alone. The runtime that started it knows its name, its image and its pod:
//! Docker and Podman over HTTP (`docker.rs`), containerd and CRI-O over the Container Runtime Interface (`cri.rs`).
//!
//! Nothing depends on an answer. A thread of its own asks, only when an id is unknown, at most once a second, with a
//! limit on time and size, and reads only: the calls list containers and change nothing. Answers are hostile input.

mod asking;
pub mod call;
mod cri;
mod docker;
mod names;
mod runtime;
mod sockets;
#[cfg(test)]
mod tests;
mod workload;

pub use names::ContainerNames;
pub use runtime::Failure;
pub use sockets::{Answer, Runtimes, survey};
