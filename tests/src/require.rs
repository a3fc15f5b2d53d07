//! Skipping a test, in one place: a skip is always printed, and it is a failure where every test must run.

use std::io::Write as _;

/// What may be missing even on a machine that runs everything else. Each line says why.
const ALLOWED: [(&str, &str); 6] = [
    (
        "the exact tier",
        "some kernels refuse fentry and fexit; the tests in virtual machines run it on four that do not",
    ),
    ("MPTCP", "kernels may be built without it; the ones in virtual machines are tested with it"),
    (
        "descriptors of all processes",
        "some hosts keep those of one process even from root; the virtual machines do not",
    ),
    ("the kernel's NFS client", "it is a module; the kernels in virtual machines have it"),
    ("Spark", "pyspark takes half a gigabyte and needs Java; the same queries run on DuckDB"),
    ("IP_LOCAL_PORT_RANGE", "kernels before 6.3 may not have it; of those in virtual machines, only 5.10 does not"),
];

/// What no other processor than x86_64 has.
const X86: [(&str, &str); 1] =
    [("system calls of 32-bit programs", "only on x86_64 can a 64-bit process make them (`int 0x80`)")];

/// Reports that `what` was not tested, because of `reason`.
///
/// # Panics
/// With `CI=true`, unless `what` is in the list of allowed skips: a CI machine must be able to run everything else.
pub fn skip(what: &str, reason: &str) {
    let x86 = if cfg!(target_arch = "x86_64") { &[][..] } else { &X86[..] };
    let allowed = ALLOWED.iter().chain(x86).any(|(name, _)| *name == what);
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci || allowed, "{what} cannot be tested here: {reason}");
    // Standard error, because libtest keeps what a passing test prints there only when asked to.
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {reason}");
}
