//! The name by which an operator knows a process. `python3`, `java` or `sh` say nothing: the script, the jar, the pool
//! or the application does.
//!
//! Command lines are stored with their arguments joined by single spaces, so an argument with a space in it looks like
//! several here. The rules take the first informative word and never need to know where such an argument ends, but a
//! value with spaces before the script can still be mistaken for the script.
//!
//! The process chose all of the text. Names are cut to [`MAX_NAME`] characters and otherwise unchanged: control
//! characters are not escaped here, views do that.

mod interpreters;
mod java;
mod options;
mod tools;
mod wrappers;

#[cfg(test)]
mod tests;

/// Longest name, in characters.
pub const MAX_NAME: usize = 64;

/// Maximum number of nested commands examined, so that hostile input costs a few passes and not one per word.
const MAX_DEPTH: u8 = 8;

/// A process by the name that an operator uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Program {
    /// Short name for a column, such as `billing.jar`, `gunicorn app:api` or `php-fpm: pool www`. Hostile input.
    pub name: String,
}

/// The program of a process, from what is known of it: its name in the kernel, `/proc/PID/exe`, and
/// `/proc/PID/cmdline` with its arguments joined by single spaces.
///
/// `comm` names kernel threads and processes that were gone before they could be read. `exe` is used where the command
/// line does not name the program: an empty first argument, or a process that re-executed itself through
/// `/proc/self/exe`. A busybox applet that was called by its own name has that name (`wget`), as `ps` shows it.
pub fn of(comm: &str, exe: Option<&str>, cmdline: Option<&str>) -> Program {
    let line = cmdline.unwrap_or_default();
    let mut words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let exe =
        exe.map(|exe| exe.strip_suffix(" (deleted)").unwrap_or(exe)).filter(|exe| !exe.is_empty()).unwrap_or(comm);
    match words.first_mut() {
        Some(_) if line.starts_with(' ') => words.insert(0, exe),
        Some(first) if *first == "/proc/self/exe" => *first = exe,
        _ => {}
    }
    if let Some(path) = words.first()
        && is_named_by_itself(comm, &Call::new(path, words.get(1..).unwrap_or_default(), MAX_DEPTH))
    {
        return Program { name: cut(comm.to_owned()) };
    }
    Program { name: program(comm, &words) }
}

/// Whether a process without a rule has set a name other than its file's (`PR_SET_NAME`): this distinguishes workers
/// that were forked from one program. The kernel keeps 15 bytes of a name.
fn is_named_by_itself(comm: &str, call: &Call<'_>) -> bool {
    // A process that re-executed itself through /proc/self/exe is called `exe`.
    let is_name = !matches!(comm, "" | "exe") && !call.name.starts_with(comm);
    is_name && !call.title && call.by_rule().is_none() && Rule::of(call.name).is_none()
}

/// The name of a program with these arguments, the first of which is its own; `comm` without arguments.
pub fn program(comm: &str, cmdline: &[&str]) -> String {
    cut(command(cmdline, MAX_DEPTH).unwrap_or_else(|| comm.to_owned()))
}

/// How programs with certain names are distinguished.
enum Rule {
    /// By the script that they run.
    Script(&'static interpreters::Interpreter),
    /// By the command that they run.
    Wrapped(&'static wrappers::Wrapper),
    /// By a rule of their own.
    Own(&'static tools::Tool),
}

impl Rule {
    fn of(name: &str) -> Option<Self> {
        let own = || tools::TOOLS.iter().find(|tool| tool.names.contains(&name)).map(Self::Own);
        let wrapped = || wrappers::WRAPPERS.iter().find(|wrapper| wrapper.names.contains(&name)).map(Self::Wrapped);
        own().or_else(wrapped).or_else(|| interpreters::by_name(name).map(Self::Script))
    }
}

/// A command as the rules see it.
#[derive(Clone, Copy)]
struct Call<'a> {
    /// The program as it was called, with its folder.
    path: &'a str,
    /// Its file name.
    name: &'a str,
    /// The program wrote a title such as `nginx: worker process` over its arguments.
    title: bool,
    /// What follows the program.
    args: &'a [&'a str],
    /// How many more nested commands may be examined.
    depth: u8,
}

impl<'a> Call<'a> {
    fn new(path: &'a str, args: &'a [&'a str], depth: u8) -> Self {
        // Login shells have a dash before their name.
        let called = path.strip_prefix('-').filter(|rest| !rest.is_empty()).unwrap_or(path);
        let name = file_name(called);
        match name.strip_suffix(':').map(|title| title.trim_start_matches('[')).filter(|title| !title.is_empty()) {
            Some(title) => Self { path, name: title, title: true, args, depth },
            None => Self { path, name, title: false, args, depth },
        }
    }

    /// A command that this one runs.
    fn inner<'b>(&self, path: &'b str, args: &'b [&'b str]) -> Call<'b> {
        Call::new(path, args, self.depth.saturating_sub(1))
    }

    /// The name from its rule; `None` when there is no rule, or the rule finds nothing better than the name.
    fn by_rule(&self) -> Option<String> {
        if self.depth == 0 {
            return None;
        }
        match Rule::of(self.name) {
            Some(Rule::Own(tool)) => Some(tool.name(self)),
            // The words of a title are not arguments.
            _ if self.title => None,
            Some(Rule::Script(interpreter)) => interpreter.name(self),
            Some(Rule::Wrapped(wrapper)) => wrapper.name(self),
            None if self.path.contains("node_modules/.bin/") => tools::with_subcommand(self),
            None => None,
        }
    }
}

/// The name of a command; `None` when there are no words.
fn command(words: &[&str], depth: u8) -> Option<String> {
    let (path, args) = words.split_first()?;
    let call = Call::new(path, args, depth);
    Some(call.by_rule().unwrap_or_else(|| call.name.to_owned()))
}

/// The last part of a path, or the whole text when it has only one.
fn file_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    trimmed.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

fn cut(mut name: String) -> String {
    if let Some((end, _)) = name.char_indices().nth(MAX_NAME) {
        name.truncate(end);
    }
    name
}
