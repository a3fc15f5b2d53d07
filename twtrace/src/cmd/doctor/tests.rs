#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use twtrace_core::event::Hook;
use twtrace_probe::confine::Measured;
use twtrace_probe::confine::attempts::Attempt;
use twtrace_probe::host::runtimes::Answer;
use twtrace_probe::kernel::hooks::SET_STATE;
use twtrace_probe::kernel::probe::Capabilities;
use twtrace_probe::kernel::room::Room;
use twtrace_testkit::{hook, kernel_facts};

fn refused(mut hook: Hook, reason: &str) -> Hook {
    hook.attached = false;
    hook.reason = Some(reason.to_owned());
    hook
}

/// A host without any problem.
fn good() -> Facts {
    let figures = kernel_facts();
    Facts {
        kernel: "6.12.30".to_owned(),
        euid: 0,
        capabilities: Some(Capabilities::ALL),
        initial_user_ns: Some(true),
        initial_pid_ns: Some(true),
        seccomp: Some(0),
        btf: Ok(5_516_713),
        lockdown: Lockdown::None,
        tracefs: Ok(TracefsState::Mounted("/sys/kernel/tracing".into())),
        bpf_syscall: Ok(()),
        unprivileged_bpf_disabled: Some(2),
        bpf_stats_enabled: Some(0),
        memlock: Some(8 * 1024 * 1024),
        by_tuple: false,
        room: Room { max_sockets: 65_536, ring_bytes: 8 << 20 },
        programs: Vec::new(),
        hooks: Ok(vec![
            hook(SET_STATE, "tp_btf"),
            hook("tcp_send_reset", "tp_btf"),
            hook("syscalls:sys_exit_accept", "tracepoint"),
            hook("sys_exit_connect", "tracepoint"),
        ]),
        census: Ok(CensusReport { complete: true, cut_short: false, rows: 12 }),
        proc: ProcAccess { hidepid: None, readable: 40, refused: 1, listed: 40, unlisted: 0 },
        enter_netns: Ok(()),
        confinement: Measured {
            landlock: Some(7),
            attempts: vec![Attempt { what: "mount", is_possible: false }],
            failed: Vec::new(),
        },
        runtimes: vec![Answer { path: "/run/docker.sock".into(), found: Ok(("Docker API", 3)) }],
        cgroup2: Some("/sys/fs/cgroup".to_owned()),
        figures: Ok(figures),
        sysctls: vec![
            ("net.ipv4.ip_local_port_range", Some("32768\t60999".to_owned())),
            ("net.ipv4.ip_local_reserved_ports", Some("40000-40009,8080".to_owned())),
            ("net.ipv4.tcp_tw_reuse", Some("2".to_owned())),
            ("net.ipv4.tcp_tw_reuse_delay", None),
            ("net.ipv4.tcp_fin_timeout", Some("60".to_owned())),
        ],
    }
}

fn no_hooks(facts: Facts) -> Facts {
    Facts { hooks: Err("the kernel refused".to_owned()), ..facts }
}

#[test]
fn a_good_host_is_good_throughout() {
    let report = evaluate(&good());
    assert!(report.works && report.tier == Some(Tier::Cookie));
    assert_eq!(report.verdict, "top works here, tier cookie");
    for check in &report.checks {
        assert!(matches!(check.status, Status::Ok | Status::Info), "{check:?}");
        assert_eq!((&check.cost, &check.fix), (&None, &None), "{check:?}");
    }
}

