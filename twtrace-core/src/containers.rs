//! What container runtimes say of containers, kept beside what `/proc` said of processes.
//!
//! A process shows only the id of its container. What a runtime knows of that id arrives later, or never; it is looked up
//! when a snapshot is taken, so that a name that arrives late applies to the past as well, and stays when the container
//! is gone.

use crate::facts::ProcessFacts;
use crate::table::Map;
use std::borrow::Cow;
use std::sync::Arc;

/// Containers whose facts are kept.
const CONTAINERS: usize = 8192;

/// Total size of their text, bytes.
const BYTES: usize = 8 << 20;

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

/// Facts of containers by the id that processes show.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerTable {
    facts: Arc<Map<Box<str>, Arc<ContainerFacts>>>,
    bytes: usize,
}

impl ContainerTable {
    /// Facts of all containers, to share with a snapshot.
    pub(crate) fn all(&self) -> &Arc<Map<Box<str>, Arc<ContainerFacts>>> {
        &self.facts
    }

    /// Keeps the latest facts of a container. When full, those that no process needs are dropped; if it is still full, new
    /// ones are too.
    pub(crate) fn insert(&mut self, id: String, facts: ContainerFacts, is_needed: impl Fn(&str) -> bool) {
        let size = id.len() + facts.text_bytes();
        let all = Arc::make_mut(&mut self.facts);
        if let Some(before) = all.remove(id.as_str()) {
            self.bytes -= id.len() + before.text_bytes();
        }
        if all.len() >= CONTAINERS || self.bytes + size > BYTES {
            all.retain(|id, _| is_needed(id));
            self.bytes = all.iter().map(|(id, facts)| id.len() + facts.text_bytes()).sum();
        }
        if all.len() < CONTAINERS && self.bytes + size <= BYTES {
            self.bytes += size;
            all.insert(id.into(), Arc::new(facts));
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

    #[test]
    fn full_table_keeps_containers_of_processes() {
        let mut table = ContainerTable::default();
        let facts = ContainerFacts { name: some("a"), ..ContainerFacts::default() };
        for number in 0..CONTAINERS {
            table.insert(number.to_string(), facts.clone(), |_| false);
        }
        table.insert("new".to_owned(), facts.clone(), |id| id == "7");
        assert_eq!((table.facts.len(), table.bytes), (2, "7a".len() + "newa".len()));
        assert!(table.facts.contains_key("7") && table.facts.contains_key("new"));
        // New facts of a container replace the old ones.
        table.insert("new".to_owned(), ContainerFacts::default(), |_| true);
        assert_eq!((table.facts.len(), table.bytes), (2, "7a".len() + "new".len()));
        let long = ContainerFacts { name: Some("x".repeat(1 << 20)), ..ContainerFacts::default() };
        for number in 0..100 {
            table.insert(number.to_string(), long.clone(), |_| true);
            assert!(table.bytes <= BYTES);
        }
    }
}
