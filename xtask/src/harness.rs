//! Runs a test binary, and reads what its harness prints: how long each test took, and why one failed.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process::say;

/// A test that takes longer is listed at the end, in seconds.
const SLOW_S: f64 = 5.0;

/// A message may hold a whole report. Its beginning says what is wrong.
const LINES: usize = 12;

/// Characters of a line.
const CHARS: usize = 1000;

/// A test and how long it took, in seconds.
pub(crate) type Slow = (String, f64);

/// What the tests reported that is shown once more at the end.
#[derive(Default)]
pub(crate) struct Seen {
    /// Tests that took long.
    slow: Vec<Slow>,
    /// The messages of those that failed.
    failed: Vec<String>,
}

impl Seen {
    /// The text for the end of a run. Empty if there is nothing to say.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.slow.is_empty() {
            let _ = write!(text, "\nslow tests{}\n", list(&self.slow));
        }
        // Last: the end of a long log is what people look at.
        if !self.failed.is_empty() {
            let _ = write!(text, "\nfailed tests\n{}\n", self.failed.join("\n"));
        }
        text
    }
}

/// Runs a test binary, passes its output on, and adds what it reports.
///
/// # Errors
/// It does not start, or a test failed.
pub(crate) fn run(command: &mut Command, seen: &mut Seen) -> Result<()> {
    // The only way to the time of each test; the harness has it behind an option of nightly compilers.
    command.env("RUSTC_BOOTSTRAP", "1").args(["-Zunstable-options", "--report-time"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start a test binary")?;
    let output = child.stdout.take().context("it has no output")?;
    let mut name = String::new();
    let mut failures = Failures::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what the tests print")?;
        say(&line);
        seen.slow.extend(timed(&line, &mut name).filter(|(_, time)| *time > SLOW_S));
        failures.read(&line);
    }
    seen.failed.extend(failures.into_messages());
    if child.wait()?.success() { Ok(()) } else { bail!("tests failed: see above") }
}

/// The messages of the tests that failed.
#[derive(Default)]
struct Failures {
    /// The test whose output is being read.
    name: String,
    messages: Vec<Vec<String>>,
    is_in_message: bool,
}

impl Failures {
    fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            name.clone_into(&mut self.name);
            self.is_in_message = false;
        } else if self.name.is_empty() {
            // The harness has not come to the failures yet.
        } else if line.contains(" panicked at ") {
            self.messages.push(vec![format!("  {}", self.name)]);
            self.is_in_message = true;
        } else if line.starts_with("note: run with") || line.starts_with("stack backtrace:") {
            self.is_in_message = false;
        } else if self.is_in_message
            && let Some(message) = self.messages.last_mut().filter(|message| message.len() <= LINES)
        {
            message.push(format!("    {}", line.chars().take(CHARS).collect::<String>()));
        }
    }

    fn into_messages(self) -> impl Iterator<Item = String> {
        self.messages.into_iter().map(|lines| lines.join("\n"))
    }
}

/// The test and its time that a line of the harness reports. With `--nocapture` the result is on a later line than the
/// name.
fn timed(line: &str, name: &mut String) -> Option<Slow> {
    if let Some((test, _)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
        test.clone_into(name);
    }
    let (rest, time) = line.strip_suffix("s>")?.rsplit_once('<')?;
    let is_result = rest.trim_end().ends_with("ok") || rest.trim_end().ends_with("FAILED");
    is_result.then(|| Some((name.clone(), time.parse().ok()?))).flatten()
}

/// The slow tests, the slowest first.
fn list(slow: &[Slow]) -> String {
    let mut sorted: Vec<&Slow> = slow.iter().collect();
    sorted.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let mut text = String::new();
    for (name, time) in sorted {
        let _ = write!(text, "\n  {time:7.1} s  {name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_the_harness() {
        let mut name = String::new();
        assert_eq!(timed("test a::b ... ok <5.720s>", &mut name), Some(("a::b".to_owned(), 5.72)));
        assert_eq!(timed("test a::c ... figures: <1>", &mut name), None);
        assert_eq!(timed("FAILED <61.000s>", &mut name), Some(("a::c".to_owned(), 61.0)));
        assert_eq!(timed("a line with <3s>", &mut name), None);
        assert_eq!(list(&[("a".to_owned(), 6.0), ("b".to_owned(), 7.25)]), "\n      7.2 s  b\n      6.0 s  a");
    }

    #[test]
    fn messages_of_failed_tests_are_read_from_the_harness() {
        let mut failures = Failures::default();
        for line in [
            "test a::b ... FAILED <1.000s>",
            "the child panicked at its own risk",
            "",
            "failures:",
            "",
            "---- a::b stdout ----",
            "    a figure",
            "thread 'a::b' (7) panicked at tests/a.rs:3:5:",
            "one of two",
            "two of two",
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
            "",
            "failures:",
            "    a::b",
        ] {
            failures.read(line);
        }
        assert_eq!(failures.into_messages().collect::<Vec<_>>(), ["  a::b\n    one of two\n    two of two"]);
    }
}
