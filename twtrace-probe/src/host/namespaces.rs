//! Network namespaces of the host: which exist, their names, and how to enter them.
//!
//! A namespace is found by its processes (`/proc/PID/ns/net`) and by its named mounts (`/run/netns` of `ip netns`, and
//! Docker's). When it has neither any more, a thread or an open descriptor may still refer to it, and the search uses
//! that. A namespace that never had a process or a named mount, or that only a socket or a mount elsewhere keeps alive,
//! is not found. Nothing here keeps a namespace alive for longer than a visit.

use super::{cgroup, clock, netns_cookie, read_text, users};
use nix::sched::{CloneFlags, setns};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
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
const INITIAL_PIDS: u32 = 0xEFFF_FFFC;

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
    /// `ip netns` name, else the container of its oldest process (by PID), else `host` or that PID. Hostile input.
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
    /// What the last search found.
    last: HashMap<u32, Found>,
    cookies: Cookies,
}

impl Names {
    fn search(&mut self, wanted: &HashSet<u32>) -> io::Result<Search> {
        let mut mounted: BTreeMap<u32, Mount> = mounts(&self.root.join(NUMBERED), false).collect();
        // A name takes precedence over a number.
        mounted.extend(mounts(&self.root.join(NAMED), true));
        let mut oldest = BTreeMap::new();
        for pid in self.pids()? {
            if let Some(netns) = number(&self.place(pid), "net") {
                oldest.entry(netns).or_insert(pid);
            }
        }
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
                (Some(&pid), mount) => (self.place(pid), mount.filter(|mount| mount.is_named).map(|mount| mount.name)),
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
        let (container, _) = cgroup::labels(&cgroups);
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

/// The namespace is gone from there; its inode number may be that of another one by now.
struct Another;

/// Reads cookies of namespaces. Where the kernel has no other way, by entering them.
#[derive(Default)]
struct Cookies {
    /// Where this thread is at home; none if there are no cookies to be had.
    home: Option<File>,
    is_away: bool,
    /// `NS_GET_ID` is not known to this kernel.
    must_enter: bool,
}

impl Cookies {
    fn from_here() -> Self {
        let home = netns_cookie().and_then(|_| File::open("/proc/thread-self/ns/net").ok());
        Self { home, ..Self::default() }
    }

    /// The cookie of the namespace with that inode number that the file leads to; `None` when it is not known.
    fn of(&mut self, place: &Path, inode: u32) -> Result<Option<u64>, Another> {
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
    fn go_home(&mut self) {
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

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// The number in `net:[4026531992]`.
fn number(link: &Path, kind: &str) -> Option<u32> {
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

/// Whether there is no such file, or its process has just ended.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::host::own_netns;
    use std::os::unix::fs::symlink;

    /// A `/proc` for the test.
    fn proc_with(processes: &[(u32, u32, u32, &str)]) -> (tempfile::TempDir, Names) {
        let folder = tempfile::tempdir().unwrap();
        for &(pid, netns, pidns, cgroup) in processes {
            let process = folder.path().join(format!("proc/{pid}"));
            fs::create_dir_all(process.join("ns")).unwrap();
            symlink(format!("net:[{netns}]"), process.join("ns/net")).unwrap();
            symlink(format!("pid:[{pidns}]"), process.join("ns/pid")).unwrap();
            fs::write(process.join("cgroup"), cgroup).unwrap();
        }
        fs::create_dir_all(folder.path().join("proc/self")).unwrap();
        let (proc, root) = (folder.path().join("proc"), folder.path().to_owned());
        let names = Names { proc, root, ..Names::default() };
        (folder, names)
    }

    const ID: &str = "3f1ce9b7a4d20516e8c7f09b1a2d3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e";

    fn names(search: &Search) -> Vec<(u32, &str)> {
        search.found.iter().map(|found| (found.inode, found.name.as_str())).collect()
    }

    #[test]
    fn names_are_the_containers_or_the_oldest_process() {
        let docker = format!("0::/docker/{ID}\n");
        let (_folder, mut all) = proc_with(&[
            (1, 10, INITIAL_PIDS, "0::/init.scope\n"),
            (2, 10, INITIAL_PIDS, ""),
            (20, 10, INITIAL_PIDS, ""),
            (300, 11, 77, &docker),
            (301, 11, 77, ""),
            (1000, 12, INITIAL_PIDS, ""),
            (999, 12, INITIAL_PIDS, ""),
        ]);
        let search = all.search(&HashSet::new()).unwrap();
        assert_eq!(names(&search), [(10, "host"), (11, "3f1ce9b7a4d2"), (12, "pid 999")]);
        assert!(search.found[1].place.ends_with("300/ns/net"));
        // The process that gave the name is gone.
        fs::remove_dir_all(all.proc.join("999")).unwrap();
        assert_eq!(
            names(&all.search(&HashSet::new()).unwrap()),
            [(10, "host"), (11, "3f1ce9b7a4d2"), (12, "pid 1000")]
        );
    }

    #[test]
    fn pid_1_of_a_container_is_not_the_host() {
        let inside = 4_026_532_001;
        let (_folder, mut all) = proc_with(&[(1, 10, inside, "0::/\n"), (2, 10, inside, "")]);
        assert_eq!(names(&all.search(&HashSet::new()).unwrap()), [(10, "pid 1")]);
        let (_folder, mut all) = proc_with(&[(1, 11, INITIAL_PIDS, ""), (2, 10, INITIAL_PIDS, "")]);
        assert_eq!(names(&all.search(&HashSet::new()).unwrap()), [(10, "host"), (11, "pid 1")]);
    }

    #[test]
    fn what_a_thread_or_a_descriptor_refers_to_is_not_gone() {
        let process = |pid: u32, netns: u32| (pid, netns, INITIAL_PIDS, "");
        let (_folder, mut all) =
            proc_with(&[process(1, 10), process(2, 10), process(5, 11), process(6, 12), process(7, 13)]);
        assert_eq!(all.search(&HashSet::new()).unwrap().found.len(), 4);
        for pid in [5, 6, 7] {
            fs::remove_dir_all(all.proc.join(pid.to_string())).unwrap();
        }
        fs::create_dir_all(all.proc.join("1/fd")).unwrap();
        symlink("socket:[12]", all.proc.join("1/fd/0")).unwrap();
        symlink("net:[11]", all.proc.join("1/fd/3")).unwrap();
        fs::create_dir_all(all.proc.join("1/task/8/ns")).unwrap();
        symlink("net:[12]", all.proc.join("1/task/8/ns/net")).unwrap();
        for _ in 0..2 {
            let search = all.search(&HashSet::new()).unwrap();
            assert_eq!(names(&search), [(10, "host"), (11, "pid 5"), (12, "pid 6")]);
            assert!(search.found[1].place.ends_with("1/fd/3") && search.found[2].place.ends_with("1/task/8/ns/net"));
        }
        fs::remove_file(all.proc.join("1/fd/3")).unwrap();
        assert_eq!(names(&all.search(&HashSet::new()).unwrap()), [(10, "host"), (12, "pid 6")]);
    }

    #[test]
    fn too_many_are_counted() {
        let processes: Vec<_> = (1..=MAX_NAMESPACES as u32 + 5).map(|pid| (pid, pid + 100, 7, "")).collect();
        let (_folder, mut all) = proc_with(&processes);
        let search = all.search(&HashSet::new()).unwrap();
        assert_eq!((search.found.len(), search.left_out), (MAX_NAMESPACES, 5));
    }

    #[test]
    fn one_user_with_many_leaves_room_for_the_others() {
        let users = BTreeMap::from([(3, 1000), (5, 1001), (7, 0)]);
        let of = |wanted: &[u32]| {
            let all = (1..=3 * MAX_NAMESPACES as u32).collect();
            choose(all, &wanted.iter().copied().collect(), |netns| *users.get(&netns).unwrap_or(&666))
        };
        let chosen = of(&[]);
        assert_eq!(chosen.len(), MAX_NAMESPACES);
        assert!(users.keys().all(|netns| chosen.contains(netns)), "of the other users");
        // Of the one with too many, those in use.
        let late = 3 * MAX_NAMESPACES as u32 - 1;
        assert!(!chosen.contains(&late) && of(&[late]).contains(&late));
    }

    #[test]
    fn numbers_are_read_from_links() {
        let folder = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("net:[12]", Some(12)),
            ("pid:[12]", None),
            ("net:[x]", None),
            ("net:[99999999999]", None),
            ("net:12", None),
        ] {
            let link = folder.path().join("link");
            let _ = fs::remove_file(&link);
            symlink(text, &link).unwrap();
            assert_eq!(number(&link, "net"), expected, "{text}");
        }
    }

    #[test]
    fn the_own_namespace_is_found_and_can_be_visited() {
        let searcher = Searcher::start().unwrap();
        let search = searcher.fresh(Duration::from_secs(20)).unwrap();
        let own = own_netns().unwrap();
        let mut found = search.found.iter().find(|found| found.inode == own).unwrap().clone();
        if nix::unistd::geteuid().is_root() {
            assert_eq!(within(&found, || own_netns().unwrap()), Ok(own));
        }
        assert_eq!(found.cookie, netns_cookie());
        found.cookie = found.cookie.map(|cookie| cookie + 1);
        if nix::unistd::geteuid().is_root() && found.cookie.is_some() {
            assert_eq!(within(&found, || ()), Err(NotVisited::Gone), "another namespace with that inode number");
        }
        found.inode += 1;
        assert_eq!(within(&found, || ()), Err(NotVisited::Gone));
        found.place = PathBuf::from("/proc/0/ns/net");
        assert_eq!(within(&found, || ()), Err(NotVisited::Gone));
    }
}
