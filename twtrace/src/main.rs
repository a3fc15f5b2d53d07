//! The program: parse, dispatch, exit code. 0 done, 1 failed, 2 usage.

use clap::Parser as _;
use std::io::{self, Write as _};
use std::panic;
use std::process::ExitCode;
use twtrace::cli::{Cli, Command};
use twtrace::cmd;
use twtrace::cmd::agent::NotTracing;
use twtrace::cmd::record::NotStarted;
use twtrace_probe::kernel::explain::explain;
use twtrace_recording::Fault;
use twtrace_view::text;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    panic::set_hook(Box::new(|panic| say(&format!("internal error, please report it: {panic}"))));
    match panic::catch_unwind(|| run(&cli)) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Ok(Err(error)) if error.is::<clap::Error>() => error.downcast_ref().map_or(ExitCode::FAILURE, misused),
        Ok(Err(error)) => {
            say(&if is_of_tracing(&cli, &error) { explain(&error) } else { format!("{error:#}") });
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// A usage error, or the requested help.
fn misused(error: &clap::Error) -> ExitCode {
    // If the output is closed, nothing can be reported.
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Top(args) => cmd::top::run(args),
        Command::Record(args) => cmd::record::run(args),
        Command::Agent(args) => cmd::agent::run(args).map(|()| ExitCode::SUCCESS),
        Command::Replay(args) => cmd::replay::run(args),
        Command::Export(args) => cmd::export::run(args).map(|()| ExitCode::SUCCESS),
        Command::Sockets(args) => cmd::sockets::run(args).map(|()| ExitCode::SUCCESS),
        Command::Report(args) => cmd::report::run(args),
        Command::Diff(args) => cmd::diff::run(args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            let works = match args.audit {
                Some(duration) => cmd::audit::run(duration, args.json, &mut out)?,
                None => cmd::doctor::run(args.json, None, &mut out)?,
            };
            out.flush()?;
            Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Budget(args) => cmd::budget::run(args).map(|()| ExitCode::SUCCESS),
        Command::Drill(args) => cmd::drill::run(args),
        Command::Config(args) => cmd::config::run(args).map(|()| ExitCode::SUCCESS),
        Command::Explain(args) => cmd::explain::run(args).map(|()| ExitCode::SUCCESS),
    }
}

/// Whether the kernel may be the cause: not when a recording is read, or cannot be written to.
fn is_of_tracing(cli: &Cli, error: &anyhow::Error) -> bool {
    let traces = matches!(
        cli.command,
        Command::Top(_) | Command::Record(_) | Command::Sockets(_) | Command::Doctor(_) | Command::Agent(_)
    );
    traces && !error.is::<NotTracing>() && !error.is::<Fault>() && !error.is::<NotStarted>()
}

/// One line on standard error, whatever is in the text.
fn say(text: &str) {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(io::stderr(), "twtrace: {}", text::clean(&line));
}

/// The reader of our output has closed it, which is not a failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
