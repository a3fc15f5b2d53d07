//! The processors that guests have.

use super::guest::Accelerator;

/// An architecture, as Debian distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    /// Whether this host has such processors.
    pub(super) fn is_the_hosts(self) -> bool {
        match self {
            Self::Amd64 => cfg!(target_arch = "x86_64"),
            Self::Arm64 => cfg!(target_arch = "aarch64"),
        }
    }

    /// Debian's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The program of QEMU's.
    pub(super) fn qemu(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-system-x86_64",
            Self::Arm64 => "qemu-system-aarch64",
        }
    }

    /// The serial port that `-nographic` shows.
    pub(super) fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }

    /// The machine and its processor.
    pub(super) fn machine(self, accelerator: Accelerator) -> &'static [&'static str] {
        match (self, accelerator) {
            (Self::Amd64, Accelerator::Kvm) => &["-cpu", "host"],
            // Without cx16: QEMU 7.2 emulates cmpxchg16b with garbage in EFLAGS now and then, and kernels from 6.5 on
            // use it for every allocation.
            (Self::Amd64, Accelerator::Emulation) => &["-cpu", "max,cx16=off"],
            (Self::Arm64, Accelerator::Kvm) => &["-machine", "virt", "-cpu", "host"],
            // A processor that cloud providers have, with atomic instructions. `max` would sign every return address,
            // which takes the emulation a hundred instructions.
            (Self::Arm64, Accelerator::Emulation) => &["-machine", "virt", "-cpu", "neoverse-n1"],
        }
    }
}