/// Each claim: the problem, the check that reports it, its status, whether `top` works, and words of the fix.
#[test]
fn each_missing_thing_is_named_with_its_cost_and_its_fix() {
    let without = |capability: Capability| Some(Capabilities(!(1 << capability as u8)));
    let only = |bits: &[Capability]| Some(Capabilities(bits.iter().fold(0, |set, bit| set | 1 << *bit as u8)));
    let hidden = ProcAccess { hidepid: Some("invisible".to_owned()), readable: 3, ..ProcAccess::default() };
    let tracefs = || Err("not mounted".to_owned());
    let with_hooks = |hooks: Vec<Hook>| Facts { hooks: Ok(hooks), ..good() };
    use Status::{Degraded, Missing};
    let cases = [
        (
            no_hooks(Facts { euid: 1000, capabilities: Some(Capabilities::NONE), ..good() }),
            "capabilities",
            Missing,
            false,
            "sudo",
        ),
        (
            no_hooks(Facts { capabilities: only(&[Capability::Bpf]), ..good() }),
            "capabilities",
            Missing,
            false,
            "CAP_PERFMON",
        ),
        (
            Facts { capabilities: without(Capability::SysPtrace), ..good() },
            "cap_sys_ptrace",
            Degraded,
            true,
            "CAP_SYS_PTRACE",
        ),
        (
            Facts { capabilities: without(Capability::SysAdmin), enter_netns: Err("EPERM".to_owned()), ..good() },
            "cap_sys_admin",
            Degraded,
            true,
            "CAP_SYS_ADMIN",
        ),
        (
            Facts {
                capabilities: without(Capability::DacReadSearch),
                proc: ProcAccess { readable: 40, listed: 3, unlisted: 37, ..ProcAccess::default() },
                ..good()
            },
            "cap_dac_read_search",
            Degraded,
            true,
            "CAP_DAC_READ_SEARCH",
        ),
        (no_hooks(Facts { initial_user_ns: Some(false), ..good() }), "user_namespace", Missing, false, "on the host"),
        (Facts { initial_pid_ns: Some(false), ..good() }, "pid_namespace", Degraded, true, "--pid=host"),
        (no_hooks(Facts { kernel: "5.4.0-150".to_owned(), ..good() }), "kernel", Missing, false, "Linux 5.10"),
        (
            no_hooks(Facts { bpf_syscall: Err(libc::EPERM), seccomp: Some(2), ..good() }),
            "bpf_syscall",
            Missing,
            false,
            "seccomp",
        ),
        (
            no_hooks(Facts { bpf_syscall: Err(libc::ENOSYS), ..good() }),
            "bpf_syscall",
            Missing,
            false,
            "CONFIG_BPF_SYSCALL",
        ),
        (
            no_hooks(Facts { btf: Err("no such file".to_owned()), ..good() }),
            "btf",
            Missing,
            false,
            "CONFIG_DEBUG_INFO_BTF",
        ),
        (
            no_hooks(Facts { lockdown: Lockdown::Confidentiality, ..good() }),
            "lockdown",
            Missing,
            false,
            "lockdown=integrity",
        ),
        (Facts { tracefs: tracefs(), ..good() }, "tracefs", Degraded, true, "mount -t tracefs"),
        (
            Facts { kernel: "5.10.0-28".to_owned(), memlock: Some(65_536), ..good() },
            "memlock",
            Degraded,
            true,
            "ulimit",
        ),
        (no_hooks(good()), "hooks", Missing, false, "the kernel refused"),
        (
            with_hooks(vec![
                refused(hook(SET_STATE, "tp_btf"), "EPERM"),
                hook("syscalls:sys_exit_accept", "tracepoint"),
            ]),
            "hooks",
            Missing,
            false,
            "EPERM",
        ),
        (
            with_hooks(vec![
                hook(SET_STATE, "tp_btf"),
                refused(hook("syscalls:sys_exit_accept", "tracepoint"), "ENOENT"),
            ]),
            "hooks",
            Degraded,
            true,
            "reason",
        ),
        (with_hooks(Vec::new()), "hooks", Missing, false, "reason"),
        (Facts { census: Err("no tcp_diag".to_owned()), ..good() }, "census", Degraded, true, "modprobe"),
        (
            Facts { census: Ok(CensusReport { complete: false, cut_short: false, rows: 1 }), ..good() },
            "census",
            Degraded,
            true,
            "again",
        ),
        (Facts { figures: Err("no /proc".to_owned()), ..good() }, "figures", Degraded, true, "/proc"),
        (
            Facts { proc: ProcAccess { hidepid: None, readable: 2, refused: 40, ..ProcAccess::default() }, ..good() },
            "proc",
            Degraded,
            true,
            "CAP_SYS_PTRACE",
        ),
        (
            Facts { proc: hidden, capabilities: without(Capability::SysPtrace), ..good() },
            "proc",
            Degraded,
            true,
            "CAP_SYS_PTRACE",
        ),
        (Facts { cgroup2: None, ..good() }, "cgroup", Degraded, true, "unified_cgroup"),
    ];
    for (facts, id, status, works, fix) in cases {
        let report = evaluate(&facts);
        let check = report.checks.iter().find(|check| check.id == id).unwrap();
        assert_eq!((check.status, report.works), (status, works), "{check:?}");
        assert!(check.fix.as_ref().unwrap().contains(fix), "{check:?}");
        assert!(check.cost.is_some(), "{check:?}");
        assert_eq!(report.verdict.starts_with("top works here"), works, "{}", report.verdict);
        assert!(!works || report.verdict.contains(id), "{}", report.verdict);
    }
}

