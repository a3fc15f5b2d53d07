//! Runtimes of a test, with all their files in its folder.

use super::Running;
use super::image::{self, NAME, output};
use nix::mount::{MntFlags, umount2};
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use twtrace_tests::software::stop;
use twtrace_tests::tracer::Place;

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon; it is stopped when this is dropped.
struct Daemon {
    child: Child,
    socket: PathBuf,
    folder: PathBuf,
}

impl Daemon {
    /// Starts it in the place, and waits until its socket answers and `is_ready`.
    fn start(place: &Place, mut command: Command, folder: &Path, is_ready: impl Fn(&Path) -> bool) -> Self {
        let (socket, log) = (folder.join("socket"), folder.join("log"));
        let file = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut daemon = Self { child: place.spawn(command), socket, folder: folder.to_owned() };
        let end = Instant::now() + PATIENCE;
        while !(UnixStream::connect(&daemon.socket).is_ok() && is_ready(&daemon.socket)) {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            assert!(daemon.child.try_wait().unwrap().is_none(), "it ended: {}", said());
            assert!(Instant::now() < end, "it does not answer: {}", said());
            thread::sleep(Duration::from_millis(50));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        stop(&mut self.child);
        // The deepest first.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if Path::new(point).starts_with(&self.folder) {
                let _ = umount2(point, MntFlags::MNT_DETACH);
            }
        }
    }
}

/// Removes cgroups that a runtime leaves behind, from every hierarchy. Those that are in use stay.
pub(super) fn remove_cgroups(paths: &[&str]) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let [_, root, "cgroup" | "cgroup2", ..] = fields[..] {
            for path in paths {
                let _ = fs::remove_dir(Path::new(root).join(path));
            }
        }
    }
}

/// containerd with its CRI plugin and the image.
pub(super) struct Containerd(Daemon);

impl Containerd {
    pub(super) fn start(place: &Place, folder: &Path) -> Self {
        let folder = folder.join("containerd");
        for name in ["cni/bin", "cni/conf"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let at = folder.display();
        let config = format!(
            r#"version = 2
            root = "{at}/root"
            state = "{at}/state"
            [grpc]
            address = "{at}/socket"
            [ttrpc]
            address = "{at}/ttrpc"
            [plugins."io.containerd.grpc.v1.cri"]
            sandbox_image = "docker.io/library/{NAME}"
            # Not every host lets root have a low oom_score_adj, or has all controllers.
            restrict_oom_score_adj = true
            disable_hugetlb_controller = true
            containerd.snapshotter = "native"
            cni.bin_dir = "{at}/cni/bin"
            cni.conf_dir = "{at}/cni/conf"
            "#
        );
        fs::write(folder.join("config.toml"), config).unwrap();
        let mut command = Command::new("containerd");
        command.arg("--config").arg(folder.join("config.toml"));
        let ctr = |socket: &Path| {
            let mut command = Command::new("ctr");
            command.arg("--address").arg(socket).args(["--namespace", "k8s.io"]);
            command
        };
        let answers = |socket: &Path| ctr(socket).arg("version").output().unwrap().status.success();
        let daemon = Daemon::start(place, command, &folder, answers);
        output(ctr(&daemon.socket).args(["images", "import"]).arg(image::build(&folder)));
        Self(daemon)
    }

    pub(super) fn socket(&self) -> &Path {
        &self.0.socket
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        remove_cgroups(&["kubepods/burstable", "kubepods"]);
    }
}

/// dockerd, on the containerd of the test.
pub(super) struct Dockerd(Daemon);

impl Dockerd {
    pub(super) fn start(place: &Place, folder: &Path, containerd: &Containerd) -> Self {
        let folder = folder.join("docker");
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("dockerd");
        // Nothing that changes the host.
        command.args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]);
        command.args(["--bridge=none", "--storage-driver=vfs", "--containerd"]).arg(containerd.socket());
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(option).arg(folder.join(name));
        }
        command.arg("--host").arg(format!("unix://{}", folder.join("socket").display()));
        let answers = |socket: &Path| docker(socket).arg("version").output().unwrap().status.success();
        let daemon = Daemon::start(place, command, &folder, answers);
        output(docker(&daemon.socket).args(["load", "--input"]).arg(image::build(&folder)));
        Self(daemon)
    }

    pub(super) fn socket(&self) -> &Path {
        &self.0.socket
    }

    /// Runs a script in a container that Compose could have started.
    pub(super) fn run(&self, name: &str, script: &str) -> Container {
        let mut command = docker(self.socket());
        command.args(["run", "--detach", "--network=none", "--name", name]);
        command.args(["--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=web"]);
        let id = output(command.args([NAME, "/bin/sh", "-c", script]));
        let mut remove = docker(self.socket());
        remove.args(["rm", "--force", name]);
        Container { id, remove }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        remove_cgroups(&["docker"]);
    }
}

fn docker(socket: &Path) -> Command {
    let mut command = Command::new("docker");
    command.arg("--host").arg(format!("unix://{}", socket.display()));
    command
}

/// Podman's service.
pub(super) struct Podman(Daemon);

impl Podman {
    pub(super) fn start(place: &Place, folder: &Path) -> Self {
        let folder = folder.join("podman");
        fs::create_dir_all(&folder).unwrap();
        // Limits may only be raised with a capability that not every root has.
        fs::write(folder.join("containers.conf"), "[containers]\ndefault_ulimits = []\n").unwrap();
        output(podman(&folder).args(["load", "--input"]).arg(image::build(&folder)));
        let mut command = podman(&folder);
        command.args(["system", "service", "--time=0"]).arg(format!("unix://{}", folder.join("socket").display()));
        Self(Daemon::start(place, command, &folder, |_| true))
    }

    pub(super) fn socket(&self) -> &Path {
        &self.0.socket
    }

    /// Runs a script in a container.
    pub(super) fn run(&self, name: &str, script: &str) -> Container {
        let mut command = podman(&self.0.folder);
        command.args(["run", "--detach", "--network=none", "--name", name]);
        let id = output(command.arg(format!("localhost/{NAME}")).args(["/bin/sh", "-c", script]));
        let mut remove = podman(&self.0.folder);
        remove.args(["rm", "--force", "--time=0", name]);
        Container { id, remove }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        remove_cgroups(&["libpod_parent/conmon", "libpod_parent"]);
    }
}

fn podman(folder: &Path) -> Command {
    let mut command = Command::new("podman");
    command.env("CONTAINERS_CONF", folder.join("containers.conf"));
    for (option, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
        command.arg(option).arg(folder.join(name));
    }
    // crun rejects hosts with both versions of cgroups.
    command.args(["--cgroup-manager=cgroupfs", "--storage-driver=vfs", "--events-backend=none", "--runtime=runc"]);
    command
}

/// A container of Docker or Podman.
pub(super) struct Container {
    id: String,
    remove: Command,
}

impl Running for Container {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.remove.output();
    }
}
