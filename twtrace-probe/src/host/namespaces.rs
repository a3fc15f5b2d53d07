//! Network namespaces of the host: which exist, their names, and how to enter them.
//!
//! A namespace is found by its processes (`/proc/PID/ns/net`) and by its named mounts (`/run/netns` of `ip netns`, and
//! Docker's). When it has neither any more, a thread or an open descriptor may still refer to it, and the search uses
//! that. A namespace that never had a process or a named mount, or that only a socket or a mount elsewhere keeps alive,
//! is not found. Nothing here keeps a namespace alive for longer than a visit.

use super::cgroup::Labels;
use super::cookies::{Cookies, is_gone, netns_cookie};
use super::process::start_ticks;
use super::{clock, read_text, users};
use crate::confine::{self, Part};
use nix::sched::{CloneFlags, setns};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Namespaces visited. More are counted and left out: each user's processes get the same number of them, those that are in
/// use first.
pub const MAX_NAMESPACES: usize = 1024;

/// Where names are mounted: `ip netns` uses names that people know, Docker uses numbers.
const NAMED: &str = "run/netns";
const NUMBERED: &str = "run/docker/netns";

/// `PROC_PID_INIT_INO`, `include/linux/proc_ns.h`: the PID namespace of the host.
pub(super) const INITIAL_PIDS: u32 = 0xEFFF_FFFC;

/// Processes of a namespace, from either end of their PIDs, among which the oldest is looked for.
const LOOKED_AT: usize = 8;

/// The parent of all kernel threads there.
const KTHREADD: u32 = 2;

/// A search may take at most one part in this many of the time.
const SHARE: u32 = 50;

/// Time between searches, and the minimum when one is asked for.
const PAUSE: Duration = Duration::from_secs(5);
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Inode number.
    pub inode: u32,
    /// Its cookie, if that is known: an inode number is used again.
    pub cookie: Option<u64>,
    /// `ip netns` name, else the container of its oldest process, else `host` or that PID. Hostile input.
    pub name: String,
    /// The user of its oldest process, as [`users::whole`] counts; 0 if it has none.
    pub user: u32,
    /// A file that leads into it, as long as that file still refers to the same namespace.
    pub place: PathBuf,
}

/// Result of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// When it began.
    pub began: Option<Instant>,
    /// By inode number, each once.
    pub found: Vec<Found>,
    /// Further namespaces, not listed.
    pub left_out: u64,
}

/// Why a namespace was not visited.
#[derive(Debug, PartialEq, Eq)]
pub enum NotVisited {
    /// The path to it is gone or leads elsewhere: the namespace has ended, or its last process has.
    Gone,
    /// The kernel denied it; one line.
    Refused(String),
}

/// Searches the host, in a thread of its own: a large host has tens of thousands of processes.
pub struct Searcher {
    /// Dropped to end the thread.
    ask: SyncSender<Ask>,
    results: Receiver<Search>,
    wanted: Arc<Mutex<HashSet<u32>>>,
}

/// When to search next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Now,
    /// After the minimum time.
    Soon,
}