#[test]
fn what_does_no_harm_does_not_change_the_verdict() {
    let without_admin = Some(Capabilities(!(1 << Capability::SysAdmin as u8)));
    for facts in [
        Facts { lockdown: Lockdown::Integrity, ..good() },
        Facts { lockdown: Lockdown::Unknown, ..good() },
        Facts { tracefs: Ok(TracefsState::Private("/sys/kernel/tracing".into())), ..good() },
        Facts { capabilities: without_admin, ..good() },
        Facts { capabilities: None, ..good() },
        Facts { memlock: Some(65_536), ..good() },
        Facts { memlock: None, bpf_stats_enabled: None, unprivileged_bpf_disabled: None, ..good() },
        Facts { bpf_stats_enabled: Some(1), unprivileged_bpf_disabled: Some(0), ..good() },
        Facts { proc: ProcAccess { hidepid: Some("2".to_owned()), readable: 40, ..ProcAccess::default() }, ..good() },
        Facts { proc: ProcAccess::default(), ..good() },
        Facts { initial_user_ns: None, initial_pid_ns: None, seccomp: None, ..good() },
    ] {
        assert_eq!(evaluate(&facts).verdict, "top works here, tier cookie", "{facts:?}");
    }
}

#[test]
fn the_first_missing_thing_gives_the_verdict() {
    let report = evaluate(&no_hooks(Facts { capabilities: Some(Capabilities::NONE), euid: 1000, ..good() }));
    assert_eq!(report.verdict, "top does not work here: run as root (sudo), or with CAP_BPF and CAP_PERFMON");
}

#[test]
fn a_hook_that_is_refused_says_what_it_costs() {
    for (name, cost) in [
        ("syscalls:sys_exit_bind", "why a bind fails is unknown"),
        ("syscalls:sys_exit_connect", "the errno of failed connects is known only in part"),
        ("syscalls:sys_exit_accept4", "who accepted a connection is known only from who closed it"),
    ] {
        let hooks = vec![hook(SET_STATE, "tp_btf"), refused(hook(name, "tracepoint"), "ENOENT")];
        let report = evaluate(&Facts { hooks: Ok(hooks), ..good() });
        let check = report.checks.iter().find(|check| check.id == "hooks").unwrap();
        assert_eq!((check.status, check.cost.as_deref()), (Status::Degraded, Some(cost)), "{name}");
        assert!(report.works);
    }
}

#[test]
fn tiers_follow_the_attached_hooks() {
    for (hooks, expected) in [
        (vec![], None),
        (vec![hook("syscalls:sys_exit_accept", "tracepoint")], None),
        (vec![refused(hook(SET_STATE, "tp_btf"), "EPERM")], None),
        (vec![hook(SET_STATE, "tp_btf")], Some(Tier::Cookie)),
        (vec![hook(SET_STATE, "tracepoint")], Some(Tier::Tuple)),
        (vec![hook(SET_STATE, "tp_btf"), refused(hook("inet_twsk_alloc", "fexit"), "EPERM")], Some(Tier::Cookie)),
        (vec![hook(SET_STATE, "tp_btf"), hook("inet_twsk_alloc", "fexit")], Some(Tier::Cookie)),
        (
            vec![hook(SET_STATE, "tp_btf"), hook("inet_twsk_alloc", "fexit"), hook("inet_twsk_free", "fentry")],
            Some(Tier::Exact),
        ),
        (
            vec![
                hook(SET_STATE, "tp_btf"),
                hook("inet_twsk_alloc", "kretprobe"),
                hook("tcp_twsk_destructor", "kprobe"),
            ],
            Some(Tier::Exact),
        ),
    ] {
        assert_eq!(tier(&hooks, false), expected, "{hooks:?}");
    }
}

#[test]
fn sysctls_are_explained_in_words() {
    let report = evaluate(&good());
    for (name, value, words) in [
        (
            "net.ipv4.ip_local_port_range",
            Some("32768 60999"),
            "28232 ports for connections to one address and port: enough for 470 a second",
        ),
        ("net.ipv4.ip_local_reserved_ports", Some("40000-40009,8080"), "10 ports of the range"),
        ("net.ipv4.tcp_tw_reuse", Some("2"), "loopback alone"),
        ("net.ipv4.tcp_tw_reuse_delay", None, "not in this kernel"),
        ("net.ipv4.tcp_fin_timeout", Some("60"), "does NOT shorten TIME_WAIT"),
    ] {
        let sysctl = &report.sysctls[name];
        assert_eq!(sysctl.value.as_deref(), value, "{name}");
        assert!(sysctl.meaning.contains(words), "{name}: {}", sysctl.meaning);
    }
    for name in probe::SYSCTLS {
        assert!(!meaning(name, "1", (0, 0)).is_empty(), "{name}");
    }
}
