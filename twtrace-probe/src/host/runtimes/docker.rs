//! Docker's API, which Podman answers too: `GET /containers/json`.
//!
//! The path has no version: an old daemon rejects newer ones, and a new daemon those that are too old.

use super::call::{get, other, within};
use super::runtime::{CONTAINERS, Failure, Listed, PATIENCE, Runtime, name};
use super::workload;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use twtrace_core::event::ContainerFacts;

/// Docker or Podman.
pub(super) struct Docker;

/// Most names of one container that are read.
const NAMES: usize = 16;

impl Runtime for Docker {
    fn name(&self) -> &'static str {
        "Docker API"
    }

    fn list(&self, socket: &Path, wanted: &[&str]) -> Result<Vec<Listed>, Failure> {
        within(PATIENCE, async {
            let running = parse(&get(socket, "/containers/json").await?)?;
            let is_running = |id: &&str| running.iter().any(|one| one.id.starts_with(id));
            if wanted.iter().all(is_running) {
                return Ok(running);
            }
            // Those that have ended too. Of these there may be too many, so the others come first.
            let all = match get(socket, "/containers/json?all=1").await {
                Ok(body) => parse(&body)?,
                Err(_) => Vec::new(),
            };
            Ok(running.into_iter().chain(all).collect())
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    names: First<String, NAMES>,
    #[serde(default)]
    image: String,
    #[serde(default)]
    labels: Option<Labels>,
}

/// The labels that are read; a container can have any number of others.
#[derive(Default, Deserialize)]
struct Labels {
    #[serde(rename = "io.kubernetes.container.name")]
    container: Option<String>,
    #[serde(rename = "io.kubernetes.pod.name")]
    pod: Option<String>,
    #[serde(rename = "io.kubernetes.pod.namespace")]
    namespace: Option<String>,
    #[serde(rename = "com.docker.compose.project")]
    project: Option<String>,
    #[serde(rename = "com.docker.compose.service")]
    service: Option<String>,
    #[serde(rename = "com.docker.swarm.service.name")]
    swarm_service: Option<String>,
}

fn parse(body: &[u8]) -> Result<Vec<Listed>, Failure> {
    let containers: First<Container, CONTAINERS> = serde_json::from_slice(body).map_err(other)?;
    Ok(containers.0.into_iter().map(listed).collect())
}

fn listed(container: Container) -> Listed {
    let Container { id, names, image, labels } = container;
    let labels = labels.unwrap_or_default();
    // Links from other containers are names with a second slash.
    let names = || names.0.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    let own = names().find(|name| !name.contains('/')).or_else(|| names().next());
    let text = |text: &Option<String>| name(text.as_deref()?);
    let pod = text(&labels.pod);
    let workload = match (&pod, &labels.project, &labels.service, &labels.swarm_service) {
        (Some(pod), ..) => Some(workload::of_pod(pod, |_| None)),
        (None, Some(project), Some(service), _) => name(&format!("{project}/{service}")),
        (None, _, _, service) => text(service),
    };
    let facts = ContainerFacts {
        name: text(&labels.container).or_else(|| name(own?)),
        image: name(&image),
        pod_namespace: text(&labels.namespace),
        workload,
        pod,
    };
    Listed { id, facts }
}

/// The first elements of a list. The others are read past, and take no memory.
struct First<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Default for First<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for First<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Elements<T, N> {
            type Value = First<T, N>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(First::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut first = Vec::new();
                while first.len() < N {
                    let Some(element) = list.next_element()? else { return Ok(First(first)) };
                    first.push(element);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_any(Elements(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn facts(json: &str) -> ContainerFacts {
        let mut listed = parse(json.as_bytes()).unwrap();
        assert_eq!(listed.len(), 1, "{json}");
        listed.remove(0).facts
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn names_images_pods_and_services_are_read() {
        let web =
            r#"[{"Id":"3f","Names":["/db/alias","/web1"],"Image":"nginx:1.25","Labels":{"a":"b"},"State":"running"}]"#;
        let expected = ContainerFacts { name: some("web1"), image: some("nginx:1.25"), ..ContainerFacts::default() };
        assert_eq!(facts(web), expected);
        let compose = r#"[{"Id":"3f","Names":["/shop-api-1"],"Image":"","Labels":
            {"com.docker.compose.service":"api","com.docker.compose.project":"shop"}}]"#;
        assert_eq!(facts(compose).workload, some("shop/api"));
        let pod = r#"[{"Id":"3f","Names":["/k8s_api_web-6d4cf56db6-x7k2p_shop_uid_0"],"Labels":
            {"io.kubernetes.pod.name":"web-6d4cf56db6-x7k2p","io.kubernetes.pod.namespace":"shop",
             "io.kubernetes.container.name":"api"}}]"#;
        let found = facts(pod);
        assert_eq!((found.name, found.pod), (some("api"), some("web-6d4cf56db6-x7k2p")));
        assert_eq!((found.pod_namespace, found.workload), (some("shop"), some("web")));
        // Some versions write null for nothing.
        assert_eq!(facts(r#"[{"Id":"3f","Names":null,"Labels":null}]"#), ContainerFacts::default());
    }

    #[test]
    fn long_lists_and_long_names_are_cut() {
        let names = format!("[{}]", vec!["\"/a\""; 100_000].join(","));
        let one = format!(r#"{{"Id":"3f","Names":{names},"Image":"{}"}}"#, "é".repeat(10_000));
        assert_eq!(facts(&format!("[{one}]")).image.unwrap().len(), 256);
        let many = format!("[{}]", vec![r#"{"Id":"3f"}"#; 100_000].join(","));
        assert_eq!(parse(many.as_bytes()).unwrap().len(), CONTAINERS);
    }

    #[test]
    fn garbage_is_an_error() {
        let deep = "[".repeat(100_000);
        for body in ["", "{}", "[1]", "[{}]", r#"[{"Id":1}]"#, "\u{0}", deep.as_str()] {
            assert!(parse(body.as_bytes()).is_err(), "{}", &body[..body.len().min(20)]);
        }
    }
}
