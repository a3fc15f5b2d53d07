//! What goes wrong on users' machines: one clear line, the right exit code, never a backtrace.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use nix::unistd::User;
use serde_json::Value;
use twtrace_tests::schema;
use twtrace_tests::tracer::program;

fn twtrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("twtrace"));
    command.args(arguments).env("RUST_BACKTRACE", "1");
    command
}

/// Runs it from a shell script that changes what the program finds; the script has the program's path as `$0`.
fn behind(script: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", &format!("{script}; exec \"$0\" \"$@\"")]);
    command.arg(program("twtrace")).args(arguments).env("RUST_BACKTRACE", "1").output().unwrap()
}

/// Runs a copy of the program as a user without privileges, who can reach the copy.
fn nobody(arguments: &[&str]) -> Output {
    let user = User::from_name("nobody").unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let copy = folder.path().join("twtrace");
    fs::copy(program("twtrace"), &copy).unwrap();
    let mut command = Command::new(copy);
    command.args(arguments).uid(user.uid.as_raw()).gid(user.gid.as_raw()).env_remove("TWTRACE_BPF_OBJECT");
    command.env("RUST_BACKTRACE", "1").current_dir("/").output().unwrap()
}

/// Asserts one line on standard error that contains `words`, and the exit code.
fn failed(output: &Output, code: i32, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.starts_with("twtrace: ") || code == 2, "{said}");
    assert_eq!(said.trim_end().lines().count() > 1, code == 2 && said.trim_end().contains('\n'), "{said}");
    assert!(said.contains(words), "{words:?} is not in: {said}");
    assert!(!said.contains("panicked") && !said.contains("stack backtrace"), "{said}");
    assert!(output.stdout.is_empty(), "half a report: {}", String::from_utf8_lossy(&output.stdout));
}

const TOP: [&str; 4] = ["top", "--once", "--duration", "100ms"];
const HIDE_BTF: &str = "mount -t tmpfs none /sys/kernel/btf";
/// Distributions have tracefs mounted, in up to two places. Without CAP_SYS_ADMIN, the program cannot mount it again.
const HIDE_TRACEFS: &str = "for place in /sys/kernel/tracing /sys/kernel/debug; do mount -t tmpfs none $place; done; \
                            exec setpriv --bounding-set -sys_admin \"$0\" \"$@\"";

/// Neither BTF nor tracefs.
fn without_both(arguments: &[&str]) -> Output {
    behind(&format!("{HIDE_BTF}; {HIDE_TRACEFS}"), arguments)
}

#[test]
fn without_root_it_fails_and_suggests_sudo() {
    failed(&nobody(&TOP), 1, "try sudo");
}

