//! Tries hooks one by one, and keeps the reason of each refusal.

use super::explain;
use super::tracefs::TracefsState;
use anyhow::Context as _;
use aya::programs::{BtfTracePoint, FEntry, FExit, KProbe, ProgramError, TracePoint};
use aya::{Btf, Ebpf};
use twtrace_core::input::Hook;

/// A system call exit: program and event.
pub(super) type Exit = (&'static str, &'static str);

/// Tells the errno of connect(2).
pub(super) const CONNECT_EXIT: Exit = ("connect_exit", "sys_exit_connect");
/// Tell who accepted, where [`ACCEPT`] cannot.
pub(super) const ACCEPT_EXITS: [Exit; 2] = [("accept_exit", "sys_exit_accept"), ("accept4_exit", "sys_exit_accept4")];
/// Tells of binds that fail.
pub(super) const BIND_EXIT: Exit = ("bind_exit", "sys_exit_bind");
/// Programs at these exits, whose misses count.
pub(super) const EXIT_PROGRAMS: [&str; 4] = ["connect_exit", "accept_exit", "accept4_exit", "bind_exit"];

/// Tells who accepted, by whatever way.
pub(super) const ACCEPT: &str = "inet_csk_accept";

const ALLOC: &str = "inet_twsk_alloc";
const DESTRUCTOR: &str = "tcp_twsk_destructor";
const FREE: &str = "inet_twsk_free";

/// Further hooks that are named where there is no BTF to attach them with.
pub(super) const TYPED: [(&str, &str); 7] = [
    ("tcp_send_reset", "tp_btf"),
    ("syscalls:sys_exit_connect", "tracepoint"),
    ("syscalls:sys_exit_accept", "tracepoint"),
    ("syscalls:sys_exit_accept4", "tracepoint"),
    ("syscalls:sys_exit_bind", "tracepoint"),
    (ACCEPT, "fexit"),
    (ALLOC, "fexit"),
];

/// Programs of the exact tier whose misses count, where they are loaded. Not those at the entry of a call: when only
/// they are skipped, the return finds no arguments and counts that.
pub(super) const EXACT_PROGRAMS: [&str; 7] = [
    "twsk_alloc",
    "twsk_alloc_return",
    "twsk_destructor",
    "twsk_free",
    "twsk_end",
    "twsk_unique",
    "twsk_unique_return",
];

/// Ways to hook a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ways {
    /// fentry and fexit; where one is refused, kprobes in its place.
    Any,
    /// fentry and fexit alone.
    Fentry,
    /// kprobes alone.
    Kprobe,
}

