//! Turns an error of the loader, or of the kernel behind it, into one line that says what to do next.

use super::situation::{self, Lockdown, Situation, kernel_version};
use aya::BtfError;
use aya::programs::ProgramError;
use std::io;

/// Longest explanation, in characters: verifier logs have no end.
const MAX_CHARS: usize = 600;

/// Longest part of a verifier log.
const MAX_LOG_CHARS: usize = 200;

/// What aya writes before the log.
const LOG: &str = "Verifier output: ";

/// What the kernel writes after it (`print_verification_stats`).
const STATISTICS: [&str; 2] = ["verification time ", "processed "];

/// One line for an error of the loader, given the situation of the running host.
pub fn explain(error: &anyhow::Error) -> String {
    explain_in(error, &situation::read())
}

/// The same for a given situation.
pub fn explain_in(error: &anyhow::Error, situation: &Situation) -> String {
    let said = one_line(error);
    match advice(error, &said, situation) {
        Some(advice) => clip(&format!("{advice} ({said})")),
        None => clip(&said),
    }
}

/// What to do, from what failed, the first errno in the chain and the situation.
fn advice(error: &anyhow::Error, said: &str, situation: &Situation) -> Option<String> {
    let text = match errno(error) {
        Some(libc::EPERM | libc::EACCES) if !situation.capabilities.can_trace() => {
            "twtrace needs root, or CAP_BPF and CAP_PERFMON: try sudo"
        }
        Some(libc::EPERM | libc::EACCES) if situation.lockdown == Lockdown::Confidentiality => {
            "the kernel is locked down (confidentiality): no program can read its memory. Boot with lockdown=integrity \
             or without lockdown"
        }
        Some(libc::ENOSYS) => {
            "this kernel has no bpf system call, or a seccomp profile hides it: it needs CONFIG_BPF_SYSCALL=y"
        }
        _ if !situation.btf => {
            "this kernel has no BTF in /sys/kernel/btf/vmlinux: it needs CONFIG_DEBUG_INFO_BTF=y, which distributions \
             set from 5.8 or so on"
        }
        // aya has no error type for it.
        _ if said.contains("tracefs not found") => {
            "tracefs is not mounted: try `mount -t tracefs tracefs /sys/kernel/tracing`"
        }
        Some(libc::EPERM) if kernel_version(&situation.kernel) < Some((5, 11)) => {
            "the limit of locked memory may be too low for this kernel: try `ulimit -l unlimited`"
        }
        Some(libc::EPERM) => {
            "the kernel refuses although the capabilities are there: a seccomp profile, a security module, or a user \
             namespace (a rootless container) is in the way; run on the host or in a privileged container"
        }
        Some(libc::EACCES | libc::EINVAL | libc::E2BIG) if is_by_verifier(error) => {
            "the kernel's verifier refused a program: please report it with `twtrace doctor --json`"
        }
        Some(libc::ENOMEM) => "the kernel has no memory for maps or programs",
        _ => return None,
    };
    Some(text.to_owned())
}

/// A program or its type information was rejected when it was loaded: that is the verifier's decision.
fn is_by_verifier(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(ProgramError::LoadError { .. }))
            || matches!(cause.downcast_ref(), Some(BtfError::LoadError { .. }))
    })
}

/// The first errno in the chain of causes, positive.
pub(super) fn errno(error: &anyhow::Error) -> Option<i32> {
    error.chain().find_map(|cause| {
        let io = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        io.or_else(|| cause.downcast_ref::<nix::Error>().map(|errno| *errno as i32))
    })
}

/// The chain of causes without line breaks, and without a cause that the one before it already quotes.
fn one_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if !text.is_empty() && !parts.iter().any(|part| part.contains(&text)) {
            parts.push(without_log(&text));
        }
    }
    parts.join(": ")
}

/// An error with only the end of the verifier's log, which says why it refused the program: before that come all instructions,
/// after it statistics.
fn without_log(text: &str) -> String {
    let Some((before, log)) = text.split_once(LOG) else { return text.to_owned() };
    let end = STATISTICS.iter().filter_map(|words| log.find(words)).min().unwrap_or(log.len());
    let log = log[..end].trim_end();
    let skipped = log.chars().count().saturating_sub(MAX_LOG_CHARS);
    let dots = if skipped > 0 { "…" } else { "" };
    let kept: String = log.chars().skip(skipped).collect();
    format!("{before}{LOG}{dots}{kept}")
}