#[test]
fn a_budget_needs_no_root() {
    let output = nobody(&["budget", "--rate", "1000", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // The host's limits, read by a user without privileges.
    assert_eq!((&report["from"]["range"], &report["from"]["max_tw_buckets"]), (&"host".into(), &"host".into()));
}

#[test]
fn without_btf_it_continues_and_reports_what_is_missing() {
    let output = behind(HIDE_BTF, &[&TOP[..], &["--json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!((&report["tracing"]["tier"], &report["tracing"]["no_btf"]), (&"tuple".into(), &true.into()));
    let hooks = report["tracing"]["hooks"].as_array().unwrap();
    for hook in hooks {
        assert_eq!(hook["attached"], hook["name"] == "inet_sock_set_state", "{hook}");
    }
    assert!(
        hooks.iter().any(|hook| hook["reason"].as_str().is_some_and(|reason| reason.contains("BTF"))),
        "{hooks:#?}"
    );
    let text = String::from_utf8(behind(HIDE_BTF, &TOP).stdout).unwrap();
    assert!(text.contains("WARNING: no usable BTF"), "{text}");
}

/// The kernel's BTF with these bytes in place of those.
fn mutilated(change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    change(&mut bytes);
    let path = folder.path().join("vmlinux");
    fs::write(&path, bytes).unwrap();
    let script = format!("mount --bind {} /sys/kernel/btf/vmlinux", path.display());
    (folder, script)
}

fn rename(bytes: &mut [u8], name: &str, other: &str) {
    let at = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    bytes[at..at + name.len()].copy_from_slice(other.as_bytes());
}

#[test]
fn with_unreadable_types_it_continues_without_them_and_says_why() {
    // The first type's kind, of which there are 20 today (`struct btf_type`, behind a header of 24 bytes).
    let unknown_kind = |bytes: &mut Vec<u8>| bytes[24 + 4 + 3] = 0x1e;
    type Change = Box<dyn FnOnce(&mut Vec<u8>)>;
    let cases: [(Change, &str); 4] = [
        (Box::new(|bytes| rename(bytes, "\0skc_daddr\0", "\0skc_xxxxx\0")), "skc_daddr"),
        (Box::new(|bytes| rename(bytes, "\0bytes_acked\0", "\0bytes_xxxxx\0")), "bytes_acked"),
        (Box::new(unknown_kind), "BTF"),
        (Box::new(|bytes| bytes.truncate(bytes.len() / 2)), "BTF"),
    ];
    for (change, reason) in cases {
        let (_folder, script) = mutilated(change);
        let output = behind(&script, &[&TOP[..], &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{reason}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let tracing = &report["tracing"];
        assert_eq!((&tracing["tier"], &tracing["no_btf"]), (&"tuple".into(), &true.into()), "{reason}: {tracing:#}");
        let hooks = tracing["hooks"].as_array().unwrap();
        let says_why = |hook: &Value| hook["reason"].as_str().is_some_and(|said| said.contains(reason));
        assert!(hooks.iter().any(says_why), "{reason}: {hooks:#?}");
    }
    // What only some kernels have is not needed.
    let (_folder, script) = mutilated(|bytes| rename(bytes, "\0ts_recent_stamp\0", "\0ts_recent_xxxxx\0"));
    let output = behind(&script, &[&TOP[..], &["--json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["tracing"]["no_btf"], false, "{:#}", report["tracing"]);
}

#[test]
fn without_btf_and_tracefs_it_fails() {
    failed(&without_both(&TOP), 1, "tracefs");
}

#[test]
fn damaged_or_foreign_object_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("object");
    let good = fs::read(std::env::var_os("TWTRACE_BPF_OBJECT").expect("the tests run on a built object")).unwrap();
    let foreign = fs::read(program("twtrace")).unwrap();
    for bytes in [&good[..good.len() / 2], b"", &foreign] {
        fs::write(&path, bytes).unwrap();
        let output = twtrace(&TOP).env("TWTRACE_BPF_OBJECT", &path).output().unwrap();
        failed(&output, 1, "eBPF object");
    }
    let output = twtrace(&TOP).env("TWTRACE_BPF_OBJECT", folder.path().join("none")).output().unwrap();
    failed(&output, 1, "cannot read the eBPF object");
}

/// The exits of single system calls cannot be hooked: one program sees those of all calls.
#[test]
fn without_tracefs_it_continues_and_reports_what_is_missing() {
    let without = |arguments: &[&str]| behind(HIDE_TRACEFS, arguments);
    let output = without(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_ne!(status(&report, "tracefs"), "ok");
    let output = without(&["top", "--once", "--duration", "100ms", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let hooks = report["tracing"]["hooks"].as_array().unwrap();
    assert!(hooks.iter().any(|hook| hook["kind"] == "tp_btf"));
    // Whether functions can be hooked depends on the kernel, not on tracefs.
    let of_functions = ["fexit", "fentry", "kprobe", "kretprobe"];
    for hook in hooks.iter().filter(|hook| !of_functions.contains(&hook["kind"].as_str().unwrap())) {
        let is_exit = hook["name"].as_str().unwrap().starts_with("syscalls:");
        assert_eq!((&hook["attached"], &hook["kind"]), (&true.into(), &"tp_btf".into()), "{hook}");
        assert!(!is_exit || hook["reason"].as_str().unwrap().contains("tracefs"), "{hook}");
    }
}

#[test]
fn bad_usage_exits_with_2_and_names_the_argument() {
    for (arguments, words) in [
        (&["top", "--dest", "300.1.1.1"][..], "--dest"),
        (&["top", "--port", "70000"], "--port"),
        (&["top", "--user", "no-such-user-here"], "no-such-user-here"),
        (&["top", "--ring-bytes", "5000"], "--ring-bytes"),
        (&["top", "--json", "--csv"], "--csv"),
        (&["frobnicate"], "frobnicate"),
        (&["top", "--frobnicate"], "--frobnicate"),
    ] {
        let output = twtrace(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words) && !said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_full_disk_is_an_error_and_a_broken_pipe_is_not() {
    for form in ["--json", "--csv", "--no-color"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = twtrace(&TOP).arg(form).stdout(full).output().unwrap();
        failed(&output, 1, "No space left");
        let mut child = twtrace(&TOP).arg(form).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The status that doctor gives a check.
fn status(report: &Value, name: &str) -> String {
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"));
    check["status"].as_str().unwrap().to_owned()
}

#[test]
fn doctor_agrees_with_top() {
    let output = twtrace(&["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    schema::assert_fits(&schema::DOCTOR, &report);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    for name in ["capabilities", "btf", "census"] {
        assert_eq!(status(&report, name), "ok", "{report:#}");
    }
    assert_eq!(status(&report, "hooks"), if report["tier"] == "exact" { "ok" } else { "degraded" }, "{report:#}");
    let top: Value = serde_json::from_slice(&twtrace(&TOP).arg("--json").output().unwrap().stdout).unwrap();
    assert_eq!(report["hooks"], top["tracing"]["hooks"]);
    assert_eq!(report["tier"], top["tracing"]["tier"]);
    let attached = top["tracing"]["hooks"].as_array().unwrap().iter().filter(|hook| hook["attached"] == true);
    assert!(attached.count() >= 6);
}

#[test]
fn doctor_fails_where_top_would() {
    let output = nobody(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    schema::assert_fits(&schema::DOCTOR, &report);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_ne!(status(&report, "capabilities"), "ok");

    let output = behind(HIDE_BTF, &["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    schema::assert_fits(&schema::DOCTOR, &report);
    assert_eq!((output.status.code(), status(&report, "btf").as_str()), (Some(0), "degraded"), "{report:#}");

    let output = without_both(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), status(&report, "btf").as_str()), (Some(1), "missing"), "{report:#}");
    assert_eq!(status(&report, "capabilities"), "ok");
}
