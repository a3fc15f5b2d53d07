//! What a cgroup path says: container, pod and systemd unit.

/// Length of the short form of a container id, as `docker ps` prints it.
pub const SHORT_ID: usize = 12;

/// The path of the process in the text of `/proc/PID/cgroup`: the one in the v2 hierarchy (`0::/path`), where cgroup
/// ids belong; on a host without v2, the one in systemd's v1 hierarchy or the memory controller's.
pub fn path(text: &str) -> Option<&str> {
    hierarchy(text, "").or_else(|| hierarchy(text, "name=systemd")).or_else(|| hierarchy(text, "memory"))
}

/// What a cgroup path names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Short id or name of the container.
    pub container: Option<String>,
    /// Kubernetes' uid of the pod.
    pub pod_uid: Option<String>,
    /// systemd unit.
    pub unit: Option<String>,
}

impl Labels {
    /// What one path names.
    pub fn of_path(path: &str) -> Self {
        Self { container: container(path), pod_uid: pod_uid(path), unit: unit(path) }
    }

    /// What `/proc/PID/cgroup` names: the v2 path if it names it, else the v1 hierarchies. On a hybrid host Docker places
    /// containers only in v1.
    pub fn of_process(text: &str) -> Self {
        let paths = || ["", "name=systemd", "memory"].into_iter().filter_map(|name| hierarchy(text, name));
        Self {
            container: paths().find_map(container),
            pod_uid: paths().find_map(pod_uid),
            unit: paths().find_map(unit),
        }
    }
}

/// Path in the hierarchy that has this controller (`""` for v2).
fn hierarchy<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let found = if controller.is_empty() {
            number == "0" && controllers.is_empty()
        } else {
            controllers.split(',').any(|name| name == controller)
        };
        found.then_some(path)
    })
}

/// Container of a path: a short id, or a name where the manager uses names. The innermost one counts.
pub fn container(path: &str) -> Option<String> {
    let elements: Vec<&str> = path.split('/').filter(|element| !element.is_empty()).collect();
    (0..elements.len()).rev().find_map(|index| {
        let element = elements[index];
        let parent = index.checked_sub(1).map_or("", |above| elements[above]);
        by_id(element).or_else(|| by_name(element, parent))
    })
}

/// `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID`, `libpod-ID.scope`, `pod.slice:cri-containerd:ID`, or an ID
/// alone with the cgroupfs driver.
fn by_id(element: &str) -> Option<String> {
    let element = element.strip_suffix(".scope").unwrap_or(element);
    let (manager, id) = element.rsplit_once(['-', ':']).unwrap_or(("", element));
    let is_id = id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // conmon monitors a container from outside it.
    (is_id && !manager.ends_with("conmon")).then(|| id[..SHORT_ID].to_owned())
}

/// LXC, systemd-nspawn and libvirt.
fn by_name(element: &str, parent: &str) -> Option<String> {
    let name = if parent == "lxc" || parent == "lxc.payload" {
        element
    } else if let Some(name) = element.strip_prefix("lxc.payload.") {
        name
    } else if let Some(name) = element.strip_prefix("systemd-nspawn@") {
        name.strip_suffix(".service")?
    } else if parent == "machine.slice" {
        element.strip_prefix("machine-")?.strip_suffix(".scope")?
    } else {
        return None;
    };
    (!name.is_empty()).then(|| unescape(name))
}

/// Kubernetes' uid of the pod in a path. The innermost one counts.
pub fn pod_uid(path: &str) -> Option<String> {
    path.rsplit('/').find_map(|element| {
        // `podUID` with the cgroupfs driver, `kubepods-QOS-podUID.slice` with systemd's, which has no hyphens in names.
        let element = element.split(':').next().unwrap_or(element);
        let element = element.strip_suffix(".slice").unwrap_or(element);
        let uid = element.strip_prefix("pod").or_else(|| element.rsplit_once("-pod").map(|(_, uid)| uid))?;
        let uid = uid.replace('_', "-");
        is_uid(&uid).then_some(uid)
    })
}

/// A UUID, or the hash that static pods have instead.
fn is_uid(uid: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let lengths = uid.split('-').map(str::len);
    uid.split('-').all(is_hex) && (lengths.clone().eq([8, 4, 4, 4, 12]) || lengths.eq([32]))
}

/// The innermost service or scope of a path.
pub fn unit(path: &str) -> Option<String> {
    path.rsplit('/').find(|element| element.ends_with(".service") || element.ends_with(".scope")).map(unescape)
}

