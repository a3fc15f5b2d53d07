//! Programs with a rule of their own.

use super::interpreters::{script, script_name};
use super::java::java;
use super::options::{Arg, Options, Scan, operand};
use super::{Call, Rule, command, file_name};

/// A program with a rule of its own.
pub(super) struct Tool {
    /// Its names; the first one is shown.
    pub(super) names: &'static [&'static str],
    rule: fn(&Call<'_>) -> Option<String>,
}

const fn tool(names: &'static [&'static str], rule: fn(&Call<'_>) -> Option<String>) -> Tool {
    Tool { names, rule }
}

pub(super) const TOOLS: &[Tool] = &[
    tool(&["java"], java),
    tool(&["gunicorn", "gunicorn3"], web_server),
    tool(&["uvicorn"], web_server),
    tool(&["hypercorn"], web_server),
    tool(&["daphne"], web_server),
    tool(&["uwsgi", "uWSGI", "uwsgi-core"], uwsgi),
    tool(&["celery", "celeryd"], with_application),
    tool(&["flask"], with_application),
    tool(&["puma"], titled),
    tool(&["sidekiq"], sidekiq),
    tool(&["php-fpm"], php_fpm),
    tool(&["rails"], with_subcommand),
    tool(&["rake"], with_subcommand),
    tool(&["bundle", "bundler"], bundle),
    tool(&["artisan"], php_console),
    tool(&["console"], symfony_console),
    tool(&["npm", "npm-cli.js"], package_manager),
    tool(&["npx", "npx-cli.js"], npx),
    tool(&["yarn", "yarn.js", "yarnpkg"], package_manager),
    tool(&["pnpm", "pnpm.cjs", "pnpm.js"], package_manager),
    tool(&["bun"], runtime),
    tool(&["deno"], runtime),
    tool(&["dotnet"], runtime),
    tool(&["busybox"], busybox),
];

impl Tool {
    /// The name from its rule, else its own name.
    pub(super) fn name(&self, call: &Call<'_>) -> String {
        let shown = self.names.first().copied().unwrap_or(call.name);
        (self.rule)(&Call { name: shown, ..*call }).unwrap_or_else(|| shown.to_owned())
    }
}

static PLAIN: Options = Options::new("", &[]);

/// A program whose first operand says what it does.
pub(super) fn with_subcommand(call: &Call<'_>) -> Option<String> {
    let (word, _) = operand(&PLAIN, call.args)?;
    Some(format!("{} {}", call.name, file_name(word)))
}

/// Options of all the servers combined: none takes a value in one and not in another.
static WEB_SERVER: Options = Options::new(
    "b:c:e:g:k:m:n:p:t:u:w:",
    &[
        "--access-logfile",
        "--access-logformat",
        "--app-dir",
        "--backlog",
        "--bind",
        "--ca-certs",
        "--certfile",
        "--chdir",
        "--ciphers",
        "--config",
        "--env",
        "--env-file",
        "--error-logfile",
        "--fd",
        "--forwarded-allow-ips",
        "--graceful-timeout",
        "--group",
        "--h11-max-incomplete-event-size",
        "--header",
        "--host",
        "--http",
        "--interface",
        "--keep-alive",
        "--keyfile",
        "--lifespan",
        "--limit-concurrency",
        "--limit-max-requests",
        "--limit-request-field_size",
        "--limit-request-fields",
        "--limit-request-line",
        "--log-config",
        "--log-config-json",
        "--log-file",
        "--log-level",
        "--log-syslog-facility",
        "--log-syslog-prefix",
        "--log-syslog-to",
        "--logger-class",
        "--loop",
        "--max-requests",
        "--max-requests-jitter",
        "--name",
        "--paste",
        "--pid",
        "--port",
        "--proxy-allow-from",
        "--pythonpath",
        "--reload-dir",
        "--reload-exclude",
        "--reload-include",
        "--root-path",
        "--ssl-ca-certs",
        "--ssl-certfile",
        "--ssl-keyfile",
        "--ssl-keyfile-password",
        "--statsd-host",
        "--statsd-prefix",
        "--threads",
        "--timeout",
        "--timeout-graceful-shutdown",
        "--timeout-keep-alive",
        "--uds",
        "--umask",
        "--user",
        "--worker-class",
        "--worker-connections",
        "--worker-tmp-dir",
        "--workers",
        "--ws",
    ],
);

/// `gunicorn app:api`: the operand that reads as `module:object`, else the first.
fn web_server(call: &Call<'_>) -> Option<String> {
    if call.title {
        return titled(call);
    }
    let mut operands = Scan::new(&WEB_SERVER, call.args).filter_map(|arg| match arg {
        Arg::Operand(at) => call.args.get(at).copied(),
        Arg::Option(..) => None,
    });
    let first = operands.next()?;
    // A value with spaces in it, such as a log format, leaves words before the application.
    let application = std::iter::once(first).chain(operands).find(|word| is_application(word)).unwrap_or(first);
    Some(format!("{} {application}", call.name))
}

fn is_application(word: &str) -> bool {
    let begins = |name: &str| name.starts_with(|letter: char| letter.is_alphabetic() || letter == '_');
    word.split_once(':').is_some_and(|(module, object)| begins(module) && begins(object) && !module.contains('/'))
}

/// `puma 5.6.4 (tcp://0.0.0.0:3000) [shop]`, `gunicorn: master [api]`: what is in brackets.
fn titled(call: &Call<'_>) -> Option<String> {
    let tag = call.args.iter().find_map(|word| word.strip_prefix('['))?.trim_end_matches(']');
    (!tag.is_empty()).then(|| format!("{} {tag}", call.name))
}

