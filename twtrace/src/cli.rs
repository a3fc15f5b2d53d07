//! The command line.

mod agent;
mod attach;
mod budget;
mod drill;
mod examples;
mod export;
mod filter;
mod kernel;
mod parse;
#[cfg(test)]
mod tests;
mod values;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use twtrace_core::snapshot::GroupBy;
use twtrace_core::what_if::Change;
use twtrace_recording::writer::Keep;
use twtrace_view::order::Sort;

use agent::AGENT_EXAMPLES;
pub use agent::AgentArgs;
pub use attach::AttachArgs;
use budget::{BUDGET_EXAMPLES, EXPLAIN_EXAMPLES};
pub use budget::{BudgetArgs, ExplainArgs};
use drill::DRILL_EXAMPLES;
pub use drill::{DrillArgs, Part, Scene};
use examples::{
    CONFIG_EXAMPLES, DIFF_EXAMPLES, EXPORT_EXAMPLES, RECORD_EXAMPLES, REPLAY_EXAMPLES, REPORT_EXAMPLES,
    SOCKETS_EXAMPLES, TOP_EXAMPLES,
};
pub use export::{ExportArgs, ExportFormat};
pub use filter::FilterArgs;
pub use kernel::KernelArgs;
pub use parse::{FailOn, TimeSpec};
pub(crate) use parse::{destination, duration as time, interval};

/// Names the processes behind TIME_WAIT sockets.
#[derive(Debug, Parser)]
#[command(name = "twtrace", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A usage error of arguments that parse, for `main` to print.
pub fn usage(message: &str) -> clap::Error {
    Cli::command().error(ErrorKind::ArgumentConflict, message)
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show which processes create TIME_WAIT sockets, and to which destinations
    #[command(after_help = TOP_EXAMPLES)]
    Top(Box<TopArgs>),
    /// Record every connection, for `replay`, `report` and `diff`
    #[command(after_help = RECORD_EXAMPLES)]
    Record(Box<RecordArgs>),
    /// Show a recording as `top` would have shown it, with time controls
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Box<ReplayArgs>),
    /// Write a table of a recording into one file for other tools, or recordings of many hosts into a dataset
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Box<ExportArgs>),
    /// List the live TIME_WAIT sockets as `ss` does, with the processes that closed and opened them
    #[command(after_help = SOCKETS_EXAMPLES)]
    Sockets(Box<SocketsArgs>),
    /// Report on recordings: who created TIME_WAIT sockets, when, to which destinations, and how that is known
    #[command(after_help = REPORT_EXAMPLES)]
    Report(Box<ReportArgs>),
    /// Trace all the time: a live page, metrics and a flight recorder for this host
    #[command(after_help = AGENT_EXAMPLES)]
    Agent(Box<AgentArgs>),
    /// Compare two recordings: what changed, by how much and by whom
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(Box<DiffArgs>),
    /// Check whether tracing works on this host, and what each missing part costs
    #[command(after_help = "Exits with 0 when `twtrace top` would work here, else with 1. With --audit: 0 when the \
                            trace agrees with the kernel.")]
    Doctor(DoctorArgs),
    /// Work out whether a rate of connections runs out of ports, when, and what each remedy gains
    #[command(after_help = BUDGET_EXAMPLES)]
    Budget(BudgetArgs),
    /// Let a client run out of ports in a namespace of its own, to see what twtrace and your alerts say
    #[command(after_help = DRILL_EXAMPLES)]
    Drill(DrillArgs),
    /// Check the configuration file of the screen, or write one with the defaults
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ConfigArgs),
    /// Explain TIME_WAIT, a sysctl, or a finding in a few lines, with sources
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Write JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Trace for this long and compare the result with the kernel's own counters (nstat, sockstat)
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub audit: Option<Duration>,
}

/// Arguments of `config`.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// Write the defaults, with what each setting means
    #[arg(long)]
    pub default: bool,
}

/// Arguments of `record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// Directory to create for the recording
    #[arg(short, long, value_name = "DIR.twt")]
    pub output: PathBuf,

    /// How long to record: 500ms, 5s, 2m, 1h, or seconds [default: until stopped, or until COMMAND ends]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub duration: Option<Duration>,

    /// Keep only this much of the end, by time or by size: 30m, 6h, 500MiB, 2GiB
    #[arg(long, value_name = "TIME|SIZE", value_parser = parse::keep)]
    pub keep: Option<Keep>,

    /// Replace a recording of that name
    #[arg(long)]
    pub overwrite: bool,

    /// Command to run during the recording, with its arguments. It gets SIGTERM if the recording ends first
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// How to trace.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// Arguments of `sockets`.
#[derive(Clone, Debug, Args)]
pub struct SocketsArgs {
    /// Take the owners from this recording instead: one in progress, or one that ended since the last boot
    #[arg(long, value_name = "DIR.twt", conflicts_with_all = ["duration", "attach"])]
    pub trace: Option<PathBuf>,

    /// How long to trace before the list is taken: 500ms, 5s, 2m, 1h, or seconds
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse::duration, conflicts_with = "attach")]
    pub duration: Duration,

    /// Write JSON instead of text
    #[arg(long)]
    pub json: bool,

    /// Maximum sockets to write [default: all]
    #[arg(long, value_name = "N", value_parser = parse::limit)]
    pub limit: Option<usize>,

    /// Which sockets to list.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// Which agent to read.
    #[command(flatten)]
    pub agent: AttachArgs,

    /// How to trace.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// Forms of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For a terminal
    #[default]
    Text,
    /// One object, with the names of `top --json`
    Json,
    /// One line per row, the host in the first column
    Csv,
    /// One page with plots that needs nothing else
    Html,
    /// For a postmortem document
    Markdown,
}

