//! The exit code of a command that fails on findings.

use crate::cli::FailOn;
use std::io::{self, Write as _};
use std::process::ExitCode;
use twtrace_core::snapshot::Snapshot;
use twtrace_view::findings;

/// 1 when a requested finding is in one of the snapshots, which is reported on standard error; else 0.
pub(crate) fn exit_code(fail_on: Option<&FailOn>, snapshots: &[&Snapshot]) -> ExitCode {
    let Some(line) = snapshots.iter().find_map(|snapshot| failing(fail_on, snapshot)) else { return ExitCode::SUCCESS };
    // The exit code says it too.
    let _ = writeln!(io::stderr(), "twtrace: {line}");
    ExitCode::FAILURE
}

/// The line about the first requested finding.
pub(crate) fn failing(fail_on: Option<&FailOn>, snapshot: &Snapshot) -> Option<String> {
    let finding = fail_on?.first(snapshot.findings())?;
    let (severity, subject) = (findings::severity(finding.severity), findings::subject(finding, Some(snapshot)));
    Some(format!("failed on {severity} {}: {subject}: {}", finding.rule.name(), findings::title(finding)))
}
