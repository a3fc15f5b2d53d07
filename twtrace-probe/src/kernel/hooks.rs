//! The hooks, in one table: how each is attached, what it is for, and what is lost without it. The loader, the count of
//! skipped runs, the tier and `twtrace doctor` read it. To add a hook, add a line here and a program in
//! `twtrace-ebpf/src/hooks/`.

use twtrace_core::event::{Hook, Tier};

/// The tracepoint that every trace requires.
pub const SET_STATE: &str = "inet_sock_set_state";

/// Reports which process accepted, on every path.
const ACCEPT: &str = "inet_csk_accept";
/// Allocates a TIME_WAIT socket.
const ALLOC: &str = "inet_twsk_alloc";
/// Ends one, only for TCP.
const DESTRUCTOR: &str = "tcp_twsk_destructor";

/// The program that sees the exits of all system calls, where the tracepoints of single ones cannot be used.
pub(super) const ALL_EXITS: &str = "sys_exit";

/// One hook.
#[derive(Debug)]
pub struct HookSpec {
    /// Name in reports: the kernel's function or tracepoint.
    pub name: &'static str,
    /// How it is attached.
    pub(super) attach: Attach,
    /// What it is for.
    pub part: Part,
    /// It is tried only if this one was not attached.
    pub(super) instead_of: Option<&'static str>,
    /// Which counter counts the runs of its programs that the kernel skipped.
    pub(super) misses: Misses,
    /// What is lost without it.
    pub cost: &'static str,
}

/// What a hook is for, as far as the tier depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// There is no trace without it.
    Base,
    /// Sees TIME_WAIT sockets begin: the exact tier needs one of these and one of [`Part::Ends`].
    Begins,
    /// Sees TIME_WAIT sockets end.
    Ends,
    /// Anything else.
    More,
}

/// How a hook is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attach {
    /// One program of the pair on [`SET_STATE`], which is loaded first and attached last.
    Pair(&'static str),
    /// A program on a typed tracepoint with the name of the hook.
    BtfTracepoint(&'static str),
    /// A program at the exit of a system call, and the event.
    SyscallExit(&'static str, &'static str),
    /// A function with the name of the hook.
    Function(Direct, Probes),
}

/// A program that gets the arguments, and the result if any, at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direct {
    Fentry(&'static str),
    Fexit(&'static str),
    /// One for each number of arguments that kernels have had.
    FexitByArguments(&'static [(usize, &'static str)]),
}

/// Programs that do the same with kprobes. Only for functions that softirqs do not interrupt: the kernel skips a kprobe
/// that is hit while another one is handled on that CPU, and no counter of a program shows that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probes {
    /// At the entry.
    Entry(&'static str),
    /// At the entry for the arguments, and at the return.
    Return(&'static str, &'static str),
    /// None: the function is called in the context of a process, and one softirq in its handler would hide from the
    /// other kprobes all the TIME_WAIT sockets that this softirq creates.
    None,
}

/// Which counter counts the skipped runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misses {
    /// None: those of the pair are derived from both programs.
    None,
    /// `exits_missed`.
    Exits,
    /// `exact_missed`.
    Exact,
}

const HOOK: HookSpec =
    HookSpec { name: "", attach: Attach::Pair(""), part: Part::More, instead_of: None, misses: Misses::None, cost: "" };

const WHO_ACCEPTED: &str = "who accepted a connection is known only from who closed it";
const JUDGED_AT_CLOSE: &str =
    "TIME_WAIT sockets are classified when their connection closes, and their end is inferred between two censuses";
const NO_CALL: &str = "failed connects without a system call are classified";

