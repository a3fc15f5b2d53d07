//! Which processes have descriptors of which sockets: the census's inode numbers joined with `/proc/PID/fd`, as `ss -p`
//! does.
//!
//! A process is read through a descriptor of its folder, which refers to that process and to no later one with the same
//! PID. Descriptors are those of the process as a whole: those of a thread that unshared its table are not found. The
//! owner of a descriptor in transit through a Unix socket, or of one that `io_uring` registered, is unknown.

use super::namespaces::{INITIAL_PIDS, number};
use super::{clock, process};
use crate::confine::{self, Part};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;
use twtrace_core::event::{CensusState, SocketOwner, Tuple};

/// Sockets searched for, in all namespaces.
pub const MAX_SOCKETS: usize = 262_144;

/// Rows of an answer.
pub const MAX_ROWS: usize = 4096;

/// Limits of a search. A search that reaches one leaves owners out, and says so.
#[derive(Clone, Copy, Debug)]
struct Limits {
    processes: usize,
    /// Of one process.
    descriptors: usize,
    /// Of all processes: some seconds of work.
    looks: usize,
    /// Rows before the smallest are left out.
    groups: usize,
    rows: usize,
}

const LIMITS: Limits =
    Limits { processes: 32_768, descriptors: 65_536, looks: 1 << 21, groups: 65_536, rows: MAX_ROWS };

/// Longest `/proc/PID/stat` and `status` read.
const MAX_FILE: u64 = 8 * 1024;

/// Longest name of a process (`TASK_COMM_LEN` without its NUL), in bytes.
const MAX_COMM: usize = 15;

/// A socket that a descriptor may refer to, as a census reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSocket {
    /// `idiag_inode`.
    pub inode: u32,
    /// Addresses and ports.
    pub tuple: Tuple,
    /// Never a TIME_WAIT socket.
    pub state: CensusState,
}

/// The sockets of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// `net.ipv4.ip_local_port_range` there; (0, 0) if unknown.
    pub port_range: (u16, u16),
    /// Those that have an inode.
    pub open: Vec<OpenSocket>,
    /// There are more.
    pub cut: bool,
}

/// Result of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those with the most sockets first, at most [`MAX_ROWS`].
    pub rows: Vec<SocketOwner>,
    /// No owner was left out.
    pub complete: bool,
    /// When it ended, in nanoseconds of the monotonic clock.
    pub ended_ns: u64,
    /// Processor time that it took, in nanoseconds.
    pub spent_ns: u64,
}

/// What to search for: a list for each namespace.
pub type Question = Vec<Arc<Sockets>>;

/// Searches in a thread of its own: a host has hundreds of thousands of descriptors, and `/proc` can be slow.
pub struct Searcher {
    /// Dropped to end the thread.
    ask: SyncSender<Question>,
    answers: Receiver<Found>,
    is_busy: bool,
}

impl Searcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start() -> io::Result<Self> {
        let (ask, questions) = sync_channel::<Question>(1);
        let (sender, answers) = sync_channel(1);
        thread::Builder::new().name("socket-owners".to_owned()).stack_size(512 * 1024).spawn(move || {
            confine::enter(Part::SocketOwners);
            for question in questions {
                let before_ns = clock::thread_ns().unwrap_or(0);
                let mut found = search(Path::new("/proc"), &question, LIMITS);
                drop(question);
                found.ended_ns = clock::monotonic_ns().unwrap_or(0);
                found.spent_ns = clock::thread_ns().unwrap_or(0).saturating_sub(before_ns);
                if sender.send(found).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, answers, is_busy: false })
    }

    /// Whether a search is running, or has ended and its answer has not been taken yet.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Begins a search, unless one is running.
    pub fn ask(&mut self, question: Question) {
        if !self.is_busy {
            self.is_busy = match self.ask.try_send(question) {
                Ok(()) => true,
                // The thread is gone: there will be no answer.
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            };
        }
    }

    /// The result of the running search, if it ends within that time.
    pub fn answer(&mut self, patience: Duration) -> Option<Found> {
        if !self.is_busy {
            return None;
        }
        let found = self.answers.recv_timeout(patience).ok()?;
        self.is_busy = false;
        Some(found)
    }
}

/// What the sockets of one row have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Kind {
    netns: u32,
    state: CensusState,
    local_addr: IpAddr,
    local_port: u16,
    remote_addr: IpAddr,
    remote_port: u16,
}

