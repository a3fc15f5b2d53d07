//! What the kernel side keeps of a program when it starts, because the process may be gone before `/proc` is asked.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the arguments that are kept, the NUL after each included.
pub const ARGUMENTS: usize = 256;

/// Levels of a cgroup's path that are kept, from the innermost on.
pub const CGROUP_LEVELS: usize = 4;

/// Bytes of the name of each level, NUL padded. A longer one is cut off: names with an id of 64 digits fit.
pub const CGROUP_NAME: usize = 96;

/// A process as it was after its last execve(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Exec {
    /// As in [`Owner`](crate::Owner): distinguishes processes with the same PID.
    pub start_ns: u64,
    /// The same of the parent.
    pub parent_start_ns: u64,
    /// Thread group id of the real parent.
    pub ppid: u32,
    /// Length of all arguments, bytes; more than [`ARGUMENTS`] where the end is missing.
    pub length: u32,
    /// The arguments, a NUL after each. Hostile input.
    pub arguments: [u8; ARGUMENTS],
}

impl Exec {
    /// Nothing is known.
    pub const EMPTY: Self = Self { start_ns: 0, parent_start_ns: 0, ppid: 0, length: 0, arguments: [0; ARGUMENTS] };
}

/// The names of a cgroup and of those above it, from the innermost on. Hostile input where a cgroup is delegated.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CgroupNames {
    /// Empty names follow the last one.
    pub names: [[u8; CGROUP_NAME]; CGROUP_LEVELS],
}

impl CgroupNames {
    /// None.
    pub const EMPTY: Self = Self { names: [[0; CGROUP_NAME]; CGROUP_LEVELS] };
}

const _: () = {
    assert!(size_of::<Exec>() == 24 + ARGUMENTS);
    assert!(size_of::<CgroupNames>() == CGROUP_LEVELS * CGROUP_NAME);
};