/// All hooks, in the order of reports.
pub const HOOKS: &[HookSpec] = &[
    HookSpec {
        name: SET_STATE,
        attach: Attach::Pair("set_state"),
        part: Part::Base,
        cost: "nothing is traced",
        ..HOOK
    },
    HookSpec {
        name: "inet_sock_set_state (twin)",
        attach: Attach::Pair("set_state_twin"),
        cost: "transitions that the kernel skips on recursion are lost, though counted",
        ..HOOK
    },
    HookSpec {
        name: "tcp_send_reset",
        attach: Attach::BtfTracepoint("send_reset"),
        misses: Misses::Exact,
        cost: "resets that this host sends are classified and not seen",
        ..HOOK
    },
    HookSpec {
        name: "syscalls:sys_exit_connect",
        attach: Attach::SyscallExit("connect_exit", "sys_exit_connect"),
        misses: Misses::Exits,
        cost: "the errno of failed connects is known only in part",
        ..HOOK
    },
    HookSpec {
        name: "syscalls:sys_exit_accept",
        attach: Attach::SyscallExit("accept_exit", "sys_exit_accept"),
        instead_of: Some(ACCEPT),
        misses: Misses::Exits,
        cost: WHO_ACCEPTED,
        ..HOOK
    },
    HookSpec {
        name: "syscalls:sys_exit_accept4",
        attach: Attach::SyscallExit("accept4_exit", "sys_exit_accept4"),
        instead_of: Some(ACCEPT),
        misses: Misses::Exits,
        cost: WHO_ACCEPTED,
        ..HOOK
    },
    HookSpec {
        name: "syscalls:sys_exit_bind",
        attach: Attach::SyscallExit("bind_exit", "sys_exit_bind"),
        misses: Misses::Exits,
        cost: "why a bind fails is unknown",
        ..HOOK
    },
    HookSpec {
        name: "sched_process_exec",
        attach: Attach::BtfTracepoint("process_exec"),
        cost: "processes that are gone before /proc is asked have no command line, no container and no ancestor",
        ..HOOK
    },
    HookSpec {
        name: ALLOC,
        attach: Attach::Function(Direct::Fexit("twsk_alloc"), Probes::Return("twsk_alloc_entry", "twsk_alloc_return")),
        part: Part::Begins,
        misses: Misses::Exact,
        cost: JUDGED_AT_CLOSE,
        ..HOOK
    },
    HookSpec {
        name: DESTRUCTOR,
        attach: Attach::Function(Direct::Fentry("twsk_destructor"), Probes::Entry("twsk_end")),
        part: Part::Ends,
        misses: Misses::Exact,
        cost: JUDGED_AT_CLOSE,
        ..HOOK
    },
    HookSpec {
        name: "inet_twsk_free",
        attach: Attach::Function(Direct::Fentry("twsk_free"), Probes::Entry("twsk_end")),
        part: Part::Ends,
        instead_of: Some(DESTRUCTOR),
        misses: Misses::Exact,
        cost: JUDGED_AT_CLOSE,
    },
    HookSpec {
        name: "tcp_twsk_unique",
        attach: Attach::Function(
            Direct::Fexit("twsk_unique"),
            Probes::Return("twsk_unique_entry", "twsk_unique_return"),
        ),
        misses: Misses::Exact,
        cost: "ports that a connect takes over cannot be distinguished from other early ends",
        ..HOOK
    },
    HookSpec {
        name: "inet_hash_connect",
        attach: Attach::Function(Direct::Fexit("hash_connect"), Probes::None),
        misses: Misses::Exits,
        cost: NO_CALL,
        ..HOOK
    },
    HookSpec {
        name: "inet6_hash_connect",
        attach: Attach::Function(Direct::Fexit("hash_connect6"), Probes::None),
        misses: Misses::Exits,
        cost: NO_CALL,
        ..HOOK
    },
    HookSpec {
        name: ACCEPT,
        attach: Attach::Function(Direct::FexitByArguments(&[(2, "csk_accept2"), (4, "csk_accept4")]), Probes::None),
        misses: Misses::Exits,
        cost: "accepts without a system call (io_uring) are not seen",
        ..HOOK
    },
];

