//! What the kernel side kept of processes that are gone: their arguments, parents and cgroups.

use super::load::Wire;
use crate::host::cgroup::Labels;
use crate::host::process;
use aya::maps::{HashMap, MapData};
use twtrace_common::{ARGUMENTS, CgroupNames, Exec};
use twtrace_core::event::{ProcessFacts, ProcessKey};

/// The maps that the hook on `sched_process_exec` fills.
pub struct Execs {
    execs: HashMap<MapData, u32, Wire<Exec>>,
    cgroups: HashMap<MapData, u64, Wire<CgroupNames>>,
}

impl Execs {
    pub(super) fn new(
        execs: HashMap<MapData, u32, Wire<Exec>>,
        cgroups: HashMap<MapData, u64, Wire<CgroupNames>>,
    ) -> Self {
        Self { execs, cgroups }
    }

    /// Facts of a process with this cgroup; `None` if it started before the trace, or too many have started since.
    pub fn facts(&self, key: ProcessKey, cgroup: u64) -> Option<ProcessFacts> {
        let exec =
            self.execs.get(&key.tgid, 0).ok().map(|Wire(exec)| exec).filter(|exec| exec.start_ns == key.start_ns);
        let names = self.cgroups.get(&cgroup, 0).ok().map(|Wire(names)| names);
        let cmdline = exec.as_ref().and_then(command_line);
        let cgroup = names.as_ref().and_then(path);
        if cmdline.is_none() && cgroup.is_none() {
            return None;
        }
        let Labels { container, pod_uid, unit } = cgroup.as_deref().map(Labels::of_path).unwrap_or_default();
        Some(ProcessFacts { cmdline, cgroup, container, pod_uid, unit, ..ProcessFacts::default() })
    }

    /// The parent that a process had when it started; `None` if it started before the trace, or too many have started since.
    pub fn parent(&self, key: ProcessKey) -> Option<ProcessKey> {
        let Wire(exec) = self.execs.get(&key.tgid, 0).ok()?;
        let parent = ProcessKey { tgid: exec.ppid, start_ns: exec.parent_start_ns };
        (exec.start_ns == key.start_ns && exec.ppid != 0).then_some(parent)
    }
}

/// The arguments as `/proc/PID/cmdline` would have them.
fn command_line(exec: &Exec) -> Option<String> {
    // They could not be read.
    if exec.arguments[0] == 0 && exec.length as usize > ARGUMENTS {
        return None;
    }
    let length = (exec.length as usize).min(ARGUMENTS);
    let is_cut = exec.length as usize > ARGUMENTS;
    process::joined(exec.arguments.get(..length)?, is_cut)
}

/// The path of a cgroup; with more levels than are kept, it begins with `…`.
fn path(names: &CgroupNames) -> Option<String> {
    let text = |name: &[u8]| {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..end]).into_owned()
    };
    let levels: Vec<String> = names.names.iter().map(|name| text(name)).take_while(|name| !name.is_empty()).collect();
    // The root says nothing: on hosts with version 1 of cgroups every process is there.
    if levels.is_empty() {
        return None;
    }
    let begin = if levels.len() == names.names.len() { "…/" } else { "/" };
    let inner: Vec<&str> = levels.iter().rev().map(String::as_str).collect();
    Some(format!("{begin}{}", inner.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(arguments: &[u8], length: u32) -> Exec {
        let mut exec = Exec { length, ..Exec::EMPTY };
        exec.arguments[..arguments.len()].copy_from_slice(arguments);
        exec
    }

    #[test]
    fn arguments_are_joined_as_proc_has_them() {
        assert_eq!(command_line(&exec(b"curl\0-s\0http://a/\0", 18)).as_deref(), Some("curl -s http://a/"));
        assert_eq!(command_line(&exec(b"", 0)), None);
        let long = [b'x'; ARGUMENTS];
        assert_eq!(command_line(&exec(&long, 4000)), Some(format!("{}…", "x".repeat(ARGUMENTS))));
        assert_eq!(command_line(&exec(b"\xff\0", 2)).as_deref(), Some("\u{fffd}"));
    }

    #[test]
    fn path_is_from_the_outermost_to_the_innermost() {
        let of = |levels: &[&str]| {
            let mut names = CgroupNames::EMPTY;
            for (to, from) in names.names.iter_mut().zip(levels) {
                to[..from.len()].copy_from_slice(from.as_bytes());
            }
            path(&names)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["nginx.service", "system.slice"]).as_deref(), Some("/system.slice/nginx.service"));
        assert_eq!(of(&["d", "c", "b", "a"]).as_deref(), Some("…/a/b/c/d"));
    }
}
