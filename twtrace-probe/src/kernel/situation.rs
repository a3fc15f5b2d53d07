//! What decides whether a tracer may trace here, without trying: privileges, lockdown, the kernel's version.

use crate::host::{self, sysctl};
use std::path::Path;

/// Type information of the running kernel.
pub(super) const BTF: &str = "/sys/kernel/btf/vmlinux";

pub(super) const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// Effective capabilities, one bit each (`include/uapi/linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(pub u64);

/// Number of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the kernel's own")]
pub enum Capability {
    DacReadSearch = 2,
    NetAdmin = 12,
    SysPtrace = 19,
    SysAdmin = 21,
    SysResource = 24,
    Perfmon = 38,
    Bpf = 39,
}

impl Capabilities {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// Every one.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether the process has it.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u8 != 0
    }

    /// Enough to load tracing programs: CAP_SYS_ADMIN includes the two that were split from it in 5.8.
    pub fn can_trace(self) -> bool {
        self.has(Capability::SysAdmin) || self.has(Capability::Bpf) && self.has(Capability::Perfmon)
    }
}

/// Kernel lockdown (`/sys/kernel/security/lockdown`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Off, or not built into this kernel.
    None,
    /// User space may not change the running kernel. Tracing is allowed.
    Integrity,
    /// User space may not read the kernel's memory either.
    Confidentiality,
    /// Unknown: securityfs is not mounted and could not be.
    Unknown,
}

/// Facts of the host that distinguish causes with the same errno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Effective capabilities.
    pub capabilities: Capabilities,
    /// `/sys/kernel/btf/vmlinux` exists.
    pub btf: bool,
    /// Kernel lockdown.
    pub lockdown: Lockdown,
    /// Kernel release.
    pub kernel: String,
}

/// What the explanation of an error needs, without trying anything.
pub(super) fn read() -> Situation {
    let status = host::read_text("/proc/self/status").unwrap_or_default();
    Situation {
        capabilities: capabilities(&status).unwrap_or(Capabilities::NONE),
        btf: Path::new(BTF).exists(),
        lockdown: host::read_text(LOCKDOWN).map_or(Lockdown::Unknown, |text| lockdown(&text)),
        kernel: sysctl::read("kernel.osrelease").unwrap_or_default(),
    }
}

/// `[none] integrity confidentiality`: the one in brackets is in force.
pub fn lockdown(text: &str) -> Lockdown {
    match text.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
        Some(("none", _)) => Lockdown::None,
        Some(("integrity", _)) => Lockdown::Integrity,
        Some(("confidentiality", _)) => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

/// `CapEff` of `/proc/PID/status`.
pub fn capabilities(status: &str) -> Option<Capabilities> {
    u64::from_str_radix(status_field(status, "CapEff")?, 16).ok().map(Capabilities)
}

pub(super) fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Major and minor version of a kernel release such as `6.1.0-28-amd64`.
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
