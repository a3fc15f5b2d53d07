//! The Container Runtime Interface of Kubernetes: containerd, CRI-O, cri-dockerd.
//!
//! gRPC over HTTP/2; the messages are declared here with the few fields that are read (`k8s.io/cri-api`,
//! `pkg/apis/runtime/v1/api.proto`). Unknown fields are skipped, so newer versions answer as well.

use super::call::{Grpc, other, within};
use super::runtime::{CONTAINERS, Failure, Listed, PATIENCE, Runtime, name};
use super::workload;
use bytes::{Buf as _, Bytes};
use prost::Message;
use std::collections::HashMap;
use std::path::Path;
use twtrace_core::event::ContainerFacts;

/// A runtime of Kubernetes.
pub(super) struct Cri;

/// Every list of this interface has its elements in field 1, each with a length (wire type 2).
const ELEMENT: u8 = 1 << 3 | 2;

/// Longest description of one container, bytes.
const ELEMENT_BYTES: usize = 1 << 20;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ImageSpec {
    /// As the runtime stored it: often the id alone.
    #[prost(string, tag = "1")]
    pub(super) image: String,
    /// As the pod's specification has it; since Kubernetes 1.28.
    #[prost(string, tag = "18")]
    pub(super) user_specified_image: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    pub(super) metadata: Option<Metadata>,
    #[prost(message, optional, tag = "4")]
    pub(super) image: Option<ImageSpec>,
    #[prost(string, tag = "5")]
    pub(super) image_ref: String,
    #[prost(map = "string, string", tag = "8")]
    pub(super) labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SandboxMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodSandbox {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<SandboxMetadata>,
    #[prost(map = "string, string", tag = "5")]
    pub(super) labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) repo_tags: Vec<String>,
}

impl Runtime for Cri {
    fn name(&self) -> &'static str {
        "CRI"
    }

    fn list(&self, socket: &Path, _wanted: &[&str]) -> Result<Vec<Listed>, Failure> {
        within(PATIENCE, async {
            let mut grpc = Grpc::connect(socket).await?;
            let mut list = async |method: &str| grpc.call(method, &[], &[]).await;
            let containers: Vec<Container> = elements(list("/runtime.v1.RuntimeService/ListContainers").await?)?;
            let pods: Vec<PodSandbox> = elements(list("/runtime.v1.RuntimeService/ListPodSandbox").await?)?;
            // Names of images that are known by their id alone. Without them, the id has to do.
            let images = if containers.iter().any(|one| image_of(one).is_none()) {
                list("/runtime.v1.ImageService/ListImages").await.and_then(elements).unwrap_or_default()
            } else {
                Vec::new()
            };
            Ok(join(&containers, &pods, &images))
        })
    }
}

/// The elements of a list. They are decoded one by one, because an empty element of two bytes takes hundreds in memory.
fn elements<M: Message + Default>(mut list: Bytes) -> Result<Vec<M>, Failure> {
    let mut found = Vec::new();
    while found.len() < CONTAINERS && list.first() == Some(&ELEMENT) {
        list.advance(1);
        let length = prost::decode_length_delimiter(&mut list).map_err(other)?;
        if length > list.len() {
            return Err(Failure::Other("its message is cut off".to_owned()));
        }
        let element = list.split_to(length);
        if length <= ELEMENT_BYTES {
            found.push(M::decode(element).map_err(other)?);
        }
    }
    // Fields that a later version has may follow, with a number of their own.
    if list.first().is_some_and(|key| *key >> 3 == 0) {
        return Err(Failure::Other("its message is damaged".to_owned()));
    }
    Ok(found)
}

/// The image as a person wrote it; `None` if only its id is known.
fn image_of(container: &Container) -> Option<&str> {
    let image = container.image.as_ref()?;
    [&image.user_specified_image, &image.image].into_iter().map(String::as_str).find(|name| !is_id(name))
}