/// The hook with this name in reports.
pub fn spec(name: &str) -> Option<&'static HookSpec> {
    HOOKS.iter().find(|spec| spec.name == name)
}

/// The two programs on [`SET_STATE`] and the names of their hooks, in the order in which they are attached.
pub(super) fn pair() -> impl Iterator<Item = (&'static str, &'static str)> {
    HOOKS.iter().filter_map(|spec| match spec.attach {
        Attach::Pair(program) => Some((program, spec.name)),
        _ => None,
    })
}

/// Best tier that the attached hooks allow; `None` when they allow no trace. Below the exact tier it depends on whether
/// sockets can only be distinguished by their addresses.
pub fn tier(hooks: &[Hook], by_tuple: bool) -> Option<Tier> {
    let attached =
        |part: Part| hooks.iter().find(|hook| hook.attached && spec(&hook.name).is_some_and(|spec| spec.part == part));
    let base = attached(Part::Base)?;
    Some(if attached(Part::Begins).is_some() && attached(Part::Ends).is_some() {
        Tier::Exact
    } else if base.kind == "tp_btf" && !by_tuple {
        Tier::Cookie
    } else {
        Tier::Tuple
    })
}

impl Attach {
    /// Its kind when it is not attached in another way.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Pair(_) | Self::BtfTracepoint(_) => "tp_btf",
            Self::SyscallExit(..) => "tracepoint",
            Self::Function(direct, _) => direct.kind(),
        }
    }

    /// Programs whose skipped runs count. Not those at the entry of a call: when only they are skipped, the return
    /// finds no arguments and counts that.
    pub(super) fn counted_programs(self) -> Vec<&'static str> {
        match self {
            Self::Pair(program) | Self::BtfTracepoint(program) => vec![program],
            Self::SyscallExit(program, _) => vec![program, ALL_EXITS],
            Self::Function(direct, probes) => {
                let mut programs = match direct {
                    Direct::Fentry(program) | Direct::Fexit(program) => vec![program],
                    Direct::FexitByArguments(each) => each.iter().map(|(_, program)| *program).collect(),
                };
                match probes {
                    Probes::Entry(program) | Probes::Return(_, program) => programs.push(program),
                    Probes::None => {}
                }
                programs
            }
        }
    }
}

impl Direct {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Fentry(_) => "fentry",
            Self::Fexit(_) | Self::FexitByArguments(_) => "fexit",
        }
    }
}

impl Probes {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Entry(_) | Self::None => "kprobe",
            Self::Return(..) => "kretprobe",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_what_they_stand_in_for_comes_from_the_table() {
        for (at, one) in HOOKS.iter().enumerate() {
            assert!(HOOKS[at + 1..].iter().all(|other| other.name != one.name), "{}", one.name);
            assert!(one.instead_of.is_none_or(|name| spec(name).is_some()), "{}", one.name);
            assert!(!one.cost.is_empty(), "{}", one.name);
        }
        assert_eq!(HOOKS.iter().filter(|spec| spec.part == Part::Base).count(), 1);
    }

    #[test]
    fn kprobes_make_the_tier_exact_too() {
        let hooked = |name: &str, kind: &str, attached| Hook {
            name: name.to_owned(),
            kind: kind.to_owned(),
            attached,
            reason: None,
        };
        let base = hooked(SET_STATE, "tp_btf", true);
        let alloc = |kind| hooked(ALLOC, kind, true);
        let with = |more: &[Hook]| tier(&[std::slice::from_ref(&base), more].concat(), false);
        assert_eq!(with(&[alloc("kretprobe"), hooked("inet_twsk_free", "kprobe", true)]), Some(Tier::Exact));
        assert_eq!(with(&[alloc("fexit"), hooked(DESTRUCTOR, "kprobe", true)]), Some(Tier::Exact));
        assert_eq!(with(&[alloc("kretprobe"), hooked(DESTRUCTOR, "kprobe", false)]), Some(Tier::Cookie));
    }
}
