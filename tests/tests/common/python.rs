//! Python with the packages of `requirements.txt`, in an environment of its own that is made once.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::Value;

const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Reads a list of programs, and writes the rows that each answers with.
const RUNNER: &str = include_str!("rows.py");

/// A query, or a program that leaves a table in `answer`.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// `sql` for DuckDB, or `python`.
    pub language: String,
    /// Its text.
    pub code: String,
}

/// The interpreter. Installed in the cache of `cargo xtask`, anew when the requirements have changed.
///
/// # Panics
/// When it cannot be installed.
pub fn python() -> PathBuf {
    let place = xtask::workspace::cache().join("python");
    let (interpreter, installed) = (place.join("bin/python"), place.join("requirements.txt"));
    let is_current = || std::fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENTS);
    // Tests in several processes may come here at the same time.
    std::fs::create_dir_all(&place).expect("the cache can be written to");
    let lock = std::fs::File::open(&place).expect("it was just made");
    lock.lock().expect("a directory can be locked");
    if !is_current() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place));
        let wanted = place.join("wanted.txt");
        std::fs::write(&wanted, REQUIREMENTS).expect("the cache can be written to");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        run(Command::new(&interpreter).args(pip).arg(&wanted));
        std::fs::rename(&wanted, &installed).expect("the cache can be written to");
    }
    interpreter
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs programs in a folder. Gives the rows of each, numbers as floating-point ones and times as seconds since the Unix
/// epoch; or what went wrong.
///
/// # Panics
/// When Python itself fails.
pub fn rows(folder: &std::path::Path, programs: &[Program]) -> Vec<Result<Vec<Vec<Value>>, String>> {
    let mut command = Command::new(python());
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
