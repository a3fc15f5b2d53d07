//! What a tracer gives up. Everything that is given up before threads start is given up for all of them; what only loading
//! needs is given up by each thread after that.
//!
//! Threads share their memory, so what one of them has, an attacker who runs code in another one can use. The limits of single
//! threads stop mistakes: a path, a name or a number from outside that leads somewhere else than was meant. What the whole
//! process has given up stops more. `docs/design/confinement.md` says what each layer is for.

pub mod attempts;
mod capabilities;
mod files;
mod filters;

use anyhow::Context as _;
use attempts::Attempt;
pub use capabilities::{LOADING, name};
pub use caps::Capability;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// [`begin`] was called: threads that start from now on give up what they do not need.
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

/// Limits that a thread could not set for itself.
static FAILED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What a process is going to need.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Become this user and its group.
    pub user: Option<(u32, u32)>,
    /// The folder that is written to.
    pub folder: Option<PathBuf>,
    /// Folders in which a file is removed at the end.
    pub removes_in: Vec<PathBuf>,
}

/// A thread, by what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Reads maps and `/proc`, enters network namespaces, and starts threads that do. It has loaded the programs.
    Tracer,
    /// Searches for network namespaces, and enters them.
    Namespaces,
    /// Reads the descriptors of all processes.
    SocketOwners,
    /// Reads maps.
    Sweep,
    /// Asks the user database.
    Users,
    /// Asks container runtimes, over sockets that belong to root.
    Runtimes,
}

impl Part {
    fn capabilities(self) -> &'static [Capability] {
        use Capability::{CAP_BPF, CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, CAP_SYS_PTRACE};
        match self {
            // Of a process that cannot be dumped, `/proc` belongs to root: some kernels show its own fdinfo to no one else.
            Self::Tracer => &[CAP_BPF, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH],
            Self::Namespaces => &[CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH],
            Self::SocketOwners => &[CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH],
            // Before Linux 5.19, reading a map needs it where the bpf system call is not for everyone.
            Self::Sweep => &[CAP_BPF],
            Self::Users | Self::Runtimes => &[],
        }
    }
}

/// What a process has given up, and what it could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The capabilities that some thread has.
    pub capabilities: Vec<Capability>,
    /// The folder that only its owner may write to, who is another user: CAP_DAC_OVERRIDE is kept for it.
    pub foreign_folder: Option<PathBuf>,
    /// The version of Landlock that limits the threads that answer and write.
    pub landlock: Option<u32>,
    /// What could not be given up, one line each.
    pub failed: Vec<String>,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.capabilities.iter().map(|one| name(*one)).collect();
        match names.as_slice() {
            [] => f.write_str("no capabilities")?,
            names => write!(f, "capabilities {}", names.join(", "))?,
        }
        if let Some(folder) = &self.foreign_folder {
            write!(f, " (CAP_DAC_OVERRIDE because another user owns {})", folder.display())?;
        }
        if let Some(version) = self.landlock {
            write!(f, "; Landlock {version}")?;
        }
        self.failed.iter().try_for_each(|failed| write!(f, "; {failed}"))
    }
}

/// Gives up what neither loading nor tracing needs: for this thread and all that start later, so call it before others start.
/// No program can be started from now on, and no privilege gained. Layers that this kernel does not have are in the result.
///
/// # Errors
/// The user cannot be changed.
pub fn begin(needs: &Needs) -> anyhow::Result<Confinement> {
    let mut confinement = Confinement::default();
    let mut kept = LOADING.to_vec();
    let is_foreign = |folder: &&PathBuf| needs.user.is_none() && capabilities::is_needed_for(folder);
    if let Some(folder) = needs.folder.as_ref().filter(is_foreign) {
        kept.push(Capability::CAP_DAC_OVERRIDE);
        confinement.foreign_folder = Some(folder.clone());
    }
    // Another user cannot: it has no right to change its own bounding set, and gains nothing by it.
    let _ = capabilities::bound();
    if let Some((user, group)) = needs.user {
        become_user(user, group)?;
    }
    let mut failed = |what: &str, result: Result<(), String>| {
        confinement.failed.extend(result.err().map(|error| format!("{what}: {error}")));
    };
    failed("capabilities are kept", capabilities::keep(&kept));
    let reset = prctl::set_no_new_privs().map_err(|errno| errno.to_string());
    failed("new privileges are possible", reset);
    failed("a debugger may attach", undumpable().map_err(|error| error.to_string()));
    failed("system calls are not filtered", filters::never());
    confinement.capabilities = capabilities::present();
    HAS_BEGUN.store(true, Ordering::Release);
    Ok(confinement)
}

