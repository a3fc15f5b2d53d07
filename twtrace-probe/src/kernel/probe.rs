//! What this host offers a tracer: read once, classified by `twtrace doctor`.

use super::census::{self, CensusReport};
use super::explain;
use super::load;
use super::room::Room;
use super::situation::{BTF, LOCKDOWN, status_field};
pub use super::situation::{Capabilities, Capability, Lockdown, capabilities, kernel_version, lockdown};
use super::tracefs::{self, TracefsState};
use crate::confine::{self, Measured};
use crate::host::runtimes::{self, Answer, Runtimes};
use crate::host::{self, sysctl};
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _};
use std::path::Path;
use std::thread;
use twtrace_core::doctor::ProgramSize;
use twtrace_core::event::{Hook, KernelFacts};

/// Inode numbers of the initial namespaces (`include/linux/proc_ns.h`).
const INITIAL_USER_NS: &str = "user:[4026531837]";
const INITIAL_PID_NS: &str = "pid:[4026531836]";

/// Longest `/proc/self/mountinfo` read, in bytes: hosts of containers have thousands of mounts.
const MAX_MOUNTINFO: u64 = 8 * 1024 * 1024;

/// Processes whose executable and descriptors it tries to read.
const MAX_TRIED: usize = 512;

/// What `/proc` shows of other processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcAccess {
    /// Value of the mount option `hidepid`, when it hides anything.
    pub hidepid: Option<String>,
    /// Other processes, of a sample, whose executable can be read.
    pub readable: u32,
    /// Those where reading is denied.
    pub refused: u32,
    /// Of those whose executable can be read, the ones whose descriptors can be listed.
    pub listed: u32,
    /// Those of them where that is denied.
    pub unlisted: u32,
}

/// The facts that `twtrace doctor` evaluates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Kernel release.
    pub kernel: String,
    /// Effective uid.
    pub euid: u32,
    /// Effective capabilities; `None` when `/proc/self/status` does not list them.
    pub capabilities: Option<Capabilities>,
    /// Whether this is the initial user namespace: only there do capabilities count for tracing.
    pub initial_user_ns: Option<bool>,
    /// Whether this is the initial PID namespace, whose PIDs the kernel side reports.
    pub initial_pid_ns: Option<bool>,
    /// `Seccomp` of `/proc/self/status`: 2 is a filter.
    pub seccomp: Option<u8>,
    /// Size of the kernel's BTF in bytes, or why it cannot be read.
    pub btf: Result<u64, String>,
    /// Kernel lockdown.
    pub lockdown: Lockdown,
    /// How tracefs is reachable, or why not.
    pub tracefs: Result<TracefsState, String>,
    /// Errno of the bpf system call if it is blocked.
    pub bpf_syscall: Result<(), i32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u8>,
    /// `kernel.bpf_stats_enabled`.
    pub bpf_stats_enabled: Option<u8>,
    /// Soft limit of locked memory in bytes; `u64::MAX` means no limit.
    pub memlock: Option<u64>,
    /// Result of loading and attaching each hook, or why that could not be tried.
    pub hooks: Result<Vec<Hook>, String>,
    /// Sockets can only be distinguished by their tuples.
    pub by_tuple: bool,
    /// Sizes of the maps that a trace would get.
    pub room: Room,
    /// The programs as the kernel loaded them.
    pub programs: Vec<ProgramSize>,
    /// Network namespaces can be entered, or why not.
    pub enter_netns: Result<(), String>,
    /// What a thread that has given up what the agent gives up still can do, of all that was tried.
    pub confinement: Measured,
    /// A census, or why it failed.
    pub census: Result<CensusReport, String>,
    /// What `/proc` shows.
    pub proc: ProcAccess,
    /// What container runtimes answered.
    pub runtimes: Vec<Answer>,
    /// Where cgroup v2 is mounted.
    pub cgroup2: Option<String>,
    /// Kernel figures.
    pub figures: Result<KernelFacts, String>,
    /// Sysctls that matter for TIME_WAIT, by name; `None` for those that this kernel does not have.
    pub sysctls: Vec<(&'static str, Option<String>)>,
}

/// Sysctls that matter for TIME_WAIT.
pub const SYSCTLS: [&str; 7] = [
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_tw_reuse_delay",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_tw_timeout",
];

/// Reads the host and tries every hook of the object (`None`: the built-in one).
///
/// All of it runs in a thread of its own, so that file systems mounted meanwhile are gone with it.
pub fn read(object: Option<&Path>) -> io::Result<Facts> {
    thread::scope(|scope| scope.spawn(|| read_here(object)).join())
        .map_err(|_| io::Error::other("looking at the host failed unexpectedly"))
}

