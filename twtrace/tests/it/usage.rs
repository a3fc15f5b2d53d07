//! The program from the outside: exit codes and the lines that go with them. Nothing here needs rights.

use assert_cmd::Command;
use std::fs::File;
use std::process::Stdio;

fn twtrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twtrace"));
    command.args(arguments).env("RUST_BACKTRACE", "1");
    command
}

fn standard_error(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().clone();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_a_command_there_is_help_and_a_usage_error() {
    let help = standard_error(&mut twtrace(&[]), 2);
    assert!(help.contains("Usage: twtrace") && help.contains("doctor"), "{help}");
}

#[test]
fn a_bad_value_is_a_usage_error_with_the_valid_form() {
    for (arguments, valid) in [
        (["top", "--dest", "nowhere"], "10.0.0.0/8:443"),
        (["top", "--user", "no such user"], "user name or uid"),
        (["top", "--duration", "soon"], "such as 500ms"),
        (["top", "--pid", "x"], "such as 1234"),
        (["top", "--ring-bytes", "1000"], "power of two"),
        (["top", "--once", "--never"], "unexpected argument"),
    ] {
        let error = standard_error(&mut twtrace(&arguments), 2);
        assert!(error.lines().next().is_some_and(|line| line.contains(valid)), "{error}");
    }
}

#[test]
fn bad_budgets_and_unknown_topics_are_usage_errors() {
    for (arguments, valid) in [
        (&["budget", "--rate", "0"][..], "a rate above 0"),
        (&["budget", "--range", "60999-32768"], "such as 32768-60999"),
        (&["budget", "--reserved", "http"], "such as 8080,9000-9100"),
        (&["explain", "tcp_tw_resue"], "did you mean tcp_tw_reuse?"),
    ] {
        let error = standard_error(&mut twtrace(arguments), 2);
        assert!(error.lines().next().is_some_and(|line| line.contains(valid)), "{error}");
    }
}

#[test]
fn budgets_and_topics_need_no_rights_and_no_trace() {
    let said = |arguments: &[&str]| {
        let output = twtrace(arguments).assert().code(0).get_output().clone();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let thousand = [
        "budget",
        "--rate",
        "1000",
        "--destinations",
        "1",
        "--range",
        "32768-60999",
        "--reserved",
        "",
        "--tw-reuse",
        "0",
    ];
    let text = said(&thousand);
    assert!(text.starts_with("Ports run out after 28.2s"), "{text}");
    let json = said(&[&thousand[..], &["--json"]].concat());
    assert_eq!(crate::schema::read("budget", &json)["outcome"]["ports_available"], 28_232);
    crate::schema::read("budget", &said(&["budget", "--json"]));
    assert!(said(&["budget"]).contains("connections/s"));
    assert!(said(&["explain"]).contains("exhaustion-near"));
    assert!(said(&["explain", "TIME_WAIT"]).contains("60 seconds"));
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["--version"], &["top", "--help"], &["doctor", "--help"]] {
        twtrace(arguments).assert().code(0);
    }
}

#[test]
fn help_has_an_example_of_each_use() {
    let output = twtrace(&["top", "--help"]).assert().get_output().clone();
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["Examples:", "--once --duration 30s --json", "--by parent", "Filters:", "CIDR[:PORT]", "[default: 1s]"]
    {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() -> std::io::Result<()> {
    // When help cannot be written, no error can be written either.
    let full = File::options().write(true).open("/dev/full")?;
    let status =
        std::process::Command::new(env!("CARGO_BIN_EXE_twtrace")).arg("--help").stdout(Stdio::from(full)).status()?;
    assert!(status.success());
    Ok(())
}
