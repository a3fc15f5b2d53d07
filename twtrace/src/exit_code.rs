//! The exit code of a command that fails on findings.

use crate::cli::FailOn;
use std::io::{self, Write as _};
use std::process::ExitCode;
use twtrace_core::finding::Finding;
use twtrace_view::findings;

/// 1 when there is a requested finding, which is reported on standard error; else 0.
pub(crate) fn exit_code(fail_on: Option<&FailOn>, found: &[Finding]) -> ExitCode {
    let Some(line) = failing(fail_on, found) else { return ExitCode::SUCCESS };
    // The exit code says it too.
    let _ = writeln!(io::stderr(), "twtrace: {line}");
    ExitCode::FAILURE
}

/// The line about the first requested finding.
pub(crate) fn failing(fail_on: Option<&FailOn>, found: &[Finding]) -> Option<String> {
    let finding = fail_on?.first(found)?;
    let (severity, subject) = (findings::severity(finding.severity), findings::subject(finding, None));
    Some(format!("failed on {severity} {}: {subject}: {}", finding.rule.name(), findings::title(finding)))
}
