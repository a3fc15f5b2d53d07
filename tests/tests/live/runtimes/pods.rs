//! Pods, started as the kubelet starts them: through the Container Runtime Interface.

use super::Running;
use super::daemons::remove_cgroups;
use prost::Message;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use twtrace_probe::host::runtimes::call::{Grpc, within};

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// In the path of its cgroup.
const UID: &str = "61d1e0b4-6f66-4bd3-8f68-5d9a3c2b1e0f";

/// `NamespaceMode.NODE`: the network namespace of the daemon.
const NODE: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Security {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct Linux {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security: Option<Security>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<Linux>,
}

#[derive(Clone, PartialEq, Message)]
struct RunSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerName {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerName>,
    #[prost(message, optional, tag = "2")]
    image: Option<Id>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(map = "string, string", tag = "9")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

/// Every message that has one text alone.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

/// A pod with one container; both are removed when this is dropped.
pub(super) struct Pod {
    socket: PathBuf,
    sandbox: String,
    container: String,
}

fn call<T: Message + Default>(socket: &Path, method: &str, request: &impl Message) -> T {
    let path = format!("/runtime.v1.RuntimeService/{method}");
    let answer =
        within(PATIENCE, async { Grpc::connect(socket).await?.call(&path, &[], &request.encode_to_vec()).await });
    T::decode(answer.unwrap_or_else(|failure| panic!("{method}: {failure}"))).unwrap()
}

fn labels<const N: usize>(labels: [(&str, &str); N]) -> HashMap<String, String> {
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

impl Pod {
    /// Runs a script in a container of a pod of the namespace `shop`.
    pub(super) fn start(socket: &Path, name: &str, container: &str, image: &str, script: &str) -> Self {
        let of_pod =
            [("io.kubernetes.pod.name", name), ("io.kubernetes.pod.namespace", "shop"), ("io.kubernetes.pod.uid", UID)];
        let linux = Linux {
            cgroup_parent: format!("/kubepods/burstable/pod{UID}"),
            security: Some(Security { namespaces: Some(Namespaces { network: NODE }) }),
        };
        let sandbox_config = SandboxConfig {
            metadata: Some(Metadata { name: name.into(), uid: UID.into(), namespace: "shop".into() }),
            labels: labels(of_pod),
            linux: Some(linux),
        };
        let sandbox: Id = call(socket, "RunPodSandbox", &RunSandbox { config: Some(sandbox_config.clone()) });
        let mut pod = Self { socket: socket.to_owned(), sandbox: sandbox.id.clone(), container: String::new() };
        let config = ContainerConfig {
            metadata: Some(ContainerName { name: container.into() }),
            image: Some(Id { id: image.into() }),
            command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            labels: labels([of_pod[0], of_pod[1], ("io.kubernetes.container.name", container)]),
        };
        let request =
            CreateContainer { sandbox: sandbox.id, config: Some(config), sandbox_config: Some(sandbox_config) };
        pod.container = call::<Id>(socket, "CreateContainer", &request).id;
        call::<Id>(socket, "StartContainer", &Id { id: pod.container.clone() });
        pod
    }
}

impl Running for Pod {
    fn id(&self) -> &str {
        &self.container
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            call::<Id>(&self.socket, method, &Id { id: self.sandbox.clone() });
        }
        remove_cgroups(&[&format!("kubepods/burstable/pod{UID}")]);
    }
}
