//! What container runtimes say of containers, and how a person names where a process runs.

use crate::facts::ProcessFacts;
use std::borrow::Cow;

/// What a container runtime says of a container. Hostile input.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContainerFacts {
    /// Its name; in a pod, the name that the pod's specification gives it.
    pub name: Option<String>,
    /// The image as it was asked for, such as `nginx:1.25`.
    pub image: Option<String>,
    /// Name of its pod.
    pub pod: Option<String>,
    /// The cluster's namespace that the pod is in.
    pub pod_namespace: Option<String>,
    /// What created it: a Deployment, a StatefulSet, a service of Compose. *Inferred* from the pod's name and labels.
    pub workload: Option<String>,
}

impl ContainerFacts {
    /// Total length of its text, bytes.
    pub fn text_bytes(&self) -> usize {
        let Self { name, image, pod, pod_namespace, workload } = self;
        [name, image, pod, pod_namespace, workload].into_iter().flatten().map(String::len).sum()
    }

    /// What shares its network namespace: its pod, as `namespace/pod`, or itself.
    pub(crate) fn place(&self) -> Option<Cow<'_, str>> {
        self.pod.as_deref().map(|pod| self.in_namespace(pod)).or_else(|| Some(self.name.as_deref()?.into()))
    }

    fn in_namespace<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match &self.pod_namespace {
            Some(namespace) => format!("{namespace}/{name}").into(),
            None => name.into(),
        }
    }
}

/// Where a process runs, as far as its cgroup and a runtime say.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunsIn<'a> {
    /// What `/proc` said of the process, or else of its cgroup.
    pub facts: Option<&'a ProcessFacts>,
    /// What a runtime said of its container.
    pub container: Option<&'a ContainerFacts>,
}

impl<'a> RunsIn<'a> {
    /// The container as a person names it: `web1`; in a pod `namespace/pod/name`; where no runtime said anything, its id.
    pub fn container(&self) -> Option<Cow<'a, str>> {
        let named = self.container.and_then(|said| {
            let name = said.name.as_deref()?;
            Some(match &said.pod {
                Some(pod) => format!("{}/{name}", said.in_namespace(pod)).into(),
                None => Cow::Borrowed(name),
            })
        });
        named.or_else(|| Some(self.facts?.container.as_deref()?.into()))
    }

    /// The image.
    pub fn image(&self) -> Option<Cow<'a, str>> {
        Some(self.container?.image.as_deref()?.into())
    }

    /// The pod as `namespace/pod`; where no runtime said anything, its uid.
    pub fn pod(&self) -> Option<Cow<'a, str>> {
        let named = self.container.and_then(|said| Some(said.in_namespace(said.pod.as_deref()?)));
        named.or_else(|| Some(self.facts?.pod_uid.as_deref()?.into()))
    }

    /// The workload as `namespace/workload`. *Inferred*.
    pub fn workload(&self) -> Option<Cow<'a, str>> {
        self.container.and_then(|said| Some(said.in_namespace(said.workload.as_deref()?)))
    }

    /// The cluster's namespace.
    pub fn cluster_namespace(&self) -> Option<Cow<'a, str>> {
        Some(self.container?.pod_namespace.as_deref()?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn names_say_where_a_container_is() {
        let facts = ProcessFacts { container: some("3f1c"), pod_uid: some("61d1-e0b4"), ..ProcessFacts::default() };
        let by_cgroup = RunsIn { facts: Some(&facts), container: None };
        assert_eq!((by_cgroup.container().as_deref(), by_cgroup.pod().as_deref()), (Some("3f1c"), Some("61d1-e0b4")));
        assert_eq!((by_cgroup.image(), by_cgroup.workload(), by_cgroup.cluster_namespace()), (None, None, None));
        let said = ContainerFacts {
            name: some("api"),
            image: some("api:1"),
            pod: some("web-0"),
            pod_namespace: some("shop"),
            workload: some("web"),
        };
        let named = RunsIn { facts: Some(&facts), container: Some(&said) };
        assert_eq!(named.container().as_deref(), Some("shop/web-0/api"));
        assert_eq!((named.pod().as_deref(), named.workload().as_deref()), (Some("shop/web-0"), Some("shop/web")));
        assert_eq!((named.image().as_deref(), named.cluster_namespace().as_deref()), (Some("api:1"), Some("shop")));
        let said = ContainerFacts { name: some("web1"), ..ContainerFacts::default() };
        let named = RunsIn { facts: Some(&facts), container: Some(&said) };
        assert_eq!(named.container().as_deref(), Some("web1"));
        // A runtime that says nothing hides nothing.
        let said = ContainerFacts::default();
        let named = RunsIn { facts: Some(&facts), container: Some(&said) };
        assert_eq!(named.container().as_deref(), Some("3f1c"));
    }
}
