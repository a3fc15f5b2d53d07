//! Connections that the kernel has for itself, of NFS or iSCSI for example. Whichever of its threads was at work opened and
//! closed them, so what they have in common is the service.

use crate::event::{Comm, Connection, Owner, ProcessKey, Role};
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::ops::RangeInclusive;

/// What the kernel uses TCP for, by the ports of the servers: IANA's registry, and the defaults in the kernel's own sources
/// (`fs/nfs`, `fs/smb`, `net/9p`, `drivers/nvme/host/tcp.c`, `fs/dlm`, `fs/ocfs2`, `net/rds`).
const SERVICES: [(RangeInclusive<u16>, &str); 15] = [
    (111..=111, "rpcbind"),
    (445..=445, "smb"),
    (564..=564, "9p"),
    (988..=988, "lustre"),
    (2049..=2049, "nfs"),
    (3260..=3260, "iscsi"),
    (3300..=3300, "ceph"),
    (4420..=4420, "nvme"),
    (6789..=6789, "ceph"),
    (6800..=7300, "ceph"),
    (7777..=7777, "ocfs2"),
    (7788..=7799, "drbd"),
    (10_809..=10_809, "nbd"),
    (16_385..=16_385, "rds"),
    (21_064..=21_064, "dlm"),
];

/// `kthreadd`, the parent of all kernel threads.
const KTHREADD: u32 = 2;

/// Gives what a kernel thread opened or closed to one owner for each service. [`super::connections::closed_by_kernel`] goes
/// before: what a kernel thread closes for a process is not the kernel's own.
pub(super) fn group(connection: &mut Connection) {
    let ports = (connection.tuple.local_port, connection.tuple.remote_port);
    let role = connection.role;
    for owner in [&mut connection.opener, &mut connection.closer].into_iter().flatten().filter(|owner| owner.kthread) {
        *owner = kernel(by_port(role, ports).unwrap_or_else(|| by_thread(&owner.comm)));
    }
}

/// The same for a connect that failed.
pub(super) fn group_opener(owner: &mut Owner, remote_port: u16) {
    if owner.kthread {
        *owner = kernel(by_port(Role::Active, (0, remote_port)).unwrap_or_else(|| by_thread(&owner.comm)));
    }
}

fn by_port(role: Role, (local, remote): (u16, u16)) -> Option<&'static [u8]> {
    let of = |port: u16| SERVICES.iter().find(|(ports, _)| ports.contains(&port)).map(|(_, name)| name.as_bytes());
    match role {
        Role::Active => of(remote),
        Role::Passive => of(local),
        Role::Unknown => of(remote).or_else(|| of(local)),
    }
}

/// The name of a thread that has one of its own, without what distinguishes it from others of its kind: `lockd`, `ksmbd:r445`.
fn by_thread(comm: &Comm) -> &[u8] {
    let name = comm.bytes();
    let end = name.iter().position(|byte| !byte.is_ascii_alphabetic() && *byte != b'_').unwrap_or(name.len());
    let name = &name[..end];
    // Workers are shared by all of the kernel.
    if name == b"kworker" { b"" } else { name }
}

/// The kernel as the owner of a service's connections.
fn kernel(service: &[u8]) -> Owner {
    let mut name = b"kernel".to_vec();
    if !service.is_empty() {
        name.push(b':');
        name.extend(service);
    }
    let mut comm = Comm::default();
    // As long as the kernel's own names, with a NUL at the end.
    let length = name.len().min(comm.0.len() - 1);
    comm.0[..length].copy_from_slice(&name[..length]);
    let mut parent_comm = Comm::default();
    parent_comm.0[..8].copy_from_slice(b"kthreadd");
    // Each service is a process of its own: the time within the first second after boot is no thread's.
    let start_ns = FixedState::default().hash_one(comm.0) % 1_000_000_000;
    Owner {
        key: ProcessKey { tgid: KTHREADD, start_ns },
        uid: 0,
        ppid: 0,
        cgroup: 0,
        comm,
        parent_comm,
        kthread: true,
        exiting: false,
    }
}