impl Searcher {
    /// Starts the thread, which stays in the mount namespace that it was started in: names that are mounted there are
    /// seen.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start() -> io::Result<Self> {
        let (ask, questions) = sync_channel(1);
        let (sender, results) = sync_channel(1);
        let wanted = Arc::<Mutex<HashSet<u32>>>::default();
        let wanted_there = Arc::clone(&wanted);
        thread::Builder::new().name("namespaces".to_owned()).stack_size(512 * 1024).spawn(move || {
            confine::enter(Part::Namespaces);
            // A thread's root leads through the mounts that this thread sees.
            let root = PathBuf::from(format!("/proc/self/task/{}/root", nix::unistd::gettid()));
            let cookies = Cookies::from_here();
            let mut names = Names { proc: PathBuf::from("/proc"), root, cookies, ..Names::default() };
            loop {
                let (began, spent_ns) = (Instant::now(), clock::thread_ns().unwrap_or(0));
                let wanted = wanted_there.lock().map(|wanted| wanted.clone()).unwrap_or_default();
                let result = names.search(&wanted).map(|search| Search { began: Some(began), ..search });
                // A failed search says nothing; the next may succeed.
                if result.is_ok_and(|search| sender.send(search).is_err()) {
                    return;
                }
                let spent_ns = clock::thread_ns().unwrap_or(0).saturating_sub(spent_ns);
                let least = (Duration::from_nanos(spent_ns) * SHARE).max(SHORT_PAUSE);
                let ended = Instant::now();
                let mut pause = least.max(PAUSE);
                loop {
                    match questions.recv_timeout(pause.saturating_sub(ended.elapsed())) {
                        Err(RecvTimeoutError::Disconnected) => return,
                        Ok(Ask::Soon) => pause = least,
                        Ok(Ask::Now) | Err(RecvTimeoutError::Timeout) => break,
                    }
                }
            }
        })?;
        Ok(Self { ask, results, wanted })
    }

    /// Asks for a search sooner than usual.
    pub fn soon(&self) {
        // Full: one is asked for.
        let _ = self.ask.try_send(Ask::Soon);
    }

    /// If there are too many, the next search prefers these, by inode number.
    pub fn want(&self, inodes: HashSet<u32>) {
        if let Ok(mut wanted) = self.wanted.lock() {
            *wanted = inodes;
        }
    }

    /// The latest search, if one has ended since the last call.
    pub fn latest(&self) -> Option<Search> {
        self.results.try_iter().last()
    }

    /// A search that begins now.
    pub fn fresh(&self, patience: Duration) -> Option<Search> {
        let asked = Instant::now();
        let mut latest = None;
        while let Some(left) = patience.checked_sub(asked.elapsed()) {
            // Full: a search is already requested; the thread has not begun it yet, or is about to end an older one.
            let _ = self.ask.try_send(Ask::Now);
            let Ok(search) = self.results.recv_timeout(left) else { break };
            let is_new = search.began >= Some(asked);
            latest = Some(search);
            if is_new {
                break;
            }
        }
        latest
    }
}

/// Searches, and caches names.
#[derive(Default)]
struct Names {
    proc: PathBuf,
    root: PathBuf,
    /// Names and users by namespace, its cookie, and its oldest process.
    known: HashMap<(u32, Option<u64>, u32), (String, u32)>,
    /// The oldest process of each namespace, by the last search.
    oldest: BTreeMap<u32, u32>,
    /// What the last search found.
    last: HashMap<u32, Found>,
    cookies: Cookies,
}

impl Names {
    fn search(&mut self, wanted: &HashSet<u32>) -> io::Result<Search> {
        let mut mounted: BTreeMap<u32, Mount> = mounts(&self.root.join(NUMBERED), false).collect();
        // A name takes precedence over a number.
        mounted.extend(mounts(&self.root.join(NAMED), true));
        let mut processes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for pid in self.pids()? {
            if let Some(netns) = number(&self.place(pid), "net") {
                processes.entry(netns).or_default().push(pid);
            }
        }
        let oldest: BTreeMap<u32, u32> =
            processes.iter().map(|(netns, pids)| (*netns, self.oldest(*netns, pids))).collect();
        self.oldest.clone_from(&oldest);
        let all: BTreeSet<u32> = oldest.keys().chain(mounted.keys()).copied().collect();
        let mut referenced = self.referenced(&all);
        let all: BTreeSet<u32> = all.into_iter().chain(referenced.keys().copied()).collect();
        let left_out = all.len().saturating_sub(MAX_NAMESPACES) as u64;
        let chosen = if left_out == 0 {
            all.into_iter().collect()
        } else {
            choose(all, wanted, |netns| oldest.get(&netns).map_or(0, |pid| self.user_by(*pid)))
        };
        let mut known = HashMap::new();
        let mut found = Vec::new();
        for netns in chosen {
            let mut same_as = None;
            let (place, mut name) = match (oldest.get(&netns), mounted.remove(&netns)) {
                (None, None) => match referenced.remove(&netns) {
                    Some(Found { name, place, cookie, .. }) => {
                        same_as = cookie;
                        (place, Some(name))
                    }
                    None => continue,
                },
                (None, Some(Mount { place, name, .. })) => (place, Some(name)),
                // A mount stays when processes end.
                (Some(&pid), mount) => {
                    let place = mount.as_ref().map_or_else(|| self.place(pid), |mount| mount.place.clone());
                    (place, mount.filter(|mount| mount.is_named).map(|mount| mount.name))
                }
            };
            let Ok(cookie) = self.cookies.of(&place, netns) else { continue };
            if same_as.is_some() && cookie != same_as {
                // The name was that of the namespace before.
                name = Some(String::new());
            }
            let mut user = 0;
            if let Some(&pid) = oldest.get(&netns) {
                let key = (netns, cookie, pid);
                let by_pid = self.known.remove(&key).unwrap_or_else(|| (self.name_by(pid), self.user_by(pid)));
                known.insert(key, by_pid.clone());
                name.get_or_insert(by_pid.0);
                user = by_pid.1;
            }
            found.push(Found { inode: netns, cookie, name: name.unwrap_or_default(), user, place });
        }
        self.cookies.go_home();
        self.known = known;
        self.last = found.iter().map(|found| (found.inode, found.clone())).collect();
        Ok(Search { began: None, found, left_out })
    }

