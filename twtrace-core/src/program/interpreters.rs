//! Programs that run a script: how the script is found among their arguments, and what it is called.

use super::options::{Arg, Name, Options, Scan};
use super::{Call, Rule, file_name, wrappers};

/// A program that runs a script: its first operand, unless an option says otherwise.
pub(super) struct Interpreter {
    /// Without a version: `python` is `python3.11` too.
    names: &'static [&'static str],
    options: Options,
    /// Options after which no script is looked for.
    ends: &'static [(&'static str, End)],
}

/// What an option says about the script.
#[derive(Clone, Copy)]
enum End {
    /// There is none: the code is the value, or the program does something else. The option is shown in this form.
    Shown(&'static str),
    /// The value is the name of a module, which is shown with the option unless it has a rule of its own.
    Module(&'static str),
    /// The value is the name of a task, which is shown with the option.
    Task(&'static str),
    /// The value is the script.
    Script,
    /// The words that follow are a command for a shell.
    Command,
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["python", "pypy"],
        options: Options::new("c:m:W:X:Q:", &["--check-hash-based-pycs"]),
        ends: &[("-c", End::Shown("-c")), ("-m", End::Module("-m"))],
    },
    Interpreter {
        names: &["node", "nodejs", "ts-node"],
        options: Options::new("r:C:e:p:", NODE_VALUED),
        ends: &[
            ("-e", End::Shown("-e")),
            ("--eval", End::Shown("-e")),
            ("-p", End::Shown("-p")),
            ("--print", End::Shown("-p")),
            ("--run", End::Task("--run")),
        ],
    },
    Interpreter {
        names: &["php"],
        options: Options::new("d:c:f:t:z:r:B:R:F:E:S:", &["--define", "--php-ini", "--file", "--docroot"]),
        ends: &[
            ("-r", End::Shown("-r")),
            ("--run", End::Shown("-r")),
            ("-R", End::Shown("-R")),
            ("-S", End::Shown("-S")),
            ("--server", End::Shown("-S")),
            ("-f", End::Script),
            ("--file", End::Script),
            ("-F", End::Script),
        ],
    },
    Interpreter {
        names: &["ruby", "jruby", "truffleruby"],
        options: Options::new("e:I:r:C:E:F::K::T::W::i::x::0::", &["--encoding", "--external-encoding"]),
        ends: &[("-e", End::Shown("-e"))],
    },
    Interpreter {
        names: &["perl"],
        options: Options::new("e:E:I:C::D::F::M::V::d::i::m::x::", &[]),
        ends: &[("-e", End::Shown("-e")), ("-E", End::Shown("-e"))],
    },
    Interpreter {
        names: &["sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "rbash"],
        options: Options::with_plus("o:O:", &["--rcfile", "--init-file", "--init-command"]),
        ends: &[("-c", End::Command), ("--command", End::Command)],
    },
    Interpreter {
        names: &["lua", "luajit"],
        options: Options::new("e:l:j:O::", &[]),
        ends: &[("-e", End::Shown("-e"))],
    },
    Interpreter { names: &["Rscript"], options: Options::new("e:", &[]), ends: &[("-e", End::Shown("-e"))] },
    Interpreter {
        // What Rscript becomes.
        names: &["R"],
        options: Options::new("e:f:", &[]),
        ends: &[("-e", End::Shown("-e")), ("-f", End::Script), ("--file", End::Script)],
    },
    Interpreter { names: &["tclsh", "wish"], options: Options::new("", &["-encoding"]), ends: &[] },
    Interpreter {
        names: &["expect"],
        options: Options::new("c:f:", &[]),
        ends: &[("-c", End::Shown("-c")), ("-f", End::Script)],
    },
    Interpreter {
        names: &["groovy"],
        options: Options::new("e:D:c:", &["-cp", "-classpath", "--classpath", "--configscript"]),
        ends: &[("-e", End::Shown("-e"))],
    },
];

const NODE_VALUED: &[&str] = &[
    "--conditions",
    "--debug-port",
    "--diagnostic-dir",
    "--disable-warning",
    "--dns-result-order",
    "--env-file",
    "--experimental-loader",
    "--icu-data-dir",
    "--import",
    "--input-type",
    "--inspect-port",
    "--loader",
    "--max-http-header-size",
    "--openssl-config",
    "--project",
    "--redirect-warnings",
    "--require",
    "--run",
    "--stack-trace-limit",
    "--title",
    "--tsconfig",
    "--unhandled-rejections",
    "--watch-path",
];

/// Script names that say too little: they are shown with their folder.
const COMMON: &[&str] = &[
    "__main__.py",
    "app.jar",
    "app.js",
    "app.py",
    "app.rb",
    "app.ts",
    "index.js",
    "index.php",
    "index.ts",
    "main.js",
    "main.py",
    "main.ts",
    "manage.py",
    "run.py",
    "run.sh",
    "server.js",
    "server.py",
    "server.ts",
    "start.sh",
];

/// Folder names that say nothing about what is in them.
const FOLDERS: &[&str] = &["", ".", "..", "app", "bin", "build", "dist", "lib", "src"];

/// The interpreter of this name, whatever its version.
pub(super) fn by_name(name: &str) -> Option<&'static Interpreter> {
    let plain = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.').trim_end_matches('-');
    INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&plain))
}

impl Interpreter {
    /// The name of what it runs.
    pub(super) fn name(&self, call: &Call<'_>) -> Option<String> {
        let mut scan = Scan::new(&self.options, call.args);
        while let Some(arg) = scan.next() {
            match arg {
                Arg::Operand(at) => return script(call, call.args.get(at)?, call.args.get(at + 1..)?),
                Arg::Option(name, value) => {
                    if let Some(end) = self.end(name) {
                        return end.name(call, value, scan.rest());
                    }
                }
            }
        }
        None
    }

    fn end(&self, name: Name<'_>) -> Option<End> {
        self.ends.iter().find(|(written, _)| name.is(written)).map(|(_, end)| *end)
    }
}

impl End {
    fn name(self, call: &Call<'_>, value: Option<&str>, rest: &[&str]) -> Option<String> {
        match self {
            Self::Shown(option) => Some(format!("{} {option}", call.name)),
            // `python3 -m gunicorn` is the same as `gunicorn`. Wrappers and interpreters are not modules.
            Self::Module(option) => match Rule::of(value?) {
                Some(Rule::Own(_)) => call.inner(value?, rest).by_rule(),
                _ => Self::Task(option).name(call, value, rest),
            },
            Self::Task(option) => Some(format!("{} {option} {}", call.name, value?)),
            Self::Script => Some(script_name(value?)),
            Self::Command => Some(wrappers::shell_command(call, rest)),
        }
    }
}

/// The name of a script with its arguments: the name from its own rule, for one that starts something else.
pub(super) fn script(call: &Call<'_>, path: &str, args: &[&str]) -> Option<String> {
    // The standard input, or a pipe as in `bash <(curl ...)`: a number would say nothing.
    (path != "-" && !path.starts_with("/dev/") && !path.starts_with("/proc/self/fd/"))
        .then(|| call.inner(path, args).by_rule().unwrap_or_else(|| script_name(path)))
}

/// The file name of a script, with its folder where the name alone says too little and the folder says something.
pub(super) fn script_name(path: &str) -> String {
    let name = file_name(path);
    let folder = path.strip_suffix(name).map_or("", |folder| folder.trim_end_matches('/'));
    let folder = folder.rsplit('/').next().unwrap_or_default();
    if COMMON.contains(&name) && !FOLDERS.contains(&folder) { format!("{folder}/{name}") } else { name.to_owned() }
}