/// A process, as its row names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    tgid: u32,
    start_ns: u64,
    command: String,
    uid: u32,
}

/// Searches the descriptors of all processes.
fn search(proc: &Path, question: &[Arc<Sockets>], limits: Limits) -> Found {
    // From another PID namespace, processes of its parents are not visible.
    let mut complete = number(&proc.join("self/ns/pid"), "pid").is_none_or(|namespace| namespace == INITIAL_PIDS);
    let wanted = wanted(question, &mut complete);
    let mut processes: Vec<Process> = Vec::new();
    let mut groups: HashMap<(u32, u32), u64> = HashMap::new();
    if !wanted.by_inode.is_empty() {
        let pids = pids(proc, limits.processes, &mut complete);
        let ns_per_tick = process::ns_per_tick();
        let mut looks = limits.looks;
        let mut look = Look { numbers: Vec::new(), name: String::new(), hits: Vec::new() };
        for pid in pids {
            let most = limits.descriptors.min(looks);
            let looked = look.at(&proc.join(pid.to_string()), most, &wanted.by_inode, &mut complete);
            looks = looks.saturating_sub(look.numbers.len());
            let Some(folder) = looked else { continue };
            // It has ended meanwhile, and owns nothing any more.
            let Some(process) = identity(&folder, pid, ns_per_tick) else { continue };
            let number = processes.len() as u32;
            for kind in look.hits.drain(..) {
                let room = groups.len() < limits.groups;
                match groups.entry((number, kind)) {
                    Entry::Occupied(mut count) => *count.get_mut() += 1,
                    Entry::Vacant(place) if room => drop(place.insert(1)),
                    Entry::Vacant(_) => complete = false,
                }
            }
            processes.push(process);
        }
    }
    let mut counted: Vec<(u64, u32, u32)> = groups.into_iter().map(|((who, kind), count)| (count, who, kind)).collect();
    // The order has no meaning, but is always the same.
    counted.sort_unstable_by_key(|(count, who, kind)| (u64::MAX - count, *who, wanted.kinds.get(*kind as usize)));
    complete &= counted.len() <= limits.rows;
    let row = |(sockets, who, kind): (u64, u32, u32)| {
        let (who, kind) = (processes.get(who as usize)?, wanted.kinds.get(kind as usize)?);
        Some(SocketOwner {
            tgid: who.tgid,
            start_ns: who.start_ns,
            command: who.command.clone(),
            uid: who.uid,
            netns: kind.netns,
            state: kind.state,
            local_addr: kind.local_addr,
            local_port: kind.local_port,
            remote_addr: kind.remote_addr,
            remote_port: kind.remote_port,
            sockets,
        })
    };
    let rows = counted.into_iter().take(limits.rows).filter_map(row).collect();
    Found { rows, complete, ended_ns: 0, spent_ns: 0 }
}

/// What to search for.
struct Wanted {
    /// Numbers of kinds.
    by_inode: HashMap<u32, u32>,
    kinds: Vec<Kind>,
}

fn wanted(question: &[Arc<Sockets>], complete: &mut bool) -> Wanted {
    let mut by_inode = HashMap::new();
    let mut kinds = Vec::new();
    let mut numbers: HashMap<Kind, u32> = HashMap::new();
    for sockets in question {
        *complete &= !sockets.cut;
        let listeners = sockets.open.iter().filter(|socket| socket.state == CensusState::Listen);
        let listening: HashSet<(IpAddr, u16)> =
            listeners.map(|socket| (socket.tuple.local_addr, socket.tuple.local_port)).collect();
        for socket in &sockets.open {
            if by_inode.len() >= MAX_SOCKETS {
                *complete = false;
                break;
            }
            let kind = kind(socket, &listening, sockets.port_range);
            let number = *numbers.entry(kind).or_insert_with(|| {
                kinds.push(kind);
                kinds.len() as u32 - 1
            });
            by_inode.insert(socket.inode, number);
        }
    }
    Wanted { by_inode, kinds }
}