    /// The process of a namespace by which to enter it: the one that started first, of those with the lowest and those with
    /// the highest PIDs. PIDs are used again from the lowest on, so a low one may be of a process that lives for a moment. The
    /// one of the last search stays as long as it is there.
    fn oldest(&self, netns: u32, pids: &[u32]) -> u32 {
        if let Some(before) = self.oldest.get(&netns).filter(|before| pids.binary_search(before).is_ok()) {
            return *before;
        }
        let (low, others) = pids.split_at(pids.len().min(LOOKED_AT));
        let high = &others[others.len().saturating_sub(LOOKED_AT)..];
        let started = |pid: u32| {
            let stat = fs::read(self.proc.join(format!("{pid}/stat"))).ok();
            stat.as_deref().and_then(start_ticks).unwrap_or(u64::MAX)
        };
        let found = low.iter().chain(high).map(|pid| (started(*pid), *pid)).min();
        found.map_or(0, |(_, pid)| pid)
    }

    /// Namespaces of the last search that a thread or an open descriptor still refers to, with the path to enter by it.
    fn referenced(&self, present: &BTreeSet<u32>) -> HashMap<u32, Found> {
        let lost = self.last.values().filter(|found| !present.contains(&found.inode));
        let (mut referenced, mut lost): (HashMap<u32, Found>, HashMap<u32, Found>) = lost
            .map(|found| (found.inode, found.clone()))
            // The path found last time is checked first: the rest takes long.
            .partition(|(netns, found)| number(&found.place, "net") == Some(*netns));
        for pid in self.pids().unwrap_or_default() {
            if lost.is_empty() {
                break;
            }
            let process = self.proc.join(pid.to_string());
            let threads = files(&process.join("task")).map(|thread| thread.join("ns/net"));
            for place in threads.chain(files(&process.join("fd"))) {
                if let Some(found) = number(&place, "net").and_then(|netns| lost.remove(&netns)) {
                    referenced.insert(found.inode, Found { place, ..found });
                }
            }
        }
        referenced
    }

    fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids: Vec<u32> =
            fs::read_dir(&self.proc)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// By the real uid of a process; 0 if it is gone. (The owner of its folder is root if it cannot be dumped.)
    fn user_by(&self, pid: u32) -> u32 {
        let status = read_text(self.proc.join(format!("{pid}/status"))).unwrap_or_default();
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        users::whole(uids.and_then(|uids| uids.split_whitespace().next()?.parse().ok()).unwrap_or(0))
    }

    fn place(&self, pid: u32) -> PathBuf {
        self.proc.join(format!("{pid}/ns/net"))
    }

