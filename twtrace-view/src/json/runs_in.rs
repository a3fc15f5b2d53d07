//! Where the processes of a row run: container, image, pod, workload.

use crate::label;
use serde::Serialize;
use twtrace_core::event::{ContainerFacts, ProcessFacts};
use twtrace_core::snapshot::{GroupBy, GroupKey, Row, Snapshot};

/// What the processes of a row have in common of it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct RunsInJson<'a> {
    /// Container id, its first 12 characters, or name, where the cgroup has one.
    container: Option<&'a str>,
    /// Name of the container, as its runtime has it; null while no runtime has said it.
    container_name: Option<&'a str>,
    /// Image of the container.
    image: Option<&'a str>,
    /// Name of its pod.
    pod: Option<&'a str>,
    /// Namespace of the cluster that the pod is in.
    pod_namespace: Option<&'a str>,
    /// Kubernetes' uid of the pod, where the cgroup has one.
    pod_uid: Option<&'a str>,
    /// What created the pod or container: a Deployment, a StatefulSet, a service of Compose. Inferred from names and labels.
    workload: Option<&'a str>,
}

impl<'a> RunsInJson<'a> {
    /// `of_cgroup` is known of a row of one process or of one cgroup.
    pub(super) fn of(row: &'a Row, by: GroupBy, of_cgroup: Option<&'a ProcessFacts>, model: &'a Snapshot) -> Self {
        use GroupBy::{ClusterNamespace, Container, Image, Pod, Workload};
        let is_of_place = [Container, Image, Pod, Workload, ClusterNamespace].contains(&by);
        let of_any = row.owner.as_ref().filter(|_| is_of_place && matches!(row.key, GroupKey::Named(_)));
        let runs_in = of_any.map_or_else(|| model.runs_in(of_cgroup), |owner| label::runs_in(owner, model));
        let has = |common: &[GroupBy]| !is_of_place || common.contains(&by);
        let shown = |of: fn(&ProcessFacts) -> &Option<String>| runs_in.facts.and_then(|facts| of(facts).as_deref());
        let said = |of: fn(&ContainerFacts) -> &Option<String>| runs_in.container.and_then(|said| of(said).as_deref());
        let if_common = |common: &[GroupBy], text: Option<&'a str>| text.filter(|_| has(common));
        Self {
            container: if_common(&[Container], shown(|facts| &facts.container)),
            container_name: if_common(&[Container], said(|said| &said.name)),
            image: if_common(&[Container, Image], said(|said| &said.image)),
            pod: if_common(&[Container, Pod], said(|said| &said.pod)),
            pod_namespace: if_common(&[Container, Pod, Workload, ClusterNamespace], said(|said| &said.pod_namespace)),
            pod_uid: if_common(&[Container, Pod], shown(|facts| &facts.pod_uid)),
            workload: if_common(&[Container, Pod, Workload], said(|said| &said.workload)),
        }
    }
}