/// `sidekiq 6.5.8 shop [0 of 5 busy]`: the word after the version.
fn sidekiq(call: &Call<'_>) -> Option<String> {
    let [version, application, ..] = call.args else { return None };
    let is_named = version.starts_with(|letter: char| letter.is_ascii_digit()) && !application.starts_with(['[', '-']);
    is_named.then(|| format!("{} {application}", call.name))
}

/// `php-fpm: pool www` is how an operator knows it; for the master, the name is enough.
fn php_fpm(call: &Call<'_>) -> Option<String> {
    match call.args {
        ["pool", pool, ..] if call.title => Some(format!("{}: pool {pool}", call.name)),
        _ => None,
    }
}

/// `celery -A proj worker`: the application, wherever the option is. Its workers have it in parentheses in their title:
/// `[celeryd: celery@host:MainProcess] -active- (-A proj worker)`.
fn with_application(call: &Call<'_>) -> Option<String> {
    let mut words = call.args.iter().map(|word| word.trim_matches(['(', ')']));
    while let Some(word) = words.next() {
        let application = match word {
            "-A" | "--app" => words.next(),
            _ => word.strip_prefix("--app=").or_else(|| word.strip_prefix("-A")),
        };
        if let Some(application) = application.filter(|name| !name.is_empty()) {
            return Some(format!("{} {application}", call.name));
        }
    }
    None
}

/// The module or file of the application, else the configuration.
fn uwsgi(call: &Call<'_>) -> Option<String> {
    let value = |written: &[&str]| {
        let mut words = call.args.iter();
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some((name, value)) if written.contains(&name) && !value.is_empty() => return Some(value),
                _ if written.contains(word) => return words.next().copied(),
                _ => {}
            }
        }
        None
    };
    let configuration = || value(&["--ini", "--yaml", "--yml", "--json", "--xml", "-y", "-j", "-x"]);
    let by_extension = || {
        call.args
            .iter()
            .copied()
            .find(|word| word.ends_with(".ini") || word.ends_with(".yaml") || word.ends_with(".xml"))
    };
    let named = value(&["-w", "--module", "--wsgi"]).map(str::to_owned);
    let named = named.or_else(|| value(&["--wsgi-file", "--file"]).map(script_name));
    let named = named.or_else(|| configuration().or_else(by_extension).map(|path| file_name(path).to_owned()));
    named.map(|name| format!("{} {name}", call.name))
}

/// `bundle exec x` is named like x.
fn bundle(call: &Call<'_>) -> Option<String> {
    let (word, rest) = operand(&PLAIN, call.args)?;
    if word != "exec" {
        return with_subcommand(call);
    }
    let at = rest.iter().position(|word| !word.starts_with('-'))?;
    command(rest.get(at..)?, call.depth.saturating_sub(1))
}

/// `php artisan queue:work`: the file alone says nothing, its command does.
fn php_console(call: &Call<'_>) -> Option<String> {
    Some(format!("php {}", with_subcommand(call)?))
}

/// `php bin/console`. Other programs with that name are in other folders.
fn symfony_console(call: &Call<'_>) -> Option<String> {
    call.path.ends_with("bin/console").then(|| php_console(call)).flatten()
}

static PACKAGE_MANAGER: Options = Options::new(
    "C:F:c:p:w:",
    &["--call", "--cwd", "--dir", "--filter", "--loglevel", "--package", "--prefix", "--workspace"],
);

/// `npm run start`, `yarn start`, as given, without options.
fn package_manager(call: &Call<'_>) -> Option<String> {
    let (word, rest) = operand(&PACKAGE_MANAGER, call.args)?;
    let target = match word {
        "run" | "run-script" | "exec" | "x" | "dlx" | "workspace" => operand(&PACKAGE_MANAGER, rest),
        _ => None,
    };
    Some(match target {
        Some((target, _)) => format!("{} {word} {target}", call.name),
        None => format!("{} {word}", call.name),
    })
}

fn npx(call: &Call<'_>) -> Option<String> {
    let (word, _) = operand(&PACKAGE_MANAGER, call.args)?;
    Some(format!("{} {word}", call.name))
}

static RUNTIME: Options = Options::new(
    "L:c:e:p:",
    &[
        "--cert",
        "--config",
        "--cwd",
        "--env-file",
        "--fx-version",
        "--import-map",
        "--lock",
        "--log-level",
        "--preload",
    ],
);

/// Runs a file, directly or after a word such as `run`, or does something else that the word names.
fn runtime(call: &Call<'_>) -> Option<String> {
    let is_file = |word: &str| word.contains(['.', '/']);
    let (word, rest) = operand(&RUNTIME, call.args)?;
    if is_file(word) {
        return script(call, word, rest);
    }
    let target = match word {
        "run" | "serve" | "task" | "exec" | "x" => operand(&RUNTIME, rest),
        _ => None,
    };
    match target {
        Some((target, rest)) if is_file(target) => script(call, target, rest),
        Some((target, _)) => Some(format!("{} {word} {target}", call.name)),
        None => Some(format!("{} {word}", call.name)),
    }
}

/// `busybox wget`; an applet that is a shell or a wrapper is treated like the program of that name.
fn busybox(call: &Call<'_>) -> Option<String> {
    let applet = call.args.first().filter(|word| !word.starts_with('-'))?;
    let known = Rule::of(applet).and_then(|_| command(call.args, call.depth.saturating_sub(1)));
    Some(known.unwrap_or_else(|| format!("{} {applet}", call.name)))
}