    fn name_by(&self, pid: u32) -> String {
        let folder = self.proc.join(pid.to_string());
        let cgroups = read_text(folder.join("cgroup")).unwrap_or_default();
        let container = Labels::of_process(&cgroups).container;
        container.unwrap_or_else(|| {
            // Kernel threads are in the initial network namespace, and in the initial PID namespace PID 2 is their
            // parent.
            let is_initial = number(&folder.join("ns/pid"), "pid") == Some(INITIAL_PIDS);
            let is_first = number(&self.place(pid), "net") == number(&self.place(KTHREADD), "net");
            if is_initial && is_first { "host".to_owned() } else { format!("pid {pid}") }
        })
    }
}

/// As many as are visited, in turn for each user: of each, those in use first.
fn choose(all: BTreeSet<u32>, wanted: &HashSet<u32>, user_of: impl Fn(u32) -> u32) -> Vec<u32> {
    let mut by_user = BTreeMap::<u32, Vec<u32>>::new();
    for netns in all {
        by_user.entry(user_of(netns)).or_default().push(netns);
    }
    for of_user in by_user.values_mut() {
        // The last are taken first.
        of_user.sort_by_key(|netns| (wanted.contains(netns), std::cmp::Reverse(*netns)));
    }
    let mut chosen = Vec::new();
    while chosen.len() < MAX_NAMESPACES && !by_user.is_empty() {
        by_user.retain(|_, of_user| {
            chosen.extend(of_user.pop());
            !of_user.is_empty()
        });
    }
    chosen.truncate(MAX_NAMESPACES);
    chosen
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// The number in `net:[4026531992]`.
pub(super) fn number(link: &Path, kind: &str) -> Option<u32> {
    let text = fs::read_link(link).ok()?;
    text.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

/// A namespace that is mounted in a folder.
struct Mount {
    place: PathBuf,
    name: String,
    /// A person chose that name.
    is_named: bool,
}

/// Namespaces mounted in a folder. A file on which no namespace is mounted (any more) is on another device than they
/// are.
fn mounts(folder: &Path, is_named: bool) -> impl Iterator<Item = (u32, Mount)> + use<> {
    let nsfs = fs::metadata("/proc/thread-self/ns/net").map(|own| own.dev()).ok();
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mount = move |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let place = entry.path();
        let there = fs::metadata(&place).ok()?;
        let netns = (Some(there.dev()) == nsfs).then(|| u32::try_from(there.ino()).ok())??;
        let name = entry.file_name().to_string_lossy().into_owned();
        Some((netns, Mount { place, name, is_named }))
    };
    // Entries beyond what could ever be visited are not even read.
    entries.filter_map(mount).take(4 * MAX_NAMESPACES)
}

/// Runs `work` in a network namespace, in a thread that ends there.
///
/// # Errors
/// It cannot be entered.
pub fn within<T: Send>(namespace: &Found, work: impl FnOnce() -> T + Send) -> Result<T, NotVisited> {
    let visit = || {
        let file = File::open(&namespace.place).map_err(|error| match is_gone(&error) {
            true => NotVisited::Gone,
            false => NotVisited::Refused(format!("cannot be opened: {error}")),
        })?;
        // The PID may belong to another process by now.
        if file.metadata().ok().map(|there| there.ino()) != Some(u64::from(namespace.inode)) {
            return Err(NotVisited::Gone);
        }
        setns(&file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NotVisited::Refused(format!("cannot be entered ({errno}): it needs CAP_SYS_ADMIN")))?;
        // And its inode number to another namespace.
        if namespace.cookie.is_some() && netns_cookie() != namespace.cookie {
            return Err(NotVisited::Gone);
        }
        Ok(work())
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("visit".to_owned()).stack_size(512 * 1024);
        let visitor = thread.spawn_scoped(scope, visit);
        let visitor = visitor.map_err(|error| NotVisited::Refused(format!("cannot start a thread: {error}")))?;
        visitor.join().unwrap_or_else(|_| Err(NotVisited::Refused("the visit failed".to_owned())))
    })
}

#[cfg(test)]
#[path = "namespaces_tests.rs"]
mod tests;
