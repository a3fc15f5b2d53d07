//! Names of containers from real runtimes: Podman, Docker, and containerd with its CRI plugin. Each has its files in a
//! folder of the test, no registry, and no network beyond loopback.

mod daemons;
mod image;
mod pods;

use daemons::{Containerd, Dockerd, Podman};
use pods::Pod;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use twtrace_tests::record::{Record, json_of};
use twtrace_tests::require::skip;
use twtrace_tests::schema;
use twtrace_tests::software::installed;
use twtrace_tests::top::{await_attached, number};
use twtrace_tests::tracer::{Place, program};

/// Connections of a container.
const CONNECTIONS: u64 = 40;

/// How long a report is traced for: a container starts within seconds.
const WINDOW: &str = "12s";

/// What the names of a container must be.
struct Names {
    container: &'static str,
    /// In rows of containers.
    row: &'static str,
    image: &'static str,
    pod: Option<&'static str>,
    namespace: Option<&'static str>,
    workload: Option<&'static str>,
}

/// A container that runs, and is removed when this is dropped.
trait Running {
    /// Its whole id.
    fn id(&self) -> &str;
}

/// What runs in a container: a server, clients that are gone at once, and then nothing until it is removed.
fn churn(port: u16) -> String {
    format!(
        "cd /tmp; echo hello > index.html; busybox httpd -p 127.0.0.1:{port} -h /tmp || exit 1
         for i in $(busybox seq {CONNECTIONS}); do busybox wget -q -O /dev/null http://127.0.0.1:{port}/ || exit 1; done
         exec busybox sleep 1000"
    )
}

fn rows(report: &Value) -> impl Iterator<Item = &Value> {
    report["groups"]["rows"].as_array().unwrap().iter()
}

/// Created by the processes of rows.
fn created<'a>(rows: impl Iterator<Item = &'a Value>) -> u64 {
    rows.map(|row| number(row, "/time_wait_created")).sum()
}

/// Checks a report by container, whatever command wrote it.
fn check_rows(report: &Value, id: &str, names: &Names) {
    let row = rows(report).find(|row| row["name"] == names.row);
    let row = row.unwrap_or_else(|| panic!("no row {}: {}", names.row, report["groups"]));
    assert_eq!(row["container"], id[..12], "{row}");
    assert_eq!(row["container_name"], names.container, "{row}");
    assert_eq!(row["image"], names.image, "{row}");
    assert_eq!(row["pod"].as_str(), names.pod, "{row}");
    assert_eq!(row["pod_namespace"].as_str(), names.namespace, "{row}");
    assert_eq!(row["workload"].as_str(), names.workload, "{row}");
    assert!(created([row].into_iter()) >= CONNECTIONS, "{row}");
}

/// Churn in a container is shown under its names while it runs, by a filter, and in a recording when it is gone.
fn check<R: Running>(place: &Place, socket: &Path, names: &Names, start: impl FnOnce() -> R) {
    let folder = tempfile::tempdir().unwrap();
    let socket = socket.to_str().unwrap();
    let top = |by: &str, filter: [&str; 2]| {
        let mut command = Command::new(program("twtrace"));
        command.args(["top", "--once", "--json", "--duration", WINDOW, "--by", by, "--runtimes", socket]).args(filter);
        command.stdout(Stdio::piped());
        let child = place.spawn(command);
        await_attached(place, child.id());
        child
    };
    let by_container = top("container", ["--container", names.container]);
    let by_image = top("image", ["--image", names.image]);
    let record = Record::start_with(place, &folder.path().join("a.twt"), &["--runtimes", socket]);
    let running = start();
    let reports = [by_container, by_image].map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let report = serde_json::from_slice(&output.stdout).unwrap();
        schema::assert_fits(&schema::TOP, &report);
        report
    });
    let id = running.id().to_owned();
    check_rows(&reports[0], &id, names);
    let [only] = rows(&reports[1]).collect::<Vec<_>>()[..] else { panic!("{}", reports[1]["groups"]) };
    assert_eq!((&only["name"], &only["image"]), (&names.image.into(), &names.image.into()));
    drop(running);
    record.end();
    let report = json_of(folder.path(), "report a.twt --format json --by container");
    check_rows(&report, &id, names);
    // One that began before the container was gone, and one without any runtime: the id is all that is known.
    let of_one = json_of(folder.path(), &format!("report a.twt --format json --by container --container {id}"));
    check_rows(&of_one, &id, names);
    if let (Some(pod), Some(namespace), Some(workload)) = (names.pod, names.namespace, names.workload) {
        for (by, name) in [
            ("pod", format!("{namespace}/{pod}")),
            ("workload", format!("{namespace}/{workload}")),
            ("cluster-namespace", namespace.to_owned()),
        ] {
            let report = json_of(folder.path(), &format!("report a.twt --format json --by {by} --workload {workload}"));
            let [only] = rows(&report).collect::<Vec<_>>()[..] else { panic!("{}", report["groups"]) };
            assert_eq!(only["name"], name, "{by}");
        }
    }
}

/// Whether the programs of a runtime are there; reports a skip if they are not.
fn has(what: &str, programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|name| installed(name).is_none()).collect();
    if !missing.is_empty() {
        skip(what, &format!("not installed: {}", missing.join(", ")));
    }
    missing.is_empty()
}

#[test]
fn podman_container_is_shown_by_name() {
    if !has("podman", &["podman", "runc", "busybox"]) {
        return;
    }
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    let podman = Podman::start(&place, folder.path());
    let names = Names {
        container: "web1",
        row: "web1",
        image: "localhost/busybox:local",
        pod: None,
        namespace: None,
        workload: None,
    };
    check(&place, podman.socket(), &names, || podman.run("web1", &churn(8099)));
}

#[test]
fn docker_container_is_shown_by_name() {
    if !has("docker", &["dockerd", "docker", "containerd", "runc", "busybox"]) {
        return;
    }
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    let containerd = Containerd::start(&place, folder.path());
    let docker = Dockerd::start(&place, folder.path(), &containerd);
    let names = Names {
        container: "web1",
        row: "web1",
        image: "busybox:local",
        pod: None,
        namespace: None,
        workload: Some("shop/web"),
    };
    check(&place, docker.socket(), &names, || docker.run("web1", &churn(8099)));
}

#[test]
fn pod_is_shown_by_name_namespace_and_workload() {
    if !has("containerd", &["containerd", "ctr", "runc", "busybox"]) {
        return;
    }
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    let containerd = Containerd::start(&place, folder.path());
    let names = Names {
        container: "api",
        row: "shop/web-6d4cf56db6-x7k2p/api",
        image: "docker.io/library/busybox:local",
        pod: Some("web-6d4cf56db6-x7k2p"),
        namespace: Some("shop"),
        workload: Some("web"),
    };
    check(&place, containerd.socket(), &names, || {
        Pod::start(containerd.socket(), "web-6d4cf56db6-x7k2p", "api", names.image, &churn(8098))
    });
}
