//! Programs that run another command: the name comes from that command.

use super::options::{Arg, Options, Scan};
use super::{Call, Rule, command, file_name};

/// A program that runs the command among its arguments.
pub(super) struct Wrapper {
    pub(super) names: &'static [&'static str],
    options: Options,
    /// Operands of its own before the command, such as a duration or a file.
    operands: usize,
    /// Variables may be set before the command.
    variables: bool,
    /// With one of these, it works on running processes: there is no command.
    alone: &'static [&'static str],
}

const fn wrapper(names: &'static [&'static str], operands: usize, options: Options) -> Wrapper {
    Wrapper { names, options, operands, variables: false, alone: &[] }
}

pub(super) const WRAPPERS: &[Wrapper] = &[
    Wrapper {
        variables: true,
        ..wrapper(
            &["sudo"],
            0,
            Options::new("C:D:R:T:U:a:c:g:h:p:r:t:u:", &["--user", "--group", "--host", "--prompt", "--chdir"]),
        )
    },
    wrapper(&["doas"], 0, Options::new("C:a:u:", &[])),
    Wrapper { variables: true, ..wrapper(&["env"], 0, Options::new("C:u:", &["--unset", "--chdir"])) },
    wrapper(&["timeout"], 1, Options::new("k:s:", &["--kill-after", "--signal"])),
    wrapper(&["nohup", "setsid", "catatonit"], 0, Options::new("", &[])),
    wrapper(&["nice"], 0, Options::new("n:", &["--adjustment"])),
    Wrapper {
        alone: &["-p", "-P", "-u", "--pid", "--pgid", "--uid"],
        ..wrapper(&["ionice"], 0, Options::new("P:c:n:p:u:", &["--class", "--classdata"]))
    },
    wrapper(&["stdbuf"], 0, Options::new("e:i:o:", &["--input", "--output", "--error"])),
    wrapper(&["time"], 0, Options::new("f:o:", &["--format", "--output"])),
    wrapper(
        &["xargs"],
        0,
        Options::new(
            "E:I:L:P:a:d:e::i::l::n:s:",
            &["--arg-file", "--delimiter", "--max-args", "--max-chars", "--max-procs", "--process-slot-var"],
        ),
    ),
    Wrapper { alone: &["-p", "--pid"], ..wrapper(&["taskset"], 1, Options::new("p:", &["--pid"])) },
    Wrapper {
        alone: &["-p", "--pid"],
        ..wrapper(&["chrt"], 1, Options::new("D:P:T:p:", &["--sched-runtime", "--sched-period", "--sched-deadline"]))
    },
    wrapper(
        &["numactl"],
        0,
        Options::new("C:N:P:i:m:p:", &["--cpunodebind", "--interleave", "--membind", "--physcpubind", "--preferred"]),
    ),
    wrapper(&["su-exec", "gosu"], 1, Options::new("", &[])),
    wrapper(&["tini", "tini-static", "docker-init"], 0, Options::new("e:p:", &[])),
    wrapper(&["dumb-init"], 0, Options::new("r:", &["--rewrite"])),
    wrapper(&["flock"], 1, Options::new("E:w:", &["--conflict-exit-code", "--timeout", "--wait"])),
];

impl Wrapper {
    /// The name of the command that it runs; `None` when there is none.
    pub(super) fn name(&self, call: &Call<'_>) -> Option<String> {
        let mut operands = self.operands;
        let mut scan = Scan::new(&self.options, call.args);
        while let Some(arg) = scan.next() {
            match arg {
                Arg::Option(name, _) if self.alone.iter().any(|written| name.is(written)) => return None,
                // After its file, flock takes a command for the shell.
                Arg::Option(name, _) if self.operands > 0 && operands == 0 && name.is("-c") => {
                    return Some(shell_command(&call.inner("sh", &[]), scan.rest()));
                }
                Arg::Option(..) => {}
                Arg::Operand(at) => {
                    let word = *call.args.get(at)?;
                    if word == "-" || self.variables && is_assignment(word) {
                        continue;
                    }
                    if operands == 0 {
                        return command(call.args.get(at..)?, call.depth.saturating_sub(1));
                    }
                    operands -= 1;
                }
            }
        }
        None
    }
}

/// Commands that prepare the shell for the command that counts.
const PREPARING: &[&str] =
    &[".", "[", "[[", "cd", "echo", "export", "mkdir", "set", "sleep", "source", "test", "true", "ulimit", "umask"];

/// The name of a shell that was given a command: that of the first program if it has a rule, else the shell's name
/// followed by the program.
pub(super) fn shell_command(shell: &Call<'_>, words: &[&str]) -> String {
    let words = first_command(words);
    match words.first() {
        None => format!("{} -c", shell.name),
        Some(first) => {
            let call = shell.inner(first, words.get(1..).unwrap_or_default());
            let known = Rule::of(call.name).and_then(|_| command(&words, call.depth));
            known.or_else(|| call.by_rule()).unwrap_or_else(|| format!("{} -c {}", shell.name, file_name(first)))
        }
    }
}

/// The words of the first command that does something, without the quotes, brackets and separators around them.
fn first_command<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let prepares = |kept: &[&str]| kept.first().is_none_or(|first| PREPARING.contains(first));
    let mut kept: Vec<&str> = Vec::new();
    for word in words {
        let bare = word.trim_matches(['\'', '"', '`', '(', ')', '{', '}', ';']);
        let separates = word.starts_with(['|', '&', ';']);
        if redirects(word) && !prepares(&kept) {
            break;
        }
        if !(separates || kept.is_empty() && comes_before(bare)) {
            kept.push(bare);
        }
        if separates || word.ends_with(';') {
            if !prepares(&kept) {
                break;
            }
            kept.clear();
        }
    }
    kept
}

/// Whether a word may precede the command without being part of it.
fn comes_before(word: &str) -> bool {
    word.is_empty() || word == "exec" || word.starts_with('-') || redirects(word) || is_assignment(word)
}

/// Whether a word starts a redirection: `>`, `2>&1`.
fn redirects(word: &str) -> bool {
    word.trim_start_matches(|letter: char| letter.is_ascii_digit()).starts_with(['<', '>'])
}

/// Whether a word sets a variable: `NAME=value`.
fn is_assignment(word: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && !name.starts_with(|letter: char| letter.is_ascii_digit()) && name.chars().all(is_letter)
    })
}
