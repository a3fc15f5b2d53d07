//! What this process may do, what each further capability gives, and what the agent can give up.

use super::{check, ok};
use twtrace_core::doctor::{Check, Status};
use twtrace_probe::confine::Measured;
use twtrace_probe::kernel::probe::{Capabilities, Capability, Facts, ProcAccess};

pub(super) fn tracing_capabilities(capabilities: Capabilities, euid: u32) -> Check {
    let present_or_not = |name, capability| format!("{}{name}", if capabilities.has(capability) { "" } else { "no " });
    let found = format!(
        "uid {euid}, {}, {}, {}",
        present_or_not("CAP_BPF", Capability::Bpf),
        present_or_not("CAP_PERFMON", Capability::Perfmon),
        present_or_not("CAP_SYS_ADMIN", Capability::SysAdmin),
    );
    if capabilities.can_trace() {
        return ok("capabilities", found);
    }
    let cost = "the kernel refuses tracing programs";
    check("capabilities", Status::Missing, found, cost, "run as root (sudo), or with CAP_BPF and CAP_PERFMON")
}

/// Those without which tracing goes on: what each gives, by what was tried.
pub(super) fn other_capabilities(capabilities: Capabilities, facts: &Facts) -> Vec<Check> {
    let present = |capability| if capabilities.has(capability) { "present" } else { "missing" };
    let ptrace = if capabilities.has(Capability::SysPtrace) {
        ok("cap_sys_ptrace", "present: executables and namespaces of other users' processes")
    } else {
        let cost = "executables of other users' processes stay unknown, and so does which process has a socket open; only \
                    named network namespaces are found";
        check("cap_sys_ptrace", Status::Degraded, "missing", cost, "run as root, or add CAP_SYS_PTRACE")
    };
    let ProcAccess { listed, unlisted, .. } = facts.proc;
    let found = format!(
        "{}: descriptors of {listed} of {} processes can be listed",
        present(Capability::DacReadSearch),
        listed + unlisted
    );
    let search = if capabilities.has(Capability::DacReadSearch) && unlisted <= listed {
        ok("cap_dac_read_search", found)
    } else {
        let cost = "which process has a socket open stays unknown for other users";
        check("cap_dac_read_search", Status::Degraded, found, cost, "run as root, or add CAP_DAC_READ_SEARCH")
    };
    let admin = match &facts.enter_netns {
        Ok(()) => ok("cap_sys_admin", "present: other network namespaces can be entered"),
        Err(reason) => {
            let cost = "sockets in other network namespaces are traced, and not listed: coverage there is unknown, and wrong \
                        classifications are not corrected";
            let found = format!("{}: no network namespace can be entered ({reason})", present(Capability::SysAdmin));
            check("cap_sys_admin", Status::Degraded, found, cost, "run as root, or add CAP_SYS_ADMIN")
        }
    };
    let unused = |id, capability| check(id, Status::Info, format!("{}: not needed", present(capability)), "", "");
    vec![
        ptrace,
        search,
        admin,
        unused("cap_net_admin", Capability::NetAdmin),
        unused("cap_sys_resource", Capability::SysResource),
    ]
}

/// What remains possible for a thread of the agent that answers clients.
pub(super) fn confinement(measured: &Measured) -> Check {
    let Measured { landlock, attempts, failed } = measured;
    let possible: Vec<&str> =
        attempts.iter().filter(|attempt| attempt.is_possible).map(|attempt| attempt.what).collect();
    let refused = attempts.len() - possible.len();
    let mut found = format!("{refused} of {} attempts of a thread that answers are refused", attempts.len());
    if let Some(version) = landlock {
        found.push_str(&format!(", Landlock {version}"));
    }
    if possible.is_empty() && !attempts.is_empty() {
        return ok("confinement", found);
    }
    let cost = format!("a fault in the agent might {} ({})", possible.join(", "), failed.join("; "));
    let fix =
        "use Linux 5.19 or newer with CONFIG_SECCOMP_FILTER=y and CONFIG_SECURITY_LANDLOCK=y, and landlock in lsm=";
    check("confinement", Status::Info, found, &cost, fix)
}
