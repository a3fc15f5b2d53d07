//! Where runtimes listen.

use super::cri::Cri;
use super::docker::Docker;
use super::runtime::{Failure, Listed, Runtime};
use std::convert::Infallible;
use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Kinds of runtimes, in the order in which a socket of unknown kind is asked.
const KINDS: [&dyn Runtime; 2] = [&Docker, &Cri];

/// Sockets that runtimes have by default, and the kind of each, by its place in [`KINDS`]. Docker's comes first: with
/// cri-dockerd it knows pods as well.
const USUAL: [(&str, usize); 6] = [
    ("/run/docker.sock", 0),
    ("/run/podman/podman.sock", 0),
    ("/run/containerd/containerd.sock", 1),
    ("/run/k3s/containerd/containerd.sock", 1),
    ("/run/crio/crio.sock", 1),
    ("/run/cri-dockerd.sock", 1),
];

/// The host's root directory, for a tracer in a container that sees the host's processes.
const HOST: &str = "/proc/1/root";

/// Which runtimes to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Runtimes {
    /// Those that listen where runtimes usually do.
    #[default]
    Auto,
    /// None.
    Off,
    /// Those that listen there.
    Sockets(Vec<PathBuf>),
}

impl FromStr for Runtimes {
    type Err = Infallible;

    /// `auto`, `off`, or paths with commas between them.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "auto" => Self::Auto,
            "off" => Self::Off,
            paths => Self::Sockets(paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect()),
        })
    }
}

impl Runtimes {
    /// The sockets to ask, those that do not exist included.
    pub(super) fn sockets(&self) -> Vec<Socket> {
        match self {
            Self::Off => Vec::new(),
            Self::Sockets(paths) => paths.iter().map(|path| Socket { path: path.clone(), kind: None }).collect(),
            Self::Auto => {
                let usual = USUAL.into_iter().map(|(path, kind)| (PathBuf::from(path), kind));
                // Podman without root has its socket there.
                let own =
                    env::var_os("XDG_RUNTIME_DIR").map(|folder| (Path::new(&folder).join("podman/podman.sock"), 0));
                usual.chain(own).map(|(path, kind)| Socket { path, kind: Some(kind) }).collect()
            }
        }
    }
}

/// A socket, and what answers there.
pub(super) struct Socket {
    path: PathBuf,
    /// Place in [`KINDS`]; `None` until it has answered, where any kind may.
    kind: Option<usize>,
}

impl Socket {
    /// What it says of containers.
    pub(super) fn list(&mut self, wanted: &[&str]) -> Result<Vec<Listed>, Failure> {
        let path = self.place();
        let kinds = self.kind.map_or(0..KINDS.len(), |kind| kind..kind + 1);
        let mut failed = None;
        for kind in kinds {
            match KINDS[kind].list(&path, wanted) {
                Ok(listed) => {
                    self.kind = Some(kind);
                    return Ok(listed);
                }
                // Only what it says is another kind's answer; a socket that does not answer is no kind's.
                Err(failure @ Failure::Other(_)) => failed = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        Err(failed.unwrap_or(Failure::Absent))
    }

    /// Where it is: here, or in the host's root directory.
    fn place(&self) -> PathBuf {
        let on_host = || self.path.strip_prefix("/").map(|path| Path::new(HOST).join(path));
        match on_host() {
            Ok(on_host) if !self.path.exists() && on_host.exists() => on_host,
            _ => self.path.clone(),
        }
    }
}

/// What one socket answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The socket.
    pub path: PathBuf,
    /// What answers there, and how many containers it knows; else what is wrong, in words.
    pub found: Result<(&'static str, usize), String>,
}

/// Asks every socket that exists once, for `doctor`. Waits for at most two seconds for each.
pub fn survey(runtimes: &Runtimes) -> Vec<Answer> {
    let is_asked_for = matches!(runtimes, Runtimes::Sockets(_));
    let mut answers = Vec::new();
    for mut socket in runtimes.sockets() {
        let found = match socket.list(&[]) {
            Err(Failure::Absent) if !is_asked_for => continue,
            Err(failure) => Err(failure.to_string()),
            Ok(listed) => Ok((socket.kind.map_or("", |kind| KINDS[kind].name()), listed.len())),
        };
        answers.push(Answer { path: socket.path, found });
    }
    answers
}
