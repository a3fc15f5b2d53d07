//! The capabilities of a thread.

use caps::{CapSet, Capability, CapsHashSet};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use std::path::Path;

/// What loading and tracing need: programs and maps (CAP_BPF, CAP_PERFMON), other network namespaces, and tracefs where it is
/// not mounted (CAP_SYS_ADMIN), the executables, namespaces and descriptors of other users' processes (CAP_SYS_PTRACE,
/// CAP_DAC_READ_SEARCH).
pub const LOADING: [Capability; 5] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// Its name, as capabilities(7) writes it.
pub fn name(capability: Capability) -> String {
    capability.to_string()
}

/// Those that this thread has.
pub(super) fn present() -> Vec<Capability> {
    let mut present: Vec<Capability> =
        caps::read(None, CapSet::Effective).map(|set| set.into_iter().collect()).unwrap_or_default();
    present.sort_by_key(Capability::index);
    present
}

/// No program that this thread or a later one might start could have any.
pub(super) fn bound() -> Result<(), String> {
    caps::clear(None, CapSet::Bounding).map_err(|error| error.to_string())
}

/// This thread, and those that it starts, keep these, as far as it has them.
pub(super) fn keep(these: &[Capability]) -> Result<(), String> {
    let keep = || {
        let kept: CapsHashSet =
            caps::read(None, CapSet::Permitted)?.into_iter().filter(|one| these.contains(one)).collect();
        // Kernels before 4.3 have no ambient ones.
        let _ = caps::clear(None, CapSet::Ambient);
        caps::set(None, CapSet::Effective, &kept)?;
        caps::set(None, CapSet::Permitted, &kept)?;
        caps::clear(None, CapSet::Inheritable)
    };
    keep().map_err(|error: caps::errors::CapsError| error.to_string())
}

/// Whether a folder can be written to with CAP_DAC_OVERRIDE alone.
pub(super) fn is_needed_for(folder: &Path) -> bool {
    let may_write = || faccessat(AT_FDCWD, folder, AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok();
    let overrides = Capability::CAP_DAC_OVERRIDE;
    if !may_write() || caps::drop(None, CapSet::Effective, overrides).is_err() {
        return false;
    }
    let may_without = may_write();
    // It is still among the permitted ones, if it was there before.
    let _ = caps::raise(None, CapSet::Effective, overrides);
    !may_without
}
