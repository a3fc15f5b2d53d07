//! BPF programs, maps and links of twtrace, as the kernel lists them and as processes have them open.

use std::collections::BTreeSet;
use std::fs;

use aya::maps::loaded_maps;
use aya::programs::{ProgramInfo, loaded_links, loaded_programs};

/// Names of the programs, cut as the kernel cuts them.
const PROGRAMS: [&str; 24] = [
    "set_state",
    "set_state_twin",
    "send_reset",
    "connect_exit",
    "bind_exit",
    "accept_exit",
    "accept4_exit",
    "csk_accept2",
    "csk_accept4",
    "hash_connect",
    "hash_connect6",
    "process_exec",
    "twsk_alloc",
    "twsk_destructo",
    "twsk_destructor",
    "twsk_free",
    "twsk_alloc_entr",
    "twsk_alloc_retu",
    "twsk_unique_ent",
    "twsk_unique_ret",
    "twsk_end",
    "set_state_plain",
    "set_state_probe",
    "twsk_unique",
];
/// Names of maps that no other program is likely to use together with those programs.
const MAPS: [&str; 8] = ["SOCKETS", "RING", "COUNTERS", "HANDLED", "REUSED", "CALLS", "EXECS", "CGROUPS"];

/// Ids of kernel objects. The kernel reuses an id only after 2^31 others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Programs.
    pub programs: BTreeSet<u32>,
    /// Maps.
    pub maps: BTreeSet<u32>,
    /// Links: attached programs.
    pub links: BTreeSet<u32>,
}

impl Objects {
    /// All objects of twtrace in the kernel, no matter what refers to them: processes, pins or other objects.
    pub fn loaded() -> Self {
        // An object may be freed after its id was listed, so an error means that it is gone.
        let programs: Vec<_> = loaded_programs()
            .filter_map(Result::ok)
            .filter(|program| program.name_as_str().is_some_and(|name| PROGRAMS.contains(&name)))
            .collect();
        let ids: BTreeSet<u32> = programs.iter().map(ProgramInfo::id).collect();
        let named = loaded_maps()
            .filter_map(Result::ok)
            .filter(|map| map.name_as_str().is_some_and(|name| MAPS.contains(&name)));
        let used = programs.iter().filter_map(|program| program.map_ids().ok().flatten()).flatten();
        Self {
            maps: named.map(|map| map.id()).chain(used).collect(),
            links: loaded_links()
                .filter_map(Result::ok)
                .filter(|link| ids.contains(&link.program_id()))
                .map(|link| link.id())
                .collect(),
            programs: ids,
        }
    }

    /// The objects for which a process has descriptors. Empty if the process is gone.
    pub fn of_process(pid: u32) -> Self {
        let mut objects = Self::default();
        let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().filter_map(Result::ok);
        for text in files.filter_map(|file| fs::read_to_string(file.path()).ok()) {
            for (name, id) in text.lines().filter_map(|line| line.split_once(':')) {
                let ids = match name {
                    "prog_id" => &mut objects.programs,
                    "map_id" => &mut objects.maps,
                    "link_id" => &mut objects.links,
                    _ => continue,
                };
                ids.extend(id.trim().parse::<u32>());
            }
        }
        objects
    }

    /// The objects for which any process has descriptors.
    pub fn of_all_processes() -> Self {
        let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.fold(Self::default(), |objects, pid| objects.with(&Self::of_process(pid)))
    }

    /// The objects in either set.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        self.each(others, |ids, others| ids | others)
    }

    /// The objects in this set and not in `others`.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        self.each(others, |ids, others| ids - others)
    }

    /// The objects in both sets.
    #[must_use]
    pub fn among(&self, others: &Self) -> Self {
        self.each(others, |ids, others| ids & others)
    }

    fn each(&self, others: &Self, by: impl Fn(&BTreeSet<u32>, &BTreeSet<u32>) -> BTreeSet<u32>) -> Self {
        Self {
            programs: by(&self.programs, &others.programs),
            maps: by(&self.maps, &others.maps),
            links: by(&self.links, &others.links),
        }
    }
}