/// A program that gets the arguments, and the result if any, in one piece.
#[derive(Clone, Copy)]
enum Direct {
    Fentry(&'static str),
    Fexit(&'static str),
    /// There is none for this kernel.
    Refused(&'static str),
}

impl Direct {
    fn kind(self) -> &'static str {
        match self {
            Self::Fentry(_) => "fentry",
            Self::Fexit(_) | Self::Refused(_) => "fexit",
        }
    }
}

/// Programs that do the same by kprobes. Only for functions that softirqs do not interrupt: a kprobe that is hit while
/// another one is handled on that CPU is skipped by the kernel, which tells nobody.
#[derive(Clone, Copy)]
enum Probes {
    /// At the entry.
    Entry(&'static str),
    /// At the entry for the arguments, and at the return.
    Return(&'static str, &'static str),
    /// None: it is called in the context of a process, and one softirq in its handler would hide from the others all
    /// the timewait sockets that this softirq makes.
    None,
}

impl Probes {
    fn kind(self) -> &'static str {
        match self {
            Self::Entry(_) | Self::None => "kprobe",
            Self::Return(..) => "kretprobe",
        }
    }
}

/// The hooks of the exact tier, each optional by itself.
pub(super) fn exact(ebpf: &mut Ebpf, ways: Ways, accept_arguments: Option<usize>, btf: &Btf) -> Vec<Hook> {
    use Direct::{Fentry, Fexit, Refused};
    use Probes::{Entry, Return};
    let mut function = |name, direct, probes| function(ebpf, ways, name, direct, probes, btf);
    let mut hooks = vec![function(ALLOC, Fexit("twsk_alloc"), Return("twsk_alloc_entry", "twsk_alloc_return"))];
    let destructor = function(DESTRUCTOR, Fentry("twsk_destructor"), Entry("twsk_end"));
    let refused = !destructor.attached;
    hooks.push(destructor);
    if refused {
        hooks.push(function(FREE, Fentry("twsk_free"), Entry("twsk_end")));
    }
    let accept = match accept_arguments {
        Some(2) => Fexit("csk_accept2"),
        Some(4) => Fexit("csk_accept4"),
        Some(_) => Refused("it has another number of arguments here than there are programs for"),
        None => Refused("this kernel has no such function"),
    };
    hooks.extend([
        function("tcp_twsk_unique", Fexit("twsk_unique"), Return("twsk_unique_entry", "twsk_unique_return")),
        function("inet_hash_connect", Fexit("hash_connect"), Probes::None),
        function("inet6_hash_connect", Fexit("hash_connect6"), Probes::None),
        function(ACCEPT, accept, Probes::None),
    ]);
    hooks
}

/// Whether both ends of every timewait socket are seen.
pub(super) fn are_exact(hooks: &[Hook]) -> bool {
    let attached = |name: &str| hooks.iter().any(|hook| hook.name == name && hook.attached);
    attached(ALLOC) && (attached(DESTRUCTOR) || attached(FREE))
}

/// Hooks a function by what is asked for, and tells of each way that was refused.
fn function(ebpf: &mut Ebpf, ways: Ways, name: &str, direct: Direct, probes: Probes, btf: &Btf) -> Hook {
    let first = match ways {
        Ways::Any | Ways::Fentry => try_direct(ebpf, name, direct, btf),
        Ways::Kprobe => return hook(name, probes.kind(), try_probes(ebpf, name, probes)),
    };
    let Err(refused) = first else { return hook(name, direct.kind(), Ok(())) };
    if ways == Ways::Fentry || matches!(probes, Probes::None) {
        return hook(name, direct.kind(), Err(refused));
    }
    match try_probes(ebpf, name, probes) {
        Ok(()) => {
            let reason = Some(format!("{} is refused: {refused}", direct.kind()));
            Hook { reason, ..hook(name, probes.kind(), Ok(())) }
        }
        Err(too) => hook(name, direct.kind(), Err(format!("{refused}; as a {}: {too}", probes.kind()))),
    }
}

fn try_direct(ebpf: &mut Ebpf, name: &str, direct: Direct, btf: &Btf) -> Result<(), String> {
    let attached = match direct {
        Direct::Fentry(program) => fentry(ebpf, program, name, btf),
        Direct::Fexit(program) => fexit(ebpf, program, name, btf),
        Direct::Refused(reason) => return Err(reason.to_owned()),
    };
    attached.map_err(|error| reason(&error))
}

fn fexit(ebpf: &mut Ebpf, program: &str, function: &str, btf: &Btf) -> anyhow::Result<()> {
    let program: &mut FExit = find(ebpf, program)?.try_into()?;
    program.load(function, btf).with_context(|| format!("fexit/{function} does not load"))?;
    program.attach().with_context(|| format!("fexit/{function} does not attach"))?;
    Ok(())
}

fn fentry(ebpf: &mut Ebpf, program: &str, function: &str, btf: &Btf) -> anyhow::Result<()> {
    let program: &mut FEntry = find(ebpf, program)?.try_into()?;
    program.load(function, btf).with_context(|| format!("fentry/{function} does not load"))?;
    program.attach().with_context(|| format!("fentry/{function} does not attach"))?;
    Ok(())
}

/// All of a function's kprobes or none. The one at the entry first: a return must find the arguments.
fn try_probes(ebpf: &mut Ebpf, function: &str, probes: Probes) -> Result<(), String> {
    let programs = match probes {
        Probes::Entry(one) => vec![one],
        Probes::Return(entry, exit) => vec![entry, exit],
        Probes::None => return Err(NO_PROBE.to_owned()),
    };
    let attached = programs.iter().try_for_each(|program| kprobe(ebpf, program, function));
    if attached.is_err() {
        for program in programs {
            let program: Option<&mut KProbe> = ebpf.program_mut(program).and_then(|program| program.try_into().ok());
            // One that was not loaded has nothing to let go of.
            let _ = program.map(KProbe::unload);
        }
    }
    attached.map_err(|error| kprobe_reason(&error))
}

fn kprobe(ebpf: &mut Ebpf, program: &str, function: &str) -> anyhow::Result<()> {
    let program: &mut KProbe = find(ebpf, program)?.try_into()?;
    program.load().with_context(|| format!("a kprobe for {function} does not load"))?;
    program.attach(function, 0).with_context(|| format!("a kprobe does not attach to {function}"))?;
    Ok(())
}

/// Why a function cannot be hooked. The pair on the tracepoint has loaded before, so the capabilities are there.
fn reason(error: &anyhow::Error) -> String {
    if explain::errno(error) == Some(libc::EPERM) {
        return "this kernel lets no program attach to its functions: it needs CONFIG_FUNCTION_TRACER and \
                CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, and no policy against it"
            .to_owned();
    }
    explain::explain(error)
}

/// The same for a kprobe. aya looks in sysfs whether there are any, then asks `perf_event_open` for this one.
fn kprobe_reason(error: &anyhow::Error) -> String {
    let of_aya = error.chain().find_map(|cause| cause.downcast_ref::<ProgramError>());
    match (of_aya, explain::errno(error)) {
        (Some(ProgramError::SyscallError(_)), Some(libc::ENOENT)) => NO_FUNCTION.to_owned(),
        (Some(ProgramError::SyscallError(_)), Some(libc::EPERM | libc::EACCES | libc::EINVAL))
        | (Some(ProgramError::KProbeError(_)), _) => NO_KPROBES.to_owned(),
        _ => explain::explain(error),
    }
}

const NO_FUNCTION: &str =
    "this kernel has no function of that name that could be hooked: it was inlined away, or never there";

const NO_PROBE: &str = "a kprobe here would hide timewait sockets from those that matter more";

const NO_KPROBES: &str = "this kernel lets no program attach kprobes: it needs CONFIG_KPROBES and \
    CONFIG_KPROBE_EVENTS, and no policy (lockdown) against it";

/// An optional tp_btf hook.
pub(super) fn btf(ebpf: &mut Ebpf, program: &str, tracepoint: &str, types: &Btf) -> Hook {
    let attached = load_btf(ebpf, program, tracepoint, types).and_then(|()| loaded(ebpf, program));
    hook(tracepoint, "tp_btf", attached.map_err(|error| explain::explain(&error)))
}

/// Loads a program for a tracepoint, and leaves it at that.
pub(super) fn load_btf(ebpf: &mut Ebpf, program: &str, tracepoint: &str, btf: &Btf) -> anyhow::Result<()> {
    let program: &mut BtfTracePoint = find(ebpf, program)?.try_into()?;
    program.load(tracepoint, btf).with_context(|| format!("tp_btf/{tracepoint} does not load"))
}

/// Attaches a program that was loaded by [`load_btf`].
pub(super) fn loaded(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<()> {
    let program: &mut BtfTracePoint = find(ebpf, name)?.try_into()?;
    program.attach().with_context(|| format!("tp_btf program {name} does not attach"))?;
    Ok(())
}

/// A system call exit.
pub(super) fn exit(ebpf: &mut Ebpf, (program, event): Exit, tracefs: &Result<TracefsState, String>) -> Hook {
    let attached = tracefs
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|_| try_exit(ebpf, program, event).map_err(|error| explain::explain(&error)));
    hook(&format!("syscalls:{event}"), "tracepoint", attached)
}

fn try_exit(ebpf: &mut Ebpf, program: &str, event: &str) -> anyhow::Result<()> {
    plain(ebpf, program, "syscalls", event)
}

/// A classic tracepoint.
pub(super) fn plain(ebpf: &mut Ebpf, program: &str, category: &str, event: &str) -> anyhow::Result<()> {
    let program: &mut TracePoint = find(ebpf, program)?.try_into()?;
    program.load().with_context(|| format!("tracepoint/{event} does not load"))?;
    program.attach(category, event).with_context(|| format!("tracepoint/{event} does not attach"))?;
    Ok(())
}

fn find<'a>(ebpf: &'a mut Ebpf, program: &str) -> anyhow::Result<&'a mut aya::programs::Program> {
    ebpf.program_mut(program).with_context(|| format!("the eBPF object has no program {program}"))
}

