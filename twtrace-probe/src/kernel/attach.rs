//! Tries hooks one by one, and keeps the reason of each failure.

use super::explain;
use super::hooks::{ALL_EXITS, Attach, Direct, HookSpec, Probes};
use super::tracefs::TracefsState;
use anyhow::Context as _;
use aya::programs::{BtfTracePoint, FEntry, FExit, KProbe, ProgramError, TracePoint};
use aya::{Btf, Ebpf};
use twtrace_core::event::Hook;

/// Ways to hook a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ways {
    /// fentry and fexit; kprobes instead where one of them cannot be attached.
    Any,
    /// Only fentry and fexit.
    Fentry,
    /// Only kprobes.
    Kprobe,
}

/// Ways to see the exits of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exits {
    /// By a tracepoint for each; by one program for all calls of the host where tracefs cannot be read.
    Any,
    /// Only by tracepoints.
    Single,
    /// Only by one program.
    All,
}

/// What attaches hooks.
pub(super) struct Attacher<'a> {
    pub(super) ebpf: &'a mut Ebpf,
    pub(super) btf: &'a Btf,
    pub(super) tracefs: &'a Result<TracefsState, String>,
    pub(super) ways: Ways,
    pub(super) exits: Exits,
    /// Number of arguments of `inet_csk_accept` on this kernel; `None` if it has no such function.
    pub(super) accept_arguments: Option<usize>,
}

impl Attacher<'_> {
    /// Attaches a hook, except for the pair.
    pub(super) fn attach(&mut self, spec: &HookSpec) -> Hook {
        match spec.attach {
            // They are loaded before all others, and attached after them.
            Attach::Pair(_) => hook(spec.name, spec.attach.kind(), Ok(())),
            Attach::BtfTracepoint(program) => btf(self.ebpf, program, spec.name, self.btf),
            Attach::SyscallExit(program, event) => self.exit(program, event),
            Attach::Function(direct, probes) => self.function(spec.name, direct, probes),
        }
    }

    /// The exit of a system call. Where its tracepoint cannot be used, one program sees the exits of all calls; the first hook
    /// that needs it attaches it for all of them.
    fn exit(&mut self, program: &str, event: &str) -> Hook {
        let name = format!("syscalls:{event}");
        let tracefs = self.tracefs.as_ref().map_err(Clone::clone);
        let first = match self.exits {
            Exits::Any | Exits::Single => {
                tracefs.and_then(|_| try_exit(self.ebpf, program, event).map_err(|error| explain::explain(&error)))
            }
            Exits::All => Err("it was not tried".to_owned()),
        };
        let Err(refused) = first else { return hook(&name, "tracepoint", Ok(())) };
        if self.exits == Exits::Single {
            return hook(&name, "tracepoint", Err(refused));
        }
        let is_loaded = |ebpf: &mut Ebpf| ebpf.program(ALL_EXITS).is_some_and(|program| program.fd().is_ok());
        let attached = if is_loaded(self.ebpf) {
            Ok(())
        } else {
            load_btf(self.ebpf, ALL_EXITS, "sys_exit", self.btf).and_then(|()| loaded(self.ebpf, ALL_EXITS))
        };
        match attached {
            Ok(()) => {
                Hook { reason: Some(format!("tracepoint is refused: {refused}")), ..hook(&name, "tp_btf", Ok(())) }
            }
            Err(too) => hook(&name, "tracepoint", Err(format!("{refused}; as a tp_btf: {}", explain::explain(&too)))),
        }
    }

    /// Hooks a function in the requested ways, and gives the reason why each way failed.
    fn function(&mut self, name: &str, direct: Direct, probes: Probes) -> Hook {
        let first = match self.ways {
            Ways::Any | Ways::Fentry => self.try_direct(name, direct),
            Ways::Kprobe => return hook(name, probes.kind(), try_probes(self.ebpf, name, probes)),
        };
        let Err(refused) = first else { return hook(name, direct.kind(), Ok(())) };
        if self.ways == Ways::Fentry || matches!(probes, Probes::None) {
            return hook(name, direct.kind(), Err(refused));
        }
        match try_probes(self.ebpf, name, probes) {
            Ok(()) => {
                let reason = Some(format!("{} is refused: {refused}", direct.kind()));
                Hook { reason, ..hook(name, probes.kind(), Ok(())) }
            }
            Err(too) => hook(name, direct.kind(), Err(format!("{refused}; as a {}: {too}", probes.kind()))),
        }
    }

    fn try_direct(&mut self, name: &str, direct: Direct) -> Result<(), String> {
        let attached = match direct {
            Direct::Fentry(program) => fentry(self.ebpf, program, name, self.btf),
            Direct::Fexit(program) => fexit(self.ebpf, program, name, self.btf),
            Direct::FexitByArguments(each) => {
                let number = self.accept_arguments.ok_or("this kernel has no such function")?;
                let (_, program) = each
                    .iter()
                    .find(|(arguments, _)| *arguments == number)
                    .ok_or("no program fits its number of arguments on this kernel")?;
                fexit(self.ebpf, program, name, self.btf)
            }
        };
        attached.map_err(|error| reason(&error))
    }
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
            // One that was not loaded has nothing to release.
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

