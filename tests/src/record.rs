//! `twtrace record` under test, and the commands that read what it wrote.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::schema;
use crate::top::await_attached;
use crate::tracer::{Place, program};

/// A ring buffer for about 150,000 records: other tests check what a small one loses.
pub const ROOMY: [&str; 2] = ["--ring-bytes", "64M"];

/// A running `twtrace record`. Dropping this before its end kills it.
pub struct Record {
    child: Option<Child>,
    path: PathBuf,
}

impl Record {
    /// Records in a place into a new directory, with a ring buffer that has room for a whole load, and waits until it
    /// traces.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start(place: &Place, path: &Path) -> Self {
        Self::start_with(place, path, &[])
    }

    /// The same with further arguments.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(place: &Place, path: &Path, arguments: &[&str]) -> Self {
        let mut command = of(path);
        command.args(ROOMY).args(arguments).stderr(Stdio::piped());
        let child = place.spawn(command);
        let pid = child.id();
        let record = Self { child: Some(child), path: path.to_owned() };
        await_attached(place, pid);
        record
    }

    /// Ends it with a signal and returns what it wrote to standard error.
    ///
    /// # Panics
    /// If it fails.
    pub fn end(self) -> String {
        self.end_by(Signal::SIGTERM)
    }

    /// The same with SIGINT, which cuts the last census short.
    ///
    /// # Panics
    /// As [`Self::end`].
    pub fn interrupt(self) -> String {
        self.end_by(Signal::SIGINT)
    }

    fn end_by(mut self, signal: Signal) -> String {
        let child = self.child.take().expect("it runs until it is ended");
        kill(Pid::from_raw(child.id() as i32), signal).expect("it runs");
        let output = child.wait_with_output().expect("a child can be waited for");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {said}", self.path.display());
        said
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Records a command in a place until the command ends. Returns the output of both.
///
/// # Panics
/// If one of them fails.
pub fn record_command(place: &Place, path: &Path, command: &Command) -> String {
    let mut record = of(path);
    record.arg("--").arg(command.get_program()).args(command.get_args());
    record.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = place.spawn(record).wait_with_output().expect("a child can be waited for");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    said
}

fn of(path: &Path) -> Command {
    let mut command = Command::new(program("twtrace"));
    command.args(["record", "-o"]).arg(path);
    command
}

/// The output of a command that reads recordings and must succeed without a warning.
///
/// # Panics
/// If it fails or writes anything to standard error.
pub fn output_of(folder: &Path, line: &str) -> String {
    let mut command = Command::new(program("twtrace"));
    let output = command.args(line.split_whitespace()).current_dir(folder).output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "twtrace {line}: {said}");
    String::from_utf8(output.stdout).expect("it writes UTF-8")
}

/// The same for a command that writes JSON, which must fit its schema.
///
/// # Panics
/// If it does not.
pub fn json_of(folder: &Path, line: &str) -> Value {
    let json = serde_json::from_str(&output_of(folder, line)).expect("it writes JSON");
    let form = match line.split(' ').next() {
        Some("diff") => &schema::DIFF,
        Some("replay") => &schema::TOP,
        _ => &schema::REPORT,
    };
    schema::assert_fits(form, &json);
    json
}