/// What became of a hook.
pub(super) fn hook(name: &str, kind: &str, attached: Result<(), String>) -> Hook {
    Hook { name: name.to_owned(), kind: kind.to_owned(), attached: attached.is_ok(), reason: attached.err() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::programs::kprobe::KProbeError;
    use aya::sys::SyscallError;
    use std::io;

    fn hooked(name: &str, kind: &str) -> Hook {
        hook(name, kind, Ok(()))
    }

    #[test]
    fn kprobes_make_the_tier_exact_too() {
        assert!(are_exact(&[hooked(ALLOC, "kretprobe"), hooked(FREE, "kprobe")]));
        assert!(are_exact(&[hooked(ALLOC, "fexit"), hooked(DESTRUCTOR, "kprobe")]));
        assert!(!are_exact(&[hooked(ALLOC, "kretprobe"), hook(DESTRUCTOR, "kprobe", Err(String::new()))]));
    }

    #[test]
    fn a_refused_kprobe_has_a_plain_reason() {
        let failed = |error: ProgramError| anyhow::Error::new(error).context("a kprobe does not attach to f");
        let refused = |errno| {
            let io_error = io::Error::from_raw_os_error(errno);
            failed(ProgramError::SyscallError(SyscallError { call: "perf_event_open", io_error }))
        };
        let io_error = io::Error::from_raw_os_error(libc::ENOENT);
        let no_sysfs = failed(ProgramError::KProbeError(KProbeError::FileError { filename: "type".into(), io_error }));
        assert_eq!(kprobe_reason(&no_sysfs), NO_KPROBES);
        assert_eq!(kprobe_reason(&refused(libc::EPERM)), NO_KPROBES);
        assert_eq!(kprobe_reason(&refused(libc::EINVAL)), NO_KPROBES);
        assert_eq!(kprobe_reason(&refused(libc::ENOENT)), NO_FUNCTION);
        assert!(kprobe_reason(&refused(libc::EBUSY)).contains("does not attach to f"));
    }
}
