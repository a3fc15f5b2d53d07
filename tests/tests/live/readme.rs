//! Runs the commands that README.md shows.
//!
//! A fenced block is run when the word `test` follows its language:
//!
//! ````text
//! ```console test exit=0 expect="TIME_WAIT now"
//! $ sudo twtrace top --once --duration 2s
//! what a reader sees; not compared
//! ```
//! ````
//!
//! - In a `console` block the lines after `$ ` are commands, the others are output. In an `sh` block every line is
//!   part of the script.
//! - The block is one bash script; it must end with `exit=N` (0 when not given), and a command that fails before the
//!   last one ends it.
//! - Each `expect="..."` must occur in what the block printed, standard output and standard error together.
//! - `twtrace` and `cargo run --release --` both mean the binary that was built with these tests; `sudo` is left out.
//! - Each block starts in the same empty folder, so that a block can read what an earlier one wrote, and has two
//!   minutes.
//!
//! Blocks that must not be run (installing, examples for other machines) have no `test`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A fenced block to run.
#[derive(Debug, PartialEq)]
struct Block {
    /// Line of its fence in the README.
    line: usize,
    script: String,
    exit: i32,
    expect: Vec<String>,
}

fn parse(readme: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let fence: String = line.chars().take_while(|&c| c == '`').collect();
        if fence.len() < 3 {
            continue;
        }
        let body: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim_end() != fence).collect();
        let (language, options) = line[fence.len()..].trim().split_once(' ').unwrap_or_default();
        let Some(options) = options.trim().strip_prefix("test").filter(|_| ["console", "sh"].contains(&language))
        else {
            continue;
        };
        let (exit, expect) = parse_options(options).map_err(|error| format!("line {}: {error}", index + 1))?;
        let script = if language == "sh" { body.join("\n") } else { commands(&body) };
        if script.trim().is_empty() {
            return Err(format!("line {}: a block to test without a command", index + 1));
        }
        blocks.push(Block { line: index + 1, script: for_this_build(&script), exit, expect });
    }
    Ok(blocks)
}

/// Reads `exit=N expect="..."`.
fn parse_options(mut rest: &str) -> Result<(i32, Vec<String>), String> {
    let (mut exit, mut expect) = (0, Vec::new());
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok((exit, expect));
        } else if let Some(after) = rest.strip_prefix("expect=\"") {
            let (text, after) = after.split_once('"').ok_or("expect without its closing quote")?;
            expect.push(text.to_owned());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("exit=") {
            let (number, after) = after.split_once(' ').unwrap_or((after, ""));
            exit = number.parse().map_err(|_| format!("exit={number} is no number"))?;
            rest = after;
        } else {
            return Err(format!("unknown option: {rest}"));
        }
    }
}

/// The commands of a console block: what follows `$ `, and the lines that a backslash joins to it.
fn commands(body: &[&str]) -> String {
    let mut script = String::new();
    let mut goes_on = false;
    for line in body {
        let command = if goes_on { Some(*line) } else { line.strip_prefix("$ ") };
        goes_on = command.is_some_and(|command| command.ends_with('\\'));
        if let Some(command) = command {
            script.push_str(command);
            script.push('\n');
        }
    }
    script
}

fn for_this_build(script: &str) -> String {
    script.replace("sudo ", "").replace("cargo run --release -- ", "twtrace ")
}

/// The folder with the `twtrace` that cargo built in the profile of this test.
fn binaries() -> PathBuf {
    let test = env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap().to_path_buf();
    assert!(
        folder.join("twtrace").is_file(),
        "no twtrace in {}: run `cargo build --package twtrace` first, with `--release` if the test has it",
        folder.display()
    );
    folder
}

fn run(block: &Block, folder: &Path) -> Result<(), String> {
    let path =
        env::join_paths([binaries()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())));
    let output = Command::new("timeout")
        .args(["120", "bash", "-e", "-o", "pipefail", "-c", &format!("exec 2>&1\n{}", block.script)])
        .current_dir(folder)
        .env("PATH", path.unwrap())
        .output()
        .map_err(|error| format!("cannot start timeout and bash: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let shown = format!("README.md line {}:\n{}\nit printed:\n{printed}", block.line, block.script);
    if output.status.code() != Some(block.exit) {
        return Err(format!("{} instead of exit status {}: {shown}", output.status, block.exit));
    }
    match block.expect.iter().find(|text| !printed.contains(*text)) {
        Some(missing) => Err(format!("`{missing}` was not printed: {shown}")),
        None => Ok(()),
    }
}

#[test]
fn commands_of_the_readme_work() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&readme).unwrap_or_else(|error| panic!("{}: {error}", readme.display()));
    let blocks = parse(&readme).unwrap();
    assert!(!blocks.is_empty(), "README.md has no block to test");
    let folder = tempfile::tempdir().unwrap();
    let failures: Vec<String> = blocks.iter().filter_map(|block| run(block, folder.path()).err()).collect();
    assert!(failures.is_empty(), "{} of {} blocks failed\n{}", failures.len(), blocks.len(), failures.join("\n"));
}

#[test]
fn test_blocks_are_found_and_others_ignored() {
    let readme = "text\n\
        ```console test exit=2 expect=\"a b\" expect=\"c\"\n$ sudo twtrace top \\\n  --once\noutput\n$ echo\n```\n\
        ```sh\nrm -rf x\n```\n\
        ````text\n```sh test\nnot this\n```\n````\n\
        ```sh test\n# comment\ncargo run --release -- doctor\n```\n";
    let blocks = parse(readme).unwrap();
    assert_eq!(
        blocks,
        [
            Block {
                line: 2,
                script: "twtrace top \\\n  --once\necho\n".to_owned(),
                exit: 2,
                expect: vec!["a b".to_owned(), "c".to_owned()],
            },
            Block { line: 16, script: "# comment\ntwtrace doctor".to_owned(), exit: 0, expect: vec![] },
        ]
    );
}

#[test]
fn mistakes_in_the_readme_are_named() {
    assert_eq!(parse("```sh test exit=x\ntrue\n```").unwrap_err(), "line 1: exit=x is no number");
    assert_eq!(parse("```sh test wrong\ntrue\n```").unwrap_err(), "line 1: unknown option: wrong");
    assert_eq!(parse("\n```console test\nonly output\n```").unwrap_err(), "line 2: a block to test without a command");
}

#[test]
fn block_with_another_result_fails() {
    let folder = tempfile::tempdir().unwrap();
    let block = |script: &str, exit, expect: &str| Block {
        line: 1,
        script: script.to_owned(),
        exit,
        expect: vec![expect.to_owned()],
    };
    assert_eq!(run(&block("echo yes >&2; (exit 3)", 3, "yes"), folder.path()), Ok(()));
    assert!(run(&block("false\necho yes", 0, "yes"), folder.path()).is_err());
    assert!(run(&block("echo yes", 1, "yes"), folder.path()).is_err());
    assert!(run(&block("echo yes", 0, "no"), folder.path()).unwrap_err().contains("`no` was not printed"));
}