fn kind(socket: &OpenSocket, listening: &HashSet<(IpAddr, u16)>, range: (u16, u16)) -> Kind {
    let Tuple { netns, local_addr, local_port, remote_addr, remote_port, .. } = socket.tuple;
    let nowhere = || match local_addr {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let is_service = |address: IpAddr, port: u16| {
        // A listener on `::` also accepts IPv4.
        let anywhere = [address, Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        anywhere.iter().any(|address| listening.contains(&(*address, port)))
    };
    // The listener may have been closed since: a side whose port the kernel chose is not the service.
    let is_chosen = |port| (range.0..=range.1).contains(&port);
    let is_left = || is_chosen(remote_port) && !is_chosen(local_port) && !is_service(remote_addr, remote_port);
    let is_accepted = || is_service(local_addr, local_port) || is_left();
    let state = socket.state;
    if !socket.state.is_connection() || is_accepted() {
        Kind { netns, state, local_addr, local_port, remote_addr: nowhere(), remote_port: 0 }
    } else {
        Kind { netns, state, local_addr, local_port: 0, remote_addr, remote_port }
    }
}

/// Lowest first, at most `limit`.
fn pids(proc: &Path, limit: usize, complete: &mut bool) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(proc) else {
        *complete = false;
        return Vec::new();
    };
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        // One entry read beyond the limit shows that there are more.
        .take(limit + 1)
        .collect();
    *complete &= pids.len() <= limit;
    pids.truncate(limit);
    pids.sort_unstable();
    pids
}

/// Reads one process after the other, with the same memory.
struct Look {
    /// Its descriptors.
    numbers: Vec<u32>,
    name: String,
    /// Kind of each socket found, each socket once.
    hits: Vec<u32>,
}

impl Look {
    /// Reads one process, at most `most` of its descriptors. Returns its folder if it has any of the sockets.
    fn at(&mut self, path: &Path, most: usize, wanted: &HashMap<u32, u32>, complete: &mut bool) -> Option<OwnedFd> {
        self.numbers.clear();
        self.hits.clear();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::open(path, flags, Mode::empty())
            .and_then(|folder| Ok((Dir::openat(&folder, "fd", flags, Mode::empty())?, folder)));
        let (mut descriptors, folder) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                *complete &= is_gone(error);
                return None;
            }
        };
        for entry in descriptors.iter() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    *complete &= is_gone(error);
                    break;
                }
            };
            // `.` and `..` are not numbers.
            let Some(number) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else { continue };
            if self.numbers.len() == most {
                *complete = false;
                break;
            }
            self.numbers.push(number);
        }
        // By inode first: several descriptors may refer to one socket.
        for number in &self.numbers {
            self.name.clear();
            let _ = write!(self.name, "{number}");
            match readlinkat(&descriptors, self.name.as_str()) {
                Ok(link) => self.hits.extend(socket(link.as_bytes()).filter(|inode| wanted.contains_key(inode))),
                Err(error) if is_gone(error) => {}
                // An error for one means the same error for all.
                Err(_) => {
                    *complete = false;
                    break;
                }
            }
        }
        self.hits.sort_unstable();
        self.hits.dedup();
        for hit in &mut self.hits {
            *hit = wanted.get(hit).copied().unwrap_or(u32::MAX);
        }
        (!self.hits.is_empty()).then_some(folder)
    }
}

/// A process or a descriptor that has gone does not count as left out.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::ENOENT | Errno::ESRCH)
}

/// The inode number in `socket:[4711]`.
fn socket(link: &[u8]) -> Option<u32> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// What the files of a process say about it; `None` when it has ended.
fn identity(folder: &OwnedFd, tgid: u32, ns_per_tick: u64) -> Option<Process> {
    let read = |name: &str| {
        let file = openat(folder, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        File::from(file).take(MAX_FILE).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let stat = read("stat")?;
    let start_ns = process::start_ticks(&stat)?.saturating_mul(ns_per_tick);
    let uid = real_uid(&read("status")?)?;
    Some(Process { tgid, start_ns, command: command(&stat)?, uid })
}

/// Field 2 of `/proc/PID/stat`, without its brackets. The name itself may contain brackets.
fn command(stat: &[u8]) -> Option<String> {
    let begin = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let name = stat.get(begin..end)?;
    Some(String::from_utf8_lossy(&name[..name.len().min(MAX_COMM)]).into_owned())
}

/// The first number of `Uid:` in `/proc/PID/status`. The kernel escapes the name in the first line, so the name cannot
/// start a line of its own.
fn real_uid(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[path = "socket_owners_tests.rs"]
mod tests;
