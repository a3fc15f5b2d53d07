//! What the programs and the kernel itself have counted.

use super::hooks::{self, HOOKS};
use anyhow::Context as _;
use aya::Ebpf;
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use twtrace_common::Counters;
use twtrace_core::event::KernelCounters;

/// `/proc` files that say how often the kernel skipped a program: the first program on the state changes, those of the
/// exact tier, and those at the exits of system calls.
pub(super) struct Misses {
    first: PathBuf,
    exact: Vec<PathBuf>,
    exits: Vec<PathBuf>,
}

impl Misses {
    /// For the programs that are loaded.
    ///
    /// # Errors
    /// The first program is not loaded.
    pub(super) fn of(ebpf: &Ebpf, first: &str) -> anyhow::Result<Self> {
        let loaded = |misses: hooks::Misses| {
            let programs =
                HOOKS.iter().filter(|spec| spec.misses == misses).flat_map(|spec| spec.attach.counted_programs());
            // Two hooks that replace each other share a program.
            let programs: BTreeSet<&str> = programs.collect();
            programs.into_iter().filter_map(|name| fdinfo(ebpf, name).ok()).collect()
        };
        Ok(Self {
            first: fdinfo(ebpf, first)?,
            exact: loaded(hooks::Misses::Exact),
            exits: loaded(hooks::Misses::Exits),
        })
    }

    /// All counters, from the sum of the programs' own counters.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn with(&self, sum: &Counters) -> anyhow::Result<KernelCounters> {
        let skipped = |path: &PathBuf| {
            anyhow::Ok(recursion_misses(&fs::read_to_string(path).context("cannot read the program's fdinfo")?))
        };
        let missed = skipped(&self.first)?;
        let exact_missed = self.exact.iter().map(skipped).sum::<anyhow::Result<u64>>()?;
        let exits_missed = self.exits.iter().map(skipped).sum::<anyhow::Result<u64>>()?;
        // What the twin handled because it came first, the first program did see.
        let recovered = sum.recovered.saturating_sub(sum.twin_first);
        let recursion = missed.saturating_sub(recovered);
        Ok(KernelCounters { recovered, recursion, exact_missed, exits_missed, ..KernelCounters::from(*sum) })
    }
}

/// `/proc` file that says how often the kernel skipped a program.
fn fdinfo(ebpf: &Ebpf, program: &str) -> anyhow::Result<PathBuf> {
    let program = ebpf.program(program).with_context(|| format!("the eBPF object has no program {program}"))?;
    Ok(PathBuf::from(format!("/proc/self/fdinfo/{}", program.fd()?.as_fd().as_raw_fd())))
}

/// `recursion_misses` of a program's fdinfo (`bpf_prog_show_fdinfo`); kernels before 5.12 do not have it.
fn recursion_misses(fdinfo: &str) -> u64 {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_read_from_fdinfo() {
        let text = "pos:\t0\nprog_type:\t26\nrecursion_misses:\t812\nverified_insns:\t900\n";
        assert_eq!(recursion_misses(text), 812);
        assert_eq!(recursion_misses("prog_type:\t26\n"), 0);
    }
}