/// A thread without capabilities beside one with them must not be open to a debugger, which would then have them all.
fn undumpable() -> anyhow::Result<()> {
    prctl::set_dumpable(false)?;
    // Of such a process, some kernels show the fdinfo to root alone, and counting misses needs it.
    let file = File::open("/proc/self/status")?;
    let fdinfo = File::open(format!("/proc/self/fdinfo/{}", file.as_raw_fd()));
    if fdinfo.is_err() {
        prctl::set_dumpable(true)?;
    }
    fdinfo.map(|_| ()).context("this kernel would hide its own figures")
}

fn become_user(user: u32, group: u32) -> anyhow::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    let change = || {
        // Or the capabilities would be gone.
        prctl::set_keepcaps(true)?;
        setgroups(&[gid])?;
        setgid(gid)?;
        setuid(uid)?;
        prctl::set_keepcaps(false)
    };
    change().with_context(|| format!("cannot become the user {user}: start it as root"))
}

/// This thread, and those that it starts, only read files from now on.
pub fn only_read() {
    if HAS_BEGUN.load(Ordering::Acquire) {
        note(filters::only_read());
    }
}

/// This thread, and those that it starts, give up what the part does not need, if [`begin`] was called.
pub fn enter(part: Part) {
    if HAS_BEGUN.load(Ordering::Acquire) {
        note(capabilities::keep(part.capabilities()));
        note(filters::loaded(matches!(part, Part::Users | Part::Runtimes)));
    }
    attempts::if_asked();
}

/// Gives up what this thread needs neither to answer nor to write: for this thread and those that it starts. Another one
/// traces.
pub fn settle(needs: &Needs, mut confinement: Confinement) -> Confinement {
    let kept: &[Capability] = if confinement.foreign_folder.is_some() { &[Capability::CAP_DAC_OVERRIDE] } else { &[] };
    note(capabilities::keep(kept));
    match files::restrict(needs) {
        Ok(version) => confinement.landlock = Some(version),
        Err(reason) => confinement.failed.push(format!("files are not limited by Landlock: {reason}")),
    }
    note(filters::loaded(false));
    attempts::if_asked();
    confinement
}

/// What limits are worth on this kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The version of Landlock.
    pub landlock: Option<u32>,
    /// What was tried, with the result.
    pub attempts: Vec<Attempt>,
    /// Limits that could not be set, one line each.
    pub failed: Vec<String>,
}

/// Sets the limits of a thread that answers, in a thread of its own, and tries to do what it must not.
pub fn measure() -> Measured {
    let measured = thread::scope(|scope| {
        let confined = || {
            let landlock = files::restrict(&Needs::default());
            let set = [capabilities::keep(&[]), filters::never(), filters::loaded(false)];
            let mut failed: Vec<String> = set.into_iter().filter_map(Result::err).collect();
            failed.extend(landlock.as_ref().err().map(|reason| format!("Landlock: {reason}")));
            Measured { landlock: landlock.ok(), attempts: attempts::all(), failed }
        };
        scope.spawn(confined).join()
    });
    measured.unwrap_or_default()
}

/// What came of it, once the programs are loaded and the other threads have set their limits.
pub fn result(mut confinement: Confinement) -> Confinement {
    confinement.capabilities.retain(|one| *one != Capability::CAP_PERFMON);
    let failed = FAILED.lock().map(|failed| failed.clone()).unwrap_or_default();
    confinement.failed.extend(failed);
    confinement
}

fn note(result: Result<(), String>) {
    if let (Err(error), Ok(mut failed)) = (result, FAILED.lock())
        && !failed.contains(&error)
    {
        failed.push(error);
    }
}

/// The folder that a path lies in.
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
