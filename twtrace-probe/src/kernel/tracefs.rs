//! Gives access to tracefs without changing the host.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where tracefs is searched for, and the first is where it is mounted: the two places that aya knows.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// How tracefs is reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TracefsState {
    /// The host has it mounted here.
    Mounted(PathBuf),
    /// It was mounted here in a mount namespace that only the calling thread, and what it starts later, can see.
    Private(PathBuf),
}

/// Finds tracefs, or mounts it in a private mount namespace of the calling thread.
///
/// A mount namespace belongs to a thread: call this before starting others, or from the thread that attaches. The error
/// is one line that says what to do.
pub fn ensure_tracefs() -> Result<TracefsState, String> {
    if let Some(place) = find()? {
        return Ok(TracefsState::Mounted(place));
    }
    private_mounts().map_err(|errno| {
        format!("tracefs is not mounted, and mounting it failed ({errno}): run as root, or first `{}`", command())
    })?;
    let place = Path::new(PLACES[0]);
    mount_private("tracefs", place).map_err(|errno| match errno {
        Errno::ENODEV | Errno::ENOENT => format!("this kernel has no tracefs ({errno}): it needs CONFIG_TRACING=y"),
        errno => format!("tracefs cannot be mounted at {} ({errno}): first `{}`", place.display(), command()),
    })?;
    match find()? {
        Some(place) => Ok(TracefsState::Private(place)),
        None => Err("tracefs is mounted but lists no events: the kernel needs CONFIG_EVENT_TRACING=y".to_owned()),
    }
}

/// Gives the calling thread a private mount namespace. Its own mounts stay there; the host's changes still propagate to
/// it, so that a file system which the host unmounts is not kept busy.
pub(crate) fn private_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
}

/// Mounts a kernel file system. For use after [`private_mounts`].
pub(crate) fn mount_private(kind: &str, place: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(kind), place, Some(kind), flags, None::<&str>)
}

fn find() -> Result<Option<PathBuf>, String> {
    for place in PLACES {
        match fs::metadata(Path::new(place).join("events")) {
            Ok(_) => return Ok(Some(place.into())),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(format!("{place} cannot be read ({error}): run as root, or with CAP_DAC_READ_SEARCH"));
            }
            Err(_) => {}
        }
    }
    Ok(None)
}

fn command() -> String {
    format!("mount -t tracefs tracefs {}", PLACES[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::geteuid;
    use std::thread;

    #[test]
    fn the_mount_stays_in_its_thread() {
        if !geteuid().is_root() {
            return;
        }
        let before = find();
        let found = thread::spawn(|| ensure_tracefs().map(|state| (state, find()))).join();
        match found {
            Ok(Ok((TracefsState::Mounted(place) | TracefsState::Private(place), inside))) => {
                assert_eq!(inside, Ok(Some(place)));
            }
            Ok(Err(reason)) => assert!(!reason.contains('\n'), "{reason}"),
            Err(_) => panic!("the thread panicked"),
        }
        assert_eq!(find(), before, "the host's mounts changed");
    }
}
