//! Programs for DuckDB, polars and pandas.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Once;

use serde::Serialize;
use serde_json::Value;

/// Reads a list of programs, and writes the rows that each answers with.
const RUNNER: &str = include_str!("rows.py");

/// A query, or a program that leaves a table in `answer`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Program {
    /// `sql` for DuckDB, or `python`.
    pub(crate) language: String,
    /// Its text.
    pub(crate) code: String,
}

/// Runs programs in a folder. Returns the rows of each, with numbers as floating point and times as seconds since the
/// Unix epoch; or what went wrong.
///
/// # Panics
/// If there is no Python, or it fails itself.
pub(crate) fn rows(folder: &std::path::Path, programs: &[Program]) -> Vec<Result<Vec<Vec<Value>>, String>> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| xtask::python::install().expect("Python and its libraries"));
    let mut command = Command::new(xtask::python::interpreter());
    command.args(["-c", RUNNER]).current_dir(folder).env("TZ", "UTC");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
    let input = serde_json::to_vec(programs).expect("text can be written as JSON");
    child.stdin.take().expect("it was asked for").write_all(&input).expect("it reads all of its input");
    let output = child.wait_with_output().expect("a child can be waited for");
    assert!(output.status.success(), "the runner failed");
    #[derive(serde::Deserialize)]
    struct Answer {
        rows: Option<Vec<Vec<Value>>>,
        error: Option<String>,
    }
    let answers: Vec<Answer> = serde_json::from_slice(&output.stdout).expect("the runner writes JSON");
    let result = |answer: Answer| answer.rows.ok_or_else(|| answer.error.unwrap_or_default());
    answers.into_iter().map(result).collect()
}
