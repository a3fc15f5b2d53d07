//! What created a pod, by the pod's name and labels. *Inferred*: runtimes do not know the owners of pods.
//!
//! Kubernetes builds names of pods from those of their owners: a Deployment's ReplicaSet adds the hash of its pod
//! template and five random characters, a DaemonSet or Job five random characters, a StatefulSet a number, and a CronJob
//! the scheduled minute to the name of its Job.

/// Random parts and hashes consist of these characters (`k8s.io/apimachinery`, `pkg/util/rand`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Length of the random part.
const RANDOM: usize = 5;

/// Lengths of the hash of a pod template: it is a number of 32 bits, written with that alphabet.
const HASH: std::ops::RangeInclusive<usize> = 6..=10;

/// Digits of the minute that a CronJob adds, counted since 1970.
const MINUTE: usize = 8;

/// The workload of a pod; the pod's own name if nothing is known to have created it. `label` is a label of the pod.
pub(super) fn of_pod<'a>(pod: &str, label: impl Fn(&str) -> Option<&'a str>) -> String {
    let jobs = ["batch.kubernetes.io/job-name", "job-name"];
    if let Some(job) = jobs.into_iter().find_map(&label).filter(|job| pod.starts_with(job)) {
        return cron_job(job).to_owned();
    }
    if let Some((owner, hash, _)) = parts(pod)
        && label("pod-template-hash")
            .map_or_else(|| is_random(hash) && HASH.contains(&hash.len()), |known| known == hash)
    {
        return owner.to_owned();
    }
    let Some((owner, last)) = split(pod) else { return pod.to_owned() };
    let is_number = last.len() <= 4 && last.bytes().all(|byte| byte.is_ascii_digit());
    let is_of_set = label("apps.kubernetes.io/pod-index").is_none_or(|index| index == last);
    if is_number && is_of_set {
        return owner.to_owned();
    }
    if last.len() == RANDOM && is_random(last) {
        return cron_job(owner).to_owned();
    }
    pod.to_owned()
}

/// The name of a pod of a Deployment: its owner's, the hash, the random part.
fn parts(pod: &str) -> Option<(&str, &str, &str)> {
    let (rest, random) = split(pod)?;
    let (owner, hash) = split(rest)?;
    (random.len() == RANDOM && is_random(random)).then_some((owner, hash, random))
}

/// The CronJob of a Job's name, or the Job.
fn cron_job(job: &str) -> &str {
    match split(job) {
        Some((owner, minute)) if minute.len() == MINUTE && minute.bytes().all(|byte| byte.is_ascii_digit()) => owner,
        _ => job,
    }
}

fn split(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('-').filter(|(owner, last)| !owner.is_empty() && !last.is_empty())
}

fn is_random(part: &str) -> bool {
    part.bytes().all(|byte| ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_by_names_and_labels() {
        let none: &[(&str, &str)] = &[];
        for (pod, labels, expected) in [
            // Deployments.
            ("web-6d4cf56db6-x7k2p", none, "web"),
            ("web-api-6d4cf56db6-x7k2p", none, "web-api"),
            ("web-abc-x7k2p", &[("pod-template-hash", "abc")], "web"),
            ("web-6d4cf56db6-x7k2p", &[("pod-template-hash", "zzzzzz")], "web-6d4cf56db6"),
            // DaemonSets: no part of the name of one is a hash.
            ("kube-proxy-x7k2p", none, "kube-proxy"),
            ("node-exporter-q4wz8", &[("controller-revision-hash", "b8d9f7c")], "node-exporter"),
            // StatefulSets.
            ("db-0", none, "db"),
            ("db-12", &[("apps.kubernetes.io/pod-index", "12")], "db"),
            // Jobs and CronJobs.
            ("import-x7k2p", &[("job-name", "import")], "import"),
            ("backup-28934120-x7k2p", none, "backup"),
            ("backup-28934120-x7k2p", &[("batch.kubernetes.io/job-name", "backup-28934120")], "backup"),
            // Pods of nothing.
            ("shell", none, "shell"),
            ("etcd-control-plane", none, "etcd-control-plane"),
            ("web-hello", none, "web-hello"),
            ("-x7k2p", none, "-x7k2p"),
            ("web-", none, "web-"),
            ("", none, ""),
            ("é-6d4cf56db6-x7k2p", none, "é"),
        ] {
            let label = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
            assert_eq!(of_pod(pod, label), expected, "{pod} {labels:?}");
        }
    }
}