/// Undoes systemd's escapes of characters (`\x2d` is a hyphen). Anything but printable ASCII stays escaped.
fn unescape(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        plain.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(u8::is_ascii_graphic) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = &after[2..];
            }
            None => {
                plain.push_str("\\x");
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f1ce9b7a4d20516e8c7f09b1a2d3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e";

    #[test]
    fn containers_and_units_by_path() {
        let id = Some("3f1ce9b7a4d2");
        for (path, container_is, unit_is) in [
            ("/".to_owned(), None, None),
            ("".to_owned(), None, None),
            ("/init.scope".to_owned(), None, Some("init.scope")),
            ("/system.slice/nginx.service".to_owned(), None, Some("nginx.service")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope".to_owned(), None, Some("x.scope")),
            ("/system.slice/postgresql.service/worker".to_owned(), None, Some("postgresql.service")),
            (format!("/docker/{ID}"), id, None),
            (format!("/docker/{ID}/init"), id, None),
            (format!("/system.slice/nerdctl-{ID}.scope"), id, Some("nerdctl-ID.scope")),
            (format!("/system.slice/docker-{ID}.scope"), id, Some("docker-ID.scope")),
            (format!("/kubepods/burstable/pod61d1e0b4-6f66-4bd3-8f68-5d9a3c2b1e0f/{ID}"), id, None),
            (
                format!("/kubepods.slice/kubepods-besteffort.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
                id,
                Some("cri-containerd-ID.scope"),
            ),
            (format!("/kubepods.slice/crio-{ID}.scope/container"), id, Some("crio-ID.scope")),
            (format!("/kubepods.slice/kubepods-pod1.slice/crio-{ID}"), id, None),
            (format!("/machine.slice/libpod-{ID}.scope/container"), id, Some("libpod-ID.scope")),
            (format!("/machine.slice/libpod-conmon-{ID}.scope"), None, Some("libpod-conmon-ID.scope")),
            (
                format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
                id,
                Some("containerd.service"),
            ),
            (format!("/ecs/task/{ID}"), id, None),
            ("/lxc/web/init.scope".to_owned(), Some("web"), Some("init.scope")),
            ("/lxc.payload/web".to_owned(), Some("web"), None),
            ("/lxc.payload.web/system.slice/nginx.service".to_owned(), Some("web"), Some("nginx.service")),
            ("/lxc.monitor.web".to_owned(), None, None),
            (format!("/lxc.payload.web/system.slice/docker-{ID}.scope"), id, Some("docker-ID.scope")),
            (r"/machine.slice/machine-db\x2d1.scope".to_owned(), Some("db-1"), Some("machine-db-1.scope")),
            (
                "/machine.slice/systemd-nspawn@db.service/payload".to_owned(),
                Some("db"),
                Some("systemd-nspawn@db.service"),
            ),
            (format!("/docker/{}", &ID[1..]), None, None),
            (format!("/docker/{}", ID.to_uppercase()), None, None),
            (format!("/docker/{}", "é".repeat(32)), None, None),
        ] {
            let unit_is = unit_is.map(|name| name.replace("ID", ID));
            assert_eq!(container(&path).as_deref(), container_is, "container of {path}");
            assert_eq!(unit(&path), unit_is, "unit of {path}");
        }
    }

    #[test]
    fn pods_and_their_containers_by_path() {
        const UID: &str = "8712f785-1a3e-41ec-a00b-e2dcc77431cb";
        const STATIC: &str = "9729a196c4723b60ab401eaff722982d";
        let slice_uid = UID.replace('-', "_");
        for (path, has_container, uid) in [
            // cgroupfs: guaranteed, burstable, best effort, a child below, a static pod.
            (format!("/kubepods/pod{UID}/{ID}"), true, Some(UID)),
            (format!("/kubepods/burstable/pod{UID}/{ID}"), true, Some(UID)),
            (format!("/kubepods/besteffort/pod{UID}/{ID}"), true, Some(UID)),
            (format!("/kubepods/burstable/pod{STATIC}/{ID}/kube-proxy"), true, Some(STATIC)),
            (format!("/kubepods/pod{UID}/crio-{ID}"), true, Some(UID)),
            (format!("/kubepods/pod{UID}"), false, Some(UID)),
            // systemd: the same, by each runtime.
            (format!("/kubepods.slice/kubepods-pod{slice_uid}.slice/cri-containerd-{ID}.scope"), true, Some(UID)),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice_uid}.slice/crio-{ID}.scope"
                ),
                true,
                Some(UID),
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice_uid}.slice/docker-{ID}.scope"
                ),
                true,
                Some(UID),
            ),
            (format!("/kubepods.slice/kubepods-pod{STATIC}.slice/crio-{ID}.scope/container"), true, Some(STATIC)),
            (format!("/kubepods.slice/kubepods-pod{slice_uid}.slice/crio-conmon-{ID}.scope"), false, Some(UID)),
            // containerd with another driver than the kubelet.
            (
                format!("/system.slice/containerd.service/kubepods-burstable-pod{slice_uid}.slice:cri-containerd:{ID}"),
                true,
                Some(UID),
            ),
            // As seen from a container with a cgroup namespace of its own.
            (format!("/../../pod{UID}/{ID}"), true, Some(UID)),
            (format!("/../{ID}"), true, None),
            // Docker in a pod, and in Docker.
            (format!("/kubepods/besteffort/pod{UID}/{}/docker/{ID}", ID.replace('3', "4")), true, Some(UID)),
            (format!("/docker/{}/docker/{ID}", ID.replace('3', "4")), true, None),
            (format!("/{ID}"), true, None),
            // Podman has pods of its own, which are not Kubernetes'.
            (format!("/machine.slice/machine-libpod_pod_{ID}.slice/libpod-{ID}.scope/container"), true, None),
            (format!("/libpod_parent/libpod-{ID}"), true, None),
            (format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"), true, None),
            (format!("/system.slice/web.service/libpod-payload-{ID}"), true, None),
            (format!("/libpod_parent/libpod-conmon-{ID}"), false, None),
            // What only looks like one.
            ("/kubepods.slice/kubepods-burstable.slice".to_owned(), false, None),
            ("/podruntime/kubelet".to_owned(), false, None),
            (format!("/kubepods/pod{}", UID.to_uppercase()), false, None),
            ("/default/t1".to_owned(), false, None),
            ("/system/dashboard".to_owned(), false, None),
        ] {
            let labels = Labels::of_path(&path);
            assert_eq!(labels.container.as_deref(), has_container.then_some(&ID[..12]), "container of {path}");
            assert_eq!(labels.pod_uid.as_deref(), uid, "pod of {path}");
        }
    }

    #[test]
    fn the_v2_path_is_preferred_and_labels_come_from_any() {
        let hybrid =
            format!("12:memory,cpuset:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/system.slice/docker.service\n");
        assert_eq!(path(&hybrid), Some("/system.slice/docker.service"));
        let labels = Labels::of_process(&hybrid);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!((labels.container, labels.unit), (text("3f1ce9b7a4d2"), text("docker.service")));
        // Kind: a node is a container of the host, and v1 hierarchies name nothing else.
        let pod = "kubelet-kubepods-besteffort-pod44c76ce5_4e3a_4a4d_9f4b_1f0a5c6d7e8f.slice";
        let inner = ID.replace('3', "4");
        let kind = format!(
            "1:name=systemd:/docker/{ID}\n0::/docker/{ID}/kubelet.slice/kubelet-kubepods.slice/{pod}/cri-containerd-{inner}.scope\n"
        );
        let labels = Labels::of_process(&kind);
        assert_eq!(labels.container.as_deref(), Some(&inner[..12]));
        assert_eq!(labels.pod_uid, text("44c76ce5-4e3a-4a4d-9f4b-1f0a5c6d7e8f"));
        for (text, expected) in [
            ("0::/a:b/c\n", Some("/a:b/c")),
            ("4:memory:/m\n1:name=systemd:/s\n", Some("/s")),
            ("4:cpu,memory:/m\n", Some("/m")),
            ("4:cpu:/c\n", None),
            ("10::/odd\n", None),
            ("rubbish\n\n::", None),
            ("", None),
        ] {
            assert_eq!(path(text), expected, "{text:?}");
        }
    }

    #[test]
    fn escapes_that_mean_nothing_stay() {
        for (name, expected) in [
            (r"a\x2db", "a-b"),
            (r"a\x", r"a\x"),
            (r"a\xz", r"a\xz"),
            (r"a\x1b[31m", r"a\x1b[31m"),
            (r"\x5cx2d", r"\x2d"),
            (r"\x+1", r"\x+1"),
            ("é", "é"),
        ] {
            assert_eq!(unescape(name), expected);
        }
    }
}