fn read_here(object: Option<&Path>) -> Facts {
    let status = host::read_text("/proc/self/status").unwrap_or_default();
    // Before the hooks: tracepoints are attached through tracefs.
    let tracefs = tracefs::ensure_tracefs();
    let tried = load::try_hooks(object);
    let mounts = mounts();
    let netns = host::own_netns().unwrap_or_default();
    Facts {
        kernel: sysctl::read("kernel.osrelease").unwrap_or_default(),
        euid: nix::unistd::geteuid().as_raw(),
        capabilities: capabilities(&status),
        initial_user_ns: is_namespace("user", INITIAL_USER_NS),
        initial_pid_ns: is_namespace("pid", INITIAL_PID_NS),
        seccomp: status_field(&status, "Seccomp").and_then(|value| value.parse().ok()),
        btf: read_btf(),
        tracefs,
        bpf_syscall: bpf_syscall(),
        unprivileged_bpf_disabled: sysctl::read_number("kernel.unprivileged_bpf_disabled"),
        bpf_stats_enabled: sysctl::read_number("kernel.bpf_stats_enabled"),
        memlock: host::read_text("/proc/self/limits").ok().and_then(|text| memlock(&text)),
        by_tuple: tried.as_ref().is_ok_and(|(tracing, _)| tracing.by_tuple),
        room: Room::of_this_host(),
        programs: tried.as_ref().map(|(_, programs)| programs.clone()).unwrap_or_default(),
        enter_netns: enter_netns(),
        confinement: confine::measure(),
        hooks: tried.map(|(tracing, _)| tracing.hooks).map_err(|error| explain::explain(&error)),
        census: census::dump(netns, &mut |_| {}).map_err(|error| error.to_string()),
        proc: proc_access(&mounts),
        runtimes: runtimes::survey(&Runtimes::Auto),
        cgroup2: mounts.iter().find(|mount| mount.kind == "cgroup2").map(|mount| mount.point.clone()),
        figures: host::kernel_facts().map_err(|error| error.to_string()),
        sysctls: SYSCTLS.iter().map(|name| (*name, sysctl::read(name).ok())).collect(),
        // Last: it may mount securityfs, in a mount namespace of this thread.
        lockdown: read_lockdown(),
    }
}

/// Lockdown; if the host has not mounted securityfs, it is mounted for this thread alone.
fn read_lockdown() -> Lockdown {
    let folder = Path::new("/sys/kernel/security");
    let is_mounted = || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if !is_mounted() && tracefs::private_mounts().is_ok() {
        // A failure shows in the read below.
        let _ = tracefs::mount_private("securityfs", folder);
    }
    match host::read_text(LOCKDOWN) {
        Ok(text) => lockdown(&text),
        Err(error) if error.kind() == ErrorKind::NotFound && is_mounted() => Lockdown::None,
        Err(_) => Lockdown::Unknown,
    }
}

/// Soft limit of `Max locked memory` in `/proc/PID/limits`.
pub fn memlock(limits: &str) -> Option<u64> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

/// A line of `/proc/self/mountinfo`, as far as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    point: String,
    kind: String,
    options: String,
}

