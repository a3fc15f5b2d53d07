//! Socket calls as a 32-bit program makes them: by `int 0x80`, which a 64-bit process may use too. The tracepoints of system
//! calls do not fire for these (`arch_trace_is_compat_syscall`).

use std::net::SocketAddr;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::socket::SockaddrLike as _;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::sys;

/// Numbers of system calls on i386 (`arch/x86/entry/syscalls/syscall_32.tbl`).
mod number {
    pub(super) const CLOSE: u32 = 6;
    pub(super) const GETPID: u32 = 20;
    pub(super) const CONNECT: u32 = 362;
    pub(super) const ACCEPT4: u32 = 364;
    pub(super) const SHUTDOWN: u32 = 373;
}

/// Why there are no such calls here, if there are none.
pub fn missing() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("this processor has none in a 64-bit process".to_owned());
    }
    // A kernel without them ends the process with a signal.
    // SAFETY: the child makes two system calls, and no other thread is alive.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let status = i32::from(call(number::GETPID, [0; 4]).is_err());
            // SAFETY: the child has nothing to do before it ends.
            unsafe { libc::_exit(status) }
        }
        Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => None,
            other => Some(format!("int 0x80: {other:?}")),
        },
        Err(error) => Some(format!("fork: {error}")),
    }
}

/// connect.
pub fn connect(fd: RawFd, address: SocketAddr) -> Result<(), Errno> {
    let address = sys::encode(fd, address)?;
    let length = address.len();
    let page = Page::new()?;
    // SAFETY: the page is larger than any address, and nothing else refers to it.
    unsafe { std::ptr::copy_nonoverlapping(address.as_ptr().cast::<u8>(), page.0, length as usize) };
    call(number::CONNECT, [fd as u32, page.0 as usize as u32, length, 0]).map(drop)
}

/// accept.
pub fn accept(fd: RawFd) -> Result<RawFd, Errno> {
    call(number::ACCEPT4, [fd as u32, 0, 0, 0])
}

/// shutdown of the sending direction, or of both.
pub fn shutdown(fd: RawFd, both: bool) -> Result<(), Errno> {
    let how = if both { libc::SHUT_RDWR } else { libc::SHUT_WR };
    call(number::SHUTDOWN, [fd as u32, how as u32, 0, 0]).map(drop)
}

/// close.
pub fn close(fd: RawFd) -> Result<(), Errno> {
    call(number::CLOSE, [fd as u32, 0, 0, 0]).map(drop)
}

const PAGE: usize = 4096;

/// Memory at an address of 32 bits.
struct Page(*mut u8);

impl Page {
    fn new() -> Result<Self, Errno> {
        #[cfg(target_arch = "x86_64")]
        let low = libc::MAP_32BIT;
        #[cfg(not(target_arch = "x86_64"))]
        let low = 0;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | low;
        // SAFETY: a new mapping, which nothing else refers to.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if page == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(Self(page.cast())) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`.
        unsafe { libc::munmap(self.0.cast(), PAGE) };
    }
}

#[cfg(target_arch = "x86_64")]
fn call(number: u32, [first, second, third, fourth]: [u32; 4]) -> Result<i32, Errno> {
    let result: i64;
    // The compiler keeps `rbx` for itself; the kernel clears r8 to r11.
    // SAFETY: arguments are numbers, or addresses of memory that outlives the call.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) u64::from(first) => _,
            inout("rax") i64::from(number) => result,
            in("rcx") u64::from(second),
            in("rdx") u64::from(third),
            in("rsi") u64::from(fourth),
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let result = result as i32;
    if (-4095..0).contains(&result) { Err(Errno::from_raw(-result)) } else { Ok(result) }
}

#[cfg(not(target_arch = "x86_64"))]
fn call(_: u32, _: [u32; 4]) -> Result<i32, Errno> {
    Err(Errno::ENOSYS)
}
