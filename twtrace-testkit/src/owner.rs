//! Processes.

use crate::MICROSECOND_NS;
use twtrace_core::event::{Comm, Owner, ProcessKey};

/// A process name as the kernel keeps it: the first 16 bytes, padded with NUL.
pub fn comm(name: impl AsRef<[u8]>) -> Comm {
    let mut comm = Comm::default();
    comm.0.iter_mut().zip(name.as_ref()).for_each(|(to, from)| *to = *from);
    comm
}

/// A process of root in the root cgroup, started by `systemd`. Its PID is also its start in microseconds after boot.
pub fn owner(pid: u32, name: impl AsRef<[u8]>) -> Owner {
    Owner {
        key: ProcessKey { tgid: pid, start_ns: u64::from(pid) * MICROSECOND_NS },
        uid: 0,
        ppid: 1,
        cgroup: 0,
        comm: comm(name),
        parent_comm: comm("systemd"),
        kthread: false,
        exiting: false,
    }
}

/// Changes the fields in which a process differs from the usual one.
pub trait BuildOwner: Sized {
    /// Changes any of its fields.
    #[must_use]
    fn with(self, change: impl FnOnce(&mut Owner)) -> Self;

    /// When it started, nanoseconds since boot.
    #[must_use]
    fn started(self, start_ns: u64) -> Self {
        self.with(|owner| owner.key.start_ns = start_ns)
    }

    /// Its real uid.
    #[must_use]
    fn user(self, uid: u32) -> Self {
        self.with(|owner| owner.uid = uid)
    }

    /// Its parent: PID and name.
    #[must_use]
    fn parent(self, pid: u32, name: impl AsRef<[u8]>) -> Self {
        self.with(|owner| (owner.ppid, owner.parent_comm) = (pid, comm(name)))
    }

    /// The id of its cgroup.
    #[must_use]
    fn in_cgroup(self, cgroup: u64) -> Self {
        self.with(|owner| owner.cgroup = cgroup)
    }
}

impl BuildOwner for Owner {
    fn with(mut self, change: impl FnOnce(&mut Owner)) -> Self {
        change(&mut self);
        self
    }
}
