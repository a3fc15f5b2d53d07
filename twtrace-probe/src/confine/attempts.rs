//! What a confined thread must not be able to do, tried. Nothing here does any harm where it is possible.

use nix::errno::Errno;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Environment variable that makes each thread of the tracer try all of it once its limits are set, and write what came of it
/// to standard error, for tests.
pub const VARIABLE: &str = "TWTRACE_ATTEMPTS";

/// A file that no one has.
const NOWHERE: &std::ffi::CStr = c"/proc/self/nowhere";

/// An attempt, and whether it is possible for this thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What was tried.
    pub what: &'static str,
    /// The kernel did not refuse it for lack of a right.
    pub is_possible: bool,
}

/// Tries all of it in the calling thread.
pub fn all() -> Vec<Attempt> {
    let nowhere = NOWHERE.as_ptr() as libc::c_long;
    let tried = [
        ("start a program", start_a_program()),
        ("become another program", call(libc::SYS_execve, [nowhere, 0, 0, 0])),
        ("write a file elsewhere", write_a_file()),
        ("trace a process", call(libc::SYS_ptrace, [libc::c_long::from(libc::PTRACE_CONT), 0, 0, 0])),
        ("mount", call(libc::SYS_mount, [nowhere, nowhere, 0, 0])),
        // `BPF_PROG_LOAD` without a program.
        ("load an eBPF program", call(libc::SYS_bpf, [5, 0, 0, 0])),
        ("load a module", call(libc::SYS_init_module, [0, 0, 0, 0])),
        ("enter a user namespace", call(libc::SYS_setns, [-1, libc::CLONE_NEWUSER.into(), 0, 0])),
        ("open a file by its handle", call(libc::SYS_open_by_handle_at, [-1, 0, 0, 0])),
        ("open a packet socket", open_a_socket(libc::AF_PACKET)),
        ("use io_uring", call(libc::SYS_io_uring_setup, [0, 0, 0, 0])),
        // Each of them stays what it is.
        ("change the user", call(libc::SYS_setresuid, [-1, -1, -1, 0])),
        ("connect to a port", connect()),
        // There is no such socket, and its name is as long as others are.
        ("connect to a daemon", UnixStream::connect("/run/nowhere.socket").map(|_| ())),
        ("read a home directory", fs::read_dir("/root").map(|_| ())),
    ];
    tried.map(|(what, result)| Attempt { what, is_possible: !is_refused(&result) }).to_vec()
}

/// Tries all of it if the environment asks for that.
pub(super) fn if_asked() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let name = thread::current().name().unwrap_or_default().to_owned();
    for Attempt { what, is_possible } in all() {
        let result = if is_possible { "possible" } else { "refused" };
        let _ = writeln!(io::stderr(), "attempt: {name}: {what}: {result}");
    }
}

fn is_refused(result: &io::Result<()>) -> bool {
    let errno = result.as_ref().err().and_then(io::Error::raw_os_error);
    matches!(errno, Some(libc::EPERM | libc::EACCES | libc::ENOSYS))
}

fn call(number: libc::c_long, [first, second, third, fourth]: [libc::c_long; 4]) -> io::Result<()> {
    // A call that is not refused fails because of its arguments, or changes nothing.
    // SAFETY: each pointer is null or a constant string: the kernel has nothing to write to. Each descriptor is -1.
    let result = unsafe { libc::syscall(number, first, second, third, fourth) };
    Errno::result(result).map(|_| ()).map_err(io::Error::from)
}

fn start_a_program() -> io::Result<()> {
    let program = Command::new("/bin/true").stdin(Stdio::null()).stdout(Stdio::null()).status();
    program.map(|_| ())
}

fn write_a_file() -> io::Result<()> {
    let id = nix::unistd::gettid();
    let path = Path::new("/var/tmp").join(format!("twtrace-attempt-{id}"));
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(path)
}

fn open_a_socket(family: libc::c_int) -> io::Result<()> {
    // SAFETY: socket(2) reads numbers alone.
    let socket = Errno::result(unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: it was opened just now, and nothing else uses it.
    Errno::result(unsafe { libc::close(socket) }).map(|_| ()).map_err(io::Error::from)
}

fn connect() -> io::Result<()> {
    // Nothing listens on port 1.
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), Duration::from_secs(1)).map(|_| ())
}