fn clip(text: &str) -> String {
    if text.chars().count() <= MAX_CHARS {
        return text.to_owned();
    }
    text.chars().take(MAX_CHARS).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::situation::Capabilities;
    use anyhow::Context as _;

    fn situation() -> Situation {
        Situation { capabilities: Capabilities::ALL, btf: true, lockdown: Lockdown::None, kernel: "6.12.0".to_owned() }
    }

    fn failed(errno: i32) -> anyhow::Error {
        let Err(error) = Err::<(), _>(io::Error::from_raw_os_error(errno)).context("cannot load the program tcp_life")
        else {
            unreachable!("an error was given")
        };
        error
    }

    #[test]
    fn each_cause_has_its_advice() {
        let plain = Situation { capabilities: Capabilities::NONE, ..situation() };
        let locked = Situation { lockdown: Lockdown::Confidentiality, ..situation() };
        let no_btf = Situation { btf: false, ..situation() };
        let old = Situation { kernel: "5.10.0-28-amd64".to_owned(), ..situation() };
        for (errno, situation, expected) in [
            (libc::EPERM, &plain, "try sudo"),
            (libc::EACCES, &plain, "try sudo"),
            (libc::EPERM, &locked, "lockdown=integrity"),
            (libc::ENOENT, &no_btf, "CONFIG_DEBUG_INFO_BTF=y"),
            (libc::EPERM, &old, "ulimit -l unlimited"),
            (libc::EPERM, &situation(), "seccomp"),
            (libc::ENOSYS, &situation(), "CONFIG_BPF_SYSCALL=y"),
            (libc::ENOMEM, &situation(), "no memory"),
        ] {
            let line = explain_in(&failed(errno), situation);
            assert!(line.contains(expected), "errno {errno}: {line}");
            assert!(line.contains("tcp_life") && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn an_unknown_cause_is_reported_as_it_is() {
        let line = explain_in(&failed(libc::EBUSY), &situation());
        assert_eq!(line, "cannot load the program tcp_life: Device or resource busy (os error 16)");
    }

    #[test]
    fn the_loaders_own_errors_are_seen_through() {
        let call = aya::sys::SyscallError {
            call: "bpf_raw_tracepoint_open",
            io_error: io::Error::from_raw_os_error(libc::EPERM),
        };
        let error = anyhow::Error::new(aya::EbpfError::ProgramError(ProgramError::SyscallError(call)));
        assert_eq!(errno(&error), Some(libc::EPERM));
        let plain = Situation { capabilities: Capabilities::NONE, ..situation() };
        assert!(explain_in(&error, &plain).contains("try sudo"));
    }

    #[test]
    fn verifier_logs_are_flattened_and_clipped() {
        let error = anyhow::Error::new(ProgramError::LoadError {
            io_error: io::Error::from_raw_os_error(libc::EACCES),
            verifier_log: aya_obj::VerifierLog::new("0: R1=ctx()\n".repeat(10_000)),
        });
        let line = explain_in(&error, &situation());
        assert!(line.contains("report it") && !line.contains('\n'), "{line}");
        assert!(line.chars().count() <= MAX_CHARS + 1);
    }

    #[test]
    fn of_a_verifier_log_the_reason_is_left() {
        let log = "0: R1=ctx() ".repeat(500)
            + "9: (2f) r3 *= r2 math between trusted_ptr_ pointer and 7 is not allowed\nverification time 15998 usec\n\
               processed 2294 insns (limit 1000000)";
        let error = anyhow::Error::new(ProgramError::LoadError {
            io_error: io::Error::from_raw_os_error(libc::EINVAL),
            verifier_log: aya_obj::VerifierLog::new(log),
        });
        let line = explain_in(&error, &situation());
        assert!(line.contains("math between trusted_ptr_ pointer and 7 is not allowed"), "{line}");
        assert!(!line.contains("2294") && line.contains("report it"), "{line}");
    }

    #[test]
    fn this_host_explains_itself() {
        assert!(!explain(&failed(libc::EPERM)).is_empty());
    }
}
