//! `twtrace doctor`: can it run here, and what does each missing part cost?
//!
//! [`probe::read`] reads the host, [`evaluate`] classifies, [`twtrace_view::doctor`] writes. Hooks that were really
//! attached decide whether `top` works; the other checks say why, and what else is lost.

mod hooks;
mod rights;
mod runtimes;

use anyhow::Context as _;
use hooks::hooks_check;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use twtrace_core::doctor::{Check, Report, SCHEMA, Status, Sysctl};
use twtrace_core::event::{Hook, KernelFacts, Tier};
use twtrace_probe::host::sysctl;
use twtrace_probe::kernel::census::CensusReport;
use twtrace_probe::kernel::hooks::tier;
use twtrace_probe::kernel::probe::{self, Capability, Facts, Lockdown, ProcAccess, kernel_version};
use twtrace_probe::kernel::room::Room;
use twtrace_probe::kernel::tracefs::TracefsState;
use twtrace_view::doctor as view;

/// Seconds that a socket stays in TIME_WAIT (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT_S: u64 = 60;

/// Reads the host, writes the report, and returns whether `top` would work.
///
/// `object` is the eBPF object to try, `None` the built-in one.
pub fn run(json: bool, object: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<bool> {
    let facts = probe::read(object).context("cannot examine this host")?;
    let report = evaluate(&facts);
    if json {
        view::write_json(&report, out)?;
    } else {
        view::write_text(&report, out)?;
    }
    Ok(report.works)
}

/// Classifies the facts. Pure: the same facts give the same report.
pub fn evaluate(facts: &Facts) -> Report {
    let hooks = facts.hooks.clone().unwrap_or_default();
    let tier = tier(&hooks, facts.by_tuple);
    let mut checks = vec![kernel(&facts.kernel)];
    checks.extend(privileges(facts));
    checks.extend([
        bpf_syscall(facts),
        btf(facts),
        lockdown(facts.lockdown),
        tracefs(facts),
        memlock(facts),
        room(facts.room),
        unprivileged_bpf(facts.unprivileged_bpf_disabled),
        bpf_stats(facts.bpf_stats_enabled),
        hooks_check(&facts.hooks),
        census(&facts.census),
        figures(&facts.figures),
        proc(facts),
        cgroup(facts.cgroup2.as_deref()),
        runtimes::check(&facts.runtimes),
        rights::confinement(&facts.confinement),
    ]);
    Report {
        schema: SCHEMA,
        kernel: facts.kernel.clone(),
        works: tier.is_some(),
        verdict: verdict(tier, &checks),
        tier,
        checks,
        hooks,
        programs: facts.programs.clone(),
        sysctls: sysctls(facts),
    }
}

fn verdict(tier: Option<Tier>, checks: &[Check]) -> String {
    let with = |status| checks.iter().filter(move |check| check.status == status);
    let Some(tier) = tier else {
        let fix = with(Status::Missing).find_map(|check| check.fix.as_deref());
        return format!("top does not work here: {}", fix.unwrap_or("see the checks marked missing"));
    };
    let tier = view::tier_name(tier);
    let limits: Vec<&str> = checks
        .iter()
        .filter(|check| matches!(check.status, Status::Degraded | Status::Missing))
        .map(|check| check.id)
        .collect();
    if limits.is_empty() {
        format!("top works here, tier {tier}")
    } else {
        format!("top works here, tier {tier}, with limits: {}", limits.join(", "))
    }
}

pub(super) fn check(id: &'static str, status: Status, found: impl Into<String>, cost: &str, fix: &str) -> Check {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Check { id, status, found: found.into(), cost: some(cost), fix: some(fix) }
}

pub(super) fn ok(id: &'static str, found: impl Into<String>) -> Check {
    check(id, Status::Ok, found, "", "")
}

fn kernel(release: &str) -> Check {
    match kernel_version(release) {
        Some(version) if version < (5, 8) => check(
            "kernel",
            Status::Missing,
            release,
            "there is no BPF ring buffer before 5.8",
            "use Linux 5.10 or newer",
        ),
        _ => ok("kernel", release),
    }
}

/// Capabilities and the namespaces that they count in.
fn privileges(facts: &Facts) -> Vec<Check> {
    let Some(capabilities) = facts.capabilities else {
        return vec![check("capabilities", Status::Info, "/proc/self/status does not say", "", "")];
    };
    let mut checks = vec![rights::tracing_capabilities(capabilities, facts.euid)];
    checks.extend(rights::other_capabilities(capabilities, facts));
    if facts.initial_user_ns == Some(false) {
        checks.push(check(
            "user_namespace",
            Status::Missing,
            "not the initial one (a rootless container)",
            "capabilities in it do not allow tracing",
            "run on the host, or in a container without user namespace",
        ));
    }
    if facts.initial_pid_ns == Some(false) {
        checks.push(check(
            "pid_namespace",
            Status::Degraded,
            "not the initial one (a container)",
            "PIDs are the host's, and of processes outside only what their start shows is known: command line, parent, cgroup",
            "run on the host, or with --pid=host",
        ));
    }
    checks
}

fn bpf_syscall(facts: &Facts) -> Check {
    let Err(errno) = facts.bpf_syscall else { return ok("bpf_syscall", "allowed") };
    let filtered = facts.seccomp == Some(2);
    let found = format!("barred: {}", io::Error::from_raw_os_error(errno));
    let fix = match (errno, filtered) {
        (_, true) => "a seccomp filter is in force: run on the host, or in a container with a profile that allows bpf",
        (libc::ENOSYS, false) => "use a kernel with CONFIG_BPF_SYSCALL=y",
        (_, false) => "run as root",
    };
    check("bpf_syscall", Status::Missing, found, "no program can be loaded", fix)
}

fn btf(facts: &Facts) -> Check {
    match &facts.btf {
        Ok(bytes) => ok("btf", format!("/sys/kernel/btf/vmlinux, {} KiB", bytes / 1024)),
        Err(reason) => {
            let works = facts.hooks.as_ref().is_ok_and(|hooks| tier(hooks, true).is_some());
            check(
                "btf",
                if works { Status::Degraded } else { Status::Missing },
                reason,
                "where the kernel keeps its fields stays unknown: who accepts, why connections fail and how they are \
                 aborted is not seen, and other ends are inferred",
                "use a kernel with CONFIG_DEBUG_INFO_BTF=y",
            )
        }
    }
}

fn lockdown(lockdown: Lockdown) -> Check {
    match lockdown {
        Lockdown::None => ok("lockdown", "none"),
        Lockdown::Integrity => ok("lockdown", "integrity, which allows tracing"),
        Lockdown::Confidentiality => check(
            "lockdown",
            Status::Missing,
            "confidentiality",
            "programs may not read the kernel's memory",
            "boot with lockdown=integrity, or without lockdown",
        ),
        Lockdown::Unknown => check("lockdown", Status::Info, "unknown: securityfs is not mounted", "", ""),
    }
}

fn tracefs(facts: &Facts) -> Check {
    // One program stands in for the tracepoints of single calls.
    let is_replaced = |hook: &Hook| hook.attached && hook.kind == "tp_btf" && hook.name.starts_with("syscalls:");
    match &facts.tracefs {
        Ok(TracefsState::Mounted(place)) => ok("tracefs", format!("mounted at {}", place.display())),
        Ok(TracefsState::Private(place)) => {
            ok("tracefs", format!("not mounted; mountable at {} for twtrace alone", place.display()))
        }
        Err(reason) if facts.hooks.as_ref().is_ok_and(|hooks| hooks.iter().any(is_replaced)) => check(
            "tracefs",
            Status::Info,
            reason,
            "one program sees the exits of all system calls, which costs each of them some 40 ns more than tracepoints do",
            "mount -t tracefs tracefs /sys/kernel/tracing, and add CAP_DAC_READ_SEARCH",
        ),
        Err(reason) => check(
            "tracefs",
            Status::Degraded,
            reason,
            "the hooks on accept and connect cannot be attached",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
    }
}

/// From 5.11 on, memory of maps is charged to the cgroup and not to this limit.
fn memlock(facts: &Facts) -> Check {
    const ENOUGH: u64 = 64 * 1024 * 1024;
    let Some(limit) = facts.memlock else { return check("memlock", Status::Info, "no limit can be read", "", "") };
    let found = if limit == u64::MAX { "unlimited".to_owned() } else { format!("{} KiB", limit / 1024) };
    if kernel_version(&facts.kernel) >= Some((5, 11)) {
        ok("memlock", format!("{found}, without effect on this kernel"))
    } else if limit >= ENOUGH {
        ok("memlock", found)
    } else {
        let cost = "maps may not fit below it, and loading fails with EPERM";
        check("memlock", Status::Degraded, found, cost, "ulimit -l unlimited")
    }
}

/// What a trace takes of the kernel's memory, all of it from the beginning.
fn room(room: Room) -> Check {
    let Room { max_sockets, ring_bytes } = room;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let found = format!(
        "{} MiB: socket map for {max_sockets} sockets, ring buffer of {} MiB (--max-sockets, --ring-bytes)",
        mib(room.kernel_bytes()),
        mib(ring_bytes.into())
    );
    check("kernel_memory", Status::Info, found, "", "")
}

fn unprivileged_bpf(value: Option<u8>) -> Check {
    let found = match value {
        None => "no such sysctl".to_owned(),
        Some(0) => "kernel.unprivileged_bpf_disabled=0: others may load some programs as well".to_owned(),
        Some(value) => format!("kernel.unprivileged_bpf_disabled={value}: no effect on twtrace"),
    };
    check("unprivileged_bpf", Status::Info, found, "", "")
}

fn bpf_stats(value: Option<u8>) -> Check {
    let found = match value {
        None => "no such sysctl".to_owned(),
        Some(0) => "kernel.bpf_stats_enabled=0".to_owned(),
        Some(value) => format!("kernel.bpf_stats_enabled={value}: the kernel times each run of each program"),
    };
    check("bpf_stats", Status::Info, found, "", "")
}

fn census(census: &Result<CensusReport, String>) -> Check {
    let cost = "coverage cannot be shown, and wrong classifications are not corrected";
    match census {
        Ok(CensusReport { complete: true, rows, .. }) => ok("census", format!("sock_diag lists {rows} TCP sockets")),
        Ok(CensusReport { complete: false, rows, .. }) => {
            let found = format!("sock_diag lists {rows} TCP sockets, but not all");
            check("census", Status::Degraded, found, cost, "try again when the host is less busy")
        }
        Err(reason) => check("census", Status::Degraded, reason, cost, "modprobe tcp_diag, or allow netlink sockets"),
    }
}

fn figures(figures: &Result<KernelFacts, String>) -> Check {
    match figures {
        Ok(figures) => ok(
            "figures",
            format!("{} TIME_WAIT sockets, {} overflowed since boot", figures.time_wait, figures.time_wait_overflow),
        ),
        Err(reason) => {
            let cost = "the kernel's own count of TIME_WAIT sockets is not shown";
            check("figures", Status::Degraded, reason, cost, "mount /proc, with its net folder")
        }
    }
}

fn proc(facts: &Facts) -> Check {
    let ProcAccess { hidepid, readable, refused, .. } = &facts.proc;
    let mut found = format!("executables of {readable} of {} other processes can be read", readable + refused);
    if let Some(value) = hidepid {
        found.push_str(&format!(", hidepid={value}"));
    }
    // CAP_SYS_PTRACE sees through hidepid. A few protected processes are usual, even for root.
    let lacks = facts.capabilities.is_some_and(|capabilities| !capabilities.has(Capability::SysPtrace));
    if hidepid.is_some() && lacks {
        let cost = "of other processes only what their start shows is known: command line, parent, cgroup";
        check("proc", Status::Degraded, found, cost, "run as root, or with CAP_SYS_PTRACE")
    } else if refused > readable {
        let cost = "executables of other processes stay unknown; command lines and cgroups are read";
        check("proc", Status::Degraded, found, cost, "run as root, or with CAP_SYS_PTRACE")
    } else {
        ok("proc", found)
    }
}

fn cgroup(place: Option<&str>) -> Check {
    match place {
        Some(place) => ok("cgroup", format!("v2 at {place}")),
        None => {
            let cost = "grouping by cgroup finds a single one; containers and units still come from /proc";
            check("cgroup", Status::Degraded, "v2 is not mounted", cost, "boot with systemd.unified_cgroup_hierarchy=1")
        }
    }
}

fn sysctls(facts: &Facts) -> BTreeMap<&'static str, Sysctl> {
    let range = facts.figures.as_ref().map_or((0, 0), |figures| figures.port_range);
    facts
        .sysctls
        .iter()
        // One that only some vendors' kernels have is no news where it is missing.
        .filter(|(name, value)| value.is_some() || !name.ends_with("tcp_tw_timeout"))
        .map(|(name, value)| {
            let value = value.as_ref().map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "));
            let meaning = match &value {
                Some(value) => meaning(name, value, range),
                None => "not in this kernel".to_owned(),
            };
            (*name, Sysctl { value, meaning })
        })
        .collect()
}

/// A value in words.
fn meaning(name: &str, value: &str, range: (u16, u16)) -> String {
    match name {
        "net.ipv4.ip_local_port_range" => {
            let Some((low, high)) = sysctl::port_range(value) else { return "cannot be read".to_owned() };
            let ports = u64::from(high - low) + 1;
            format!(
                "{ports} ports for connections to one address and port: enough for {} a second when this host closes \
                 first",
                ports / TIME_WAIT_S
            )
        }
        "net.ipv4.ip_local_reserved_ports" => {
            format!(
                "{} ports of the range are never chosen for outgoing connections",
                sysctl::reserved_in_range(value, range)
            )
        }
        "net.ipv4.tcp_tw_reuse" => match value {
            "0" => "an outgoing connection never takes over a port in TIME_WAIT",
            "1" => "with timestamps, an outgoing connection may take over a port that has been in TIME_WAIT for 1 s",
            "2" => "as 1, but on loopback alone",
            _ => "unknown to twtrace",
        }
        .to_owned(),
        "net.ipv4.tcp_tw_reuse_delay" => {
            "milliseconds in TIME_WAIT before tcp_tw_reuse may take a port over".to_owned()
        }
        "net.ipv4.tcp_max_tw_buckets" => {
            "TIME_WAIT sockets at a time; above that none is created, and TCPTimeWaitOverflow counts it".to_owned()
        }
        "net.ipv4.tcp_fin_timeout" => {
            format!("seconds in FIN_WAIT2 after close; it does NOT shorten TIME_WAIT, which is always {TIME_WAIT_S} s")
        }
        "net.ipv4.tcp_tw_timeout" => "seconds in TIME_WAIT: a sysctl of this vendor's kernel".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