/// An image's id or digest, or nothing at all.
fn is_id(image: &str) -> bool {
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    image.is_empty() || hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn join(containers: &[Container], pods: &[PodSandbox], images: &[Image]) -> Vec<Listed> {
    let pods: HashMap<&str, &PodSandbox> = pods.iter().map(|pod| (pod.id.as_str(), pod)).collect();
    let tags: HashMap<&str, &str> =
        images.iter().filter_map(|image| Some((image.id.as_str(), image.repo_tags.first()?.as_str()))).collect();
    let image = |container: &Container| {
        let id = container.image.as_ref().map_or(container.image_ref.as_str(), |image| image.image.as_str());
        let tag = || tags.get(id).or_else(|| tags.get(container.image_ref.as_str())).copied();
        name(image_of(container).or_else(tag).unwrap_or(id))
    };
    let mut all: Vec<Listed> = containers
        .iter()
        .map(|container| {
            let pod = pods.get(container.pod_sandbox_id.as_str()).copied();
            let named = container.metadata.as_ref().and_then(|metadata| name(&metadata.name));
            let label = |key: &str| container.labels.get(key).and_then(|value| name(value));
            let facts = ContainerFacts {
                name: label("io.kubernetes.container.name").or(named),
                image: image(container),
                ..of_pod(pod, label)
            };
            Listed { id: container.id.clone(), facts }
        })
        .collect();
    // The container that keeps a pod's namespaces is no container of its own in these lists.
    all.extend(pods.values().map(|pod| Listed { id: pod.id.clone(), facts: of_pod(Some(pod), |_| None) }));
    all
}

/// What a pod says of its containers; `label` is a container's own.
fn of_pod(pod: Option<&PodSandbox>, label: impl Fn(&str) -> Option<String>) -> ContainerFacts {
    let metadata = pod.and_then(|pod| pod.metadata.as_ref());
    let pod_name = metadata.and_then(|metadata| name(&metadata.name)).or_else(|| label("io.kubernetes.pod.name"));
    let namespace = metadata.and_then(|metadata| name(&metadata.namespace));
    let of_pod = |key: &str| pod.and_then(|pod| pod.labels.get(key)).map(String::as_str);
    ContainerFacts {
        workload: pod_name.as_deref().map(|pod| workload::of_pod(pod, of_pod)),
        pod: pod_name,
        pod_namespace: namespace.or_else(|| label("io.kubernetes.pod.namespace")),
        ..ContainerFacts::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn list(elements: impl IntoIterator<Item = Vec<u8>>) -> Bytes {
        let mut bytes = Vec::new();
        for element in elements {
            bytes.push(ELEMENT);
            prost::encode_length_delimiter(element.len(), &mut bytes).unwrap();
            bytes.extend(element);
        }
        bytes.into()
    }

    #[test]
    fn lists_are_bounded_and_garbage_is_an_error() {
        let one = Image { id: "a".into(), repo_tags: vec!["b".into()] };
        let mut known = list([one.encode_to_vec(), one.encode_to_vec()]).to_vec();
        assert_eq!(elements::<Image>(known.clone().into()).unwrap(), [one.clone(), one]);
        // A field that is not known yet.
        known.extend([2 << 3, 1]);
        assert_eq!(elements::<Image>(known.into()).unwrap().len(), 2);
        let many = list(std::iter::repeat_n(Vec::new(), 1_000_000));
        assert_eq!(elements::<Image>(many).unwrap().len(), CONTAINERS);
        assert!(elements::<Image>(list([vec![0; 2 << 20]])).unwrap().is_empty(), "too long to be one");
        for garbage in [&[ELEMENT][..], &[ELEMENT, 5, 1], &[ELEMENT, 2, 0xff, 0xff], &[0], &[ELEMENT, 2, ELEMENT, 200]]
        {
            assert!(elements::<Image>(Bytes::copy_from_slice(garbage)).is_err(), "{garbage:?}");
        }
        assert!(elements::<Image>(Bytes::new()).unwrap().is_empty());
    }

    #[test]
    fn containers_get_the_names_of_their_pods_and_images() {
        let id = format!("sha256:{}", "ab".repeat(32));
        let container = |image: ImageSpec| Container {
            id: "c1".into(),
            pod_sandbox_id: "p1".into(),
            metadata: Some(Metadata { name: "api".into() }),
            image: Some(image),
            ..Container::default()
        };
        let pod = PodSandbox {
            id: "p1".into(),
            metadata: Some(SandboxMetadata { name: "web-6d4cf56db6-x7k2p".into(), namespace: "shop".into() }),
            labels: HashMap::from([("pod-template-hash".to_owned(), "6d4cf56db6".to_owned())]),
        };
        let images = [Image { id: id.clone(), repo_tags: vec!["docker.io/library/api:2".into()] }];
        let some = |text: &str| Some(text.to_owned());
        for (image, expected) in [
            (ImageSpec { image: id.clone(), user_specified_image: "api:2".into() }, some("api:2")),
            (ImageSpec { image: id.clone(), ..ImageSpec::default() }, some("docker.io/library/api:2")),
            (ImageSpec { image: "api:3".into(), ..ImageSpec::default() }, some("api:3")),
            (ImageSpec { image: "ab".repeat(32), ..ImageSpec::default() }, Some("ab".repeat(32))),
        ] {
            let found = join(&[container(image)], std::slice::from_ref(&pod), &images);
            let facts = ContainerFacts {
                name: some("api"),
                image: expected,
                pod: some("web-6d4cf56db6-x7k2p"),
                pod_namespace: some("shop"),
                workload: some("web"),
            };
            assert_eq!(found[0], Listed { id: "c1".into(), facts: facts.clone() });
            assert_eq!(found[1].facts, ContainerFacts { name: None, image: None, ..facts });
        }
        // Without the pod, its labels on the container do.
        let labels = [("io.kubernetes.pod.name", "db-0"), ("io.kubernetes.pod.namespace", "shop")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let alone = join(&[Container { labels, ..container(ImageSpec::default()) }], &[], &[]);
        assert_eq!((alone[0].facts.pod.as_deref(), alone[0].facts.workload.as_deref()), (Some("db-0"), Some("db")));
    }
}