/// Arguments of `report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// Recordings, finished or not
    #[arg(required_unless_present = "attach", conflicts_with = "attach", value_name = "DIR.twt")]
    pub recordings: Vec<PathBuf>,

    /// Form of the report [default: by the name of the --output, else text]
    #[arg(long, value_enum)]
    pub format: Option<ReportFormat>,

    /// Start at this moment; TIME_WAIT sockets that exist by then are known
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "attach")]
    pub from: Option<TimeSpec>,

    /// End at this moment
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "attach")]
    pub to: Option<TimeSpec>,

    /// Group rows by
    #[arg(long, value_parser = values::grouping(), value_name = "GROUPING", default_value = "process")]
    pub by: GroupBy,

    /// Maximum rows of each table, those that created most first [default: 20; all for JSON and CSV]
    #[arg(long, value_name = "N", value_parser = parse::limit)]
    pub top: Option<usize>,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Exit with 1 if one of these findings is active at the end: names separated by commas, or any, warning, critical
    #[arg(long, value_name = "ID")]
    pub fail_on: Option<FailOn>,

    /// Which rows to show.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// Which agent to read.
    #[command(flatten)]
    pub agent: AttachArgs,
}

/// Forms of a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For a terminal
    #[default]
    Text,
    /// One object
    Json,
    /// For a document
    Markdown,
}

/// Arguments of `diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// The earlier recording
    #[arg(value_name = "BEFORE.twt")]
    pub before: PathBuf,

    /// The later recording
    #[arg(value_name = "AFTER.twt")]
    pub after: PathBuf,

    /// Form of the comparison
    #[arg(long, value_enum, default_value_t)]
    pub format: DiffFormat,

    /// Group rows by this; a process is all of one command
    #[arg(long, value_parser = values::grouping(), value_name = "GROUPING", default_value = "process")]
    pub by: GroupBy,

    /// Maximum rows of each table, the largest changes first [default: 20; all for JSON]
    #[arg(long, value_name = "N", value_parser = parse::limit)]
    pub top: Option<usize>,

    /// Which rows to show.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Arguments of `top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// Trace for --duration, print one report and exit
    #[arg(long)]
    pub once: bool,

    /// How long to trace: 500ms, 5s, 2m, 1h, or seconds [default: 5s with --once, else until stopped]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub duration: Option<Duration>,

    /// Time between reports, or between two updates of the screen; at least 100ms [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse::interval)]
    pub interval: Option<Duration>,

    /// Exit with 1 if one of these findings is active at the end: names separated by commas, or any, warning, critical
    #[arg(long, value_name = "ID")]
    pub fail_on: Option<FailOn>,

    /// Take the owners of older TIME_WAIT sockets from this recording: one in progress, or one that ended since the last
    /// boot
    #[arg(long, value_name = "DIR.twt", conflicts_with = "attach")]
    pub trace: Option<PathBuf>,

    /// What to show.
    #[command(flatten)]
    pub view: ViewArgs,

    /// Which agent to read.
    #[command(flatten)]
    pub agent: AttachArgs,

    /// How to trace.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// Arguments of `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The recording
    #[arg(value_name = "DIR.twt")]
    pub recording: PathBuf,

    /// Write one report as of --at and end
    #[arg(long)]
    pub once: bool,

    /// Where in the recording: 2026-09-21T14:13:20Z, 14:13:20 (UTC), +90s from the start, -5m from the end
    /// [default: the end with --once, else the start]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub at: Option<TimeSpec>,

    /// Exit with 1 if one of these findings is active at the end: names separated by commas, or any, warning, critical
    #[arg(long, value_name = "ID", requires = "once")]
    pub fail_on: Option<FailOn>,

    /// What the recorded connects would have met with this setting, up to --at: tcp_tw_reuse=1, range=1024-65535,
    /// tcp_max_tw_buckets=N, addresses=N, pool=N, keep-alive=N, limit=N; may be repeated
    #[arg(long, value_name = "SETTING=VALUE", conflicts_with_all = ["csv", "fail_on"])]
    pub what_if: Vec<Change>,

    /// What to show.
    #[command(flatten)]
    pub view: ViewArgs,
}

/// Colours of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colours {
    /// Dark or light, as the background of the terminal is; none where the terminal has none
    #[default]
    Auto,
    /// For a dark background
    Dark,
    /// For a light background
    Light,
    /// White, yellow and cyan on black, nothing dim
    Contrast,
    /// Bold, underlined and reversed text alone
    None,
}

/// What the screen and reports show.
#[derive(Clone, Debug, Args)]
pub struct ViewArgs {
    /// Write JSON: one object for each report, on one line
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Write CSV: one line for each row, the time in the first column
    #[arg(long)]
    pub csv: bool,

    /// Group rows by [default: process]
    #[arg(long, value_parser = values::grouping(), value_name = "GROUPING")]
    pub by: Option<GroupBy>,

    /// Order of rows: largest first, names from a to z [default: created]
    #[arg(long, value_parser = values::order(), value_name = "COLUMN")]
    pub sort: Option<Sort>,

    /// Maximum rows to write [default: 20 for text, all for JSON and CSV]
    #[arg(long, value_name = "N", value_parser = parse::limit)]
    pub limit: Option<usize>,

    /// Colours of the screen [default: auto]
    #[arg(long, value_enum, value_name = "THEME")]
    pub theme: Option<Colours>,

    /// No colours, as with the environment variable NO_COLOR or --theme none
    #[arg(long, conflicts_with = "theme")]
    pub no_color: bool,

    /// Which rows to show.
    #[command(flatten)]
    pub filter: FilterArgs,
}