/// Why a function cannot be hooked. The pair on the tracepoint has loaded before, so the capabilities are sufficient.
fn reason(error: &anyhow::Error) -> String {
    if explain::errno(error) == Some(libc::EPERM) {
        return "no program can attach to functions of this kernel: it needs CONFIG_FUNCTION_TRACER and \
                CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, and no policy against it"
            .to_owned();
    }
    explain::explain(error)
}

/// The same for a kprobe. aya checks in sysfs whether the kernel has kprobes, then calls `perf_event_open` for this
/// one.
fn kprobe_reason(error: &anyhow::Error) -> String {
    let of_aya = error.chain().find_map(|cause| cause.downcast_ref::<ProgramError>());
    match (of_aya, explain::errno(error)) {
        (Some(ProgramError::SyscallError(_)), Some(libc::ENOENT)) => NO_FUNCTION.to_owned(),
        (Some(ProgramError::SyscallError(_)), Some(libc::EPERM | libc::EACCES | libc::EINVAL))
        | (Some(ProgramError::KProbeError(_)), _) => NO_KPROBES.to_owned(),
        _ => explain::explain(error),
    }
}

const NO_FUNCTION: &str = "this kernel has no such function to hook: it was inlined, or never existed";

const NO_PROBE: &str = "a kprobe here would hide TIME_WAIT sockets from more important hooks";

const NO_KPROBES: &str = "this kernel does not allow kprobes: it needs CONFIG_KPROBES and \
    CONFIG_KPROBE_EVENTS, and no policy (lockdown) against it";

/// An optional tp_btf hook.
fn btf(ebpf: &mut Ebpf, program: &str, tracepoint: &str, types: &Btf) -> Hook {
    let attached = load_btf(ebpf, program, tracepoint, types).and_then(|()| loaded(ebpf, program));
    hook(tracepoint, "tp_btf", attached.map_err(|error| explain::explain(&error)))
}

/// Loads a program for a tracepoint, without attaching it.
pub(super) fn load_btf(ebpf: &mut Ebpf, program: &str, tracepoint: &str, btf: &Btf) -> anyhow::Result<()> {
    let program: &mut BtfTracePoint = find(ebpf, program)?.try_into()?;
    program.load(tracepoint, btf).with_context(|| format!("tp_btf/{tracepoint} does not load"))
}

/// Attaches a program that [`load_btf`] has loaded.
pub(super) fn loaded(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<()> {
    let program: &mut BtfTracePoint = find(ebpf, name)?.try_into()?;
    program.attach().with_context(|| format!("tp_btf program {name} does not attach"))?;
    Ok(())
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

/// A hook with its result.
pub(super) fn hook(name: &str, kind: &str, attached: Result<(), String>) -> Hook {
    Hook { name: name.to_owned(), kind: kind.to_owned(), attached: attached.is_ok(), reason: attached.err() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::programs::kprobe::KProbeError;
    use aya::sys::SyscallError;
    use std::io;

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
