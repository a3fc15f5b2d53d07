//! How long a sysctl that is set by hand lasts, and how it is set for good: on a host, in a container, in a pod.

use super::context::RuleContext;
use crate::finding::Subject;

/// Sysctls that Kubernetes lets every pod set (its list of safe ones), of those that are advised here.
const SAFE: [&str; 2] = ["net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"];

/// What runs a process, as far as its cgroup shows it.
enum Runner {
    Pod,
    Container,
    Host,
}

fn runner(context: &RuleContext<'_>, subject: Option<&Subject>) -> Runner {
    let process = subject.and_then(|subject| subject.process);
    let facts = process.and_then(|process| context.snapshot.facts(process));
    let cgroup = facts.and_then(|facts| facts.cgroup.as_deref()).unwrap_or_default();
    if cgroup.contains("kubepods") {
        Runner::Pod
    } else if facts.is_some_and(|facts| facts.container.is_some()) {
        Runner::Container
    } else {
        Runner::Host
    }
}

/// One or two sentences for the risk of a command that sets `name` to `value` in a namespace.
pub(super) fn note(
    context: &RuleContext<'_>,
    netns: u32,
    subject: Option<&Subject>,
    name: &str,
    value: &str,
) -> String {
    let is_host = netns == context.snapshot.summary().host.netns || netns == 0;
    match runner(context, subject) {
        _ if is_host => format!("Gone at the next boot: put `{name} = {value}` into /etc/sysctl.d/ as well."),
        Runner::Pod => {
            let unsafe_ones = if SAFE.contains(&name) {
                ""
            } else {
                " Kubernetes does not count it among the safe ones: the kubelet needs --allowed-unsafe-sysctls."
            };
            format!(
                "Gone when the pod starts again: put it into the pod's securityContext.sysctls (name: {name}, value: \
                 \"{value}\").{unsafe_ones}"
            )
        }
        Runner::Container => format!(
            "Gone when the container starts again: `docker run --sysctl {name}=\"{value}\"`, or `sysctls:` in the compose file."
        ),
        Runner::Host => "Gone with this network namespace.".to_owned(),
    }
}
