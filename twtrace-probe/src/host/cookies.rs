//! Cookies of network namespaces (`net->net_cookie`): unlike an inode number, no other namespace ever gets one.

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket};
use nix::{getsockopt_impl, sockopt_impl};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

sockopt_impl!(
    /// `SO_NETNS_COOKIE`: `net->net_cookie` of the socket's network namespace.
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

/// Cookie of the calling thread's network namespace: unlike its inode number, no other namespace ever gets it. `None`
/// before Linux 5.15, or without CONFIG_UNIX.
pub fn netns_cookie() -> Option<u64> {
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    getsockopt(&socket, NetnsCookie).ok().filter(|cookie| *cookie != 0)
}

/// The namespace is gone from there; its inode number may be that of another one by now.
pub(super) struct Another;

/// Reads cookies of namespaces. Where the kernel has no other way, by entering them.
#[derive(Default)]
pub(super) struct Cookies {
    /// Where this thread is at home; none if there are no cookies to be had.
    home: Option<File>,
    is_away: bool,
    /// `NS_GET_ID` is not known to this kernel.
    must_enter: bool,
}

impl Cookies {
    pub(super) fn from_here() -> Self {
        let home = netns_cookie().and_then(|_| File::open("/proc/thread-self/ns/net").ok());
        Self { home, ..Self::default() }
    }

    /// The cookie of the namespace with that inode number that the file leads to; `None` when it is not known.
    pub(super) fn of(&mut self, place: &Path, inode: u32) -> Result<Option<u64>, Another> {
        if self.home.is_none() {
            return Ok(None);
        }
        let file = match File::open(place) {
            Ok(file) => file,
            Err(error) if is_gone(&error) => return Err(Another),
            Err(_) => return Ok(None),
        };
        if file.metadata().is_ok_and(|there| there.ino() != u64::from(inode)) {
            return Err(Another);
        }
        let mut id = 0;
        // SAFETY: the kernel writes one u64.
        if !self.must_enter && unsafe { ns_get_id(file.as_raw_fd(), &raw mut id) }.is_ok() {
            return Ok(Some(id));
        }
        self.must_enter = true;
        if setns(&file, CloneFlags::CLONE_NEWNET).is_err() {
            return Ok(None);
        }
        self.is_away = true;
        Ok(netns_cookie())
    }

    /// Leaves the last one: this thread would keep it alive.
    pub(super) fn go_home(&mut self) {
        if let Some(home) = self.home.as_ref().filter(|_| self.is_away) {
            self.is_away = setns(home, CloneFlags::CLONE_NEWNET).is_err();
        }
    }
}

/// `NSIO`, `include/uapi/linux/nsfs.h`.
const NSIO: u8 = 0xb7;

nix::ioctl_read! {
    /// `NS_GET_ID`, from 6.18: of a network namespace it is the cookie.
    ns_get_id, NSIO, 13, u64
}

/// Whether there is no such file, or its process has just ended.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}
