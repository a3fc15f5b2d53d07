//! The programs of all tests, built once: unit tests, live tests, and what they run here and in virtual machines.
//!
//! They are built as users build them. Guests, which have nothing else, get the libraries that these programs load.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::harness::{self, Seen};
use crate::process::{cargo, output, run as run_command, say};
use crate::workspace::root;

/// The profile in the workspace's manifest.
pub(crate) const PROFILE: &str = "tested";

/// The binary of the live tests.
pub(crate) const LIVE: &str = "live";

/// Random inputs are the same each time: a run shows whether a change has broken something. To find faults by chance is
/// the purpose of `cargo xtask fuzz`, and of `cargo test` by hand.
const SEED: &str = "1";

/// Live tests that take the host for themselves, by the beginning of their names: they load it as much as they can, or
/// compare host-wide figures. All others have namespaces of their own and wait for the kernel's timers most of the time.
const ALONE: [&str; 21] = [
    "agent::",
    "attach::",
    "audit::",
    "cages::",
    "cost::",
    "exact::",
    "findings::",
    "ground_truth::",
    "instances::",
    "keys::",
    "losses::",
    "million::",
    "namespaces::",
    "one_shots::",
    "prometheus::",
    "recordings::",
    "runtimes::",
    "scale::",
    "socket_owners::",
    "sockets::",
    "what_if::",
];

/// Everything that was built.
pub(crate) struct Tested {
    /// Test binaries by package, with the folder that they run in.
    tests: Vec<TestBinary>,
    /// Programs by name.
    programs: BTreeMap<String, PathBuf>,
}

struct TestBinary {
    package: String,
    name: String,
    file: PathBuf,
    folder: PathBuf,
}

/// `cargo test` with the arguments that all steps share: others would build the graph again.
fn cargo_test() -> Command {
    let mut command = cargo();
    command.args(["test", "--workspace", "--profile", PROFILE]);
    command
}

impl Tested {
    /// Builds them.
    ///
    /// # Errors
    /// They do not build.
    pub(crate) fn build() -> Result<Self> {
        let mut command = cargo_test();
        command.arg("--no-run");
        Self::from(command, "all tests and the programs that they run")
    }

    /// What this command of cargo's builds.
    ///
    /// # Errors
    /// It does not build.
    pub(crate) fn from(mut command: Command, what: &str) -> Result<Self> {
        command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        say(&format!("building {what}"));
        let mut child = command.spawn().context("cannot start cargo")?;
        let output = child.stdout.take().context("cargo has no output")?;
        let mut tested = Self { tests: Vec::new(), programs: BTreeMap::new() };
        for line in BufReader::new(output).lines() {
            let line = line.context("cannot read what cargo prints")?;
            // What does not parse is no message.
            if let Ok(message) = serde_json::from_str(&line) {
                tested.add(&message);
            }
        }
        if !child.wait()?.success() {
            bail!("{what} do not build");
        }
        tested.tests.sort_by(|one, other| (&one.package, &one.name).cmp(&(&other.package, &other.name)));
        Ok(tested)
    }

    /// Takes what one of cargo's messages says was built.
    fn add(&mut self, message: &Value) -> Option<()> {
        let file = PathBuf::from(message.get("executable")?.as_str()?);
        let target = message.get("target")?;
        let name = target.get("name")?.as_str()?.to_owned();
        if message.pointer("/profile/test")?.as_bool()? {
            let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?.to_owned();
            let package = folder.file_name()?.to_str()?.to_owned();
            self.tests.push(TestBinary { package, name, file, folder });
        } else if target.get("kind")?.as_array()?.iter().any(|kind| kind == "bin" || kind == "example") {
            self.programs.insert(name, file);
        }
        Some(())
    }

    /// A program that was built.
    ///
    /// # Errors
    /// There is none of that name.
    pub(crate) fn program(&self, name: &str) -> Result<&Path> {
        self.programs.get(name).map(PathBuf::as_path).with_context(|| format!("cargo built no program {name}"))
    }

    /// The binary of the live tests.
    ///
    /// # Errors
    /// It was not built.
    pub(crate) fn live(&self) -> Result<&Path> {
        let found = self.tests.iter().find(|test| test.name == LIVE);
        found.map(|test| test.file.as_path()).context("cargo built no live tests")
    }

    /// Runs all tests but the live ones, and adds what they report.
    ///
    /// # Errors
    /// Names the binaries with a test that failed.
    pub(crate) fn unit(&self, seen: &mut Seen) -> Result<()> {
        let mut failed = Vec::new();
        for test in self.tests.iter().filter(|test| test.name != LIVE) {
            let name = format!("{} ({})", test.package, test.name);
            say(&format!("\n{name}"));
            let mut command = Command::new(&test.file);
            command.current_dir(&test.folder).env("CARGO_MANIFEST_DIR", &test.folder).env("PROPTEST_RNG_SEED", SEED);
            match harness::run(&mut command, seen) {
                Ok(()) => {}
                Err(_) => failed.push(name),
            }
        }
        run_command(cargo_test().args(["--doc", "--quiet"]))?;
        if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
    }

    /// Runs the live tests with this object, and adds what they report. Most run side by side; those that take the host for
    /// themselves follow.
    ///
    /// # Errors
    /// A test failed, or there is none of a name in [`ALONE`].
    pub(crate) fn live_tests(&self, object: &Path, seen: &mut Seen) -> Result<()> {
        let listed = output(Command::new(self.live()?).args(["--list", "--format=terse"]))?;
        if let Some(name) = ALONE.iter().find(|name| !listed.contains(*name)) {
            bail!("there is no live test {name}");
        }
        let skipped: Vec<&str> = ALONE.iter().flat_map(|name| ["--skip", name]).collect();
        let mut failed = false;
        for (what, arguments, threads) in [("side by side", &skipped[..], "6"), ("alone", &ALONE[..], "1")] {
            say(&format!("\nlive tests {what}"));
            let mut command = Command::new(self.live()?);
            command.current_dir(root().join("tests")).env("TWTRACE_BPF_OBJECT", object);
            failed |= harness::run(command.args(arguments).args(["--test-threads", threads]), seen).is_err();
        }
        if failed { bail!("tests failed: see above") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn what_cargo_built_is_read_from_its_messages() {
        let mut tested = Tested { tests: Vec::new(), programs: BTreeMap::new() };
        for message in [
            r#"{"reason":"build-finished"}"#,
            r#"{"target":{"name":"a","kind":["lib"]},"profile":{"test":false},"executable":null}"#,
            r#"{"target":{"name":"a","kind":["bin"]},"profile":{"test":false},"executable":"/x/a"}"#,
            r#"{"target":{"name":"live","kind":["test"]},"profile":{"test":true},"executable":"/x/live-1","manifest_path":"/w/tests/Cargo.toml"}"#,
        ] {
            tested.add(&serde_json::from_str(message).unwrap());
        }
        assert_eq!(tested.program("a").unwrap(), Path::new("/x/a"));
        assert!(tested.program("b").is_err());
        assert_eq!(tested.live().unwrap(), Path::new("/x/live-1"));
        assert_eq!(tested.tests[0].package, "tests");
    }
}
