//! Who short-lived processes were, when they and their cgroup are gone.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use twtrace_tests::top::{Top, load};
use twtrace_tests::tracer::{Place, program};

/// A server that closes after its client.
fn serve(place: &Place) -> u16 {
    let listener = place.run(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // It has nothing to read but the end.
            let _ = std::io::copy(&mut stream.unwrap(), &mut std::io::sink());
        }
    });
    port
}

/// Starts processes one after the other, each of which opens and closes a connection and is gone.
fn hit(place: &Place, port: u16, times: usize) {
    let file = program("twtrace-workload");
    place.run(move || {
        for number in 0..times {
            let mut command = Command::new(&file);
            let status = command.args(["hit", &port.to_string(), &format!("tag-{number}")]).status().unwrap();
            assert!(status.success());
        }
    });
}

/// The rows of these processes, once there are so many.
fn rows(top: &Top, times: usize) -> Vec<Value> {
    let of = |report: &Value| -> Vec<Value> {
        let rows = report["processes"].as_array().unwrap().iter();
        rows.filter(|row| row["command"] == "twtrace-workloa" && row["opened"] == 1).cloned().collect()
    };
    of(&top.wait(|report| {
        let rows = of(report);
        rows.len() == times && rows.iter().all(|row| row["cmdline"].is_string())
    }))
}

#[test]
fn each_short_lived_process_has_its_command_line_its_parent_and_an_ancestor() {
    let times: usize = load("5000").parse().unwrap();
    let place = Place::new();
    let port = serve(&place);
    let top = Top::start_here(&place, &["--ring-bytes", "64M"]);
    hit(&place, port, times);
    let rows = rows(&top, times);
    let lines: BTreeSet<&str> = rows.iter().map(|row| row["cmdline"].as_str().unwrap()).collect();
    assert_eq!(lines.len(), times, "each has its own");
    assert!(lines.iter().all(|line| line.contains(&format!("hit {port} tag-"))), "{:?}", lines.first());
    for row in &rows {
        assert_eq!(
            (row["ppid"].as_u64(), row["uid"].as_u64()),
            (Some(u64::from(std::process::id())), Some(0)),
            "{row}"
        );
        assert!(row["ancestor"].as_str().is_some_and(|ancestor| ancestor.ends_with(']')), "{row}");
    }
    top.end();
}

/// A folder in the cgroup v2 hierarchy, with what is mounted for it.
struct Cgroup {
    folder: PathBuf,
    mounted: Option<tempfile::TempDir>,
}

impl Cgroup {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let found = fields.find(|fields| fields.get(2) == Some(&"cgroup2")).map(|fields| PathBuf::from(fields[1]));
        let (root, mounted) = match found {
            Some(root) => (root, None),
            None => {
                let folder = tempfile::tempdir().unwrap();
                mount(Some("cgroup2"), folder.path(), Some("cgroup2"), MsFlags::empty(), None::<&str>).unwrap();
                (folder.path().to_owned(), Some(folder))
            }
        };
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        Self { folder, mounted }
    }

    fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
        if let Some(mounted) = &self.mounted {
            let _ = umount2(mounted.path(), MntFlags::MNT_DETACH);
        }
    }
}

#[test]
fn container_of_processes_is_known_when_it_is_gone() {
    const TIMES: usize = 50;
    const ID: &str = "3f1ce9b7a4d20516e8c7f09b1a2d3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e";
    let place = Place::new();
    let port = serve(&place);
    let top = Top::start_here(&place, &[]);
    let cgroup = Cgroup::new(&format!("twtrace-test.slice/libpod-{ID}.scope"));
    // A shell that moves into the cgroup, and starts what runs there.
    let script = format!(
        "echo $$ > {}/cgroup.procs; for i in $(seq {TIMES}); do {} hit {port} tag-$i; done; echo $$ > {}/cgroup.procs",
        cgroup.path().display(),
        program("twtrace-workload").display(),
        cgroup.path().parent().unwrap().parent().unwrap().display(),
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).stdin(Stdio::null());
    assert!(place.spawn(command).wait().unwrap().success());
    let gone = cgroup.path().to_owned();
    drop(cgroup);
    assert!(!gone.exists(), "the cgroup is gone before anything is looked up");
    for row in rows(&top, TIMES) {
        assert_eq!(row["container"], ID[..12], "{row}");
        assert!(row["cgroup"].as_str().unwrap().ends_with(&format!("libpod-{ID}.scope")), "{row}");
        assert_eq!(row["parent_command"], "bash", "{row}");
    }
    top.end();
    let _ = fs::remove_dir(gone.parent().unwrap());
}
