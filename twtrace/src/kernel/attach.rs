//! Tries hooks one by one, and keeps the reason of each refusal.

use super::explain;
use super::tracefs::TracefsState;
use anyhow::Context as _;
use aya::programs::{BtfTracePoint, FEntry, FExit, TracePoint};
use aya::{Btf, Ebpf};
use twtrace_core::input::Hook;

/// A system call exit: program and event.
pub(super) type Exit = (&'static str, &'static str);

/// Tells the errno of connect(2).
pub(super) const CONNECT_EXIT: Exit = ("connect_exit", "sys_exit_connect");
/// Tell who accepted, where [`ACCEPT`] cannot.
pub(super) const ACCEPT_EXITS: [Exit; 2] = [("accept_exit", "sys_exit_accept"), ("accept4_exit", "sys_exit_accept4")];
/// Tells who accepted, by whatever way.
pub(super) const ACCEPT: &str = "inet_csk_accept";

const ALLOC: &str = "inet_twsk_alloc";
const DESTRUCTOR: &str = "tcp_twsk_destructor";
const FREE: &str = "inet_twsk_free";

/// Further hooks that are named where there is no BTF to attach them with.
pub(super) const TYPED: [(&str, &str); 6] = [
    ("tcp_send_reset", "tp_btf"),
    ("syscalls:sys_exit_connect", "tracepoint"),
    ("syscalls:sys_exit_accept", "tracepoint"),
    ("syscalls:sys_exit_accept4", "tracepoint"),
    (ACCEPT, "fexit"),
    (ALLOC, "fexit"),
];

/// Programs of the exact tier whose misses count.
pub(super) const EXACT_PROGRAMS: [&str; 4] = ["twsk_alloc", "twsk_destructor", "twsk_free", "twsk_unique"];

/// The hooks of the exact tier, each optional by itself.
pub(super) fn exact(ebpf: &mut Ebpf, accept_arguments: Option<usize>, btf: &Btf) -> Vec<Hook> {
    let mut hooks = vec![fexit(ebpf, "twsk_alloc", ALLOC, btf)];
    let destructor = fentry(ebpf, "twsk_destructor", DESTRUCTOR, btf);
    let refused = !destructor.attached;
    hooks.push(destructor);
    if refused {
        hooks.push(fentry(ebpf, "twsk_free", FREE, btf));
    }
    hooks.push(fexit(ebpf, "twsk_unique", "tcp_twsk_unique", btf));
    hooks.push(fexit(ebpf, "hash_connect", "inet_hash_connect", btf));
    hooks.push(fexit(ebpf, "hash_connect6", "inet6_hash_connect", btf));
    hooks.push(match accept_arguments {
        Some(2) => fexit(ebpf, "csk_accept2", ACCEPT, btf),
        Some(4) => fexit(ebpf, "csk_accept4", ACCEPT, btf),
        Some(other) => hook(ACCEPT, "fexit", Err(format!("it has {other} arguments here, which no program is for"))),
        None => hook(ACCEPT, "fexit", Err("this kernel has no such function".to_owned())),
    });
    hooks
}

/// Whether both ends of every timewait socket are seen.
pub(super) fn are_exact(hooks: &[Hook]) -> bool {
    let attached = |name: &str| hooks.iter().any(|hook| hook.name == name && hook.attached);
    attached(ALLOC) && (attached(DESTRUCTOR) || attached(FREE))
}

fn fexit(ebpf: &mut Ebpf, program: &str, function: &str, btf: &Btf) -> Hook {
    let attached = (|| -> anyhow::Result<()> {
        let program: &mut FExit = find(ebpf, program)?.try_into()?;
        program.load(function, btf).with_context(|| format!("fexit/{function} does not load"))?;
        program.attach().with_context(|| format!("fexit/{function} does not attach"))?;
        Ok(())
    })();
    hook(function, "fexit", attached.map_err(|error| reason(&error)))
}

fn fentry(ebpf: &mut Ebpf, program: &str, function: &str, btf: &Btf) -> Hook {
    let attached = (|| -> anyhow::Result<()> {
        let program: &mut FEntry = find(ebpf, program)?.try_into()?;
        program.load(function, btf).with_context(|| format!("fentry/{function} does not load"))?;
        program.attach().with_context(|| format!("fentry/{function} does not attach"))?;
        Ok(())
    })();
    hook(function, "fentry", attached.map_err(|error| reason(&error)))
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
