//! What a cgroup path says: container and systemd unit.

/// Length of the short form of a container id, as `docker ps` prints it.
const SHORT_ID: usize = 12;

/// The path of the process in the text of `/proc/PID/cgroup`: the one in the v2 hierarchy (`0::/path`), where cgroup
/// ids belong; on a host without v2, the one in systemd's v1 hierarchy or the memory controller's.
pub fn path(text: &str) -> Option<&str> {
    hierarchy(text, "").or_else(|| hierarchy(text, "name=systemd")).or_else(|| hierarchy(text, "memory"))
}

/// Container and unit: from the v2 path if it names them, else from the v1 hierarchies. On a hybrid host Docker places
/// containers only in v1.
pub fn labels(text: &str) -> (Option<String>, Option<String>) {
    let paths = || ["", "name=systemd", "memory"].into_iter().filter_map(|name| hierarchy(text, name));
    (paths().find_map(container), paths().find_map(unit))
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
    fn the_v2_path_is_preferred_and_labels_come_from_any() {
        let hybrid =
            format!("12:memory,cpuset:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/system.slice/docker.service\n");
        assert_eq!(path(&hybrid), Some("/system.slice/docker.service"));
        assert_eq!(labels(&hybrid), (Some("3f1ce9b7a4d2".to_owned()), Some("docker.service".to_owned())));
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
