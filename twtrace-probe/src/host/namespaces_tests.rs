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
    assert_eq!(names(&all.search(&HashSet::new()).unwrap()), [(10, "host"), (11, "3f1ce9b7a4d2"), (12, "pid 1000")]);
}

#[test]
fn short_lived_processes_with_low_pids_do_not_lead_into_a_namespace() {
    let process = |pid: u32| (pid, 11, INITIAL_PIDS, "");
    let (_folder, mut all) = proc_with(&[(2, 10, INITIAL_PIDS, ""), process(300), process(301), process(17_000)]);
    let starts = |all: &Names, pid: u32, ticks: u64| {
        let stat = format!("{pid} (sh) S 1 2 2 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 {ticks} 999 88 0\n");
        fs::write(all.proc.join(format!("{pid}/stat")), stat).unwrap();
    };
    starts(&all, 300, 9000);
    starts(&all, 301, 9001);
    starts(&all, 17_000, 50);
    let place = |all: &mut Names| all.search(&HashSet::new()).unwrap().found[1].place.clone();
    assert!(place(&mut all).ends_with("17000/ns/net"), "it is the oldest, whatever its PID");
    fs::remove_dir_all(all.proc.join("300")).unwrap();
    assert!(place(&mut all).ends_with("17000/ns/net"));
    // Without it, the oldest of those that are left.
    fs::remove_dir_all(all.proc.join("17000")).unwrap();
    assert!(place(&mut all).ends_with("301/ns/net"));
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
    for (text, expected) in
        [("net:[12]", Some(12)), ("pid:[12]", None), ("net:[x]", None), ("net:[99999999999]", None), ("net:12", None)]
    {
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