fn mounts() -> Vec<Mount> {
    let Ok(file) = File::open("/proc/self/mountinfo") else { return Vec::new() };
    let lines = BufReader::new(file.take(MAX_MOUNTINFO)).lines();
    lines.map_while(Result::ok).filter_map(|line| mount(&line)).filter(|mount| mount.kind != "overlay").collect()
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [OPTIONAL...] - TYPE SOURCE SUPER_OPTIONS`
fn mount(line: &str) -> Option<Mount> {
    let (place, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    Some(Mount {
        point: place.split(' ').nth(4)?.to_owned(),
        kind: system.next()?.to_owned(),
        options: system.nth(1).unwrap_or_default().to_owned(),
    })
}

/// Value of `hidepid` when `/proc` hides anything.
fn hidepid(mount: &Mount) -> Option<String> {
    if mount.kind != "proc" || mount.point != "/proc" {
        return None;
    }
    let value = mount.options.split(',').find_map(|option| option.strip_prefix("hidepid="))?;
    (!matches!(value, "0" | "off")).then(|| value.to_owned())
}

/// Tries several processes: a single one, even PID 1, may be protected more than others.
fn proc_access(mounts: &[Mount]) -> ProcAccess {
    let mut access = ProcAccess { hidepid: mounts.iter().find_map(hidepid), ..ProcAccess::default() };
    let own = std::process::id().to_string();
    let is_other = |name: &str| name != own && name.bytes().all(|byte| byte.is_ascii_digit());
    let Ok(folders) = fs::read_dir("/proc") else { return access };
    for folder in folders.flatten().filter(|folder| folder.file_name().to_str().is_some_and(is_other)).take(MAX_TRIED) {
        match fs::read_link(folder.path().join("exe")) {
            Ok(_) => {
                access.readable += 1;
                match fs::read_dir(folder.path().join("fd")) {
                    Ok(_) => access.listed += 1,
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => access.unlisted += 1,
                    Err(_) => {}
                }
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => access.refused += 1,
            // A kernel thread, which has no executable, or a process that is gone meanwhile.
            Err(_) => {}
        }
    }
    access
}

/// Enters the network namespace that this thread is in, which needs the same right as any other.
fn enter_netns() -> Result<(), String> {
    let file = File::open("/proc/thread-self/ns/net").map_err(|error| error.to_string())?;
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| errno.to_string())
}

fn is_namespace(kind: &str, initial: &str) -> Option<bool> {
    let link = fs::read_link(Path::new("/proc/self/ns").join(kind)).ok()?;
    Some(link.as_os_str() == initial)
}

fn read_btf() -> Result<u64, String> {
    if let Ok(Err(reason)) = load::types() {
        return Err(reason);
    }
    let read = || {
        // Opening is not enough: a security module may deny the read.
        let mut file = File::open(BTF)?;
        file.read_exact(&mut [0; 4])?;
        Ok(file.metadata()?.len())
    };
    read().map_err(|error: io::Error| format!("{BTF}: {error}"))
}

/// Calls bpf(2) with a command that does not exist: EINVAL comes from the system call itself, any other errno from what
/// blocks it.
fn bpf_syscall() -> Result<(), i32> {
    let (command, attributes, size) = (0x7fff, std::ptr::null::<u8>(), 0);
    // SAFETY: the size of 0 says that there is nothing behind the null pointer, and no command has this number.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    if result >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EINVAL) | None => Ok(()),
        Some(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn capabilities_are_read() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001fffeffffff\nSeccomp:\t2\n";
        let all_but_one = capabilities(status).unwrap();
        assert!(all_but_one.has(Capability::Bpf) && all_but_one.has(Capability::NetAdmin));
        assert!(!all_but_one.has(Capability::SysResource), "bit 24 is clear");
        assert_eq!(status_field(status, "Seccomp"), Some("2"));
        assert_eq!(capabilities("Name:\tx\n"), None);
        assert_eq!(capabilities("CapEff:\tzz\n"), None);
    }

    #[test]
    fn either_way_to_trace_is_enough() {
        for (bits, expected) in [
            (vec![], false),
            (vec![Capability::Bpf], false),
            (vec![Capability::Perfmon, Capability::SysPtrace], false),
            (vec![Capability::Bpf, Capability::Perfmon], true),
            (vec![Capability::SysAdmin], true),
        ] {
            let set = Capabilities(bits.iter().fold(0, |set, bit| set | 1 << *bit as u8));
            assert_eq!(set.can_trace(), expected, "{bits:?}");
        }
    }

    #[test]
    fn lockdown_is_the_one_in_brackets() {
        for (text, expected) in [
            ("[none] integrity confidentiality\n", Lockdown::None),
            ("none [integrity] confidentiality\n", Lockdown::Integrity),
            ("none integrity [confidentiality]\n", Lockdown::Confidentiality),
            ("none [integrity\n", Lockdown::Unknown),
            ("[new] none\n", Lockdown::Unknown),
            ("", Lockdown::Unknown),
        ] {
            assert_eq!(lockdown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn limits_and_versions() {
        for (text, expected) in [
            ("Max locked memory         8388608              8388608              bytes     \n", Some(8_388_608)),
            ("Max locked memory         unlimited            unlimited            bytes     \n", Some(u64::MAX)),
            ("Max processes 1 2 processes\n", None),
        ] {
            assert_eq!(memlock(text), expected, "{text:?}");
        }
        for (release, expected) in [
            ("6.18.44", Some((6, 18))),
            ("5.10.0-28-amd64", Some((5, 10))),
            ("7.2-rc1", Some((7, 2))),
            ("7", None),
            ("", None),
        ] {
            assert_eq!(kernel_version(release), expected, "{release:?}");
        }
    }

    #[test]
    fn mounts_are_read() {
        let line = "22 27 0:21 / /proc rw,relatime shared:5 master:1 - proc proc rw,gid=4,hidepid=invisible";
        let proc = mount(line).unwrap();
        assert_eq!((proc.point.as_str(), proc.kind.as_str()), ("/proc", "proc"));
        assert_eq!(hidepid(&proc).as_deref(), Some("invisible"));
        for (line, expected) in [
            ("22 27 0:21 / /proc rw - proc proc rw", None),
            ("22 27 0:21 / /proc rw - proc proc rw,hidepid=0", None),
            ("22 27 0:21 / /proc rw - proc proc rw,hidepid=2", Some("2")),
            ("22 27 0:21 / /mnt/proc rw - proc proc rw,hidepid=2", None),
            ("22 27 0:21 / /proc rw - tmpfs none rw,hidepid=2", None),
        ] {
            assert_eq!(hidepid(&mount(line).unwrap()).as_deref(), expected, "{line}");
        }
        assert_eq!(mount("22 27"), None);
        assert_eq!(mount("a - b"), None);
    }

    #[test]
    fn this_host_can_be_read() {
        let facts = read(None).unwrap();
        assert!(kernel_version(&facts.kernel).is_some());
        assert!(facts.capabilities.is_some() && facts.memlock.is_some());
        assert!(facts.figures.is_ok() && facts.census.is_ok());
        assert!(facts.sysctls.iter().any(|(name, value)| name.ends_with("tcp_fin_timeout") && value.is_some()));
    }
}
